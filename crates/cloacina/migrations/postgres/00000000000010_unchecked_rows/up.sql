-- Removes the CHECK constraints of the tables that are written for each task. A statement that writes a table makes the
-- server read and prepare all constraints of the table again.
ALTER TABLE cloacina_executions
    DROP CONSTRAINT cloacina_executions_state_check,
    DROP CONSTRAINT cloacina_executions_revision_check;
ALTER TABLE cloacina_tasks
    DROP CONSTRAINT cloacina_tasks_ordinal_check,
    DROP CONSTRAINT cloacina_tasks_state_check,
    DROP CONSTRAINT cloacina_tasks_attempt_check;
ALTER TABLE cloacina_waits
    DROP CONSTRAINT cloacina_waits_ordinal_check,
    DROP CONSTRAINT cloacina_waits_slot_check,
    DROP CONSTRAINT cloacina_waits_kind_check;
ALTER TABLE cloacina_maps
    DROP CONSTRAINT cloacina_maps_state_check;
ALTER TABLE cloacina_items
    DROP CONSTRAINT cloacina_items_state_check,
    DROP CONSTRAINT cloacina_items_attempt_check;
