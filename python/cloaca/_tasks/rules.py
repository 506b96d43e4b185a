"""The functions that make trigger rules, such as `always`, `all_of` and `task_failed`."""

from __future__ import annotations

from cloaca._tasks.conditions import Condition, group
from cloaca._tasks.references import task_id
from cloaca._tasks.trigger_rule import TriggerRule, as_rule
from cloaca._values.encoding import encode_as
from cloaca._values.exceptions import TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias, overload

    from cloaca._tasks.references import Group

    # A task's id, the function that `task` decorated, or a group.
    Reference: TypeAlias = str | Callable[..., object] | Group

# The spellings of an operator, without `_` and spaces, in lower case.
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


def always() -> TriggerRule:
    """Return the rule that the task runs regardless of the outcome of its dependencies.

    Example:
        >>> @cloaca.task(dependencies=["load"], trigger_rule=cloaca.always())
        ... def clean_up(context): ...

    Since 1.0.
    """
    return TriggerRule("always", "always()")


if TYPE_CHECKING:

    @overload
    def all_of(*conditions: TriggerRule | str) -> TriggerRule: ...
    @overload
    def all_of(*conditions: Condition) -> Condition: ...


def all_of(*conditions: Any) -> Any:
    """Return the condition that every given condition holds.

    The given conditions are trigger rules, or conditions that a task waits for.

    Args:
        *conditions: Rules, or names of rules such as `"one_failed"`; or conditions such as
            `cloaca.signal("paid")`. Two signals must have different names, because the result has
            one payload for each name.

    Returns:
        The condition, for `trigger_rules`, or for `wait_for`.

    Raises:
        TaskValidationError: No condition is given, the conditions are of different kinds, or two
            signals have the same name.

    Example:
        >>> cloaca.all_of(cloaca.task_success("load"), cloaca.context_value("rows", ">", 0))

    Since 1.0.
    """
    if any(isinstance(condition, Condition) for condition in conditions):
        return group("all_of", conditions)
    return _group("all_of", conditions)


if TYPE_CHECKING:

    @overload
    def any_of(*conditions: TriggerRule | str) -> TriggerRule: ...
    @overload
    def any_of(*conditions: Condition) -> Condition: ...


def any_of(*conditions: Any) -> Any:
    """Return the condition that at least one given condition holds.

    The given conditions are trigger rules, or conditions that a task waits for.

    Args:
        *conditions: Rules, or names of rules; or conditions such as `cloaca.signal("paid")`.

    Returns:
        The condition, for `trigger_rules`, or for `wait_for`.

    Raises:
        TaskValidationError: No condition is given, the conditions are of different kinds, or a
            condition to wait for is given twice.

    Example:
        >>> cloaca.any_of(cloaca.signal("paid", key="order_id"), cloaca.delay("7d"))

    Since 1.0.
    """
    if any(isinstance(condition, Condition) for condition in conditions):
        return group("any_of", conditions)
    return _group("any_of", conditions)


def none_of(*conditions: TriggerRule | str) -> TriggerRule:
    """Return the condition that none of the given conditions holds.

    Args:
        *conditions: Rules, or names of rules.

    Returns:
        The condition, for `trigger_rules`.

    Raises:
        TaskValidationError: No condition is given, or a condition is not a rule.

    Example:
        >>> cloaca.none_of(cloaca.task_failed("load"), cloaca.task_skipped("load"))

    Since 1.0.
    """
    return _group("none_of", conditions)


def task_success(id: Reference) -> TriggerRule:
    """Return the condition that a task completed. For a group: all of its tasks completed.

    Args:
        id: The id or function of a task, or a group. The task or group counts as a dependency.

    Returns:
        The condition, for `trigger_rules`.

    Raises:
        TaskValidationError: The argument is neither a task nor a group.

    Example:
        >>> cloaca.task_success("load")

    Since 1.0.
    """
    return _about_task("task_success", id)


def task_failed(id: Reference) -> TriggerRule:
    """Return the condition that a task failed. For a group: at least one of its tasks failed.

    A task that completes under this rule handles the failure.

    Args:
        id: The id or function of a task, or a group. The task or group counts as a dependency.

    Returns:
        The condition, for `trigger_rules`.

    Raises:
        TaskValidationError: The argument is neither a task nor a group.

    Example:
        >>> @cloaca.task(trigger_rule=cloaca.task_failed("load"))
        ... def load_from_backup(context): ...

    Since 1.0.
    """
    return _about_task("task_failed", id)


def task_skipped(id: Reference) -> TriggerRule:
    """Return the condition that a task was skipped. For a group: all of its tasks were skipped.

    Args:
        id: The id or function of a task, or a group. The task or group counts as a dependency.

    Returns:
        The condition, for `trigger_rules`.

    Raises:
        TaskValidationError: The argument is neither a task nor a group.

    Example:
        >>> cloaca.task_skipped("load")

    Since 1.0.
    """
    return _about_task("task_skipped", id)


def context_value(key: str, operator: str, value: object = None) -> TriggerRule:
    """Return a condition that compares a value of the context with a given value.

    The compared value is taken from the context that the task would receive.

    Args:
        key: The key in the context, or a path into its value, such as `"order.total"` or
            `"rows.0"`.
        operator: `==` `!=` `>` `>=` `<` `<=` `contains` `not_contains` `exists` `not_exists`, or
            another spelling of these such as `eq`, `Equals` or `greater_than`.
        value: The value to compare with; `exists` and `not_exists` need none.

    Returns:
        The condition, for `trigger_rules`.

    Raises:
        TaskValidationError: The operator is not known, or the key is not a string.
        TypeError: The value is not JSON.
        ValueError: The value is NaN or an infinity.

    Example:
        >>> cloaca.context_value("rows", ">", 100)

    Since 1.0.
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
            hint="use ==, !=, >, >=, <, <=, contains, not_contains, exists or not_exists",
        )
    data = json.loads(encode_as(f"the value of context_value({key!r})", value))
    return TriggerRule(
        {"context_value": {"key": key, "operator": name, "value": data}},
        f"context_value({key!r}, {operator!r}, {data!r})",
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


def _about_task(name: str, task: Reference) -> TriggerRule:
    found = task_id(name, task)
    return TriggerRule({name: {"task": found}}, f"{name}({found!r})")
