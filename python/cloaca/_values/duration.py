"""Converts durations and instants to the engine's unit, whole microseconds."""

from __future__ import annotations

from cloaca._values.exceptions import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta

#: The longest duration: about 30,000 years, which fits in 64 bits. As a timeout it is the engine's
#: `NO_TIMEOUT`: no limit.
MAX_US = 10**18


def seconds_to_us(name: str, value: float | timedelta, *, zero: bool = False) -> int:
    """Converts a duration to whole microseconds.

    Args:
        name: The name of the argument, for the message.
        value: Seconds, or a timedelta.
        zero: Whether zero is allowed.

    Raises:
        ConfigurationError: It is not a number, is negative or not finite, or is zero and `zero` is
            false.
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
        rule = "must not be negative" if zero else "must be greater than zero"
        raise ConfigurationError(f"{name} {rule} and must be finite, in seconds: {value!r}")
    return max(round(value * 1_000_000), 0 if zero else 1)


_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}


def duration_to_us(name: str, value: float | timedelta | str | None, *, zero: bool = False) -> int:
    """Converts a duration, also one written as a text, to whole microseconds.

    Args:
        name: The name of the argument, for the message.
        value: Seconds, a timedelta, or a text such as `"90s"`, `"10m"`, `"48h"` or `"7d"`.
        zero: Whether zero is allowed.

    Raises:
        ConfigurationError: It is none of these, is negative, or is zero and `zero` is false.
    """
    if not isinstance(value, str):
        return seconds_to_us(name, value, zero=zero)  # type: ignore[arg-type]
    text = value.strip()
    unit = text.lstrip("0123456789.")
    try:
        number = float(text[: len(text) - len(unit)])
        factor = _UNITS[unit.strip()]
    except (ValueError, KeyError):
        raise ConfigurationError(
            f"{name} must be a duration, not {value!r}",
            hint='seconds, a timedelta, or a text such as "90s", "10m", "48h" or "7d"',
        ) from None
    return seconds_to_us(name, number * factor / 1_000_000, zero=zero)


def timeout_to_us(value: float | timedelta) -> int:
    """Whole microseconds of a timeout; `math.inf` means no limit.

    Args:
        value: Seconds, or a timedelta.

    Raises:
        ConfigurationError: It is not a number, zero, or negative.
    """
    return MAX_US if value == float("inf") else seconds_to_us("timeout", value)


def instant_to_us(name: str, value: datetime) -> int:
    """Microseconds since 1970 of an instant.

    Args:
        name: The name of the argument, for the message.
        value: A datetime with a time zone.

    Raises:
        ConfigurationError: It is not a datetime, or has no time zone.
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
    """The instant, in UTC, of microseconds since 1970."""
    from datetime import UTC, datetime, timedelta

    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)


def rfc3339(value: int) -> str:
    """RFC 3339 text, in UTC with microseconds, of microseconds since 1970."""
    return us_to_instant(value).isoformat(timespec="microseconds").replace("+00:00", "Z")
