DROP TABLE cloacina_logs;
DROP TABLE cloacina_progress;
DROP TABLE cloacina_offers;
