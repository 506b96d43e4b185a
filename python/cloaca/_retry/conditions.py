"""The parts of a retry policy: the growth of the delay and the condition for a retry."""

from __future__ import annotations

from cloaca._values.arguments import check_string
from cloaca._values.exceptions import TaskValidationError
from cloaca._values.type_name import lineage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_INFINITY = float("inf")


class BackoffStrategy:
    """The rule by which the delay grows from attempt to attempt.

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
        """Return a strategy with the same delay after every attempt.

        Example:
            >>> cloaca.RetryPolicy(backoff=cloaca.BackoffStrategy.fixed(), initial_delay=5)

        Since 1.0.
        """
        return BackoffStrategy({"strategy": "fixed"})

    @staticmethod
    def linear(multiplier: float = 1) -> BackoffStrategy:
        """Return a strategy with the delays `initial_delay * multiplier * attempt`.

        Args:
            multiplier: The factor by which every delay is multiplied.

        Returns:
            The strategy.

        Raises:
            TaskValidationError: The multiplier is negative or not finite.

        Example:
            >>> cloaca.BackoffStrategy.linear(multiplier=2)
            BackoffStrategy.linear(multiplier=2)

        Since 1.0.
        """
        return BackoffStrategy(
            {"strategy": "linear", "multiplier": _factor("multiplier", multiplier)}
        )

    @staticmethod
    def exponential(base: float = 2, multiplier: float = 1) -> BackoffStrategy:
        """Return a strategy with the delays `initial_delay * multiplier * base ** (attempt - 1)`.

        Args:
            base: The factor by which the delay grows from one attempt to the next.
            multiplier: The factor by which every delay is multiplied.

        Returns:
            The strategy.

        Raises:
            TaskValidationError: The base or the multiplier is negative or not finite.

        Example:
            >>> cloaca.BackoffStrategy.exponential(base=3)
            BackoffStrategy.exponential(base=3, multiplier=1)

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
        """Return the form of the strategy that the engine reads."""
        return self._data

    def __eq__(self, other: object) -> bool:
        """Return whether both are equal."""
        return self._data == other._data if isinstance(other, BackoffStrategy) else NotImplemented

    def __hash__(self) -> int:
        """Return the hash of the value."""
        return hash(tuple(self._data.items()))

    def __repr__(self) -> str:
        """Return the constructor call."""
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
        """Return the condition that matches no failure.

        Example:
            >>> policy = cloaca.RetryPolicy(condition=cloaca.RetryCondition.never())
            >>> policy.should_retry(1, TimeoutError())
            False

        Since 1.0.
        """
        return RetryCondition("never")

    @staticmethod
    def transient_only() -> RetryCondition:
        """Return the condition that matches timeouts and connection errors.

        Such an error is recognised by its type, or by words such as "unavailable" in its message.

        Example:
            >>> cloaca.RetryPolicy(condition=cloaca.RetryCondition.transient_only())

        Since 1.0.
        """
        return RetryCondition("transient")

    @staticmethod
    def all_errors() -> RetryCondition:
        """Return the default condition, which matches every failure.

        Example:
            >>> cloaca.RetryPolicy().condition == cloaca.RetryCondition.all_errors()
            True

        Since 1.0.
        """
        return RetryCondition("all")

    @staticmethod
    def error_pattern(patterns: Iterable[str]) -> RetryCondition:
        """Return the condition that matches failures whose type or message contains a given string.

        Args:
            patterns: The strings to look for, at least one. Case is ignored.

        Returns:
            The condition.

        Raises:
            TaskValidationError: There is no pattern, or a pattern is empty or not a string.

        Example:
            >>> cloaca.RetryCondition.error_pattern(["rate limit", "try again"])

        Since 1.0.
        """
        is_single = isinstance(patterns, str) or not hasattr(patterns, "__iter__")
        texts: tuple[Any, ...] = (patterns,) if is_single else tuple(patterns)
        if not texts or not all(_is_text(text) for text in texts):
            raise TaskValidationError(
                "a retry condition needs at least one pattern, each a non-empty string, "
                f"not {patterns!r}"
            )
        # The order of a set differs between processes, and would change the workflow's version.
        return RetryCondition(
            tuple(sorted(texts)) if isinstance(patterns, (set, frozenset)) else texts
        )

    def _to_definition(self) -> str | dict[str, list[str]]:
        """Return the form of the condition that the engine reads."""
        return self._data if isinstance(self._data, str) else {"patterns": list(self._data)}

    def __eq__(self, other: object) -> bool:
        """Return whether both are equal."""
        return self._data == other._data if isinstance(other, RetryCondition) else NotImplemented

    def __hash__(self) -> int:
        """Return the hash of the value."""
        return hash(self._data)

    def __repr__(self) -> str:
        """Return the constructor call."""
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
    """Returns the names of an error's types, most specific first, and its message. Private.

    A string is used both as the name and as the message.

    Raises:
        TaskValidationError: The error is neither an exception nor a type nor a string.
    """
    if isinstance(error, BaseException):
        return lineage(type(error)), str(error)
    if isinstance(error, type):
        return lineage(error), ""
    text = check_string("error", error, TaskValidationError)
    return [text], text


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _factor(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < _INFINITY:
        raise TaskValidationError(
            f"the {name} of a backoff must be a finite number of at least 0, not {value!r}"
        )
    return float(value)
