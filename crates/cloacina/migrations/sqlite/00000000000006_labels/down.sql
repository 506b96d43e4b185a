DROP INDEX cloacina_ticks_execution;
DROP TABLE cloacina_labels;
