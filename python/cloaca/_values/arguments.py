"""Hints for arguments that a function does not have."""

from __future__ import annotations

from cloaca._values.suggestion import suggestion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    F = TypeVar("F", bound=Callable[..., Any])

# The names that other tools use for an argument. A hint is given only if the function has it.
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
    "idempotency_key": ("key",),
    "input": ("context",),
    "inputs": ("context", "input"),
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
    "workflow_id": ("key",),
}
# The flag of the code of an `async def` function: `inspect.CO_COROUTINE`.
_COROUTINE = 0x80
# Extra advice for arguments whose unit or meaning differs.
_REMARKS = {
    "retries": "it counts all tries, the first one too",
    "max_retries": "it counts all tries, the first one too",
    "retry_delay": "in milliseconds",
    "retry_delay_seconds": "in milliseconds",
    "timeout_ms": "in seconds",
}


def meant(argument: str, known: list[str]) -> str | None:
    """Returns the argument that other tools call by this name, if it is among the known ones."""
    return next((name for name in _MEANINGS.get(argument, ()) if name in known), None)


def hint_for(argument: str, known: list[str]) -> str | None:
    """Returns a hint that names the argument that was probably meant.

    Args:
        argument: The unknown argument.
        known: The arguments that the function has.
    """
    name = meant(argument, known)
    if argument in {"final", "undoes"} and "dependencies" in known:
        return "a final task is a function of this program: use @cloaca.task(final=...)"
    if name is None:
        return suggestion(argument, known, listing=True)
    remark = _REMARKS.get(argument)
    return f"did you mean {name!r}?" + (f" ({remark})" if remark else "")


def names_arguments(function: F, advice: Callable[[str], str | None] | None = None) -> F:
    """Decorates a function so that the error for an unknown argument names the nearest known one.

    Args:
        function: The function.
        advice: Returns a specific hint for an argument, or `None`.
    """
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    known = [name for name in code.co_varnames[:count] if name not in {"self", "function"}]

    def problem(error: TypeError, options: dict[str, Any]) -> TypeError | None:
        # An error of the call itself, not of what the function calls.
        unknown = [name for name in options if name not in known]
        traceback = error.__traceback__
        if not unknown or (traceback and traceback.tb_next):
            return None
        hint = (advice(unknown[0]) if advice else None) or hint_for(unknown[0], known)
        text = str(error)
        if hint:
            # Since Python 3.13 the message suggests an argument too; the hint replaces that.
            text = f"{text.partition('. Did you mean')[0]}\nhint: {hint}"
        return TypeError(text)

    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except TypeError as error:
            told = problem(error, options)
            if told is None:
                raise
        raise told from None

    async def call_async(*args: Any, **options: Any) -> Any:
        try:
            coroutine = function(*args, **options)
        except TypeError as error:
            told = problem(error, options)
            if told is None:
                raise
        else:
            return await coroutine
        raise told from None

    wrapper: Any = call_async if code.co_flags & _COROUTINE else call
    # By hand, because importing `functools` would slow down the package's import.
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(wrapper, attribute, getattr(function, attribute))
    wrapper.__wrapped__ = function
    return wrapper  # type: ignore[no-any-return]


def names_arguments_with(advice: Callable[[str], str | None]) -> Callable[[F], F]:
    """The same decorator, with specific hints.

    Args:
        advice: Returns a hint for an argument, or `None`.
    """

    def decorate(function: F) -> F:
        return names_arguments(function, advice)

    return decorate
