"""Trigger rules: the conditions under which a task starts once its dependencies have ended.

See semantics C2.
"""

from __future__ import annotations

from cloaca._values.exceptions import TaskValidationError
from cloaca._values.suggestion import suggestion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: The names that `trigger_rule=` takes.
NAMES = (
    "all_success",
    "all_failed",
    "all_done",
    "one_success",
    "one_failed",
    "none_failed",
    "always",
)


class TriggerRule:
    """A trigger rule. Rules are compared by value.

    `always`, `all_of`, `task_failed` and similar functions make rules. Private.
    """

    __slots__ = ("_data", "_text")

    def __init__(self, data: str | dict[str, Any], text: str) -> None:
        self._data = data
        self._text = text

    def _to_definition(self) -> str | dict[str, Any]:
        """The form of the rule that the engine reads."""
        return self._data

    @property
    def tasks(self) -> list[str]:
        """The ids of the tasks that it names."""
        return _tasks_in(self._data)

    def with_tasks(self, find: Callable[[str], list[str]]) -> TriggerRule:
        """The rule with other names of tasks. A name that stands for several tasks names a group.

        Args:
            find: Returns the ids of the tasks that a name stands for; none if it is not known.
        """
        return TriggerRule(_renamed(self._data, find), self._text)

    def __repr__(self) -> str:
        """The constructor call."""
        return self._text

    def __eq__(self, other: object) -> bool:
        """Whether both rules are equal."""
        return self._data == other._data if isinstance(other, TriggerRule) else NotImplemented

    def __hash__(self) -> int:
        """The hash of the value."""
        return hash(self._text)


def _tasks_in(data: str | dict[str, Any]) -> list[str]:
    found: list[str] = []
    for body in data.values() if isinstance(data, dict) else ():
        if "task" in body:
            found.append(body["task"])
        for condition in body.get("conditions", ()):
            found += _tasks_in(condition)
    return found


def _renamed(data: Any, find: Callable[[str], list[str]]) -> Any:
    if not isinstance(data, dict):
        return data
    ((name, body),) = data.items()
    if "conditions" in body:
        return {name: {"conditions": [_renamed(part, find) for part in body["conditions"]]}}
    if "task" not in body:
        return data
    found = find(body["task"]) or [body["task"]]
    conditions = [{name: {"task": task}} for task in found]
    if len(conditions) == 1:
        return conditions[0]
    # A group has failed if one of its tasks has, and is in another state if all of them are.
    return {"any_of" if name == "task_failed" else "all_of": {"conditions": conditions}}


def named(name: str) -> TriggerRule:
    """Returns the rule with a name.

    Raises:
        TaskValidationError: No rule has this name; the hint has the nearest one.
    """
    if name not in NAMES:
        raise TaskValidationError(
            f"unknown trigger_rule {name!r}", hint=suggestion(name, NAMES, listing=True)
        )
    return TriggerRule(name, repr(name))


def as_rule(option: str, value: object) -> TriggerRule:
    """Converts the value of an option, a rule or the name of one, to a rule.

    Raises:
        TaskValidationError: The value is neither a rule nor the name of one.
    """
    if isinstance(value, TriggerRule):
        return value
    if isinstance(value, str):
        return named(value)
    raise TaskValidationError(
        f"{option} must be a rule or the name of one, not {type(value).__name__}",
        hint="use cloaca.all_of(...), cloaca.task_failed(...) or a name such as 'one_failed'",
    )
