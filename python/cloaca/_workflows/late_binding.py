"""Warns about functions that are defined in a loop and read the loop's variable when they run."""

from __future__ import annotations

from types import FunctionType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

    from cloaca._tasks.definition import TaskDefinition


class LateBinding:
    """Compares each task of a workflow with the task that was defined before it."""

    __slots__ = ("_code", "_id", "_values")

    def __init__(self) -> None:
        self._code: CodeType | None = None
        self._id = ""
        self._values: dict[str, tuple[object, object]] = {}

    def check(self, task: TaskDefinition) -> None:
        """Warns if a task has the code of the previous task, but an outer variable has changed.

        Both functions read the variable when they run, so both get its last value.
        """
        function = task.function
        if type(function) is not FunctionType:
            return
        code, values = function.__code__, _variables(function)
        if code is self._code:
            changed = [name for name in values if self._has_changed(name, *values[name])]
            changed = [name for name in changed if name in code.co_freevars or _reads(code, name)]
            if changed:
                _warn(self._id, task.id, function.__name__, changed[0])
                values = {}  # Later tasks of the same loop cause no further warning.
        self._code, self._id, self._values = code, task.id, values

    def _has_changed(self, name: str, holder: object, value: Any) -> bool:
        holder_before, before = self._values.get(name, (None, value))
        if holder is not holder_before or value is before:
            return False
        try:
            return bool(value != before)
        except Exception:
            return False  # The values cannot be compared.


def _variables(function: FunctionType) -> dict[str, tuple[object, object]]:
    """Returns the outer variables of a function, each with its module or cell and its value."""
    module = function.__globals__
    names = function.__code__.co_names
    found: dict[str, tuple[object, object]] = {
        name: (module, module[name]) for name in names if name in module
    }
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell, cell.cell_contents
        except ValueError:
            continue  # The variable has no value yet.
    return found


def _reads(code: CodeType, name: str) -> bool:
    """Returns whether code reads a global variable with this name, not merely an attribute."""
    import dis

    return any(
        step.opname in {"LOAD_GLOBAL", "LOAD_NAME"} and step.argval == name
        for step in dis.get_instructions(code)
    )


def _warn(before: str, after: str, function: str, name: str) -> None:
    from cloaca._values.package_logger import logger

    logger().warning(
        "tasks '%s' and '%s' read the variable '%s' when they run: both get its last value; "
        "hint: keep each task's value in a default: def %s(context, %s=%s)",
        before,
        after,
        name,
        function if function.isidentifier() else "work",
        name,
        name,
    )
