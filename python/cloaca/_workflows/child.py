"""A node that runs another workflow: `child`."""

from __future__ import annotations

from cloaca._tasks.options import read_options
from cloaca._tasks.wait_options import WaitOptions, wait_timeout
from cloaca._values.arguments import suggests_arguments
from cloaca._values.exceptions import CloacaException, TaskValidationError
from cloaca._workflows.task import _define

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta
    from typing import Any, TypeAlias

    from cloaca._retry.policy import RetryPolicy
    from cloaca._tasks.trigger_rule import TriggerRule
    from cloaca._workflows.group import TaskGroup
    from cloaca._workflows.task import ExceptionTypes

    TaskReference: TypeAlias = str | Callable[..., object] | TaskGroup

# The values of `on_parent_end=`.
_ENDS = ("cancel", "abandon")


@suggests_arguments
def child(
    id: str,
    *,
    workflow: str,
    input: Mapping[str, str] | None = None,
    over: TaskReference | Mapping[str, TaskReference] | None = None,
    parallel: int | None = None,
    batch: int | None = None,
    tolerate: float | None = None,
    dependencies: Iterable[TaskReference] | None = None,
    timeout: float | timedelta | str | None = None,
    on_parent_end: str = "cancel",
    trigger_rule: str | TriggerRule | None = None,
    trigger_rules: str | TriggerRule | None = None,
    priority: int | None = None,
    retry: RetryPolicy | None = None,
    retry_attempts: int | None = None,
    retry_backoff: str | None = None,
    retry_delay_ms: float | timedelta | str | None = None,
    retry_max_delay_ms: float | timedelta | str | None = None,
    retry_condition: str | Iterable[str] | None = None,
    retry_jitter: bool | None = None,
    retry_on: ExceptionTypes | None = None,
    never_on: ExceptionTypes | None = None,
    retry_policy: Mapping[str, Any] | None = None,
    compensate: Callable[..., Any] | None = None,
    compensate_failed: bool = False,
) -> str:
    """Add a node that runs another workflow and waits for its end, without occupying a worker.

    The node starts a child: a separate execution, submitted in the transaction that makes the node
    ready. The child's output is the node's result, stored under the node's id. If the child fails,
    times out or is cancelled, the node fails with `ChildFailedError`.

    With `over=` the node starts one child per element of a list, like a task with `over=`. The
    node's result is then the list of the outputs in the order of the elements.

    Args:
        id: The node's id.
        workflow: The name of the workflow, which any program may define, in Python or in Rust. If
            no program has defined it, the node waits until one does.
        input: The child's input: for each name the path of its value in the context, such as
            `"order_id"` or `"fetch.url"`. If omitted, the input is the node's context, reduced to
            the declared keys if the child's workflow declares its input. With `over=`, the path
            `"item"` means the element, and `"item.url"` means a value in the element.
        over: The list whose elements each start a child: a task, by id or by function, a field of
            the workflow's input, or a key of the context. To use several lists of equal lengths at
            once, give a dict of names and lists; the names replace `item` in the paths of `input`.
        parallel: Maximum number of children that are open at once, on all runners together; no
            limit if omitted.
        batch: Maximum number of elements for one child, whose `item` is then a list.
        tolerate: Maximum number (`3`) or share (`0.1`) of failed children. If more children fail,
            no further child starts, running children run to completion, and the node fails. If
            omitted, all children run, and the node fails if any child failed.
        dependencies: Tasks that must have ended before the node starts, by id or by function.
        timeout: Maximum run time of a child: seconds, a timedelta, or a string such as `"1h"`; the
            runner's `workflow_timeout_seconds` if omitted. With `on_parent_end="cancel"`, a child
            also times out when its parent times out.
        on_parent_end: The effect on the child when its parent is cancelled, fails or times out:
            `"cancel"` cancels the child, `"abandon"` lets it run.
        trigger_rule: The condition under which the node starts after its dependencies have ended.
        trigger_rules: Another name for `trigger_rule`.
        priority: The priority of the child; the parent's priority if omitted.
        retry: A retry policy. Each attempt is a new child. Without any `retry*` option there is one
            attempt.
        retry_attempts: See `task`.
        retry_backoff: See `task`.
        retry_delay_ms: See `task`.
        retry_max_delay_ms: See `task`.
        retry_condition: See `task`.
        retry_jitter: See `task`.
        retry_on: The only error types that are retried: `ChildFailedError`, or types of errors with
            which the child can fail.
        never_on: The error types that are never retried.
        retry_policy: See `task`.
        compensate: A function that undoes the effects of the child if the parent does not succeed:
            see `task`. A parameter with the name of the node receives the child's output.
        compensate_failed: Whether `compensate` also runs if the child did not complete.

    Returns:
        The id, for use in the dependencies of other tasks.

    Raises:
        TaskValidationError: An option is not valid.
        WorkflowValidationError: The workflow already has a task with this id.

    Example:
        >>> cloaca.child("invoice", workflow="invoice", input={"order": "order_id"}, timeout="1h")
        >>> cloaca.child("made", workflow="render", over="pages", input={"page": "item"})

    Since 1.0.
    """
    spec: dict[str, Any] = {"workflow": _text(id, "workflow", workflow)}
    if input is not None:
        spec["input"] = _paths(id, input)
    if on_parent_end not in _ENDS:
        raise TaskValidationError(
            f"child {id!r}: on_parent_end must be 'cancel' or 'abandon', not {on_parent_end!r}"
        )
    if on_parent_end != "cancel":
        spec["on_parent_end"] = on_parent_end
    retries: dict[str, Any] = {
        "retry": retry,
        "retry_attempts": retry_attempts,
        "retry_backoff": retry_backoff,
        "retry_delay_ms": retry_delay_ms,
        "retry_max_delay_ms": retry_max_delay_ms,
        "retry_condition": retry_condition,
        "retry_jitter": retry_jitter,
        "retry_on": retry_on,
        "never_on": never_on,
        "retry_policy": retry_policy,
    }
    if all(value is None for value in retries.values()):
        retries["retry_attempts"] = 1
    options = read_options(
        f"child {id!r}",
        trigger_rule=trigger_rule,
        trigger_rules=trigger_rules,
        priority=priority,
        over=over,
        parallel=parallel,
        batch=batch,
        tolerate=tolerate,
        compensate=compensate,
        compensate_failed=compensate_failed,
        **retries,
    )
    try:
        options.timeout_us = wait_timeout("timeout", timeout)
    except CloacaException as error:
        raise TaskValidationError(f"child {id!r}: {error.message}", hint=error.hint) from None
    options.wait = WaitOptions(None, None, "fail", is_node=True, child=spec)
    return _define(id, dependencies, options).id


def _text(id: str, option: str, value: object) -> str:
    if not isinstance(value, str) or not value:
        raise TaskValidationError(
            f"child {id!r}: {option} must be a non-empty string, not {value!r}"
        )
    return value


def _paths(id: str, paths: Mapping[str, str]) -> dict[str, str]:
    items = getattr(paths, "items", None)
    if items is None:
        raise TaskValidationError(
            f"child {id!r}: input must be a dict of names and paths, not {type(paths).__name__}",
            hint='write input={"order": "order_id"}, for example',
        )
    return {
        _text(id, "a name of input", name): _text(id, f"input[{name!r}]", path)
        for name, path in items()
    }
