"""The log records about executions and attempts: their levels, texts and fields."""

from __future__ import annotations

import logging
import re
import textwrap
import threading
import time

import pytest

import cloaca

ETL = """
    import sys, cloaca
    failures = iter([ConnectionError("refused")])
    with cloaca.WorkflowBuilder("etl"):
        @cloaca.task(retry_delay_ms=50, retry_jitter=False)
        def load(context):
            for error in failures:
                raise error
        @cloaca.task(dependencies=[load], retry_attempts=1)
        def check(context):
            raise ValueError("no rows")
        @cloaca.task(dependencies=[check])
        def report(context): pass
    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        print(runner.execute("etl").execution_id)
"""


def run_records(caplog) -> list[logging.LogRecord]:
    """Returns the captured records of executions and attempts."""
    return [record for record in caplog.records if record.__dict__.get("target") == "cloacina::run"]


@pytest.fixture
def etl() -> None:
    failures = iter([ConnectionError("refused")])
    with cloaca.WorkflowBuilder("etl"):

        @cloaca.task(retry_delay_ms=1000, retry_jitter=False)
        def load(context):
            for error in failures:
                raise error

        @cloaca.task(dependencies=[load], retry_attempts=1)
        def check(context):
            raise ValueError("no rows")

        @cloaca.task(dependencies=[check])
        def report(context):
            pass


def test_e9_failures_are_printed_if_logging_is_not_configured(script, database):
    process = script(ETL, database)
    out, err = process.communicate(timeout=60)
    id = out.strip()
    first, last, *traceback = err.splitlines()
    assert first == (
        "task 'load' of workflow 'etl' failed (attempt 1 of 3), retrying in 50 ms: "
        f"ConnectionError: refused [execution {id}]"
    )
    assert last == (
        "task 'check' of workflow 'etl' failed (attempt 1 of 1): "
        f"ValueError: no rows [execution {id}]"
    )
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-1] == "ValueError: no rows"
    assert len(traceback) == 4, "the failure must be logged once"


@pytest.mark.parametrize("level", ["WARNING", "INFO"])
def test_e9_records_are_written_before_execute_returns(caplog, database, level):
    """Lesson: the record of a failure was sometimes written after `execute` had returned."""
    with cloaca.WorkflowBuilder("boom"):

        @cloaca.task(retry_attempts=1)
        def boom(context):
            raise ValueError("no")

    caplog.set_level(level, logger="cloaca")
    with cloaca.DefaultRunner(database) as runner:
        for _ in range(40):
            caplog.clear()
            id = runner.execute("boom").execution_id
            records = [record.levelname for record in run_records(caplog) if id in record.message]
            assert "ERROR" in records
            if level == "INFO":
                assert records[-1] == "INFO", "the end of the execution"


def test_a_slow_log_handler_delays_no_result_for_long(caplog, database):
    with cloaca.WorkflowBuilder("boom"):

        @cloaca.task(retry_attempts=1)
        def boom(context):
            raise ValueError("no")

    goes_on, is_written = threading.Event(), threading.Event()

    class Slow(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            goes_on.wait(60)
            is_written.set()

    handler = Slow()
    logging.getLogger("cloaca").addHandler(handler)
    try:
        with cloaca.DefaultRunner(database) as runner:
            assert runner.execute("boom").status == "Failed"
            assert not is_written.is_set()
            goes_on.set()
            assert is_written.wait(60)
    finally:
        goes_on.set()
        logging.getLogger("cloaca").removeHandler(handler)


def test_e9_environment_lowers_the_log_level(script, database):
    process = script(ETL, database, CLOACA_LOG_LEVEL="INFO")
    _, err = process.communicate(timeout=60)
    assert re.search(r"^\d{4}-.* INFO workflow 'etl' started \[execution", err, re.M)
    assert re.search(r" INFO workflow 'etl' failed after .* \[execution .*\]$", err, re.M)
    assert err.count("ValueError: no rows") == 2, "once in the message, and once in the traceback"


def test_e9_handlers_of_the_program_replace_the_default_handler(script, database):
    process = script(
        "import logging; logging.basicConfig(format='mine %(message)s')\n" + textwrap.dedent(ETL),
        database,
        CLOACA_LOG_LEVEL="INFO",
    )
    _, err = process.communicate(timeout=60)
    assert len(re.findall(r"^mine workflow 'etl' started", err, re.M)) == 1
    assert "INFO" not in err


def test_e9_records_of_an_execution_have_the_expected_levels(etl, database, caplog):
    with caplog.at_level(logging.DEBUG, "cloaca"), cloaca.DefaultRunner(database) as runner:
        id = runner.execute("etl").execution_id
    told = [(record.levelname, record.getMessage()) for record in run_records(caplog)]
    suffix = f" [execution {id}]"
    assert all(message.endswith(suffix) for _, message in told)
    lines = [
        (level, re.sub(r"\d+ ms|\d\.\d s", "T", message.removesuffix(suffix)))
        for level, message in told
    ]
    assert sorted(lines) == sorted(
        [
            ("INFO", "workflow 'etl' started"),
            ("DEBUG", "task 'load' of workflow 'etl' starts (attempt 1)"),
            (
                "WARNING",
                "task 'load' of workflow 'etl' failed (attempt 1 of 3), retrying in T: "
                "ConnectionError: refused",
            ),
            ("DEBUG", "task 'load' of workflow 'etl' starts (attempt 2)"),
            ("DEBUG", "task 'load' of workflow 'etl' completed in T (attempt 2)"),
            ("DEBUG", "task 'check' of workflow 'etl' starts (attempt 1)"),
            (
                "ERROR",
                "task 'check' of workflow 'etl' failed (attempt 1 of 1): ValueError: no rows",
            ),
            (
                "DEBUG",
                "task 'report' of workflow 'etl' was skipped: dependency 'check' failed or was "
                "skipped because of a failure",
            ),
            ("INFO", "workflow 'etl' failed after T"),
        ]
    )
    assert "retrying in 1.0 s" in caplog.text


def test_e9_records_have_fields_for_execution_task_and_attempt(etl, database, caplog):
    with cloaca.DefaultRunner(database) as runner:
        id = runner.execute("etl").execution_id
    retried, failed = run_records(caplog)
    assert (retried.execution_id, retried.workflow) == (id, "etl")
    assert (retried.task_id, retried.attempt, retried.exc_text) == ("load", 1, None)
    assert (failed.execution_id, failed.task_id, failed.attempt) == (id, "check", 1)
    assert failed.exc_text.endswith("ValueError: no rows")


def test_e9_log_level_can_be_lowered_while_the_runner_runs(database, caplog):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(lambda context: None)
    with cloaca.DefaultRunner(database) as runner:
        runner.execute("w")
        assert not run_records(caplog)
        with caplog.at_level(logging.INFO, "cloaca"):
            runner.execute("w")
            until = time.monotonic() + 20
            while len(run_records(caplog)) < 2 and time.monotonic() < until:
                time.sleep(0.01)
    assert [record.levelname for record in run_records(caplog)] == ["INFO", "INFO"]


def test_e9_timeout_of_an_execution_is_logged_as_an_error(database, caplog):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        async def a(context):
            import asyncio

            await asyncio.sleep(60)

    with cloaca.DefaultRunner(database) as runner:
        runner.execute("w", timeout=0.05)
    (record,) = run_records(caplog)
    assert record.levelname == "ERROR"
    assert record.getMessage().startswith("workflow 'w' failed: WorkflowTimeoutError: ")


def test_e9_end_of_a_cancelled_attempt_is_logged(database, caplog):
    started = threading.Event()

    with cloaca.WorkflowBuilder("waits"):

        @cloaca.task
        def waits(context, handle):
            started.set()
            while not handle.is_cancelled():
                time.sleep(0.001)

    with caplog.at_level(logging.DEBUG, logger="cloaca"), cloaca.DefaultRunner(database) as runner:
        handle = runner.submit("waits")
        assert started.wait(30)
        handle.cancel()
    told = [record.getMessage() for record in caplog.records]
    assert any(text.startswith("task 'waits' of workflow 'waits' was interrupted") for text in told)


def test_e9_failures_beyond_the_log_limit_are_counted(caplog):
    with cloaca.WorkflowBuilder("many"):
        for number in range(2000):
            cloaca.task(id=f"t{number}", retry_attempts=1)(lambda context: 1 / 0)
    with cloaca.DefaultRunner(":memory:") as runner:
        runner.execute("many")
    failed = [record for record in run_records(caplog) if record.exc_text]
    counts = [record.getMessage() for record in run_records(caplog) if not record.exc_text]
    left = sum(int(re.search(r"… and ([\d,]+) more", text)[1].replace(",", "")) for text in counts)
    assert counts
    assert len(failed) + left == 2000


@pytest.mark.parametrize("first", ["signal", "approval", "timer", "child", "map", "child map"])
def test_e9_start_is_logged_once_if_the_execution_begins_by_waiting(caplog, database, first):
    with cloaca.WorkflowBuilder("leaf"):

        @cloaca.task
        def leaf(context):
            pass

    with cloaca.WorkflowBuilder("waits"):
        if first == "approval":
            one = cloaca.approval("one")
        elif first == "child":
            one = cloaca.child("one", workflow="leaf")
        elif first == "child map":
            one = cloaca.child("one", workflow="leaf", over="rows", input={"row": "item"})
        elif first == "map":

            @cloaca.task(over="rows")
            def one(rows: int) -> int:
                return rows

        else:
            wait_for = {"signal": cloaca.signal("go"), "timer": cloaca.delay("20ms")}[first]

            @cloaca.task(wait_for=wait_for)
            def one(context):
                pass

        @cloaca.task(dependencies=[one])
        def last(context):
            pass

    with caplog.at_level(logging.INFO, "cloaca"), cloaca.DefaultRunner(database) as runner:
        handle = runner.submit("waits", {"rows": [1, 2]})
        if first == "approval":
            runner.approve(handle.id, "one", by="ada")
        elif first == "signal":
            runner.send("go", to=handle)
        assert handle.result(timeout=30).status == "Completed"
        told = [
            record.getMessage() for record in run_records(caplog) if handle.id in record.message
        ]
    assert [message.split(" [")[0].split(" after")[0] for message in told] == [
        "workflow 'waits' started",
        "workflow 'waits' completed",
    ]
