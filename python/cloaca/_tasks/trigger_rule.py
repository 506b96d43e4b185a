"""Trigger rules: the conditions under which a task runs after its dependencies have ended.

See semantics C2.
"""

from __future__ import annotations

from cloaca._values.exceptions import TaskValidationError
from cloaca._values.suggestion import suggestion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: The names of rules that `trigger_rule=` accepts.
NAMES = (
    "all_success",
    "all_failed",
    "all_done",
    "one_success",
    "one_failed",
    "none_failed",
    "always",
)

# Maximum nesting depth of `all_of`, `any_of` and `none_of`, as in the engine.
_MAX_DEPTH = 32


class TriggerRule:
    """A trigger rule. Rules are compared by value.

    `always`, `all_of`, `task_failed` and similar functions make rules. Private.
    """

    __slots__ = ("_data", "_text")

    def __init__(self, data: str | dict[str, Any], text: str) -> None:
        self._data = data
        self._text = text

    def _to_definition(self) -> str | dict[str, Any]:
        """Return the form of the rule that the engine reads."""
        return self._data

    @property
    def tasks(self) -> list[str]:
        """The ids of the tasks that the rule names."""
        return _tasks_in(self._data)

    def with_tasks(self, find: Callable[[str], list[str]]) -> TriggerRule:
        """Return a copy of the rule with other task names.

        Args:
            find: A function that returns the ids of the tasks that a name means: several for a
                group, none for an unknown name.
        """
        return TriggerRule(_renamed(self._data, find), self._text)

    def __repr__(self) -> str:
        """Return the call that made the rule, or the rule's name as a string literal."""
        return self._text

    def __eq__(self, other: object) -> bool:
        """Return whether both rules are equal."""
        return self._key() == other._key() if isinstance(other, TriggerRule) else NotImplemented

    def __hash__(self) -> int:
        """Return the hash of the value."""
        return hash(self._key())

    def _key(self) -> str:
        import json

        return json.dumps(self._data, sort_keys=True)


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
    # A group has failed if one of its tasks has failed. It is in another state if all of its tasks
    # are in that state.
    return {"any_of" if name == "task_failed" else "all_of": {"conditions": conditions}}


def task_rule(option: str, value: object) -> TriggerRule:
    """Converts the value of a task's option to a rule, like `as_rule`.

    Raises:
        TaskValidationError: The value is neither a rule nor the name of a rule, or the rule is
            nested more deeply than the engine accepts.
    """
    rule = as_rule(option, value)
    level: list[Any] = [rule._to_definition()]
    for _ in range(_MAX_DEPTH + 1):
        bodies = [body for part in level if isinstance(part, dict) for body in part.values()]
        level = [part for body in bodies for part in body.get("conditions", ())]
    if level:
        raise TaskValidationError(f"{option} is nested deeper than {_MAX_DEPTH} levels")
    return rule


def named(name: str) -> TriggerRule:
    """Returns the rule that has this name.

    Raises:
        TaskValidationError: No rule has this name; the hint suggests a similar name.
    """
    if name not in NAMES:
        raise TaskValidationError(
            f"unknown trigger_rule {name!r}", hint=suggestion(name, NAMES, listing=True)
        )
    return TriggerRule(name, repr(name))


def as_rule(option: str, value: object) -> TriggerRule:
    """Converts the value of an option to a rule. The value is a rule or the name of a rule.

    Raises:
        TaskValidationError: The value is neither a rule nor the name of a rule.
    """
    if isinstance(value, TriggerRule):
        return value
    if isinstance(value, str):
        return named(value)
    raise TaskValidationError(
        f"{option} must be a rule or the name of one, not {type(value).__name__}",
        hint="use cloaca.all_of(...), cloaca.task_failed(...) or a name such as 'one_failed'",
    )
