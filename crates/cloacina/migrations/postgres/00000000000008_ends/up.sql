-- Triggers that fire at the end of other workflows' executions. Without such a trigger both tables are empty, and no
-- statement reads or writes them, except for a check whether `cloacina_follows` has a row.

-- The final states after which triggers fire. A row names a workflow, a final state of its executions, and the trigger
-- that fires when an execution ends in this state. A trigger that is disabled or deleted has no rows.
CREATE TABLE cloacina_follows (
    workflow TEXT NOT NULL,
    state SMALLINT NOT NULL CHECK (state BETWEEN 3 AND 5),
    schedule_id UUID NOT NULL,
    PRIMARY KEY (workflow, state, schedule_id)
);

CREATE INDEX cloacina_follows_schedule ON cloacina_follows (schedule_id);

-- The ended executions that a trigger has not handled yet. The transaction that ends the execution inserts a row, and
-- the transaction that records the trigger's outcome deletes this row.
CREATE TABLE cloacina_ends (
    schedule_id UUID NOT NULL,
    execution_id UUID NOT NULL,
    ended_at BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL CHECK (attempts >= 0),
    PRIMARY KEY (schedule_id, ended_at, execution_id)
);
