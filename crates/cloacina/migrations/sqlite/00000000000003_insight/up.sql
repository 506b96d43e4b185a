-- Data for inspection only: it does not affect decisions, and writing it does not increase a revision.

-- Lists, for each runner, the tasks for which it has handlers. The last offer of a runner that is gone is kept, so that
-- `explain` can tell when and where a task last had a handler.
CREATE TABLE cloacina_offers (
    workflow TEXT NOT NULL,
    runner_id BLOB NOT NULL CHECK (length(runner_id) = 16),
    tasks TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (workflow, runner_id)
) STRICT, WITHOUT ROWID;

-- The last progress that a task reported. A report of an earlier attempt does not replace a later attempt's report.
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

-- Captured log lines, several per row.
CREATE TABLE cloacina_logs (
    id INTEGER NOT NULL PRIMARY KEY,
    execution_id BLOB NOT NULL CHECK (length(execution_id) = 16),
    ordinal INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    lines TEXT NOT NULL
) STRICT;

CREATE INDEX cloacina_logs_execution ON cloacina_logs (execution_id);
