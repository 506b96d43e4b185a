"""The handle with which a task's function controls its own attempt."""

from __future__ import annotations

from cloaca._tasks.control import Abort
from cloaca._values.exceptions import RunnerClosedError, TaskTimeoutError, TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from typing import Any

    from cloaca._core import Runner, Work

# Seconds between two checks whether the execution was cancelled.
_CHECK_INTERVAL = 0.1


class TaskHandle:
    """A task's own attempt.

    A parameter named `handle` or `task_handle` of the task's function receives it.

    Example:
        >>> @cloaca.task
        ... def copy(context, handle):
        ...     for number, name in enumerate(context["files"]):
        ...         if handle.is_cancelled():
        ...             return
        ...         handle.set_progress(number, len(context["files"]), name)

    Since 1.0.
    """

    __slots__ = ("_core", "_deadline", "_defers", "_is_async", "_work")

    def __init__(self, work: Work, is_async: bool, core: Runner | None = None) -> None:
        """Private: the engine makes it."""
        from time import monotonic

        self._work = work
        self._core = core
        self._is_async = is_async
        self._defers = False
        timeout_us = work.timeout_us
        self._deadline = None if timeout_us is None else monotonic() + timeout_us / 1_000_000

    @property
    def task_id(self) -> str:
        """The task's id. Since 1.0."""
        return self._work.task_id

    @property
    def execution_id(self) -> str:
        """The execution's id. Since 1.0."""
        return self._work.execution_id

    @property
    def workflow_name(self) -> str:
        """The workflow's name. Since 1.0."""
        return self._work.workflow_name

    @property
    def attempt(self) -> int:
        """The number of the attempt; the first is 1. Since 1.0."""
        return self._work.attempt

    @property
    def runner(self) -> Any:
        """The `DefaultRunner` that runs the task, for example to start other executions from it.

        In a function use `submit`, in an `async def` task `await handle.runner.submit_async(...)`.
        A task runs again after a crash: a key made from `execution_id` keeps it from starting the
        same execution twice.

        Raises:
            RunnerClosedError: The function runs without a runner, as in `cloaca.testing.run_task`,
                or the program has dropped the runner.

        Example:
            >>> @cloaca.task
            ... async def order(context, handle):
            ...     child = await handle.runner.submit_async("pay", key=handle.execution_id)
            ...     context["paid"] = (await child).raise_for_status().final_context["paid"]

        Since 1.0.
        """
        if self._core is None:
            raise RunnerClosedError(
                f"task '{self.task_id}' runs without a runner",
                hint="test it with the fixture cloaca_runner, or pass a runner of your own",
            )
        from cloaca._workflows.registry import registry

        found = registry.runner_of(self._work)
        if found is None:
            raise RunnerClosedError(
                f"the runner of task '{self.task_id}' is gone: no variable refers to it",
                hint="keep it in a variable while tasks run, or use it in a 'with' block",
            )
        return found

    def is_cancelled(self) -> bool:
        """Whether the execution was cancelled, and the function's result will be dropped.

        Since 1.0.
        """
        self._work.beat()
        return self._work.is_cancelled()

    def is_slot_held(self) -> bool:
        """Whether the task occupies a worker; false while it waits in `defer_until`. Since 1.0."""
        return not self._defers

    def heartbeat(self, progress: float | None = None) -> None:
        """Report that the function is alive; raises if it should stop.

        The runner itself keeps the claim alive; a function need not call this.

        Args:
            progress: The part that is done, from 0 to 1; a value above 1 is read as a percentage.

        Raises:
            TaskTimeoutError: The attempt overran its timeout.
            Abort: The execution was cancelled. Its result is dropped in any case.

        Since 1.0.
        """
        if progress is not None:
            self.set_progress(progress, 1 if progress <= 1 else 100)
        self._check()

    def set_progress(self, done: float, total: float, message: str | None = None) -> None:
        """Report progress, which `WorkflowHandle.progress`, `cloaca watch` and bars show.

        Call it as often as you like: the progress is written to the database at most a few times a
        second, and other processes see it then.

        Args:
            done: The amount of work done.
            total: The total amount of work.
            message: A short text, e.g. about the current step.

        Raises:
            TaskValidationError: A number is negative, or `done` is more than `total`.
            ForkedProcessError: This is a forked child; only the task's own process can report
                progress.

        Since 1.0.
        """
        if not 0 <= done <= total:
            raise TaskValidationError(
                f"task '{self.task_id}': progress must be 0 <= done <= total, "
                f"not {done!r} of {total!r}"
            )
        self._work.beat()
        if self._core is not None:
            from cloaca._values.database_text import storable

            words = None if message is None else storable(str(message))
            self._core.note_progress(self._work, done, total, words)

    def defer_until(
        self,
        condition: Callable[[], bool | Awaitable[bool]],
        poll_interval_ms: float = 1000,
    ) -> Awaitable[None]:
        """Wait until a condition holds, and release the worker's slot to other tasks meanwhile.

        In a function it blocks; in an `async def` task it must be awaited. A function continues
        once it has reacquired a slot. The wait counts towards the task's timeout. At most 256
        functions of a runner release their slots at a time; further ones keep theirs.

        Args:
            condition: Called at once and then after every interval; in an `async def` task it may
                be a coroutine function.
            poll_interval_ms: Time between two calls, in milliseconds.

        Returns:
            An awaitable, in an `async def` task.

        Raises:
            TaskTimeoutError: The attempt overran its timeout.
            Abort: The execution was cancelled.
            TaskValidationError: The interval is not greater than zero.

        Example:
            >>> handle.defer_until(lambda: path.exists(), poll_interval_ms=500)

        Since 1.0.
        """
        if not 0 < poll_interval_ms < 1e12:
            raise TaskValidationError(
                f"task '{self.task_id}': poll_interval_ms must be greater than zero, "
                f"not {poll_interval_ms!r}"
            )
        seconds = poll_interval_ms / 1000
        if self._is_async:
            return self._defer_async(condition, seconds)
        self._defer(condition, seconds)
        return _Done()

    def _defer(self, condition: Callable[[], Any], seconds: float) -> None:
        from time import monotonic, sleep

        if condition():
            return
        released = self._release_slot()
        try:
            while True:
                until = monotonic() + seconds
                while (left := until - monotonic()) > 0:
                    self._check()
                    sleep(min(left, _CHECK_INTERVAL, self._left()))
                self._check()
                if condition():
                    return
        finally:
            self._reacquire_slot(released)

    async def _defer_async(self, condition: Callable[[], Any], seconds: float) -> None:
        from asyncio import sleep
        from inspect import isawaitable

        # Timeout and cancel arrive as a cancellation of the coroutine.
        released = False
        try:
            while True:
                holds = condition()
                if isawaitable(holds):
                    holds = await holds
                if holds:
                    return
                released = released or self._release_slot()
                self._work.beat()
                await sleep(seconds)
        finally:
            self._reacquire_slot(released)

    def _release_slot(self) -> bool:
        """Releases the worker's slot. Of several concurrent waits, only the first one does."""
        if self._defers or not self._work.begin_deferral():
            return False
        self._defers = True
        return True

    def _reacquire_slot(self, released: bool) -> None:
        if released:
            self._work.end_deferral()
            self._defers = False

    def _left(self) -> float:
        """Seconds until the attempt's deadline."""
        from time import monotonic

        return _CHECK_INTERVAL if self._deadline is None else max(self._deadline - monotonic(), 0)

    def _check(self) -> None:
        from time import monotonic

        if self.is_cancelled():
            raise Abort("the execution was cancelled")
        if self._deadline is not None and monotonic() >= self._deadline:
            raise TaskTimeoutError(f"task '{self.task_id}' overran its timeout")

    def __repr__(self) -> str:
        """Task, workflow, execution and attempt."""
        return (
            f"<TaskHandle {self.task_id!r} of workflow {self.workflow_name!r} "
            f"execution={self.execution_id} attempt={self.attempt}>"
        )


class _Done:
    """A completed awaitable."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield
