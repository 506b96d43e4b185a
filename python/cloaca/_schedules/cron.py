"""Schedules as values, and a preview of the times at which an expression fires."""

from __future__ import annotations

from cloaca import _core
from cloaca._values.duration import instant_to_us, seconds_to_us, us_to_instant
from cloaca._values.exceptions import ConfigurationError, ScheduleError
from cloaca._values.suggestion import suggestion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Any

    from cloaca._values.inputs import Input

_MAX_PREVIEW = 100_000
_CATCHUPS = ("skip", "latest", "all")
_OVERLAPS = ("allow", "skip", "queue")


class CronSchedule:
    """A schedule to register by `DefaultRunner.add_cron_schedule`.

    Attributes:
        workflow_name: The workflow that it starts.
        cron_expression: The cron expression, with 5 fields, or 6 with seconds first.
        timezone: The IANA time zone of the expression.
        enabled: Whether it fires.
        context: The initial context of its executions.
        max_missed_runs: Maximum number of missed ticks that fire.
        catch_up: The handling of missed ticks: `"skip"`, `"latest"` or `"all"`; `True` means
            `"all"`, `False` means `"skip"`.

    Example:
        >>> nightly = cloaca.CronSchedule(workflow_name="etl", cron_expression="0 2 * * *")
        >>> runner.add_cron_schedule(nightly)

    Since 1.0.
    """

    __slots__ = (
        "catch_up",
        "context",
        "cron_expression",
        "enabled",
        "max_missed_runs",
        "timezone",
        "workflow_name",
    )

    def __init__(
        self,
        workflow_name: str,
        cron_expression: str,
        timezone: str = "UTC",
        enabled: bool = True,
        context: Input | None = None,
        max_missed_runs: int | None = None,
        catch_up: bool | str = False,
    ) -> None:
        """Make a schedule. It is checked here, and registered by `add_cron_schedule`.

        Args:
            workflow_name: The workflow that it starts.
            cron_expression: The cron expression.
            timezone: The IANA time zone of the expression.
            enabled: Whether it fires.
            context: The initial context of its executions.
            max_missed_runs: Maximum number of missed ticks that fire.
            catch_up: The handling of missed ticks.

        Raises:
            ScheduleError: The expression, the zone or the rule cannot be read. It is a
                `ValueError`.
        """
        cron_preview(cron_expression, timezone, 1)
        self.workflow_name = workflow_name
        self.cron_expression = cron_expression
        self.timezone = timezone
        self.enabled = enabled
        self.context = context
        self.max_missed_runs = max_missed_runs
        self.catch_up = catch_up
        self._catchup_rule()

    def _catchup_rule(self) -> str:
        """The name of the catch-up rule."""
        if isinstance(self.catch_up, bool):
            return "all" if self.catch_up else "skip"
        return rule("catch_up", self.catch_up, _CATCHUPS)

    def __repr__(self) -> str:
        """Workflow, expression and zone."""
        return (
            f"CronSchedule(workflow_name={self.workflow_name!r}, "
            f"cron_expression={self.cron_expression!r}, timezone={self.timezone!r})"
        )


def cron_preview(
    expression: str, timezone: str = "UTC", n: int = 5, start: datetime | None = None
) -> list[datetime]:
    """The next times at which a cron expression fires.

    Args:
        expression: 5 fields, or 6 with seconds first.
        timezone: An IANA time zone.
        n: The number of ticks, 0 to 100000.
        start: The time after which the ticks begin; a datetime with a time zone. Now if omitted.

    Returns:
        Datetimes with the offset from UTC that the zone has at each of them.

    Raises:
        ScheduleError: The expression or the zone cannot be read, or the expression never fires. It
            is a `ValueError`.
        ConfigurationError: `n` or `start` is not valid. The error is a `ValueError`.

    Example:
        >>> from datetime import UTC, datetime
        >>> start = datetime(2026, 3, 28, tzinfo=UTC)
        >>> for time in cloaca.cron_preview("30 2 * * *", "Europe/Berlin", 2, start):
        ...     print(time.isoformat())
        2026-03-28T02:30:00+01:00
        2026-03-29T03:00:00+02:00

    Since 1.0.
    """
    check_text("the cron expression", expression)
    check_text("the time zone", timezone)
    if not is_count(n) or n > _MAX_PREVIEW:
        raise ConfigurationError(f"n must be a whole number from 0 to {_MAX_PREVIEW}, not {n!r}")
    start_us = _core.now_us() if start is None else instant_to_us("start", start)
    return [
        _local(time.at_us, time.offset_seconds)
        for time in _core.cron_preview(expression, timezone, n, start_us)
    ]


def _local(at_us: int, offset_seconds: int) -> datetime:
    """Returns a fire time with a fixed UTC offset instead of the zone.

    While a zone's clocks go back, Python treats its datetimes as unequal to all others.
    """
    from datetime import timedelta, timezone

    return us_to_instant(at_us).astimezone(timezone(timedelta(seconds=offset_seconds)))


def is_count(value: object) -> bool:
    """Whether a value is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def check_text(what: str, value: object) -> None:
    """Refuse a value that is not text.

    Raises:
        ScheduleError: The value is not text.
    """
    if not isinstance(value, str):
        raise ScheduleError(f"{what} must be a string, not {type(value).__name__}")


def rule(name: str, value: object, known: tuple[str, ...]) -> str:
    """Validates the name of a rule.

    Raises:
        ScheduleError: The name is not known.
    """
    if isinstance(value, str) and value in known:
        return value
    raise ScheduleError(
        f"{name} must be one of {', '.join(known)}, not {value!r}",
        hint=suggestion(value, known),
    )


def options(
    *,
    instance_name: str | None,
    catchup: str,
    max_catchup: int | None,
    overlap: str,
    start_at: datetime | None,
    end_at: datetime | None,
    jitter_seconds: float | timedelta,
    enabled: bool,
    input: _core.Context | None,
) -> tuple[Any, ...]:
    """The arguments of the engine's `register` that follow the time zone.

    Raises:
        ScheduleError: An option is not valid.
        ConfigurationError: A time or a duration is not valid.
        TypeError: The input is not a mapping, or a value in it is not JSON.
    """
    if instance_name is not None:
        check_text("instance_name", instance_name)
    if max_catchup is not None and not is_count(max_catchup):
        raise ScheduleError(f"max_catchup must be a whole number from 0, not {max_catchup!r}")
    if not isinstance(enabled, bool):
        raise ScheduleError(f"enabled must be True or False, not {enabled!r}")
    return (
        instance_name,
        input,
        rule("catchup", catchup, _CATCHUPS),
        None if max_catchup is None else min(max_catchup, 2**32 - 1),
        rule("overlap", overlap, _OVERLAPS),
        None if start_at is None else instant_to_us("start_at", start_at),
        None if end_at is None else instant_to_us("end_at", end_at),
        seconds_to_us("jitter_seconds", jitter_seconds, zero=True),
        enabled,
    )


for _public in (CronSchedule, cron_preview):
    _public.__module__ = "cloaca"
