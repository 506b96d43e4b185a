-- The same tables as on SQLite. Schedules (kind 0) and triggers (kind 1). What each is to do and what it remembers is JSON;
-- columns are what is looked for or compared. A schedule that is switched off, over or deleted has no `wake_at`.
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

-- Registering again finds the same one; a deleted one is out of the way.
CREATE UNIQUE INDEX cloacina_schedules_identity ON cloacina_schedules (kind, identity) WHERE deleted_at IS NULL;

-- The next one to look at, however many there are.
CREATE INDEX cloacina_schedules_wake ON cloacina_schedules (kind, wake_at) WHERE wake_at IS NOT NULL;

-- What became of each tick; also the polls of triggers that had consequences. A tick is one row, and so fires once. Outcomes: 0
-- fired, 1 missed, 2 skipped, 3 overlapped, 4 queued, 5 failed. It outlives its schedule.
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

-- Statistics since a time, and pruning.
CREATE INDEX cloacina_ticks_due ON cloacina_ticks (due_at, outcome);
