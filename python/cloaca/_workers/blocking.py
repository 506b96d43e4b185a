"""Refuses a wait in a task if the wait would block an event loop or would never end."""

from __future__ import annotations

import sys

from cloaca._values.exceptions import WorkflowError
from cloaca._workers.attempt_scope import LogCapture, current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cloaca._core import Runner, Work

#: The call with which an `async def` task runs another workflow, with the task's handle.
FOR_CHILD = "`await handle.run(key, workflow, input)` of the task's handle"

_warned = False

# `asyncio._get_running_loop`, once the program has loaded `asyncio`.
_running_loop: Callable[[], object] | None = None


def check_blocking(call: str, instead: str, for_child: str | None = None) -> None:
    """Refuses a blocking call in a coroutine of a runner; on another loop, warns about the call.

    Args:
        call: The call, for the message.
        instead: The call to use.
        for_child: The call to use in a task that starts a child execution.

    Raises:
        WorkflowError: The call would block the event loop that runs all `async def` tasks.
    """
    if not runs_event_loop():
        return
    if runs_coroutines():
        more = "" if for_child is None else f"; for a child of this task, use {for_child}"
        raise WorkflowError(
            f"{call} in an async def task blocks the event loop that runs all async def tasks",
            code="deadlock",
            hint=f"use {instead}{more}",
        )
    _warn_once(call, instead)


def runs_event_loop() -> bool:
    """Returns whether an event loop runs on this thread."""
    global _running_loop
    if _running_loop is None:
        if "asyncio" not in sys.modules:
            return False
        import asyncio  # waits if another thread is still importing the module

        _running_loop = asyncio._get_running_loop
    return _running_loop() is not None


def runs_coroutines() -> bool:
    """Returns whether this thread is a runner's thread that runs `async def` tasks."""
    import threading

    return getattr(threading.current_thread(), "cloaca_runs_coroutines", False)


def refuse_own(execution_id: str) -> None:
    """Refuses a task's wait for its own execution.

    A thread with a copy of the task's context variables counts as the task.

    Raises:
        WorkflowError: A task waits for the end of its own execution.
    """
    work = own_work()
    if work is not None and work.execution_id == execution_id and not work.callback:
        raise WorkflowError(
            f"a task of execution {execution_id} waits for the end of its own execution",
            code="deadlock",
            hint="return from the task and wait outside it; "
            "an execution ends only after all its tasks",
        )


def refuse_own_key(core: Runner, workflow: object, key: str) -> None:
    """Refuses a task's wait for its own execution, when the execution is given by its key.

    Raises:
        WorkflowError: A task waits for the end of its own execution.
    """
    work = own_work()
    name = getattr(workflow, "name", workflow)
    if work is not None and work.workflow_name == name:
        found = core.reads.find(name, key)
        if found is not None:
            refuse_own(found)


def refuse_idle_wait(core: Runner) -> None:
    """Refuses a call with which a task would wait until its own runner is idle.

    A thread with a copy of the task's context variables counts as the task.

    Raises:
        WorkflowError: The caller is a task of this runner, which is not idle while the task runs.
    """
    work = own_work()
    if work is not None and core.runs(work):
        raise WorkflowError(
            "a task waits until its own runner is idle, but the runner is not idle while the task "
            "runs",
            code="deadlock",
            hint="call wait_until_idle outside tasks",
        )


def own_work() -> Work | None:
    """Returns the caller's work; `None` outside of tasks.

    A thread with a copy of a task's context variables has the task's work.
    """
    scope = current.get()
    return scope.work if isinstance(scope, LogCapture) else scope


def _warn_once(call: str, instead: str) -> None:
    global _warned
    # Cells of a notebook run on a loop, but a cell that waits blocks nothing else there.
    if _warned or "ipykernel" in sys.modules:
        return
    _warned = True
    from cloaca._observe.logger import logger

    logger().warning("%s blocks the event loop that runs on this thread: use %s", call, instead)
