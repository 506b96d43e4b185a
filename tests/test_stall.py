"""The log names a task that hangs, and a runner with a blocked interpreter is not declared dead."""

from __future__ import annotations

import logging
import textwrap
import threading

import pytest

import cloaca
from processes import PREAMBLE, Ledger

HOLDER = PREAMBLE + textwrap.dedent(
    """
    import ctypes, logging, threading

    told = threading.Event()

    class Notes(logging.Handler):
        def emit(self, record):
            note("log", record.levelname, record.getMessage())
            told.set()

    logging.getLogger("cloaca").addHandler(Notes())

    with cloaca.WorkflowBuilder("greedy"):
        @cloaca.task
        def hold(context, handle):
            note("hold", os.getpid(), handle.attempt)
            # A call into C that holds the interpreter lock for four times `lease_ttl`. By default,
            # the log names a task after twice `lease_ttl`; the runner checks this once a second.
            ctypes.PyDLL(None).sleep(4)

    config = cloaca.DefaultRunnerConfig(heartbeat_interval=0.25, lease_ttl=1, **SETTINGS)
    with cloaca.DefaultRunner(sys.argv[1], config) as runner:
        if sys.argv[2] == "holds":
            result = runner.execute("greedy")
            assert told.wait(30)
            note("result", result.status, result.tasks["hold"].attempts)
        else:
            note("ready")
            wait_for("stop")
    """
)


@pytest.mark.parametrize("settings", ["dict(stall_threshold=1)", "{}"])
def test_e1_task_holding_the_interpreter_is_named_but_not_rescued(
    database, script, tmp_path, settings
):
    ledger = Ledger(tmp_path)
    code = HOLDER.replace("SETTINGS", settings)
    holder = script(code, database, "holds")
    ledger.wait("hold", 1)
    # This runner would rescue the task if it declared the holder dead.
    other = script(code, database, "watches")
    assert ledger.wait("result", 1) == [["Completed", "1"]]
    (tmp_path / "stop").touch()
    assert holder.communicate(timeout=60) == ("", "")
    assert other.communicate(timeout=60) == ("", "")
    assert ledger.lines("hold") == [[str(holder.pid), "1"]]
    (line,) = ledger.lines("log")
    assert line[0] == "WARNING"
    assert "task 'hold' of workflow 'greedy' has run for" in " ".join(line)
    assert "execution_id=" in " ".join(line)
    with cloaca.DefaultRunner(database) as runner:
        (only,) = runner.list_executions().items
        assert "task_rescued" not in [event.type for event in runner.events(only.execution_id)]


class Records(logging.Handler):
    """Stores log records, and sets an event when a record arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Event()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.came.set()


@pytest.fixture
def handler():
    handler = Records()
    logging.getLogger("cloaca").addHandler(handler)
    yield handler
    logging.getLogger("cloaca").removeHandler(handler)


def test_stalled_task_is_named_once(database, handler):
    release = threading.Event()
    with cloaca.WorkflowBuilder("stuck"):

        @cloaca.task(timeout=600)
        def waits(context):
            release.wait(60)

    config = cloaca.DefaultRunnerConfig(stall_threshold=0.2)
    with cloaca.DefaultRunner(database, config) as runner:
        handle = runner.submit("stuck")
        assert handler.came.wait(30)
        release.set()
        assert handle.result(timeout=30).status == "Completed"
    (record,) = handler.records
    assert record.levelno == logging.WARNING
    assert (record.workflow, record.task, record.attempt) == ("stuck", "waits", 1)
    assert record.execution_id == handle.id


def test_task_that_sends_heartbeats_is_not_named(database, handler):
    release = threading.Event()
    with cloaca.WorkflowBuilder("pair"):

        @cloaca.task
        def silent(context):
            release.wait(60)

        @cloaca.task
        def lively(context, handle):
            # Runs until the log has named the silent task.
            while not handler.came.is_set():
                handle.heartbeat()
                release.wait(0.01)

    config = cloaca.DefaultRunnerConfig(stall_threshold=1.5)
    with cloaca.DefaultRunner(database, config) as runner:
        handle = runner.submit("pair")
        assert handler.came.wait(30)
        release.set()
        assert handle.result(timeout=30).status == "Completed"
    assert [record.task for record in handler.records] == ["silent"]
