ALTER TABLE cloacina_items
    ADD CHECK (state BETWEEN 0 AND 6),
    ADD CHECK (attempt >= 0);
ALTER TABLE cloacina_maps
    ADD CHECK (state BETWEEN 0 AND 2);
ALTER TABLE cloacina_waits
    ADD CHECK (ordinal >= -1),
    ADD CHECK (slot >= 0),
    ADD CHECK (kind BETWEEN 0 AND 4);
ALTER TABLE cloacina_tasks
    ADD CHECK (ordinal >= 0),
    ADD CHECK (state BETWEEN 0 AND 6),
    ADD CHECK (attempt >= 0);
ALTER TABLE cloacina_executions
    ADD CHECK (state BETWEEN 0 AND 5),
    ADD CHECK (revision > 0);
