"""The options of final tasks and of compensations (semantics Q)."""

from __future__ import annotations

from cloaca._tasks.parameters import name_of
from cloaca._values.arguments import check_flag
from cloaca._values.exceptions import TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: The values of `final=`: how an execution must have ended for a final task to run.
ENDS = ("always", "failure", "cancelled", "success")


class FinalOptions:
    """The options of a final task: when it runs (a value of `ENDS`), and the tasks it undoes."""

    __slots__ = ("end", "undoes")

    def __init__(self, end: str, undoes: tuple[object, ...]) -> None:
        self.end = end
        #: The ids or functions of the tasks that the final task undoes.
        self.undoes = undoes


class Compensation:
    """The function that undoes a task, and whether it is also called if the task failed."""

    __slots__ = ("after_failure", "function")

    def __init__(self, function: Callable[..., Any], after_failure: bool) -> None:
        self.function = function
        self.after_failure = after_failure


def read_final(
    final: object, undoes: object, compensate: object, compensate_failed: object
) -> tuple[FinalOptions | None, Compensation | None]:
    """Validates the options; an omitted option is `None` or `False`.

    Raises:
        TaskValidationError: An option is not valid, or two options exclude each other.
    """
    if final is not None and final not in ENDS:
        raise TaskValidationError(
            f"final must be one of {', '.join(map(repr, ENDS))}, not {final!r}"
        )
    if undoes is not None:
        if final is None:
            raise TaskValidationError(
                "undoes= is given without final=: only a final task undoes other tasks",
                hint='add final="always", or another value of final=',
            )
        if isinstance(undoes, str) or callable(undoes) or not hasattr(undoes, "__iter__"):
            raise TaskValidationError(
                f"undoes must be a list of tasks, not {undoes!r}", hint="write undoes=[...]"
            )
    after_failure = check_flag("compensate_failed", compensate_failed, TaskValidationError)
    if compensate is None:
        if after_failure:
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
    return None, Compensation(compensate, after_failure)
