"""The handle of a submitted execution."""

from __future__ import annotations

from cloaca._executions.progress import ExecutionProgress
from cloaca._executions.result import WorkflowResult
from cloaca._executions.status import WorkflowStatus
from cloaca._values.duration import seconds_to_us
from cloaca._values.exceptions import CloacaException, WaitTimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import timedelta
    from typing import Any, Protocol

    from cloaca import _core
    from cloaca._core import Execution
    from cloaca._executions.history import Event
    from cloaca._executions.log_line import LogLine

    class HandleRunner(Protocol):
        """The methods of `DefaultRunner` that a handle uses."""

        _core: _core.Runner

        def _begin_wait(self, execution_id: str, *, blocks: bool = False) -> None: ...
        async def _await_end(self, execution_id: str) -> Execution: ...
        def get_execution_status(self, execution_id: str) -> WorkflowStatus: ...
        def get_execution(self, execution_id: str) -> WorkflowResult: ...
        def cancel_execution(self, execution_id: str) -> bool: ...
        def pause_execution(self, execution_id: str) -> WorkflowStatus: ...
        def resume_execution(self, execution_id: str) -> WorkflowStatus: ...
        def retry_execution(
            self,
            execution_id: str,
            from_task: str | None = None,
            from_step: str | None = None,
        ) -> WorkflowStatus: ...
        def events(self, execution_id: str) -> list[Event]: ...
        def explain(self, execution_id: str) -> list[str]: ...
        def logs(self, execution_id: str) -> list[LogLine]: ...


# The key of a handle that was made from an id, until it is read.
_UNREAD: Any = object()


class WorkflowHandle:
    """A submitted execution.

    `result()` waits for its end on a thread, `await handle` on an event loop.

    Example:
        >>> handle = runner.submit("etl", {"day": "2026-01-01"})
        >>> handle.status()
        <WorkflowStatus.RUNNING: 'Running'>
        >>> handle.result(timeout=60).final_context["total"]
        6

    Since 1.0.
    """

    __slots__ = ("_created", "_id", "_key", "_runner")

    def __init__(
        self,
        runner: HandleRunner,
        execution_id: str,
        *,
        key: str | None = _UNREAD,
        created: bool = False,
    ) -> None:
        """Private: made by `submit`, `find` and `get_handle`."""
        self._runner = runner
        self._id = execution_id
        self._key = key
        self._created = created

    @property
    def id(self) -> str:
        """The execution's id. Since 1.0."""
        return self._id

    @property
    def key(self) -> str | None:
        """The key that the execution was submitted with; `None` if it has none.

        A handle from `get_handle` reads it from the database, once.

        Since 1.0.
        """
        if self._key is _UNREAD:
            self._key = self._runner._core.reads.key(self._id)
        return self._key

    @property
    def created(self) -> bool:
        """Whether the submission that returned this handle started the execution.

        `False` if an earlier execution has the submission's key: the handle then refers to that
        execution, which keeps its own input. Also `False` for a handle from `find` or `get_handle`.

        Example:
            >>> handle = runner.submit("etl", {"day": 1}, key="2026-01-01")
            >>> if not handle.created:
            ...     print("submitted before:", handle.id)

        Since 1.0.
        """
        return self._created

    def status(self) -> WorkflowStatus:
        """The execution's state now. Since 1.0."""
        return self._runner.get_execution_status(self._id)

    def done(self) -> bool:
        """Whether the execution has ended: completed, failed or cancelled.

        Reads the state from the database. It does not wait.

        Returns:
            `True` if `result(wait_final=False)` would return at once. Final tasks may still run.

        Raises:
            WorkflowNotFoundError: The execution was pruned.
            DatabaseError: The database does not answer.

        Since 1.0.
        """
        return self.status().is_final

    def result(
        self, timeout: float | timedelta | None = None, *, wait_final: bool = True
    ) -> WorkflowResult:
        """Wait for the end, on the calling thread.

        In an `async def` task, and on any event loop, use `await handle` instead. A function that
        waits occupies its worker: the wait is refused if no worker would be left to run what it
        waits for.

        Args:
            timeout: Maximum time to wait, in seconds. The execution is not affected.
            wait_final: Whether to wait for its final tasks and compensations too.

        Returns:
            The result, also of an execution that failed or was cancelled.

        Raises:
            TimeoutError: The wait timed out; the execution continues.
            RunnerClosedError: The runner was shut down.
            WorkflowError: The code is `deadlock`: a coroutine of a runner calls this, a task waits
                for its own execution, or no worker would be left.

        Since 1.0.
        """
        # Most calls have no timeout and no final tasks, and there are thousands of them.
        if timeout is None:
            deadline = None
        else:
            from time import monotonic

            deadline = monotonic() + seconds_to_us("timeout", timeout, zero=True) / 1_000_000
        result = self._ended(self._id, deadline, timeout)
        if wait_final:
            final_id = result._execution.final_id
            if final_id is not None:
                result._final = self._ended(final_id, deadline, timeout)
        return result

    def _ended(
        self, execution_id: str, deadline: float | None, timeout: float | timedelta | None
    ) -> WorkflowResult:
        """Waits for the end of the execution, or of the execution of its final tasks."""
        runner = self._runner
        runner._begin_wait(execution_id, blocks=True)
        if deadline is None:
            left_us = None
        else:
            from time import monotonic

            left_us = max(0, int((deadline - monotonic()) * 1_000_000))
        execution = runner._core.wait(execution_id, left_us)
        if execution is None:
            is_first = execution_id == self._id
            what = "execution" if is_first else f"the execution of the final tasks of {self._id},"
            seconds = seconds_to_us("timeout", timeout or 0, zero=True) / 1_000_000
            raise WaitTimeoutError(
                f"{what} {execution_id} has not ended within {seconds:g} s",
                hint="the execution continues: call result() again, or cancel() it",
            )
        return WorkflowResult(execution)

    def __await__(self) -> Generator[Any, None, WorkflowResult]:
        """Wait for the end on an event loop, without a thread.

        Raises:
            RunnerClosedError: The runner was shut down.
        """
        return self._wait().__await__()

    async def _wait(self) -> WorkflowResult:
        result = WorkflowResult(await self._runner._await_end(self._id))
        final_id = result._execution.final_id
        if final_id is not None:
            result._final = WorkflowResult(await self._runner._await_end(final_id))
        return result

    def cancel(self) -> bool:
        """Cancel the execution: see `DefaultRunner.cancel_execution`.

        Returns:
            Whether it was open: `False` if it had ended already.

        Since 1.0.
        """
        return self._runner.cancel_execution(self._id)

    def pause(self) -> WorkflowStatus:
        """Pause the execution: see `DefaultRunner.pause_execution`. Since 1.0."""
        return self._runner.pause_execution(self._id)

    def resume(self) -> WorkflowStatus:
        """Resume the execution: see `DefaultRunner.resume_execution`. Since 1.0."""
        return self._runner.resume_execution(self._id)

    def retry(self, from_task: str | None = None, from_step: str | None = None) -> WorkflowStatus:
        """Run failed tasks again: see `DefaultRunner.retry_execution`.

        Args:
            from_task: Runs this task and all that depend on it again too, completed or not.
            from_step: Runs the task with this recorded step again, from the step on.

        Returns:
            The new state. It is durable.

        Raises:
            WorkflowError: The execution has not ended, was cancelled, has completed and
                both arguments are omitted, or has no such task or step.

        Since 1.0.
        """
        return self._runner.retry_execution(self._id, from_task, from_step)

    def events(self) -> list[Event]:
        """The execution's history, oldest first. Since 1.0."""
        return self._runner.events(self._id)

    def progress(self) -> ExecutionProgress:
        """The number of tasks in each state, and the progress of each task.

        A mapping with an entry for every state; `progress.tasks` has what each task reported with
        `TaskHandle.set_progress`, also in another process. For a map, it has the counts of the
        items.

        Since 1.0.
        """
        report = self._runner._core.reads.progress(self._id)
        return ExecutionProgress(report.execution, report.tasks)

    def explain(self) -> list[str]:
        """Explains the state of the execution: see `DefaultRunner.explain`. Since 1.0."""
        return self._runner.explain(self._id)

    def logs(self) -> list[LogLine]:
        """The log lines of its tasks: see `DefaultRunner.logs`. Since 1.0."""
        return self._runner.logs(self._id)

    def _repr_html_(self) -> str:
        """The execution as it is now, for notebooks."""
        return self._runner.get_execution(self._id)._repr_html_()

    def __eq__(self, other: object) -> bool:
        """Whether both are handles of the same execution."""
        return self._id == other._id if isinstance(other, WorkflowHandle) else NotImplemented

    def __hash__(self) -> int:
        """The hash of the execution's id."""
        return hash(self._id)

    def __repr__(self) -> str:
        """The id, the key if there is one, and the state now if the database answers."""
        try:
            key, status = self.key, str(self.status())
        except CloacaException:
            key, status = None if self._key is _UNREAD else self._key, "unknown"
        shown = "" if key is None else f" key={key!r}"
        return f"<WorkflowHandle {self._id}{shown} status={status}>"
