"""The options of final tasks and of compensations (semantics Q)."""

from __future__ import annotations

from cloaca._tasks.parameters import name_of
from cloaca._values.exceptions import TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: The ends of an execution after which a final task runs.
ENDS = ("always", "failure", "cancelled", "success")


class FinalOptions:
    """The options of a final task: the ends after which it runs, and the tasks that it undoes."""

    __slots__ = ("end", "undoes")

    def __init__(self, end: str, undoes: tuple[object, ...]) -> None:
        self.end = end
        #: Ids or functions of ordinary tasks.
        self.undoes = undoes


class Compensation:
    """The function that undoes a task, and whether it also runs after a failure of the task."""

    __slots__ = ("after_failure", "function")

    def __init__(self, function: Callable[..., Any], after_failure: bool) -> None:
        self.function = function
        self.after_failure = after_failure


def read_final(
    final: object, undoes: object, compensate: object, compensate_failed: object
) -> tuple[FinalOptions | None, Compensation | None]:
    """Validates the options; `None` and `False` stand for omitted ones.

    Raises:
        TaskValidationError: An option is not valid, or two exclude each other.
    """
    if final is not None and final not in ENDS:
        raise TaskValidationError(
            f"final must be one of {', '.join(map(repr, ENDS))}, not {final!r}"
        )
    if undoes is not None:
        if final is None:
            raise TaskValidationError(
                "undoes names what a final task undoes",
                hint='add final="always", or another value of final=',
            )
        if isinstance(undoes, str) or callable(undoes) or not hasattr(undoes, "__iter__"):
            raise TaskValidationError(
                f"undoes must be a list of tasks, not {undoes!r}", hint="write undoes=[...]"
            )
    if not isinstance(compensate_failed, bool):
        raise TaskValidationError(
            f"compensate_failed must be True or False, not {compensate_failed!r}"
        )
    if compensate is None:
        if compensate_failed:
            raise TaskValidationError(
                "compensate_failed needs a function that undoes the task",
                hint="give it with compensate=",
            )
        assert final is None or isinstance(final, str)
        given = () if undoes is None else tuple(undoes)
        return (None if final is None else FinalOptions(final, given)), None
    if final is not None:
        raise TaskValidationError("a final task cannot have a compensation of its own")
    if not callable(compensate):
        raise TaskValidationError(f"compensate must be a function, not {type(compensate).__name__}")
    if name_of(compensate) == "":
        raise TaskValidationError("compensate must be a function with a name")
    return None, Compensation(compensate, compensate_failed)
