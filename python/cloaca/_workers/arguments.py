"""The arguments of a task's function: context, handle, values and resources (J4, J7, J9)."""

from __future__ import annotations

from cloaca._tasks.call import Source
from cloaca._tasks.parameters import MISSING
from cloaca._values.exceptions import TaskInputError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from cloaca._core import Context, Work
    from cloaca._tasks.call import Call

    Arguments = tuple[list[Any], dict[str, Any]]


# The final states in which a task has no result, and their descriptions.
_NO_RESULT = {"Skipped": "was skipped", "Failed": "failed", "Cancelled": "was cancelled"}


def arguments(
    call: Call,
    work: Work,
    context: Context,
    handle: object,
    resources: Callable[[Source], object],
    *,
    asks: bool = True,
) -> Arguments:
    """Returns the positional arguments of a function, and its arguments by name.

    Args:
        call: The parameters of the function.
        work: The attempt.
        context: The context that the task receives.
        handle: The handle, if the function takes it.
        resources: A function that returns the object of a resource.
        asks: Whether an error about a missing result asks the database for the reason.

    Raises:
        TaskInputError: A parameter has no value, or its value does not match the annotation.
    """
    if call.unfilled:
        _warn_of_unfilled(call, work, context)

    def value(what: str | Source) -> Any:
        if isinstance(what, Source):
            if what.kind == "resource":
                return resources(what)
            return read(what, context, work, asks)
        return context if what == "context" else handle

    return [value(what) for what in call.positional], {
        name: value(what) for name, what in call.named
    }


def _warn_of_unfilled(call: Call, work: Work, context: Mapping[str, Any]) -> None:
    """Warns once about a parameter that keeps its default although the context has its key."""
    named = [name for name in call.unfilled if name in context]
    if named:
        call.unfilled = ()
        named = [name for name in named if not _keeps_loop_variable(work, name)]
    if named:
        from cloaca._values.package_logger import logger

        logger().warning(
            "parameter '%s' of task '%s' keeps its default, because a task that takes the context "
            "must read keys from the context; hint: use context.get(%r), or remove the context "
            "parameter and annotate '%s'",
            named[0],
            work.task_id,
            named[0],
            named[0],
        )


def _keeps_loop_variable(work: Work, name: str) -> bool:
    """Returns whether a parameter's default captures a loop variable.

    An example is `def load(context, name=name)`. In this case, other tasks of the workflow have the
    same code and other defaults.
    """
    from inspect import signature

    from cloaca._workflows.registry import registry

    workflow = registry.workflow(work.workflow_name)
    tasks = [] if workflow is None else list(workflow._definitions.values())
    function = next((task.function for task in tasks if task.id == work.task_id), None)
    code = getattr(function, "__code__", None)
    if function is None or code is None:
        return False
    twins = [task.function for task in tasks if getattr(task.function, "__code__", None) is code]
    default = signature(function).parameters[name].default
    return any(signature(twin).parameters[name].default is not default for twin in twins if twin)


def read(source: Source, context: Context, work: Work, asks: bool) -> Any:
    """Returns the value of a parameter.

    Raises:
        TaskInputError: The parameter has no value, or its value does not match the annotation.
    """
    if source.decoder is None and source.items is None:
        value = context._decoded(source.key, MISSING)
        if value is not MISSING:
            return value
    else:
        text = context._raw(source.key)
        if text is not None:
            return decode(source, text, work.task_id)
    if source.default is MISSING and source.default_of_input is not None:
        # The input may lack the field, because another program submitted the execution, or because
        # the execution is a child.
        text = source.default_of_input(source.key, context, work.execution_id)
        if text is not None:
            return decode(source, text, work.task_id)
    return _missing(source, context, work, asks)


def decode(source: Source, text: str, task_id: str) -> Any:
    """Returns the value of a parameter from its JSON text.

    Raises:
        TaskInputError: The text does not match the annotation.
    """
    try:
        if source.items is not None:
            return source.items._read(text, source.decoder)
        if source.decoder is not None:
            return source.decoder.decode(text)
        from json import loads

        return loads(text)
    except ValueError as error:
        from cloaca._values.decoding import Undecodable

        if not isinstance(error, Undecodable):
            raise
        raise _error(
            source,
            f"task '{task_id}': {_source_text(source)} does not match the annotation of parameter "
            f"'{source.parameter}': {error.text(source.parameter)}",
            path=f"{source.parameter}{error.path}",
        ) from error.__cause__


def _missing(source: Source, context: Mapping[str, Any], work: Work, asks: bool) -> Any:
    """Returns the value for a missing key: the default, or else `None` if that is allowed.

    `None` is allowed for a signal, and for a result or a field of the input if the parameter
    accepts `None`.

    Raises:
        TaskInputError: The parameter has no default, and `None` is not allowed.
    """
    if source.default is not MISSING:
        return source.default
    if source.kind == "signal":
        return None
    what = f"task '{work.task_id}': parameter '{source.parameter}' has no value: "
    hint = "give the parameter a default, or a type that admits None"
    if source.kind == "task":
        if source.accepts_none:
            return None
        reason, hint = _reason(source, hint, _status_of(source.task, work) if asks else None)
        what += reason
    elif source.kind == "input":
        if source.accepts_none:
            return None
        what += f"the input has no '{source.key}'"
    else:
        from cloaca._values.suggestion import suggestion

        what += f"the context has no key '{source.key}'"
        similar = suggestion(source.key, list(context))
        hint = similar or "submit the key, or give the parameter a default"
    raise _error(source, what, path=source.parameter, hint=hint)


def _status_of(task: str | None, work: object) -> str | None:
    """Returns the status of another task of the execution, such as `Skipped`.

    Returns `None` if the status cannot be read. This is also the case for the ordinary tasks that a
    final task names, because they belong to another execution. The status is read only for an error
    message, so that attempts need not know the states of other tasks.
    """
    from cloaca import _core
    from cloaca._values.exceptions import CloacaException
    from cloaca._workflows.registry import registry

    if not isinstance(work, _core.Work):
        return None  # `cloaca.testing.run_task` calls the function without a runner
    runner = registry.runner_of(work)
    if runner is None:
        return None
    try:
        tasks = runner._core.reads.execution(work.execution_id).tasks()
    except CloacaException:
        return None
    return next((found.status for found in tasks if found.task_id == task), None)


def _reason(source: Source, hint: str, status: str | None) -> tuple[str, str]:
    """Returns the reason why the result of a task is missing, and a hint.

    Args:
        source: The source of the parameter.
        hint: The hint that always applies.
        status: The status of the task; `None` if it is not known.
    """
    task, key = f"task '{source.task}'", source.key
    if status in _NO_RESULT:
        return f"{task} has no result, because it {_NO_RESULT[status]}", hint
    if source.maker_stores == "always":
        return f"{task} has no result, because it was skipped or failed", hint
    if source.maker_stores == "unless_none":
        act, instead = "returned None", f"annotate the return type of {task}, such as -> int | None"
        hint = f"{hint}; if None is a valid result, {instead}"
    else:
        act = f"did not store '{key}'"
        hint = f"store the value in {task}: context[{key!r}] = ...; or {hint}"
    is_complete = source.maker_completed or status == "Completed"
    others = "" if is_complete else "was skipped, failed, or "
    return f"{task} {others}{act}", hint


def _source_text(source: Source) -> str:
    if source.kind == "task":
        return f"the result of task '{source.task}'"
    return f"'{source.key}' of the {source.kind}"


def _error(source: Source, text: str, *, path: str, hint: str | None = None) -> TaskInputError:
    error = TaskInputError(text, hint=hint)
    error.parameter = source.parameter
    error.producer = source.task
    error.path = path
    return error
