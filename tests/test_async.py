"""Coroutines as tasks, and waiting without threads (semantics C5, D4, D6)."""

from __future__ import annotations

import asyncio
import queue
import threading
import time

import pytest

import cloaca


def test_a_workflow_can_mix_coroutines_and_functions(runner):
    with cloaca.WorkflowBuilder("mixed"):

        @cloaca.task
        async def first(context, handle):
            await asyncio.sleep(0)
            context["thread"] = threading.current_thread().name
            context["attempt"] = handle.attempt
            return {"returned": True}

        @cloaca.task(dependencies=[first])
        def second(context):
            context["seen"] = context["attempt"]

        @cloaca.task(dependencies=[second])
        async def third():
            pass

    result = runner.execute("mixed")
    assert result.status == "Completed"
    assert result.final_context == {
        "thread": "cloaca-loop",
        "attempt": 1,
        "returned": True,
        "seen": 1,
    }


def test_c5_a_thousand_coroutines_run_at_once(runner):
    with cloaca.WorkflowBuilder("sleepers"):

        @cloaca.task
        async def sleeper(context):
            await asyncio.sleep(0.2)

    start = time.monotonic()
    for handle in runner.submit_many(("sleepers", None) for _ in range(1000)):
        assert handle.result(timeout=60).status == "Completed"
    assert time.monotonic() - start < 10  # One after another, they would take 200 s.


def test_c5_coroutines_and_functions_respect_their_limits(database):
    """Prefetch does not increase the number of coroutines and functions that run at once."""
    lock = threading.Lock()
    running = {"coroutine": 0, "function": 0}
    most = {"coroutine": 0, "function": 0}

    def begin(kind):
        with lock:
            running[kind] += 1
            most[kind] = max(most[kind], running[kind])

    def end(kind):
        with lock:
            running[kind] -= 1

    async def coroutine(context):
        begin("coroutine")
        await asyncio.sleep(0.01)
        end("coroutine")

    def function(context):
        begin("function")
        time.sleep(0.01)
        end("function")

    with cloaca.WorkflowBuilder("many"):
        for number in range(30):
            cloaca.task(id=f"coroutine_{number}")(coroutine)
            cloaca.task(id=f"function_{number}")(function)
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=2, max_concurrent_async_tasks=3)
    with cloaca.DefaultRunner(database, config) as runner:
        runner.execute("many").raise_for_status()
        for handle in runner.submit_many([("many", None)] * 3):
            handle.result(timeout=60).raise_for_status()
    assert most == {"coroutine": 3, "function": 2}


def test_a_failing_coroutine_fails_only_its_task(runner):
    with cloaca.WorkflowBuilder("fails"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1)
        async def bad(context):
            context["lost"] = 1
            raise ValueError("boom")

        @cloaca.task(retry_attempts=1)
        async def cancels_itself(context):
            raise asyncio.CancelledError

        @cloaca.task
        async def good(context):
            context["good"] = 1

        @cloaca.task(retry_attempts=1)
        async def returns_a_number(context):
            return 3

    result = runner.execute("fails")
    assert {task.task_id: str(task.status) for task in result.tasks.values()} == {
        "bad": "Failed",
        "cancels_itself": "Failed",
        "good": "Completed",
        "returns_a_number": "Failed",
    }
    assert result.tasks["bad"].attempts == 2
    assert "in bad" in result.tasks["bad"].error.traceback
    assert "cloaca/_" not in result.tasks["bad"].error.traceback
    assert result.tasks["cancels_itself"].error.type == "asyncio.exceptions.CancelledError"
    assert result.tasks["returns_a_number"].error.type == "TypeError"
    assert result.final_context == {"good": 1}


def test_d4_a_coroutine_that_exceeds_its_timeout_is_cancelled(runner):
    cancelled = threading.Event()
    with cloaca.WorkflowBuilder("overruns"):

        @cloaca.task(timeout=0.05, retry_attempts=1)
        async def slow(context):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise

    result = runner.execute("overruns")
    assert result.error.type == "TaskTimeoutError"
    assert cancelled.wait(10)


def test_d6_a_running_coroutine_is_cancelled_within_50_ms(runner):
    started, ended = queue.Queue(), queue.Queue()
    with cloaca.WorkflowBuilder("cancelled"):

        @cloaca.task
        async def slow(context):
            started.put(True)
            try:
                await asyncio.sleep(60)
            finally:
                ended.put(time.monotonic())

    spans = []
    # The fastest of five runs counts, because a busy machine can delay some runs.
    for _ in range(5):
        handle = runner.submit("cancelled")
        assert started.get(timeout=10)
        start = time.monotonic()
        assert handle.cancel()
        spans.append(ended.get(timeout=10) - start)
        result = handle.result(timeout=10)
        assert result.status == "Cancelled"
        assert result.tasks["slow"].status == "Cancelled"
        with pytest.raises(cloaca.WorkflowExecutionError) as caught:
            result.raise_for_status()
        assert caught.value.code == "workflow_cancelled"
    assert min(spans) < 0.05


def test_d6_many_cancelled_coroutines_free_their_slots(database):
    with cloaca.WorkflowBuilder("slow"):

        @cloaca.task
        async def slow(context):
            await asyncio.sleep(60)

    with cloaca.WorkflowBuilder("quick"):

        @cloaca.task
        async def quick(context):
            pass

    config = cloaca.DefaultRunnerConfig(max_concurrent_async_tasks=40)
    with cloaca.DefaultRunner(database, config) as runner:
        for handle in runner.submit_many([("slow", None)] * 200):
            handle.cancel()
        handles = runner.submit_many([("quick", None)] * 80)
        assert {handle.result(timeout=30).status for handle in handles} == {"Completed"}
        runner.wait_until_idle(timeout=10)
        load = runner._core.load()
        assert (load.running, load.waiting) == (0, 0)


def test_handles_and_execute_async_can_be_awaited(database):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def work(context):
            context["n"] = context.get("n", 0) + 1

    async def main():
        async with cloaca.DefaultRunner(database) as runner:
            result = await runner.execute_async("w", {"n": 1}, timeout=30)
            assert result.final_context == {"n": 2}
            handle = runner.submit("w")
            assert (await handle).status == "Completed"
            assert (await handle).status == "Completed"  # The handle can be awaited again.
            assert runner.execute("w").status == "Completed"  # The call blocks the running loop.
            with pytest.raises(cloaca.WorkflowNotFoundError):
                await runner.execute_async("unknown")
        with pytest.raises(cloaca.RunnerClosedError):
            await handle
        with pytest.raises(cloaca.RunnerClosedError):
            handle.result()

    asyncio.run(main())
    asyncio.run(main())


def test_ten_thousand_waiters_need_no_thread_each(database):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        async def work(context):
            pass

    async def main():
        async with cloaca.DefaultRunner(database) as runner:
            handles = await asyncio.to_thread(runner.submit_many, [("w", None)] * 10_000)
            waiting = asyncio.gather(*handles)
            await asyncio.sleep(0)
            assert threading.active_count() < 20
            results = await waiting
            assert {result.status for result in results} == {"Completed"}
            assert [result.execution_id for result in results] == [handle.id for handle in handles]

    asyncio.run(main())


def test_an_abandoned_wait_does_not_affect_the_execution(database):
    release = threading.Event()
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def work(context):
            release.wait(30)

    async def main():
        async with cloaca.DefaultRunner(database) as runner:
            handle = runner.submit("w")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(handle, 0.01)
            release.set()
            assert (await handle).status == "Completed"

    asyncio.run(main())


def test_awaiting_a_handle_raises_when_its_runner_stops(database):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        async def work(context):
            await asyncio.sleep(60)

    async def main():
        config = cloaca.DefaultRunnerConfig(shutdown_timeout=0)
        async with cloaca.DefaultRunner(database, config) as runner:
            waiter = asyncio.ensure_future(wait(runner.submit("w")))
            await asyncio.sleep(0)
        with pytest.raises(cloaca.RunnerClosedError):
            await waiter

    async def wait(handle):
        return await handle

    asyncio.run(main())


def test_callbacks_can_be_coroutines_or_functions(runner):
    seen = []
    told = threading.Semaphore(0)

    async def later(task_id, context):
        await asyncio.sleep(0)
        seen.append((task_id, dict(context)))
        told.release()

    def now(task_id, error, context):
        seen.append((task_id, error, threading.current_thread().name != "cloaca-loop"))
        told.release()

    with cloaca.WorkflowBuilder("callbacks"):

        @cloaca.task(on_success=later)
        async def good(context):
            context["x"] = 1

        @cloaca.task(on_success=later)
        def good_function(context):
            context["y"] = 1

        @cloaca.task(on_failure=now, retry_attempts=1)
        async def bad(context):
            raise ValueError("boom")

    runner.execute("callbacks")
    for _ in range(3):
        assert told.acquire(timeout=10)
    assert ("good", {"x": 1}) in seen
    assert ("good_function", {"y": 1}) in seen
    (failure,) = (entry for entry in seen if entry[0] == "bad")
    assert "boom" in failure[1]
    assert failure[2]


def test_c5_coroutines_respect_their_limit(database: str) -> None:
    running = peak = 0

    with cloaca.WorkflowBuilder("bounded"):

        @cloaca.task(id="only")
        async def only(context: cloaca.Context) -> None:
            nonlocal running, peak
            running += 1
            peak = max(peak, running)
            # Without the limit, more coroutines would start in these turns of the loop.
            for _ in range(5):
                await asyncio.sleep(0)
            running -= 1

    config = cloaca.DefaultRunnerConfig(max_concurrent_async_tasks=3)
    with cloaca.DefaultRunner(database, config) as runner:
        for handle in runner.submit_many(("bounded", None) for _ in range(200)):
            assert handle.result(timeout=60).status == "Completed"
    assert peak == 3
