"""Resources: objects that a runner creates once for all its tasks and later closes (J10)."""

import asyncio
import contextlib
import threading
import time

import pytest

import cloaca
from cloaca.testing import VirtualRunner, run_task

events: list[str] = []


@pytest.fixture(autouse=True)
def no_events():
    events.clear()


class Plain:
    def close(self) -> None:
        events.append("closed")


class Manager:
    def __enter__(self) -> "Manager":
        events.append("entered")
        return self

    def __exit__(self, *error: object) -> None:
        events.append("closed")


class AsyncManager:
    async def __aenter__(self) -> "AsyncManager":
        await asyncio.sleep(0)
        events.append("entered")
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.sleep(0)
        events.append("closed")


class AsyncPlain:
    async def aclose(self) -> None:
        await asyncio.sleep(0)
        events.append("closed")


def plain():
    events.append("entered")
    return Plain()


def generator():
    events.append("entered")
    yield "value"
    events.append("closed")


@contextlib.contextmanager
def manager_function():
    events.append("entered")
    yield "value"
    events.append("closed")


async def coroutine():
    await asyncio.sleep(0)
    events.append("entered")
    return AsyncPlain()


async def async_generator():
    await asyncio.sleep(0)
    events.append("entered")
    yield "value"
    await asyncio.sleep(0)
    events.append("closed")


FACTORIES = [
    plain,
    generator,
    manager_function,
    Manager,
    coroutine,
    async_generator,
    AsyncManager,
    lambda: AsyncManager(),
]


def define(factory):
    seen = []
    with cloaca.WorkflowBuilder("resources"):

        @cloaca.task
        def first(it=cloaca.resource(factory)) -> int:
            seen.append(it)
            return 1

        @cloaca.task
        async def second(first: int, it=cloaca.resource(factory)) -> int:
            seen.append(it)
            return 2

        @cloaca.task(dependencies=[first])
        def third(context, it=cloaca.resource(factory), *, handle) -> None:
            seen.append(it)

    return seen


@pytest.mark.parametrize("factory", FACTORIES)
def test_j10_resource_is_made_once_and_closed_at_shutdown(factory):
    seen = define(factory)
    with cloaca.DefaultRunner(":memory:") as runner:
        for _ in range(2):
            result = runner.execute("resources")
            assert result.status == "Completed", result.error_message
        assert events == ["entered"]
    assert events == ["entered", "closed"]
    assert len(seen) == 6
    assert len({id(it) for it in seen}) == 1


class Session(AsyncManager):
    """A client that works only in `async with`. A plain `with` raises an error."""

    def __enter__(self) -> "Session":
        raise TypeError("use async with")

    def __exit__(self, *error: object) -> None: ...


class Both(Manager, AsyncManager):
    """An object that is both a plain and an async context manager."""

    def __enter__(self) -> "Both":
        events.append("plain")
        return self


async def async_session() -> Session:
    return Session()


async def async_both() -> Both:
    return Both()


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("factory", [async_session, async_both])
def test_j10_async_with_is_preferred_if_the_factory_is_async(factory, is_async):
    def use(it=cloaca.resource(factory)) -> bool:
        return it is not None

    async def async_use(it=cloaca.resource(factory)) -> bool:
        return it is not None

    with cloaca.WorkflowBuilder("async_session_first", output="use"):
        cloaca.task(id="use", retry_attempts=1)(async_use if is_async else use)
    with VirtualRunner() as runner:
        assert runner.execute("async_session_first").raise_for_status().output is True
    assert events == ["entered", "closed"]


@pytest.mark.parametrize("factory", [Session, Both])
def test_j10_async_with_is_preferred_if_the_task_is_async(factory):
    async def use(it=cloaca.resource(factory)) -> bool:
        return it is not None

    with cloaca.WorkflowBuilder("session_in_async_task", output="use"):
        cloaca.task(retry_attempts=1)(use)
    with VirtualRunner() as runner:
        assert runner.execute("session_in_async_task").raise_for_status().output is True
    assert events == ["entered", "closed"]
    assert run_task(use)["use"] is True


def test_j10_plain_with_is_used_if_task_and_factory_are_plain():
    def use(it=cloaca.resource(Both)) -> bool:
        return it is not None

    assert run_task(use)["use"] is True
    assert events == ["plain", "closed"]


@pytest.mark.parametrize("factory", FACTORIES)
def test_j10_each_runner_makes_its_own_resource(factory):
    seen = define(factory)
    for _ in range(2):
        with VirtualRunner() as runner:
            assert runner.execute("resources").status == "Completed"
    assert events == ["entered", "closed"] * 2
    assert len(seen) == 6


def test_j10_concurrent_tasks_share_one_resource():
    def slow():
        events.append("entered")
        time.sleep(0.05)
        return object()

    barrier = threading.Barrier(4)
    seen = []

    def work(it=cloaca.resource(slow)):
        barrier.wait(10)
        seen.append(it)

    async def async_work(it=cloaca.resource(slow)):
        seen.append(it)

    with cloaca.WorkflowBuilder("shared_resource"):
        for number in range(4):
            cloaca.task(id=f"sync{number}")(work)
            cloaca.task(id=f"async{number}")(async_work)
    with cloaca.DefaultRunner(":memory:") as runner:
        result = runner.execute("shared_resource")
    assert result.status == "Completed", result.error_message
    assert len(seen) == 8
    assert len({id(it) for it in seen}) == 1
    assert events == ["entered"]


@pytest.mark.parametrize("is_async", [False, True])
def test_j10_failure_to_make_a_resource_is_retried(is_async):
    failures = [OSError("no route"), OSError("no route")]

    def fragile():
        if failures:
            raise failures.pop()
        return "value"

    async def async_fragile():
        return fragile()

    factory = async_fragile if is_async else fragile
    with cloaca.WorkflowBuilder("resources"):

        @cloaca.task(retry_attempts=3)
        def first(it: str = cloaca.resource(factory)) -> str:
            return it

    with VirtualRunner() as runner:
        result = runner.execute("resources")
    assert (result.of(first), result.tasks["first"].attempts) == ("value", 3)


def stops():
    raise StopIteration("no rows")


async def async_stops():
    raise StopIteration("no rows")


class StopsAtEntry:
    def __enter__(self):
        raise StopIteration("no rows")

    def __exit__(self, *error: object) -> None:
        pass


def stops_at_entry():
    return StopsAtEntry()


def yields_nothing():
    yield from ()


async def async_yields_nothing():
    for value in ():
        yield value


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (stops, "the factory stops() of a resource raised StopIteration: no rows"),
        (async_stops, "the factory async_stops() of a resource raised StopIteration: no rows"),
        (
            stops_at_entry,
            "the factory stops_at_entry() of a resource raised StopIteration: no rows",
        ),
        (yields_nothing, "the generator yields_nothing() of a resource yielded no value"),
        (
            async_yields_nothing,
            "the generator async_yields_nothing() of a resource yielded no value",
        ),
    ],
)
def test_j10_factory_without_a_value_fails_the_attempt_at_once(factory, message, is_async):
    with cloaca.WorkflowBuilder("resources"):
        if is_async:

            @cloaca.task(retry_attempts=2, retry_delay_ms=1, timeout=20)
            async def first(it=cloaca.resource(factory)) -> int:
                return 1

        else:

            @cloaca.task(retry_attempts=2, retry_delay_ms=1, timeout=20)
            def first(it=cloaca.resource(factory)) -> int:
                return 1

    with cloaca.DefaultRunner(":memory:") as runner:
        result = runner.execute("resources")
    error = result.tasks["first"].error
    assert (error.type, error.message) == ("RuntimeError", message)
    assert result.tasks["first"].attempts == 2


def test_j10_failure_to_close_a_resource_is_logged(caplog):
    class Broken:
        def close(self):
            raise OSError("it is broken")

    def broken():
        return Broken()

    with cloaca.WorkflowBuilder("resources"):

        @cloaca.task
        def first(a=cloaca.resource(plain), b=cloaca.resource(broken)) -> int:
            return 1

    with VirtualRunner() as runner:
        runner.execute("resources")
    assert events == ["entered", "closed"]
    assert "the resource of" in caplog.text
    assert "it is broken" in caplog.text


def test_j10_resource_that_is_made_last_is_closed_first():
    def one():
        yield 1
        events.append("one")

    def two():
        yield 2
        events.append("two")

    with cloaca.WorkflowBuilder("resources"):

        @cloaca.task
        def first(a: int = cloaca.resource(one), b: int = cloaca.resource(two)) -> int:
            return a + b

    with VirtualRunner() as runner:
        assert runner.execute("resources").of(first) == 3
    assert events == ["two", "one"]


@pytest.mark.parametrize("factory", FACTORIES)
def test_run_task_closes_the_resources_that_it_makes(factory):
    def work(it=cloaca.resource(factory)) -> bool:
        return it is not None

    async def async_work(it=cloaca.resource(factory)) -> bool:
        return it is not None

    assert run_task(work)["work"] is True
    assert run_task(async_work)["async_work"] is True
    assert events == ["entered", "closed"] * 2


def test_resource_refuses_anything_but_a_function():
    with pytest.raises(cloaca.TaskValidationError, match="takes a function"):
        cloaca.resource(3)


def test_j10_task_that_times_out_does_not_cancel_the_shared_factory():
    released = threading.Event()

    def connect():
        released.wait(30)
        return object()

    with cloaca.WorkflowBuilder("maker"):

        @cloaca.task
        async def make(it=cloaca.resource(connect)) -> bool:
            return it is not None

    with cloaca.WorkflowBuilder("waiter"):

        @cloaca.task(timeout=0.2, retry_attempts=1)
        async def wait(it=cloaca.resource(connect)) -> bool:
            return it is not None

    with cloaca.DefaultRunner(":memory:") as runner:
        making = runner.submit("maker")
        time.sleep(0.2)
        assert runner.execute("waiter").status == "Failed"
        released.set()
        assert making.result(timeout=30).status == "Completed"
        assert runner.execute("waiter").status == "Completed"
