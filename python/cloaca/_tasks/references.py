"""References to tasks: a task's id, the function that `task` decorated, or a group of tasks."""

from __future__ import annotations

from cloaca._tasks.foreign_calls import FOREIGN_CALLS
from cloaca._tasks.parameters import name_of
from cloaca._values.exceptions import TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from cloaca._tasks.definition import TaskDefinition

    class Group(Protocol):
        """A group of tasks."""

        @property
        def _group_name(self) -> str: ...


# The attribute of a function that holds the tasks defined with this function.
_ATTRIBUTE = "__cloaca_tasks__"


def remember(function: Callable[..., object], task: TaskDefinition) -> None:
    """Records on a function that it is a task's function.

    The function can then be used in place of the task's id. A later task with the same id replaces
    an earlier task.
    """
    try:
        owner, tasks = function.__dict__.get(_ATTRIBUTE, (None, {}))
        if owner is not function:
            # The attribute is missing, or `functools.wraps` has copied it from another function.
            tasks = {}
            # Another object, such as a task of another library, may have its own `delay` or `map`.
            if type(function) is type(remember):
                function.__dict__.update({**FOREIGN_CALLS, **function.__dict__})
            function.__dict__[_ATTRIBUTE] = (function, tasks)
    except (AttributeError, TypeError):
        # Built-in functions and bound methods cannot have attributes. Their tasks are referenced by
        # id.
        return
    tasks.pop(task.id, None)
    tasks[task.id] = task


def tasks_of(function: object) -> tuple[TaskDefinition, ...]:
    """Returns the tasks that were defined with a function, oldest first."""
    found = getattr(function, _ATTRIBUTE, None)
    return tuple(found[1].values()) if isinstance(found, tuple) else ()


def task_id(what: str, reference: object, among: dict[str, TaskDefinition] | None = None) -> str:
    """Returns the id of the referenced task, or the name of a group.

    Args:
        what: The role of the reference, for messages.
        reference: An id, a function that `task` decorated, or a group.
        among: The tasks to search first, by id. If none of them has the function, the reference
            means the newest task with the function.

    Raises:
        TaskValidationError: The reference is not an id, a task's function or a group, or several
            tasks of `among` have the function.
    """
    if isinstance(reference, str):
        return reference
    group_name = getattr(reference, "_group_name", None)
    if isinstance(group_name, str):
        return group_name
    tasks = tasks_of(reference)
    if not tasks:
        if callable(reference):
            raise TaskValidationError(
                f"{what}: {name_of(reference)} is not a task",
                hint="decorate it with @cloaca.task, or use the id of a task",
            )
        raise TaskValidationError(
            f"{what} must be the id or the function of a task, not {type(reference).__name__}"
        )
    here = [task.id for task in tasks if among is not None and among.get(task.id) is task]
    ids = list(dict.fromkeys(here or [tasks[-1].id]))
    if len(ids) > 1:
        raise TaskValidationError(
            f"{what}: {name_of(reference)} is the function of several tasks: {', '.join(ids)}",
            hint="use the id of one of these tasks",
        )
    return ids[0]
