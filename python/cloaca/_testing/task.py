"""Runs the function of one task without a runner."""

from __future__ import annotations

import uuid
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
    from collections.abc import Callable, Mapping
    from typing import Any

    from cloaca._tasks.call import Source


class _LoneWork:
    """Takes the place of a claimed task, for the handle of a function without a runner."""

    callback = False
    error = None
    forward_key = None
    handler = 0
    index = None
    timeout_us = None
    token = 0
    workflow_name = "run_task"

    def __init__(self, task_id: str, context: Context, attempt: int) -> None:
        self.task_id = task_id
        self.context = context
        self.attempt = attempt
        self.execution_id = str(uuid.uuid4())

    def is_cancelled(self) -> bool:
        return False

    def beat(self) -> None:
        """Does nothing: no runner waits for a sign of life."""

    def begin_deferral(self) -> bool:
        return False  # there is no worker's slot to release


def run_task(
    function: Callable[..., Any],
    context: Context | Mapping[str, Any] | None = None,
    *,
    attempt: int = 1,
    **values: Any,
) -> Context:
    """Run a task's function as a worker would, but without a runner and without retries.

    The parameters have the meaning that they have in the workflow of the task; without a workflow,
    they are keys of the context. Their values come from the context, or are given by name. They are
    encoded and decoded as between two tasks, so that a test sees what a worker would pass. A
    resource that is given by name is used instead of the factory's.

    Args:
        function: The function; it may be an `async def`.
        context: The context it receives. A `Context` is changed in place; a mapping is copied.
        attempt: The number of the attempt, as its handle reports it.
        **values: Values by name, which are added to the context, and resources.

    Returns:
        The context after the call, with the function's return value applied: the result of a value
        task is stored under its id.

    Raises:
        TaskValidationError: The function cannot be called as a task.
        TaskInputError: A parameter has no value, or one that does not match its annotation.
        TypeError: The function returned a value that a task may not return.
        Exception: Whatever the function raised, `Retry`, `Abort` and `Snooze` included.

    Example:
        >>> assert run_task(total, {"rows": [1, 2]})["total"] == 3
        >>> assert run_task(total, rows=[1, 2])["total"] == 3

    Since 1.0.
    """
    task_id = getattr(function, "__name__", "task")
    call = _call(function, task_id)
    seen = context if isinstance(context, Context) else Context(context)
    given = {source.parameter: source for source in call.sources if source.marker is not None}
    for name, value in values.items():
        if name not in given:
            seen[_key(call, task_id, name)] = value
    call = _by_names(call, seen)
    work: Any = _LoneWork(task_id, seen, attempt)
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
    """The call of a function in the last workflow that has it as a task, or outside of one."""
    known = tasks_of(function)
    call = known[-1].last_call if known else None
    if call is not None:
        return call
    return read_call(function, task_id, known[-1].result_key if known else task_id)


def _by_names(call: Call, context: Context) -> Call:
    """The call, in which a parameter whose key is missing reads the key of its own name.

    The key of a result differs from the parameter's name in a group, or with `output=`.
    """

    def renamed(what: str | Source) -> str | Source:
        if isinstance(what, str) or what.key in context or what.parameter not in context:
            return what
        twin = copy(what)
        twin.key = what.parameter
        return twin

    return Call(
        tuple(map(renamed, call.positional)),
        tuple((name, renamed(what)) for name, what in call.named),
        call.is_async,
        call.result_key,
        keeps_none=call.keeps_none,
        by_name=call.by_name,
        unfilled=call.unfilled,
    )


def _key(call: Call, task_id: str, name: str) -> str:
    """The key of the context that a parameter reads."""
    found = next((source.key for source in call.sources if source.parameter == name), None)
    if found is not None:
        return found
    takes = ", ".join(source.parameter for source in call.sources) or "no values"
    raise TaskValidationError(
        f"task '{task_id}' has no parameter '{name}' for a value", hint=f"it takes {takes}"
    )


def _called(function: Callable[..., Any], call: Call, work: _LoneWork, made: dict[str, Any]) -> Any:
    """Calls the function, and closes the resources that it used."""
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
    """An event loop that runs while the function and its asynchronous resources do."""

    def __init__(self) -> None:
        import asyncio

        self._runner = asyncio.Runner()

    def run(self, coroutine: Any) -> Any:
        return self._runner.run(coroutine)

    def close(self) -> None:
        self._runner.close()


async def _awaited(called: Any) -> Any:
    return await called
