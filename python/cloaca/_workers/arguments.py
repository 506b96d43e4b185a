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


def arguments(
    call: Call,
    work: Work,
    context: Context,
    handle: object,
    resources: Callable[[Source], object],
) -> Arguments:
    """Returns the positional arguments of a function, and its arguments by name.

    Args:
        call: The parameters of the function.
        work: The attempt.
        context: The context that the task sees.
        handle: Its handle, if it takes one.
        resources: Returns the object of a resource.

    Raises:
        TaskInputError: A parameter has no value, or one that does not match its annotation.
    """
    if call.unfilled:
        _warn_of_unfilled(call, work.task_id, context)

    def value(what: str | Source) -> Any:
        if isinstance(what, Source):
            if what.kind == "resource":
                return resources(what)
            return read(what, context, work.task_id)
        return context if what == "context" else handle

    return [value(what) for what in call.positional], {
        name: value(what) for name, what in call.named
    }


def _warn_of_unfilled(call: Call, task_id: str, context: Mapping[str, Any]) -> None:
    """Warns once of a parameter that keeps its default although the context has its name."""
    named = [name for name in call.unfilled if name in context]
    if named:
        call.unfilled = ()
        from cloaca._values.package_logger import logger

        logger().warning(
            "parameter '%s' of task '%s' keeps its default: a task that takes the context reads "
            "keys from it; hint: context.get(%r), or annotate it and leave out the context",
            named[0],
            task_id,
            named[0],
        )


def read(source: Source, context: Context, task_id: str) -> Any:
    """The value of a parameter.

    Raises:
        TaskInputError: The parameter has no value, or one that does not match its annotation.
    """
    if source.items is not None:
        text = context._raw(source.key)
        return _missing(source, context, task_id) if text is None else decode(source, text, task_id)
    if source.decoder is None:
        value = context._decoded(source.key, MISSING)
        return value if value is not MISSING else _missing(source, context, task_id)
    text = context._raw(source.key)
    return _missing(source, context, task_id) if text is None else decode(source, text, task_id)


def decode(source: Source, text: str, task_id: str) -> Any:
    """The value of a parameter from its JSON text.

    Raises:
        TaskInputError: It does not match the annotation.
    """
    from cloaca._values.decoding import Undecodable

    try:
        if source.items is not None:
            return source.items._read(text, source.decoder)
        assert source.decoder is not None
        return source.decoder.decode(text)
    except Undecodable as error:
        path = f"{source.parameter}{error.path}"
        raise _error(
            source,
            f"task '{task_id}': {_told(source)} does not match the annotation of parameter "
            f"'{source.parameter}': `{path}`: {error.reason}",
            path=path,
        ) from error.__cause__


def _missing(source: Source, context: Mapping[str, Any], task_id: str) -> Any:
    """The value of a parameter whose key is missing: its default, or `None` for a result."""
    if source.default is not MISSING:
        return source.default
    if source.kind == "signal":
        return None
    what = f"task '{task_id}': parameter '{source.parameter}' has no value: "
    hint = "give it a default, or a type that admits None"
    if source.kind == "task":
        if source.accepts_none:
            return None
        reason, hint = _reason(source, hint)
        what += reason
    elif source.kind == "input":
        if source.accepts_none:
            return None
        what += f"the input has no '{source.key}'"
    else:
        from cloaca._values.suggestion import suggestion

        what += f"the context has no key '{source.key}'"
        hint = suggestion(source.key, list(context)) or "submit it, or give it a default"
    raise _error(source, what, path=source.parameter, hint=hint)


def _reason(source: Source, hint: str) -> tuple[str, str]:
    """The reason why the result of a task is missing, and a hint."""
    task, key = f"task '{source.task}'", source.key
    if source.maker_stores == "always":
        return f"{task} has no result, because it was skipped or failed", hint
    if source.maker_stores == "unless_none":
        act, instead = "returned None", "annotate what that function returns, such as -> int | None"
        hint = f"{hint}; if None is a result, {instead}"
    else:
        act = f"did not store '{key}'"
        hint = f"store it there: context[{key!r}] = ...; or {hint}"
    others = "" if source.maker_completed else "was skipped, failed, or "
    return f"{task} {others}{act}", hint


def _told(source: Source) -> str:
    if source.kind == "task":
        return f"the result of task '{source.task}'"
    return f"'{source.key}' of the {source.kind}"


def _error(source: Source, text: str, *, path: str, hint: str | None = None) -> TaskInputError:
    error = TaskInputError(text, hint=hint)
    error.parameter = source.parameter
    error.producer = source.task
    error.path = path
    return error
