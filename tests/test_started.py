"""A prefetched task has the state Ready, and a running task shows when it started."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import cloaca
from cloaca._core import Inspector, ListFilter


@pytest.fixture
def one_worker(database):
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        yield runner


def blocking_workflow(name="w"):
    """Defines a workflow whose task blocks.

    Returns the event that the task waits for, and the event that the task sets when it starts.
    """
    release, entered = threading.Event(), threading.Event()

    with cloaca.WorkflowBuilder(name):

        @cloaca.task(id="a", retry_attempts=1)
        def block(context):
            entered.set()
            assert release.wait(30)

    return release, entered


def test_prefetched_task_is_ready(one_worker):
    release, entered = blocking_workflow()
    handles = one_worker.submit_many([("w", None)] * 4)
    assert entered.wait(30)
    try:
        statuses = [handle.status() for handle in handles]
        assert statuses == ["Running", "Pending", "Pending", "Pending"]
        first, waiting = (one_worker.get_execution(handles[n].id) for n in (0, 3))
        assert (first.tasks["a"].status, waiting.tasks["a"].status) == ("Running", "Ready")
        assert first.started_at == first.tasks["a"].started_at is not None
        assert waiting.started_at is None
        assert (waiting.tasks["a"].started_at, waiting.tasks["a"].attempts) == (None, 0)
        assert [event.type for event in handles[0].events()] == [
            "submitted",
            "started",
            "task_started",
        ]
        assert [event.type for event in handles[3].events()] == ["submitted"]
        assert handles[3].progress()["Ready"] == 1
        waiting_for = handles[3].explain()[0]
        assert "is ready and waits for a free worker of runner" in waiting_for
        assert waiting_for.endswith(" Its worker is busy: 1 \u00d7 'a'.")
        assert "has run the task since" in handles[0].explain()[0]
    finally:
        release.set()
    started = [handle.result(timeout=30).tasks["a"].started_at for handle in handles]
    assert started == sorted(started)
    assert started[0] == first.tasks["a"].started_at, "a later read must show the same start"


def test_status_filter_finds_the_executions_in_that_state(one_worker):
    release, entered = blocking_workflow()
    handles = one_worker.submit_many([("w", None)] * 3)
    assert entered.wait(30)
    try:
        listed = {
            status: [result.execution_id for result in one_worker.list_executions(status=status)]
            for status in ("Running", "Pending")
        }
        assert listed["Running"] == [handles[0].id]
        assert listed["Pending"] == [handle.id for handle in reversed(handles[1:])]
        both = one_worker.list_executions(status=["Pending", "Running"]).items
        assert [result.status for result in both] == ["Pending", "Pending", "Running"]
    finally:
        release.set()
    for handle in handles:
        handle.result(timeout=30)
    assert one_worker.list_executions(status=["Pending", "Running"]).items == []


def test_other_processes_see_the_start_of_a_long_task(one_worker, database):
    release, entered = blocking_workflow()
    handles = one_worker.submit_many([("w", None)] * 2)
    assert entered.wait(30)
    outside = Inspector(database).reads
    try:
        while outside.status(handles[0].id) != "Running":
            pass
        inside = one_worker.get_execution(handles[0].id)
        start = outside.execution(handles[0].id).started_at_us
        assert start == round(inside.started_at.timestamp() * 1_000_000)
        assert outside.status(handles[1].id) == "Pending"
        running = outside.executions(ListFilter(statuses=["Running"]), 10).executions
        pending = outside.executions(ListFilter(statuses=["Pending"]), 10).executions
        assert [found.execution_id for found in running] == [handles[0].id]
        assert [found.execution_id for found in pending] == [handles[1].id]
        sentence = outside.explain(handles[1].id)[0]
        assert f"waits for a free worker of runner {one_worker._core.runner_id}" in sentence
        assert sentence.endswith(" Its worker is busy: 1 \u00d7 'a'.")
    finally:
        release.set()
    assert handles[0].result(timeout=30).started_at == inside.started_at


def test_cancelled_task_that_never_started_has_no_start(one_worker):
    release, entered = blocking_workflow()
    handles = one_worker.submit_many([("w", None)] * 2)
    assert entered.wait(30)
    try:
        for handle in handles:
            handle.cancel()
        began, waited = (handle.result(timeout=30) for handle in handles)
        assert began.tasks["a"].started_at is not None
        assert waited.tasks["a"].started_at is None
        assert "task_started" not in [event.type for event in handles[1].events()]
        assert "task_started" in [event.type for event in handles[0].events()]
    finally:
        release.set()


def test_coroutine_is_running_once_the_loop_has_started_it(database):
    entered = threading.Event()

    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="a")
        async def sleeping(context):
            entered.set()
            await asyncio.sleep(30)

    with cloaca.DefaultRunner(database) as runner:
        handle = runner.submit("w")
        assert entered.wait(30)
        assert handle.status() == "Running"
        assert runner.get_execution(handle.id).tasks["a"].started_at is not None
        handle.cancel()


def test_status_of_a_short_execution_never_moves_backwards(database):
    """After its task has ended, the execution is `Running` until the task's result is committed."""

    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="a")
        def quick(context):
            pass

    ranks = {"Pending": 0, "Running": 1, "Completed": 2}
    with cloaca.DefaultRunner(database) as runner, ThreadPoolExecutor(2) as readers:

        def watch(handle):
            seen = [ranks[handle.status()]]
            while seen[-1] < 2:
                seen.append(ranks[handle.status()])
            return seen

        for _ in range(50):
            handle = runner.submit("w")
            for seen in readers.map(watch, [handle, handle]):
                assert seen == sorted(seen)
