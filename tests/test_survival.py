"""No task can end a thread of its runner. A lack of resources only delays the start of threads."""

from __future__ import annotations

import asyncio
import errno
import logging
import sys
import threading
import time
import types

import pytest

import cloaca
from cloaca._workers import event_loop
from cloaca._workflows.registry import registry

ONE = cloaca.DefaultRunnerConfig(
    max_concurrent_tasks=1, task_timeout_seconds=None, capture_logs=True, shutdown_timeout=1
)


@pytest.fixture(params=["function", "coroutine"])
def define(request):
    """A function that takes the body of a task, and defines the workflow `bad` with this task.

    It also defines a harmless workflow `fine`. Both tasks are functions, or both are coroutines.
    """

    def make(function):
        def plain(context):
            return function()

        async def coroutine(context):
            return function()

        kind = plain if request.param == "function" else coroutine
        with cloaca.WorkflowBuilder("bad"):
            cloaca.task(id="bad", retry_attempts=1)(kind)

        def harmless(context):
            pass

        async def harmless_coroutine(context):
            await asyncio.sleep(0)

        with cloaca.WorkflowBuilder("fine"):
            cloaca.task(id="fine", retry_attempts=1)(
                harmless if request.param == "function" else harmless_coroutine
            )

    return make


def raised(body):
    """Returns a function that raises an exception whose class has the attributes in `body`."""

    def function():
        raise type("Hostile", (Exception,), body)

    return function


def exits(*args):
    raise SystemExit(3)


class HostileMeta(type):
    @property
    def __module__(cls):
        raise SystemExit(3)

    @property
    def __mro__(cls):
        raise SystemExit(3)


def raises_hostile_class():
    raise HostileMeta("Hostile", (Exception,), {})


def hostile_cause():
    raise ValueError("x") from type("Hostile", (Exception,), {"__str__": exits})()


HOSTILE = {
    "str_exits": raised({"__str__": exits}),
    "str_and_repr_exit": raised({"__str__": exits, "__repr__": exits}),
    "str_is_a_number": raised({"__str__": lambda self: 7}),
    "module_is_a_list": raised({"__module__": []}),
    "class_exits": raised({"__class__": property(exits)}),
    "metaclass_exits": raises_hostile_class,
    "cause_exits": hostile_cause,
    "exits": exits,
}


@pytest.mark.parametrize("how", HOSTILE)
def test_unreadable_exception_ends_only_its_attempt(define, how):
    define(HOSTILE[how])
    with cloaca.DefaultRunner(":memory:", ONE) as runner:
        assert runner.submit("bad").result(timeout=30).status == "Failed"
        assert runner.submit("fine").result(timeout=30).status == "Completed"


def test_message_of_50_megabytes_is_shortened(define):
    def work():
        raise ValueError("x" * 50_000_000)

    define(work)
    with cloaca.DefaultRunner(":memory:", ONE) as runner:
        message = runner.submit("bad").result(timeout=30).error.message
    assert message == "x" * 65536 + " …"


@pytest.mark.parametrize("setting", ["settrace", "setprofile"])
def test_raising_trace_function_ends_only_its_attempt(define, setting):
    define(lambda: getattr(sys, setting)(exits))
    with cloaca.DefaultRunner(":memory:", ONE) as runner:
        # The trace function raises in this attempt, or in the next one on the same thread.
        for name in ("bad", "fine"):
            assert runner.submit(name).result(timeout=30).status in {"Completed", "Failed"}
        assert runner.submit("fine").result(timeout=30).status == "Completed"


class OddRecord(logging.LogRecord):
    """A log record with a time that no database can store."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.created = 1e300


RECORDS = {
    "made": lambda: logging.makeLogRecord({"name": "queue", "levelno": 20, "msg": "made"}),
    "odd_time": lambda: OddRecord("odd", 20, "", 0, "odd", (), None),
    "odd_name": lambda: logging.getLogger("a\udfffb").critical("surrogate"),
    "odd_level": lambda: logging.getLogger("odd").log(1 << 80, "high"),
}


@pytest.mark.parametrize("kind", RECORDS)
def test_odd_log_record_fails_neither_task_nor_runner(define, kind, monkeypatch):
    # pytest-xdist cannot send a report whose captured log contains a lone surrogate.
    for handler in logging.getLogger().handlers:
        if type(handler).__module__.startswith("_pytest"):
            monkeypatch.setattr(handler, "emit", lambda record: None)
    before = logging.getLogRecordFactory()
    if kind == "odd_time":
        logging.setLogRecordFactory(OddRecord)

    def work():
        RECORDS[kind]()
        if kind == "odd_time":
            logging.getLogger("odd").critical("odd")
        logging.getLogger("app").critical("kept")

    define(work)
    try:
        with cloaca.DefaultRunner(":memory:", ONE) as runner:
            handle = runner.submit("bad")
            assert handle.result(timeout=30).status == "Completed"
            assert runner.submit("fine").result(timeout=30).status == "Completed"
            if kind == "made":
                assert [line.message for line in runner.logs(handle.id)] == ["kept"]
    finally:
        logging.setLogRecordFactory(before)


async def exit_in_a_child():
    async def child():
        sys.exit(3)

    await asyncio.gather(child())


async def interrupt_in_a_child():
    async def child():
        raise KeyboardInterrupt

    await asyncio.create_task(child())


async def exit_in_a_callback():
    asyncio.get_running_loop().call_soon(sys.exit, 3)
    await asyncio.sleep(0.05)


async def stop_the_loop():
    asyncio.get_running_loop().stop()
    await asyncio.sleep(0.05)


async def break_the_loop():
    def select(timeout):
        raise OSError(errno.EBADF, "Bad file descriptor")

    asyncio.get_running_loop()._selector.select = select
    await asyncio.sleep(60)


#: Coroutines that disturb the event loop, each with the expected status of its execution.
KILLERS = {
    exit_in_a_child: "Failed",
    interrupt_in_a_child: "Failed",
    exit_in_a_callback: "Completed",
    stop_the_loop: "Completed",
    break_the_loop: "Failed",
}


@pytest.mark.parametrize("killer", KILLERS, ids=lambda killer: killer.__name__)
def test_coroutine_that_breaks_the_event_loop_fails_no_other_task(killer):
    other = threading.Event()
    attempts = []
    with cloaca.WorkflowBuilder("bad"):

        @cloaca.task(retry_attempts=1)
        async def bad(context):
            assert other.wait(20)
            await killer()

    with cloaca.WorkflowBuilder("other"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=0)
        async def running(context):
            attempts.append(1)
            other.set()
            await asyncio.sleep(0.2)

    with cloaca.WorkflowBuilder("later"):

        @cloaca.task(retry_attempts=1)
        async def later(context):
            await asyncio.sleep(0.01)

    with cloaca.DefaultRunner(":memory:", ONE) as runner:
        beside = runner.submit("other")
        assert other.wait(20)
        assert runner.submit("bad").result(timeout=30).status == KILLERS[killer]
        assert beside.result(timeout=30).status == "Completed"
        assert runner.submit("later").result(timeout=30).status == "Completed"
    assert len(attempts) == (2 if killer is break_the_loop else 1)


def test_coroutine_cancelled_before_it_starts_reports_its_end():
    started, ended = [], []

    class LoopWaker:
        def completed(self):
            return []

        def fileno(self):
            return 0

    async def never(context):
        started.append(1)

    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(never)
    workflow = registry.workflow("w")
    assert workflow is not None
    handler = workflow._handlers()["a"].number
    work = types.SimpleNamespace(token=7, callback=False, handler=handler, context=cloaca.Context())
    batches = [[work]]
    core = types.SimpleNamespace(
        loop_waker=LoopWaker(),
        take_async=lambda limit: batches.pop() if batches else [],
        async_notices=lambda: [types.SimpleNamespace(token=7, reason="cancelled")],
        finish_async=lambda work, outcome: ended.append((work.token, outcome.kind, outcome.type)),
    )
    scope = types.SimpleNamespace(capture_logs=False, core=core)
    thread = event_loop.LoopThread(core, scope)
    loop = thread._loop = asyncio.new_event_loop()
    try:
        thread._on_readable()
        for _ in range(3):
            loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
    assert not started
    assert ended == [(7, "failed", "asyncio.exceptions.CancelledError")]


@pytest.mark.parametrize("what", ["worker", "loop", "trigger"])
def test_thread_that_fails_to_start_is_started_later(monkeypatch, what):
    start, missing, polled = threading.Thread.start, [], threading.Event()

    def starved(thread):
        if thread.name.startswith(f"cloaca-{what}") and len(missing) < 3:
            missing.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starved)

    def function(context):
        pass

    async def coroutine(context):
        pass

    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(coroutine if what == "loop" else function)
    if what == "trigger":

        @cloaca.trigger(on="w", poll_interval="50ms", name="tr")
        def tr():
            polled.set()
            return cloaca.TriggerResult.skip()

    with cloaca.DefaultRunner(":memory:", ONE) as runner:
        assert runner.submit("w").result(timeout=30).status == "Completed"
        assert what != "trigger" or polled.wait(20)
    assert len(missing) == 3


def test_event_loop_starts_once_descriptors_are_free(monkeypatch):
    make, missing = event_loop.LoopThread.make_loop, []

    def starved(thread):
        if len(missing) < 2:
            missing.append(1)
            raise OSError(24, "Too many open files")
        return make(thread)

    monkeypatch.setattr(event_loop.LoopThread, "make_loop", starved)
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        async def work(context):
            pass

    with cloaca.DefaultRunner(":memory:", ONE) as runner:
        assert runner.submit("w").result(timeout=30).status == "Completed"


def test_trigger_with_an_unreadable_exception_is_polled_again():
    polls = []

    class Hostile(Exception):
        def __str__(self):
            sys.exit(3)

    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(lambda context: None)

    @cloaca.trigger(on="w", poll_interval="50ms", name="tr")
    def tr():
        polls.append(time.monotonic())
        if len(polls) == 1:
            raise Hostile
        return cloaca.TriggerResult.skip()

    with cloaca.DefaultRunner(":memory:"):
        end = time.monotonic() + 20
        while len(polls) < 3:
            assert time.monotonic() < end
            time.sleep(0.01)
