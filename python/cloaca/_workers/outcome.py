"""The outcome of an attempt: what a function returned or raised (semantics B5, D1, D2)."""

from __future__ import annotations

from cloaca._core import Context, Outcome
from cloaca._tasks.control import Abort, Retry, Snooze
from cloaca._values.exceptions import TaskTimeoutError, WorkflowError
from cloaca._values.type_name import lineage, type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

COMPLETED = Outcome.completed()

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
            raise TypeError(
                f"the task returned a value of type '{class_name}'; "
                "it may return None, its context, another Context or a mapping"
            )
    except (TypeError, ValueError) as error:
        kind = type(error)
        return Outcome.failed(type_name(kind), message_of(error), None, lineage(kind), False)
    return COMPLETED


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
    kind = type(error)
    told = (type_name(kind), message_of(error), _traceback(error))
    if isinstance(error, Retry):
        return Outcome.retry(error._after_us, *told)
    # Waiting cannot fix a deadlock.
    is_deadlock = isinstance(error, WorkflowError) and error.code == "deadlock"
    return Outcome.failed(*told, lineage(kind), not (isinstance(error, Abort) or is_deadlock))


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
