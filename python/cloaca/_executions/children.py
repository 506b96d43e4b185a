"""The children of an execution, in the order in which it started them (semantics M8)."""

from __future__ import annotations

from cloaca._executions.history import Event
from cloaca._executions.result import WorkflowResult
from cloaca._values.exceptions import WorkflowNotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# The events that start an execution, each with the field of its data that has the execution's id.
_STARTED = {"child_started": "child", "final_started": "execution"}


def children_of(reads: Any, execution_id: str) -> list[tuple[str, WorkflowResult]]:
    """The children and the executions of final tasks that are stored, each with its origin.

    Raises:
        WorkflowNotFoundError: No execution has this id.
    """
    events = (Event(record) for record in reads.events(execution_id))
    found = []
    for event in events:
        name = _STARTED.get(event.type)
        if name is None:
            continue
        try:
            child = WorkflowResult(reads.execution(event.data[name]))
        except WorkflowNotFoundError:
            continue  # it was deleted
        found.append((_origin(event), child))
    return found


def _origin(event: Event) -> str:
    """The task that started a child, with the key of the call if its function started it."""
    if event.type == "final_started":
        return "final tasks"
    task, key, item = event.task_id or "", event.data.get("step"), event.data.get("item")
    if key is None:
        return task
    return f"{task}.{key}" if item is None else f"{task}.{key}[{item}]"
