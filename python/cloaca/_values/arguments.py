"""Checks of arguments, and hints for unknown arguments."""

from __future__ import annotations

from cloaca._values.exceptions import ConfigurationError
from cloaca._values.suggestion import suggestion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from cloaca._values.exceptions import CloacaException

    F = TypeVar("F", bound=Callable[..., Any])

# Names of arguments in other tools, with the arguments here that mean the same. A hint names an
# argument only if the function has it.
_MEANINGS: dict[str, tuple[str, ...]] = {
    "args": ("context", "input"),
    "concurrency": ("max_concurrent_tasks",),
    "countdown": ("delay",),
    "data": ("context", "input"),
    "dedup_key": ("key",),
    "delay_seconds": ("delay",),
    "depends": ("dependencies",),
    "depends_on": ("dependencies",),
    "eta": ("at",),
    "every": ("poll_interval",),
    "execution_key": ("key",),
    "idempotency_key": ("key",),
    "input": ("context",),
    "inputs": ("context", "input"),
    "interval": ("poll_interval",),
    "max_attempts": ("retry_attempts",),
    "max_retries": ("retry_attempts",),
    "max_workers": ("max_concurrent_tasks",),
    "name": ("id",),
    "parameters": ("context", "input"),
    "params": ("context", "input"),
    "parents": ("dependencies",),
    "payload": ("context", "input"),
    "retries": ("retry_attempts",),
    "retry_delay": ("retry_delay_ms",),
    "retry_delay_seconds": ("retry_delay_ms",),
    "run_at": ("at",),
    "start_at": ("at",),
    "task_id": ("id",),
    "timeout_ms": ("timeout",),
    "timeout_s": ("timeout",),
    "upstream": ("dependencies",),
    "url": ("database_url",),
    "wait_for": ("dependencies",),
    "workers": ("max_concurrent_tasks",),
    "workflow": ("on",),
    "workflow_id": ("key",),
}
# `inspect.CO_COROUTINE`, a flag in the code of an `async def` function.
_COROUTINE = 0x80
# Remarks for hints about arguments whose unit or meaning differs here.
_REMARKS = {
    "retries": "it counts all attempts, including the first",
    "max_retries": "it counts all attempts, including the first",
    "retry_delay": "in milliseconds",
    "retry_delay_seconds": "in milliseconds",
    "timeout_ms": "in seconds",
}


def check_flag(name: str, value: object, error: type[CloacaException] = ConfigurationError) -> bool:
    """Checks that a value is a boolean, and returns it.

    Args:
        name: The name of the argument, for the message.
        value: The value.
        error: The class of the error.

    Raises:
        CloacaException: The value is not a boolean.
    """
    if isinstance(value, bool):
        return value
    raise error(f"{name} must be True or False, not {value!r}")


def check_string(
    name: str, value: object, error: type[CloacaException] = ConfigurationError
) -> str:
    """Checks that a value is a string, and returns it.

    Args:
        name: The name of the argument, for the message.
        value: The value.
        error: The class of the error.

    Raises:
        CloacaException: The value is not a string.
    """
    if isinstance(value, str):
        return value
    raise error(f"{name} must be a string, not {type(value).__name__}")


def check_optional_strings(**values: object) -> None:
    """Checks that each value is a string or `None`.

    Args:
        **values: The values, by the names of the arguments.

    Raises:
        ConfigurationError: A value is neither a string nor `None`.
    """
    for name, value in values.items():
        if value is not None:
            check_string(name, value)


def meant(argument: str, known: list[str]) -> str | None:
    """Returns the known argument that other tools call by this name; `None` if there is none."""
    return next((name for name in _MEANINGS.get(argument, ()) if name in known), None)


def hint_for(argument: str, known: list[str]) -> str | None:
    """Returns a hint that names the argument that was probably meant, or lists the arguments.

    Args:
        argument: The unknown argument.
        known: The arguments that the function has. If there are none, the hint is `None`.
    """
    name = meant(argument, known)
    if argument in {"final", "undoes"} and "dependencies" in known:
        return "only a function can be a final task: define it with @cloaca.task(final=...)"
    if name is None:
        return suggestion(argument, known, listing=True)
    remark = _REMARKS.get(argument)
    return f"did you mean {name!r}?" + (f" ({remark})" if remark else "")


def suggests_arguments(function: F, advice: Callable[[str], str | None] | None = None) -> F:
    """Decorates a function so that the error for an unknown argument suggests a known one.

    Args:
        function: The function.
        advice: A function that returns a specific hint for an argument, or `None`.
    """
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    known = [name for name in code.co_varnames[:count] if name not in {"self", "function"}]

    def problem(error: TypeError, options: dict[str, Any]) -> TypeError | None:
        # Changes only errors of the call itself, not errors that the function raises.
        unknown = [name for name in options if name not in known]
        traceback = error.__traceback__
        if not unknown or (traceback and traceback.tb_next):
            return None
        hint = (advice(unknown[0]) if advice else None) or hint_for(unknown[0], known)
        text = str(error)
        if hint:
            # Since Python 3.13 the message also suggests an argument; the hint replaces it.
            text = f"{text.partition('. Did you mean')[0]}\nhint: {hint}"
        return TypeError(text)

    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except TypeError as error:
            clearer = problem(error, options)
            if clearer is None:
                raise
        raise clearer from None

    async def call_async(*args: Any, **options: Any) -> Any:
        try:
            coroutine = function(*args, **options)
        except TypeError as error:
            clearer = problem(error, options)
            if clearer is None:
                raise
        else:
            return await coroutine
        raise clearer from None

    wrapper: Any = call_async if code.co_flags & _COROUTINE else call
    # Copied without `functools.wraps`, because the import would slow down the package's import.
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(wrapper, attribute, getattr(function, attribute))
    wrapper.__wrapped__ = function
    return wrapper  # type: ignore[no-any-return]


def suggests_arguments_with(advice: Callable[[str], str | None]) -> Callable[[F], F]:
    """Returns the decorator `suggests_arguments` with specific hints.

    Args:
        advice: A function that returns a hint for an argument, or `None`.
    """

    def decorate(function: F) -> F:
        return suggests_arguments(function, advice)

    return decorate
