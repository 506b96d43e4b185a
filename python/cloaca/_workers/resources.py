"""Resources: objects that a runner makes once for its tasks and closes at its shutdown (J10)."""

from __future__ import annotations

from _thread import RLock
from concurrent.futures import Future

from cloaca._tasks.parameters import is_async_generator_function, is_coroutine_function, name_of
from cloaca._values.exceptions import TaskTimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable
    from typing import Any, Protocol

    from cloaca._tasks.call import Resource

    class Loop(Protocol):
        """A runner's event loop, which runs coroutines for other threads."""

        def run(self, coroutine: Any) -> Any: ...


# Stands for the value of a generator that has yielded no value.
_NOTHING = object()


class _Resource:
    """A resource: its factory, and a future of the object that the factory makes."""

    __slots__ = ("close", "close_async", "factory", "future", "loop")

    def __init__(self, factory: Callable[[], Any]) -> None:
        self.factory = factory
        self.future: Future[Any] = Future()
        # Without this call, the cancellation of one waiting coroutine would cancel the future for
        # all others.
        self.future.set_running_or_notify_cancel()
        self.close: Callable[[], object] | None = None
        self.close_async: Callable[[], Any] | None = None
        #: The loop that the object belongs to, if it is asynchronous.
        self.loop: AbstractEventLoop | None = None

    def enter(self, made: Any) -> Any:
        """Opens an object that needs no event loop, and returns its value."""
        if hasattr(made, "__next__") and hasattr(made, "throw"):
            value = next(made, _NOTHING)
            if value is _NOTHING:
                raise self._yielded_nothing()
            self.close = lambda: next(made, None)
            return value
        if hasattr(type(made), "__enter__"):
            value = made.__enter__()
            self.close = lambda: made.__exit__(None, None, None)
            return value
        close = getattr(made, "close", None)
        if callable(close) and not isinstance(made, type):
            self.close = close
        return made

    async def enter_async(self, made: Any) -> Any:
        """Opens an object that may be asynchronous, on the loop, and returns its value."""
        import asyncio

        if hasattr(made, "__await__"):
            made = await made
        if not is_asynchronous(made, prefers_async=True):
            return self.enter(made)
        self.loop = asyncio.get_running_loop()
        if hasattr(made, "__anext__"):
            value = await anext(made, _NOTHING)
            if value is _NOTHING:
                raise self._yielded_nothing()
            self.close_async = lambda: anext(made, None)
            return value
        if hasattr(type(made), "__aenter__"):
            value = await made.__aenter__()
            self.close_async = lambda: made.__aexit__(None, None, None)
            return value
        self.close_async = made.aclose
        return made

    def _yielded_nothing(self) -> RuntimeError:
        return RuntimeError(f"the generator {name_of(self.factory)} of a resource yielded no value")


def is_asynchronous(made: object, *, prefers_async: bool) -> bool:
    """Returns whether an object must be opened or closed on an event loop.

    Args:
        made: The object.
        prefers_async: Whether an object that supports both `with` and `async with` counts as
            asynchronous. The `__enter__` of some objects only raises an error.
    """
    kind = type(made)
    return (
        hasattr(kind, "__await__")
        or (hasattr(kind, "__anext__") and hasattr(made, "athrow"))
        or (hasattr(kind, "__aenter__") and (prefers_async or not hasattr(kind, "__enter__")))
        or (callable(getattr(made, "aclose", None)) and not callable(getattr(made, "close", None)))
    )


class ResourcePool:
    """The resources of one runner. Methods may be called from any thread."""

    def __init__(self, loop: Callable[[], Loop]) -> None:
        """Make an empty pool.

        Args:
            loop: A function that returns the runner's event loop, and starts it if necessary.
        """
        self._loop = loop
        # Reentrant, because a finalizer may shut the runner down while this thread holds the lock.
        self._lock = RLock()
        # The resources by factory, in the order in which they were made.
        self._resources: dict[object, _Resource] = {}

    def get(self, marker: Resource, *, prefers_async: bool = False) -> Any:
        """Return the object that a marker stands for; the first call makes it. For worker threads.

        Args:
            marker: The marker.
            prefers_async: Whether an object that supports both `with` and `async with` is entered
                on the event loop.

        Raises:
            Exception: The exception that the factory raised. The next call tries again.
        """
        while True:
            resource, is_new = self._claim(marker)
            if is_new:
                return self._make(resource, prefers_async=prefers_async)
            try:
                return resource.future.result()
            except TaskTimeoutError:
                continue  # the attempt that was making the object was interrupted

    async def get_async(self, marker: Resource) -> Any:
        """Return the object that a marker stands for, like `get`. For coroutines of the loop."""
        import asyncio

        while True:
            resource, is_new = self._claim(marker)
            if not is_new:
                if resource.future.done():
                    return resource.future.result()
                try:
                    return await asyncio.wrap_future(resource.future)
                except TaskTimeoutError:
                    continue
            if _is_async(resource.factory):
                return await self._make_async(resource)
            # A synchronous factory may block, for example while it connects.
            return await asyncio.to_thread(self._make, resource, prefers_async=True)

    def _claim(self, marker: Resource) -> tuple[_Resource, bool]:
        with self._lock:
            found = self._resources.get(marker.factory)
            if found is not None:
                return found, False
            found = self._resources[marker.factory] = _Resource(marker.factory)
            return found, True

    def _make(self, resource: _Resource, *, prefers_async: bool = False) -> Any:
        """Makes an object on the calling thread, which is not the thread of the loop.

        Args:
            resource: The resource.
            prefers_async: As for `get`.
        """
        try:
            if _is_async(resource.factory):
                value = self._loop().run(_called(resource))
            else:
                made = resource.factory()
                if is_asynchronous(made, prefers_async=prefers_async):
                    value = self._loop().run(resource.enter_async(made))
                else:
                    value = resource.enter(made)
        except BaseException as error:
            failure = _failure(resource, error)
            self._fail(resource, failure)
            if failure is error:
                raise
            raise failure from error
        resource.future.set_result(value)
        return value

    async def _make_async(self, resource: _Resource) -> Any:
        try:
            value = await _called(resource)
        except BaseException as error:
            failure = _failure(resource, error)
            self._fail(resource, failure)
            if failure is error:
                raise
            raise failure from error
        resource.future.set_result(value)
        return value

    def _fail(self, resource: _Resource, error: BaseException) -> None:
        with self._lock:
            self._resources.pop(resource.factory, None)
        # Other attempts that wait for the object fail with the same error. If this attempt was
        # interrupted or cancelled, they receive a `TaskTimeoutError`, and try again.
        resource.future.set_exception(error if isinstance(error, Exception) else TaskTimeoutError())

    async def close_async(self) -> None:
        """Closes the objects of the running loop, in reverse order of creation."""
        import asyncio

        loop = asyncio.get_running_loop()
        for resource in self._taken(lambda resource: resource.loop is loop):
            if resource.close_async is not None:
                try:
                    await resource.close_async()
                except Exception as error:
                    _log(resource, error)

    def forget(self, loop: AbstractEventLoop) -> None:
        """Drops the objects of a loop that has failed; the next task makes them again."""
        self._taken(lambda resource: resource.loop is loop)

    def close(self) -> None:
        """Closes the remaining objects, in reverse order of creation."""
        for resource in self._taken(lambda resource: resource.future.done()):
            if resource.close is not None:
                try:
                    resource.close()
                except Exception as error:
                    _log(resource, error)

    def _taken(self, wanted: Callable[[_Resource], bool]) -> list[_Resource]:
        with self._lock:
            found = [resource for resource in list(self._resources.values()) if wanted(resource)]
            for resource in found:
                self._resources.pop(resource.factory, None)
        return found[::-1]


def _failure(resource: _Resource, error: BaseException) -> BaseException:
    """Returns the error with which the attempt fails.

    A future must not have a `StopIteration` as its exception: a coroutine that awaits such a future
    would wait forever. The error is therefore a `RuntimeError`, as in a generator that raises
    `StopIteration`.
    """
    stopped: BaseException | None = error
    if isinstance(error, RuntimeError):
        stopped = error.__cause__  # a coroutine or generator has converted the exception
    if not isinstance(stopped, StopIteration | StopAsyncIteration):
        return error
    return RuntimeError(
        f"the factory {name_of(resource.factory)} of a resource raised "
        f"{type(stopped).__name__}: {stopped}".removesuffix(": ")
    )


def _is_async(factory: Callable[..., object]) -> bool:
    return is_coroutine_function(factory) or is_async_generator_function(factory)


async def _called(resource: _Resource) -> Any:
    return await resource.enter_async(resource.factory())


def _log(resource: _Resource, error: BaseException) -> None:
    from cloaca._observe.logger import logger

    logger().error(
        "the resource of %s could not be closed: %s: %s",
        name_of(resource.factory),
        type(error).__name__,
        error,
        exc_info=error,
    )
