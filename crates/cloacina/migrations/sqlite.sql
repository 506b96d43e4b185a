-- The tables and indexes that the migrations of the folder `sqlite` leave in an empty database. `make schema` writes this file.

CREATE TABLE cloacina_definitions (
    id INTEGER NOT NULL PRIMARY KEY,
    workflow TEXT NOT NULL,
    version TEXT NOT NULL,
    body TEXT NOT NULL,
    task_count INTEGER NOT NULL CHECK (task_count > 0),
    created_at INTEGER NOT NULL,
    UNIQUE (workflow, version)
) STRICT;

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
, links INTEGER) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX cloacina_executions_key ON cloacina_executions (workflow, execution_key)
WHERE execution_key IS NOT NULL;

CREATE INDEX cloacina_executions_deadline ON cloacina_executions (deadline)
WHERE deadline IS NOT NULL AND state = 1;

CREATE INDEX cloacina_executions_state ON cloacina_executions (state, id)
WHERE state = 0 OR state = 1 OR state = 2 OR state = 4 OR state = 5;

CREATE INDEX cloacina_executions_definition ON cloacina_executions (definition_id, id);

CREATE TABLE cloacina_inputs (
    execution_id BLOB NOT NULL PRIMARY KEY CHECK (length(execution_id) = 16),
    input TEXT NOT NULL
) STRICT, WITHOUT ROWID;

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
    skip TEXT, links INTEGER, wait TEXT,
    PRIMARY KEY (execution_id, ordinal)
) STRICT, WITHOUT ROWID;

CREATE INDEX cloacina_tasks_due ON cloacina_tasks (queue, priority DESC, execution_id, ordinal)
WHERE state = 1 AND ready_at IS NULL;

CREATE INDEX cloacina_tasks_waiting ON cloacina_tasks (queue, ready_at)
WHERE state = 1 AND ready_at IS NOT NULL;

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

CREATE UNIQUE INDEX cloacina_schedules_identity ON cloacina_schedules (kind, identity) WHERE deleted_at IS NULL;

CREATE INDEX cloacina_schedules_wake ON cloacina_schedules (kind, wake_at) WHERE wake_at IS NOT NULL;

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

CREATE INDEX cloacina_ticks_due ON cloacina_ticks (due_at, outcome);

CREATE TABLE cloacina_offers (
    workflow TEXT NOT NULL,
    runner_id BLOB NOT NULL CHECK (length(runner_id) = 16),
    tasks TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (workflow, runner_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE cloacina_progress (
    execution_id BLOB NOT NULL CHECK (length(execution_id) = 16),
    ordinal INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    done REAL NOT NULL,
    total REAL NOT NULL,
    message TEXT,
    time INTEGER NOT NULL,
    PRIMARY KEY (execution_id, ordinal)
) STRICT, WITHOUT ROWID;

CREATE TABLE cloacina_logs (
    id INTEGER NOT NULL PRIMARY KEY,
    execution_id BLOB NOT NULL CHECK (length(execution_id) = 16),
    ordinal INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    lines TEXT NOT NULL
) STRICT;

CREATE INDEX cloacina_logs_execution ON cloacina_logs (execution_id);

CREATE TABLE cloacina_labels (
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    execution_id BLOB NOT NULL CHECK (length(execution_id) = 16),
    PRIMARY KEY (name, value, execution_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX cloacina_labels_execution ON cloacina_labels (execution_id);

CREATE INDEX cloacina_ticks_execution ON cloacina_ticks (schedule_id, execution_id) WHERE execution_id IS NOT NULL;

CREATE TABLE cloacina_waits (
    execution_id BLOB NOT NULL CHECK (length(execution_id) = 16),
    ordinal INTEGER NOT NULL CHECK (ordinal >= -1),
    slot INTEGER NOT NULL CHECK (slot >= 0),
    kind INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 4),
    workflow TEXT NOT NULL,
    task TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT,
    topic TEXT,
    cursor INTEGER NOT NULL,
    since INTEGER,
    created_at INTEGER NOT NULL,
    deadline INTEGER,
    detail TEXT,
    PRIMARY KEY (execution_id, ordinal, slot)
) STRICT, WITHOUT ROWID;

CREATE INDEX cloacina_waits_topic ON cloacina_waits (topic, execution_id, ordinal) WHERE topic IS NOT NULL;

CREATE INDEX cloacina_waits_kind ON cloacina_waits (kind, created_at, execution_id);

CREATE TABLE cloacina_signals (
    seq INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT,
    target BLOB CHECK (target IS NULL OR length(target) = 16),
    data TEXT NOT NULL,
    sent_at INTEGER NOT NULL,
    sender TEXT,
    id TEXT
) STRICT;

CREATE INDEX cloacina_signals_topic ON cloacina_signals (topic, seq);

CREATE INDEX cloacina_signals_sent ON cloacina_signals (sent_at);

CREATE UNIQUE INDEX cloacina_signals_id ON cloacina_signals (id) WHERE id IS NOT NULL;

CREATE TABLE cloacina_inbox (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    kind TEXT NOT NULL,
    target TEXT,
    body TEXT,
    created_at INTEGER NOT NULL,
    note TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX cloacina_inbox_open ON cloacina_inbox (id) WHERE note IS NULL;

CREATE TABLE cloacina_steps (
    execution_id BLOB NOT NULL CHECK (length(execution_id) = 16),
    ordinal INTEGER NOT NULL,
    item INTEGER NOT NULL,
    key TEXT NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    ended_at INTEGER NOT NULL,
    value TEXT,
    PRIMARY KEY (execution_id, ordinal, item, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE cloacina_children (
    child_id BLOB NOT NULL PRIMARY KEY CHECK (length(child_id) = 16),
    parent_id BLOB NOT NULL CHECK (length(parent_id) = 16),
    parent_ordinal INTEGER NOT NULL,
    parent_item INTEGER NOT NULL,
    parent_key TEXT NOT NULL,
    generation INTEGER NOT NULL,
    policy TEXT NOT NULL,
    UNIQUE (parent_id, parent_ordinal, parent_item, parent_key, generation)
) STRICT, WITHOUT ROWID;

CREATE TABLE cloacina_maps (
    execution_id BLOB NOT NULL CHECK (length(execution_id) = 16),
    ordinal INTEGER NOT NULL,
    definition_id INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 2),
    width INTEGER NOT NULL,
    admitted INTEGER NOT NULL,
    running INTEGER NOT NULL,
    done INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    parallel INTEGER,
    max_failed INTEGER,
    queue INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    due_at INTEGER,
    detail TEXT, source INTEGER, has_all INTEGER NOT NULL DEFAULT 0 CHECK (has_all IN (0, 1)), skipped INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (execution_id, ordinal)
) STRICT, WITHOUT ROWID;

CREATE INDEX cloacina_maps_due ON cloacina_maps (priority DESC, execution_id, ordinal, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE cloacina_items (
    execution_id BLOB NOT NULL CHECK (length(execution_id) = 16),
    ordinal INTEGER NOT NULL,
    item INTEGER NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 6),
    attempt INTEGER NOT NULL CHECK (attempt >= 0),
    uncounted INTEGER NOT NULL,
    rescues INTEGER NOT NULL,
    runner_id BLOB,
    child_id BLOB,
    ready_at INTEGER,
    started_at INTEGER,
    ended_at INTEGER,
    result TEXT,
    error TEXT,
    PRIMARY KEY (execution_id, ordinal, item)
) STRICT, WITHOUT ROWID;

CREATE INDEX cloacina_items_claimed ON cloacina_items (runner_id) WHERE state = 2;

CREATE TABLE cloacina_limits (
    name TEXT NOT NULL PRIMARY KEY,
    code_spec TEXT,
    live_spec TEXT,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE cloacina_buckets (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    limit_name TEXT NOT NULL,
    key TEXT NOT NULL,
    held INTEGER NOT NULL,
    waiting INTEGER NOT NULL,
    tat INTEGER,
    not_before INTEGER,
    vtime REAL NOT NULL,
    UNIQUE (limit_name, key)
) STRICT;

CREATE TABLE cloacina_follows (
    workflow TEXT NOT NULL,
    state INTEGER NOT NULL CHECK (state BETWEEN 3 AND 5),
    schedule_id BLOB NOT NULL CHECK (length(schedule_id) = 16),
    PRIMARY KEY (workflow, state, schedule_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX cloacina_follows_schedule ON cloacina_follows (schedule_id);

CREATE TABLE cloacina_ends (
    schedule_id BLOB NOT NULL CHECK (length(schedule_id) = 16),
    execution_id BLOB NOT NULL CHECK (length(execution_id) = 16),
    ended_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    PRIMARY KEY (schedule_id, ended_at, execution_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX cloacina_items_waiting ON cloacina_items (execution_id, ordinal, ready_at, item) WHERE state = 1;
