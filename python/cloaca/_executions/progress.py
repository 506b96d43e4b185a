"""The progress of executions and their tasks."""

from __future__ import annotations

from cloaca._executions.status import TaskStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca import _core


class TaskProgress:
    """The progress of a task.

    Attributes:
        task_id: The id of the task.
        status: The task's state.
        attempts: The number of attempts so far.
        done: The amount of finished work that the task reported with `TaskHandle.set_progress`;
            `None` if the task has reported none. For a map, the number of completed, failed and
            skipped items.
        total: The total amount of work that the task reported; for a map, the number of items.
        message: The message that the task reported; for a map, the counts of items as text.
        items: For a map whose list has been read: the number of items in each state, by state.
            `Ready` items wait for another attempt; `Cancelled` items will not run. `None` for other
            tasks.
        parallel: For a map: the maximum number of items that run at once; `None` for no limit.

    Example:
        >>> task = handle.progress().tasks["copy"]
        >>> task.done, task.total, task.fraction
        (17, 40, 0.425)

    Since 1.0.
    """

    __slots__ = (
        "attempts",
        "done",
        "items",
        "message",
        "parallel",
        "status",
        "task_id",
        "total",
    )

    def __init__(
        self,
        task_id: str,
        status: TaskStatus,
        attempts: int,
        done: float | None = None,
        total: float | None = None,
        message: str | None = None,
        items: dict[TaskStatus, int] | None = None,
        parallel: int | None = None,
    ) -> None:
        """Private: `WorkflowHandle.progress` creates these objects."""
        self.task_id = task_id
        self.status = status
        self.attempts = attempts
        self.done = done
        self.total = total
        self.message = message
        self.items = items
        self.parallel = parallel

    @property
    def fraction(self) -> float:
        """The part of the work that is done, from 0 to 1; 1 if the task has ended. Since 1.0."""
        if self.status.is_terminal:
            return 1.0
        if self.done is None or not self.total:
            return 0.0
        return self.done / self.total

    def __repr__(self) -> str:
        """Return the id, the state and the reported progress."""
        details = "" if self.done is None else f" {self.done:g} of {self.total:g}"
        details += "" if self.message is None else f" {self.message!r}"
        return f"<TaskProgress {self.task_id!r} {self.status}{details}>"


class ExecutionProgress(dict[TaskStatus, int]):
    """The number of tasks in each state, and the progress of each task.

    Example:
        >>> progress = handle.progress()
        >>> progress[cloaca.TaskStatus.COMPLETED], progress.tasks["copy"].message
        (2, 'file 17')

    Attributes:
        tasks: A `TaskProgress` for each task, by id, in the order of the tasks' declaration.

    Since 1.0.
    """

    tasks: dict[str, TaskProgress]

    def __init__(
        self,
        execution: _core.Execution,
        reported: list[_core.ProgressRecord],
    ) -> None:
        """Private: `WorkflowHandle.progress` creates these objects."""
        super().__init__(dict.fromkeys(TaskStatus, 0))
        progress = {record.task_id: record for record in reported}
        self.tasks = {}
        for task in execution.tasks():
            status = TaskStatus(task.status)
            self[status] += 1
            shown = self.tasks[task.task_id] = TaskProgress(task.task_id, status, task.attempts)
            record = progress.get(task.task_id)
            if record is not None:
                shown.done, shown.total = record.done, record.total
                shown.message = record.message
                if record.items is not None:
                    shown.items = {TaskStatus(name): count for name, count in record.items}
                    shown.parallel = record.parallel

    @property
    def fraction(self) -> float:
        """The mean of the tasks' fractions, from 0 to 1. Since 1.0."""
        return sum(task.fraction for task in self.tasks.values()) / len(self.tasks)
