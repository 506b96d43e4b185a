-- Tables of dynamic workflows: waits and signals, steps, children, maps, limits and the inbox. An execution that uses
-- none of them has no row here, and writes the same rows as before.

-- This column is not used: it is always NULL. It was meant for bits that tell which tables may have rows of a task: 1
-- steps, 2 children, 4 a map.
ALTER TABLE cloacina_tasks ADD COLUMN links INTEGER;

-- What a task waits for or has received, as JSON. The engine reads this column, and `cloacina_waits` is an index of it.
-- NULL means that the task has never waited.
ALTER TABLE cloacina_tasks ADD COLUMN wait TEXT;

-- Bits that tell which rows of `cloacina_children` concern an execution: 2 the execution has a parent, 4 an execution
-- of final tasks follows it. NULL means none.
ALTER TABLE cloacina_executions ADD COLUMN links INTEGER;

-- The open waits: one row per topic that a waiting task listens to, per open approval, per timer and per workflow of
-- awaited children. A row with ordinal -1 belongs to the execution itself: its signal cancels the execution. Kinds: 0
-- signal, 1 approval, 2 timer, 3 cancel, 4 child.
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

-- Finds the tasks that wait for a signal.
CREATE INDEX cloacina_waits_topic ON cloacina_waits (topic, execution_id, ordinal) WHERE topic IS NOT NULL;

-- Lists the open waits.
CREATE INDEX cloacina_waits_kind ON cloacina_waits (kind, created_at, execution_id);

-- Signals in the order of their topics. The topic consists of the name and either the key or, for a signal in a
-- mailbox, the execution. A number (`seq`) is never used again, because cursors refer to it.
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

-- Finds the signals to prune.
CREATE INDEX cloacina_signals_sent ON cloacina_signals (sent_at);

-- One signal per idempotency id. Signals without an id are not in the index.
CREATE UNIQUE INDEX cloacina_signals_id ON cloacina_signals (id) WHERE id IS NOT NULL;

-- Messages that a runner applies and deletes in one transaction. `note` says why a message could not be applied.
CREATE TABLE cloacina_inbox (
    id BLOB NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    kind TEXT NOT NULL,
    target TEXT,
    body TEXT,
    created_at INTEGER NOT NULL,
    note TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX cloacina_inbox_open ON cloacina_inbox (id) WHERE note IS NULL;

-- Recorded steps of tasks. `item` is -1 for a task that is not a map's item.
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

-- Children of tasks. Each generation is a new child of the same node. `item` is -1 for a child that is not a map's
-- item.
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

-- Mapped tasks with the counters of their items.
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
    detail TEXT,
    PRIMARY KEY (execution_id, ordinal)
) STRICT, WITHOUT ROWID;

-- The maps that have items to claim, now or later, in claim order.
CREATE INDEX cloacina_maps_due ON cloacina_maps (priority DESC, execution_id, ordinal, due_at) WHERE due_at IS NOT NULL;

-- Items that were claimed at least once, and all added items of aligned maps. The states are those of `cloacina_tasks`.
-- If a map starts children, `child_id` is the child that was started last for the item. While that child runs, the item
-- is running, but no runner has a claim on it.
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

-- The items that wait for another attempt.
CREATE INDEX cloacina_items_waiting ON cloacina_items (execution_id, ordinal, ready_at) WHERE state = 1;

-- Finds the items that a dead runner has claimed, to rescue them.
CREATE INDEX cloacina_items_claimed ON cloacina_items (runner_id) WHERE state = 2;

-- Limits, as the code registers them (`code_spec`) and as they were changed at run time (`live_spec`).
CREATE TABLE cloacina_limits (
    name TEXT NOT NULL PRIMARY KEY,
    code_spec TEXT,
    live_spec TEXT,
    revision INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- A limit's counters for one key. A row exists only while something is held, waits or cools down.
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
