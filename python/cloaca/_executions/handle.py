"""The handle of a submitted execution."""

from __future__ import annotations

from cloaca._executions.result import WorkflowResult
from cloaca._executions.status import WorkflowStatus
from cloaca._values.arguments import check_flag, check_string
from cloaca._values.duration import wait_to_us
from cloaca._values.exceptions import CloacaException, ConfigurationError, WaitTimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import timedelta
    from typing import Any, Protocol

    from cloaca import _core
    from cloaca._core import Execution
    from cloaca._executions.history import Event
    from cloaca._executions.log_line import LogLine
    from cloaca._executions.progress import ExecutionProgress

    class HandleRunner(Protocol):
        """The methods of `DefaultRunner` that a handle uses."""

        _core: _core.Runner

        def _begin_wait(
            self, execution_id: str, *, blocks: bool = False
        ) -> WorkflowResult | None: ...
        async def _await_end(self, execution_id: str) -> Execution: ...
        def get_execution_status(self, execution_id: str) -> WorkflowStatus: ...
        def get_execution(self, execution_id: str) -> WorkflowResult: ...
        def cancel_execution(self, execution_id: str) -> bool: ...
        def pause_execution(self, execution_id: str) -> WorkflowStatus: ...
        def resume_execution(self, execution_id: str) -> WorkflowStatus: ...
        def retry_execution(
            self,
            execution_id: str,
            from_task: str | Callable[..., object] | None = None,
            from_step: str | None = None,
        ) -> WorkflowStatus: ...
        def events(self, execution_id: str) -> list[Event]: ...
        def explain(self, execution_id: str) -> list[str]: ...
        def logs(self, execution_id: str) -> list[LogLine]: ...


# The key of a handle that was created from an id, until the key is read from the database.
_UNREAD: Any = object()


class WorkflowHandle:
    """A submitted execution.

    To wait for the execution's end, use `result()` on a thread, and `await handle` on an event
    loop.

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
        key: str | None = _UNREAD,
        created: bool = False,
    ) -> None:
        """Private: `DefaultRunner.submit`, `find` and `get_handle` create these objects."""
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

        A handle from `get_handle` reads the key from the database, once.

        Since 1.0.
        """
        if self._key is _UNREAD:
            self._key = self._runner._core.reads.key(self._id)
        return self._key

    @property
    def created(self) -> bool:
        """Whether the submission that returned this handle created the execution.

        `False` if an earlier execution has the submission's key. The handle then refers to the
        earlier execution, which keeps its own input. Also `False` for a handle from `find` or
        `get_handle`.

        Example:
            >>> handle = runner.submit("etl", {"day": 1}, key="2026-01-01")
            >>> if not handle.created:
            ...     print("submitted before:", handle.id)

        Since 1.0.
        """
        return self._created

    def status(self) -> WorkflowStatus:
        """Return the execution's state now.

        Raises:
            WorkflowNotFoundError: The execution was pruned.

        Example:
            >>> handle.status()
            <WorkflowStatus.RUNNING: 'Running'>

        Since 1.0.
        """
        return self._runner.get_execution_status(self._id)

    def done(self) -> bool:
        """Return whether the execution has ended: completed, failed or cancelled.

        Reads the state from the database, without waiting.

        Returns:
            `True` if the execution has ended. Its final tasks may still run.

        Raises:
            WorkflowNotFoundError: The execution was pruned.
            DatabaseError: The database does not answer.

        Example:
            >>> if handle.done():
            ...     print(handle.result().status)

        Since 1.0.
        """
        return self.status().is_final

    def result(
        self, timeout: float | timedelta | str | None = None, *, wait_final: bool = True
    ) -> WorkflowResult:
        """Wait for the execution's end, on the calling thread.

        In an `async def` task, and on any event loop, use `await handle` instead. If a task's
        function calls this method, the task occupies its worker during the wait. The wait is
        refused if no worker is left to run the execution.

        Args:
            timeout: Maximum time to wait: seconds, a timedelta, or a string such as `"90s"`.
                `None` and `math.inf` mean no limit. A timeout does not affect the execution.
            wait_final: Whether to wait for the final tasks and compensations too.

        Returns:
            The result, even if the execution failed or was cancelled.

        Raises:
            TimeoutError: The wait timed out; the execution continues.
            ConfigurationError: The timeout is not a duration, or is negative. The error is a
                `ValueError`.
            WorkflowNotFoundError: The execution was pruned.
            RunnerClosedError: The runner was shut down, or it was not started and its database is
                in memory.
            WorkflowError: The code is `deadlock`: a coroutine of a runner calls this method before
                the execution has ended, a task waits for its own execution, or no worker is left to
                run the execution.

        Example:
            >>> result = handle.result(timeout="5m").raise_for_status()

        Since 1.0.
        """
        if timeout is None and wait_final is True:
            # The most frequent case: the execution has ended by now. No wait follows, so none of
            # the checks below is needed.
            execution = self._runner._core.recent_end(self._id)
            if execution is not None:
                return WorkflowResult(execution)
        check_flag("wait_final", wait_final)
        deadline = timeout_us = None
        # Calls without a timeout are the most frequent, so they do not read the clock.
        if timeout is not None and (timeout_us := wait_to_us(timeout)) is not None:
            from time import monotonic

            deadline = monotonic() + timeout_us / 1_000_000
        result = self._ended(self._id, deadline, timeout_us)
        if wait_final:
            final_id = result._execution.final_id
            if final_id is not None:
                result._final = self._ended(final_id, deadline, timeout_us)
        return result

    def _ended(
        self, execution_id: str, deadline: float | None, timeout_us: int | None
    ) -> WorkflowResult:
        """Waits for the end of the execution, or of the execution of its final tasks."""
        runner = self._runner
        found = runner._begin_wait(execution_id, blocks=True)
        if found is not None:
            return found
        if deadline is None:
            left_us = None
        else:
            from time import monotonic

            left_us = max(0, int((deadline - monotonic()) * 1_000_000))
        execution = runner._core.wait(execution_id, left_us)
        if execution is None:
            what = f"execution {execution_id}"
            if execution_id != self._id:
                what += f", which runs the final tasks of {self._id},"
            raise WaitTimeoutError(
                f"{what} has not ended within {(timeout_us or 0) / 1_000_000:g} s",
                hint="the execution continues: call result() again, or cancel() it",
            )
        return WorkflowResult(execution)

    def __await__(self) -> Generator[Any, None, WorkflowResult]:
        """Wait for the execution's end on an event loop, without a thread.

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
            `True` if this call cancelled the execution; `False` if the execution had already ended.

        Example:
            >>> handle.cancel()
            True

        Since 1.0.
        """
        return self._runner.cancel_execution(self._id)

    def pause(self) -> WorkflowStatus:
        """Pause the execution: see `DefaultRunner.pause_execution`.

        Returns:
            The new state, which is durable.

        Raises:
            WorkflowError: The execution has ended.

        Example:
            >>> handle.pause()
            <WorkflowStatus.PAUSED: 'Paused'>

        Since 1.0.
        """
        return self._runner.pause_execution(self._id)

    def resume(self) -> WorkflowStatus:
        """Resume the execution: see `DefaultRunner.resume_execution`.

        Returns:
            The new state, which is durable.

        Raises:
            WorkflowError: The execution has ended.

        Example:
            >>> handle.resume()
            <WorkflowStatus.RUNNING: 'Running'>

        Since 1.0.
        """
        return self._runner.resume_execution(self._id)

    def retry(
        self,
        from_task: str | Callable[..., object] | None = None,
        from_step: str | None = None,
    ) -> WorkflowStatus:
        """Run failed tasks again: see `DefaultRunner.retry_execution`.

        Args:
            from_task: A task, by id or by function, to run again with all its descendants, even if
                they have completed.
            from_step: A recorded step. Its task runs again, starting with this step.

        Returns:
            The new state, which is durable.

        Raises:
            WorkflowError: The execution has not ended, was cancelled, or has no such task or step;
                or it has completed and both arguments are omitted.

        Example:
            >>> handle.retry(from_task="load")

        Since 1.0.
        """
        return self._runner.retry_execution(self._id, from_task, from_step)

    def events(self) -> list[Event]:
        """Return the execution's history, oldest event first: see `DefaultRunner.events`.

        Example:
            >>> [event.type for event in handle.events()]

        Since 1.0.
        """
        return self._runner.events(self._id)

    def progress(self) -> ExecutionProgress:
        """Return the number of tasks in each state, and the progress of each task.

        Returns:
            A mapping with an entry for every state. `progress.tasks` has the progress that each
            task reported with `TaskHandle.set_progress`, in this or another process, and the counts
            of a map's items.

        Example:
            >>> handle.progress()[cloaca.TaskStatus.RUNNING]
            4

        Since 1.0.
        """
        from cloaca._executions.progress import ExecutionProgress

        report = self._runner._core.reads.progress(self._id)
        return ExecutionProgress(report.execution, report.tasks)

    def explain(self) -> list[str]:
        """Explain the state of the execution: see `DefaultRunner.explain`.

        Returns:
            Plain sentences: one for each reason, or the outcome of an ended execution.

        Example:
            >>> for sentence in handle.explain():
            ...     print(sentence)

        Since 1.0.
        """
        return self._runner.explain(self._id)

    def logs(self) -> list[LogLine]:
        """Return the log lines of the tasks: see `DefaultRunner.logs`.

        Example:
            >>> for line in handle.logs():
            ...     print(line)

        Since 1.0.
        """
        return self._runner.logs(self._id)

    def _repr_html_(self) -> str:
        """Return the execution's current state as HTML, for notebooks."""
        return self._runner.get_execution(self._id)._repr_html_()

    def __eq__(self, other: object) -> bool:
        """Return whether both are handles of the same execution."""
        return self._id == other._id if isinstance(other, WorkflowHandle) else NotImplemented

    def __hash__(self) -> int:
        """Return the hash of the execution's id."""
        return hash(self._id)

    def __repr__(self) -> str:
        """Return the id, the key if there is one, and the state if the database answers."""
        try:
            key, status = self.key, str(self.status())
        except CloacaException:
            key, status = None if self._key is _UNREAD else self._key, "unknown"
        shown = "" if key is None else f" key={key!r}"
        return f"<WorkflowHandle {self._id}{shown} status={status}>"


def check_id(execution_id: object) -> str:
    """Checks that the id of an execution is a string, and returns it.

    Raises:
        ConfigurationError: The id is not a string.
    """
    if isinstance(execution_id, WorkflowHandle):
        raise ConfigurationError(
            "execution_id must be a string, not WorkflowHandle", hint="pass handle.id"
        )
    return check_string("execution_id", execution_id)


def id_of(execution: object, name: str = "execution_id") -> str:
    """Returns the id of an execution that is given as a handle or by its id.

    Args:
        execution: The execution.
        name: The name of the argument, for the message.

    Raises:
        ConfigurationError: The value is neither an id nor a handle.
    """
    id = execution if isinstance(execution, str) else getattr(execution, "id", None)
    if isinstance(id, str):
        return id
    raise ConfigurationError(f"{name} must be an id or a handle, not {type(execution).__name__}")
