"""Converts durations and instants to the engine's unit, whole microseconds."""

from __future__ import annotations

from cloaca._values.exceptions import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Any

#: The longest duration, in microseconds: about 30,000 years, which fits in 64 bits. As a timeout it
#: means no limit; it is the engine's `NO_TIMEOUT`.
MAX_US = 10**18


def seconds_to_us(
    name: str, value: float | timedelta, *, zero: bool = False, endless: bool = False
) -> int:
    """Converts a duration to whole microseconds.

    Args:
        name: The name of the argument, for the message.
        value: Seconds, or a timedelta.
        zero: Whether zero is allowed.
        endless: Whether the caller accepts `math.inf`; the message then says so.

    Raises:
        ConfigurationError: The value is not a duration, is negative, infinite or longer than
            `MAX_US`, or is zero and `zero` is false.
    """
    seconds = getattr(value, "total_seconds", None)
    if seconds is not None:
        value = seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigurationError(
            f"{name} must be a number of seconds or a timedelta, not {type(value).__name__}"
        )
    # NaN fails every comparison.
    if not (0 <= value * 1_000_000 <= MAX_US) or (value == 0 and not zero):
        if endless:
            sign = "zero or positive" if zero else "positive"
            raise ConfigurationError(
                f"{name} must be {sign}, or math.inf for no limit: {value!r}",
                hint="give a number of seconds",
            )
        rule = "must not be negative" if zero else "must be greater than zero"
        raise ConfigurationError(f"{name} {rule} and must be finite, in seconds: {value!r}")
    return max(round(value * 1_000_000), 0 if zero else 1)


# Microseconds in each unit of a duration that is written as text.
_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
# The forms of a duration, for the hints of error messages.
_FORMS = 'use seconds, a timedelta, or a string such as "90s", "10m", "48h" or "7d"'


def duration_to_us(
    name: str,
    value: float | timedelta | str | None,
    *,
    zero: bool = False,
    endless: bool = False,
) -> int:
    """Converts a duration, which may be written as text, to whole microseconds.

    Args:
        name: The name of the argument, for the message.
        value: Seconds, a timedelta, or a string such as `"90s"`, `"10m"`, `"48h"` or `"7d"`.
        zero: Whether zero is allowed.
        endless: Whether the caller accepts `math.inf`; the message then says so.

    Raises:
        ConfigurationError: The value is not a duration, is negative, infinite or longer than
            `MAX_US`, or is zero and `zero` is false.
    """
    if not isinstance(value, str):
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number and getattr(value, "total_seconds", None) is None:
            raise ConfigurationError(
                f"{name} must be a duration, not a value of type '{type(value).__name__}'",
                hint=_FORMS,
            )
        return seconds_to_us(name, value, zero=zero, endless=endless)  # type: ignore[arg-type]
    text = value.strip()
    unit = text.lstrip("0123456789.")
    try:
        number = float(text[: len(text) - len(unit)])
        factor = _UNITS[unit.strip()]
    except (ValueError, KeyError):
        raise ConfigurationError(
            f"{name} must be a duration, not {value!r}",
            hint=_FORMS,
        ) from None
    return seconds_to_us(name, number * factor / 1_000_000, zero=zero, endless=endless)


def timeout_to_us(
    value: float | timedelta | str, name: str = "timeout", *, zero: bool = False
) -> int:
    """Converts a timeout to whole microseconds; `math.inf` means no limit.

    Args:
        value: Seconds, a timedelta, or a string such as `"90s"`.
        name: The name of the argument, for the message.
        zero: Whether zero is allowed.

    Raises:
        ConfigurationError: The value is not a duration, is negative, or is zero and `zero` is
            false.
    """
    if value == float("inf"):
        return MAX_US
    return duration_to_us(name, value, zero=zero, endless=True)


def wait_to_us(value: float | timedelta | str | None, name: str = "timeout") -> int | None:
    """Converts a maximum waiting time to whole microseconds; `None` if there is no limit.

    Args:
        value: Seconds, a timedelta, or a string such as `"90s"`; `None` and `math.inf` mean no
            limit.
        name: The name of the argument, for the message.

    Raises:
        ConfigurationError: The value is not a duration, or is negative.
    """
    if value is None or value == float("inf"):
        return None
    return duration_to_us(name, value, zero=True, endless=True)


def milliseconds_to_us(name: str, value: float | timedelta | str, *, zero: bool = False) -> int:
    """Converts the value of an option that is in milliseconds to whole microseconds.

    Args:
        name: The name of the option, for the message.
        value: A number of milliseconds, a timedelta, or a string such as `"500ms"` or `"10s"`.
        zero: Whether zero is allowed.

    Raises:
        ConfigurationError: The value is not a duration, is negative or not finite, or is zero and
            `zero` is false.
    """
    number: Any = value
    if isinstance(number, str) or getattr(number, "total_seconds", None) is not None:
        try:
            return duration_to_us(name, number, zero=zero)
        except ConfigurationError as error:
            if error.hint == _FORMS:
                error.hint = _FORMS.replace("seconds", "milliseconds", 1)
            raise
    is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not is_number or not 0 <= number * 1_000 <= MAX_US or (number == 0 and not zero):
        sign = "zero or a positive" if zero else "a positive"
        raise ConfigurationError(
            f"{name} must be {sign} number of milliseconds, not {value!r}",
            hint=_FORMS.replace("seconds", "milliseconds", 1),
        )
    us: int = round(number * 1_000)
    return max(us, 0 if zero else 1)


def instant_to_us(name: str, value: datetime) -> int:
    """Converts an instant to microseconds since 1970.

    Args:
        name: The name of the argument, for the message.
        value: A datetime with a time zone.

    Raises:
        ConfigurationError: The value is not a datetime, or has no time zone.
    """
    from datetime import UTC, datetime, timedelta

    if not isinstance(value, datetime):
        raise ConfigurationError(f"{name} must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None:
        raise ConfigurationError(
            f"{name} must have a time zone: {value!r}",
            hint="use datetime.now(UTC), or .astimezone() for local time",
        )
    return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def us_to_instant(value: int) -> datetime:
    """Converts microseconds since 1970 to a datetime in UTC."""
    from datetime import UTC, datetime, timedelta

    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)


def rfc3339(value: int) -> str:
    """Converts microseconds since 1970 to RFC 3339 text, in UTC with microseconds."""
    return us_to_instant(value).isoformat(timespec="microseconds").replace("+00:00", "Z")
