"""The signature of a task's function: does it take the context and the handle (semantics A2)?"""

from __future__ import annotations

from cloaca._values.exceptions import TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

HANDLE_NAMES = frozenset({"handle", "task_handle"})

_COROUTINE = 0x80
_GENERATOR = 0x20
_ASYNC_GENERATOR = 0x200
_VARIADIC = 0x04

_HINT = (
    "a task takes the context, and a parameter named 'handle' or 'task_handle'; "
    "give others a default"
)
_METHOD_HINT = (
    "@cloaca.task stands on a method without an object; decorate a function, or a method "
    "of an object: cloaca.task(pipeline.load)"
)


def _hint(name: str) -> str:
    """A hint for a parameter that a task does not get."""
    return f"read it from the context: context[{name!r}]; {_HINT}"


class Call:
    """The signature of a task's function: its `positional` and `named` arguments."""

    __slots__ = ("is_async", "named", "positional")

    def __init__(
        self, positional: tuple[str, ...], named: tuple[tuple[str, str], ...], is_async: bool
    ) -> None:
        #: `"context"` or `"handle"` for each positional argument.
        self.positional = positional
        #: Parameter and `"context"` or `"handle"` for each argument by name.
        self.named = named
        #: Whether the call returns a coroutine.
        self.is_async = is_async

    @property
    def is_plain(self) -> bool:
        """Whether the context is the only argument."""
        return self.positional == ("context",) and not self.named

    @property
    def wants_handle(self) -> bool:
        """Whether the handle is among the arguments."""
        return "handle" in self.positional or any(what == "handle" for _, what in self.named)


def read_call(function: Callable[..., object], task_id: str) -> Call:
    """Reads the signature of a task's function.

    Args:
        function: The function.
        task_id: Its task, for messages.

    Raises:
        TaskValidationError: It cannot be called with a context and a handle, or it is a generator.
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
            hint="a task returns None, its context or a mapping; it cannot yield",
        )
    is_async = bool(flags & _COROUTINE)
    simple = _simple_parameters(function)
    if simple is not None:
        return _arrange(task_id, function, simple, is_async)
    return _arrange(task_id, function, _inspected_parameters(task_id, function), is_async)


def is_coroutine_function(function: Callable[..., object]) -> bool:
    """Whether a call returns a coroutine."""
    return bool(_flags(function) & _COROUTINE)


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


def call_method(kind: type) -> Any:
    """Returns the `__call__` of a class, if it has one."""
    return next((vars(base)["__call__"] for base in kind.__mro__ if "__call__" in vars(base)), None)


# A parameter: its name, its kind as a number of `inspect`, and whether it has a default.
_Parameter = tuple[str, int, bool]
_POSITIONAL_ONLY, _POSITIONAL, _VAR_POSITIONAL, _KEYWORD_ONLY, _VAR_KEYWORD = range(5)


def _simple_parameters(function: Any) -> list[_Parameter] | None:
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
    count = code.co_argcount
    without_default = count - len(function.__defaults__ or ())
    found: list[_Parameter] = [
        (
            name,
            _POSITIONAL_ONLY if index < code.co_posonlyargcount else _POSITIONAL,
            index >= without_default,
        )
        for index, name in enumerate(code.co_varnames[:count])
    ]
    keyword_defaults = function.__kwdefaults__ or {}
    keyword_only = code.co_varnames[count : count + code.co_kwonlyargcount]
    found += [(name, _KEYWORD_ONLY, name in keyword_defaults) for name in keyword_only]
    return found


def _inspected_parameters(task_id: str, function: Callable[..., object]) -> list[_Parameter]:
    import inspect

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise TaskValidationError(
            f"task '{task_id}': the parameters of {name_of(function)} cannot be read",
            hint="wrap it in a function that takes the context",
        ) from None
    return [
        (parameter.name, int(parameter.kind), parameter.default is not parameter.empty)
        for parameter in signature.parameters.values()
    ]


def _arrange(
    task_id: str, function: Callable[..., object], parameters: list[_Parameter], is_async: bool
) -> Call:
    """Assigns an argument to each parameter.

    The handle is assigned by name, and the context to the first other parameter.
    """
    positional: list[str] = []
    named: list[tuple[str, str]] = []
    has_context = False
    skipped = False  # after a positional parameter with its default, arguments are passed by name
    for name, kind, has_default in parameters:
        if kind == _VAR_KEYWORD or (kind == _VAR_POSITIONAL and (has_context or skipped)):
            continue
        if name in HANDLE_NAMES and kind != _VAR_POSITIONAL:
            what = "handle"
        elif not has_context and (kind != _KEYWORD_ONLY or name == "context"):
            what, has_context = "context", True
        elif has_default:
            skipped = skipped or kind in {_POSITIONAL_ONLY, _POSITIONAL}
            continue
        else:
            raise TaskValidationError(
                f"task '{task_id}': {name_of(function)} needs a parameter '{name}' "
                "that a task does not get",
                hint=_METHOD_HINT if parameters[0][0] == "self" else _hint(name),
            )
        if kind == _KEYWORD_ONLY or (skipped and kind == _POSITIONAL):
            named.append((name, what))
        elif skipped:
            raise TaskValidationError(
                f"task '{task_id}': {name_of(function)} takes '{name}' only by position, "
                "behind a parameter that a task does not get",
                hint=_HINT,
            )
        else:
            positional.append(what)
    return Call(tuple(positional), tuple(named), is_async)
