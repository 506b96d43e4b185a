"""Calls of steps: the checks of their arguments, and their retries (T1, T3)."""

from __future__ import annotations

from cloaca._tasks.control import Abort, Retry, Snooze
from cloaca._values.exceptions import TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloaca._retry.policy import RetryPolicy

#: Maximum length of a step's key, in characters.
MAX_KEY = 500


class StepCall:
    """A call of a step's function that may be repeated."""

    __slots__ = ("_args", "_function", "_kwargs", "_policy", "name")

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        policy: RetryPolicy | None,
    ) -> None:
        self.name = name
        self._function = function
        self._args = args
        self._kwargs = kwargs
        self._policy = policy

    def run(self) -> Any:
        """Call the function."""
        return self._function(*self._args, **self._kwargs)

    def delay(self, attempt: int, error: Exception) -> float | None:
        """Return the seconds from a failed call to the next call; `None` for no further call."""
        policy = self._policy
        if policy is None or isinstance(error, (Abort, Snooze)):
            return None
        if isinstance(error, Retry):
            if attempt >= policy.max_attempts:
                return None
            after_us = error._after_us
            return policy.calculate_delay(attempt) if after_us is None else after_us / 1_000_000
        return policy.calculate_delay(attempt) if policy.should_retry(attempt, error) else None


def check_arguments(task_id: str, key: str, function: object) -> None:
    """Checks the key and the function of a step.

    Raises:
        TaskValidationError: The key or the function is not valid.
    """
    check_key(task_id, key)
    if not callable(function):
        raise TaskValidationError(
            f"step '{key}' of task '{task_id}' must be a function, not {type(function).__name__}",
            hint=f"pass the function and its arguments: handle.step({key!r}, function, argument)",
        )


def check_policy(task_id: str, key: str, policy: object) -> None:
    """Checks the retry policy of a step.

    Raises:
        TaskValidationError: The policy is not a `RetryPolicy`.
    """
    from cloaca._retry.policy import RetryPolicy

    if not isinstance(policy, RetryPolicy):
        raise TaskValidationError(
            f"step '{key}' of task '{task_id}': retry must be a RetryPolicy, not {policy!r:.100}",
            hint="pass retry=cloaca.RetryPolicy(max_attempts=3), for example; the step's function "
            "receives all keyword arguments except type and retry",
        )


def check_key(task_id: str, key: str) -> None:
    """Checks the key of a step.

    Raises:
        TaskValidationError: The key is not valid.
    """
    given: object = key
    if (
        not isinstance(given, str)
        or not 0 < len(given) <= MAX_KEY
        or "\0" in given
        or not (given.isascii() or _is_unicode(given))
    ):
        raise TaskValidationError(
            f"task '{task_id}': the key of a step must be a string of 1 to {MAX_KEY} characters "
            f"that a database can store, not {key!r:.100}"
        )


def _is_unicode(key: str) -> bool:
    try:
        key.encode()
    except UnicodeEncodeError:
        return False
    return True
