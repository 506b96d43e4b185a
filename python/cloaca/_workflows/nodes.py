"""Nodes without a function: `wait` and `approval`."""

from __future__ import annotations

from cloaca._tasks.conditions import as_condition
from cloaca._tasks.options import read_options
from cloaca._tasks.wait_options import WaitOptions, end_of
from cloaca._tasks.wait_options import wait_timeout as as_timeout
from cloaca._values.arguments import suggests_arguments
from cloaca._values.exceptions import CloacaException, TaskValidationError
from cloaca._workflows.task import _define

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta
    from typing import Any, TypeAlias

    from cloaca._tasks.conditions import Condition
    from cloaca._tasks.trigger_rule import TriggerRule
    from cloaca._workflows.group import TaskGroup

    TaskReference: TypeAlias = str | Callable[..., object] | TaskGroup


@suggests_arguments
def wait(
    id: str,
    *,
    wait_for: Condition,
    dependencies: Iterable[TaskReference] | None = None,
    timeout: float | timedelta | str | None = None,
    wait_timeout: float | timedelta | str | None = None,
    on_timeout: str = "fail",
    trigger_rule: str | TriggerRule | None = None,
    trigger_rules: str | TriggerRule | None = None,
    priority: int | None = None,
) -> str:
    """Add a node that waits for a condition, without occupying a worker.

    The program needs no function for the node: any runner completes it. The node's result is stored
    under the node's id. The result is the data of the signal, or `None` for a timer. For `any_of`
    and `all_of`, the result is a dict with the data of each received signal by the signal's name.

    Args:
        id: The node's id.
        wait_for: The condition.
        dependencies: Tasks that must have ended before the wait begins, by id or by function.
        timeout: Maximum time to wait: seconds, a timedelta, or a string such as `"48h"`.
        wait_timeout: Another name for `timeout`, as in `task`.
        on_timeout: The outcome of the node after a timeout: `"fail"` (with `WaitTimeoutError`,
            without a retry), `"skip"`, or `"continue"` (with `None` as the result).
        trigger_rule: The condition under which the wait begins after its dependencies have ended.
        trigger_rules: Another name for `trigger_rule`.
        priority: See `task`.

    Returns:
        The id, for use in the dependencies of other tasks.

    Raises:
        TaskValidationError: An option is not valid.
        WorkflowValidationError: The workflow already has a task with this id.

    Example:
        >>> cloaca.wait("cool_down", wait_for=cloaca.delay("1h"), dependencies=[stop])

    Since 1.0.
    """
    try:
        if timeout is not None and wait_timeout is not None:
            raise TaskValidationError("timeout and wait_timeout are the same option: pass one")
        options = WaitOptions(
            as_condition("wait_for", wait_for),
            as_timeout("wait_timeout", wait_timeout)
            if timeout is None
            else as_timeout("timeout", timeout),
            end_of("on_timeout", on_timeout),
            is_node=True,
        )
    except CloacaException as error:
        raise TaskValidationError(f"wait {id!r}: {error.message}", hint=error.hint) from None
    return _node(id, dependencies, options, trigger_rule, trigger_rules, priority)


@suggests_arguments
def approval(
    id: str,
    *,
    dependencies: Iterable[TaskReference] | None = None,
    timeout: float | timedelta | str | None = None,
    on_timeout: str = "fail",
    on_reject: str = "fail",
    data: type | Mapping[str, object] | None = None,
    title: str | None = None,
    to: str | None = None,
    trigger_rule: str | TriggerRule | None = None,
    trigger_rules: str | TriggerRule | None = None,
    priority: int | None = None,
) -> str:
    """Add a node that waits until a person approves or rejects it.

    The person decides with `runner.approve` or `runner.reject`, or on the command line. The node's
    result is a dict with `approved`, `data`, `by`, `at` and `reason`, stored under the node's id.

    Args:
        id: The node's id.
        dependencies: Tasks that must have ended before the wait begins, by id or by function.
        timeout: Maximum time to wait: seconds, a timedelta, or a string such as `"48h"`.
        on_timeout: The outcome of the node after a timeout: `"fail"`, `"skip"` or `"continue"`.
        on_reject: The outcome of the node after a rejection: `"fail"`, `"skip"` or `"continue"`.
        data: The type of the data that the person gives with an approval. `runner.waits()` returns
            the JSON schema of this type, from which programs can build a form.
        title: A sentence for the person who decides. Paths in braces, such as `{order_id}`, are
            replaced by values of the context.
        to: The person or group who decides.
        trigger_rule: The condition under which the wait begins after its dependencies have ended.
        trigger_rules: Another name for `trigger_rule`.
        priority: See `task`.

    Returns:
        The id, for use in the dependencies of other tasks.

    Raises:
        TaskValidationError: An option is not valid.
        WorkflowValidationError: The workflow already has a task with this id, or values of the type
            `data` cannot be decoded from JSON.

    Example:
        >>> cloaca.approval("approve", dependencies=[report], timeout="48h", on_timeout="skip")

    Since 1.0.
    """
    details: dict[str, Any] = {}
    for option, text in (("title", title), ("to", to)):
        if text is None:
            continue
        if not isinstance(text, str):
            raise TaskValidationError(
                f"approval {id!r}: {option} must be a string, not {type(text).__name__}"
            )
        details[option] = text
    model = None
    if data is not None:
        from cloaca._workflows.input_model import InputModel

        model = InputModel(f"approval {id!r}", data, of=(f"approval {id!r}", "data="))
        details["schema"] = model.schema()
    try:
        if end_of("on_reject", on_reject) != "fail":
            details["on_reject"] = on_reject
        options = WaitOptions(
            None,
            as_timeout("timeout", timeout),
            end_of("on_timeout", on_timeout),
            is_node=True,
            approval=details,
        )
        options.data = model
    except CloacaException as error:
        raise TaskValidationError(f"approval {id!r}: {error.message}", hint=error.hint) from None
    return _node(id, dependencies, options, trigger_rule, trigger_rules, priority)


def _node(
    id: str,
    dependencies: Iterable[TaskReference] | None,
    wait: WaitOptions,
    trigger_rule: str | TriggerRule | None,
    trigger_rules: str | TriggerRule | None,
    priority: int | None,
) -> str:
    options = read_options(
        f"node {id!r}",
        trigger_rule=trigger_rule,
        trigger_rules=trigger_rules,
        priority=priority,
    )
    options.wait = wait
    return _define(id, dependencies, options).id
