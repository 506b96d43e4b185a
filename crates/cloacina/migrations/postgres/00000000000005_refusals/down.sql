DROP FUNCTION cloacina_refuse(TEXT, TEXT);
