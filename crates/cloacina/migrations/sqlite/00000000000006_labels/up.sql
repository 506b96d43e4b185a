-- Labels of executions. An execution without labels has no rows. The primary key finds the executions with a label,
-- newest first.
CREATE TABLE cloacina_labels (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    execution_id BLOB NOT NULL CHECK (length(execution_id) = 16),
    PRIMARY KEY (name, value, execution_id)
) STRICT, WITHOUT ROWID;

-- Finds the labels of an execution, for lists and for pruning.
CREATE INDEX cloacina_labels_execution ON cloacina_labels (execution_id);

-- Finds the executions of a schedule, newest first.
CREATE INDEX cloacina_ticks_execution ON cloacina_ticks (schedule_id, execution_id) WHERE execution_id IS NOT NULL;
