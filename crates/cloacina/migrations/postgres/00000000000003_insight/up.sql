-- Data for inspection only: it does not affect decisions, and writing it does not increase a revision.

-- Lists, for each runner, the tasks for which it has handlers. The last offer of a runner that is gone is kept, so that
-- `explain` can tell when and where a task last had a handler.
CREATE TABLE cloacina_offers (
    workflow TEXT NOT NULL,
    runner_id UUID NOT NULL,
    tasks TEXT NOT NULL,
    host TEXT NOT NULL,
    pid BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    PRIMARY KEY (workflow, runner_id)
);

-- The last progress that a task reported. A report of an earlier attempt does not replace a later attempt's report.
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

-- Captured log lines, several per row.
CREATE TABLE cloacina_logs (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    execution_id UUID NOT NULL,
    ordinal BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    lines TEXT NOT NULL
);

CREATE INDEX cloacina_logs_execution ON cloacina_logs (execution_id, id);
