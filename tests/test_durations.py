"""Every option that is a duration takes seconds, a timedelta or a string such as `"90s"`.

A *place* is a function that sets one such option. It returns the duration that took effect, in
seconds, or `None` if the option has no visible effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import click
import pytest

import cloaca
from cloaca import testing
from cloaca._cli._filters import span_option
from cloaca._workflows.registry import registry
from cloaca.testing import VirtualRunner

FORMS = [90, 90.0, timedelta(seconds=90), "90s", " 1.5 m ", "90000ms"]
WRONG = [
    *("soon", "", "-1s", "nan", "inf", "90", "1h30m", "s", "1e3s"),
    *(math.nan, -1, -0.5, timedelta(seconds=-1)),
    *([90], True),
]


@pytest.fixture(scope="module")
def runner() -> Iterator[VirtualRunner]:
    """One runner on a virtual clock for all places."""
    with VirtualRunner() as running:
        yield running


def built(define: Callable[[], object]) -> dict[str, Any]:
    """Returns the definition of the task that `define` adds, as the engine stores it."""
    with cloaca.WorkflowBuilder("durations") as builder:
        cloaca.task(id="first")(lambda context: None)
        define()
    return list(builder.build()._definitions.values())[-1].to_definition()


def of_task(*path: str, **options: Any) -> float:
    """Returns a duration in the definition of a task that takes the context."""
    return read(built(lambda: cloaca.task(id="x", **options)(lambda context: None)), *path)


def of_external(*path: str, **options: Any) -> float:
    return read(built(lambda: cloaca.external_task("x", **options)), *path)


def of_workflow(*path: str, **options: Any) -> float:
    @cloaca.workflow(**options)
    def durations_of_function(handle):
        return None

    workflow = registry.workflow("durations_of_function")
    assert workflow is not None
    (task,) = workflow._definitions.values()
    return read(task.to_definition(), *path)


def of_child(*path: str, **options: Any) -> float:
    return read(built(lambda: cloaca.child("x", workflow="w", **options)), *path)


def of_wait(**options: Any) -> float:
    signal = cloaca.signal("durations")
    return read(built(lambda: cloaca.wait("x", wait_for=signal, **options)), "wait_timeout")


def of_approval(**options: Any) -> float:
    return read(built(lambda: cloaca.approval("x", **options)), "wait_timeout")


def read(definition: dict[str, Any], *path: str) -> float:
    found: Any = definition
    for name in path:
        found = found[name]
    return float(found) / 1_000_000


def in_task(runner: VirtualRunner, call: Callable[[Any], object]) -> float:
    """Calls a method of the handle in a task, and returns the duration of the execution."""
    refused: list[ValueError] = []

    @cloaca.workflow
    def durations_in_task(handle):
        try:
            call(handle)
        except cloaca.WaitTimeoutError:
            pass
        except ValueError as error:
            refused.append(error)

    result = runner.execute("durations_in_task")
    if refused:
        raise refused[0]
    assert result.duration is not None
    return result.duration.total_seconds()


def poll(handle: Any, interval: Any) -> None:
    answers = [False, True]
    handle.defer_until(lambda: answers.pop(0), poll_interval_ms=interval)


def raising(runner: VirtualRunner, make: Callable[[], BaseException]) -> float:
    """Raises a control exception in the first attempt; returns the delay of the next attempt."""
    made: list[BaseException] = []
    with cloaca.WorkflowBuilder("durations_raised"):

        @cloaca.task(timeout=math.inf)
        def work(context):
            if not made:
                made.append(make())
                raise made[0]

    make()  # If the exception refuses the value, the error is raised here and not in the task.
    result = runner.execute("durations_raised")
    assert result.tasks["work"].started_at is not None
    assert result.started_at is not None
    return (result.tasks["work"].started_at - result.started_at).total_seconds()


def sleeping() -> None:
    """Defines a workflow that sleeps for an hour."""

    @cloaca.workflow
    def durations_asleep(handle):
        handle.sleep("hour", 3600)


def start_of(runner: VirtualRunner, submit: Callable[[], Any]) -> float:
    """Submits a workflow with a delay; returns the time until its first task started."""
    sleeping()
    now = runner.now()
    result = submit()
    result = result.result() if isinstance(result, cloaca.WorkflowHandle) else result
    assert result.started_at is not None
    return round(result.started_at.timestamp() - now, 3)


def end_of(runner: VirtualRunner, submit: Callable[[], Any]) -> float:
    """Submits a workflow with a timeout; returns the time until the execution ended."""
    sleeping()
    result = submit()
    result = result.result() if isinstance(result, cloaca.WorkflowHandle) else result
    assert result.error.type == "WorkflowTimeoutError"
    return round(result.duration.total_seconds(), 3)


NAME = "durations_asleep"


def many(runner: VirtualRunner, **options: Any) -> cloaca.WorkflowHandle:
    (handle,) = runner.submit_many([{"workflow": NAME, **options}])
    return handle


def many_async(runner: VirtualRunner, **options: Any) -> cloaca.WorkflowHandle:
    (handle,) = asyncio.run(runner.submit_many_async([{"workflow": NAME, **options}]))
    return handle


def run_async(runner: VirtualRunner, method: str, **options: Any) -> Any:
    return asyncio.run(getattr(runner, method)(NAME, **options))


def waited(runner: VirtualRunner, wait: Callable[[cloaca.WorkflowHandle], object]) -> float:
    """Waits for an execution that sleeps for an hour; returns the timeout that the error names."""
    sleeping()
    handle = runner.submit(NAME)
    try:
        with pytest.raises(cloaca.WaitTimeoutError) as caught:
            wait(handle)
        return float(str(caught.value).partition(" within ")[2].split()[0])
    finally:
        handle.cancel()


def rescheduled(runner: VirtualRunner, after: Any) -> float:
    sleeping()
    now = runner.now()
    handle = runner.submit(NAME)
    runner.advance(0)
    try:
        runner.reschedule(handle, NAME, after=after)
    except ValueError:
        handle.cancel()
        raise
    handle.result()
    return round(runner.now() - now, 3)


def pruned(runner: VirtualRunner, older_than: Any) -> float:
    with cloaca.WorkflowBuilder("durations_pruned"):
        cloaca.task(id="x")(lambda context: None)
    handle = runner.submit("durations_pruned")
    handle.result()
    runner.advance(89)
    runner.prune(older_than=older_than)
    assert len(runner.list_executions(workflow="durations_pruned").items) == 1
    runner.advance(2)
    runner.prune(older_than=older_than)
    assert not runner.list_executions(workflow="durations_pruned").items
    return 90


def advanced(runner: VirtualRunner, seconds: Any) -> float:
    now = runner.now()
    runner.advance(seconds)
    return round(runner.now() - now, 3)


def polled(runner: VirtualRunner, interval: Any) -> float:
    @cloaca.trigger(name="durations", on=NAME, poll_interval=interval)
    def never(): ...

    try:
        found = runner.get_trigger_schedule("durations")
        # The runner stores a trigger when it registers the trigger. If the trigger is not stored,
        # this function reads the definition.
        return float(found["poll_interval"]) if found else registry_interval("durations")
    finally:
        registry._trigger_revisions.pop("durations", None)


def registry_interval(name: str) -> float:
    return float(registry.trigger(name).interval_us) / 1_000_000


def jittered(runner: VirtualRunner, jitter: Any) -> float:
    id = runner.register_cron_workflow(NAME, "0 0 1 1 *", jitter_seconds=jitter)
    try:
        return float(runner.get_cron_schedule(id)["jitter_seconds"])
    finally:
        runner.delete_cron_schedule(id)


def ended(make: Callable[[], cloaca.DefaultRunner], timeout: Any) -> None:
    stopped = make()
    try:
        stopped.shutdown(timeout=timeout)
    finally:
        stopped.shutdown(timeout=0)


def of_command_line(value: Any) -> float | None:
    """Reads a value as a command's duration option does: from a string. A number means seconds."""
    text = f"{value.total_seconds()}" if isinstance(value, timedelta) else str(value)
    try:
        return span_option(None, None, text)  # type: ignore[arg-type]
    except click.BadParameter as error:
        raise ValueError(f"--timeout: {error.message}") from None


def end_of_children(runner: VirtualRunner, call: Callable[[Any], object]) -> float:
    """Runs a child that sleeps for an hour, and returns the time after which the parent ended."""
    sleeping()

    def run(handle: Any) -> None:
        with contextlib.suppress(cloaca.ChildFailedError):
            call(handle)

    return in_task(runner, run)


DELAY, MAX_DELAY = ("retry", "initial_delay"), ("retry", "max_delay")
#: The places, by the names of the function or method and of its argument. A place is called with
#: the runner and the value. If the name ends with `_ms`, numbers are in milliseconds.
PLACES: dict[str, Callable[[Any, Any], float | None]] = {
    "task.timeout": lambda _, v: of_task("timeout", timeout=v),
    "task.timeout_seconds": lambda _, v: of_task("timeout", timeout_seconds=v),
    "task.wait_timeout": lambda _, v: of_task(
        "wait_timeout", wait_for=cloaca.signal("durations"), wait_timeout=v
    ),
    "task.retry_delay_ms": lambda _, v: of_task(*DELAY, retry_delay_ms=v),
    "task.retry_max_delay_ms": lambda _, v: of_task(*MAX_DELAY, retry_max_delay_ms=v),
    "task.retry_policy.initial_delay": lambda _, v: of_task(
        *DELAY, retry_policy={"initial_delay": v}
    ),
    "task.retry_policy.max_delay": lambda _, v: of_task(*MAX_DELAY, retry_policy={"max_delay": v}),
    "task.retry_policy.initial_delay_ms": lambda _, v: of_task(
        *DELAY, retry_policy={"initial_delay_ms": v}
    ),
    "task.retry_policy.max_delay_ms": lambda _, v: of_task(
        *MAX_DELAY, retry_policy={"max_delay_ms": v}
    ),
    "external_task.timeout": lambda _, v: of_external("timeout", timeout=v),
    "external_task.timeout_seconds": lambda _, v: of_external("timeout", timeout_seconds=v),
    "external_task.retry_delay_ms": lambda _, v: of_external(*DELAY, retry_delay_ms=v),
    "external_task.retry_max_delay_ms": lambda _, v: of_external(*MAX_DELAY, retry_max_delay_ms=v),
    "workflow.timeout": lambda _, v: of_workflow("timeout", timeout=v),
    "workflow.timeout_seconds": lambda _, v: of_workflow("timeout", timeout_seconds=v),
    "workflow.wait_timeout": lambda _, v: of_workflow(
        "wait_timeout", wait_for=cloaca.signal("durations"), wait_timeout=v
    ),
    "workflow.retry_delay_ms": lambda _, v: of_workflow(*DELAY, retry_delay_ms=v),
    "workflow.retry_max_delay_ms": lambda _, v: of_workflow(*MAX_DELAY, retry_max_delay_ms=v),
    "child.timeout": lambda _, v: of_child("timeout", timeout=v),
    "child.retry_delay_ms": lambda _, v: of_child(*DELAY, retry_delay_ms=v),
    "child.retry_max_delay_ms": lambda _, v: of_child(*MAX_DELAY, retry_max_delay_ms=v),
    "wait.timeout": lambda _, v: of_wait(timeout=v),
    "wait.wait_timeout": lambda _, v: of_wait(wait_timeout=v),
    "approval.timeout": lambda _, v: of_approval(timeout=v),
    "delay.duration": lambda _, v: read(cloaca.delay(v)._to_definition(), "duration"),
    "RetryPolicy.initial_delay": lambda _, v: cloaca.RetryPolicy(initial_delay=v).initial_delay,
    "RetryPolicy.max_delay": lambda _, v: cloaca.RetryPolicy(max_delay=v).max_delay,
    "RetryPolicyBuilder.initial_delay.delay": lambda _, v: (
        cloaca.RetryPolicy.builder().initial_delay(v).build().initial_delay
    ),
    "RetryPolicyBuilder.max_delay.delay": lambda _, v: (
        cloaca.RetryPolicy.builder().max_delay(v).build().max_delay
    ),
    "Retry.after": lambda r, v: raising(r, lambda: cloaca.Retry(after=v)),
    "Snooze.seconds": lambda r, v: raising(r, lambda: cloaca.Snooze(v)),
    "TaskHandle.sleep.duration": lambda r, v: in_task(r, lambda h: h.sleep("x", v)),
    "TaskHandle.wait.timeout": lambda r, v: in_task(
        r, lambda h: h.wait("x", cloaca.signal("durations"), timeout=v)
    ),
    "TaskHandle.run.timeout": lambda r, v: end_of_children(
        r, lambda h: h.run("x", NAME, timeout=v)
    ),
    "TaskHandle.run_many.timeout": lambda r, v: end_of_children(
        r, lambda h: h.run_many("x", NAME, [{}], timeout=v)
    ),
    "TaskHandle.defer_until.poll_interval_ms": lambda r, v: in_task(r, lambda h: poll(h, v)),
    "DefaultRunner.submit.delay": lambda r, v: start_of(r, lambda: r.submit(NAME, delay=v)),
    "DefaultRunner.submit.timeout": lambda r, v: end_of(r, lambda: r.submit(NAME, timeout=v)),
    "DefaultRunner.execute.timeout": lambda r, v: end_of(r, lambda: r.execute(NAME, timeout=v)),
    "DefaultRunner.execute.delay": lambda r, v: start_of(r, lambda: r.execute(NAME, delay=v)),
    "DefaultRunner.submit_many.delay": lambda r, v: start_of(r, lambda: many(r, delay=v)),
    "DefaultRunner.submit_many.timeout": lambda r, v: end_of(r, lambda: many(r, timeout=v)),
    "DefaultRunner.submit_many_async.delay": lambda r, v: start_of(
        r, lambda: many_async(r, delay=v)
    ),
    "DefaultRunner.submit_many_async.timeout": lambda r, v: end_of(
        r, lambda: many_async(r, timeout=v)
    ),
    "DefaultRunner.submit_async.delay": lambda r, v: start_of(
        r, lambda: run_async(r, "submit_async", delay=v)
    ),
    "DefaultRunner.submit_async.timeout": lambda r, v: end_of(
        r, lambda: run_async(r, "submit_async", timeout=v)
    ),
    "DefaultRunner.execute_async.delay": lambda r, v: start_of(
        r, lambda: run_async(r, "execute_async", delay=v)
    ),
    "DefaultRunner.execute_async.timeout": lambda r, v: end_of(
        r, lambda: run_async(r, "execute_async", timeout=v)
    ),
    "WorkflowHandle.result.timeout": lambda r, v: waited(r, lambda h: h.result(timeout=v)),
    "DefaultRunner.wait_until_idle.timeout": lambda r, v: waited(
        r, lambda _: r.wait_until_idle(timeout=v)
    ),
    "DefaultRunner.reschedule.after": rescheduled,
    "DefaultRunner.prune.older_than": pruned,
    "DefaultRunner.register_cron_workflow.jitter_seconds": jittered,
    "DefaultRunner.shutdown.timeout": lambda _, v: ended(
        lambda: cloaca.DefaultRunner(":memory:"), v
    ),
    "VirtualRunner.shutdown.timeout": lambda _, v: ended(VirtualRunner, v),
    "VirtualRunner.advance.seconds": advanced,
    "trigger.poll_interval": polled,
    "command line.timeout": lambda _, v: of_command_line(v),
}


@pytest.mark.parametrize("place", PLACES)
def test_duration_can_be_a_number_a_timedelta_or_a_string(runner, place):
    if place == "command line.timeout":
        forms = [form for form in FORMS if not isinstance(form, timedelta)]
    else:
        forms = FORMS
    factor = 1000 if place.endswith("_ms") else 1
    for form in forms:
        given = form * factor if isinstance(form, (int, float)) else form
        assert PLACES[place](runner, given) in {90.0, None}, form


@pytest.mark.parametrize("place", PLACES)
def test_error_for_an_invalid_duration_names_the_option(runner, place):
    option = place.removesuffix(".delay" if place.startswith("RetryPolicyBuilder") else "")
    option = option.rpartition(".")[2]
    for value in WRONG:
        if place == "command line.timeout" and value == "90":
            continue  # Every option of a command is a string, so "90" is a valid number of seconds.
        with pytest.raises(ValueError, match=option) as caught:
            PLACES[place](runner, value)
        told = str(caught.value)
        assert "must" in told or "neither" in told, told


@pytest.mark.parametrize("make", [VirtualRunner, lambda: cloaca.DefaultRunner(":memory:")])
def test_waits_of_callers_accept_an_infinite_timeout(make):
    with cloaca.WorkflowBuilder("durations_endless"):
        cloaca.task(id="x")(lambda context: None)
    with make() as runner:
        handle = runner.submit("durations_endless")
        assert handle.result(timeout=math.inf).status == "Completed"
        runner.submit("durations_endless")
        runner.wait_until_idle(math.inf)
        runner.shutdown(timeout=math.inf)


def public_durations() -> Iterator[str]:
    """Yields every argument of the public API whose annotation contains `timedelta`."""
    names = {name: getattr(cloaca, name) for name in cloaca.__all__}
    names["VirtualRunner"] = testing.VirtualRunner
    seen: set[int] = set()
    for name, found in names.items():
        if not callable(found) or id(found) in seen:
            continue
        seen.add(id(found))
        methods = {name: found}
        if inspect.isclass(found):
            methods = {
                f"{name}.{method}": getattr(found, method)
                for method in dir(found)
                if not method.startswith("_") and inspect.isfunction(getattr(found, method))
            }
            if inspect.isfunction(found.__init__):
                methods[name] = found.__init__
        for path, function in methods.items():
            for parameter in inspect.signature(function).parameters.values():
                if "timedelta" in str(parameter.annotation):
                    yield f"{path}.{parameter.name}"


def test_every_public_duration_argument_has_a_place():
    inherited = {
        f"VirtualRunner.{place.partition('.')[2]}" for place in PLACES if "DefaultRunner" in place
    }
    assert set(public_durations()) - inherited - set(PLACES) == set()
