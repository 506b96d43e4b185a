DROP TABLE cloacina_runners;
DROP TABLE cloacina_events;
DROP TABLE cloacina_tasks;
DROP TABLE cloacina_inputs;
DROP TABLE cloacina_executions;
DROP TABLE cloacina_definitions;
