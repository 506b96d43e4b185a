"""The exception with which a wait interrupts a function, and whether it was caught (T5)."""

from __future__ import annotations

import sys
from threading import get_ident

from cloaca._values.exceptions import CaughtParkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Task
    from types import FrameType
    from typing import Any

    from cloaca._tasks.control import TaskParked


class Departure:
    """The exception that interrupts a function, with the thread and asyncio task that raised it."""

    __slots__ = ("_task", "_thread", "parked")

    def __init__(self, parked: TaskParked, is_async: bool) -> None:
        self.parked = parked
        self._thread = get_ident()
        self._task = _current_task(is_async)

    def is_caught(self, is_async: bool) -> bool:
        """Return whether the caller's function caught the exception and continued.

        - While a `finally` or `except` block handles the exception: `False`. A call of the handle
          in such a block interrupts the function again.
        - On another thread: `False`. That thread may not know yet that the function is interrupted.
        - In the asyncio task that raised the exception, or in a function without asyncio: `True`.
        - In another asyncio task: `True` if the task that raised the exception has ended without
          this exception, or if the exception has passed through a function that is still running.
        """
        parked = self.parked
        if follows(sys.exception(), parked) or self._thread != get_ident():
            return False
        task = self._task
        if task is _current_task(is_async):
            return True
        if task is not None and task.done():
            has_left = not task.cancelled() and contains(task.exception(), parked)
            if not has_left:
                return True
        return _has_passed(parked)

    def error(self, task_id: str, then: str = "") -> CaughtParkError:
        """Return the error of a function that caught the exception.

        Args:
            task_id: The task's id.
            then: The call that the function made afterwards; empty if the function has ended.
        """
        parked = self.parked
        return CaughtParkError(
            f"task '{task_id}' caught TaskParked, with which handle.{parked.call}({parked.key!r}) "
            f"interrupts the function until its wait ends{then and f', and called {then}'}",
            hint="catch Exception instead of BaseException, and do not return in a finally block",
        )


def contains(error: BaseException | None, parked: TaskParked) -> bool:
    """Returns whether an exception is `parked`, or is a group that contains it."""
    if isinstance(error, BaseExceptionGroup):
        return any(contains(part, parked) for part in error.exceptions)
    return error is parked


def follows(error: BaseException | None, parked: TaskParked) -> bool:
    """Returns whether an exception contains `parked`, or was raised while `parked` was handled."""
    seen: set[int] = set()
    pending = [error]
    while pending:
        each = pending.pop()
        if each is parked:
            return True
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        pending += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            pending += each.exceptions
    return False


def _current_task(is_async: bool) -> Task[Any] | None:
    if not is_async:
        return None
    from asyncio import current_task

    return current_task()


def _has_passed(parked: TaskParked) -> bool:
    """Returns whether the exception has passed through a function that is still running."""
    passed = set()
    trace = parked.__traceback__
    while trace is not None:
        passed.add(trace.tb_frame)
        trace = trace.tb_next
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame in passed:
            return True
        frame = frame.f_back
    return False
