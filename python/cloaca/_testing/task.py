"""Runs the function of one task without a runner."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextvars import copy_context
from copy import copy

from cloaca._core import Context
from cloaca._tasks.call import Call
from cloaca._tasks.references import tasks_of
from cloaca._tasks.signature import read_call
from cloaca._values.exceptions import TaskValidationError
from cloaca._workers.arguments import arguments
from cloaca._workers.outcome import of_return, of_value
from cloaca._workers.resources import ResourcePool
from cloaca._workers.task_handle import TaskHandle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import ThreadPoolExecutor
    from typing import Any

    from cloaca._executions.items import MapResult
    from cloaca._tasks.call import Source


class _LoneWork:
    """Replaces the claimed task that a handle needs, when a function runs without a runner."""

    callback = False
    error = None
    forward_key = None
    handler = 0
    timeout_us = None
    token = 0
    workflow_name = "run_task"

    def __init__(
        self, task_id: str, context: Context, attempt: int, *, index: int | None = None
    ) -> None:
        self.task_id = task_id if index is None else f"{task_id}[{index}]"
        self.index = index
        self.context = context
        self.attempt = attempt
        self.execution_id = str(uuid.uuid4())

    def is_cancelled(self) -> bool:
        return False

    def beat(self) -> None:
        """Does nothing, because no runner checks whether the task has stalled."""

    def begin_deferral(self) -> bool:
        return False  # without a runner, there is no worker slot to release


def run_task(
    function: Callable[..., Any],
    context: Context | Mapping[str, Any] | None = None,
    *,
    attempt: int = 1,
    **values: Any,
) -> Context:
    """Run a task's function as a worker does, but without a runner and without retries.

    The parameters have the same sources as in the task's workflow; without a workflow, they are
    keys of the context. Values come from the context, or are given by name. They are encoded and
    decoded as between two tasks, so that the function receives the same values as from a worker. A
    resource that is given by name is used instead of calling its factory. A parameter annotated
    with `MapResult` takes a `MapResult`, or a list of results, as if all items had completed. The
    function of a map runs for one element, as item 0.

    If an event loop runs on the calling thread, coroutines run on a thread of their own, in a copy
    of the caller's context variables. The call still blocks the calling thread.

    Args:
        function: The function; it may be an `async def`.
        context: The context that the function receives. A `Context` is changed in place; a mapping
            is copied.
        attempt: The number of the attempt that the handle reports.
        **values: Values and resources by name. The values are added to the context.

    Returns:
        The context after the call, with the function's return value applied: the result of a value
        task is stored under the task's id or its `output=`.

    Raises:
        TaskValidationError: The function cannot be called as a task.
        TaskInputError: A parameter has no value, or its value does not match the annotation.
        TypeError: The function returned a value that a task may not return.
        Exception: The exception that the function raised, for example `Retry`, `Abort` or `Snooze`.

    Example:
        >>> assert run_task(total, {"rows": [1, 2]})["total"] == 3
        >>> assert run_task(total, rows=[1, 2])["total"] == 3

    Since 1.0.
    """
    task = next(reversed(tasks_of(function)), None)
    task_id = getattr(function, "__name__", "task") if task is None else task.id
    call = _call(function, task_id)
    items: dict[str, MapResult[Any]] = {}
    seen = _context(context, call, items)
    given = {source.parameter: source for source in call.sources if source.marker is not None}
    for name, value in values.items():
        if name not in given:
            source = _source(call, task_id, name)
            decoder = source.decoder
            if source.items is None and decoder is not None and decoder.converts:
                value = decoder.plain_input(value)
            seen[source.key] = _given(source, value, items)
    call = _for_test(call, seen, items)
    index = None if task is None or task.options.map is None else 0
    work: Any = _LoneWork(task_id, seen, attempt, index=index)
    returned = _called(
        function, call, work, {name: values[name] for name in given if name in values}
    )
    if call.result_key is not None:
        outcome = of_value(seen, call, returned)
    elif returned is None or returned is seen:
        seen._settle()
        return seen
    else:
        outcome = of_return(seen, returned)
    if outcome.kind == "failed":
        raise TypeError(outcome.message)
    return seen


def _call(function: Callable[..., Any], task_id: str) -> Call:
    """Returns the sources of a function's parameters, and the key of its result.

    The newest workflow that contains the function's task determines them. If no workflow contains
    the task, the function's signature determines them.
    """
    known = tasks_of(function)
    call = known[-1].last_call if known else None
    if call is not None:
        return call
    return read_call(function, task_id, known[-1].result_key if known else task_id)


def _context(
    given: Context | Mapping[str, Any] | None, call: Call, items: dict[str, MapResult[Any]]
) -> Context:
    """Returns the context that a test passes; a mapping is copied."""
    if isinstance(given, Context):
        return given
    maps = {source.key: source for source in call.sources if source.items is not None}
    if isinstance(given, Mapping) and maps:
        given = {
            key: _given(maps[key], value, items) if key in maps else value
            for key, value in given.items()
        }
    return Context(given)


def _given(source: Source, value: Any, items: dict[str, MapResult[Any]]) -> Any:
    """Returns the value of a parameter as it is stored in the context.

    If the value is a `MapResult`, it is also stored in `items`, by the name of the parameter.
    """
    if source.items is None:
        return value
    from cloaca._executions.items import MapResult
    from cloaca._testing.map_items import results_of

    if isinstance(value, MapResult):
        items[source.parameter] = value
    return results_of(value, source.decoder)


def _for_test(call: Call, context: Context, items: Mapping[str, MapResult[Any]]) -> Call:
    """Returns a copy of the call whose parameters read the values of the test.

    If the key of a parameter is missing, but the context has a key with the parameter's name, the
    parameter reads this key. In a group, or with `output=`, the key of a result differs from the
    parameter's name. Parameters that take the items of a map read the results that the test gives.
    """

    def renamed(what: str | Source) -> str | Source:
        if isinstance(what, str):
            return what
        twin = copy(what)
        if what.key not in context and what.parameter in context:
            twin.key = what.parameter
        if what.items is not None:
            from cloaca._testing.map_items import GivenItems

            twin.items = GivenItems(what, items.get(what.parameter))
        return twin

    return Call(
        tuple(map(renamed, call.positional)),
        tuple((name, renamed(what)) for name, what in call.named),
        call.is_async,
        call.result_key,
        keeps_none=call.keeps_none,
        encoder=call.encoder,
        by_name=call.by_name,
        unfilled=call.unfilled,
    )


def _source(call: Call, task_id: str, name: str) -> Source:
    """Returns the source of a parameter's value.

    Raises:
        TaskValidationError: The task has no such parameter.
    """
    found = next((source for source in call.sources if source.parameter == name), None)
    if found is not None:
        return found
    takes = ", ".join(source.parameter for source in call.sources) or "no values"
    raise TaskValidationError(
        f"task '{task_id}' takes no value '{name}'", hint=f"the task takes {takes}"
    )


def _called(function: Callable[..., Any], call: Call, work: _LoneWork, made: dict[str, Any]) -> Any:
    """Calls the function, and closes the resources that this call made."""
    handle = TaskHandle(work, call.is_async) if call.wants_handle else None  # type: ignore[arg-type]
    loops: list[_LoneLoop] = []

    def loop() -> _LoneLoop:
        loops.append(loops[0] if loops else _LoneLoop())
        return loops[0]

    pool = ResourcePool(loop)

    def resource(source: Source) -> Any:
        if source.parameter not in made:
            assert source.marker is not None
            made[source.parameter] = pool.get(source.marker, prefers_async=call.is_async)
        return made[source.parameter]

    try:
        positional, named = arguments(call, work, work.context, handle, resource)  # type: ignore[arg-type]
        returned = function(*positional, **named)
        if call.is_async or hasattr(returned, "__await__"):
            returned = loop().run(_awaited(returned))
        return returned
    finally:
        if loops:
            loops[0].run(pool.close_async())
            loops[0].close()
        pool.close()


class _LoneLoop:
    """An event loop for the function and its asynchronous resources, created on first use.

    If another loop runs on the calling thread, the loop runs on a thread of its own.
    """

    def __init__(self) -> None:
        import asyncio

        self._runner = asyncio.Runner()
        self._context = copy_context()
        self._thread: ThreadPoolExecutor | None = None
        if asyncio._get_running_loop() is not None:
            from concurrent.futures import ThreadPoolExecutor

            self._thread = ThreadPoolExecutor(1, "cloaca-run-task")

    def run(self, coroutine: Any) -> Any:
        if self._thread is None:
            return self._runner.run(coroutine, context=self._context)
        run = self._thread.submit(self._runner.run, coroutine, context=self._context)
        return run.result()

    def close(self) -> None:
        if self._thread is None:
            self._runner.close()
            return
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()


async def _awaited(called: Any) -> Any:
    return await called
