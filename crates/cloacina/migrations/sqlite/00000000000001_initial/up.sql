-- Times are microseconds since 1970-01-01 UTC, ids the sixteen bytes of a UUIDv7, JSON is text (numbers keep their exact form).
--
-- Measured, in microseconds of the 11 that a one-task execution costs in batches of 100 (examples/store_timing.rs): an index
-- that each execution enters 1.0, WITHOUT ROWID -0.9, a foreign key from tasks to executions 0.6 a task, CHECK 0.3, STRICT 0.2,
-- the foreign key to definitions 0.1, a partial index that an execution does not enter 0.05. Hence the choices below.

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

-- One execution per idempotency key; free for those without one.
CREATE UNIQUE INDEX cloacina_executions_key ON cloacina_executions (workflow, execution_key)
WHERE execution_key IS NOT NULL;

-- The next deadline; free for executions without a timeout.
CREATE INDEX cloacina_executions_deadline ON cloacina_executions (deadline)
WHERE deadline IS NOT NULL AND state = 1;

-- What is open (claims of a dead runner, `list` by state) and what went wrong. Completed ones are not in it: there are many
-- of them, and they are found by their id. The terms are joined by OR, because SQLite uses a partial index only for a
-- query that repeats one of them word by word.
CREATE INDEX cloacina_executions_state ON cloacina_executions (state, id)
WHERE state = 0 OR state = 1 OR state = 2 OR state = 4 OR state = 5;

-- `list` of one workflow among many. By definition and not by name: a number of one or two bytes instead of a text.
CREATE INDEX cloacina_executions_definition ON cloacina_executions (definition_id, id);

-- Only for executions whose input is not empty, and apart, so that no update of an execution writes a large input again.
CREATE TABLE cloacina_inputs (
    execution_id BLOB NOT NULL PRIMARY KEY CHECK (length(execution_id) = 16),
    input TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- States: 0 pending (only what a pause or a retry put back; else no row), 1 ready, 2 running, 3 completed, 4 failed,
-- 5 skipped, 6 cancelled. Without a foreign key: 0.6 microseconds for each task, and rows are written only by a commit that has
-- just written the execution's own row, and deleted only with it.
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

-- What can be claimed now, in the order of claims. A task that is claimed as it is submitted never enters it.
CREATE INDEX cloacina_tasks_due ON cloacina_tasks (queue, priority DESC, execution_id, ordinal)
WHERE state = 1 AND ready_at IS NULL;

-- Retries, delays and snoozes in the order of their time.
CREATE INDEX cloacina_tasks_waiting ON cloacina_tasks (queue, ready_at)
WHERE state = 1 AND ready_at IS NOT NULL;

-- History that no other row holds; most executions have none.
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
