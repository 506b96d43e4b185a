"""The `task` decorator, and `external_task` for tasks that another program runs."""

from __future__ import annotations

from cloaca._tasks.definition import TaskDefinition, TaskOptions
from cloaca._tasks.options import read_options
from cloaca._tasks.parameters import MISSING, name_of, read_signature
from cloaca._tasks.references import remember, task_id
from cloaca._values.arguments import names_arguments
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


# Importing `typing` would double the package's import time, so there are no overloads at run time.
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
        retry_delay_ms: float | None = None,
        retry_max_delay_ms: float | None = None,
        retry_condition: str | Iterable[str] | None = None,
        retry_jitter: bool | None = None,
        retry_on: ExceptionTypes | None = None,
        never_on: ExceptionTypes | None = None,
        retry_policy: Mapping[str, Any] | None = None,
        on_success: Callable[[str, Context], object] | None = None,
        on_failure: Callable[[str, str, Context], object] | None = None,
        trigger_rule: str | TriggerRule | None = None,
        trigger_rules: str | TriggerRule | None = None,
        timeout: float | timedelta | None = None,
        timeout_seconds: float | timedelta | None = None,
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


@names_arguments
def task(
    function: Callable[P, R] | None = None,
    /,
    *,
    id: str | None = None,
    dependencies: Iterable[TaskReference] | None = None,
    retry: RetryPolicy | None = None,
    retry_attempts: int | None = None,
    retry_backoff: str | None = None,
    retry_delay_ms: float | None = None,
    retry_max_delay_ms: float | None = None,
    retry_condition: str | Iterable[str] | None = None,
    retry_jitter: bool | None = None,
    retry_on: ExceptionTypes | None = None,
    never_on: ExceptionTypes | None = None,
    retry_policy: Mapping[str, Any] | None = None,
    on_success: Callable[[str, Context], object] | None = None,
    on_failure: Callable[[str, str, Context], object] | None = None,
    trigger_rule: str | TriggerRule | None = None,
    trigger_rules: str | TriggerRule | None = None,
    timeout: float | timedelta | None = None,
    timeout_seconds: float | timedelta | None = None,
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
    """Make a task of a function. The function itself is unchanged: callable and testable.

    Inside `with WorkflowBuilder(...)` the task joins that workflow. Outside it waits for
    `WorkflowBuilder.add_task`. `async def` functions run on an event loop.

    A function that takes the context gets it as its first parameter, which is named `context` or
    `ctx`, annotated with `Context`, or has no annotation. It returns `None` or its context, another
    `Context` (which replaces it), or a mapping (which is merged into it).

    Any other function is a value task: it takes values, and what it returns is stored under its id.
    A parameter receives the result of the task with its name, which becomes a dependency, or the
    field with its name of the workflow's `input=`. In a workflow without `input=`, it receives the
    value of the context's key with its name if there is no such task. The defaults `cloaca.result`
    and `cloaca.resource` name the source. Values are decoded by the annotation. A parameter named
    `handle` or `task_handle`, or annotated with `TaskHandle`, receives the `TaskHandle`.

    Args:
        function: The function, if the decorator is used without parentheses.
        id: The task's id, unique in its workflow. Defaults to the function's name.
        dependencies: Tasks that must have ended before, by id or by function.
        retry: A whole retry policy; excludes every `retry_*`.
        retry_attempts: Maximum number of attempts, the first included (default 3); 0 and 1 both
            mean one.
        retry_backoff: `"fixed"`, `"linear"` or `"exponential"` (the default).
        retry_delay_ms: The first delay, in milliseconds (default 1000).
        retry_max_delay_ms: The longest delay, in milliseconds (default 60000).
        retry_condition: `"never"`, `"transient"`, `"all"` (the default), or a list of texts to look
            for in the error.
        retry_jitter: Whether each delay varies randomly by up to a quarter (default true).
        retry_on: Exception types that are retried, with their subclasses; others are not.
        never_on: Exception types that are never retried, with their subclasses.
        retry_policy: A whole retry policy as a dict: `max_attempts`, `backoff`, `initial_delay` and
            `max_delay` (seconds), `jitter`, `condition`, `retry_on`, `never_on`, or the names of
            the options above; excludes every other `retry_*`.
        on_success: Called with `(task_id, context)` once the task's completion is durable, and
            before callers in this process get the execution's result (they wait at most 30 s for
            it). Its exceptions are logged.
        on_failure: Called with `(task_id, error_text, context)` once the task's failure is durable,
            likewise.
        trigger_rule: The condition under which the task starts once its dependencies have ended: a
            name such as `"one_failed"`, or a rule.
        trigger_rules: The same.
        timeout: Maximum duration of one attempt, in seconds; the runner's `task_timeout_seconds`
            (300 unless set) if omitted, and `math.inf` for no limit.
        timeout_seconds: The same.
        priority: -32768 to 32767; of the tasks that wait for a worker, higher priorities start
            first.
        max_context_bytes: Maximum size of what one attempt may write to the context, in bytes.
        wait_for: A condition such as `cloaca.signal("paid", key="order_id")`. Once the task could
            run, it waits for the condition without holding a worker. A parameter with the signal's
            name receives the data.
        wait_timeout: Maximum time of that wait: seconds, a timedelta, or a text such as `"30d"`.
        on_timeout: The consequence of the timeout: `"fail"` (the default: `WaitTimeoutError`, not
            retried), `"skip"`, or `"continue"` (the task runs without the value).
        final: Makes it a final task, which runs after the execution has ended: `"always"`, or only
            after a `"failure"`, when it was `"cancelled"`, or after `"success"`. A parameter
            `error` receives the `ErrorInfo`.
        undoes: The tasks that a final task undoes, by id or by function: a retry of the execution
            runs them again.
        compensate: The function that undoes this task if the execution does not succeed, such as
            `refund(charge, error, handle)`.
        compensate_failed: Whether `compensate` also runs if this task failed, was lost, or was
            cancelled while it ran.
        over: The task runs once per element of a list: the result of a task, given by id or by
            function, a field of the workflow's `input=`, or a key of the context. The parameter
            that has no other meaning receives the element. A dict of parameters and lists of equal
            lengths runs over several at once. What the function returns is the result of the item;
            a task with a parameter named like this one receives the list of results.
        parallel: Maximum number of items that run at once, over all runners.
        batch: Maximum number of elements of one item, which receives a list of them.
        tolerate: Maximum number of items that may fail, or their share as a fraction such as
            `0.05`. Beyond it nothing more starts and the task fails. If omitted, all items run,
            and the task fails if any failed.
        output: The key under which the result of a value task is stored; the task's id if omitted.
        workflow: The name of a workflow that another program defines, in Python or in Rust, and
            that names this task as external. The runners of this process then run it, in executions
            of any submitter. The other program's definition governs the task: only the id is needed
            here, and other options must agree with the definition. A contradiction is refused when
            the runner starts or submits; if the definition arrives later, the task is ignored and
            the log says why.

    Returns:
        The function itself.

    Raises:
        TaskValidationError: An option is not valid, or the function cannot be called as a task. It
            is a `ValueError`.
        WorkflowValidationError: The workflow has a task with this id already.

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


@names_arguments
def external_task(
    id: str,
    dependencies: Iterable[TaskReference] | None = None,
    *,
    retry: RetryPolicy | None = None,
    retry_attempts: int | None = None,
    retry_backoff: str | None = None,
    retry_delay_ms: float | None = None,
    retry_max_delay_ms: float | None = None,
    retry_condition: str | Iterable[str] | None = None,
    retry_jitter: bool | None = None,
    retry_on: ExceptionTypes | None = None,
    never_on: ExceptionTypes | None = None,
    retry_policy: Mapping[str, Any] | None = None,
    trigger_rule: str | TriggerRule | None = None,
    trigger_rules: str | TriggerRule | None = None,
    timeout: float | timedelta | None = None,
    timeout_seconds: float | timedelta | None = None,
    priority: int | None = None,
    max_context_bytes: int | None = None,
    compensate: Callable[..., object] | None = None,
    compensate_failed: bool = False,
) -> str:
    """Name a task that another program runs, e.g. a worker written in Rust.

    Inside `with WorkflowBuilder(...)` it joins that workflow, outside it waits for
    `WorkflowBuilder.add_task`. It runs as soon as a program that has a task of this workflow and id
    works on the same database; until then it waits. The options given here apply, with the same
    meaning as for `task`.

    Args:
        id: The task's id.
        dependencies: Tasks that must have ended before, by id or by function.
        retry: See `task`, as for all following options.
        retry_attempts: Maximum number of attempts, the first included.
        retry_backoff: The growth of the delay.
        retry_delay_ms: The first delay, in milliseconds.
        retry_max_delay_ms: The longest delay, in milliseconds.
        retry_condition: The failures that are retried.
        retry_jitter: Whether delays vary.
        retry_on: Names of the only error types that are retried.
        never_on: Names of the error types that are never retried.
        retry_policy: The dict form of a policy.
        trigger_rule: The condition under which it starts.
        trigger_rules: The same.
        timeout: Maximum duration of one attempt, in seconds.
        timeout_seconds: The same.
        priority: Higher priorities start first.
        max_context_bytes: Maximum size of what one attempt may write, in bytes.
        compensate: A function of this program that undoes what the task has done.
        compensate_failed: Whether it also runs if the task failed or was cancelled.

    Returns:
        The id, for use in the dependencies of other tasks.

    Raises:
        TaskValidationError: An option is not valid.
        WorkflowValidationError: The workflow has a task with this id already.

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
    """Makes a task and adds it to the current builder, or to the registry outside of a block.

    A task for a workflow of another program is registered with the runners.
    """
    if not isinstance(id, str):
        raise TaskValidationError(f"a task's id must be a string, not {type(id).__name__}")
    builder = registry.current_builder()
    if workflow is not None:
        if not is_workflow_name(workflow):
            raise TaskValidationError(
                f"task {id!r}: workflow must be the name of one, not {workflow!r}", hint=NAME_HINT
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

    A function that also has a parameter for the context is refused later.
    """
    from cloaca._tasks.resolver import CONTEXT_NAMES

    names = {parameter.name for parameter in signature.parameters}
    if signature.annotation("self") is not MISSING or names & CONTEXT_NAMES:
        return
    from cloaca._values.package_logger import logger

    logger().warning(
        "task '%s': the parameter 'self' of %s receives the context, because a method in the body "
        "of a class cannot be a task; hint: use a function or a staticmethod, or decorate a method "
        "of an object: cloaca.task(pipeline.load)",
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
    return tuple(dict.fromkeys(task_id(what, reference, siblings) for reference in dependencies))


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def id_of(function: object) -> str:
    """A function's name. Looks through partials, which have none."""
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
