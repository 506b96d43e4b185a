DROP INDEX cloacina_items_waiting;
CREATE INDEX cloacina_items_waiting ON cloacina_items (execution_id, ordinal, ready_at) WHERE state = 1;
ALTER TABLE cloacina_maps DROP COLUMN skipped;
ALTER TABLE cloacina_maps DROP COLUMN has_all;
ALTER TABLE cloacina_maps DROP COLUMN source;
