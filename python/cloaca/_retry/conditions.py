"""The parts of a retry policy: the growth of the delay and the condition for a retry."""

from __future__ import annotations

from cloaca._values.exceptions import TaskValidationError
from cloaca._values.type_name import lineage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_INFINITY = float("inf")


class BackoffStrategy:
    """The growth of the delay from attempt to attempt.

    The static methods make strategies. Strategies are compared by value.

    Example:
        >>> backoff = cloaca.BackoffStrategy.exponential(base=3)
        >>> policy = cloaca.RetryPolicy(backoff=backoff, initial_delay=2, with_jitter=False)
        >>> [policy.calculate_delay(attempt) for attempt in (1, 2, 3)]
        [2.0, 6.0, 18.0]

    Since 1.0.
    """

    __slots__ = ("_data",)

    def __init__(self, data: dict[str, Any]) -> None:
        """Private: use `fixed`, `linear` or `exponential`."""
        self._data = data

    @staticmethod
    def fixed() -> BackoffStrategy:
        """The same delay every time. Since 1.0."""
        return BackoffStrategy({"strategy": "fixed"})

    @staticmethod
    def linear(multiplier: float = 1) -> BackoffStrategy:
        """A delay of `initial_delay * multiplier * attempt`.

        Args:
            multiplier: A factor on every delay.

        Returns:
            The strategy.

        Raises:
            TaskValidationError: It is negative or not finite.

        Since 1.0.
        """
        return BackoffStrategy(
            {"strategy": "linear", "multiplier": _factor("multiplier", multiplier)}
        )

    @staticmethod
    def exponential(base: float = 2, multiplier: float = 1) -> BackoffStrategy:
        """A delay of `initial_delay * multiplier * base ** (attempt - 1)`.

        Args:
            base: The growth from one attempt to the next.
            multiplier: A factor on every delay.

        Returns:
            The strategy.

        Raises:
            TaskValidationError: One of them is negative or not finite.

        Since 1.0.
        """
        return BackoffStrategy(
            {
                "strategy": "exponential",
                "base": _factor("base", base),
                "multiplier": _factor("multiplier", multiplier),
            }
        )

    def _to_definition(self) -> dict[str, Any]:
        """The form of the strategy that the engine reads."""
        return self._data

    def __eq__(self, other: object) -> bool:
        """Whether both are equal."""
        return self._data == other._data if isinstance(other, BackoffStrategy) else NotImplemented

    def __hash__(self) -> int:
        """The hash of the value."""
        return hash(tuple(self._data.items()))

    def __repr__(self) -> str:
        """The constructor call."""
        arguments = [f"{k}={v:g}" for k, v in self._data.items() if k != "strategy"]
        return f"BackoffStrategy.{self._data['strategy']}({', '.join(arguments)})"


class RetryCondition:
    """A condition that selects the failures that are retried.

    The static methods make conditions. Conditions are compared by value.

    Example:
        >>> policy = cloaca.RetryPolicy(condition=cloaca.RetryCondition.transient_only())
        >>> policy.should_retry(1, ConnectionError("no line")), policy.should_retry(1, KeyError())
        (True, False)

    Since 1.0.
    """

    __slots__ = ("_data",)

    def __init__(self, data: str | tuple[str, ...]) -> None:
        """Private: use `never`, `transient_only`, `all_errors` or `error_pattern`."""
        self._data = data

    @staticmethod
    def never() -> RetryCondition:
        """Matches no failure. Since 1.0."""
        return RetryCondition("never")

    @staticmethod
    def transient_only() -> RetryCondition:
        """Matches timeouts and connection errors, by type or by words such as "unavailable".

        Since 1.0.
        """
        return RetryCondition("transient")

    @staticmethod
    def all_errors() -> RetryCondition:
        """Matches every failure; the default. Since 1.0."""
        return RetryCondition("all")

    @staticmethod
    def error_pattern(patterns: Iterable[str]) -> RetryCondition:
        """Matches failures whose type or message contains one of the texts, ignoring case.

        Args:
            patterns: The texts, at least one.

        Returns:
            The condition.

        Raises:
            TaskValidationError: There is no text, or one of them is empty or not a string.

        Example:
            >>> cloaca.RetryCondition.error_pattern(["rate limit", "try again"])

        Since 1.0.
        """
        texts = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        if not texts or not all(_is_text(text) for text in texts):
            raise TaskValidationError(
                f"the patterns of a retry condition must be texts, at least one: {patterns!r}"
            )
        return RetryCondition(texts)

    def _to_definition(self) -> str | dict[str, list[str]]:
        """The form of the condition that the engine reads."""
        return self._data if isinstance(self._data, str) else {"patterns": list(self._data)}

    def __eq__(self, other: object) -> bool:
        """Whether both are equal."""
        return self._data == other._data if isinstance(other, RetryCondition) else NotImplemented

    def __hash__(self) -> int:
        """The hash of the value."""
        return hash(self._data)

    def __repr__(self) -> str:
        """The constructor call."""
        match self._data:
            case "never":
                return "RetryCondition.never()"
            case "transient":
                return "RetryCondition.transient_only()"
            case "all":
                return "RetryCondition.all_errors()"
            case patterns:
                return f"RetryCondition.error_pattern({list(patterns)!r})"


def names_of(error: BaseException | type[BaseException] | str) -> tuple[list[str], str]:
    """The names of an error's types, most specific first, and its message. Private.

    A text is used as the name and as the message.
    """
    if isinstance(error, BaseException):
        return lineage(type(error)), str(error)
    if isinstance(error, type):
        return lineage(error), ""
    return [error], error


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _factor(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _INFINITY:
        raise TaskValidationError(
            f"the {name} of a backoff must be a number from 0 on, not {value!r}"
        )
    return float(value)
