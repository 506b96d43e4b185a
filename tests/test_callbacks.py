"""Callers get an execution's result only after `on_success` and `on_failure` have returned."""

from __future__ import annotations

import asyncio
import threading

import pytest

import cloaca

ROUNDS = 30


@pytest.fixture(params=["thread", "coroutine"])
def called(request) -> list[str]:
    """Defines a workflow `w` with two tasks; returns the list of callbacks called so far."""
    called: list[str] = []
    seen = threading.Event()

    def succeeded(task_id, context):
        # Without the guarantee, the result would be returned during this wait.
        seen.wait(0.002)
        called.append(task_id)

    def failed(task_id, error, context):
        seen.wait(0.002)
        called.append(f"{task_id}: {error}")

    def good(context):
        pass

    async def good_coroutine(context):
        pass

    def bad(context):
        raise ValueError("no")

    with cloaca.WorkflowBuilder("w"):
        function = good if request.param == "thread" else good_coroutine
        cloaca.task(id="good", on_success=succeeded)(function)
        cloaca.task(id="bad", on_failure=failed, dependencies=["good"], retry_attempts=1)(bad)
    return called


EXPECTED = ["bad: ValueError: no", "good"]


def test_execute_returns_after_the_callbacks(called, runner):
    for _ in range(ROUNDS):
        called.clear()
        assert runner.execute("w").status == "Failed"
        assert sorted(called) == EXPECTED


def test_result_returns_after_the_callbacks(called, runner):
    for _ in range(ROUNDS):
        called.clear()
        runner.submit("w").result(timeout=60)
        assert sorted(called) == EXPECTED


def test_awaited_handle_returns_after_the_callbacks(called, runner):
    async def rounds():
        for _ in range(ROUNDS):
            called.clear()
            await runner.submit("w")
            assert sorted(called) == EXPECTED

    asyncio.run(rounds())


def test_callback_can_wait_for_its_own_execution(runner):
    statuses: list[str] = []
    handles: list[cloaca.WorkflowHandle] = []
    submitted = threading.Event()

    def succeeded(task_id, context):
        submitted.wait(60)
        statuses.append(handles[0].result(timeout=60).status)

    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a", on_success=succeeded)(lambda context: None)
    handles.append(runner.submit("w"))
    submitted.set()
    handles[0].result(timeout=20)
    runner.shutdown()
    assert statuses == ["Completed"]


def test_callback_does_not_wait_for_a_busy_worker(database):
    release, is_busy = threading.Event(), threading.Event()

    def block(context):
        is_busy.set()
        release.wait(60)

    called: list[str] = []
    with cloaca.WorkflowBuilder("blocked"):
        cloaca.task(id="block")(block)
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(on_success=lambda task_id, context: called.append(task_id))
        async def a(context):
            pass

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        blocked = runner.submit("blocked")
        assert is_busy.wait(60)
        runner.submit("w").result(timeout=20)
        assert called == ["a"]
        release.set()
        blocked.result(timeout=60)


def test_callback_that_raises_does_not_delay_the_result(runner):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a", on_success=lambda task_id, context: 1 / 0)(lambda context: None)
    assert runner.submit("w").result(timeout=20).status == "Completed"
