"""Resolves the parameters of a task function that runs without a workflow.

`cloaca.testing.run_task` runs functions in this way.
"""

from __future__ import annotations

from cloaca._tasks.parameters import MISSING, read_signature
from cloaca._tasks.resolver import Scope, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cloaca._tasks.call import Call
    from cloaca._tasks.parameters import Signature


def read_call(function: Callable[..., object], task_id: str, result_key: str | None = None) -> Call:
    """Returns the `Call` of a function that runs without a workflow.

    Each parameter receives the value of the context key with the parameter's name. A
    parameter annotated with `MapResult` receives the result of a task with its name.

    Args:
        function: The function.
        task_id: The id of the function's task, for messages.
        result_key: The key of the result, if the key is not the id.

    Raises:
        TaskValidationError: The function cannot be a task.
    """
    signature = read_signature(function, task_id)
    names = [parameter.name for parameter in signature.parameters]
    maps = {name: name for name in names if _takes_items(signature, name)}
    return resolve(signature, Scope(task_id, result_key or task_id, find=maps.get, keys=maps))


def _takes_items(signature: Signature, name: str) -> bool:
    """Returns whether a parameter is annotated with `MapResult`."""
    if signature.annotation(name) is MISSING:
        return False
    from cloaca._values.decoding_errors import Unreadable

    try:
        return signature.map_result(name) is not None
    except Unreadable:
        return True  # `resolve` reports the problem
