"""Trigger rules.

The condition under which a task starts once its dependencies have ended (semantics C2).
"""

from __future__ import annotations

from cloaca._values.encoding import encode_as
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

# The spellings of an operator, without `_` and spaces, in small letters.
_OPERATORS = {
    "equals": ("==", "=", "eq", "equals", "equal"),
    "not_equals": ("!=", "<>", "ne", "neq", "notequals", "notequal"),
    "greater_than": (">", "gt", "greaterthan"),
    "greater_or_equal": (
        ">=",
        "ge",
        "gte",
        "greaterorequal",
        "greaterthanorequal",
        "greaterthanorequals",
    ),
    "less_than": ("<", "lt", "lessthan"),
    "less_or_equal": ("<=", "le", "lte", "lessorequal", "lessthanorequal", "lessthanorequals"),
    "contains": ("contains", "in"),
    "not_contains": ("notcontains", "notin"),
    "exists": ("exists",),
    "not_exists": ("notexists",),
}
_OPERATOR_BY_SPELLING = {
    spelling: name for name, spellings in _OPERATORS.items() for spelling in spellings
}


class TriggerRule:
    """A condition.

    Made by `always`, `all_of`, `task_failed` and the like; compared by value. Private.
    """

    __slots__ = ("_data", "_text")

    def __init__(self, data: str | dict[str, Any], text: str) -> None:
        self._data = data
        self._text = text

    def _to_definition(self) -> str | dict[str, Any]:
        """The rule as the engine reads it."""
        return self._data

    def __repr__(self) -> str:
        """The call that makes it."""
        return self._text

    def __eq__(self, other: object) -> bool:
        """Whether both say the same."""
        return self._data == other._data if isinstance(other, TriggerRule) else NotImplemented

    def __hash__(self) -> int:
        """By value."""
        return hash(self._text)


def always() -> TriggerRule:
    """The task runs whatever became of its dependencies.

    Since 0.1.
    """
    return TriggerRule("always", "always()")


def all_of(*conditions: TriggerRule | str) -> TriggerRule:
    """Every condition holds.

    Args:
        *conditions: Rules, or names of rules such as `"one_failed"`.

    Returns:
        The condition, for `trigger_rules`.

    Raises:
        TaskValidationError: There is no condition, or one of them is no rule.

    Example:
        >>> cloaca.all_of(cloaca.task_success("load"), cloaca.context_value("rows", ">", 0))

    Since 0.1.
    """
    return _group("all_of", conditions)


def any_of(*conditions: TriggerRule | str) -> TriggerRule:
    """At least one condition holds.

    Args:
        *conditions: Rules, or names of rules.

    Returns:
        The condition, for `trigger_rules`.

    Raises:
        TaskValidationError: There is no condition, or one of them is no rule.

    Since 0.1.
    """
    return _group("any_of", conditions)


def none_of(*conditions: TriggerRule | str) -> TriggerRule:
    """No condition holds.

    Args:
        *conditions: Rules, or names of rules.

    Returns:
        The condition, for `trigger_rules`.

    Raises:
        TaskValidationError: There is no condition, or one of them is no rule.

    Since 0.1.
    """
    return _group("none_of", conditions)


def task_success(task: str | Callable[..., object]) -> TriggerRule:
    """The named task completed.

    Args:
        task: Its id, or its function. It counts as a dependency.

    Returns:
        The condition, for `trigger_rules`.

    Raises:
        TaskValidationError: It is neither.

    Since 0.1.
    """
    return _about_task("task_success", task)


def task_failed(task: str | Callable[..., object]) -> TriggerRule:
    """The named task failed. A task that completes under this rule handles the failure.

    Args:
        task: Its id, or its function. It counts as a dependency.

    Returns:
        The condition, for `trigger_rules`.

    Raises:
        TaskValidationError: It is neither.

    Since 0.1.
    """
    return _about_task("task_failed", task)


def task_skipped(task: str | Callable[..., object]) -> TriggerRule:
    """The named task was skipped.

    Args:
        task: Its id, or its function. It counts as a dependency.

    Returns:
        The condition, for `trigger_rules`.

    Raises:
        TaskValidationError: It is neither.

    Since 0.1.
    """
    return _about_task("task_skipped", task)


def context_value(key: str, operator: str, value: object = None) -> TriggerRule:
    """A comparison with a value of the context that the task would see.

    Args:
        key: The context's key.
        operator: `==` `!=` `>` `>=` `<` `<=` `contains` `not_contains` `exists` `not_exists`, or
            another spelling of these such as `eq`, `Equals` or `greater_than`.
        value: What to compare with; `exists` and `not_exists` need none.

    Returns:
        The condition, for `trigger_rules`.

    Raises:
        TaskValidationError: The operator is not known, or the key is no string.
        TypeError: The value is not JSON.
        ValueError: The value is NaN or an infinity.

    Example:
        >>> cloaca.context_value("rows", ">", 100)

    Since 0.1.
    """
    import json

    if not isinstance(key, str):
        raise TaskValidationError(
            f"the key of context_value must be a string, not {type(key).__name__}"
        )
    spelling = str(operator).replace("_", "").replace(" ", "").lower()
    name = _OPERATOR_BY_SPELLING.get(spelling)
    if name is None:
        raise TaskValidationError(
            f"unknown operator {operator!r} of context_value",
            hint="it takes ==, !=, >, >=, <, <=, contains, not_contains, exists, not_exists",
        )
    data = json.loads(encode_as(f"the value of context_value({key!r})", value))
    return TriggerRule(
        {"context_value": {"key": key, "operator": name, "value": data}},
        f"context_value({key!r}, {operator!r}, {data!r})",
    )


def named(name: str) -> TriggerRule:
    """The rule of a name.

    Raises:
        TaskValidationError: There is no such name; the hint has the nearest.
    """
    if name not in NAMES:
        raise TaskValidationError(
            f"unknown trigger_rule {name!r}", hint=suggestion(name, NAMES, listing=True)
        )
    return TriggerRule(name, repr(name))


def as_rule(option: str, value: object) -> TriggerRule:
    """What an option gives: a rule, or the name of one.

    Raises:
        TaskValidationError: It is neither.
    """
    if isinstance(value, TriggerRule):
        return value
    if isinstance(value, str):
        return named(value)
    raise TaskValidationError(
        f"{option} must be a rule or the name of one, not {type(value).__name__}",
        hint="use cloaca.all_of(...), cloaca.task_failed(...) or a name such as 'one_failed'",
    )


def _group(name: str, conditions: tuple[TriggerRule | str, ...]) -> TriggerRule:
    if not conditions:
        raise TaskValidationError(
            f"{name} needs at least one condition", hint=f"{name}(cloaca.task_success('id'), ...)"
        )
    rules = [as_rule(f"a condition of {name}", condition) for condition in conditions]
    return TriggerRule(
        {name: {"conditions": [rule._to_definition() for rule in rules]}},
        f"{name}({', '.join(map(repr, rules))})",
    )


def _about_task(name: str, task: str | Callable[..., object]) -> TriggerRule:
    from cloaca._tasks.definition import task_id

    found = task_id(name, task)
    return TriggerRule({name: {"task": found}}, f"{name}({found!r})")
