"""The outcome of an attempt, from a function's return value or exception (semantics B5, D1, D2)."""

from __future__ import annotations

from cloaca._core import Context, Outcome
from cloaca._tasks.control import Retry, Snooze, TaskParked
from cloaca._values.exceptions import TaskTimeoutError, is_final
from cloaca._values.type_name import lineage, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from cloaca._tasks.call import Call

COMPLETED = Outcome.completed()

# The folder of the package `cloaca`.
_PACKAGE = __file__.rpartition("/_workers/")[0] + "/"
# Maximum length of a traceback's text, in characters. The end of a longer text is kept, because it
# has the innermost frames.
_MAX_TRACEBACK = 64 * 1024
# Maximum length of a message, in characters.
_MAX_MESSAGE = 64 * 1024


def of_return(context: Context, returned: object) -> Outcome:
    """Returns the outcome of a function that takes the context and has returned.

    Args:
        context: The context that the function received.
        returned: The returned value. `None` and the received context keep the function's writes.
            Another context replaces the received one. A mapping is merged into the received one. A
            value of another type fails the task.
    """
    from collections.abc import Mapping

    try:
        if isinstance(returned, Context):
            context._replace_with(returned)
        elif isinstance(returned, Mapping):
            context.update_from_dict(returned)
            context._settle()
        else:
            class_name = type(returned).__qualname__
            _close(returned)
            advice = (
                "it may return None, its context, another Context or a mapping; a task without a "
                "parameter for the context may return any value"
            )
            if hasattr(returned, "cr_code"):
                advice = "await it in an 'async def' task"
            raise TypeError(f"the task returned a value of type '{class_name}'; {advice}")
    except (TypeError, ValueError) as error:
        return _refused(error)
    return COMPLETED


def of_value(context: Context, call: Call, returned: object) -> Outcome:
    """Returns the outcome of a value task that has returned (J3).

    Args:
        context: The context in which the value is stored.
        call: The call, which contains the key of the result.
        returned: The returned value. A value without a JSON form fails the task.
    """
    key = call.result_key
    assert key is not None
    if returned is None and not call.keeps_none:
        return COMPLETED
    try:
        context[key] = returned if call.encoder is None else call.encoder.plain(returned)
    except (TypeError, ValueError) as error:
        _close(returned)
        reason = message_of(error).removeprefix(f"context key {key!r}: ")
        return _refused(type(error)(f"the returned value has no JSON form: {reason}"))
    return COMPLETED


def _refused(error: BaseException) -> Outcome:
    """Returns the outcome of a task that returned an invalid value; the task is not retried."""
    kind = type(error)
    return Outcome.failed(type_name(kind), message_of(error), None, lineage(kind), False)


def of_exception(error: BaseException) -> Outcome:
    """Returns the outcome of an exception, even if the exception's own methods raise."""
    try:
        return _outcome_of(error)
    except BaseException as broken:
        message = f"<the exception cannot be read: {type(broken).__name__}>"
        return Outcome.failed(type_name(type(error)), message, None, lineage(type(error)), True)


def _outcome_of(error: BaseException) -> Outcome:
    if isinstance(error, Snooze):
        return Outcome.snooze(error._after_us)
    if isinstance(error, TaskParked):
        return Outcome.park(
            error.call,
            error.key,
            error.position,
            error.condition,
            error.timeout_us,
            error.runs,
        )
    kind = type(error)
    details = (type_name(kind), message_of(error), _traceback(error))
    if isinstance(error, Retry):
        return Outcome.retry(error._after_us, *details)
    return Outcome.failed(*details, lineage(kind), not is_final(error))


def message_of(error: BaseException) -> str:
    """Returns the first 65,536 characters of an exception's message, even if `__str__` raises."""
    try:
        text = str(error)
        return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]} …"
    except BaseException as broken:
        return f"<the message cannot be read: {type(broken).__name__} in __str__>"


def _traceback(error: BaseException) -> str | None:
    """Returns the traceback's text, without the frames of `cloaca` at the top.

    Returns `None` for a timeout, because the attempt's result is dropped. Also, if a method of the
    handle raised the error, the engine may still interrupt this thread because of the timeout, and
    the interrupt must not arrive while this function has a source file open.
    """
    if isinstance(error, TaskTimeoutError):
        return None
    try:
        import traceback

        if type(error) is AttributeError or type(error) is TypeError:
            from cloaca._workers.stored_type_hint import add_hint

            add_hint(error)
        frames = _without_own(error.__traceback__)
        text = "".join(traceback.format_exception(type(error), error, frames))
    except BaseException:
        return None
    return text if len(text) <= _MAX_TRACEBACK else f"…\n{text[-_MAX_TRACEBACK:]}"


def _without_own(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_PACKAGE):
        frames = frames.tb_next
    return frames


def _close(returned: object) -> None:
    """Closes a returned coroutine, which would otherwise warn that it was never awaited."""
    close = getattr(returned, "close", None)
    if close is not None and hasattr(returned, "cr_code"):
        close()
