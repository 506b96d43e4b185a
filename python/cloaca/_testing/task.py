"""Runs the function of one task without a runner."""

from __future__ import annotations

import uuid

from cloaca._core import Context
from cloaca._tasks.signature import read_call
from cloaca._workers.outcome import of_return
from cloaca._workers.pool import invoke

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


class _LoneWork:
    """The work that the handle of a function without a runner refers to."""

    callback = False
    error = None
    handler = 0
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
) -> Context:
    """Run a task's function as a worker would, but without a runner and without retries.

    Args:
        function: The function; it may be an `async def`.
        context: The context it receives. A `Context` is changed in place; a mapping is copied.
        attempt: The number of the attempt, as its handle reports it.

    Returns:
        The context after the call, with the function's return value applied.

    Raises:
        TaskValidationError: The function cannot be called with a context and a handle.
        TypeError: It returned what a task may not return.
        Exception: Whatever the function raised, `Retry`, `Abort` and `Snooze` included.

    Example:
        >>> assert run_task(total, {"rows": [1, 2]})["total"] == 3

    Since 1.0.
    """
    task_id = getattr(function, "__name__", "task")
    call = read_call(function, task_id)
    seen = context if isinstance(context, Context) else Context(context)
    work: Any = _LoneWork(task_id, seen, attempt)
    returned = invoke(function, call, work, seen)
    if call.is_async or hasattr(returned, "__await__"):
        import asyncio

        returned = asyncio.run(_awaited(returned))
    if returned is None or returned is seen:
        seen._settle()
    else:
        outcome = of_return(seen, returned)
        if outcome.kind == "failed":
            raise TypeError(outcome.message)
    return seen


async def _awaited(called: Any) -> Any:
    return await called
