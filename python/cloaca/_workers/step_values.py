"""Reads the recorded values of steps: by a type, or by a function's return annotation (T4)."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from cloaca._values.exceptions import TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloaca._core import StepLog

    Read = Callable[[str], Any]

# Reads a value by the return annotation of a function.
_readers: WeakKeyDictionary[Any, Read] = WeakKeyDictionary()


def reader(name: str, function: Any, kind: Any) -> Read:
    """Reads the recorded values of a step: by a type, or by its function's return annotation.

    Raises:
        TaskValidationError: No value can be decoded by the type or the annotation.
    """
    if kind is not None:
        return decoder(name, kind)
    from cloaca._values.annotations import evaluate, raw_annotations, underlying

    written = raw_annotations(function).get("return", _MISSING)
    if written is _MISSING:
        return plain
    known = underlying(function)
    read = _readers.get(known)
    if read is None:
        try:
            annotation = evaluate("return", written, function)
        except Exception as error:
            raise _unreadable(name, f"{type(error).__name__}: {error}") from None
        read = _readers[known] = decoder(name, annotation)
    return read


_MISSING = object()


def decoder(name: str, annotation: object) -> Read:
    from cloaca._values.decoding import Decoder, Undecodable, Unreadable, is_plain

    if is_plain(annotation):
        return plain
    try:
        decoder = Decoder(annotation)
    except Unreadable as error:
        raise _unreadable(name, str(error)) from None

    def read(text: str) -> Any:
        try:
            return decoder.decode(text)
        except Undecodable as error:
            at = f" at {error.path}" if error.path else ""
            raise TaskValidationError(
                f"the value of step '{name}' does not match its type{at}: {error.reason}",
                hint="pass type= to handle.step, or correct the annotation of its function",
            ) from None

    return read


def _unreadable(name: str, reason: str) -> TaskValidationError:
    return TaskValidationError(
        f"step '{name}' returns a type that cannot be read back: {reason}",
        hint="pass type= to handle.step, for example type=dict, or type=object for plain JSON",
    )


def plain(text: str) -> Any:
    import json

    return json.loads(text)


# The beginning of the recorded end of a wait or of a child that got a value.
_VALUE = '{"value":'


def value_text(end: str) -> str:
    """The JSON text of the value in the recorded end of a wait or of a child.

    It is cut out, not decoded: a number of many digits would become a float.
    """
    if not end.startswith(_VALUE):
        return "null"
    return end[len(_VALUE) : -1]


def check_call(log: StepLog, key: str, call: str) -> None:
    """Refuses a key that another call has recorded, because the code has changed since.

    Args:
        log: The recorded steps of the task.
        key: The key, as it is recorded.
        call: The method of the handle that is called now.

    Raises:
        TaskValidationError: Another method recorded the key. It is not retried, because each
            attempt finds the same step.
    """
    recorded = log.recorded_call(key)
    if recorded is None or recorded == call:
        return
    error = TaskValidationError(
        f"an earlier attempt recorded the key '{key}' with handle.{recorded}, "
        f"and the code now calls handle.{call} with it",
        hint=f"use another key, or retry the execution with from_step={key!r}",
    )
    error._is_final = True
    raise error
