-- The same tables as on SQLite. Schedules (kind 0) and triggers (kind 1). The specification and the state are JSON;
-- only values that queries use have columns. A disabled, ended or deleted schedule has no `wake_at`.
CREATE TABLE cloacina_schedules (
    id UUID NOT NULL PRIMARY KEY,
    kind SMALLINT NOT NULL CHECK (kind BETWEEN 0 AND 1),
    identity TEXT NOT NULL,
    workflow TEXT NOT NULL,
    enabled BOOLEAN NOT NULL,
    revision BIGINT NOT NULL CHECK (revision > 0),
    spec TEXT NOT NULL,
    state TEXT NOT NULL,
    next_due BIGINT,
    wake_at BIGINT,
    last_due BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    deleted_at BIGINT
) WITH (fillfactor = 70);

-- One schedule per identity, so that registering a schedule again finds the existing schedule. Deleted schedules are not
-- in the index.
CREATE UNIQUE INDEX cloacina_schedules_identity ON cloacina_schedules (kind, identity) WHERE deleted_at IS NULL;

-- Finds the next schedule to evaluate, however many schedules there are.
CREATE INDEX cloacina_schedules_wake ON cloacina_schedules (kind, wake_at) WHERE wake_at IS NOT NULL;

-- The outcome of each tick, and of each trigger poll that had a consequence. A tick is one row, so it fires once.
-- Outcomes: 0 fired, 1 missed, 2 skipped, 3 overlapped, 4 queued, 5 failed. Rows are kept when the schedule is deleted.
CREATE TABLE cloacina_ticks (
    schedule_id UUID NOT NULL,
    due_at BIGINT NOT NULL,
    outcome SMALLINT NOT NULL CHECK (outcome BETWEEN 0 AND 5),
    execution_id UUID,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    detail TEXT,
    PRIMARY KEY (schedule_id, due_at)
);

-- Finds the ticks since a given time, for statistics and for pruning.
CREATE INDEX cloacina_ticks_due ON cloacina_ticks (due_at, outcome);
