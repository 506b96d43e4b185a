"""The result of an execution: its state, times, final context, error and tasks."""

from __future__ import annotations

from cloaca._executions.status import STATUSES, TaskStatus, WorkflowStatus
from cloaca._values.duration import rfc3339, us_to_instant
from cloaca._values.error_info import ErrorInfo
from cloaca._values.exceptions import WorkflowExecutionError, WorkflowTimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from datetime import datetime, timedelta
    from typing import Any, Self, TypeVar, overload

    from cloaca import _core
    from cloaca._values.exceptions import WorkflowError

    R = TypeVar("R")


class TaskResult:
    """The result of one task of an execution.

    Attributes:
        task_id: The task's id.
        status: The task's state.
        attempts: The number of attempts so far.
        error: The error of the last attempt, if the attempt failed.
        skip_reason: The reason for which the task was skipped, if it was skipped.

    Example:
        >>> for task_id, task in runner.execute("etl").tasks.items():
        ...     print(task_id, task.status, task.attempts, task.duration)

    Since 1.0.
    """

    __slots__ = (
        "_ended_us",
        "_started_us",
        "attempts",
        "error",
        "skip_reason",
        "status",
        "task_id",
    )

    def __init__(self, task: _core.TaskRecord) -> None:
        """Private: a `WorkflowResult` creates these objects."""
        self.task_id = task.task_id
        self.status = TaskStatus(task.status)
        self.attempts = task.attempts
        self._started_us = task.started_at_us
        self._ended_us = task.ended_at_us
        self.error = None if task.error is None else _error_info(task.error)
        self.skip_reason = task.skip_reason

    @property
    def started_at(self) -> datetime | None:
        """The time at which the last attempt started; `None` if none has started. Since 1.0."""
        return None if self._started_us is None else us_to_instant(self._started_us)

    @property
    def ended_at(self) -> datetime | None:
        """The time at which the task ended; `None` if it has not ended. Since 1.0."""
        return None if self._ended_us is None else us_to_instant(self._ended_us)

    @property
    def duration(self) -> timedelta | None:
        """The duration of the last attempt; `None` if the task has not ended. Since 1.0."""
        return _span(self._started_us, self._ended_us)

    def __repr__(self) -> str:
        """Return the id, the state and further details."""
        more = [f"attempts={self.attempts}"]
        more += [f"error={self.error.type}"] if self.error else []
        more += [f"skip_reason={self.skip_reason!r}"] if self.skip_reason else []
        return f"<TaskResult {self.task_id!r} {self.status} {' '.join(more)}>"


class _KeptExecution:
    """The data of a result, independent of the engine, for copies and pickles of the result."""

    def __init__(self, execution: _core.Execution) -> None:
        self.execution_id = execution.execution_id
        self.workflow_name = execution.workflow_name
        self.workflow_version = execution.workflow_version
        self.output = execution.output
        self.results = execution.results
        self.status = execution.status
        self.key = execution.key
        self.priority = execution.priority
        self.labels = execution.labels
        self.created_at_us = execution.created_at_us
        self.started_at_us = execution.started_at_us
        self.ended_at_us = execution.ended_at_us
        self.error = None if execution.error is None else _plain(execution.error)
        self._context = execution.final_context()
        finale = execution.final()
        self._final = None if finale is None else _KeptExecution(finale)
        self._tasks = [_plain(task) for task in execution.tasks()]
        for task in self._tasks:
            task.error = None if task.error is None else _plain(task.error)
        self._items = {
            task.task_id: execution.item_results(task.task_id)
            for task in self._tasks
            if task.status == TaskStatus.COMPLETED and execution.is_map(task.task_id)
        }

    def final_context(self) -> _core.Context:
        return self._context.copy()

    def tasks(self) -> list[Any]:
        return list(self._tasks)

    def final(self) -> Any:
        return self._final

    def is_map(self, task_id: str) -> bool:
        return task_id in self._items

    def item_results(self, task_id: str) -> list[str | None]:
        return self._items[task_id]


class WorkflowResult:
    """A snapshot of an execution. Its properties are decoded on first access.

    Example:
        >>> result = runner.execute("etl")
        >>> result.status, result.final_context["total"]
        (<WorkflowStatus.COMPLETED: 'Completed'>, 6)

    Since 1.0.
    """

    __slots__ = ("_context", "_execution", "_final", "_tasks")

    def __init__(self, execution: _core.Execution) -> None:
        """Private: `execute`, `result` and `get_execution` create these objects."""
        self._execution = execution
        self._context: _core.Context | None = None
        self._final: WorkflowResult | None = None
        self._tasks: dict[str, TaskResult] | None = None

    @property
    def execution_id(self) -> str:
        """The execution's id. Since 1.0."""
        return self._execution.execution_id

    @property
    def workflow_name(self) -> str:
        """The workflow's name. Since 1.0."""
        return self._execution.workflow_name

    @property
    def key(self) -> str | None:
        """The key that the execution was submitted with; `None` if it has none. Since 1.0."""
        return self._execution.key

    @property
    def labels(self) -> dict[str, str]:
        """The labels that the execution was submitted with, by name. Since 1.0."""
        return self._execution.labels

    @property
    def status(self) -> WorkflowStatus:
        """The execution's state. Since 1.0."""
        return STATUSES[self._execution.status]

    @property
    def created_at(self) -> datetime:
        """The time at which the execution was submitted. Since 1.0."""
        return us_to_instant(self._execution.created_at_us)

    @property
    def started_at(self) -> datetime | None:
        """The time at which the first task started; `None` if none has started. Since 1.0."""
        us = self._execution.started_at_us
        return None if us is None else us_to_instant(us)

    @property
    def ended_at(self) -> datetime | None:
        """The time at which the execution ended; `None` if it has not ended. Since 1.0."""
        us = self._execution.ended_at_us
        return None if us is None else us_to_instant(us)

    @property
    def _ended_at_us(self) -> int | None:
        """`ended_at` in microseconds since 1970."""
        return self._execution.ended_at_us

    @property
    def duration(self) -> timedelta | None:
        """The time from the first task's start to the execution's end.

        `None` if no task has started, or the execution has not ended. Since 1.0.
        """
        return _span(self._execution.started_at_us, self._execution.ended_at_us)

    @property
    def start_time(self) -> str:
        """`started_at` as RFC 3339 text, or `created_at` if no task has started.

        Since 1.0.
        """
        us = self._execution.started_at_us
        return rfc3339(self._execution.created_at_us if us is None else us)

    @property
    def end_time(self) -> str | None:
        """`ended_at` as RFC 3339 text; `None` if the execution has not ended. Since 1.0."""
        us = self._execution.ended_at_us
        return None if us is None else rfc3339(us)

    @property
    def final_context(self) -> _core.Context:
        """The input, with the keys that the completed tasks wrote. Since 1.0."""
        if self._context is None:
            self._context = self._execution.final_context()
        return self._context

    @property
    def output(self) -> Any:
        """The result that the workflow's `output=` names, or a tuple of results.

        A value is decoded as the type that the task's function returns, if this process has the
        function. Otherwise the value is plain JSON. A result is `None` if it is missing because the
        execution failed or the task was skipped. Without `output=`, this is the final context.

        Since 1.0.
        """
        from cloaca._executions.output import output_of

        return output_of(self)

    if TYPE_CHECKING:

        @overload
        def of(self, task: str, /) -> Any: ...
        @overload
        def of(self, task: Callable[..., Coroutine[Any, Any, R]], /) -> R: ...
        @overload
        def of(self, task: Callable[..., R], /) -> R: ...

    def of(self, task: Any, /) -> Any:
        """Return the result of a task, decoded as the type that the task's function returns.

        Args:
            task: The task's function, its id, or the name of its result.

        Returns:
            The returned value. For a task that takes the context: the value that the task stored
            under its own id, or `None`.

        Raises:
            ContextError: The workflow has no such task, or the task has not completed.
            TaskInputError: The stored value does not match the annotation.

        Example:
            >>> runner.execute("etl").of(total)
            6

        Since 1.0.
        """
        from cloaca._executions.output import result_of

        return result_of(self, task)

    @property
    def error(self) -> ErrorInfo | None:
        """The cause of the failure: the first failed task's error, or a timeout.

        `None` if there is no failure. Since 1.0.
        """
        failure = self._execution.error
        return None if failure is None else _error_info(failure)

    @property
    def error_message(self) -> str | None:
        """`error` as text that names the failed task; `None` if there is no failure. Since 1.0."""
        error = self.error
        return None if error is None else str(error)

    @property
    def tasks(self) -> dict[str, TaskResult]:
        """The result of each task, by id, in the order of the tasks' declaration. Since 1.0."""
        if self._tasks is None:
            tasks = self._execution.tasks()
            self._tasks = {task.task_id: TaskResult(task) for task in tasks}
        return self._tasks

    @property
    def final(self) -> WorkflowResult | None:
        """The execution of the final tasks and compensations; `None` if there is none.

        `handle.result()` waits until the execution of the final tasks has ended. With
        `wait_final=False`, and in a result from `get_execution`, this property is a snapshot that
        is taken at the first access.

        Example:
            >>> result = runner.execute("order", {"order_id": "o-1"})
            >>> if result.final is not None and result.final.status == "Failed":
            ...     runner.retry_execution(result.final.execution_id)

        Since 1.0.
        """
        if self._final is None:
            execution = self._execution.final()
            self._final = None if execution is None else WorkflowResult(execution)
        return self._final

    def raise_for_status(self) -> Self:
        """Raise an exception if the execution failed or was cancelled.

        Returns:
            The result itself, also if the execution has not ended.

        Raises:
            WorkflowTimeoutError: The execution overran its timeout.
            WorkflowExecutionError: The execution failed for another reason, or was cancelled.

        Example:
            >>> total = handle.result().raise_for_status().final_context["total"]

        Since 1.0.
        """
        status = self.status
        what = f"execution {self.execution_id} of workflow '{self.workflow_name}'"
        if status is WorkflowStatus.CANCELLED:
            raise self._marked(
                WorkflowExecutionError(f"{what} was cancelled", code="workflow_cancelled")
            )
        if status is WorkflowStatus.FAILED:
            error = self.error
            if error is not None and error.type == "WorkflowTimeoutError":
                raise self._marked(WorkflowTimeoutError(f"{what} timed out: {error.message}"))
            raise self._marked(WorkflowExecutionError(f"{what} failed: {error}"))
        return self

    def _marked(self, error: WorkflowError) -> WorkflowError:
        """Return the error, marked as not retryable if the execution has a key.

        If a task raises the error, a retry of the task would not help: its submission with the same
        key would return the same ended execution.
        """
        error._is_final = self.key is not None
        return error

    def __await__(self) -> Generator[Any, None, Self]:
        """Returns the result, and warns that the call that returned it blocked the event loop."""
        import warnings

        warnings.warn(
            "a WorkflowResult was awaited, but result() or execute() had already blocked the event "
            "loop until the execution ended; hint: use 'await handle' instead of 'await "
            "handle.result()', or 'await runner.execute_async(...)' instead of 'execute(...)'",
            RuntimeWarning,
            stacklevel=2,
        )
        return self
        yield  # type: ignore[unreachable]  # makes this a generator, which `await` requires

    def __reduce__(self) -> tuple[type[Self], tuple[Any]]:
        """Return the class and the result's data, for copies and pickles."""
        return type(self), (_KeptExecution(self._execution),)

    def _repr_html_(self) -> str:
        """Return the execution and its tasks as a table, for notebooks."""
        from cloaca._values.html import MAX_ROWS, escape, seconds_text, status_text, table

        tasks = list(self.tasks.values())
        rows = [
            [
                escape(task.task_id),
                status_text(task.status),
                str(task.attempts),
                seconds_text(task.duration),
                escape(str(task.error or task.skip_reason or "")),
            ]
            for task in tasks[:MAX_ROWS]
        ]
        more = f"<br>and {len(tasks) - MAX_ROWS} more tasks" if len(tasks) > MAX_ROWS else ""
        error = f"<br>{escape(self.error_message)}" if self.error_message else ""
        return (
            f"<div><b>{escape(self.workflow_name)}</b> <code>{self.execution_id}</code> "
            f"{status_text(self.status)} {seconds_text(self.duration)}{error}"
            f"{table(['task', 'status', 'attempts', 'duration', 'note'], rows)}{more}</div>"
        )

    def __repr__(self) -> str:
        """Return the workflow, the id, the key, the state and the error."""
        error = self.error_message
        shown = "" if self.key is None else f" key={self.key!r}"
        shown += "" if error is None else f" error={error!r}"
        return f"<WorkflowResult {self.workflow_name!r} {self.execution_id} {self.status}{shown}>"


def _span(start: int | None, end: int | None) -> timedelta | None:
    if start is None or end is None:
        return None
    from datetime import timedelta

    return timedelta(microseconds=end - start)


def _error_info(failure: _core.Failure) -> ErrorInfo:
    return ErrorInfo(failure.type, failure.message, failure.traceback, failure.task_id)


def _plain(record: Any) -> Any:
    """Returns a copy of an engine record that can be pickled."""
    from types import SimpleNamespace

    names = (name for name in dir(record) if not name.startswith("_"))
    return SimpleNamespace(**{name: getattr(record, name) for name in names})
