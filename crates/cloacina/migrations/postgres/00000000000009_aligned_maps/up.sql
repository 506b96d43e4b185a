-- Aligned maps: item i starts when item i of a source map has completed. `source` is the task of the source map, and
-- `has_all` tells whether the source map has ended.
ALTER TABLE cloacina_maps ADD COLUMN source BIGINT;
ALTER TABLE cloacina_maps ADD COLUMN has_all BOOLEAN NOT NULL DEFAULT false;
ALTER TABLE cloacina_maps ADD COLUMN skipped BIGINT NOT NULL DEFAULT 0;

-- The items that can be claimed again, in claim order, so that a claim need not sort all of them.
DROP INDEX cloacina_items_waiting;
CREATE INDEX cloacina_items_waiting ON cloacina_items (execution_id, ordinal, ready_at, item) WHERE state = 1;
