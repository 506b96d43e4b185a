"""Children that a coroutine starts at the same time with `asyncio.gather` (semantics T10)."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import cloaca


def define_named(name: str, body) -> None:
    with cloaca.WorkflowBuilder(name, output="value"):
        cloaca.task(id="value")(body)


def test_t10_gathered_children_run_at_the_same_time(runner):
    meet = threading.Barrier(2)

    def left(n: int) -> str:
        meet.wait(timeout=30)
        return f"left {n}"

    def right(n: int) -> str:
        meet.wait(timeout=30)
        return f"right {n}"

    define_named("left", left)
    define_named("right", right)
    starts = []

    @cloaca.workflow
    async def both(handle: cloaca.TaskHandle) -> list[str]:
        starts.append(handle.attempt)
        return await asyncio.gather(
            handle.run("a", "left", {"n": 1}), handle.run("b", "right", {"n": 2})
        )

    result = runner.execute("both")
    assert result.output == ["left 1", "right 2"]
    # The function starts once, and starts again after both children have ended.
    assert starts == [1, 1]
    assert result.tasks["both"].attempts == 1
    children = runner.children(result.execution_id)
    assert sorted(child.workflow_name for child in children) == ["left", "right"]


def test_t10_gathered_call_can_begin_while_another_loads_the_log(runner):
    meet = threading.Barrier(2)
    define_named("early", lambda context: context.set("value", meet.wait(timeout=20) >= 0))
    define_named("late", lambda context: context.set("value", meet.wait(timeout=20) >= 0))

    @cloaca.workflow(retry_attempts=1)
    async def staggered(handle: cloaca.TaskHandle) -> list[object]:
        early = asyncio.ensure_future(handle.run("early", "early", {}))
        await asyncio.sleep(0)
        # The engine loads the step log during this sleep, which blocks the loop. The loop therefore
        # resumes the first call only after the second call has been made.
        time.sleep(0.2)
        return await asyncio.gather(early, handle.run("late", "late", {}))

    assert runner.execute("staggered").output == [True, True]


@pytest.mark.parametrize("is_step", [False, True])
def test_t10_failure_fails_the_task_despite_a_gathered_wait(runner, is_step):
    define_named("slow", lambda context, handle: handle.sleep("long", "1h"))

    def fail() -> None:
        raise ValueError("beside")

    async def fail_at_once() -> None:
        fail()

    @cloaca.workflow(retry_attempts=1)
    async def beside(handle: cloaca.TaskHandle) -> None:
        failing = handle.step("fail", fail) if is_step else fail_at_once()
        await asyncio.gather(handle.run("slow", "slow", {}), failing)

    result = runner.execute("beside")
    assert (result.status, result.error.type) == ("Failed", "ValueError")
    assert result.error.message == "beside"
    assert not runner.children(result.execution_id)


def test_t10_gathered_calls_can_run_many_children_and_steps(runner):
    define_named("square", lambda context: context.set("value", context["n"] ** 2))
    calls = []

    @cloaca.workflow
    async def mixed(handle: cloaca.TaskHandle) -> list[object]:
        step, squares, one, more = await asyncio.gather(
            handle.step("step", calls.append, 1),
            handle.run_many("many", "square", [{"n": n} for n in range(5)], parallel=2),
            handle.run("one", "square", {"n": 9}),
            handle.run_many("none", "square", []),
        )
        return [step, squares, one, more]

    result = runner.execute("mixed")
    assert result.output == [None, [0, 1, 4, 9, 16], 81, []]
    assert calls == [1]
    assert len(runner.children(result.execution_id)) == 6


def test_t10_failed_gathered_child_is_retried_in_place(runner):
    broken = [True]

    def fragile(context):
        if broken:
            raise ValueError("broken")
        context["value"] = "repaired"

    with cloaca.WorkflowBuilder("fragile", output="value"):
        cloaca.task(id="value", retry_attempts=1)(fragile)
    define_named("firm", lambda context: context.set("value", "firm"))

    @cloaca.workflow(retry_attempts=1)
    async def pair(handle: cloaca.TaskHandle) -> list[str]:
        return await asyncio.gather(handle.run("a", "fragile", {}), handle.run("b", "firm", {}))

    result = runner.execute("pair")
    assert result.status == "Failed"
    assert result.error.type == "ChildFailedError"
    broken.clear()
    runner.retry_execution(result.execution_id)
    again = runner.get_handle(result.execution_id).result(timeout=30)
    assert again.output == ["repaired", "firm"]
    assert len(runner.children(result.execution_id)) == 2


def test_t10_cancel_reaches_all_gathered_children(runner):
    started = threading.Barrier(3)

    def hang(context, handle):
        started.wait(timeout=30)
        handle.defer_until(lambda: False, poll_interval_ms=20)

    for name in ("hang1", "hang2"):
        with cloaca.WorkflowBuilder(name):
            cloaca.task(id="value")(hang)

    @cloaca.workflow
    async def parent(handle: cloaca.TaskHandle) -> None:
        await asyncio.gather(handle.run("a", "hang1", {}), handle.run("b", "hang2", {}))

    handle = runner.submit("parent")
    started.wait(timeout=30)
    handle.cancel()
    for child in runner.children(handle.id):
        ended = runner.get_handle(child.execution_id).result(timeout=30)
        assert ended.status == "Cancelled"


@pytest.mark.parametrize("groups", [1, 3])
def test_t10_gathered_children_survive_a_crash_at_any_point(groups):
    def value(context):
        context["value"] = context["n"]

    define_named("unit", value)

    with cloaca.WorkflowBuilder("crash"):

        @cloaca.task(id="only")
        async def only(context, handle):
            context["sums"] = [
                sum(
                    await asyncio.gather(
                        handle.run(f"a{group}", "unit", {"n": 1}),
                        handle.run(f"b{group}", "unit", {"n": 2}),
                    )
                )
                for group in range(groups)
            ]

    report = cloaca.testing.crash_everywhere("crash")
    assert len(report.points) > 4
