-- Schedules (kind 0) and triggers (kind 1). The specification and the state are JSON; only values that queries use have
-- columns. A disabled, ended or deleted schedule has no `wake_at`.
CREATE TABLE cloacina_schedules (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 1),
    identity TEXT NOT NULL,
    workflow TEXT NOT NULL,
    enabled INTEGER NOT NULL CHECK (enabled BETWEEN 0 AND 1),
    revision INTEGER NOT NULL CHECK (revision > 0),
    spec TEXT NOT NULL,
    state TEXT NOT NULL,
    next_due INTEGER,
    wake_at INTEGER,
    last_due INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT, WITHOUT ROWID;

-- One schedule per identity, so that registering a schedule again finds the existing schedule. Deleted schedules are not
-- in the index.
CREATE UNIQUE INDEX cloacina_schedules_identity ON cloacina_schedules (kind, identity) WHERE deleted_at IS NULL;

-- Finds the next schedule to evaluate, however many schedules there are.
CREATE INDEX cloacina_schedules_wake ON cloacina_schedules (kind, wake_at) WHERE wake_at IS NOT NULL;

-- The outcome of each tick, and of each trigger poll that had a consequence. A tick is one row, so it fires once.
-- Outcomes: 0 fired, 1 missed, 2 skipped, 3 overlapped, 4 queued, 5 failed. Rows are kept when the schedule is deleted.
CREATE TABLE cloacina_ticks (
    schedule_id BLOB NOT NULL CHECK (length(schedule_id) = 16),
    due_at INTEGER NOT NULL,
    outcome INTEGER NOT NULL CHECK (outcome BETWEEN 0 AND 5),
    execution_id BLOB,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    detail TEXT,
    PRIMARY KEY (schedule_id, due_at)
) STRICT, WITHOUT ROWID;

-- Finds the ticks since a given time, for statistics and for pruning.
CREATE INDEX cloacina_ticks_due ON cloacina_ticks (due_at, outcome);
