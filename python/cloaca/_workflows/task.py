"""The `task` decorator, and `external_task` for tasks that another program runs."""

from __future__ import annotations

from cloaca._tasks.definition import TaskDefinition, TaskOptions
from cloaca._tasks.options import read_options
from cloaca._tasks.parameters import MISSING, name_of, read_signature
from cloaca._tasks.references import remember, task_id
from cloaca._values.arguments import suggests_arguments, suggests_arguments_with
from cloaca._values.exceptions import TaskValidationError
from cloaca._workflows.namespace import NAME_HINT, is_workflow_name
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta
    from typing import Any, ParamSpec, TypeAlias, TypeVar, overload

    from cloaca._core import Context
    from cloaca._retry.policy import RetryPolicy
    from cloaca._tasks.conditions import Condition
    from cloaca._tasks.parameters import Signature
    from cloaca._tasks.trigger_rule import TriggerRule
    from cloaca._workflows.group import TaskGroup

    P = ParamSpec("P")
    R = TypeVar("R")
    # A task's id, the function that `task` decorated, or a group.
    TaskReference: TypeAlias = str | Callable[..., object] | TaskGroup
    ExceptionTypes: TypeAlias = Iterable[type[BaseException] | str] | type[BaseException] | str


# The overloads do not exist at run time, because they need `typing`, whose import would double the
# package's import time.
if TYPE_CHECKING:

    @overload
    def task(function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def task(
        *,
        id: str | None = None,
        dependencies: Iterable[TaskReference] | None = None,
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
        final: str | None = None,
        undoes: Iterable[TaskReference] | None = None,
        compensate: Callable[..., object] | None = None,
        compensate_failed: bool = False,
        over: TaskReference | Mapping[str, TaskReference] | None = None,
        parallel: int | None = None,
        batch: int | None = None,
        tolerate: float | None = None,
        output: str | None = None,
        workflow: str | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


@suggests_arguments
def task(
    function: Callable[P, R] | None = None,
    /,
    *,
    id: str | None = None,
    dependencies: Iterable[TaskReference] | None = None,
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
    final: str | None = None,
    undoes: Iterable[TaskReference] | None = None,
    compensate: Callable[..., object] | None = None,
    compensate_failed: bool = False,
    over: TaskReference | Mapping[str, TaskReference] | None = None,
    parallel: int | None = None,
    batch: int | None = None,
    tolerate: float | None = None,
    output: str | None = None,
    workflow: str | None = None,
) -> Callable[P, R] | Callable[[Callable[P, R]], Callable[P, R]]:
    """Make a task from a function. The function itself is unchanged: it can be called and tested.

    Inside `with WorkflowBuilder(...)` the task belongs to the workflow of the block. Outside of a
    block, `WorkflowBuilder.add_task` adds it to a workflow. `async def` functions run on an event
    loop.

    A function takes the context if its first parameter is named `context` or `ctx`, is annotated
    with `Context`, or has no annotation. The function may return `None` or the same context,
    another `Context` (which replaces the context), or a mapping (which is merged into the context).

    Any other function is a value task: it takes values, and its return value is stored under the
    task's id. The name of a parameter selects its source. If it is the name of a task, the
    parameter receives the task's result, and the task becomes a dependency. Otherwise, the
    parameter receives the field of the workflow's `input=` with this name, or, in a workflow
    without `input=`, the value of the context key with this name. The defaults `cloaca.result` and
    `cloaca.resource` set the source explicitly. Values are decoded by the annotation. A parameter
    named `handle` or `task_handle`, or annotated with `TaskHandle`, receives the `TaskHandle`.

    Args:
        function: The function, if the decorator is used without parentheses.
        id: The task's id, unique in its workflow. Defaults to the function's name.
        dependencies: Tasks that must have ended before this task starts, by id or by function.
        retry: A complete retry policy; cannot be combined with a `retry_*` option.
        retry_attempts: Maximum number of attempts, including the first (default 3); 0 and 1 both
            mean one attempt.
        retry_backoff: `"fixed"`, `"linear"` or `"exponential"` (the default).
        retry_delay_ms: The first delay: milliseconds (default 1000), a timedelta, or a string
            such as `"10s"`.
        retry_max_delay_ms: The longest delay: milliseconds (default 60000), a timedelta, or a
            string such as `"10m"`.
        retry_condition: `"never"`, `"transient"`, `"all"` (the default), or a list of strings. With
            a list, a failure is retried if its error contains one of the strings.
        retry_jitter: Whether each delay varies randomly by up to a quarter (default true).
        retry_on: The only exception types that are retried, with their subclasses.
        never_on: The exception types that are never retried, with their subclasses.
        retry_policy: A complete retry policy as a dict with the keys `max_attempts`, `backoff`,
            `initial_delay` and `max_delay` (seconds), `jitter`, `condition`, `retry_on` and
            `never_on`, or with the names of the options above. It cannot be combined with another
            `retry_*` option.
        on_success: A function that is called with `(task_id, context)` once the task's completion
            is durable, and before callers in this process receive the execution's result. Callers
            wait at most 30 s for this function. Its exceptions are logged.
        on_failure: A function that is called with `(task_id, error_text, context)` once the task's
            failure is durable. Otherwise it behaves like `on_success`.
        trigger_rule: The condition under which the task runs after its dependencies have ended: a
            name such as `"one_failed"`, or a rule.
        trigger_rules: Another name for `trigger_rule`.
        timeout: Maximum duration of one attempt: seconds, a timedelta, or a string such as `"1h"`.
            If omitted, the runner's `task_timeout_seconds` applies (default 300). `math.inf` means
            no limit.
        timeout_seconds: Another name for `timeout`.
        priority: The priority, from -32768 to 32767. Among the tasks that wait for a worker, higher
            priorities start first.
        max_context_bytes: Maximum size of the values that one attempt writes to the context, in
            bytes.
        wait_for: A condition such as `cloaca.signal("paid", key="order_id")`. After the
            dependencies have ended, the task waits for the condition without occupying a worker.
            A parameter with the signal's name receives the signal's data.
        wait_timeout: Maximum time of the wait: seconds, a timedelta, or a string such as `"30d"`.
        on_timeout: The outcome if the wait times out: `"fail"` (the default; the task fails with
            `WaitTimeoutError` and is not retried), `"skip"`, or `"continue"` (the task runs without
            the value).
        final: Makes the task a final task, which runs after the execution has ended: `"always"`, or
            only after `"failure"`, `"cancelled"` or `"success"`. A parameter `error` receives the
            `ErrorInfo`.
        undoes: The tasks that this final task undoes, by id or by function. A retry of the
            execution runs these tasks again.
        compensate: The function that undoes this task if the execution does not succeed, such as
            `refund(charge, error, handle)`.
        compensate_failed: Whether `compensate` also runs if this task failed, was lost with its
            runner, or was cancelled while it ran.
        over: A list over which the task runs, with one item per element. The list is the result of
            a task (given by id or by function), a field of the workflow's `input=`, or the value of
            a context key. The parameter that has no other source receives the element. To run over
            several lists of equal lengths at once, give a dict that maps parameters to lists. The
            function's return value is the result of the item. If another task has a parameter with
            the name of this task, the parameter receives the list of results.
        parallel: Maximum number of items that run at once, on all runners together.
        batch: Maximum number of elements in one item. The function receives them as a list.
        tolerate: Maximum number of items that may fail, or their share as a fraction such as
            `0.05`. If more items fail, no further item starts and the task fails. If omitted, all
            items run, and the task fails if any item failed.
        output: The key under which the result of a value task is stored; the task's id if omitted.
        workflow: The name of another program's workflow, in Python or in Rust, that declares this
            task as external. The runners of this process then run the task, no matter which program
            submitted the execution. The other program's definition applies. Only the id is needed
            here; all other given options must agree with that definition. A contradiction raises an
            error when a runner starts or submits. If the other program stores its definition after
            this runner has started, a task that contradicts the definition is ignored, and the
            reason is logged.

    Returns:
        The function itself.

    Raises:
        TaskValidationError: An option is not valid, or the function cannot be called as a task. The
            error is a `ValueError`.
        WorkflowValidationError: The workflow already has a task with this id.

    Example:
        >>> @cloaca.task(dependencies=[extract], retry_attempts=5, timeout=30)
        ... def total(context):
        ...     context["total"] = sum(context["rows"])

    Since 1.0.
    """
    if function is not None and not callable(function):
        raise TaskValidationError(
            f"@task decorates functions, not {type(function).__name__}",
            hint="an id goes into id=...: @cloaca.task(id='load')",
        )
    if output is not None and not _is_text(output):
        raise TaskValidationError(f"output must be the name of a result, not {output!r}")
    options = read_options(
        "task" if id is None else f"task {id!r}",
        retry=retry,
        retry_attempts=retry_attempts,
        retry_backoff=retry_backoff,
        retry_delay_ms=retry_delay_ms,
        retry_max_delay_ms=retry_max_delay_ms,
        retry_condition=retry_condition,
        retry_jitter=retry_jitter,
        retry_on=retry_on,
        never_on=never_on,
        retry_policy=retry_policy,
        on_success=on_success,
        on_failure=on_failure,
        trigger_rule=trigger_rule,
        trigger_rules=trigger_rules,
        timeout=timeout,
        timeout_seconds=timeout_seconds,
        priority=priority,
        max_context_bytes=max_context_bytes,
        wait_for=wait_for,
        wait_timeout=wait_timeout,
        on_timeout=on_timeout,
        final=final,
        undoes=undoes,
        compensate=compensate,
        compensate_failed=compensate_failed,
        over=over,
        parallel=parallel,
        batch=batch,
        tolerate=tolerate,
    )

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        name = id_of(function) if id is None else id
        signature = read_signature(function, name)
        if signature.parameters and signature.parameters[0].name == "self":
            _warn_of_method(name, signature)
        if registry.current_builder() is None:
            from cloaca._tasks.resolver import refuse_loose

            if options.map is None:
                refuse_loose(signature, name)
        defined = _define(
            name,
            dependencies,
            options,
            workflow=workflow,
            function=function,
            signature=signature,
            output=output,
        )
        remember(function, defined)
        return function

    return decorate if function is None else decorate(function)


def _callback_advice(argument: str) -> str | None:
    """Returns a hint for a callback given to `external_task`; `None` for other arguments."""
    if argument not in {"on_success", "on_failure"}:
        return None
    return (
        "another program runs the task, and only that program can call its callbacks: set them "
        "there, with @cloaca.task(workflow=...), or add a task here that depends on this one"
    )


@suggests_arguments_with(_callback_advice)
def external_task(
    id: str,
    dependencies: Iterable[TaskReference] | None = None,
    *,
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
    trigger_rule: str | TriggerRule | None = None,
    trigger_rules: str | TriggerRule | None = None,
    timeout: float | timedelta | str | None = None,
    timeout_seconds: float | timedelta | str | None = None,
    priority: int | None = None,
    max_context_bytes: int | None = None,
    compensate: Callable[..., object] | None = None,
    compensate_failed: bool = False,
) -> str:
    """Declare a task that another program runs, for example a worker written in Rust.

    Inside `with WorkflowBuilder(...)` the task belongs to the workflow of the block. Outside of a
    block, `WorkflowBuilder.add_task` adds it to a workflow. The task waits until a program that has
    a function for this workflow and id runs on the same database. The options given here apply,
    with the same meaning as for `task`. `on_success` and `on_failure` are set in the program that
    runs the task, because only that program calls them.

    Args:
        id: The task's id.
        dependencies: Tasks that must have ended before this task starts, by id or by function.
        retry: A complete retry policy. For this option and all following ones, see `task`.
        retry_attempts: Maximum number of attempts, including the first.
        retry_backoff: The growth of the delay.
        retry_delay_ms: The first delay: milliseconds, a timedelta, or text such as `"10s"`.
        retry_max_delay_ms: The longest delay: milliseconds, a timedelta, or text such as `"10m"`.
        retry_condition: The condition that a failure must meet to be retried.
        retry_jitter: Whether delays vary randomly.
        retry_on: The names of the only error types that are retried.
        never_on: The names of the error types that are never retried.
        retry_policy: A complete retry policy as a dict.
        trigger_rule: The condition under which the task runs after its dependencies have ended.
        trigger_rules: Another name for `trigger_rule`.
        timeout: Maximum duration of one attempt: seconds, a timedelta, or a string such as `"1h"`.
        timeout_seconds: Another name for `timeout`.
        priority: The priority, from -32768 to 32767; higher priorities start first.
        max_context_bytes: Maximum size of the values that one attempt writes, in bytes.
        compensate: A function of this program that undoes the effects of the task.
        compensate_failed: Whether `compensate` also runs if the task failed or was cancelled.

    Returns:
        The id, for use in the dependencies of other tasks.

    Raises:
        TaskValidationError: An option is not valid.
        WorkflowValidationError: The workflow already has a task with this id.

    Example:
        >>> resize = cloaca.external_task("resize", dependencies=["load"], timeout=60)

    Since 1.0.
    """
    options = read_options(
        f"task {id!r}",
        retry=retry,
        retry_attempts=retry_attempts,
        retry_backoff=retry_backoff,
        retry_delay_ms=retry_delay_ms,
        retry_max_delay_ms=retry_max_delay_ms,
        retry_condition=retry_condition,
        retry_jitter=retry_jitter,
        retry_on=retry_on,
        never_on=never_on,
        retry_policy=retry_policy,
        trigger_rule=trigger_rule,
        trigger_rules=trigger_rules,
        timeout=timeout,
        timeout_seconds=timeout_seconds,
        priority=priority,
        max_context_bytes=max_context_bytes,
        compensate=compensate,
        compensate_failed=compensate_failed,
    )
    return _define(id, dependencies, options).id


def _define(
    id: str,
    dependencies: Iterable[TaskReference] | None,
    options: TaskOptions,
    workflow: str | None = None,
    **handler: Any,
) -> TaskDefinition:
    """Creates a task, and adds it to the builder whose block the caller is in, or to the registry.

    A task for a workflow of another program is registered, and the live runners are notified.
    """
    if not isinstance(id, str):
        raise TaskValidationError(f"a task's id must be a string, not {type(id).__name__}")
    builder = registry.current_builder()
    if workflow is not None:
        if not is_workflow_name(workflow):
            raise TaskValidationError(
                f"task {id!r}: workflow must be the name of a workflow, not {workflow!r}",
                hint=NAME_HINT,
            )
        if builder is None:
            served = TaskDefinition(id, _ids(id, dependencies, None), options, **handler)
            from cloaca._tasks.resolver import Scope, resolve

            call = resolve(handler["signature"], Scope(id, served.result_key))
            registry.serve(workflow, served.bound(call, served.dependencies))
            return served
        if builder.name != workflow:
            raise TaskValidationError(
                f"task {id!r} is for the workflow {workflow!r}, "
                f"but is in the block of {builder.name!r}",
                hint="define it outside of the block",
            )
    siblings = None if builder is None else builder._definitions
    prefix = "" if builder is None else builder._prefix
    found = TaskDefinition(
        prefix + id, _ids(id, dependencies, siblings), options, group=prefix, **handler
    )
    if builder is None:
        registry.add_loose_task(found)
    else:
        builder._add_definition(found)
    return found


def _warn_of_method(id: str, signature: Signature) -> None:
    """Warns that a parameter `self` receives the context.

    If the function also has a parameter for the context, a later check raises an error.
    """
    from cloaca._tasks.resolver import CONTEXT_NAMES

    names = {parameter.name for parameter in signature.parameters}
    if signature.annotation("self") is not MISSING or names & CONTEXT_NAMES:
        return
    from cloaca._values.package_logger import logger

    logger().warning(
        "task '%s': the parameter 'self' of %s receives the context, not an object of its class; "
        "hint: use a function or a staticmethod, or decorate a method of an object: "
        "cloaca.task(pipeline.load)",
        id,
        name_of(signature.function),
    )


def _ids(
    id: str,
    dependencies: Iterable[TaskReference] | None,
    siblings: dict[str, TaskDefinition] | None,
) -> tuple[str, ...]:
    if dependencies is None:
        return ()
    if isinstance(dependencies, str) or callable(dependencies):
        raise TaskValidationError(
            f"task {id!r}: dependencies must be a list, not {dependencies!r}",
            hint="write dependencies=[...]",
        )
    what = f"a dependency of task {id!r}"
    ids = dict.fromkeys(task_id(what, reference, siblings) for reference in dependencies)
    # The order of a set differs from process to process, and would change the workflow's version.
    return tuple(sorted(ids) if isinstance(dependencies, (set, frozenset)) else ids)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def id_of(function: object) -> str:
    """Returns the name of a function; for a `functools.partial`, the name of its function."""
    for _ in range(32):
        name = getattr(function, "__name__", None)
        if isinstance(name, str) and name != "<lambda>":
            return name
        if not hasattr(function, "func"):
            break
        function = function.func
    raise TaskValidationError(
        f"{function!r} has no name that could be the task's id", hint="give it one: id='...'"
    )
