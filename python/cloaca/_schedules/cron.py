"""Schedules as objects, and a preview of the times at which an expression fires."""

from __future__ import annotations

from cloaca import _core
from cloaca._values.arguments import check_flag, check_string
from cloaca._values.duration import duration_to_us, instant_to_us, us_to_instant
from cloaca._values.exceptions import ConfigurationError, ScheduleError
from cloaca._values.suggestion import suggestion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Any

    from cloaca._values.inputs import Input

# Maximum number of times that `cron_preview` returns.
_MAX_PREVIEW = 100_000
_CATCHUPS = ("skip", "latest", "all")
_OVERLAPS = ("allow", "skip", "queue")


class CronSchedule:
    """A schedule, to register with `DefaultRunner.add_cron_schedule`.

    Attributes:
        workflow_name: The workflow that the schedule starts.
        cron_expression: The cron expression, with 5 fields, or 6 with seconds first.
        timezone: The IANA time zone of the expression.
        enabled: Whether the schedule fires.
        context: The initial context of the schedule's executions.
        max_missed_runs: Maximum number of missed ticks that fire; with `None`, the setting
            `cron_max_catchup_executions` applies.
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
        """Make a schedule and check it. `add_cron_schedule` registers it.

        Args:
            workflow_name: The workflow that the schedule starts.
            cron_expression: The cron expression.
            timezone: The IANA time zone of the expression.
            enabled: Whether the schedule fires.
            context: The initial context of the schedule's executions.
            max_missed_runs: Maximum number of missed ticks that fire; the setting
                `cron_max_catchup_executions` if omitted.
            catch_up: The handling of missed ticks: `"skip"`, `"latest"` or `"all"`, or a boolean.

        Raises:
            ScheduleError: The expression, the zone or the rule cannot be read. The error is a
                `ValueError`.
        """
        cron_preview(cron_expression, timezone, 1)
        self.workflow_name = workflow_name
        self.cron_expression = cron_expression
        self.timezone = timezone
        self.enabled = check_flag("enabled", enabled, ScheduleError)
        self.context = context
        self.max_missed_runs = max_missed_runs
        self.catch_up = catch_up
        self._catchup_rule()

    def _catchup_rule(self) -> str:
        """Return the name of the catch-up rule."""
        if isinstance(self.catch_up, bool):
            return "all" if self.catch_up else "skip"
        return rule("catch_up", self.catch_up, _CATCHUPS)

    def __eq__(self, other: object) -> bool:
        """Return whether both have the same values."""
        if not isinstance(other, CronSchedule):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in CronSchedule.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the workflow, the expression and the zone."""
        return (
            f"CronSchedule(workflow_name={self.workflow_name!r}, "
            f"cron_expression={self.cron_expression!r}, timezone={self.timezone!r})"
        )


def cron_preview(
    expression: str, timezone: str = "UTC", n: int = 5, start: datetime | None = None
) -> list[datetime]:
    """Return the next times at which a cron expression fires.

    Args:
        expression: The cron expression, with 5 fields, or 6 with seconds first.
        timezone: An IANA time zone.
        n: The number of times to return, 0 to 100000.
        start: The time after which the returned times begin, as a datetime with a time zone. Now if
            omitted.

    Returns:
        Datetimes, each with the zone's UTC offset at that time.

    Raises:
        ScheduleError: The expression or the zone cannot be read, or the expression never fires. The
            error is a `ValueError`.
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

    In the hour that a zone repeats when its clocks go back, a datetime with this zone would be
    unequal to every datetime with another zone.
    """
    from datetime import timedelta, timezone

    return us_to_instant(at_us).astimezone(timezone(timedelta(seconds=offset_seconds)))


def is_count(value: object) -> bool:
    """Returns whether a value is a whole number and not negative."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def check_text(what: str, value: object) -> None:
    """Checks that a value is a string.

    Raises:
        ScheduleError: The value is not a string.
    """
    check_string(what, value, ScheduleError)


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
    jitter_seconds: float | timedelta | str,
    enabled: bool,
    input: _core.Context | None,
) -> tuple[Any, ...]:
    """Returns the arguments for the engine's `register`, beginning with the instance name.

    Raises:
        ScheduleError: An option is not valid.
        ConfigurationError: A time or a duration is not valid.
    """
    if instance_name is not None:
        check_text("instance_name", instance_name)
    if max_catchup is not None and not is_count(max_catchup):
        raise ScheduleError(
            f"max_catchup must be a whole number of at least 0, not {max_catchup!r}"
        )
    return (
        instance_name,
        input,
        rule("catchup", catchup, _CATCHUPS),
        None if max_catchup is None else min(max_catchup, 2**32 - 1),
        rule("overlap", overlap, _OVERLAPS),
        None if start_at is None else instant_to_us("start_at", start_at),
        None if end_at is None else instant_to_us("end_at", end_at),
        duration_to_us("jitter_seconds", jitter_seconds, zero=True),
        check_flag("enabled", enabled, ScheduleError),
    )


for _public in (CronSchedule, cron_preview):
    _public.__module__ = "cloaca"
