DROP TABLE cloacina_ticks;
DROP TABLE cloacina_schedules;
