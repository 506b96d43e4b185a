"""The signature of a task's function: its parameters, their defaults and annotations (A2, J1).

Parameters are read when the task is defined. When the workflow is complete, `resolver` decides
which value each parameter receives.
"""

from __future__ import annotations

from functools import lru_cache

from cloaca._values.annotations import call_method
from cloaca._values.exceptions import TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Mapping
    from typing import Any

    from cloaca._values.decoding import Decoder

# Flags of code objects, with their values in `inspect`.
_COROUTINE = 0x80
_GENERATOR = 0x20
_ASYNC_GENERATOR = 0x200
_VARIADIC = 0x04

POSITIONAL_ONLY, POSITIONAL, VAR_POSITIONAL, KEYWORD_ONLY, VAR_KEYWORD = range(5)


class _Missing:
    """The type of `MISSING`."""

    def __repr__(self) -> str:
        return "MISSING"


#: Takes the place of a missing default or a missing value.
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
        """Whether the parameter takes one value, unlike `*args` and `**kwargs`."""
        return self.kind not in {VAR_POSITIONAL, VAR_KEYWORD}


class Signature:
    """The parameters of a task's function. Annotations are read when they are needed."""

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
        # The decoders by parameter, with "return" for the result; `None` for values that need no
        # decoder.
        self._decoders: dict[str, Decoder | None] = {}

    @property
    def fingerprint(self) -> str:
        """The hash of the function's code, computed on first access."""
        if self._fingerprint is None:
            from cloaca._tasks.fingerprint import fingerprint

            self._fingerprint = fingerprint(self.function)
        return self._fingerprint

    def annotation(self, name: str) -> object:
        """Return the annotation of a parameter as it is written, or `MISSING`."""
        if self._raw is None:
            from cloaca._values.annotations import raw_annotations

            self._raw = raw_annotations(self.function)
        return self._raw.get(name, MISSING)

    def is_annotated(self, name: str, class_name: str) -> bool:
        """Return whether a parameter is annotated with a class of cloaca."""
        found = self.annotation(name)
        if found is MISSING:
            return False
        from cloaca._values.annotations import names

        return names(found, class_name, self.function)

    def decoder(self, name: str) -> Decoder | None:
        """Return the decoder of an annotation; `None` if the annotation accepts every JSON value.

        Args:
            name: The parameter, or `return` for the result.

        Raises:
            Unreadable: No decoder can be made; the text contains the reason.
        """
        if name not in self._decoders:
            self._decoders[name] = self._make_decoder(name)
        return self._decoders[name]

    def map_result(self, name: str) -> tuple[Any, Decoder | None, bool] | None:
        """For a parameter annotated with `MapResult`, return how it receives the items of a map.

        Returns:
            The class, the decoder of values, and whether the annotation accepts `None`. `None` for
            other annotations.

        Raises:
            Unreadable: No decoder can be made; the text contains the reason.
        """
        written = self.annotation(name)
        if written is MISSING:
            return None
        from cloaca._values.annotations import evaluate, without_none
        from cloaca._values.decoding import Decoder, is_plain

        try:
            annotation = evaluate(name, written, self.function)
        except Exception:
            return None  # `decoder` reports the problem
        annotation, accepts_none = without_none(annotation)
        kind = getattr(annotation, "__origin__", annotation)
        if not getattr(kind, "_is_map_result", False):
            return None
        values = getattr(annotation, "__args__", ())
        of_values = values[0] if values and not is_plain(values[0]) else None
        return kind, None if of_values is None else Decoder(of_values), accepts_none

    def _make_decoder(self, name: str) -> Decoder | None:
        written = self.annotation(name)
        if written is MISSING:
            return None
        from cloaca._values.annotations import evaluate
        from cloaca._values.decoding import Decoder, Unreadable, is_plain
        from cloaca._values.decoding_errors import UnknownName

        try:
            annotation = evaluate(name, written, self.function)
        except NameError as error:
            raise UnknownName(
                f"{error}: the annotation is evaluated when the workflow is defined, so import its "
                "names at run time, not only for type checkers"
            ) from None
        except Exception as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from None
        return None if is_plain(annotation) else Decoder(annotation)


def read_signature(function: Callable[..., object], task_id: str) -> Signature:
    """Reads the parameters of a task's function.

    Args:
        function: The function.
        task_id: The id of the function's task, for messages.

    Raises:
        TaskValidationError: The value is not a function, is a class or a generator function, or its
            parameters cannot be read.
    """
    if not callable(function):
        raise TaskValidationError(
            f"task '{task_id}' must be a function, not {type(function).__name__}"
        )
    if isinstance(function, type):
        raise TaskValidationError(
            f"task '{task_id}': {function.__qualname__} is a class",
            hint="pass a function, or a method of an object: cloaca.task(job.run)",
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
    """Returns whether a call of the function returns a coroutine."""
    return bool(_flags(function) & _COROUTINE)


def is_generator_function(function: Callable[..., object]) -> bool:
    """Returns whether a call of the function returns a generator."""
    return bool(_flags(function) & _GENERATOR)


def is_async_generator_function(function: Callable[..., object]) -> bool:
    """Returns whether a call of the function returns an asynchronous generator."""
    return bool(_flags(function) & _ASYNC_GENERATOR)


def call_problem(
    function: Callable[..., object], positional: tuple[str, ...] = (), named: tuple[str, ...] = ()
) -> str | None:
    """Returns why a function cannot be called with the given arguments; `None` if it can be.

    A function whose parameters cannot be read, such as some built-in functions, counts as callable.

    Args:
        function: The function.
        positional: The names of the positional arguments, for the message.
        named: The names of the keyword arguments.
    """
    simple = None if named else _simple_parameters(function)
    if simple is not None:
        # Avoids the import of `inspect` for functions that take exactly these arguments.
        count = len(positional)
        is_simple = all(parameter.kind <= POSITIONAL for parameter in simple[:count])
        if is_simple and len(simple) == count:
            return None
    try:
        signature = _inspected(function)
    except (TypeError, ValueError):
        return None
    try:
        signature.bind(*positional, **dict.fromkeys(named))
    except TypeError:
        given = ", ".join([*positional, *(f"{name}=..." for name in named)])
        call = f"with ({given})" if given else "without arguments"
        return f"{name_of(function)} has the signature {signature} and cannot be called {call}"
    return None


def name_of(function: object) -> str:
    """Returns a function's name for messages."""
    name = getattr(function, "__qualname__", None) or getattr(function, "__name__", None)
    return f"{name}()" if isinstance(name, str) else repr(function)


def _flags(function: Any) -> int:
    """Returns the code flags of the function that a call runs; 0 if it has no code object.

    A partial, a method or a callable object has the flags of the function that it calls.
    """
    for _ in range(32):
        if hasattr(function, "func") and not hasattr(function, "__code__"):
            function = function.func
            continue
        function = getattr(function, "__func__", function)
        code = getattr(function, "__code__", None)
        if code is not None:
            flags: int = code.co_flags
            # `inspect.markcoroutinefunction` sets this attribute.
            return flags | (_COROUTINE if hasattr(function, "_is_coroutine_mark") else 0)
        call = call_method(type(function))
        if isinstance(function, type) or not hasattr(call, "__code__"):
            return 0
        function = call
    return 0


def _simple_parameters(function: Any) -> tuple[Parameter, ...] | None:
    """Reads the parameters of a plain function from its code; `None` if `inspect` is needed."""
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
    """Returns parameters without defaults.

    Functions share these objects, so that 10,000 tasks take little memory.
    """
    kinds = [POSITIONAL_ONLY] * positional_only + [POSITIONAL] * (positional - positional_only)
    kinds += [KEYWORD_ONLY] * (len(names) - positional)
    return tuple(map(Parameter, names, kinds))


def _inspected(function: Callable[..., object]) -> inspect.Signature:
    """Returns the signature that `inspect` reads.

    Raises:
        TypeError, ValueError: The function has no signature that can be read.
    """
    import inspect
    import sys

    options: Any = {}
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        # Without this option, a name that only type checkers import raises an error.
        options["annotation_format"] = Format.FORWARDREF
    return inspect.signature(function, **options)


def _inspected_parameters(task_id: str, function: Callable[..., object]) -> tuple[Parameter, ...]:
    try:
        signature = _inspected(function)
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
