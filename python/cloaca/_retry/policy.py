"""Retry policies: the number of attempts and their delays (semantics D1)."""

from __future__ import annotations

from cloaca._core import retry_delay_us, should_retry
from cloaca._retry.conditions import BackoffStrategy, RetryCondition, names_of
from cloaca._values.arguments import check_flag
from cloaca._values.duration import duration_to_us
from cloaca._values.encoding import encode_as
from cloaca._values.exceptions import ConfigurationError, TaskValidationError, is_final
from cloaca._values.type_name import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta
    from typing import Any, TypeVar

    T = TypeVar("T", BackoffStrategy, RetryCondition)

#: The upper bound for the `max_attempts` of a policy.
MAX_ATTEMPTS = 1_000_000
# The engine counts attempts in 32 bits.
_MAX_ATTEMPT = 2**32 - 1


class RetryPolicy:
    """The number of attempts of a task, and the delays between them.

    A policy is immutable and compared by value. The default policy allows three attempts, with
    delays of about one and two seconds.

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
        initial_delay: float | timedelta | str = 1.0,
        max_delay: float | timedelta | str = 60.0,
        with_jitter: bool = True,
        condition: RetryCondition | None = None,
        retry_on: Iterable[type[BaseException] | str] = (),
        never_on: Iterable[type[BaseException] | str] = (),
    ) -> None:
        """Make a policy.

        Args:
            max_attempts: Maximum number of attempts, including the first; 0 and 1 both mean one
                attempt.
            backoff: The growth of the delay; exponential with base 2 if omitted.
            initial_delay: The first delay: seconds, a timedelta, or a string such as `"10s"`.
            max_delay: The longest delay: seconds, a timedelta, or a string such as `"10m"`.
            with_jitter: Whether each delay varies randomly by up to a quarter.
            condition: The condition that a failure must meet to be retried;
                `RetryCondition.all_errors()` if omitted.
            retry_on: The exception types that are retried, with their subclasses. If empty, all
                types are retried except `NameError`, `SyntaxError`, `ImportError` and
                `NotImplementedError`.
            never_on: These exception types and their subclasses are never retried.

        Raises:
            TaskValidationError: A value is not valid.
        """
        self._max_attempts = attempts("max_attempts", max_attempts)
        self._backoff = instance("backoff", backoff, BackoffStrategy, BackoffStrategy.exponential)
        self._initial_us = delay("initial_delay", initial_delay)
        self._max_us = delay("max_delay", max_delay)
        self._jitter = check_flag("with_jitter", with_jitter, TaskValidationError)
        self._condition = instance(
            "condition", condition, RetryCondition, RetryCondition.all_errors
        )
        self._retry_on = exception_names("retry_on", retry_on)
        self._never_on = exception_names("never_on", never_on)

    @staticmethod
    def builder() -> RetryPolicyBuilder:
        """Return a builder that begins with the default policy.

        Example:
            >>> cloaca.RetryPolicy.builder().max_attempts(5).build().max_attempts
            5

        Since 1.0.
        """
        return RetryPolicyBuilder()

    @staticmethod
    def default() -> RetryPolicy:
        """Return the policy of a task that does not set one.

        Example:
            >>> cloaca.RetryPolicy.default().max_attempts
            3

        Since 1.0.
        """
        return RetryPolicy()

    @property
    def max_attempts(self) -> int:
        """The maximum number of attempts, including the first. Since 1.0."""
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
        """The names in `retry_on`; empty means the types that are retried by default. Since 1.0."""
        return self._retry_on

    @property
    def never_on(self) -> tuple[str, ...]:
        """The names of the exception types that are never retried. Since 1.0."""
        return self._never_on

    def should_retry(
        self, attempt: int, error: BaseException | type[BaseException] | str = ""
    ) -> bool:
        """Return whether another attempt follows a failed attempt.

        After some errors, such as `Abort` and `TaskInputError`, no attempt follows, whatever the
        policy says.

        Args:
            attempt: The number of the failed attempt; the first attempt is 1.
            error: The exception, its type, or text that stands for the type and the message.

        Returns:
            `True` if another attempt follows.

        Raises:
            TaskValidationError: `attempt` is not a whole number, or `error` is neither an
                exception, nor an exception type, nor text.

        Example:
            >>> cloaca.RetryPolicy(max_attempts=2).should_retry(2, TimeoutError())
            False

        Since 1.0.
        """
        from cloaca._values.database_text import storable

        names, message = names_of(error)
        number = min(max(_whole(attempt), 0), _MAX_ATTEMPT)
        return not is_final(error) and should_retry(
            self._to_json(),
            number,
            [storable(name) for name in names],
            storable(message),
        )

    def calculate_delay(self, attempt: int) -> float:
        """Return the delay after a failed attempt. With jitter it differs from call to call.

        Args:
            attempt: The number of the failed attempt; the first attempt is 1.

        Returns:
            The delay, in seconds.

        Raises:
            TaskValidationError: The attempt is not a whole number.

        Example:
            >>> cloaca.RetryPolicy(initial_delay=2, with_jitter=False).calculate_delay(3)
            8.0

        Since 1.0.
        """
        place = 0.5
        if self._jitter:
            from random import random

            place = random()
        us = retry_delay_us(self._to_json(), min(max(_whole(attempt), 1), _MAX_ATTEMPT), place)
        return us / 1_000_000

    def replace(self, **changes: Any) -> RetryPolicy:
        """Return a policy with some values changed.

        Args:
            **changes: The new values, by the names of the constructor's arguments.

        Returns:
            The new policy. The original policy does not change.

        Raises:
            TaskValidationError: A value is not valid. The error is a `ValueError`.
            TypeError: The constructor has no such argument.

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
        """Return the policy as JSON text for the engine."""
        return encode_as("a retry policy", self._to_definition())

    def _to_definition(self) -> dict[str, Any]:
        """Return the policy in the form that the engine reads."""
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
        """Return whether both are equal."""
        if not isinstance(other, RetryPolicy):
            return NotImplemented
        return self._to_definition() == other._to_definition()

    def __hash__(self) -> int:
        """Return the hash of the value."""
        return hash(repr(self))

    def __repr__(self) -> str:
        """Return the constructor call that makes the policy."""
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
            attempts: Maximum number of attempts, including the first; 0 and 1 both mean one
                attempt.

        Returns:
            The builder.

        Example:
            >>> cloaca.RetryPolicy.builder().max_attempts(5)
            RetryPolicyBuilder(max_attempts=5)

        Since 1.0.
        """
        return self._with("max_attempts", attempts)

    def initial_delay(self, delay: float | timedelta | str) -> RetryPolicyBuilder:
        """Set the first delay.

        Args:
            delay: Seconds, a timedelta, or a string such as `"10s"`.

        Returns:
            The builder.

        Example:
            >>> cloaca.RetryPolicy.builder().initial_delay("10s").build().initial_delay
            10.0

        Since 1.0.
        """
        return self._with("initial_delay", delay)

    def max_delay(self, delay: float | timedelta | str) -> RetryPolicyBuilder:
        """Set the longest delay.

        Args:
            delay: Seconds, a timedelta, or a string such as `"10m"`.

        Returns:
            The builder.

        Example:
            >>> cloaca.RetryPolicy.builder().max_delay("10m").build().max_delay
            600.0

        Since 1.0.
        """
        return self._with("max_delay", delay)

    def backoff_strategy(self, strategy: BackoffStrategy) -> RetryPolicyBuilder:
        """Set the growth of the delay.

        Args:
            strategy: The strategy, made by a static method of `BackoffStrategy`.

        Returns:
            The builder.

        Example:
            >>> builder = cloaca.RetryPolicy.builder()
            >>> builder.backoff_strategy(cloaca.BackoffStrategy.fixed())

        Since 1.0.
        """
        return self._with("backoff", strategy)

    def retry_condition(self, condition: RetryCondition) -> RetryPolicyBuilder:
        """Set the condition that a failure must meet to be retried.

        Args:
            condition: The condition, made by a static method of `RetryCondition`.

        Returns:
            The builder.

        Example:
            >>> builder = cloaca.RetryPolicy.builder()
            >>> builder.retry_condition(cloaca.RetryCondition.transient_only())

        Since 1.0.
        """
        return self._with("condition", condition)

    def with_jitter(self, jitter: bool = True) -> RetryPolicyBuilder:
        """Set whether delays vary randomly.

        Args:
            jitter: Whether each delay varies by up to a quarter, before it is capped.

        Returns:
            The builder.

        Example:
            >>> cloaca.RetryPolicy.builder().with_jitter(False).build().with_jitter
            False

        Since 1.0.
        """
        return self._with("with_jitter", jitter)

    def retry_on(self, *types: type[BaseException] | str) -> RetryPolicyBuilder:
        """Retry only these exception types and their subclasses.

        Args:
            *types: The types, or their qualified names.

        Returns:
            The builder.

        Example:
            >>> cloaca.RetryPolicy.builder().retry_on(TimeoutError).build().retry_on
            ('TimeoutError',)

        Since 1.0.
        """
        return self._with("retry_on", types)

    def never_on(self, *types: type[BaseException] | str) -> RetryPolicyBuilder:
        """Never retry these exception types and their subclasses.

        Args:
            *types: The types, or their qualified names.

        Returns:
            The builder.

        Example:
            >>> cloaca.RetryPolicy.builder().never_on(KeyError).build().never_on
            ('KeyError',)

        Since 1.0.
        """
        return self._with("never_on", types)

    def build(self) -> RetryPolicy:
        """Return the policy.

        Raises:
            TaskValidationError: A value is not valid.

        Example:
            >>> policy = cloaca.RetryPolicyBuilder().initial_delay("10s").build()
            >>> policy.initial_delay
            10.0

        Since 1.0.
        """
        return RetryPolicy(**self._values)

    def __repr__(self) -> str:
        """Return the values that were set."""
        return f"RetryPolicyBuilder({', '.join(f'{k}={v!r}' for k, v in self._values.items())})"

    def _with(self, name: str, value: object) -> RetryPolicyBuilder:
        self._values[name] = value
        return self


def instance(option: str, value: T | None, kind: type[T], default: Callable[[], T]) -> T:
    """Returns a value of the right class, or the default for `None`.

    Raises:
        TaskValidationError: The value has another class.
    """
    if value is None:
        return default()
    if not isinstance(value, kind):
        raise TaskValidationError(
            f"{option} must be a {kind.__name__}, not {value!r}",
            hint=f"make one with cloaca.{default.__qualname__}()",
        )
    return value


def _whole(attempt: Any) -> int:
    if not hasattr(attempt, "__index__"):
        raise TaskValidationError(f"attempt must be a whole number, not {attempt!r}")
    return int(attempt)


def attempts(option: str, value: object) -> int:
    """Checks a number of attempts, and returns it; returns 1 for 0.

    Raises:
        TaskValidationError: The number is not a whole number, is negative or is too high.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_ATTEMPTS:
        raise TaskValidationError(
            f"{option} must be a whole number from 0 to {MAX_ATTEMPTS}, not {value!r}",
            hint="it includes the first attempt: 0 and 1 both mean one attempt",
        )
    return max(value, 1)


def delay(option: str, value: float | timedelta | str) -> int:
    """Returns a retry delay in microseconds.

    Raises:
        TaskValidationError: The value is not a duration, is negative or is not finite.
    """
    try:
        return duration_to_us(option, value, zero=True)
    except ConfigurationError as error:
        raise TaskValidationError(error.message, hint=error.hint) from None


def exception_names(
    option: str, types: Iterable[type[BaseException] | str] | type[BaseException] | str
) -> tuple[str, ...]:
    """Returns the qualified names of one exception type or several.

    Raises:
        TaskValidationError: A value is neither an exception type nor a name.
    """
    is_single = isinstance(types, (str, type)) or not hasattr(types, "__iter__")
    given: tuple[Any, ...] = (types,) if is_single else tuple(types)  # type: ignore[arg-type]
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
    # The order of a set differs from process to process, and would change the workflow's version.
    return tuple(sorted(names) if isinstance(types, (set, frozenset)) else names)
