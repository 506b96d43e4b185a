"""The progress of executions and their tasks."""

from __future__ import annotations

from cloaca._executions.status import TaskStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca import _core


class TaskProgress:
    """The progress of a task.

    Attributes:
        task_id: The task.
        status: Its state.
        attempts: The number of its attempts so far.
        done: The amount of work done that it reported with `TaskHandle.set_progress`; `None` if it
            reported none.
        total: The total amount of work that it reported.
        message: The message that it reported.
        items: For a map whose list has been read: the number of its items in each state, by state.
            `Ready` items wait for another attempt, `Cancelled` ones will not run. `None` for other
            tasks. For a map, `done` counts the completed and the failed items.
        parallel: For a map: the maximum number of items that run at once; `None` for no limit.

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
        """Private: made by `WorkflowHandle.progress`."""
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
        """The id, the state and the reported progress."""
        said = "" if self.done is None else f" {self.done:g} of {self.total:g}"
        said += "" if self.message is None else f" {self.message!r}"
        return f"<TaskProgress {self.task_id!r} {self.status}{said}>"


class ExecutionProgress(dict[TaskStatus, int]):
    """The number of tasks in each state, and the progress of each task.

    Example:
        >>> progress = handle.progress()
        >>> progress[cloaca.TaskStatus.COMPLETED], progress.tasks["copy"].message
        (2, 'file 17')

    Attributes:
        tasks: A `TaskProgress` for each task, by id, in the order of their declaration.

    Since 1.0.
    """

    tasks: dict[str, TaskProgress]

    def __init__(
        self,
        execution: _core.Execution,
        reported: list[_core.ProgressRecord],
    ) -> None:
        """Private: made by `WorkflowHandle.progress`."""
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
