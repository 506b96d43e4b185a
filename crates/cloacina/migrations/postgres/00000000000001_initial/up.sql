-- The same tables as on SQLite. Times are microseconds since 1970-01-01 UTC. JSON is stored as text, which keeps the
-- exact form of numbers and allows \u0000, unlike `jsonb`. Every index costs microseconds per execution, so a comment
-- states the purpose of each index.

CREATE TABLE cloacina_definitions (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    body TEXT NOT NULL,
    task_count BIGINT NOT NULL CHECK (task_count > 0),
    created_at BIGINT NOT NULL,
    UNIQUE (workflow, version)
);

-- States: 0 pending, 1 running, 2 paused, 3 completed, 4 failed, 5 cancelled. There is no foreign key to the
-- definition, because its check would lock the definition's row for every inserted execution. Instead, the statement
-- that inserts an execution checks that the definition exists.
CREATE TABLE cloacina_executions (
    id UUID NOT NULL PRIMARY KEY,
    definition_id BIGINT NOT NULL,
    workflow TEXT NOT NULL,
    state SMALLINT NOT NULL CHECK (state BETWEEN 0 AND 5),
    revision BIGINT NOT NULL CHECK (revision > 0),
    priority SMALLINT NOT NULL,
    execution_key TEXT,
    created_at BIGINT NOT NULL,
    start_at BIGINT,
    started_at BIGINT,
    ended_at BIGINT,
    timeout BIGINT,
    deadline BIGINT,
    paused_at BIGINT,
    error TEXT
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

-- One execution per idempotency key. Executions without a key are not in the index.
CREATE UNIQUE INDEX cloacina_executions_key ON cloacina_executions (workflow, execution_key)
WHERE execution_key IS NOT NULL;

-- Finds the next deadline. Executions without a timeout are not in the index.
CREATE INDEX cloacina_executions_deadline ON cloacina_executions (deadline, id)
WHERE deadline IS NOT NULL AND state = 1;

-- Finds open executions (to rescue the claims of a dead runner, and for `list` by state) and failed or cancelled
-- executions. Completed executions are not in the index: they are numerous, and are found by their id.
CREATE INDEX cloacina_executions_state ON cloacina_executions (state, id) WHERE state <> 3;

-- Lists the executions of one workflow version.
CREATE INDEX cloacina_executions_definition ON cloacina_executions (definition_id, id);

-- Inputs that are not empty. They have a separate table, so that an update of an execution does not rewrite a large
-- input.
CREATE TABLE cloacina_inputs (
    execution_id UUID NOT NULL PRIMARY KEY,
    input TEXT NOT NULL
);

-- States: 0 pending (only after a pause or a retry; other pending tasks have no row), 1 ready, 2 running, 3 completed,
-- 4 failed, 5 skipped, 6 cancelled.
CREATE TABLE cloacina_tasks (
    execution_id UUID NOT NULL,
    ordinal BIGINT NOT NULL CHECK (ordinal >= 0),
    state SMALLINT NOT NULL CHECK (state BETWEEN 0 AND 6),
    attempt BIGINT NOT NULL CHECK (attempt >= 0),
    uncounted BIGINT NOT NULL,
    rescues BIGINT NOT NULL,
    runner_id UUID,
    ready_at BIGINT,
    queue BIGINT NOT NULL,
    priority SMALLINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    delta TEXT,
    error TEXT,
    skip TEXT,
    PRIMARY KEY (execution_id, ordinal)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.05);

-- Tasks that can be claimed now, in claim order. If a commit submits a task and claims it at once, the task is never in
-- the index.
CREATE INDEX cloacina_tasks_due ON cloacina_tasks (queue, priority DESC, execution_id, ordinal)
WHERE state = 1 AND ready_at IS NULL;

-- Retries, delays and snoozes, ordered by their due time.
CREATE INDEX cloacina_tasks_waiting ON cloacina_tasks (queue, ready_at)
WHERE state = 1 AND ready_at IS NOT NULL;

-- Events of the history that other rows do not contain. Most executions have no such events.
CREATE TABLE cloacina_events (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id UUID NOT NULL,
    time BIGINT NOT NULL,
    kind TEXT NOT NULL,
    ordinal BIGINT,
    attempt BIGINT,
    runner_id UUID,
    data TEXT
);

CREATE INDEX cloacina_events_execution ON cloacina_events (execution_id, id);

-- Lease and heartbeat times come from the database's clock; the start time comes from the runner's clock. The primary
-- key is the only index, so that a heartbeat can be a HOT update, which changes no index.
CREATE TABLE cloacina_runners (
    id UUID NOT NULL PRIMARY KEY,
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    pid_started BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    heartbeat_at BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    dead_at BIGINT,
    workflows TEXT NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 50, autovacuum_vacuum_scale_factor = 0);
