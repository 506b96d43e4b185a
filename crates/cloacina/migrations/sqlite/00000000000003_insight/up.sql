-- What people and programs want to see of executions, and nothing that decides about them: no write here raises a revision.

-- Which runner has handlers for which tasks. The last of those that are gone stays, so that `explain` can tell when and
-- where a task was last seen.
CREATE TABLE cloacina_offers (
    workflow TEXT NOT NULL,
    runner_id BLOB NOT NULL CHECK (length(runner_id) = 16),
    tasks TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    seen_at INTEGER NOT NULL,
    PRIMARY KEY (workflow, runner_id)
) STRICT, WITHOUT ROWID;

-- How far running tasks say they are; of an earlier attempt it does not count.
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

-- Captured log lines, several in a row.
CREATE TABLE cloacina_logs (
    id INTEGER NOT NULL PRIMARY KEY,
    execution_id BLOB NOT NULL CHECK (length(execution_id) = 16),
    ordinal INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    lines TEXT NOT NULL
) STRICT;

CREATE INDEX cloacina_logs_execution ON cloacina_logs (execution_id);
