"""Log records of tasks name their attempt, and the engine can store them."""

from __future__ import annotations

import json
import logging
import pickle

import pytest

import cloaca
from cloaca._workers.attempt_scope import LogCapture

# Maximum time to wait, in seconds.
PATIENCE = 30
log = logging.getLogger("the.program")


class Keeper(logging.Handler):
    """Keeps log records without formatting them."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def keeper():
    handler = Keeper()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    yield handler
    log.propagate = True
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)


def define():
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="sync", retry_attempts=2, retry_delay_ms=1)
        def sync(context, handle):
            log.info("hello %s", "world", extra={"color": "red"})
            if handle.attempt == 1:
                raise ValueError("again")

        @cloaca.task(id="async")
        async def asynchronous(context):
            import asyncio

            await asyncio.sleep(0.01)
            log.info("hello too")


def test_a_record_names_its_attempt(runner, keeper):
    define()
    result = runner.execute("w")
    assert result.status == "Completed"
    told = [
        (record.execution_id, record.workflow, record.task_id, record.attempt)
        for record in keeper.records
    ]
    id = result.execution_id
    assert sorted(told) == [(id, "w", "async", 1), (id, "w", "sync", 1), (id, "w", "sync", 2)]
    assert {getattr(record, "color", None) for record in keeper.records} == {"red", None}


def test_records_outside_of_tasks_are_unchanged(runner, keeper):
    define()
    runner.execute("w")
    log.info("outside")
    record = keeper.records[-1]
    assert type(record) is logging.LogRecord
    assert not hasattr(record, "execution_id")
    assert not hasattr(keeper.records[0], "nonsense")


def test_formatted_and_pickled_records_have_the_attempt(runner, keeper):
    define()
    result = runner.execute("w")
    record = keeper.records[0]
    shown = logging.Formatter("%(task_id)s %(attempt)d %(message)s").format(record)
    assert shown in {"sync 1 hello world", "async 1 hello too"}
    copy = pickle.loads(pickle.dumps(keeper.records[1]))
    assert copy.execution_id == result.execution_id
    assert type(copy) is logging.LogRecord
    json.dumps(vars(record), default=str)


def test_log_extra_of_the_program_is_kept(runner, keeper):
    """A program's `extra` can use the names of fields that cloaca adds to log records."""
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="a", retry_attempts=1)
        def a(context):
            log.info("x", extra={"attempt": "mine", "workflow": "mine", "task_id": "mine"})

    assert runner.execute("w").status == "Completed"
    (record,) = keeper.records
    record.getMessage()
    assert (record.attempt, record.workflow, record.task_id) == ("mine", "mine", "mine")
    assert len(record.execution_id) == 36


def test_captured_lines_are_stored_and_pruned_with_the_execution(database, keeper):
    define()
    config = cloaca.DefaultRunnerConfig(capture_logs=True)
    with cloaca.DefaultRunner(database, config) as runner:
        handle = runner.submit("w")
        handle.result(PATIENCE)
        # Log lines are stored before the end of the execution, so the test need not wait.
        lines = handle.logs()
        told = [(line.task_id, line.attempt, line.level_name, line.message) for line in lines]
        assert sorted(told) == [
            ("async", 1, "INFO", "hello too"),
            ("sync", 1, "INFO", "hello world"),
            ("sync", 2, "INFO", "hello world"),
        ]
        assert {line.logger for line in lines} == {"the.program"}
        assert "INFO sync[1] the.program: hello world" in "\n".join(map(str, lines))
        assert all(line.time.tzinfo for line in lines)
        runner.prune(older_than=0)
        with pytest.raises(cloaca.WorkflowNotFoundError):
            handle.logs()
    # The program's own handler received the records too.
    assert len(keeper.records) == 3


def test_captured_logs_are_bounded_and_tolerate_odd_records(database, keeper):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="many")
        def many(context):
            for number in range(2000):
                log.info("line %d", number)

        @cloaca.task(id="large")
        def large(context):
            for _ in range(100):
                log.info("x" * 100_000)

        @cloaca.task(id="odd", retry_attempts=1)
        def odd(context):
            log.info("nul \0")
            log.info("%d", "no number")
            try:
                raise KeyError("inner")
            except KeyError:
                log.exception("it failed")

    logging.raiseExceptions, before = False, logging.raiseExceptions
    try:
        config = cloaca.DefaultRunnerConfig(capture_logs=True)
        with cloaca.DefaultRunner(database, config) as runner:
            result = runner.execute("w")
            lines = runner.logs(result.execution_id)
    finally:
        logging.raiseExceptions = before
    assert result.status == "Completed"
    messages = {
        task: [line.message for line in lines if line.task_id == task]
        for task in ("many", "large", "odd")
    }
    assert messages["many"][:2] == ["line 0", "line 1"]
    assert len(messages["many"]) == 501
    assert messages["many"][-1] == "1500 more lines were logged but not stored"
    assert sum(map(len, messages["large"])) < 300_000
    assert messages["odd"][0] == "nul \ufffd"
    assert "cannot be shown" in messages["odd"][1]
    assert messages["odd"][2].startswith("it failed\nTraceback")
    assert "KeyError: 'inner'" in messages["odd"][2]


def test_invalid_unicode_is_captured_with_question_marks():
    class Core:
        def note_logs(self, work, lines):
            self.lines = lines

    core = Core()
    capture = LogCapture(None, core)
    capture.add(logging.makeLogRecord({"msg": "\ud800 half", "name": "x", "levelno": 20}))
    capture.close()
    assert [line[1:] for line in core.lines] == [(20, "x", "? half")]


def test_nothing_is_captured_by_default(runner, keeper):
    define()
    assert runner.logs(runner.execute("w").execution_id) == []


def test_records_of_callbacks_name_the_task(runner, keeper):
    import threading

    called = threading.Event()

    def on_success(task, context):
        log.info("called")
        called.set()

    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a", on_success=on_success)(lambda context: None)
    result = runner.execute("w")
    assert called.wait(PATIENCE)
    assert keeper.records[0].execution_id == result.execution_id
