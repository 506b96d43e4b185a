"""The states of executions and tasks."""

from __future__ import annotations

from enum import StrEnum


class WorkflowStatus(StrEnum):
    """The state of an execution. It is a string: `result.status == "Completed"`.

    Example:
        >>> cloaca.WorkflowStatus("Failed").is_final
        True

    Since 1.0.
    """

    PENDING = "Pending"
    """Submitted; no task has started yet."""
    RUNNING = "Running"
    """At least one task has started."""
    PAUSED = "Paused"
    """Paused by `pause`: running tasks may finish, no new tasks start."""
    COMPLETED = "Completed"
    """Ended; no task failed, or every failure was handled."""
    FAILED = "Failed"
    """Ended with an unhandled failure, or at its timeout."""
    CANCELLED = "Cancelled"
    """Ended by `cancel`."""

    @property
    def is_final(self) -> bool:
        """Whether the execution has ended. Since 1.0."""
        return self in _ENDED

    @property
    def is_terminal(self) -> bool:
        """The same as `is_final`. Since 1.0."""
        return self.is_final


class TaskStatus(StrEnum):
    """The state of a task of an execution. It is a string.

    Example:
        >>> cloaca.TaskStatus.READY == "Ready", cloaca.TaskStatus.READY.is_final
        (True, False)

    Since 1.0.
    """

    PENDING = "Pending"
    """Waits for its dependencies."""
    READY = "Ready"
    """Waits for a worker, or for a time such as the end of a retry delay."""
    RUNNING = "Running"
    """An attempt of the task is running."""
    COMPLETED = "Completed"
    """Ended successfully."""
    FAILED = "Failed"
    """Ended with a failure; no further attempt follows."""
    SKIPPED = "Skipped"
    """Did not run. `TaskResult.skip_reason` says why."""
    CANCELLED = "Cancelled"
    """Ended because its execution was cancelled or timed out."""
    WAITING = "Waiting"
    """Waits for a signal, an approval, a time or a child, without occupying a worker."""

    @property
    def is_final(self) -> bool:
        """Whether the task has ended. Since 1.0."""
        return self in _ENDED_TASKS

    @property
    def is_terminal(self) -> bool:
        """The same as `is_final`. Since 1.0."""
        return self.is_final


_ENDED_TASKS = frozenset(
    {TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED}
)
_ENDED = frozenset({WorkflowStatus.COMPLETED, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED})

#: The states of executions, by name. A lookup is several times faster than `WorkflowStatus(name)`.
STATUSES: dict[str, WorkflowStatus] = {status.value: status for status in WorkflowStatus}
