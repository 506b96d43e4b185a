"""Reads the recorded values of steps: by a type, or by a function's return annotation (T4)."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from cloaca._values.exceptions import TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

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
