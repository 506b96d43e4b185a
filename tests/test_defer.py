"""`TaskHandle.defer_until` releases the worker's slot while it waits (semantics G2)."""

from __future__ import annotations

import threading
import time

import pytest

import cloaca
from schedule_support import until


@pytest.fixture
def one_worker(database):
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1, max_concurrent_async_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        yield runner


def test_waiting_function_releases_and_reacquires_its_slot(one_worker):
    opened, held = threading.Event(), []
    busy, most = [0], [0]

    with cloaca.WorkflowBuilder("waits"):

        @cloaca.task
        def wait(context, handle):
            held.append(handle.is_slot_held())

            def is_open():
                held.append(handle.is_slot_held())
                return opened.is_set()

            handle.defer_until(is_open, poll_interval_ms=10)
            held.append(handle.is_slot_held())
            busy[0] += 1
            most[0] = max(most[0], busy[0])
            time.sleep(0.02)
            busy[0] -= 1

    with cloaca.WorkflowBuilder("works"):

        @cloaca.task
        def work(context):
            busy[0] += 1
            most[0] = max(most[0], busy[0])
            time.sleep(0.005)
            busy[0] -= 1

    waiting = [one_worker.submit("waits") for _ in range(5)]
    # Five tasks wait, but do not hold the slot of the only worker, so other tasks can run.
    until(lambda: held.count(False) >= 5)
    for _ in range(20):
        assert one_worker.execute("works").status == "Completed"
    others = [one_worker.submit("works") for _ in range(20)]
    opened.set()
    for handle in [*waiting, *others]:
        assert handle.result(timeout=60).status == "Completed"
    # At most one task ran at a time.
    assert most[0] == 1
    assert held[0] is True
    assert held.count(False) >= 5
    assert held[-1] is True
    assert one_worker.execute("works").status == "Completed"


def test_condition_that_holds_at_once_keeps_the_slot(one_worker):
    held = []
    with cloaca.WorkflowBuilder("ready"):

        @cloaca.task
        def ready(context, handle):
            handle.defer_until(lambda: held.append(handle.is_slot_held()) or True)

    assert one_worker.execute("ready").status == "Completed"
    assert held == [True]


def test_waiting_coroutine_releases_its_slot(one_worker):
    opened, held = threading.Event(), []
    with cloaca.WorkflowBuilder("waits_async"):

        @cloaca.task
        async def wait(context, handle):
            async def is_open():
                held.append(handle.is_slot_held())
                return opened.is_set()

            await handle.defer_until(is_open, poll_interval_ms=10)
            held.append(handle.is_slot_held())

    with cloaca.WorkflowBuilder("works_async"):

        @cloaca.task
        async def work(context):
            pass

    waiting = [one_worker.submit("waits_async") for _ in range(3)]
    until(lambda: held.count(False) >= 3)
    for _ in range(5):
        assert one_worker.execute("works_async").status == "Completed"
    opened.set()
    for handle in waiting:
        assert handle.result(timeout=60).status == "Completed"
    assert held[-1] is True


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_timeout_ends_the_wait_and_the_slot_is_usable_again(one_worker, kind):
    with cloaca.WorkflowBuilder("never"):
        if kind == "function":

            @cloaca.task(timeout=0.2, retry_attempts=1)
            def wait(context, handle):
                handle.defer_until(lambda: False, poll_interval_ms=20)

        else:

            @cloaca.task(timeout=0.2, retry_attempts=1)
            async def wait(context, handle):
                await handle.defer_until(lambda: False, poll_interval_ms=20)

    with cloaca.WorkflowBuilder("works"):

        @cloaca.task
        def work(context):
            pass

    for _ in range(3):
        result = one_worker.execute("never")
        assert result.error.type == "TaskTimeoutError"
        assert one_worker.execute("works").status == "Completed"


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_cancel_ends_the_wait_and_the_slot_is_usable_again(one_worker, kind):
    began = threading.Event()

    def never():
        began.set()
        return False

    with cloaca.WorkflowBuilder("never"):
        if kind == "function":

            @cloaca.task
            def wait(context, handle):
                handle.defer_until(never, poll_interval_ms=20)

        else:

            @cloaca.task
            async def wait(context, handle):
                await handle.defer_until(never, poll_interval_ms=20)

    with cloaca.WorkflowBuilder("works"):

        @cloaca.task
        def work(context):
            pass

    for _ in range(3):
        began.clear()
        handle = one_worker.submit("never")
        assert began.wait(30)
        assert handle.cancel()
        assert one_worker.execute("works").status == "Completed"


def test_many_waits_do_not_change_the_number_of_workers(database):
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=2)
    with cloaca.WorkflowBuilder("short_wait"):

        @cloaca.task
        def wait(context, handle):
            until = time.monotonic() + 0.02
            handle.defer_until(lambda: time.monotonic() > until, poll_interval_ms=5)

    def workers() -> int:
        return sum(thread.name.startswith("cloaca-worker") for thread in threading.enumerate())

    before = workers()
    with cloaca.DefaultRunner(database, config) as runner:
        for handle in runner.submit_many([("short_wait", None)] * 60):
            assert handle.result(timeout=60).status == "Completed"
        until(lambda: workers() - before <= 2)
        assert runner.execute("short_wait").status == "Completed"


def test_a_shutdown_does_not_wait_for_a_waiting_task(database):
    began = threading.Event()
    with cloaca.WorkflowBuilder("endless"):

        @cloaca.task
        def wait(context, handle):
            handle.defer_until(lambda: began.set() and False, poll_interval_ms=20)

    with cloaca.DefaultRunner(database) as runner:
        handle = runner.submit("endless")
        assert began.wait(30)
        started = time.monotonic()
        runner.shutdown(timeout=0.1)
        assert time.monotonic() - started < 10
    with cloaca.DefaultRunner(database) as runner:
        # The stopped runner returned its claim, so the new runner starts the task again.
        began.clear()
        assert began.wait(30)
        assert runner.cancel_execution(handle.id)
