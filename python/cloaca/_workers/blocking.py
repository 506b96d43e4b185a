"""Waits that would block an event loop, or never end, because a task makes them."""

from __future__ import annotations

import sys

from cloaca._values.exceptions import WorkflowError
from cloaca._workers.attempt_scope import LogCapture, current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca._core import Runner, Work

_warned = False


def check_blocking(call: str, instead: str) -> None:
    """Refuses a blocking call in a coroutine of a runner, and warns about one on another loop.

    Args:
        call: The call, for the message.
        instead: The call to use.

    Raises:
        WorkflowError: The call would block the event loop that runs all `async def` tasks.
    """
    if "asyncio" not in sys.modules:
        return
    import asyncio  # waits for another thread that is importing it

    if asyncio._get_running_loop() is None:
        return
    import threading

    if getattr(threading.current_thread(), "cloaca_runs_coroutines", False):
        raise WorkflowError(
            f"{call} in an async def task blocks the event loop that runs all async def tasks",
            code="deadlock",
            hint=f"use {instead}",
        )
    _warn_once(call, instead)


def refuse_own(execution_id: str) -> None:
    """Refuses a task's wait for its own execution, also on a thread for which the task waits.

    Raises:
        WorkflowError: A task waits for the end of its own execution.
    """
    work = own_work()
    if work is not None and work.execution_id == execution_id and not work.callback:
        raise WorkflowError(
            f"a task of execution {execution_id} waits for the end of its own execution",
            code="deadlock",
            hint="an execution ends after its tasks: return instead, and wait outside the task",
        )


def refuse_own_key(core: Runner, workflow: object, key: str) -> None:
    """Refuses a task's wait for its own execution, which it names by its key.

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
    """Refuses a task's wait for its runner to be idle, also on a thread for which the task waits.

    Raises:
        WorkflowError: The own execution of the task is open.
    """
    work = own_work()
    if work is not None and core.runs(work):
        raise WorkflowError(
            "a task waits until its own runner is idle, which it is not while the task runs",
            code="deadlock",
            hint="call wait_until_idle outside tasks",
        )


def own_work() -> Work | None:
    """The work of the caller, if the caller is a task or runs in a copy of a task's context."""
    scope = current.get()
    return scope.work if isinstance(scope, LogCapture) else scope


def _warn_once(call: str, instead: str) -> None:
    global _warned
    # The cells of a notebook run on a loop, and nothing else runs there while a cell waits.
    if _warned or "ipykernel" in sys.modules:
        return
    _warned = True
    from cloaca._observe.logger import logger

    logger().warning("%s blocks the event loop that runs on this thread: use %s", call, instead)
