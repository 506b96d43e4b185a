"""The signature of a task's function: its parameters, their defaults and annotations (A2, J1).

Parameters are read when the task is defined; `resolver` decides what each one receives when the
workflow is complete.
"""

from __future__ import annotations

from functools import lru_cache

from cloaca._values.annotations import call_method
from cloaca._values.exceptions import TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from cloaca._values.decoding import Decoder

_COROUTINE = 0x80
_GENERATOR = 0x20
_ASYNC_GENERATOR = 0x200
_VARIADIC = 0x04

POSITIONAL_ONLY, POSITIONAL, VAR_POSITIONAL, KEYWORD_ONLY, VAR_KEYWORD = range(5)


class _Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


#: Stands for a missing default of a parameter, and for a missing value.
MISSING = _Missing()


class Parameter:
    """A parameter: its name, its kind as a number of `inspect`, and its default or `MISSING`."""

    __slots__ = ("default", "kind", "name")

    def __init__(self, name: str, kind: int, default: object = MISSING) -> None:
        self.name = name
        self.kind = kind
        self.default = default

    @property
    def is_single(self) -> bool:
        """Whether it takes one value: it is neither `*args` nor `**kwargs`."""
        return self.kind not in {VAR_POSITIONAL, VAR_KEYWORD}


class Signature:
    """The parameters of a task's function. Annotations are read on request."""

    __slots__ = ("_decoders", "_fingerprint", "_raw", "function", "is_async", "parameters")

    def __init__(
        self, function: Callable[..., object], parameters: tuple[Parameter, ...], is_async: bool
    ) -> None:
        self.function = function
        self.parameters = parameters
        #: Whether the call returns a coroutine.
        self.is_async = is_async
        self._raw: Mapping[str, object] | None = None
        self._fingerprint: str | None = None
        # By parameter; "return" for the result. `None` if a value passes as it is.
        self._decoders: dict[str, Decoder | None] = {}

    @property
    def fingerprint(self) -> str:
        """A hash of the function's code; computed on first access."""
        if self._fingerprint is None:
            from cloaca._tasks.fingerprint import fingerprint

            self._fingerprint = fingerprint(self.function)
        return self._fingerprint

    def annotation(self, name: str) -> object:
        """The annotation of a parameter as it is written, or `MISSING`."""
        if self._raw is None:
            from cloaca._values.annotations import raw_annotations

            self._raw = raw_annotations(self.function)
        return self._raw.get(name, MISSING)

    def is_annotated(self, name: str, class_name: str) -> bool:
        """Whether a parameter is annotated with a class of cloaca."""
        found = self.annotation(name)
        if found is MISSING:
            return False
        from cloaca._values.annotations import names

        return names(found, class_name, self.function)

    def decoder(self, name: str) -> Decoder | None:
        """The decoder of a parameter's annotation; `None` if it takes every value as it is.

        Args:
            name: The parameter, or `return` for the result.

        Raises:
            Unreadable: No decoder can be made; the text says why.
        """
        if name not in self._decoders:
            self._decoders[name] = self._make_decoder(name)
        return self._decoders[name]

    def map_result(self, name: str) -> tuple[Any, Decoder | None] | None:
        """The class and the decoder of values of a parameter annotated with `MapResult`.

        Raises:
            Unreadable: No decoder can be made; the text says why.
        """
        written = self.annotation(name)
        if written is MISSING:
            return None
        from cloaca._values.annotations import evaluate
        from cloaca._values.decoding import Decoder, is_plain

        try:
            annotation = evaluate(name, written, self.function)
        except Exception:
            return None  # the decoder reports the problem
        kind = getattr(annotation, "__origin__", annotation)
        if not getattr(kind, "_is_map_result", False):
            return None
        values = getattr(annotation, "__args__", ())
        of_values = values[0] if values and not is_plain(values[0]) else None
        return kind, None if of_values is None else Decoder(of_values)

    def _make_decoder(self, name: str) -> Decoder | None:
        written = self.annotation(name)
        if written is MISSING:
            return None
        from cloaca._values.annotations import evaluate
        from cloaca._values.decoding import Decoder, Unreadable, is_plain

        try:
            annotation = evaluate(name, written, self.function)
        except NameError as error:
            raise Unreadable(
                f"{error}: the annotation is read when the workflow is defined, so its names must "
                "be imported, not only for type checkers"
            ) from None
        except Exception as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None
        return None if is_plain(annotation) else Decoder(annotation)


def read_signature(function: Callable[..., object], task_id: str) -> Signature:
    """Reads the parameters of a task's function.

    Args:
        function: The function.
        task_id: Its task, for messages.

    Raises:
        TaskValidationError: It cannot be a task: it is not a function, or it is a generator.
    """
    if not callable(function):
        raise TaskValidationError(
            f"task '{task_id}' must be a function, not {type(function).__name__}"
        )
    if isinstance(function, type):
        raise TaskValidationError(
            f"task '{task_id}': {function.__qualname__} is a class",
            hint="a task is a function; a method of an object is one: cloaca.task(job.run)",
        )
    flags = _flags(function)
    if flags & (_GENERATOR | _ASYNC_GENERATOR):
        raise TaskValidationError(
            f"task '{task_id}': {name_of(function)} is a generator function",
            hint="a task returns its value, its context or a mapping; it cannot yield",
        )
    parameters = _simple_parameters(function)
    if parameters is None:
        parameters = _inspected_parameters(task_id, function)
    return Signature(function, parameters, bool(flags & _COROUTINE))


def is_coroutine_function(function: Callable[..., object]) -> bool:
    """Whether a call returns a coroutine."""
    return bool(_flags(function) & _COROUTINE)


def is_generator_function(function: Callable[..., object]) -> bool:
    """Whether a call returns a generator."""
    return bool(_flags(function) & _GENERATOR)


def is_async_generator_function(function: Callable[..., object]) -> bool:
    """Whether a call returns an asynchronous generator."""
    return bool(_flags(function) & _ASYNC_GENERATOR)


def name_of(function: object) -> str:
    """A function's name for messages."""
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    return f"{name}()" if isinstance(name, str) else repr(function)


def _flags(function: Any) -> int:
    """The code flags of the called function, through partials, methods and callable objects.

    0 if it has no code object.
    """
    for _ in range(32):
        if hasattr(function, "func") and not hasattr(function, "__code__"):
            function = function.func
            continue
        function = getattr(function, "__func__", function)
        code = getattr(function, "__code__", None)
        if code is not None:
            flags: int = code.co_flags
            # The attribute that `inspect.markcoroutinefunction` sets.
            return flags | (_COROUTINE if hasattr(function, "_is_coroutine_mark") else 0)
        call = call_method(type(function))
        if isinstance(function, type) or not hasattr(call, "__code__"):
            return 0
        function = call
    return 0


def _simple_parameters(function: Any) -> tuple[Parameter, ...] | None:
    """The parameters of a plain function, read from its code; `None` if `inspect` is needed."""
    code = getattr(function, "__code__", None)
    if (
        type(function).__name__ != "function"
        or code is None
        or hasattr(function, "__wrapped__")
        or hasattr(function, "__signature__")
        or code.co_flags & _VARIADIC
    ):
        return None
    keyword_defaults = function.__kwdefaults__
    count, defaults = code.co_argcount, function.__defaults__ or ()
    names = code.co_varnames[: count + code.co_kwonlyargcount]
    found = _parameters(names, code.co_posonlyargcount, count)
    if not defaults and not keyword_defaults:
        return found
    given = dict(zip(names[count - len(defaults) : count], defaults, strict=True))
    given.update(keyword_defaults or {})
    return tuple(
        Parameter(known.name, known.kind, given.get(known.name, MISSING)) for known in found
    )


@lru_cache(maxsize=256)
def _parameters(
    names: tuple[str, ...], positional_only: int, positional: int
) -> tuple[Parameter, ...]:
    """Parameters without defaults. They are shared, so that 10,000 tasks take little memory."""
    kinds = [POSITIONAL_ONLY] * positional_only + [POSITIONAL] * (positional - positional_only)
    kinds += [KEYWORD_ONLY] * (len(names) - positional)
    return tuple(map(Parameter, names, kinds))


def _inspected_parameters(task_id: str, function: Callable[..., object]) -> tuple[Parameter, ...]:
    import inspect
    import sys

    options: Any = {}
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        # Without it, a name that only type checkers import is an error.
        options["annotation_format"] = Format.FORWARDREF
    try:
        signature = inspect.signature(function, **options)
    except (TypeError, ValueError):
        raise TaskValidationError(
            f"task '{task_id}': the parameters of {name_of(function)} cannot be read",
            hint="wrap it in a function with parameters of its own",
        ) from None
    return tuple(
        Parameter(
            parameter.name,
            int(parameter.kind),
            MISSING if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in signature.parameters.values()
    )
