"""Retry policies: the number of attempts and their delays (semantics D1)."""

from __future__ import annotations

from cloaca._core import retry_delay_us, should_retry
from cloaca._retry.conditions import BackoffStrategy, RetryCondition, names_of
from cloaca._values.duration import seconds_to_us
from cloaca._values.encoding import encode_as
from cloaca._values.exceptions import ConfigurationError, TaskValidationError
from cloaca._values.type_name import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta
    from typing import Any, TypeVar

    T = TypeVar("T", BackoffStrategy, RetryCondition)

MAX_ATTEMPTS = 1_000_000
# The engine counts attempts in 32 bits.
_MAX_ATTEMPT = 2**32 - 1


class RetryPolicy:
    """The number of attempts of a task and their delays. Immutable; compared by value.

    The default is three attempts, with delays of one and two seconds, for every error.

    Example:
        >>> policy = (
        ...     cloaca.RetryPolicy.builder()
        ...     .max_attempts(5)
        ...     .initial_delay(0.5)
        ...     .backoff_strategy(cloaca.BackoffStrategy.linear())
        ...     .build()
        ... )
        >>> @cloaca.task(retry=policy)
        ... def fetch(context): ...

    Since 1.0.
    """

    __slots__ = (
        "_backoff",
        "_condition",
        "_initial_us",
        "_jitter",
        "_max_attempts",
        "_max_us",
        "_never_on",
        "_retry_on",
    )

    def __init__(
        self,
        *,
        max_attempts: int = 3,
        backoff: BackoffStrategy | None = None,
        initial_delay: float | timedelta = 1.0,
        max_delay: float | timedelta = 60.0,
        with_jitter: bool = True,
        condition: RetryCondition | None = None,
        retry_on: Iterable[type[BaseException] | str] = (),
        never_on: Iterable[type[BaseException] | str] = (),
    ) -> None:
        """Make a policy.

        Args:
            max_attempts: Maximum number of attempts, the first included; 0 and 1 both mean one.
            backoff: The growth of the delay; exponential with base 2 if omitted.
            initial_delay: The first delay, in seconds.
            max_delay: The longest delay, in seconds.
            with_jitter: Whether each delay varies randomly by up to a quarter.
            condition: The failures that are retried; all if omitted.
            retry_on: Only these exception types and their subclasses, when not empty.
            never_on: Never these exception types and their subclasses.

        Raises:
            TaskValidationError: One of them is not valid.
        """
        self._max_attempts = attempts("max_attempts", max_attempts)
        self._backoff = instance("backoff", backoff, BackoffStrategy, BackoffStrategy.exponential)
        self._initial_us = delay("initial_delay", initial_delay)
        self._max_us = delay("max_delay", max_delay)
        self._jitter = bool(with_jitter)
        self._condition = instance(
            "condition", condition, RetryCondition, RetryCondition.all_errors
        )
        self._retry_on = exception_names("retry_on", retry_on)
        self._never_on = exception_names("never_on", never_on)

    @staticmethod
    def builder() -> RetryPolicyBuilder:
        """A builder that begins with the default policy. Since 1.0."""
        return RetryPolicyBuilder()

    @staticmethod
    def default() -> RetryPolicy:
        """The policy of a task that does not set one. Since 1.0."""
        return RetryPolicy()

    @property
    def max_attempts(self) -> int:
        """Maximum number of attempts, the first included. Since 1.0."""
        return self._max_attempts

    @property
    def initial_delay(self) -> float:
        """The first delay, in seconds. Since 1.0."""
        return self._initial_us / 1_000_000

    @property
    def max_delay(self) -> float:
        """The longest delay, in seconds. Since 1.0."""
        return self._max_us / 1_000_000

    @property
    def with_jitter(self) -> bool:
        """Whether each delay varies randomly by up to a quarter, before it is capped. Since 1.0."""
        return self._jitter

    @property
    def backoff(self) -> BackoffStrategy:
        """The growth of the delay. Since 1.0."""
        return self._backoff

    @property
    def condition(self) -> RetryCondition:
        """The condition that a failure must meet to be retried. Since 1.0."""
        return self._condition

    @property
    def retry_on(self) -> tuple[str, ...]:
        """Names of the only exception types that are retried; empty for any. Since 1.0."""
        return self._retry_on

    @property
    def never_on(self) -> tuple[str, ...]:
        """Names of the exception types that are never retried. Since 1.0."""
        return self._never_on

    def should_retry(
        self, attempt: int, error: BaseException | type[BaseException] | str = ""
    ) -> bool:
        """Whether another attempt follows a failed one.

        Args:
            attempt: The number of the failed attempt; the first is 1.
            error: The exception, its type, or the text of either.

        Returns:
            True if another attempt follows.

        Since 1.0.
        """
        from cloaca._values.database_text import storable

        names, message = names_of(error)
        return should_retry(
            self._to_json(),
            min(max(attempt, 0), _MAX_ATTEMPT),
            [storable(name) for name in names],
            storable(message),
        )

    def calculate_delay(self, attempt: int) -> float:
        """The delay after a failed attempt, in seconds. With jitter it differs from call to call.

        Args:
            attempt: The number of the failed attempt; the first is 1.

        Returns:
            Seconds.

        Since 1.0.
        """
        place = 0.5
        if self._jitter:
            from random import random

            place = random()
        us = retry_delay_us(self._to_json(), min(max(attempt, 1), _MAX_ATTEMPT), place)
        return us / 1_000_000

    def replace(self, **changes: Any) -> RetryPolicy:
        """A policy with some values changed.

        Args:
            **changes: New values by the constructor's argument names.

        Returns:
            The new policy; this one is unchanged.

        Raises:
            TaskValidationError: A value is not valid. The error is a `ValueError`.
            TypeError: There is no such argument.

        Example:
            >>> cloaca.RetryPolicy().replace(max_attempts=5).max_attempts
            5

        Since 1.0.
        """
        values = {
            "max_attempts": self._max_attempts,
            "backoff": self._backoff,
            "initial_delay": self.initial_delay,
            "max_delay": self.max_delay,
            "with_jitter": self._jitter,
            "condition": self._condition,
            "retry_on": self._retry_on,
            "never_on": self._never_on,
        }
        return RetryPolicy(**{**values, **changes})

    def _to_json(self) -> str:
        """The policy as text, for the engine's decisions."""
        return encode_as("a retry policy", self._to_definition())

    def _to_definition(self) -> dict[str, Any]:
        """The policy as the engine reads it."""
        return {
            "max_attempts": self._max_attempts,
            "backoff": self._backoff._to_definition(),
            "initial_delay": self._initial_us,
            "max_delay": self._max_us,
            "jitter": self._jitter,
            "condition": self._condition._to_definition(),
            "retry_on": list(self._retry_on),
            "never_on": list(self._never_on),
        }

    def __eq__(self, other: object) -> bool:
        """Whether both are equal."""
        if not isinstance(other, RetryPolicy):
            return NotImplemented
        return self._to_definition() == other._to_definition()

    def __hash__(self) -> int:
        """The hash of the value."""
        return hash(repr(self))

    def __repr__(self) -> str:
        """The constructor call that makes it."""
        parts = [
            f"max_attempts={self._max_attempts}",
            f"backoff={self._backoff!r}",
            f"initial_delay={self.initial_delay:g}",
            f"max_delay={self.max_delay:g}",
            f"with_jitter={self._jitter}",
            f"condition={self._condition!r}",
        ]
        parts += [f"retry_on={self._retry_on!r}"] if self._retry_on else []
        parts += [f"never_on={self._never_on!r}"] if self._never_on else []
        return f"RetryPolicy({', '.join(parts)})"


class RetryPolicyBuilder:
    """Makes a `RetryPolicy` step by step.

    Every step returns the builder; `build` checks the values.

    Example:
        >>> policy = cloaca.RetryPolicy.builder().max_attempts(5).initial_delay(0.5).build()
        >>> policy.max_attempts, policy.initial_delay
        (5, 0.5)

    Since 1.0.
    """

    __slots__ = ("_values",)

    def __init__(self) -> None:
        """Begin with the default policy."""
        self._values: dict[str, Any] = {}

    def max_attempts(self, attempts: int) -> RetryPolicyBuilder:
        """Set the maximum number of attempts.

        Args:
            attempts: Maximum number of attempts, the first included; 0 and 1 both mean one.

        Returns:
            The builder.

        Since 1.0.
        """
        return self._with("max_attempts", attempts)

    def initial_delay(self, delay: float | timedelta) -> RetryPolicyBuilder:
        """Set the first delay.

        Args:
            delay: Seconds, or a timedelta.

        Returns:
            The builder.

        Since 1.0.
        """
        return self._with("initial_delay", delay)

    def max_delay(self, delay: float | timedelta) -> RetryPolicyBuilder:
        """Set the longest delay.

        Args:
            delay: Seconds, or a timedelta.

        Returns:
            The builder.

        Since 1.0.
        """
        return self._with("max_delay", delay)

    def backoff_strategy(self, strategy: BackoffStrategy) -> RetryPolicyBuilder:
        """Set the growth of the delay.

        Args:
            strategy: Made by `BackoffStrategy.fixed` and the like.

        Returns:
            The builder.

        Since 1.0.
        """
        return self._with("backoff", strategy)

    def retry_condition(self, condition: RetryCondition) -> RetryPolicyBuilder:
        """Set the failures that are retried.

        Args:
            condition: Made by `RetryCondition.all_errors` and the like.

        Returns:
            The builder.

        Since 1.0.
        """
        return self._with("condition", condition)

    def with_jitter(self, jitter: bool = True) -> RetryPolicyBuilder:
        """Set whether delays vary.

        Args:
            jitter: Whether each varies randomly by up to a quarter, before it is capped.

        Returns:
            The builder.

        Since 1.0.
        """
        return self._with("with_jitter", jitter)

    def retry_on(self, *types: type[BaseException] | str) -> RetryPolicyBuilder:
        """Retry only these exception types and their subclasses.

        Args:
            *types: The types, or their qualified names.

        Returns:
            The builder.

        Since 1.0.
        """
        return self._with("retry_on", types)

    def never_on(self, *types: type[BaseException] | str) -> RetryPolicyBuilder:
        """Never retry these exception types and their subclasses.

        Args:
            *types: The types, or their qualified names.

        Returns:
            The builder.

        Since 1.0.
        """
        return self._with("never_on", types)

    def build(self) -> RetryPolicy:
        """The policy.

        Raises:
            TaskValidationError: A value is not valid.

        Since 1.0.
        """
        return RetryPolicy(**self._values)

    def __repr__(self) -> str:
        """The steps so far."""
        return f"RetryPolicyBuilder({', '.join(f'{k}={v!r}' for k, v in self._values.items())})"

    def _with(self, name: str, value: object) -> RetryPolicyBuilder:
        self._values[name] = value
        return self


def instance(option: str, value: T | None, kind: type[T], default: Callable[[], T]) -> T:
    """Returns the value if it has the right class, or the default if it is `None`.

    Raises:
        TaskValidationError: It is of another class.
    """
    if value is None:
        return default()
    if not isinstance(value, kind):
        raise TaskValidationError(
            f"{option} must be a {kind.__name__}, not {value!r}",
            hint=f"make one with cloaca.{default.__qualname__}()",
        )
    return value


def attempts(option: str, value: object) -> int:
    """A number of attempts as the engine takes it.

    Raises:
        TaskValidationError: It is not a whole number, or is negative or absurdly high.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ATTEMPTS:
        raise TaskValidationError(
            f"{option} must be a whole number from 0 to {MAX_ATTEMPTS}, not {value!r}",
            hint="it counts all tries: 0 and 1 both mean one",
        )
    return max(value, 1)


def delay(option: str, value: float | timedelta) -> int:
    """A retry delay in microseconds.

    Raises:
        TaskValidationError: It is negative, not finite, or not a duration.
    """
    try:
        return seconds_to_us(option, value, zero=True)
    except ConfigurationError as error:
        raise TaskValidationError(error.message) from None


def exception_names(
    option: str, types: Iterable[type[BaseException] | str] | type[BaseException] | str
) -> tuple[str, ...]:
    """Qualified names of exception types, given one by one or together.

    Raises:
        TaskValidationError: One of them is neither an exception type nor a name.
    """
    given: tuple[object, ...] = (types,) if isinstance(types, (str, type)) else tuple(types)
    names = []
    for kind in given:
        if isinstance(kind, type) and issubclass(kind, BaseException):
            names.append(type_name(kind))
        elif isinstance(kind, str) and kind:
            names.append(kind.removeprefix("builtins."))
        else:
            raise TaskValidationError(
                f"{option} takes exception types or their qualified names, not {kind!r}"
            )
    return tuple(names)
