"""A thread that detects coroutines that block the event loop.

Twice a second, the thread schedules a callback on the loop, and waits until the loop runs the
callback. Tasks need no extra code for this, and the thread sleeps while no coroutine runs.
"""

from __future__ import annotations

import sys
import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Callable, Mapping
    from typing import Any

    from cloaca._core import Work

    Running = Mapping[int, tuple[Work, Task[None]]]

# Maximum time until the loop runs the callback, in seconds. After this time, a warning is logged.
_LIMIT = 1.0
# Seconds between two callbacks.
_PAUSE = 0.5


class LoopWatch:
    """Watches one loop, from the first `wake` until `close`."""

    def __init__(
        self, loop: AbstractEventLoop, running: Callable[[], Running], warned: set[tuple[str, str]]
    ) -> None:
        """Prepare the watch. The loop's thread must call the constructor.

        Args:
            loop: The loop.
            running: A function that returns the coroutines of the loop.
            warned: The tasks for which a warning was logged, by workflow and id. There is one
                warning for each task.
        """
        self._loop = loop
        self._running = running
        self._warned = warned
        self._loop_thread = threading.get_ident()
        self._awake = threading.Event()
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Begins to watch, because the loop has coroutines to run."""
        if self._awake.is_set():
            return
        self._awake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cloaca-loop-watch", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._closing.set()
        self._awake.set()
        if self._thread is not None:
            self._thread.join(_LIMIT)

    def _run(self) -> None:
        while True:
            self._awake.wait()
            if self._closing.is_set():
                return
            if not self._running():
                self._awake.clear()
                if not self._running():
                    continue
                self._awake.set()
            beat = threading.Event()
            try:
                self._loop.call_soon_threadsafe(beat.set)
            except RuntimeError:
                return  # the loop is closed
            if not beat.wait(_LIMIT):
                self._warn()
                while not (beat.wait(_PAUSE) or self._closing.is_set()):
                    pass
            self._closing.wait(_PAUSE)

    def _warn(self) -> None:
        work = self._holder()
        if work is None or (work.workflow_name, work.task_id) in self._warned:
            return
        self._warned.add((work.workflow_name, work.task_id))
        frame = sys._current_frames().get(self._loop_thread)
        place = f" at {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
        try:
            from cloaca._observe.logger import logger

            logger().warning(
                "coroutine '%s' of workflow '%s' has held the event loop for %.1f s%s; all other "
                "coroutines wait; hint: await asyncio.to_thread(...), or make the task a plain "
                "function [execution %s]",
                work.task_id,
                work.workflow_name,
                _LIMIT,
                place,
                work.execution_id,
                extra={
                    "execution_id": work.execution_id,
                    "workflow": work.workflow_name,
                    "task_id": work.task_id,
                },
            )
        except BaseException:
            return  # a log handler has raised an exception

    def _holder(self) -> Work | None:
        """Return the work that the loop runs now.

        The loop runs the coroutine of this work, or an asyncio task that the coroutine started.
        """
        import asyncio

        try:
            current: Any = asyncio.current_task(self._loop)
        except RuntimeError:
            return None
        if current is None:
            return None
        for work, task in list(self._running().values()):
            if task is current:
                return work
        get_context = getattr(current, "get_context", None)  # since Python 3.12
        if get_context is None:
            return None
        from cloaca._workers.attempt_scope import LogCapture
        from cloaca._workers.attempt_scope import current as attempt

        found = get_context().get(attempt)
        return found.work if isinstance(found, LogCapture) else found
