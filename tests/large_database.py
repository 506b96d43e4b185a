"""A database with many executions, which SQL copies from a few real executions within seconds."""

from __future__ import annotations

import sqlite3
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cloaca

if TYPE_CHECKING:
    from conftest import Server

WORKFLOWS = 5
#: Every 97th execution failed, every 13th has a label and a key, every 503rd belongs to the
#: schedule, and every 10th has an input.
EVERY_FAILED, EVERY_LABELLED, EVERY_SCHEDULED, EVERY_INPUT = 97, 13, 503, 10
#: The number of executions, counted from the newest, that have rows in the tasks table. Of the
#: older executions, only the failed ones have such rows.
WITH_TASKS = 2_000
#: Length of the period in which the executions were submitted, in microseconds.
SPAN = 30 * 86_400_000_000


@dataclass(frozen=True)
class Large:
    """The database, and the ids of some of its rows."""

    url: str
    #: The number of copied executions.
    count: int
    schedule: str
    #: The id of a failed execution among the newest 200.
    failed: str
    #: The id of an execution that has not reached its start time.
    delayed: str


def define() -> None:
    """Defines the workflows of the executions."""
    for number in range(WORKFLOWS):
        with cloaca.WorkflowBuilder(f"large-{number}") as builder:
            builder.tag("team", f"team-{number % 2}")

            @cloaca.task(id="only", retry_attempts=1)
            def only(context: cloaca.Context) -> None:
                if context.get("fails"):
                    raise ValueError(f"order {context['number']} is not known")


def execution_id(number: int, count: int) -> str:
    """Returns the id of a copied execution, in hexadecimal digits."""
    millis = (first_time(count) + number * (SPAN // count)) // 1000
    return f"{millis:012x}7{number % 4096:03x}8{number:015x}"


_TIMES: dict[int, int] = {}


def first_time(count: int) -> int:
    """Returns the time of the first execution, in microseconds since 1970."""
    return _TIMES.setdefault(count, int(time.time() * 1e6) - SPAN)


#: For each database: an SQL expression for the id of an execution, and a subquery that generates
#: the numbers of all executions.
SQLITE = {
    "id": "uuid_of({n})",
    "numbers": "(WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {last})"
    " SELECT n FROM c)",
}
POSTGRES = {
    "id": "(lpad(to_hex(({first}::bigint + {n}::bigint * {step}) / 1000), 12, '0') || '7'"
    " || lpad(to_hex({n} % 4096), 3, '0') || '8' || lpad(to_hex({n}), 15, '0'))::uuid",
    "numbers": "(SELECT generate_series(0::bigint, {last}) AS n)",
}

EXECUTIONS = (
    "definition_id, workflow, state, revision, priority, start_at, timeout, deadline, paused_at"
)
TASKS = "state, attempt, uncounted, rescues, runner_id, queue, priority, delta, skip"


def statements(dialect: dict[str, str], count: int, models: list[tuple[int, int, str]]) -> str:
    """Returns the SQL that copies the real executions `models` until there are `count` copies.

    A model consists of the workflow's number, 1 if the execution failed (otherwise 0), and the id.
    """
    first, step = first_time(count), SPAN // count
    names = {"first": first, "step": step, "last": count - 1}
    id = dialect["id"].format(n="c.n", **names)
    numbers = dialect["numbers"].format(**names)
    at = f"({first} + c.n * {step})"
    values = ", ".join(f"({number}, {failed}, {id})" for number, failed, id in models)
    failed = f"CASE WHEN c.n % {EVERY_FAILED} = 0 THEN 1 ELSE 0 END"
    of = f"m.number = c.n % {WORKFLOWS} AND m.failed = {failed}"
    # The error message contains the number of the execution, so all error messages differ.
    error = "replace(t.error, 'order 0', 'order ' || c.n)"
    chosen = f"(c.n % {EVERY_FAILED} = 0 OR c.n >= {count - WITH_TASKS})"
    return f"""
        CREATE TEMPORARY TABLE models (number INTEGER, failed INTEGER, id {dialect["type"]});
        INSERT INTO models VALUES {values};
        INSERT INTO cloacina_executions
            (id, {EXECUTIONS}, execution_key, created_at, started_at, ended_at, error)
        SELECT {id}, {", ".join("t." + name for name in EXECUTIONS.split(", "))},
            CASE WHEN c.n % {EVERY_LABELLED} = 0 THEN 'order-' || c.n END,
            {at}, {at} + 1000, {at} + 5000 + c.n % 7 * 1000, {error}
        FROM {numbers} AS c JOIN models AS m ON {of} JOIN cloacina_executions AS t ON t.id = m.id;
        INSERT INTO cloacina_tasks
            (execution_id, ordinal, {TASKS}, started_at, ended_at, error)
        SELECT {id}, 0, {", ".join("t." + name for name in TASKS.split(", "))},
            {at} + 1000, {at} + 5000, {error}
        FROM {numbers} AS c JOIN models AS m ON {of}
        JOIN cloacina_tasks AS t ON t.execution_id = m.id AND t.ordinal = 0 WHERE {chosen};
        INSERT INTO cloacina_inputs (execution_id, input)
        SELECT {id}, '{{"number":' || c.n || '}}' FROM {numbers} AS c WHERE c.n % {EVERY_INPUT} = 0;
        INSERT INTO cloacina_labels (name, value, execution_id)
        SELECT 'order', '' || c.n, {id} FROM {numbers} AS c WHERE c.n % {EVERY_LABELLED} = 0;
        INSERT INTO cloacina_ticks
            (schedule_id, due_at, outcome, execution_id, created_at, updated_at)
        SELECT k.schedule_id, {at}, k.outcome, {id}, {at}, {at}
        FROM {numbers} AS c CROSS JOIN (SELECT schedule_id, outcome FROM cloacina_ticks
            WHERE execution_id IS NOT NULL LIMIT 1) AS k WHERE c.n % {EVERY_SCHEDULED} = 0;
    """


def fill(url: str, count: int, server: Server | None = None, *, analyze: bool = True) -> Large:
    """Fills a fresh database with a few real executions and `count` copies.

    Args:
        url: The database.
        count: The number of copies.
        server: The server of a PostgreSQL database.
        analyze: Whether PostgreSQL's tables have statistics.
    """
    define()
    with cloaca.DefaultRunner(url) as runner:
        models = []
        for number in range(WORKFLOWS):
            name = f"large-{number}"
            models.append((number, 0, runner.execute(name, {"number": 0}).execution_id))
            fails = {"number": 0, "fails": True}
            models.append((number, 1, runner.execute(name, fails).execution_id))
        schedule = runner.register_cron_workflow("large-0", "0 2 * * *", "Europe/Berlin")
        runner.get_handle(runner.run_cron_schedule_now(schedule)).result(timeout=60)
        delayed = runner.submit("large-1", {"number": 0}, delay=86_400).id
    if server is None:
        _fill_sqlite(Path(url.removeprefix("sqlite:///")), count, models)
    else:
        literals = [(number, failed, f"'{id}'::uuid") for number, failed, id in models]
        text = statements({**POSTGRES, "type": "UUID"}, count, literals)
        name = url.rpartition("/")[2]
        # Otherwise the number of pages that a query reads would depend on autovacuum.
        for table in ("executions", "tasks", "inputs", "labels", "ticks"):
            server.sql(f"ALTER TABLE cloacina_{table} SET (autovacuum_enabled = off)", name)
        server.sql(text, name)
        # The runner has stored the workflows of all tests that this process has run.
        server.sql("VACUUM (ANALYZE)" if analyze else "VACUUM cloacina_definitions", name)
    newest = (count - 1) // EVERY_FAILED * EVERY_FAILED
    failed = str(uuid.UUID(execution_id(newest, count)))
    return Large(url, count, str(schedule), failed, delayed)


def _fill_sqlite(path: Path, count: int, models: list[tuple[int, int, str]]) -> None:
    # The caller has closed its runner, because SQLite's locks do not work between two copies of
    # SQLite in one process.
    connection = sqlite3.connect(path)
    try:
        identify = lambda n: bytes.fromhex(execution_id(n, count))  # noqa: E731
        connection.create_function("uuid_of", 1, identify, deterministic=True)
        connection.execute("PRAGMA synchronous = OFF")
        literals = [(number, failed, f"x'{id.replace('-', '')}'") for number, failed, id in models]
        connection.executescript("BEGIN;" + statements({**SQLITE, "type": "BLOB"}, count, literals))
        connection.commit()
    finally:
        connection.close()
