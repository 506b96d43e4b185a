"""Defaults that say where a parameter's value comes from: `result` and `resource`."""

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

    Any use of it as a value raises an error that says what it is: it becomes visible only where a
    function is called directly, without this argument.
    """

    __slots__ = ()

    def _version_text(self) -> str:
        """The part that counts for the version of the workflow."""
        return ""

    def __getattr__(self, name: str) -> NoReturn:
        """Raise an error that says what this is."""
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)  # copies, pickles and the like look for these
        self._misused()

    def _misused(self, *_: object) -> NoReturn:
        raise TaskError(
            f"{self!r} is the default of a parameter, not a value",
            hint="call the function with a value, or run it by cloaca.testing.run_task",
        )

    __bool__ = __len__ = __iter__ = __contains__ = __getitem__ = __call__ = _misused
    __enter__ = __aenter__ = __await__ = __index__ = __int__ = __float__ = _misused
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = _misused
    __rtruediv__ = __lt__ = __le__ = __gt__ = __ge__ = _misused

    def __exit__(self, *error: object) -> None:
        """Complete the protocol of `__enter__`, which raises."""

    async def __aexit__(self, *error: object) -> None:
        """Complete the protocol of `__aenter__`, which raises."""


class ResultMarker(Marker):
    """The result of another task."""

    __slots__ = ("reference",)

    def __init__(self, reference: str | Callable[..., object]) -> None:
        self.reference = reference

    def _version_text(self) -> str:
        """The task's id, for the version of the workflow."""
        return f"result:{self._id()}"

    def _id(self) -> str:
        if isinstance(self.reference, str):
            return self.reference
        return tasks_of(self.reference)[-1].id

    def __repr__(self) -> str:
        """The call that made it."""
        return f"cloaca.result({self._id()!r})"


class ResourceMarker(Marker):
    """An object that each runner makes once."""

    __slots__ = ("factory",)

    def __init__(self, factory: Callable[[], object]) -> None:
        self.factory = factory

    def _version_text(self) -> str:
        """Omits the factory: the version does not depend on what a task connects to."""
        return "resource"

    def __repr__(self) -> str:
        """The call that made it."""
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

    It is the default of a parameter, adds the dependency, and tells type checkers the type of the
    value. A parameter with the name of a task needs no marker.

    Args:
        task: The task's function, or its id.

    Returns:
        A marker. The task receives the result in its place; a direct call of the function must give
        a value.

    Raises:
        TaskValidationError: It is neither the id nor the function of a task.

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

    The first task that needs it calls the factory; the runner closes it when it shuts down. If the
    factory raises, the attempt fails, and the task's retry policy decides about another one.

    Args:
        factory: A function without arguments. It returns the object, or a context manager, which is
            entered and left; or it is a generator function that yields the object once, and cleans
            up after that. It may be asynchronous. A context manager that supports both `with` and
            `async with` is entered by `async with` if the factory or the first task that needs the
            object is a coroutine function. An object that is not a context manager is closed by its
            `close()` or `aclose()`, if it has one.

    Returns:
        A marker. The task receives the object in its place.

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
