"""The children of an execution, in the order in which they were started (semantics M8)."""

from __future__ import annotations

from cloaca._core import ListFilter
from cloaca._executions.result import WorkflowResult

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._core import Execution

#: The number of children that one query reads.
_PAGE = 500


def children_of(reads: Any, execution_id: str) -> list[tuple[str, WorkflowResult]]:
    """Returns an execution's children and the executions of its final tasks, each with its origin.

    The origin is a string that names the task that started the child and, if the task started
    several children at once, the number of this child. If a function started the child, the origin
    also has the key of the call of `handle.run`. The origin of the executions of final tasks is
    `final tasks`.

    Raises:
        WorkflowNotFoundError: No execution has this id.
    """
    parent = reads.execution(execution_id)
    children: list[Execution] = []
    cursor: str | None = None
    while True:
        page = reads.executions(ListFilter(parent=execution_id), _PAGE, cursor)
        children += page.executions
        cursor = page.next_cursor
        if cursor is None:
            break
    tasks = [task.task_id for task in parent.tasks()] if children else []
    children.sort(key=_started)
    return [(_origin(child, tasks), WorkflowResult(child)) for child in children]


def _started(child: Execution) -> tuple[int, int, int]:
    """Returns the sort key of a child: its creation time, its task, and its number."""
    task, _, number = child.origin or (-1, None, None)
    return child.created_at_us, task, -1 if number is None else number


def _origin(child: Execution, tasks: list[str]) -> str:
    """Returns a string that names what started a child."""
    if child.origin is None:
        return "final tasks"
    task, key, number = child.origin
    name = tasks[task] if key is None else f"{tasks[task]}.{key}"
    return name if number is None else f"{name}[{number}]"
