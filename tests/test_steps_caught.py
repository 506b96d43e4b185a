"""A task fails if its function catches `TaskParked`, which a sleep or a wait raises (T5)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable

import pytest

import cloaca
from cloaca.testing import VirtualRunner

#: An hour, in seconds.
HOUR = 3600

# Each function below catches the `TaskParked` of `handle.sleep("cool down", ...)`, and returns.


def by_except(handle: cloaca.TaskHandle) -> None:
    try:
        handle.sleep("cool down", HOUR)
    except BaseException:
        return


def by_suppress(handle: cloaca.TaskHandle) -> None:
    with contextlib.suppress(BaseException):
        handle.sleep("cool down", HOUR)


def by_finally(handle: cloaca.TaskHandle) -> None:
    try:
        handle.sleep("cool down", HOUR)
    finally:
        return  # noqa: B012


def by_conversion(handle: cloaca.TaskHandle) -> None:
    try:
        try:
            handle.sleep("cool down", HOUR)
        except BaseException as error:
            raise ValueError("converted") from error
    except ValueError:
        pass


async def by_await(handle: cloaca.TaskHandle) -> None:
    try:
        await handle.sleep("cool down", HOUR)
    except BaseException:
        return


async def by_gather(handle: cloaca.TaskHandle) -> None:
    try:
        await asyncio.gather(handle.sleep("cool down", HOUR), asyncio.sleep(0))
    except BaseException:
        return


async def by_group(handle: cloaca.TaskHandle) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(handle.sleep("cool down", HOUR))
    except BaseException:
        pass


async def in_another_task(handle: cloaca.TaskHandle) -> None:
    await asyncio.gather(by_await(handle), asyncio.sleep(0))


Catches = Callable[[cloaca.TaskHandle], "Awaitable[None] | None"]

SYNC: list[Catches] = [by_except, by_suppress, by_finally, by_conversion]
ASYNC: list[Catches] = [by_await, in_another_task]

CALLS: dict[str, Callable[[cloaca.TaskHandle], object]] = {
    "step('next')": lambda handle: handle.step("next", int),
    "sleep('next')": lambda handle: handle.sleep("next", HOUR),
    "wait('next')": lambda handle: handle.wait("next", cloaca.signal("never")),
    "run('next')": lambda handle: handle.run("next", "no_workflow"),
    "run_many('next')": lambda handle: handle.run_many("next", "no_workflow", [{}]),
    "start('next')": lambda handle: handle.start("next", "no_workflow"),
}


def check_failure(name: str, effects: list[int], called: str | None) -> None:
    """Runs a workflow, and checks that it fails without a retry.

    The error must name the sleep and, unless `called` is `None`, the later call `called`.
    """
    with VirtualRunner() as runner:
        result = runner.execute(name)
        events = [event.type for event in runner.events(result.execution_id)]
    assert result.status == "Failed"
    message = result.error_message or ""
    assert "TaskParked, with which handle.sleep('cool down') interrupts the function" in message
    if called is not None:
        assert f"its wait ends, and called handle.{called}" in message
    assert result.error is not None
    assert result.error.type == "CaughtParkError"
    assert result.tasks[name].attempts == 1
    assert effects == [1]
    # The function neither slept nor recorded anything.
    assert not {"waiting", "step_recorded"} & set(events)


# After one of these functions has returned, a further call of the handle raises `TaskParked` again
# instead of `CaughtParkError`, because the call could come from a coroutine that runs concurrently.
# So the tests of these functions make no further call.
ONLY_RETURNS = [by_gather, by_group]


@pytest.mark.parametrize(
    ("catches", "then"),
    [
        *((catches, then) for catches in SYNC + ASYNC for then in ("calls", "returns")),
        *((catches, "returns") for catches in ONLY_RETURNS),
    ],
    ids=lambda each: each if isinstance(each, str) else each.__name__,
)
def test_t5_function_that_catches_task_parked_fails(catches: Catches, then: str) -> None:
    effects: list[int] = []

    def sync_function(handle: cloaca.TaskHandle) -> int:
        catches(handle)
        effects.append(1)
        if then == "calls":
            handle.step("next", effects.append, 2)
        return 1

    async def async_function(handle: cloaca.TaskHandle) -> int:
        caught = catches(handle)
        assert caught is not None
        await caught
        effects.append(1)
        if then == "calls":
            await handle.step("next", effects.append, 2)
        return 1

    function = sync_function if catches in SYNC else async_function
    function.__name__ = "caught_park"
    cloaca.workflow(retry_attempts=3)(function)
    check_failure("caught_park", effects, "step('next')" if then == "calls" else None)


@pytest.mark.parametrize("called", CALLS)
def test_t5_every_durable_call_after_a_caught_task_parked_fails(called: str) -> None:
    effects: list[int] = []

    @cloaca.workflow
    def caught_park_and_call(handle: cloaca.TaskHandle) -> None:
        by_except(handle)
        effects.append(1)
        CALLS[called](handle)
        effects.append(2)

    check_failure("caught_park_and_call", effects, called)


def test_t5_call_after_a_caught_gather_fails() -> None:
    effects: list[int] = []

    @cloaca.workflow
    async def caught_gather(handle: cloaca.TaskHandle) -> None:
        with contextlib.suppress(BaseException):
            await asyncio.gather(handle.sleep("cool down", HOUR), asyncio.sleep(0))
        effects.append(1)
        await handle.step("next", effects.append, 2)

    check_failure("caught_gather", effects, "step('next')")


def test_t5_function_that_also_catches_every_later_error_fails() -> None:
    effects: list[int] = []

    @cloaca.workflow
    def caught_park_twice(handle: cloaca.TaskHandle) -> int:
        by_except(handle)
        effects.append(1)
        with contextlib.suppress(Exception):
            handle.step("next", effects.append, 2)
        return 1

    check_failure("caught_park_twice", effects, None)


def test_t5_call_on_another_thread_is_interrupted_when_the_task_parks() -> None:
    """While a task parks, calls on its other threads raise `TaskParked`. This is not a failure."""
    calls: list[str] = []

    @cloaca.workflow
    def parks_beside_a_thread(handle: cloaca.TaskHandle) -> str:
        parked = threading.Event()

        def help() -> None:
            parked.wait(30)
            try:
                handle.step("helper", calls.append, "helper")
            except BaseException as error:
                calls.append(type(error).__name__)

        thread = threading.Thread(target=help)
        thread.start()
        try:
            handle.sleep("nap", HOUR)
        finally:
            parked.set()
            thread.join()
        return "done"

    with VirtualRunner() as runner:
        assert runner.execute("parks_beside_a_thread").raise_for_status().output == "done"
    assert calls[0] == "TaskParked"
    assert calls[-1] == "helper"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_t5_step_in_a_finally_block_runs_only_after_the_wait(kind: str) -> None:
    calls: list[str] = []

    if kind == "sync":

        @cloaca.workflow
        def cleans_up(handle: cloaca.TaskHandle) -> str:
            try:
                handle.sleep("nap", HOUR)
                calls.append("awake")
            finally:
                handle.step("clean", calls.append, "clean")
            return "done"
    else:

        @cloaca.workflow
        async def cleans_up(handle: cloaca.TaskHandle) -> str:
            try:
                await asyncio.gather(handle.sleep("nap", HOUR), asyncio.sleep(0))
                calls.append("awake")
            finally:
                await handle.step("clean", calls.append, "clean")
            return "done"

    with VirtualRunner() as runner:
        assert runner.execute("cleans_up").raise_for_status().output == "done"
    assert calls == ["awake", "clean"]
