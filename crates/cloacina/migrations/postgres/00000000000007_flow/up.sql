-- Tables of dynamic workflows: waits and signals, steps, children, maps, limits and the inbox. An execution that uses
-- none of them has no row here, and writes the same rows as before.

-- This column is not used: it is always NULL. It was meant for bits that tell which tables may have rows of a task: 1
-- steps, 2 children, 4 a map.
ALTER TABLE cloacina_tasks ADD COLUMN links SMALLINT;

-- What a task waits for or has received, as JSON. The engine reads this column, and `cloacina_waits` is an index of it.
-- NULL means that the task has never waited.
ALTER TABLE cloacina_tasks ADD COLUMN wait TEXT;

-- Bits that tell which rows of `cloacina_children` concern an execution: 2 the execution has a parent, 4 an execution
-- of final tasks follows it. NULL means none.
ALTER TABLE cloacina_executions ADD COLUMN links SMALLINT;

-- The open waits: one row per topic that a waiting task listens to, per open approval, per timer and per workflow of
-- awaited children. A row with ordinal -1 belongs to the execution itself: its signal cancels the execution. Kinds: 0
-- signal, 1 approval, 2 timer, 3 cancel, 4 child.
CREATE TABLE cloacina_waits (
    execution_id UUID NOT NULL,
    ordinal BIGINT NOT NULL CHECK (ordinal >= -1),
    slot BIGINT NOT NULL CHECK (slot >= 0),
    kind SMALLINT NOT NULL CHECK (kind BETWEEN 0 AND 4),
    workflow TEXT NOT NULL,
    task TEXT NOT NULL,
    name TEXT NOT NULL,
    key TEXT,
    topic TEXT COLLATE "C",
    cursor BIGINT NOT NULL,
    since BIGINT,
    created_at BIGINT NOT NULL,
    deadline BIGINT,
    detail TEXT,
    PRIMARY KEY (execution_id, ordinal, slot)
);

-- Finds the tasks that wait for a signal.
CREATE INDEX cloacina_waits_topic ON cloacina_waits (topic, execution_id, ordinal) WHERE topic IS NOT NULL;

-- Lists the open waits.
CREATE INDEX cloacina_waits_kind ON cloacina_waits (kind, created_at, execution_id);

-- Signals in the order of their topics. The topic consists of the name and either the key or, for a signal in a
-- mailbox, the execution. `seq` is assigned under the topic's lock, so that within a topic the numbers follow the order
-- of the commits.
CREATE TABLE cloacina_signals (
    seq BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    topic TEXT COLLATE "C" NOT NULL,
    name TEXT NOT NULL,
    key TEXT,
    target UUID,
    data TEXT NOT NULL,
    sent_at BIGINT NOT NULL,
    sender TEXT,
    id TEXT
);

CREATE INDEX cloacina_signals_topic ON cloacina_signals (topic, seq);

-- Finds the signals to prune.
CREATE INDEX cloacina_signals_sent ON cloacina_signals (sent_at);

-- One signal per idempotency id. Signals without an id are not in the index.
CREATE UNIQUE INDEX cloacina_signals_id ON cloacina_signals (id) WHERE id IS NOT NULL;

-- Messages that a runner applies and deletes in one transaction. `note` says why a message could not be applied.
CREATE TABLE cloacina_inbox (
    id UUID NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    target TEXT,
    body TEXT,
    created_at BIGINT NOT NULL,
    note TEXT
);

CREATE INDEX cloacina_inbox_open ON cloacina_inbox (id) WHERE note IS NULL;

-- Recorded steps of tasks. `item` is -1 for a task that is not a map's item.
CREATE TABLE cloacina_steps (
    execution_id UUID NOT NULL,
    ordinal BIGINT NOT NULL,
    item BIGINT NOT NULL,
    key TEXT NOT NULL,
    position BIGINT NOT NULL,
    kind TEXT NOT NULL,
    attempt BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL,
    value TEXT,
    PRIMARY KEY (execution_id, ordinal, item, key)
);

-- Children of tasks. Each generation is a new child of the same node. `item` is -1 for a child that is not a map's
-- item.
CREATE TABLE cloacina_children (
    child_id UUID NOT NULL PRIMARY KEY,
    parent_id UUID NOT NULL,
    parent_ordinal BIGINT NOT NULL,
    parent_item BIGINT NOT NULL,
    parent_key TEXT NOT NULL,
    generation BIGINT NOT NULL,
    policy TEXT NOT NULL,
    UNIQUE (parent_id, parent_ordinal, parent_item, parent_key, generation)
);

-- Mapped tasks with the counters of their items.
CREATE TABLE cloacina_maps (
    execution_id UUID NOT NULL,
    ordinal BIGINT NOT NULL,
    definition_id BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    state SMALLINT NOT NULL CHECK (state BETWEEN 0 AND 2),
    width BIGINT NOT NULL,
    admitted BIGINT NOT NULL,
    running BIGINT NOT NULL,
    done BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    parallel BIGINT,
    max_failed BIGINT,
    queue BIGINT NOT NULL,
    priority SMALLINT NOT NULL,
    due_at BIGINT,
    detail TEXT,
    PRIMARY KEY (execution_id, ordinal)
);

-- The maps that have items to claim, now or later, in claim order.
CREATE INDEX cloacina_maps_due ON cloacina_maps (priority DESC, execution_id, ordinal, due_at) WHERE due_at IS NOT NULL;

-- Items that were claimed at least once, and all added items of aligned maps. The states are those of `cloacina_tasks`.
-- If a map starts children, `child_id` is the child that was started last for the item. While that child runs, the item
-- is running, but no runner has a claim on it.
CREATE TABLE cloacina_items (
    execution_id UUID NOT NULL,
    ordinal BIGINT NOT NULL,
    item BIGINT NOT NULL,
    state SMALLINT NOT NULL CHECK (state BETWEEN 0 AND 6),
    attempt BIGINT NOT NULL CHECK (attempt >= 0),
    uncounted BIGINT NOT NULL,
    rescues BIGINT NOT NULL,
    runner_id UUID,
    child_id UUID,
    ready_at BIGINT,
    started_at BIGINT,
    ended_at BIGINT,
    result TEXT,
    error TEXT,
    PRIMARY KEY (execution_id, ordinal, item)
);

-- The items that wait for another attempt.
CREATE INDEX cloacina_items_waiting ON cloacina_items (execution_id, ordinal, ready_at) WHERE state = 1;

-- Finds the items that a dead runner has claimed, to rescue them.
CREATE INDEX cloacina_items_claimed ON cloacina_items (runner_id) WHERE state = 2;

-- Limits, as the code registers them (`code_spec`) and as they were changed at run time (`live_spec`).
CREATE TABLE cloacina_limits (
    name TEXT NOT NULL PRIMARY KEY,
    code_spec TEXT,
    live_spec TEXT,
    revision BIGINT NOT NULL
);

-- A limit's counters for one key. A row exists only while something is held, waits or cools down.
CREATE TABLE cloacina_buckets (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    limit_name TEXT NOT NULL,
    key TEXT NOT NULL,
    held BIGINT NOT NULL,
    waiting BIGINT NOT NULL,
    tat BIGINT,
    not_before BIGINT,
    vtime DOUBLE PRECISION NOT NULL,
    UNIQUE (limit_name, key)
);
