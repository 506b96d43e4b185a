DROP TABLE cloacina_ends;
DROP TABLE cloacina_follows;
