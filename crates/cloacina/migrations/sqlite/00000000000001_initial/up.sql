-- Times are microseconds since 1970-01-01 UTC, ids are the sixteen bytes of a UUIDv7, and JSON is stored as text, which
-- keeps the exact form of numbers.
--
-- The choices below follow from measured costs (examples/store_timing.rs). In batches of 100, a one-task execution takes
-- 11 microseconds. An index with an entry for each execution costs 1.0 microsecond of these, and WITHOUT ROWID saves
-- 0.9. A foreign key from tasks to executions costs 0.6 per task, the CHECK constraints cost 0.3, STRICT costs 0.2, the
-- foreign key to definitions costs 0.1, and a partial index without an entry for the execution costs 0.05.

CREATE TABLE cloacina_definitions (
    id INTEGER NOT NULL PRIMARY KEY,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    body TEXT NOT NULL,
    task_count INTEGER NOT NULL CHECK (task_count > 0),
    created_at INTEGER NOT NULL,
    UNIQUE (workflow, version)
) STRICT;

-- States: 0 pending, 1 running, 2 paused, 3 completed, 4 failed, 5 cancelled.
CREATE TABLE cloacina_executions (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    definition_id INTEGER NOT NULL REFERENCES cloacina_definitions (id),
    workflow TEXT NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 5),
    revision INTEGER NOT NULL CHECK (revision > 0),
    priority INTEGER NOT NULL CHECK (priority BETWEEN -32768 AND 32767),
    execution_key TEXT,
    created_at INTEGER NOT NULL,
    start_at INTEGER,
    started_at INTEGER,
    ended_at INTEGER,
    timeout INTEGER,
    deadline INTEGER,
    paused_at INTEGER,
    error TEXT
) STRICT, WITHOUT ROWID;

-- One execution per idempotency key. Executions without a key are not in the index.
CREATE UNIQUE INDEX cloacina_executions_key ON cloacina_executions (workflow, execution_key)
WHERE execution_key IS NOT NULL;

-- Finds the next deadline. Executions without a timeout are not in the index.
CREATE INDEX cloacina_executions_deadline ON cloacina_executions (deadline)
WHERE deadline IS NOT NULL AND state = 1;

-- Finds open executions (to rescue the claims of a dead runner, and for `list` by state) and failed or cancelled
-- executions. Completed executions are not in the index: they are numerous, and are found by their id. The terms are
-- joined by OR, because SQLite uses a partial index only for a query that repeats one of the terms literally.
CREATE INDEX cloacina_executions_state ON cloacina_executions (state, id)
WHERE state = 0 OR state = 1 OR state = 2 OR state = 4 OR state = 5;

-- Lists the executions of one workflow version. The index contains the definition's id, which takes one or two bytes,
-- instead of the workflow's name.
CREATE INDEX cloacina_executions_definition ON cloacina_executions (definition_id, id);

-- Inputs that are not empty. They have a separate table, so that an update of an execution does not rewrite a large
-- input.
CREATE TABLE cloacina_inputs (
    execution_id BLOB NOT NULL PRIMARY KEY CHECK (length(execution_id) = 16),
    input TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- States: 0 pending (only after a pause or a retry; other pending tasks have no row), 1 ready, 2 running, 3 completed,
-- 4 failed, 5 skipped, 6 cancelled. A foreign key would cost 0.6 microseconds per task and is not needed: a commit writes
-- these rows only after the execution's own row, and they are deleted only with the execution's row.
CREATE TABLE cloacina_tasks (
    execution_id BLOB NOT NULL CHECK (length(execution_id) = 16),
    ordinal INTEGER NOT NULL CHECK (ordinal >= 0),
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 6),
    attempt INTEGER NOT NULL CHECK (attempt >= 0),
    uncounted INTEGER NOT NULL,
    rescues INTEGER NOT NULL,
    runner_id BLOB,
    ready_at INTEGER,
    queue INTEGER NOT NULL,
    priority INTEGER NOT NULL CHECK (priority BETWEEN -32768 AND 32767),
    started_at INTEGER,
    ended_at INTEGER,
    delta TEXT,
    error TEXT,
    skip TEXT,
    PRIMARY KEY (execution_id, ordinal)
) STRICT, WITHOUT ROWID;

-- Tasks that can be claimed now, in claim order. If a commit submits a task and claims it at once, the task is never in
-- the index.
CREATE INDEX cloacina_tasks_due ON cloacina_tasks (queue, priority DESC, execution_id, ordinal)
WHERE state = 1 AND ready_at IS NULL;

-- Retries, delays and snoozes, ordered by their due time.
CREATE INDEX cloacina_tasks_waiting ON cloacina_tasks (queue, ready_at)
WHERE state = 1 AND ready_at IS NOT NULL;

-- Events of the history that other rows do not contain. Most executions have no such events.
CREATE TABLE cloacina_events (
    id INTEGER NOT NULL PRIMARY KEY,
    execution_id BLOB NOT NULL CHECK (length(execution_id) = 16),
    time INTEGER NOT NULL,
    kind TEXT NOT NULL,
    ordinal INTEGER,
    attempt INTEGER,
    runner_id BLOB,
    data TEXT
) STRICT;

CREATE INDEX cloacina_events_execution ON cloacina_events (execution_id);

CREATE TABLE cloacina_runners (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    pid_started INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    dead_at INTEGER,
    workflows TEXT NOT NULL
) STRICT, WITHOUT ROWID;
