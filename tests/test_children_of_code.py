"""Executions that a task's code runs with `handle.run` or starts with `handle.start`.

The rules are T5, T10 and M of the semantics.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import signal
import textwrap
import threading
import time
import uuid
from pathlib import Path

import pytest

import cloaca
from processes import PREAMBLE, Ledger
from waiting_support import wait_until


def children_of(runner, name: str):
    every = runner.list_executions(children=True)
    return [one for one in every if one.workflow_name == name]


def define_double():
    with cloaca.WorkflowBuilder("double", input={"n": int}, output="result"):

        @cloaca.task
        def result(n: int) -> int:
            return 2 * n


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("call", ["run", "run_many", "start"])
def test_t10_invalid_input_of_a_child_is_not_retried(runner, call, is_async):
    define_double()
    given = [{"n": "two"}] if call == "run_many" else {"n": "two"}
    attempts = []
    with cloaca.WorkflowBuilder("outer"):
        if is_async:

            @cloaca.task(id="parent", retry_attempts=3, retry_delay_ms=1)
            async def parent(handle: cloaca.TaskHandle) -> None:
                attempts.append(handle.attempt)
                await getattr(handle, call)("twice", "double", given)

        else:

            @cloaca.task(id="parent", retry_attempts=3, retry_delay_ms=1)
            def parent(handle: cloaca.TaskHandle) -> None:
                attempts.append(handle.attempt)
                getattr(handle, call)("twice", "double", given)

    result = runner.submit("outer").result(timeout=30)
    error = result.tasks["parent"].error
    assert error is not None
    assert (error.type.rpartition(".")[2], attempts) == ("WorkflowInputError", [1])
    assert children_of(runner, "double") == []


def test_t10_run_parks_the_task_and_returns_the_output(runner):
    define_double()
    starts, recorded = [], []

    @cloaca.workflow
    def outer(n: int, handle: cloaca.TaskHandle) -> int:
        starts.append(handle.attempt)
        recorded.append(handle.step("before", lambda: len(recorded)))
        return 1 + handle.run("twice", "double", {"n": n})

    handle = runner.submit("outer", {"n": 20})
    assert handle.result(timeout=30).output == 41
    assert starts == [1, 1]
    assert recorded == [0, 0]
    assert [one.workflow_name for one in runner.list_executions()] == ["outer"]
    events = {event.type: event.data for event in handle.events()}
    child = children_of(runner, "double")[0].execution_id
    assert events["child_started"]["child"] == child
    assert events["child_started"]["step"] == "twice"
    assert events["child_ended"]["status"] == "Completed"


def test_t10_run_takes_a_workflow_function_and_can_be_awaited(runner):
    @cloaca.workflow
    def inner(n: int = 4) -> int:
        return n + 1

    with cloaca.WorkflowBuilder("plain"):

        @cloaca.task
        def write(context):
            context["written"] = context["given"]

    @cloaca.workflow
    async def outer(handle: cloaca.TaskHandle) -> list:
        one = await handle.run("one", inner)
        two = await handle.run("two", inner, {"n": 7}, type=int)
        # A workflow without an output returns its final context.
        three = await handle.run("three", "plain", {"given": 1})
        return [one, two, three]

    result = runner.execute("outer")
    assert result.output == [5, 8, {"given": 1, "written": 1}]


@dataclasses.dataclass
class Point:
    """The output of a child."""

    x: int


def test_t10_output_of_a_child_is_decoded_by_its_annotation(runner):
    @cloaca.workflow
    async def locate(x: int) -> Point:
        return Point(x)

    @cloaca.workflow
    def nothing() -> None:
        pass

    @cloaca.workflow
    def untyped(x: int):
        return {"x": x}

    with cloaca.WorkflowBuilder("found", output="point") as builder:

        @cloaca.task
        def point() -> Point:
            return Point(5)

    found, seen = builder.build(), []

    @cloaca.workflow
    def outer(handle: cloaca.TaskHandle) -> int:
        seen.clear()
        seen.append(handle.run("one", locate, {"x": 1}))
        seen.append(handle.run_many("many", locate, [{"x": 2}, {"x": 3}]))
        seen.append(handle.run("found", found))
        seen.append(handle.run("typed", locate, {"x": 4}, type=dict))
        seen.append(handle.run("name", "locate", {"x": 5}))
        seen.append(handle.run("untyped", untyped, {"x": 6}))
        seen.append(handle.run("nothing", nothing))
        return len(seen)

    assert runner.execute("outer").raise_for_status().output == 7
    assert seen[:3] == [Point(1), [Point(2), Point(3)], Point(5)]
    assert seen[3:] == [{"x": 4}, {"x": 5}, {"x": 6}, None]


def test_t10_run_many_keeps_the_order_and_respects_parallel(runner):
    running, most, lock = set(), [], threading.Lock()

    @cloaca.workflow
    def page(number: int) -> str:
        with lock:
            running.add(number)
            most.append(len(running))
        time.sleep(0.02 * (3 - number % 3))
        with lock:
            running.remove(number)
        return f"page-{number}"

    @cloaca.workflow
    def book(handle: cloaca.TaskHandle) -> list:
        inputs = [{"number": number} for number in range(9)]
        assert handle.run_many("none", page, []) == []
        return handle.run_many("pages", page, inputs, parallel=2)

    handle = runner.submit("book")
    assert handle.result(timeout=60).output == [f"page-{number}" for number in range(9)]
    assert max(most) == 2
    assert len(children_of(runner, "page")) == 9
    keys = [event.data["key"] for event in handle.events() if event.type == "step_recorded"]
    assert keys == ["none", "pages"]


def test_m5_failure_of_a_child_stays_recorded_until_retry_execution(runner):
    broken, attempts, told = threading.Event(), [], []
    broken.set()

    @cloaca.workflow(retry_attempts=1)
    def fragile() -> str:
        if broken.is_set():
            raise ValueError("no paper")
        return "printed"

    @cloaca.workflow(retry_attempts=3, retry_delay_ms=1)
    def outer(handle: cloaca.TaskHandle) -> str:
        attempts.append(handle.attempt)
        try:
            return handle.run("print", fragile)
        except cloaca.ChildFailedError as error:
            told.append((error.child_id, error.status, error.error_type, error.error_message))
            told.append(error.error)
            raise

    handle = runner.submit("outer")
    result = handle.result(timeout=30)
    assert result.status == "Failed"
    assert result.error.type == "ChildFailedError"
    child = children_of(runner, "fragile")[0].execution_id
    told_error = cloaca.ErrorInfo("ValueError", "no paper")
    assert told == [(child, "Failed", "ValueError", "no paper"), told_error]
    assert "no paper" in result.error.message
    # The function runs twice in the first attempt: before and after the child. There is no second
    # attempt, because it would get the same recorded failure.
    assert attempts == [1, 1]
    broken.clear()
    runner.retry_execution(handle.id)
    assert handle.result(timeout=30).output == "printed"
    # The failed child itself was retried: it has the same id (M6).
    assert len(children_of(runner, "fragile")) == 1


def test_m6_retry_runs_only_the_failed_children_of_run_many(runner):
    broken, calls = threading.Event(), []
    broken.set()

    @cloaca.workflow(retry_attempts=1)
    def part(n: int) -> int:
        calls.append(n)
        if n in (1, 3) and broken.is_set():
            raise ValueError(f"part {n}")
        return n * 10

    @cloaca.workflow(retry_attempts=1)
    def whole(handle: cloaca.TaskHandle) -> list:
        return handle.run_many("parts", "part", [{"n": n} for n in range(5)], parallel=2)

    handle = runner.submit("whole")
    result = handle.result(timeout=30)
    assert "part 1" in result.error.message
    assert sorted(calls) == [0, 1, 2, 3, 4]
    broken.clear()
    runner.retry_execution(handle.id)
    assert handle.result(timeout=30).output == [0, 10, 20, 30, 40]
    assert sorted(calls) == [0, 1, 1, 2, 3, 3, 4]
    assert len(children_of(runner, "part")) == 5
    # `from_step` deletes the step, so all its children run again as new executions (T6).
    runner.retry_execution(handle.id, from_step="parts")
    assert handle.result(timeout=30).output == [0, 10, 20, 30, 40]
    assert len(children_of(runner, "part")) == 10


def test_t6_from_step_starts_a_new_child(runner):
    define_double()

    @cloaca.workflow
    def outer(handle: cloaca.TaskHandle) -> int:
        return handle.run("a", "double", {"n": 1}) + handle.run("b", "double", {"n": 2})

    handle = runner.submit("outer")
    assert handle.result(timeout=30).output == 6
    runner.retry_execution(handle.id, from_step="b")
    assert handle.result(timeout=30).output == 6
    assert len(children_of(runner, "double")) == 3


def test_t10_start_takes_effect_only_if_the_attempt_completes(runner):
    @cloaca.workflow
    def audit(order: int = 0) -> int:
        return order

    @cloaca.workflow(retry_attempts=2, retry_delay_ms=1)
    def outer(handle: cloaca.TaskHandle) -> str:
        handle.start("audit", audit, {"order": handle.attempt})
        handle.start("audit", {"order": 10})
        if handle.attempt == 1:
            raise ValueError("once more")
        return "done"

    @cloaca.workflow
    async def outer_async(handle: cloaca.TaskHandle) -> str:
        await handle.start("first", "audit", {"order": 20})
        return "done"

    handle = runner.submit("outer")
    assert handle.result(timeout=30).output == "done"
    assert runner.execute("outer_async").output == "done"
    roots = [one for one in runner.list_executions() if one.workflow_name == "audit"]
    outputs = [output_once_completed(runner, one.execution_id) for one in roots]
    assert sorted(outputs) == [2, 10, 20]
    started = [event.data for event in handle.events() if event.type == "execution_started"]
    assert {event["step"] for event in started} == {"audit", "audit#2"}
    assert {event["execution"] for event in started} <= {one.execution_id for one in roots}


def output_once_completed(runner, execution_id: str):
    wait_until(lambda: runner.get_execution(execution_id).status == "Completed")
    return runner.get_execution(execution_id).output


def test_m4_cancel_reaches_the_children_of_code(runner):
    started, end = threading.Event(), threading.Event()

    @cloaca.workflow
    def slow(n: int) -> int:
        started.set()
        end.wait(30)
        return n

    @cloaca.workflow
    def outer(handle: cloaca.TaskHandle) -> list:
        return handle.run_many("slow", slow, [{"n": 0}, {"n": 1}])

    handle = runner.submit("outer")
    assert started.wait(30)
    assert handle.cancel()
    wait_until(lambda: all(one.status == "Cancelled" for one in children_of(runner, "slow")))
    end.set()


def test_t10_retry_after_a_cancelled_child_starts_another_child(runner):
    started, end = threading.Event(), threading.Event()

    @cloaca.workflow
    def slow() -> int:
        started.set()
        end.wait(30)
        return 1

    @cloaca.workflow(retry_attempts=1)
    def outer(handle: cloaca.TaskHandle) -> int:
        return handle.run("slow", slow)

    handle = runner.submit("outer")
    assert started.wait(30)
    [child] = children_of(runner, "slow")
    assert runner.cancel_execution(child.execution_id)
    result = handle.result(timeout=30)
    assert "was cancelled" in result.error.message
    end.set()
    runner.retry_execution(handle.id)
    assert handle.result(timeout=30).output == 1
    assert len(children_of(runner, "slow")) == 2


def test_m5_timeout_of_the_child_fails_the_call(runner):
    end = threading.Event()

    @cloaca.workflow
    def slow() -> None:
        end.wait(30)

    @cloaca.workflow(retry_attempts=1)
    def outer(handle: cloaca.TaskHandle) -> None:
        handle.run("slow", slow, timeout=0.1, priority=3)

    result = runner.execute("outer", timeout=30)
    assert "did not end within its timeout" in result.error.message
    end.set()


def test_m7_explain_names_the_unknown_workflow_a_call_waits_for(runner):
    # The names are unique, because this process knows the workflows of other tests.
    unique = uuid.uuid4().hex

    @cloaca.workflow
    def outer(handle: cloaca.TaskHandle) -> int:
        handle.start("audit", f"audit-{unique}", {})
        return handle.run("late", f"late-{unique}")

    def define(name: str, result: int) -> None:
        with cloaca.WorkflowBuilder(f"{name}-{unique}", output="value"):

            @cloaca.task
            def value(context):
                context["value"] = result

    def explained() -> str:
        return " ".join(str(reason) for reason in runner.explain(handle.id))

    handle = runner.submit("outer")
    wait_until(lambda: f"workflow 'late-{unique}'" in explained())
    define("late", 3)
    wait_until(lambda: f"workflow 'audit-{unique}'" in explained())
    assert not handle.done()
    define("audit", 4)
    assert handle.result(timeout=60).output == 3
    roots = [one.workflow_name for one in runner.list_executions()]
    assert sorted(roots) == [f"audit-{unique}", "outer"]


def test_m7_depth_of_children_is_bounded(runner):
    @cloaca.workflow(retry_attempts=1)
    def deeper(handle: cloaca.TaskHandle) -> int:
        return handle.run("next", "deeper")

    result = runner.execute("deeper", timeout=120)
    assert result.status == "Failed"
    assert len(children_of(runner, "deeper")) == 33


def test_m1_four_parents_share_one_worker(database):
    define_double()

    @cloaca.workflow
    def outer(n: int, handle: cloaca.TaskHandle) -> int:
        return sum(handle.run_many("all", "double", [{"n": n}, {"n": n + 1}]))

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        handles = [runner.submit("outer", {"n": n}) for n in range(4)]
        assert [one.result(timeout=60).output for one in handles] == [2, 6, 10, 14]


def test_m4_pause_of_the_parent_pauses_its_children(runner):
    @cloaca.workflow
    def two_steps(handle: cloaca.TaskHandle) -> int:
        handle.wait("go", cloaca.signal("go"))
        return 1

    @cloaca.workflow
    def outer(handle: cloaca.TaskHandle) -> int:
        return handle.run("child", two_steps)

    handle = runner.submit("outer")
    [child] = wait_until(lambda: children_of(runner, "two_steps"))
    handle.pause()
    wait_until(lambda: runner.get_execution(child.execution_id).status == "Paused")
    handle.resume()
    wait_until(lambda: runner.get_execution(child.execution_id).status != "Paused")
    runner.send("go")
    assert handle.result(timeout=30).output == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda handle: handle.run("", "double"), "the key of a step"),
        (lambda handle: handle.run("a", 7), "must name a workflow, not 7"),
        (lambda handle: handle.run("a", len), "must name a workflow, not <built-in"),
        (lambda handle: handle.run("a", lambda: 1), "must name a workflow, not <function"),
        (lambda handle: handle.run("a", define_double), "must name a workflow, not <function"),
        (lambda handle: handle.run_many("a", dict, [{}]), "must name a workflow, not <class"),
        (lambda handle: handle.start("a", len), "must name a workflow, not <built-in"),
        (lambda handle: handle.run("a", Path("x")), "must name a workflow, not "),
        (lambda handle: handle.run("a", "no\0pe"), "cannot be the name of a workflow"),
        (lambda handle: handle.run("a", "x" * 256), "cannot be the name of a workflow"),
        (lambda handle: handle.start("a", "two words"), "cannot be the name of a workflow"),
        (lambda handle: handle.run("a", "double", [1]), "mapping"),
        (lambda handle: handle.run_many("a", "double", [{"n": 1}], parallel=0), "parallel must be"),
        (lambda handle: handle.run("a", "double", {"n": "x"}), "double"),
        (lambda handle: handle.run("a", "double", {"n": 1}, timeout="soon"), "timeout"),
        (lambda handle: handle.run("a", "double", {"n": 1}, priority=1.5), "priority must be"),
    ],
)
def test_t10_invalid_call_fails_the_task(call, message, tmp_path):
    define_double()

    @cloaca.workflow(retry_attempts=1)
    def outer(handle: cloaca.TaskHandle) -> object:
        return call(handle)

    with cloaca.DefaultRunner(f"sqlite:///{tmp_path / 'a.db'}") as runner:
        result = runner.execute("outer")
    assert message in result.error.message


def test_t10_function_of_a_task_is_not_a_workflow(tmp_path):
    with cloaca.WorkflowBuilder("tasks"):

        @cloaca.task
        def double(n: int) -> int:
            return 2 * n

    @cloaca.workflow(retry_attempts=1)
    def outer(handle: cloaca.TaskHandle) -> object:
        return handle.run("a", double, {"n": 1})

    with cloaca.DefaultRunner(f"sqlite:///{tmp_path / 'a.db'}") as runner:
        result = runner.submit("outer").result(timeout=60)
    assert "must name a workflow, not <function" in result.error.message


def test_t10_run_takes_a_workflow_a_builder_and_wrapped_functions(runner):
    with cloaca.WorkflowBuilder("plain") as builder:

        @cloaca.task
        def write(context):
            context["written"] = 1

    class Steps:
        def inner(self, n: int) -> int:
            return n

    @cloaca.workflow
    def plus(left: int, right: int = 1) -> int:
        return left + right

    @functools.wraps(plus)
    def wrapped(*args, **kwargs):
        return plus(*args, **kwargs)

    method = Steps().inner
    cloaca.workflow(method)

    @cloaca.workflow
    def outer(handle: cloaca.TaskHandle) -> list:
        one = handle.run("one", builder)
        two = handle.run("two", builder.build())
        three = handle.run("three", method, {"n": 3})
        return [one, two, three, handle.run("four", wrapped, {"left": 3})]

    written = {"written": 1}
    assert runner.execute("outer").output == [written, written, 3, 4]


def test_t10_run_without_a_runner_is_refused():
    from cloaca.testing import run_task

    @cloaca.task
    def alone(context, handle):
        handle.start("free", "double", {"n": 1})
        handle.run("a", "double", {"n": 1})

    with pytest.raises(cloaca.TaskValidationError, match="without a runner"):
        run_task(alone, {})


CRASH = PREAMBLE + textwrap.dedent(
    """
    import signal

    database, victim = sys.argv[1:]

    def die(moment):
        if victim == moment:
            os.kill(os.getpid(), signal.SIGKILL)

    @cloaca.workflow
    def child(n: int) -> int:
        note("ran", n)
        die(f"child-{n}")
        return n

    @cloaca.workflow
    def audit() -> int:
        note("audited", 1)
        return 1

    @cloaca.workflow
    def outer(handle: cloaca.TaskHandle) -> list:
        die("top")
        one = handle.run("one", child, {"n": 0})
        die("after-one")
        many = handle.run_many("many", child, [{"n": n} for n in range(1, 4)], parallel=2)
        die("after-many")
        handle.start("audit", audit)
        die("after-start")
        return [one, *many]

    with cloaca.DefaultRunner(database) as runner:
        print(runner.submit("outer", key="only").result(timeout=60).output)
    """
)

MOMENTS = ["top", "child-0", "after-one", "child-2", "after-many", "after-start"]


def test_m2_kill_9_at_every_moment_starts_each_child_once(database, script, tmp_path):
    for moment in MOMENTS:
        first = script(CRASH, database, moment)
        first.communicate(timeout=60)
        assert first.returncode == -signal.SIGKILL, moment
    last = script(CRASH, database, "")
    output, _ = last.communicate(timeout=90)
    assert output == "[0, 1, 2, 3]\n"
    ran = [n for (n,) in Ledger(tmp_path).lines("ran")]
    # A killed child runs again under its id. No child is started twice.
    assert sorted(set(ran)) == ["0", "1", "2", "3"]
    with cloaca.DefaultRunner(database) as runner:
        assert len(children_of(runner, "child")) == 4
        roots = [one for one in runner.list_executions() if one.workflow_name == "audit"]
        assert len(roots) == 1


def test_t5_error_names_the_run_call_whose_exception_was_caught(runner):
    define_double()

    @cloaca.workflow(retry_attempts=1)
    def outer(handle: cloaca.TaskHandle) -> int:
        try:
            return handle.run("a", "double", {"n": 1})
        except BaseException:
            return 0

    result = runner.execute("outer")
    assert "handle.run('a')" in result.error.message


def test_t10_concurrent_step_is_recorded_before_the_task_parks(runner):
    define_double()
    calls = []

    @cloaca.workflow
    async def outer(handle: cloaca.TaskHandle) -> list:
        async def slow():
            calls.append(1)
            await asyncio.sleep(0.05)
            return 5

        return list(
            await asyncio.gather(
                handle.step("slow", slow, type=int), handle.run("a", "double", {"n": 1})
            )
        )

    assert runner.execute("outer").output == [5, 2]
    assert calls == [1]


def test_m8_children_are_listed_in_the_order_of_their_starts(runner):
    define_double()
    with cloaca.WorkflowBuilder("family"):
        cloaca.child("node", workflow="double", input={"n": "n"})

        @cloaca.task(dependencies=["node"])
        def code(context, handle):
            inputs = [{"n": 2}, {"n": 3}]
            context["many"] = handle.run_many("many", "double", inputs, parallel=1)

    handle = runner.submit("family", {"n": 1})
    assert handle.result(timeout=30).final_context["many"] == [4, 6]
    children = runner.children(handle.id)
    assert [child.output for child in children] == [2, 4, 6]
    assert {child.workflow_name for child in children} == {"double"}
    assert runner.children(children[0].execution_id) == []
    with pytest.raises(cloaca.WorkflowNotFoundError):
        runner.children("00000000-0000-0000-0000-000000000000")


def test_m8_show_tree_prints_all_children(tmp_path):
    import json
    import subprocess
    import sys

    url = f"sqlite:///{tmp_path / 'tree.db'}"
    define_double()

    @cloaca.workflow
    def outer(handle: cloaca.TaskHandle) -> list:
        return handle.run_many("pages", "double", [{"n": 1}, {"n": 2}])

    with cloaca.DefaultRunner(url) as runner:
        id = runner.execute("outer").execution_id
        children = [child.execution_id for child in runner.children(id)]

    def show(*more: str) -> str:
        command = [sys.executable, "-m", "cloaca", "show", id, "--tree", "-c", url, *more]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    lines = show().splitlines()
    assert lines[0] == f"outer  {id}  Completed"
    assert lines[1].endswith(f"outer.pages[0]: double  {children[0]}  Completed")
    assert len(lines) == 3
    document = json.loads(show("--json"))
    assert [one["execution_id"] for one in document["children"]] == children
    assert document["children"][1]["started_by"] == "outer.pages[1]"
