"""Decodes the recorded values of steps to a given type or to a function's return type (T4)."""

from __future__ import annotations

from types import FunctionType
from weakref import WeakKeyDictionary

from cloaca._core import encode_plain
from cloaca._values.encoding import encode_as
from cloaca._values.exceptions import TaskInputError, TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloaca._core import StepLog
    from cloaca._values.decoding import Decoder, Undecodable

    Read = Callable[[str], Any]

# The functions that decode a value, by the function whose return annotation they use.
_readers: WeakKeyDictionary[Any, Read] = WeakKeyDictionary()


def reader(name: str, function: Any, kind: Any) -> Read:
    """Returns the function that decodes the recorded value of a step.

    The value is decoded to the type `kind` or, if `kind` is not given, to the return type of the
    step's function.

    Raises:
        TaskValidationError: Values of the type cannot be decoded.
    """
    if kind is not None:
        return decoder(name, kind)
    # The common case, a plain function whose reader is known, needs no further calls, because a
    # loop may read thousands of recorded steps.
    read = _readers.get(function) if type(function) is FunctionType else None
    if read is not None:
        return read
    from cloaca._values.annotations import evaluate, raw_annotations, underlying

    known = underlying(function)
    written = raw_annotations(function).get("return", _MISSING)
    read = plain if written is _MISSING else _readers.get(known)
    if read is None:
        try:
            annotation = evaluate("return", written, function)
        except Exception as error:
            raise _unreadable(name, f"{type(error).__name__}: {error}") from None
        read = decoder(name, annotation)
    if type(known) is FunctionType:
        _readers[known] = read
    return read


_MISSING = object()


def input_decoder(call: str, name: str, annotation: object) -> Read:
    """Returns the function that decodes the value of a wait or the outputs of children.

    Another attempt would receive the same value. A value that does not match the type therefore
    fails the task without another attempt (J9).

    Args:
        call: The name of the call, such as `wait`.
        name: The key of the call.
        annotation: The type.

    Raises:
        TaskValidationError: Values of the type cannot be decoded.
    """

    def refused(error: Undecodable) -> Exception:
        return _mismatch(
            name,
            error,
            f"the value of {call} '{name}' does not match its type",
            f"correct the type= of handle.{call}, or the value that it receives",
        )

    return decoder(name, annotation, refused)


def output_decoder(call: str, name: str, workflow: object) -> Read:
    """Returns the function that decodes the outputs of children if the call gives no `type`.

    If the call passes the object or the function of a workflow of this process, the output is
    decoded to the return type of the task that makes the output. All other outputs, and outputs
    whose return type cannot be decoded, are plain JSON.

    Args:
        call: The name of the call, `run` or `run_many`.
        name: The key of the call.
        workflow: The workflow, as the call names it.
    """
    if isinstance(workflow, str):
        return plain
    from cloaca._executions.output import result_decoder
    from cloaca._workflows.function import defined_workflow
    from cloaca._workflows.registry import registry

    known = registry.workflow(defined_workflow(workflow) or "")
    key = None if known is None else known.output
    decoder = result_decoder(known, key) if isinstance(key, str) else None
    if decoder is None:
        return plain

    def refused(error: Undecodable) -> Exception:
        return _mismatch(
            name,
            error,
            f"the output of {call} '{name}' does not match its return annotation",
            f"correct the annotation, or pass type= to handle.{call}",
        )

    read = _reading(decoder, refused)
    # The output is null if the task that makes it was skipped.
    return lambda text: None if text == "null" else read(text)


def _mismatch(name: str, error: Undecodable, problem: str, hint: str) -> TaskInputError:
    found = TaskInputError(f"{problem}: {error.text()}", hint=hint)
    found.parameter, found.path = name, f"{name}{error.path}"
    return found


def _refused(name: str, error: Undecodable) -> Exception:
    return TaskValidationError(
        f"the value of step '{name}' does not match its type: {error.text()}",
        hint="pass type= to handle.step, or correct the annotation of its function",
    )


def decoder(
    name: str, annotation: object, refused: Callable[[Undecodable], Exception] | None = None
) -> Read:
    """Returns the function that decodes a recorded value to a type.

    Args:
        name: The key of the call.
        annotation: The type.
        refused: A function that returns the error for a value that does not match the type. If
            omitted, the error is a `TaskValidationError` about a step.

    Raises:
        TaskValidationError: Values of the type cannot be decoded.
    """
    from cloaca._values.decoding import Decoder, Unreadable, is_plain

    if is_plain(annotation):
        return plain
    try:
        decoder = Decoder(annotation)
    except Unreadable as error:
        raise _unreadable(name, str(error)) from None

    read = _reading(decoder, refused or (lambda error: _refused(name, error)))
    if decoder.converts:
        known: Any = read
        known.encode = decoder.encode
    return read


def _reading(decoder: Decoder, refused: Callable[[Undecodable], Exception]) -> Read:
    from cloaca._values.decoding import Undecodable

    def read(text: str) -> Any:
        try:
            return decoder.decode(text)
        except Undecodable as error:
            raise refused(error) from None

    return read


def text_of(what: str, value: object, read: Read) -> str:
    """Returns the JSON text from which `read` decodes a value; see `encode_as`."""
    encode: Callable[[str, object], str] | None = getattr(read, "encode", None)
    if encode is not None:
        return encode(what, value)
    text = encode_plain(value)
    return encode_as(what, value) if text is None else text


def _unreadable(name: str, reason: str) -> TaskValidationError:
    return TaskValidationError(
        f"the type of '{name}' cannot be decoded from JSON: {reason}",
        hint="pass another type=, for example type=dict, or type=object for plain JSON",
    )


def plain(text: str) -> Any:
    """Returns the value of JSON text from the engine, which has no white space at its ends."""
    global _scan
    if _scan is None:
        from json import JSONDecoder

        _scan = JSONDecoder().scan_once  # type: ignore[attr-defined]
    return _scan(text, 0)[0]


# Decodes the value at the beginning of a text. `json.loads` would also look for white space around
# the value.
_scan: Any = None


# The first characters of the recorded outcome of a wait or a child, if the outcome has a value.
_VALUE = '{"value":'


def value_text(end: str) -> str:
    """Returns the JSON text of the value in the recorded outcome of a wait or a child.

    Returns `null` for an outcome without a value. The text is cut out without decoding, because a
    number of many digits would become a float.
    """
    if not end.startswith(_VALUE):
        return "null"
    return end[len(_VALUE) : -1]


def recorded_by(log: StepLog, key: str, call: str) -> str | None:
    """Returns the value that a method of the handle has recorded under a key, as JSON text.

    Args:
        log: The recorded steps of the task.
        key: The key, as it is recorded.
        call: The method of the handle that is called now.

    Returns:
        The value; `None` if the key is not recorded.

    Raises:
        TaskValidationError: Another method recorded the key before the code was changed. The task
            is not retried, because each attempt would find the same step.
    """
    step = log.recorded(key)
    return None if step is None else text_by(step, key, call)


def text_by(step: tuple[str, str], key: str, call: str) -> str:
    """Returns the value of a recorded step, like `recorded_by`.

    Args:
        step: The method of the handle that recorded the step, and the value as JSON text.
        key: The key, as it is recorded.
        call: The method of the handle that is called now.

    Returns:
        The value as JSON text.

    Raises:
        TaskValidationError: As for `recorded_by`.
    """
    recorded, text = step
    if recorded == call:
        return text
    error = TaskValidationError(
        f"an earlier attempt recorded the key '{key}' with handle.{recorded}, "
        f"and the code now calls handle.{call} with it",
        hint=f"use another key, or retry the execution with from_step={key!r}",
    )
    error._is_final = True
    raise error
