"""The outcome of an attempt: what a function returned or raised (semantics B5, D1, D2)."""

from __future__ import annotations

from cloaca._core import Context, Outcome
from cloaca._tasks.control import Abort, Retry, Snooze, TaskParked
from cloaca._values.exceptions import (
    CaughtParkError,
    CloacaException,
    TaskInputError,
    TaskTimeoutError,
    WholeTaskError,
)
from cloaca._values.type_name import lineage, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from cloaca._tasks.call import Call

COMPLETED = Outcome.completed()

# The codes of errors after which a task is not tried again.
_FINAL = frozenset({"deadlock", "step_limit"})

# The folder of this package.
_PACKAGE = __file__.rpartition("/_workers/")[0] + "/"
# Maximum size of a traceback's text, in bytes; the end is kept, which has the innermost frames.
_MAX_TRACEBACK = 64 * 1024
# Maximum length of a message, in characters.
_MAX_MESSAGE = 64 * 1024


def of_return(context: Context, returned: object) -> Outcome:
    """The outcome of a function that returned.

    Args:
        context: The context that it received.
        returned: The returned value. For `None` or the context itself, the writes to the context
            count. Another context replaces it. A mapping is merged into it. Anything else fails
            the task.
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
            advice = "it may return None, its context, another Context or a mapping"
            if hasattr(returned, "cr_code"):
                advice = "await it, in a task that is 'async def'"
            raise TypeError(f"the task returned a value of type '{class_name}'; {advice}")
    except (TypeError, ValueError) as error:
        return _refused(error)
    return COMPLETED


def of_value(context: Context, call: Call, returned: object) -> Outcome:
    """The outcome of a value task that returned: the value is stored under the task's key (J3).

    Args:
        context: The context whose writes count.
        call: The call, which names the key.
        returned: The returned value. One without a JSON form fails the task.
    """
    key = call.result_key
    assert key is not None
    if returned is None and not call.keeps_none:
        return COMPLETED
    try:
        context[key] = returned
    except (TypeError, ValueError) as error:
        _close(returned)
        told = message_of(error).removeprefix(f"context key {key!r}: ")
        return _refused(type(error)(f"the returned value has no JSON form: {told}"))
    return COMPLETED


def _refused(error: BaseException) -> Outcome:
    """The outcome of a task that returned an invalid value; it is not retried."""
    kind = type(error)
    return Outcome.failed(type_name(kind), message_of(error), None, lineage(kind), False)


def of_exception(error: BaseException) -> Outcome:
    """The outcome of a function that raised, even if the exception's own methods raise."""
    try:
        return _outcome_of(error)
    except BaseException as broken:
        told = f"<the exception cannot be read: {type(broken).__name__}>"
        return Outcome.failed(type_name(type(error)), told, None, lineage(type(error)), True)


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
    told = (type_name(kind), message_of(error), _traceback(error))
    if isinstance(error, Retry):
        return Outcome.retry(error._after_us, *told)
    # Another attempt would meet the same deadlock, have too many steps again, or get the same
    # values.
    is_final_error = isinstance(error, CloacaException) and (
        error._is_final or error.code in _FINAL
    )
    is_final = is_final_error or isinstance(
        error, (Abort, CaughtParkError, TaskInputError, WholeTaskError)
    )
    return Outcome.failed(*told, lineage(kind), not is_final)


def message_of(error: BaseException) -> str:
    """The first 64 Ki characters of an exception's message, even if its `__str__` raises."""
    try:
        text = str(error)
        return text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]} …"
    except BaseException as broken:
        return f"<the message cannot be read: {type(broken).__name__} in __str__>"


def _traceback(error: BaseException) -> str | None:
    """The traceback's text, without this package's own frames at its top.

    A timeout has no traceback: its result is dropped, and the interrupt that follows a timeout must
    not arrive while a source file is open.
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
    """Closes a coroutine, which would otherwise warn that it was never awaited."""
    close = getattr(returned, "close", None)
    if close is not None and hasattr(returned, "cr_code"):
        close()
