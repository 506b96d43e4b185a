"""Log records that the package and the engine send to Python's `logging`."""

from __future__ import annotations

import logging
import logging.handlers
import queue

import cloaca


def test_exceptions_of_callbacks_are_logged_with_the_task(runner):
    records: queue.Queue[logging.LogRecord] = queue.Queue()
    handler = logging.handlers.QueueHandler(records)
    handler.prepare = lambda record: record  # type: ignore[method-assign]
    logging.getLogger("cloaca").addHandler(handler)
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a", on_success=lambda task, context: {}["missing"])(lambda context: None)

    result = runner.execute("w")
    record = records.get(timeout=10)
    while record.levelno < logging.ERROR:
        record = records.get(timeout=10)
    logging.getLogger("cloaca").removeHandler(handler)
    assert (record.name, record.levelno) == ("cloaca", logging.ERROR)
    assert record.getMessage() == (
        "on_success of task 'a' of workflow 'w' raised KeyError: 'missing' "
        f"[execution {result.execution_id}]"
    )
    assert (record.workflow, record.task, record.execution_id) == ("w", "a", result.execution_id)


def test_callback_errors_are_printed_by_default(script, database):
    process = script(
        """
        import sys, threading, cloaca
        done = threading.Event()
        def on_success(task, context):
            done.set()
            raise ValueError
        with cloaca.WorkflowBuilder("w"):
            cloaca.task(id="a", on_success=on_success)(lambda context: None)
        with cloaca.DefaultRunner(sys.argv[1]) as runner:
            runner.execute("w")
            done.wait(10)
        """,
        database,
    )
    out, err = process.communicate(timeout=60)
    assert out == ""
    first, second = err.splitlines()[:2]
    assert first.startswith("on_success of task 'a' of workflow 'w' raised ValueError [execution ")
    assert second == "Traceback (most recent call last):"


def test_records_of_the_engine_carry_their_fields(caplog):
    from cloaca._observe.logger import write

    with caplog.at_level(logging.INFO, "cloaca"):
        write(logging.INFO, "cloacina::runtime", "it happened", {"name": "x", "count": 3})
    (record,) = caplog.records
    assert record.getMessage() == "it happened (name=x, count=3)"
    assert (record.name_, record.count, record.target) == ("x", 3, "cloacina::runtime")
    assert record.name == "cloaca"


def test_environment_sets_the_log_level(script, database):
    process = script(
        """
        import logging, sys
        logging.basicConfig(format="%(name)s %(levelname)s %(message)s")
        import cloaca
        with cloaca.DefaultRunner(sys.argv[1]):
            print(logging.getLogger("cloaca").getEffectiveLevel())
        """,
        database,
        CLOACA_LOG_LEVEL="debug",
    )
    out, err = process.communicate(timeout=60)
    assert out == "10\n"
    assert all(line.startswith("cloaca ") for line in err.splitlines())
