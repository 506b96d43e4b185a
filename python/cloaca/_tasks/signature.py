"""The call of a function that belongs to no workflow: its values are keys of the context."""

from __future__ import annotations

from cloaca._tasks.parameters import read_signature
from cloaca._tasks.resolver import Scope, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cloaca._tasks.call import Call


def read_call(function: Callable[..., object], task_id: str, result_key: str | None = None) -> Call:
    """The call of a function that no workflow has: its values are keys of the context.

    Args:
        function: The function.
        task_id: Its task, for messages.
        result_key: The key of its result, if it is not the id.

    Raises:
        TaskValidationError: It cannot be a task.
    """
    return resolve(read_signature(function, task_id), Scope(task_id, result_key or task_id))
