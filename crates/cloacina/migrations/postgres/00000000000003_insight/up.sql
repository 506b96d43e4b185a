-- What people and programs want to see of executions, and nothing that decides about them: no write here raises a revision.

-- Which runner has handlers for which tasks. The last of those that are gone stays, so that `explain` can tell when and
-- where a task was last seen.
CREATE TABLE cloacina_offers (
    workflow TEXT NOT NULL,
    runner_id UUID NOT NULL,
    tasks TEXT NOT NULL,
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (workflow, runner_id)
);

-- How far running tasks say they are; of an earlier attempt it does not count.
CREATE TABLE cloacina_progress (
    execution_id UUID NOT NULL,
    ordinal BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    done DOUBLE PRECISION NOT NULL,
    total DOUBLE PRECISION NOT NULL,
    message TEXT,
    time BIGINT NOT NULL,
    PRIMARY KEY (execution_id, ordinal)
) WITH (fillfactor = 50);

-- Captured log lines, several in a row.
CREATE TABLE cloacina_logs (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id UUID NOT NULL,
    ordinal BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    lines TEXT NOT NULL
);

CREATE INDEX cloacina_logs_execution ON cloacina_logs (execution_id, id);
