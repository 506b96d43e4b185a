"""The `workflow` decorator: a workflow with one task, whose function is durable code (T10)."""

from __future__ import annotations

from cloaca._values.arguments import suggests_arguments
from cloaca._values.exceptions import TaskValidationError, WorkflowValidationError
from cloaca._workflows.builder import WorkflowBuilder
from cloaca._workflows.task import id_of, task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta
    from typing import Any, ParamSpec, TypeAlias, TypeVar, overload

    from cloaca._core import Context
    from cloaca._retry.policy import RetryPolicy
    from cloaca._tasks.conditions import Condition
    from cloaca._tasks.trigger_rule import TriggerRule
    from cloaca._workflows.task import TaskReference

    P = ParamSpec("P")
    R = TypeVar("R")
    ExceptionTypes: TypeAlias = Iterable[type[BaseException] | str] | type[BaseException] | str

# The attribute in which `workflow` stores the workflow's name on the decorated function.
_ATTRIBUTE = "__cloaca_workflow__"

# The overloads do not exist at run time, because they need `typing`, whose import would double the
# package's import time.
if TYPE_CHECKING:

    @overload
    def workflow(function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def workflow(
        *,
        input: type | Mapping[str, object] | None = None,
        output: str | None = None,
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
        on_success: Callable[[str, Context], object] | None = None,
        on_failure: Callable[[str, str, Context], object] | None = None,
        trigger_rule: str | TriggerRule | None = None,
        trigger_rules: str | TriggerRule | None = None,
        timeout: float | timedelta | str | None = None,
        timeout_seconds: float | timedelta | str | None = None,
        priority: int | None = None,
        max_context_bytes: int | None = None,
        wait_for: Condition | None = None,
        wait_timeout: float | timedelta | str | None = None,
        on_timeout: str | None = None,
        compensate: Callable[..., object] | None = None,
        compensate_failed: bool = False,
        over: TaskReference | Mapping[str, TaskReference] | None = None,
        parallel: int | None = None,
        batch: int | None = None,
        tolerate: float | None = None,
        finals: Iterable[Callable[..., Any]] = (),
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


@suggests_arguments
def workflow(
    function: Callable[P, R] | None = None,
    /,
    *,
    input: type | Mapping[str, object] | None = None,
    output: str | None = None,
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
    on_success: Callable[[str, Context], object] | None = None,
    on_failure: Callable[[str, str, Context], object] | None = None,
    trigger_rule: str | TriggerRule | None = None,
    trigger_rules: str | TriggerRule | None = None,
    timeout: float | timedelta | str | None = None,
    timeout_seconds: float | timedelta | str | None = None,
    priority: int | None = None,
    max_context_bytes: int | None = None,
    wait_for: Condition | None = None,
    wait_timeout: float | timedelta | str | None = None,
    on_timeout: str | None = None,
    compensate: Callable[..., object] | None = None,
    compensate_failed: bool = False,
    over: TaskReference | Mapping[str, TaskReference] | None = None,
    parallel: int | None = None,
    batch: int | None = None,
    tolerate: float | None = None,
    finals: Iterable[Callable[..., Any]] = (),
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Define a workflow whose only task is the decorated function.

    The workflow and the task have the name of the function. The result of each `TaskHandle.step`
    is durable, so loops, branches and agents can be written as ordinary Python. The function can
    have the same parameters as a task: values by name, the context, and the handle. The returned
    value is the output of the execution. The function itself is unchanged: it can be called and
    tested.

    Args:
        function: The function, if the decorator is used without parentheses.
        input: The input of an execution; see `WorkflowBuilder`.
        output: The name under which the result is stored; the name of the function if omitted. Not
            with `over`.
        retry: A complete retry policy. For this option and the following ones, see also `task`.
        retry_attempts: Maximum number of attempts, including the first.
        retry_backoff: The growth of the delay.
        retry_delay_ms: The first delay: milliseconds, a timedelta, or text such as `"10s"`.
        retry_max_delay_ms: The longest delay: milliseconds, a timedelta, or text such as `"10m"`.
        retry_condition: The condition that a failure must meet to be retried.
        retry_jitter: Whether delays vary randomly.
        retry_on: The exception types that are retried.
        never_on: The exception types that are never retried.
        retry_policy: A complete retry policy as a dict.
        on_success: A function to call once the completion is durable.
        on_failure: A function to call once the failure is durable.
        trigger_rule: A condition about the input, such as `cloaca.context_value(...)`. If it does
            not hold, the function is skipped.
        trigger_rules: Another name for `trigger_rule`.
        timeout: Maximum duration of one attempt: seconds, a timedelta, or a string such as `"1h"`.
        timeout_seconds: Another name for `timeout`.
        priority: The priority, from -32768 to 32767; higher priorities start first.
        max_context_bytes: Maximum size of the result, and of all recorded steps together, in bytes.
        wait_for: The condition that the function waits for before it starts, such as
            `cloaca.signal("paid", key="order_id")`.
        wait_timeout: Maximum time of the wait.
        on_timeout: The outcome if the wait times out: `"fail"`, `"skip"` or `"continue"`.
        compensate: A function that undoes the effects of the workflow; see `task`.
        compensate_failed: Whether `compensate` also runs if the function failed or was cancelled.
        over: The list over which the function runs, with one item per element: a field of the
            input. The output of the execution is then its final context, and `result.of(function)`
            returns the results of the items.
        parallel: Maximum number of items that run at once.
        batch: Maximum number of elements in one item.
        tolerate: Maximum number of items that may fail, or their share as a fraction.
        finals: Functions that run after the execution has ended, each decorated with
            `@cloaca.task(final=...)` outside of any workflow.

    Returns:
        The function itself.

    Raises:
        TaskValidationError: An option is not valid, or the function cannot be a task. The error is
            a `ValueError`.
        WorkflowValidationError: The decorator is in the block of a workflow, or the definition
            breaks a rule. The error is a `ValueError`.

    Example:
        >>> @cloaca.workflow
        ... def support(question: str, handle: cloaca.TaskHandle) -> str:
        ...     plan = handle.step("plan", make_plan, question)
        ...     for number, item in enumerate(plan):
        ...         handle.step(f"work-{number}", work, item)
        ...     return handle.step("answer", answer, question)
        >>> runner.execute("support", {"question": "why?"}).output

    Since 1.0.
    """
    if function is not None and not callable(function):
        raise WorkflowValidationError(
            f"@workflow decorates functions, not {type(function).__name__}",
            hint="for several tasks, write: with cloaca.WorkflowBuilder('name')",
        )
    options: dict[str, Any] = {
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
        "on_success": on_success,
        "on_failure": on_failure,
        "trigger_rule": trigger_rule,
        "trigger_rules": trigger_rules,
        "timeout": timeout,
        "timeout_seconds": timeout_seconds,
        "priority": priority,
        "max_context_bytes": max_context_bytes,
        "wait_for": wait_for,
        "wait_timeout": wait_timeout,
        "on_timeout": on_timeout,
        "compensate": compensate,
        "compensate_failed": compensate_failed,
        "over": over,
        "parallel": parallel,
        "batch": batch,
        "tolerate": tolerate,
    }
    final_tasks = _finals(finals)

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        return _define(function, input, output, options, final_tasks)

    return decorate if function is None else decorate(function)


def _define(
    function: Callable[P, R],
    input: type | Mapping[str, object] | None,
    output: str | None,
    options: dict[str, Any],
    finals: list[Callable[..., Any]],
) -> Callable[P, R]:
    from cloaca._workflows.registry import registry

    name = id_of(function)
    outer = registry.current_builder()
    if outer is not None:
        raise WorkflowValidationError(
            f"@workflow on '{name}' is in the block of the workflow '{outer.name}'",
            hint="use @cloaca.task in the block, or define the workflow outside of it",
        )
    if output is not None and options["over"] is not None:
        raise WorkflowValidationError(
            f"@workflow on '{name}' has output= and over=, but the results of a map are not in the "
            "context",
            hint=f"leave output= out, and read the results with result.of({name})",
        )
    with WorkflowBuilder(name, input=input) as builder:
        task(output=output, **options)(function)
        builder._return_result(name)
        for final in finals:
            builder.add_task(final)
    attributes = getattr(function, "__dict__", None)
    if isinstance(attributes, dict):  # a built-in function has no `__dict__`
        attributes[_ATTRIBUTE] = name
    return function


def defined_workflow(object: object) -> str | None:
    """Returns the name of the workflow that an object defines; `None` if it defines none.

    The object is a `Workflow`, a `WorkflowBuilder`, or a function that `workflow` decorated.
    """
    from cloaca._workflows.registry import registry
    from cloaca._workflows.workflow import Workflow

    if isinstance(object, (Workflow, WorkflowBuilder)):
        return object.name
    if isinstance(object, type) or not callable(object):
        return None
    name = getattr(object, _ATTRIBUTE, None)
    if isinstance(name, str):
        return name
    try:
        name = id_of(object)
    except TaskValidationError:
        return None
    # The function may be a decorated built-in function, to which no attribute can be added.
    known = registry.workflow(name)
    task = None if known is None else known._definitions.get(name)
    return name if task is not None and task.function == object else None


def _finals(finals: object) -> list[Callable[..., Any]]:
    """Checks the argument `finals` of `workflow`, and returns it as a list.

    Raises:
        WorkflowValidationError: The argument is not a list of the functions of final tasks.
    """
    from cloaca._tasks.references import tasks_of

    if callable(finals) or isinstance(finals, str) or not hasattr(finals, "__iter__"):
        raise WorkflowValidationError(
            f"finals must be a list of functions, not {finals!r}", hint="write finals=[...]"
        )
    found = list(finals)
    for final in found:
        known = tasks_of(final) if callable(final) else ()
        if not known or known[-1].options.final is None:
            raise WorkflowValidationError(
                f"finals=[...] contains {final!r}, which is not a final task",
                hint='decorate it with @cloaca.task(final="always"), or another value of final=',
            )
    return found
