"""The exceptions with which a task chooses what follows its attempt: retry, abort, snooze."""

from __future__ import annotations

from cloaca._values.duration import duration_to_us

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta


class TaskControl(Exception):
    """The base of the exceptions that control a task. Private."""

    code: str = "task_control"
    hint: str | None = None


class Retry(TaskControl):
    """A task raises this exception to get another attempt.

    The attempt that raises it counts towards `max_attempts`. The condition and the exception types
    of the retry policy do not apply.

    Example:
        >>> raise cloaca.Retry(after=30, reason="rate limit")

    Since 1.0.
    """

    code = "task_retry"

    def __init__(self, after: float | timedelta | str | None = None, reason: str = "") -> None:
        """Ask for another attempt.

        Args:
            after: Time until the attempt may start: seconds, a timedelta, or a string such as
                `"10m"`. `None` leaves the delay to the policy.
            reason: The reason that the history records.

        Raises:
            ConfigurationError: `after` is not a duration, or is negative.
        """
        self._after_us = None if after is None else duration_to_us("after", after, zero=True)
        self.reason = reason
        super().__init__(after, reason)

    def __str__(self) -> str:
        """Return the reason."""
        return self.reason or "the task asked for another attempt"


class Abort(TaskControl):
    """A task raises this exception to fail without another attempt.

    Example:
        >>> raise cloaca.Abort("the customer does not exist")

    Since 1.0.
    """

    code = "task_abort"
    # See `cloaca._values.exceptions.is_final`.
    _is_always_final = True

    def __init__(self, reason: str = "the task gave up") -> None:
        """Fail without another attempt.

        Args:
            reason: The error's message.
        """
        self.reason = reason
        super().__init__(reason)


class Snooze(TaskControl):
    """A task raises this exception to run again later.

    The attempt that raises it does not count towards `max_attempts`.

    Example:
        >>> raise cloaca.Snooze(60)

    Since 1.0.
    """

    code = "task_snooze"

    def __init__(self, seconds: float | timedelta | str) -> None:
        """Run again later.

        Args:
            seconds: The delay: seconds, a timedelta, or a string such as `"10m"`.

        Raises:
            ConfigurationError: `seconds` is not a duration, or is negative.
        """
        self._after_us = duration_to_us("seconds", seconds, zero=True)
        super().__init__(seconds)

    def __str__(self) -> str:
        """Return the delay, for messages."""
        return f"snoozed for {self._after_us / 1_000_000:g} s"


class TaskParked(BaseException):
    """Unwinds the function of a task that sleeps or waits. Private.

    The function is called again when the wait ends. The class is not an `Exception`, so that a
    function with `except Exception` does not catch it.
    """

    def __init__(
        self,
        call: str,
        key: str,
        position: int,
        condition: str,
        timeout_us: int | None,
        runs: str | None = None,
    ) -> None:
        """Unwind the function.

        Args:
            call: `sleep`, `wait`, or `run` for children.
            key: The key of the step that records the outcome of the wait.
            position: The position of the step that records the outcome.
            condition: The condition as JSON.
            timeout_us: Maximum time to wait, in microseconds.
            runs: The children to wait for, as JSON.
        """
        self.runs = runs
        self.call = call
        self.key = key
        self.position = position
        self.condition = condition
        self.timeout_us = timeout_us
        super().__init__(
            f"handle.{call}({key!r}) interrupts the function; it is called again when the wait ends"
        )


class AttemptEnded(BaseException):
    """Unwinds the function of an attempt whose result will be dropped. Private.

    The class is not an `Exception`, so that a function with `except Exception` does not catch it
    and continue with effects that are not recorded.
    """


for _public in (Retry, Abort, Snooze):
    _public.__module__ = "cloaca"
