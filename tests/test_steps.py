"""Durable steps of a task: `TaskHandle.step` (semantics T)."""

from __future__ import annotations

import asyncio
import json
import math
import threading
from dataclasses import dataclass

import pytest

import cloaca
from cloaca.testing import run_task

NO_DELAY = cloaca.RetryPolicy(max_attempts=3, initial_delay=0.001, with_jitter=False)


@dataclass
class Plan:
    """An example of a value that a language model could return."""

    question: str
    items: list[int]


def make_plan(question: str) -> Plan:
    """Returns a plan of three items."""
    return Plan(question, [1, 2, 3])


def recorded(result, runner):
    """Returns the keys of an execution's recorded steps, in their order."""
    events = runner.events(result.execution_id)
    return [event.data["key"] for event in events if event.type == "step_recorded"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_t2_recorded_steps_return_their_values_without_a_call(runner, kind):
    calls, seen = [], []

    def call(name):
        calls.append(name)
        return {"name": name, "n": len(calls)}

    async def call_async(name):
        await asyncio.sleep(0)
        return call(name)

    with cloaca.WorkflowBuilder("agent"):
        if kind == "sync":

            @cloaca.task(retry=NO_DELAY)
            def turn(context, handle):
                first = handle.step("a", call, "a")
                second = handle.step("b", call, "b")
                seen.append((first, second))
                if handle.attempt < 3:
                    raise ValueError("again")
                context["out"] = [first, second]
        else:

            @cloaca.task(id="turn", retry=NO_DELAY)
            async def turn_async(context, handle):
                first = await handle.step("a", call_async, "a")
                second = await handle.step("b", call, "b")
                seen.append((first, second))
                if handle.attempt < 3:
                    raise ValueError("again")
                context["out"] = [first, second]

    result = runner.execute("agent").raise_for_status()
    assert calls == ["a", "b"]
    assert seen == [({"name": "a", "n": 1}, {"name": "b", "n": 2})] * 3
    assert result.final_context["out"] == [{"name": "a", "n": 1}, {"name": "b", "n": 2}]
    assert recorded(result, runner) == ["a", "b"]


def test_t1_repeated_key_is_numbered(runner):
    with cloaca.WorkflowBuilder("numbered"):

        @cloaca.task(retry=NO_DELAY)
        def again(context, handle):
            context["out"] = [handle.step("x", lambda n=n: n) for n in range(3)]
            if handle.attempt == 1:
                raise ValueError("again")

    result = runner.execute("numbered").raise_for_status()
    assert result.final_context["out"] == [0, 1, 2]
    assert recorded(result, runner) == ["x", "x#2", "x#3"]


def test_t1_concurrent_steps_are_numbered_in_order_of_calls(runner):
    ran = []

    async def number(n):
        await asyncio.sleep(0.02 - n / 100)
        ran.append(n)
        return n

    with cloaca.WorkflowBuilder("gathered"):

        @cloaca.task(retry=NO_DELAY)
        async def gather(context, handle):
            steps = [handle.step("x", number, n) for n in range(2)]
            context["out"] = await asyncio.gather(*steps)
            if handle.attempt == 1:
                raise ValueError("again")

    result = runner.execute("gathered").raise_for_status()
    assert sorted(ran) == [0, 1]
    assert result.final_context["out"] == [0, 1]


def test_t1_step_called_before_the_log_is_read_is_not_repeated(runner):
    ran = []

    with cloaca.WorkflowBuilder("called_first"):

        @cloaca.task(retry=NO_DELAY)
        async def call_first(context, handle):
            steps = [handle.step(key, ran.append, key) for key in "ab"]
            # In the second attempt, the first of these awaits reads the recorded steps.
            for step in steps:
                await step
            if handle.attempt == 1:
                raise ValueError("again")

    runner.execute("called_first").raise_for_status()
    assert ran == ["a", "b"]


def test_t1_step_cancelled_during_the_read_cancels_no_other_step(runner):
    ran = []

    with cloaca.WorkflowBuilder("cancelled_early"):

        @cloaca.task
        async def cancel_first(context, handle):
            steps = [asyncio.ensure_future(handle.step(key, ran.append, key)) for key in "abc"]
            await asyncio.sleep(0)  # the steps now wait for the answer with the recorded steps
            steps[0].cancel()
            await asyncio.gather(*steps, return_exceptions=True)
            context["ends"] = [step.cancelled() for step in steps]

    result = runner.execute("cancelled_early").raise_for_status()
    assert sorted(ran) == ["b", "c"]
    assert result.final_context["ends"] == [True, False, False]


def test_t1_further_attempt_reads_recorded_steps_before_its_first_call(runner):
    with cloaca.WorkflowBuilder("read_early"):

        @cloaca.task(retry=NO_DELAY)
        async def read_early(context, handle):
            steps = [asyncio.ensure_future(handle.step(key, str.upper, key)) for key in "abc"]
            await asyncio.sleep(0)
            context["read"] = sum(step.done() for step in steps)
            context["out"] = await asyncio.gather(*steps)
            if handle.attempt == 1:
                raise ValueError("again")

    result = runner.execute("read_early").raise_for_status()
    assert result.final_context["read"] == 3
    assert result.final_context["out"] == ["A", "B", "C"]


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, -(2**70), 1e16, -0.0, 0.1, "", 'a"\\\n\0é', [], {}, ["x", {"y": None}]),
        *((1, 2), Plan("x", [1]), json.loads("[" * 101 + "]" * 101)),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_t4_recorded_value_is_the_returned_value(runner, value):
    seen = []

    with cloaca.WorkflowBuilder("values"):

        @cloaca.task(retry=NO_DELAY)
        def values(context, handle):
            seen.append(handle.step("x", lambda: value))
            if handle.attempt == 1:
                raise ValueError("again")

    runner.execute("values").raise_for_status()
    assert repr(seen[0]) == repr(seen[1])
    assert type(seen[0]) is type(seen[1])


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, "\ud800", {1: 2}, object()], ids=lambda value: ascii(value)[:9]
)
def test_t4_value_that_is_not_json_is_not_recorded(runner, value):
    with cloaca.WorkflowBuilder("not_json"):

        @cloaca.task(retry_attempts=1)
        def only(context, handle):
            handle.step("x", lambda: value)

    result = runner.execute("not_json")
    assert "step 'x'" in str(result.error)
    assert recorded(result, runner) == []


def test_t3_step_that_raises_records_nothing(runner):
    calls = []

    def flaky():
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionError("down")
        return "up"

    with cloaca.WorkflowBuilder("raises"):

        @cloaca.task(retry=NO_DELAY)
        def task(context, handle):
            handle.step("before", lambda: 1)
            context["out"] = handle.step("flaky", flaky)

    result = runner.execute("raises").raise_for_status()
    assert result.tasks["task"].attempts == 3
    assert recorded(result, runner) == ["before", "flaky"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_t3_retry_of_a_step_runs_within_the_attempt(runner, kind):
    calls = []

    def flaky():
        calls.append(1)
        if len(calls) < 3:
            raise ConnectionError("down")
        return "up"

    with cloaca.WorkflowBuilder("in_place"):
        if kind == "sync":

            @cloaca.task(retry_attempts=1)
            def task(context, handle):
                context["out"] = handle.step("flaky", flaky, retry=NO_DELAY)
        else:

            @cloaca.task(id="task", retry_attempts=1)
            async def task_async(context, handle):
                context["out"] = await handle.step("flaky", flaky, retry=NO_DELAY)

    result = runner.execute("in_place").raise_for_status()
    assert result.final_context["out"] == "up"
    assert result.tasks["task"].attempts == 1
    assert len(calls) == 3


def test_t3_abort_in_a_step_is_not_retried(runner):
    calls = []

    def give_up():
        calls.append(1)
        raise cloaca.Abort("the customer does not exist")

    with cloaca.WorkflowBuilder("aborts"):

        @cloaca.task(retry=NO_DELAY)
        def task(context, handle):
            handle.step("x", give_up, retry=NO_DELAY)

    assert runner.execute("aborts").status == "Failed"
    assert calls == [1]


def test_t4_value_is_decoded_by_return_annotation_or_type(runner):
    seen = []

    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task(retry=NO_DELAY)
        def typed(context, handle):
            plan = handle.step("plan", make_plan, "why?")
            items = handle.step("items", lambda: (3, 1), type=list[int])
            raw = handle.step("raw", lambda: (3, {"k": 1.5}))
            seen.append((plan, items, raw))
            if handle.attempt == 1:
                raise ValueError("again")

    runner.execute("typed").raise_for_status()
    # The first attempt also gets decoded values, not the objects that the functions returned.
    assert seen == [(Plan("why?", [1, 2, 3]), [3, 1], [3, {"k": 1.5}])] * 2


def test_t4_value_of_another_type_is_refused_and_not_recorded(runner):
    def number() -> int:
        return "many"  # type: ignore[return-value]

    with cloaca.WorkflowBuilder("mistyped"):

        @cloaca.task(retry_attempts=1)
        def mistyped(context, handle):
            handle.step("n", number)

    result = runner.execute("mistyped")
    assert result.status == "Failed"
    assert "the value of step 'n' does not match its type" in result.error_message
    assert recorded(result, runner) == []


def test_t4_value_that_is_not_json_is_refused(runner):
    with cloaca.WorkflowBuilder("not_json"):

        @cloaca.task(retry_attempts=1)
        def refused(context, handle):
            handle.step("lock", threading.Lock)

    result = runner.execute("not_json")
    assert "step 'lock'" in result.error_message


def test_t6_retry_keeps_recorded_steps_unless_from_step_deletes_them(runner):
    calls, broken = [], [True]

    def call(name):
        calls.append(name)
        return name

    with cloaca.WorkflowBuilder("retried"):

        @cloaca.task(retry_attempts=1)
        def work(context, handle):
            for name in "abc":
                handle.step(name, call, name)
            if broken[0]:
                raise ValueError("broken")

    handle = runner.submit("retried")
    assert handle.result().status == "Failed"
    handle.retry()
    assert handle.result().status == "Failed"
    assert calls == ["a", "b", "c"]
    broken[0] = False
    handle.retry(from_step="b")
    assert handle.result().status == "Completed"
    assert calls == ["a", "b", "c", "b", "c"]
    handle.retry(from_task="work", from_step="c")
    handle.result().raise_for_status()
    assert calls[5:] == ["c"]
    handle.retry(from_task="work")
    handle.result().raise_for_status()
    assert calls[6:] == ["a", "b", "c"]
    with pytest.raises(cloaca.WorkflowError, match="no recorded step 'd'"):
        handle.retry(from_step="d")


def test_t7_events_have_key_duration_and_value(runner):
    with cloaca.WorkflowBuilder("seen"):

        @cloaca.task
        def seen(context, handle):
            handle.step("plan", lambda: {"rows": [1]})

    result = runner.execute("seen").raise_for_status()
    (event,) = [e for e in runner.events(result.execution_id) if e.type == "step_recorded"]
    assert event.task_id == "seen"
    assert event.attempt == 1
    assert event.data["value"] == {"rows": [1]}
    assert event.data["kind"] == "step"
    assert event.data["duration_us"] >= 0


def test_t9_too_many_bytes_of_steps_fail_the_task_without_retry(runner):
    with cloaca.WorkflowBuilder("large"):

        @cloaca.task(retry=NO_DELAY, max_context_bytes=1000)
        def large(context, handle):
            for n in range(10):
                handle.step(f"s{n}", lambda: "x" * 300)

    result = runner.execute("large")
    assert result.status == "Failed"
    assert result.tasks["large"].attempts == 1
    assert "more than max_context_bytes 1000" in result.error_message
    assert recorded(result, runner) == ["s0", "s1", "s2"]


def test_task_without_steps_has_no_events_of_steps(runner):
    with cloaca.WorkflowBuilder("plain"):

        @cloaca.task
        def plain(context, handle):
            context["n"] = handle.attempt

    result = runner.execute("plain").raise_for_status()
    assert recorded(result, runner) == []


@pytest.mark.parametrize("key", ["", "a\0b", "x" * 501, "\ud800", 7, None])
def test_invalid_keys_are_refused(key):
    def task(context, handle):
        handle.step(key, print)

    with pytest.raises(cloaca.TaskValidationError, match="the key of a step"):
        run_task(task)


def test_step_refuses_anything_but_a_function():
    def task(context, handle):
        handle.step("a", 7)

    with pytest.raises(cloaca.TaskValidationError, match="must be a function, not int"):
        run_task(task)


def test_plain_task_cannot_use_a_coroutine_function_as_a_step():
    async def answer():
        return 42

    def task(context, handle):
        handle.step("a", answer)

    with pytest.raises(cloaca.TaskValidationError, match="returned a coroutine"):
        run_task(task)


def test_step_without_a_runner_returns_the_value_decoded_from_json():
    def task(context, handle):
        context["out"] = [handle.step("a", lambda: (1, 2)), handle.step("a", make_plan, "q")]

    with pytest.raises(TypeError):
        run_task(lambda context, handle: handle.step("a", object))
    seen = run_task(task)["out"]
    assert seen[0] == [1, 2]

    async def task_async(context, handle):
        context["out"] = await handle.step("a", lambda: (1, 2))

    assert run_task(task_async)["out"] == [1, 2]


def test_arguments_of_any_name_reach_the_function(runner):
    def call(*args, key, function):
        return [*args, key, function]

    with cloaca.WorkflowBuilder("named"):

        @cloaca.task
        def named(context, handle):
            context["out"] = handle.step("s", call, 1, 2, key="k", function="f")

    assert runner.execute("named").final_context["out"] == [1, 2, "k", "f"]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_t8_cancelled_task_starts_no_further_step(runner, kind):
    entered, left = threading.Event(), threading.Event()
    calls = []

    def call(n):
        calls.append(n)
        entered.set()
        left.wait(30)

    with cloaca.WorkflowBuilder("cancelled"):
        if kind == "sync":

            @cloaca.task
            def loop(context, handle):
                for n in range(3):
                    try:
                        handle.step("x", call, n)
                    except Exception:
                        continue
        else:

            @cloaca.task(id="loop")
            async def loop_async(context, handle):
                for n in range(3):
                    try:
                        await handle.step("x", asyncio.to_thread, call, n)
                    except Exception:
                        continue

    handle = runner.submit("cancelled")
    assert entered.wait(30)
    handle.cancel()
    left.set()
    assert handle.result().status == "Cancelled"
    assert calls == [0]
    assert recorded(handle.result(), runner) == []


def test_steps_of_many_concurrent_tasks_are_all_recorded(runner):
    with cloaca.WorkflowBuilder("many"):
        for number in range(20):

            async def work(context, handle, number=number):
                for n in range(10):
                    await handle.step(f"s{n}", lambda n=n: n * number)
                context[f"t{number}"] = number

            cloaca.task(id=f"t{number}")(work)

    result = runner.execute("many").raise_for_status()
    assert len(recorded(result, runner)) == 200


@pytest.mark.parametrize("policy", [3, {"max_attempts": 3}, cloaca.RetryPolicy])
def test_t3_retry_of_a_step_must_be_a_policy(runner, policy):
    calls = []

    @cloaca.workflow(retry_attempts=1)
    def work(handle):
        handle.step("flaky", calls.append, 1, retry=policy)

    result = runner.execute("work")
    assert result.error.type == "TaskValidationError"
    assert "step 'flaky' of task 'work': retry must be a RetryPolicy, not " in result.error.message
    assert calls == []
