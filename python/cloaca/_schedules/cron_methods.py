"""Methods of a runner that register, read and control schedules."""

from __future__ import annotations

from cloaca._core import Context
from cloaca._schedules.cron import CronSchedule, check_text, is_count, options
from cloaca._values.arguments import check_flag
from cloaca._values.duration import rfc3339
from cloaca._values.exceptions import ConfigurationError, ScheduleError
from cloaca._values.inputs import context_of
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Any

    from cloaca._core import Runner, Schedules, TickRecord
    from cloaca._values.inputs import Input
    from cloaca._workflows.workflow import Workflow

# The keys that the engine adds to the input of a scheduled execution, with example values.
_ADDED = {
    "scheduled_time": "2026-01-01T00:00:00Z",
    "schedule_id": "00000000-0000-7000-8000-000000000000",
    "schedule_timezone": "UTC",
    "schedule_expression": "@hourly",
}
# The maximum number of rows if the caller sets no limit. No database has this many rows.
_ALL = 2**62


class ScheduleMethods:
    """The part of `DefaultRunner` that registers and controls schedules. Private."""

    _core: Runner
    _schedules: Schedules

    if TYPE_CHECKING:

        def _catch_up(self, *, quietly: bool = False) -> None: ...

    def register_cron_workflow(
        self,
        workflow_name: str | Workflow,
        cron_expression: str,
        timezone: str = "UTC",
        *,
        instance_name: str | None = None,
        input: Input | None = None,
        catchup: str = "skip",
        max_catchup: int | None = None,
        overlap: str = "allow",
        start_at: datetime | None = None,
        end_at: datetime | None = None,
        jitter_seconds: float | timedelta | str = 0,
        enabled: bool = True,
    ) -> str:
        """Start a workflow at the times of a cron expression.

        Any runner on the database can fire the schedule, and each tick fires once. A program may
        register the same workflow, expression, zone and instance name again, e.g. at every start.
        The call then returns the same id, and updates the schedule's options except `enabled`.

        Args:
            workflow_name: The workflow. This process need not know the workflow, because another
                worker may have it.
            cron_expression: The cron expression, with 5 fields, or 6 with seconds first. A field
                may have lists, ranges, steps, names, `L` for the last day of the month, and `MON#1`
                for the month's first Monday. `@hourly` and similar words are expressions too.
            timezone: The IANA time zone of the expression.
            instance_name: A name that distinguishes schedules with the same workflow, expression
                and zone.
            input: The initial context of the schedule's executions. The engine adds
                `scheduled_time`, `schedule_id`, `schedule_timezone` and `schedule_expression`. If
                the workflow declares `input=`, the input is validated now.
            catchup: The handling of ticks that were due while no runner was live: `"skip"` records
                them as missed, `"latest"` fires the last of them, `"all"` fires all, oldest first.
            max_catchup: Maximum number of missed ticks that fire; the setting
                `cron_max_catchup_executions` if omitted.
            overlap: The handling of a tick while an execution of the schedule is open: `"allow"`
                fires the tick, `"skip"` records it as overlapped, `"queue"` fires it after the
                execution has ended.
            start_at: The time before which the schedule has no ticks; a datetime with a time zone.
            end_at: The time after which the schedule has no ticks; a datetime with a time zone.
            jitter_seconds: Maximum delay of a tick: seconds, a timedelta, or text such as
                `"30s"`. Each tick has a random delay.
            enabled: Whether a new schedule fires.

        Returns:
            The schedule's id.

        Raises:
            ScheduleError: The expression, the zone or an option cannot be read, or the expression
                never fires. The error is a `ValueError`.
            ConfigurationError: A time or a duration is not valid. The error is a `ValueError`.
            WorkflowInputError: The input does not match the workflow's `input=`.
            TypeError: A value of the input is not JSON.
            RunnerClosedError: The runner was shut down.

        Example:
            >>> runner.register_cron_workflow("etl", "30 2 * * *", "Europe/Berlin")

        Since 1.0.
        """
        name: Any = getattr(workflow_name, "name", workflow_name)
        check_text("workflow_name", name)
        check_text("the cron expression", cron_expression)
        check_text("the time zone", timezone)
        given = options(
            instance_name=instance_name,
            input=_checked_input(name, input),
            catchup=catchup,
            max_catchup=max_catchup,
            overlap=overlap,
            start_at=start_at,
            end_at=end_at,
            jitter_seconds=jitter_seconds,
            enabled=enabled,
        )
        self._catch_up()
        id = self._schedules.register(name, cron_expression, timezone, *given)
        if not (registry.has_workflow(name) or self._core.reads.is_workflow_stored(name)):
            from cloaca._observe.logger import logger

            logger().warning(
                "schedule %s is registered, but this database has no workflow '%s'; "
                "ticks are recorded as skipped until a program that defines the workflow runs here",
                id,
                name,
            )
        return id

    def add_cron_schedule(self, schedule: CronSchedule) -> str:
        """Register a schedule: see `register_cron_workflow`.

        Args:
            schedule: The schedule.

        Returns:
            The schedule's id.

        Raises:
            ScheduleError: The schedule cannot be registered. The error is a `ValueError`.

        Example:
            >>> schedule = cloaca.CronSchedule("etl", "0 2 * * *", catch_up="latest")
            >>> id = runner.add_cron_schedule(schedule)

        Since 1.0.
        """
        given: object = schedule
        if not isinstance(given, CronSchedule):
            raise ScheduleError(
                f"schedule must be a CronSchedule, not {type(given).__name__}",
                hint="pass separate arguments to register_cron_workflow instead",
            )
        return self.register_cron_workflow(
            schedule.workflow_name,
            schedule.cron_expression,
            schedule.timezone,
            input=schedule.context,
            catchup=schedule._catchup_rule(),
            max_catchup=schedule.max_missed_runs,
            enabled=schedule.enabled,
        )

    def list_cron_schedules(
        self,
        enabled_only: bool | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return the schedules, oldest first.

        Args:
            enabled_only: Whether to leave out schedules that are switched off.
            limit: Maximum number of schedules; no limit if omitted.
            offset: Number of the oldest schedules to leave out; 0 if omitted.

        Returns:
            Dicts in the form of `get_cron_schedule`.

        Raises:
            ConfigurationError: An argument is not valid. The error is a `ValueError`.

        Example:
            >>> [schedule["next_run_at"] for schedule in runner.list_cron_schedules()]

        Since 1.0.
        """
        wanted = False if enabled_only is None else check_flag("enabled_only", enabled_only)
        rows = self._core.reads.schedules(wanted, *window(limit, offset))
        return [schedule_dict(row) for row in rows]

    def get_cron_schedule(self, id: str) -> dict[str, Any]:
        """Return a schedule.

        Args:
            id: The id of the schedule.

        Returns:
            A dict with `id`, `workflow_name`, `cron_expression`, `timezone`, `instance_name`,
            `enabled`, `catchup_policy`, `max_catchup`, `overlap_policy`, `jitter_seconds`, `input`,
            and times as RFC 3339 text or `None`: `next_run_at`, `last_run_at` (the last tick that
            fired), `start_at`, `end_at`, `created_at`, `updated_at`.

        Raises:
            ScheduleError: There is no such schedule. The error is a `ValueError`.

        Example:
            >>> runner.get_cron_schedule(id)["next_run_at"]
            '2026-01-02T01:00:00.000000Z'

        Since 1.0.
        """
        with ErrorPrefix("Failed to get cron schedule"):
            return schedule_dict(self._core.reads.schedule(_id(id)))

    def update_cron_schedule(
        self, id: str, cron_expression: str | None = None, timezone: str | None = None
    ) -> None:
        """Change the expression or time zone of a schedule. The next tick is computed again.

        Args:
            id: The id of the schedule.
            cron_expression: The new expression; the old one if omitted.
            timezone: The new time zone; the old one if omitted.

        Raises:
            ScheduleError: There is no such schedule, the new values cannot be read, or another
                schedule already has them. The error is a `ValueError`.

        Example:
            >>> runner.update_cron_schedule(id, "0 3 * * *")

        Since 1.0.
        """
        with ErrorPrefix("Failed to update cron schedule"):
            for what, value in (
                ("the cron expression", cron_expression),
                ("the time zone", timezone),
            ):
                if value is not None:
                    check_text(what, value)
            self._schedules.update(_id(id), cron_expression, timezone)

    def set_cron_schedule_enabled(self, id: str, enabled: bool) -> None:
        """Switch a schedule on or off. Ticks that were due while it was off do not fire.

        Args:
            id: The id of the schedule.
            enabled: Whether the schedule fires.

        Raises:
            ScheduleError: There is no such schedule. The error is a `ValueError`.

        Example:
            >>> runner.set_cron_schedule_enabled(id, False)

        Since 1.0.
        """
        with ErrorPrefix("Failed to update cron schedule"):
            self._schedules.set_enabled(_id(id), check_flag("enabled", enabled, ScheduleError))

    def delete_cron_schedule(self, id: str) -> None:
        """Delete a schedule. Its history stays readable until it is pruned.

        Args:
            id: The id of the schedule.

        Raises:
            ScheduleError: There is no such schedule. The error is a `ValueError`.

        Example:
            >>> runner.delete_cron_schedule(id)

        Since 1.0.
        """
        with ErrorPrefix("Failed to delete cron schedule"):
            self._schedules.delete(_id(id))

    def run_cron_schedule_now(self, id: str) -> str:
        """Start a schedule's workflow once, now. The schedule's rules and next tick are unaffected.

        Args:
            id: The id of the schedule.

        Returns:
            The execution's id.

        Raises:
            ScheduleError: There is no such schedule. The error is a `ValueError`.
            WorkflowNotFoundError: No program has stored a definition of the workflow.

        Example:
            >>> execution_id = runner.run_cron_schedule_now(id)
            >>> runner.get_handle(execution_id).result().status

        Since 1.0.
        """
        with ErrorPrefix("Failed to run cron schedule"):
            return self._schedules.run_now(_id(id))

    def get_cron_execution_history(
        self, id: str, limit: int | None = None, offset: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the ticks of a schedule with their outcomes, newest first.

        The history of a deleted schedule can also be read.

        Args:
            id: The id of the schedule.
            limit: Maximum number of ticks; no limit if omitted.
            offset: Number of the newest ticks to leave out; 0 if omitted.

        Returns:
            Dicts with `id`, `schedule_id`, `scheduled_time`, `claimed_at`, `outcome`, `detail`,
            `workflow_execution_id` (also as `pipeline_execution_id`), `created_at`, `updated_at`.
            The outcome is `fired`, `missed`, `skipped` (the workflow was not known), `overlapped`
            or `queued`.

        Raises:
            ScheduleError: No schedule had this id. The error is a `ValueError`.
            ConfigurationError: `limit` or `offset` is not valid. The error is a `ValueError`.

        Example:
            >>> for tick in runner.get_cron_execution_history(id, limit=10):
            ...     print(tick["scheduled_time"], tick["outcome"], tick["workflow_execution_id"])

        Since 1.0.
        """
        with ErrorPrefix("Failed to get cron schedule"):
            ticks = self._core.reads.schedule_history(_id(id), *window(limit, offset))
        return [tick_dict(tick) for tick in ticks]

    def get_cron_execution_stats(self, since: str | datetime) -> dict[str, Any]:
        """Return the number of ticks since a time, by outcome.

        Args:
            since: RFC 3339 text or a datetime, with a time zone.

        Returns:
            A dict with `total_executions` (fired, missed and skipped ticks; overlapped and queued
            ticks are not included), `successful_executions` (fired ticks), `lost_executions`
            (missed and skipped ticks), `success_rate` (successful / total; 0 if the total is 0),
            and one count for each of the other outcomes: `missed_executions`,
            `skipped_executions`, `overlapped_executions`, `queued_executions`.

        Raises:
            ScheduleError: The time cannot be read. The error is a `ValueError`.

        Example:
            >>> runner.get_cron_execution_stats("2026-01-01T00:00:00Z")["success_rate"]
            0.98

        Since 1.0.
        """
        counts = self._core.reads.tick_counts(_since(since))
        total = counts.fired + counts.missed + counts.skipped
        return {
            "total_executions": total,
            "successful_executions": counts.fired,
            "lost_executions": counts.missed + counts.skipped,
            "success_rate": counts.fired / total if total else 0.0,
            "missed_executions": counts.missed,
            "skipped_executions": counts.skipped,
            "overlapped_executions": counts.overlapped,
            "queued_executions": counts.queued,
        }


def _checked_input(workflow_name: str, input: Input | None) -> Context | None:
    """Returns the input of a schedule.

    The input is validated if this process knows the workflow, and the workflow declares an input.
    """
    workflow = registry.workflow(workflow_name)
    context = context_of(input)
    if workflow is None or workflow._input is None:
        return context
    model = workflow._input
    given = Context() if context is None else context.copy()
    added = [name for name in _ADDED if name in model.fields and model.fields[name] not in given]
    for name in added:
        given[model.fields[name]] = _ADDED[name]
    what = f"the input of the schedule of workflow '{workflow_name}'"
    valid = model.validate(given, what)
    for name in added:
        valid.remove(model.fields[name])
    return valid


def window(limit: int | None, offset: int | None) -> tuple[int, int]:
    """Validates `limit` and `offset`, and returns them as integers.

    Raises:
        ConfigurationError: A value is negative or not a whole number.
    """
    for name, value in (("limit", limit), ("offset", offset)):
        if value is not None and not is_count(value):
            raise ConfigurationError(f"{name} must be a whole number of at least 0, not {value!r}")
    return (_ALL if limit is None else min(limit, _ALL), min(offset or 0, _ALL))


class ErrorPrefix:
    """Puts the failed operation before the message of a `ScheduleError` that the block raises.

    The engine's message contains only the reason.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        if isinstance(error, ScheduleError) and not error.message.startswith("Invalid schedule ID"):
            raise type(error)(
                f"{self._what}: {error.message}", code=error.code, hint=error.hint
            ) from None


def tick_dict(tick: TickRecord) -> dict[str, Any]:
    """Returns a tick, in the form of `get_cron_execution_history`."""
    due_at = rfc3339(tick.due_us)
    return {
        "id": f"{tick.schedule_id}/{due_at}",
        "schedule_id": tick.schedule_id,
        "scheduled_time": due_at,
        "claimed_at": rfc3339(tick.created_us),
        "outcome": tick.outcome,
        "detail": tick.detail,
        "workflow_execution_id": tick.execution_id,
        "pipeline_execution_id": tick.execution_id,
        "created_at": rfc3339(tick.created_us),
        "updated_at": rfc3339(tick.updated_us),
    }


def when(value: int | None) -> str | None:
    """Returns a time in microseconds as RFC 3339 text; `None` for `None`."""
    return None if value is None else rfc3339(value)


def _id(id: object) -> str:
    if not isinstance(id, str):
        raise ScheduleError(f"Invalid schedule ID {id!r}: it must be a string")
    return id


def schedule_dict(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a schedule, in the form of `get_cron_schedule`."""
    return {
        "id": row["id"],
        "workflow_name": row["workflow"],
        "cron_expression": row["expression"],
        "timezone": row["timezone"],
        "instance_name": row["instance"] or None,
        "enabled": row["enabled"],
        "catchup_policy": row["catchup"],
        "max_catchup": row["max_catchup"],
        "overlap_policy": row["overlap"],
        "jitter_seconds": row["jitter_us"] / 1_000_000,
        "input": row["input"].to_dict(),
        "start_at": when(row["start_us"]),
        "end_at": when(row["end_us"]),
        "next_run_at": when(row["next_us"]),
        "last_run_at": when(row["fired_us"]),
        "created_at": when(row["created_us"]),
        "updated_at": when(row["updated_us"]),
    }


def _since(since: str | datetime) -> int:
    from datetime import datetime

    from cloaca._values.duration import instant_to_us

    if isinstance(since, str):
        text = since
        try:
            since = datetime.fromisoformat(text)
        except ValueError:
            raise ScheduleError(
                f"Invalid datetime format: {text[:80]!r}",
                hint="use RFC 3339, like '2026-01-31T00:00:00Z'",
            ) from None
    given: object = since
    if not isinstance(given, datetime):
        raise ScheduleError(
            f"Invalid datetime format: expected text or a datetime, not {given!r}",
            hint="use RFC 3339, like '2026-01-31T00:00:00Z'",
        )
    if given.tzinfo is None:
        raise ScheduleError(
            f"Invalid datetime format: {given.isoformat()} has no time zone",
            hint="use RFC 3339, like '2026-01-31T00:00:00Z'",
        )
    return instant_to_us("since", given)
