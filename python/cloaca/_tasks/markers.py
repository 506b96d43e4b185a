"""Defaults that name the source of a parameter's value: `result` and `resource`."""

from __future__ import annotations

from cloaca._tasks.parameters import name_of
from cloaca._tasks.references import task_id, tasks_of
from cloaca._values.exceptions import TaskError, TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import (
        AsyncGenerator,
        AsyncIterator,
        Callable,
        Coroutine,
        Generator,
        Iterator,
    )
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from typing import Any, NoReturn, TypeVar, overload

    R = TypeVar("R")


class Marker:
    """The default of a parameter whose value cloaca fills in. Private.

    A function receives the marker only if the program calls it directly, without this argument.
    Almost every use of the marker as a value raises an error that explains this.
    """

    __slots__ = ()

    def _version_text(self) -> str:
        """Return the text that represents the marker in the hash of the workflow's version."""
        return ""

    def __getattr__(self, name: str) -> NoReturn:
        """Raise an error that explains the marker."""
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # copying and pickling look these attributes up
        self._misused()

    def _misused(self, *_: object) -> NoReturn:
        raise TaskError(
            f"{self!r} is the default of a parameter, not a value",
            hint="call the function with a value, or run it with cloaca.testing.run_task",
        )

    __bool__ = __len__ = __iter__ = __contains__ = __getitem__ = __call__ = _misused
    __enter__ = __aenter__ = __await__ = __index__ = __int__ = __float__ = _misused
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _misused
    __rtruediv__ = __lt__ = __le__ = __gt__ = __ge__ = _misused

    def __exit__(self, *error: object) -> None:
        """Is never called, because `__enter__` raises; `with` requires that it exists."""

    async def __aexit__(self, *error: object) -> None:
        """Is never called, because `__aenter__` raises; `async with` requires that it exists."""


class ResultMarker(Marker):
    """The marker for the result of another task."""

    __slots__ = ("reference",)

    def __init__(self, reference: str | Callable[..., object]) -> None:
        self.reference = reference

    def _version_text(self) -> str:
        """Return the task's id, for the version of the workflow."""
        return f"result:{self._id()}"

    def _id(self) -> str:
        if isinstance(self.reference, str):
            return self.reference
        return tasks_of(self.reference)[-1].id

    def __repr__(self) -> str:
        """Return the call that made the marker."""
        return f"cloaca.result({self._id()!r})"


class ResourceMarker(Marker):
    """The marker for an object that each runner makes once."""

    __slots__ = ("factory",)

    def __init__(self, factory: Callable[[], object]) -> None:
        self.factory = factory

    def _version_text(self) -> str:
        """Return a text without the factory, which does not affect the workflow's version."""
        return "resource"

    def __repr__(self) -> str:
        """Return the call that made the marker."""
        return f"cloaca.resource({name_of(self.factory).removesuffix('()')})"


if TYPE_CHECKING:

    @overload
    def result(task: str, /) -> Any: ...
    @overload
    def result(task: Callable[..., Coroutine[Any, Any, R]], /) -> R: ...
    @overload
    def result(task: Callable[..., R], /) -> R: ...


def result(task: Any, /) -> Any:
    """Give a parameter the result of another task: `total: Total = cloaca.result(total)`.

    The marker is the default of a parameter. It adds the dependency, and type checkers see the type
    of the value. A parameter with the name of a task needs no marker.

    Args:
        task: The task's function, or its id.

    Returns:
        A marker. The task receives the result in place of the marker. A direct call of the function
        must pass a value.

    Raises:
        TaskValidationError: The argument is neither the id nor the function of a task.

    Example:
        >>> @cloaca.task
        ... def mail(total: int = cloaca.result(total)) -> None:
        ...     print(f"the total is {total}")

    Since 1.0.
    """
    task_id("cloaca.result", task)
    return ResultMarker(task)


if TYPE_CHECKING:

    @overload
    def resource(factory: Callable[[], Generator[R, Any, Any]], /) -> R: ...
    @overload
    def resource(factory: Callable[[], AsyncGenerator[R, Any]], /) -> R: ...
    @overload
    def resource(factory: Callable[[], AbstractContextManager[R, Any]], /) -> R: ...
    @overload
    def resource(factory: Callable[[], AbstractAsyncContextManager[R, Any]], /) -> R: ...
    @overload
    def resource(factory: Callable[[], Iterator[R]], /) -> R: ...
    @overload
    def resource(factory: Callable[[], AsyncIterator[R]], /) -> R: ...
    @overload
    def resource(factory: Callable[[], Coroutine[Any, Any, R]], /) -> R: ...
    @overload
    def resource(factory: Callable[[], R], /) -> R: ...


def resource(factory: Any, /) -> Any:
    """Give a parameter an object that each runner makes once, such as a client or a pool.

    The runner calls the factory for the first task that needs the object, and closes the object
    when the runner shuts down. If the factory raises an exception, the attempt fails, and the
    task's retry policy decides whether another attempt follows.

    Args:
        factory: A function without arguments, which may be asynchronous. It returns the object, or
            a context manager, which the runner enters and exits. Or it is a generator function that
            yields the object once and then cleans up. A context manager that supports both `with`
            and `async with` is entered with `async with` if the factory or the first task that
            needs the object is a coroutine function. An object that is not a context manager is
            closed with its `close()` or `aclose()`, if it has one.

    Returns:
        A marker. The task receives the object in place of the marker.

    Raises:
        TaskValidationError: The factory is not a function.

    Example:
        >>> def open_database():
        ...     with sqlite3.connect("shop.db", check_same_thread=False) as connection:
        ...         yield connection
        >>> @cloaca.task
        ... def orders(database: sqlite3.Connection = cloaca.resource(open_database)) -> int:
        ...     return database.execute("SELECT count(*) FROM orders").fetchone()[0]

    Since 1.0.
    """
    if not callable(factory):
        raise TaskValidationError(
            f"cloaca.resource takes a function that makes the object, not {type(factory).__name__}",
            hint="write cloaca.resource(lambda: value) for an object that exists already",
        )
    return ResourceMarker(factory)


for _public in (resource, result):
    _public.__module__ = "cloaca"
