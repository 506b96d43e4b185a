"""The methods of a runner for schedules."""

from __future__ import annotations

from cloaca._core import Context
from cloaca._schedules.cron import check_text, is_count, options
from cloaca._values.duration import rfc3339
from cloaca._values.exceptions import ConfigurationError, ScheduleError
from cloaca._values.inputs import context_of
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Any

    from cloaca._core import Runner, Schedules, TickRecord
    from cloaca._schedules.cron import CronSchedule
    from cloaca._values.inputs import Input
    from cloaca._workflows.workflow import Workflow

# The keys that the engine adds to the input of a scheduled execution, with example values.
_ADDED = {
    "scheduled_time": "2026-01-01T00:00:00Z",
    "schedule_id": "00000000-0000-7000-8000-000000000000",
    "schedule_timezone": "UTC",
    "schedule_expression": "@hourly",
}
# A limit that no database reaches.
_ALL = 2**62


class ScheduleMethods:
    """The part of `DefaultRunner` that deals with schedules. Private."""

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
        jitter_seconds: float | timedelta = 0,
        enabled: bool = True,
    ) -> str:
        """Start a workflow at the times of a cron expression.

        Any runner on the database may fire it, and each tick fires once. Registering the same
        workflow, expression, zone and instance name again, e.g. at every start of a program,
        returns the same schedule with these options; it stays enabled or disabled as it was.

        Args:
            workflow_name: The workflow. It need not be known here, because another worker may have
                it.
            cron_expression: 5 fields, or 6 with seconds first. A field may have lists, ranges,
                steps, names, `L` for the last day of the month, and `MON#1` for its first Monday.
                `@hourly` and similar words are expressions too.
            timezone: The IANA time zone of the expression.
            instance_name: Distinguishes schedules with the same workflow, expression and zone.
            input: The initial context of its executions, to which `scheduled_time`, `schedule_id`,
                `schedule_timezone` and `schedule_expression` are added. If the workflow declares
                `input=`, it is validated here.
            catchup: The handling of ticks that were due while no runner was live: `"skip"` records
                them as missed, `"latest"` fires the last one, `"all"` fires them, oldest first.
            max_catchup: Maximum number of missed ticks that fire; the setting
                `cron_max_catchup_executions` if omitted.
            overlap: The handling of a tick while an execution of the schedule is open: `"allow"`
                fires it, `"skip"` records it as overlapped, `"queue"` fires it afterwards.
            start_at: The schedule has no ticks before this time; a datetime with a time zone.
            end_at: The schedule has no ticks after this time.
            jitter_seconds: Maximum delay of a tick in seconds. Each tick gets a random delay.
            enabled: Whether a new schedule fires.

        Returns:
            The schedule's id.

        Raises:
            ScheduleError: The expression, the zone or an option cannot be read, or the expression
                never fires. It is a `ValueError`.
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
                "schedule %s is registered, but its workflow '%s' is not known in this database; "
                "its ticks are recorded as skipped until a program that defines it runs here",
                id,
                name,
            )
        return id

    def add_cron_schedule(self, schedule: CronSchedule) -> str:
        """Register a schedule: see `register_cron_workflow`.

        Args:
            schedule: The schedule.

        Returns:
            Its id.

        Raises:
            ScheduleError: It cannot be registered. It is a `ValueError`.

        Since 1.0.
        """
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
        """Returns the schedules, oldest first.

        Args:
            enabled_only: Whether to leave out schedules that are switched off.
            limit: Maximum number of rows.
            offset: Number of the oldest rows to skip.

        Returns:
            Dicts in the form of `get_cron_schedule`.

        Since 1.0.
        """
        rows = self._core.reads.schedules(bool(enabled_only), *window(limit, offset))
        return [schedule_dict(row) for row in rows]

    def get_cron_schedule(self, id: str) -> dict[str, Any]:
        """A schedule.

        Args:
            id: Its id.

        Returns:
            A dict with `id`, `workflow_name`, `cron_expression`, `timezone`, `instance_name`,
            `enabled`, `catchup_policy`, `max_catchup`, `overlap_policy`, `jitter_seconds`, `input`,
            and times as RFC 3339 text or `None`: `next_run_at`, `last_run_at` (its last tick that
            fired), `start_at`, `end_at`, `created_at`, `updated_at`.

        Raises:
            ScheduleError: There is no such schedule. It is a `ValueError`.

        Since 1.0.
        """
        with Failing("Failed to get cron schedule"):
            return schedule_dict(self._core.reads.schedule(_id(id)))

    def update_cron_schedule(
        self, id: str, cron_expression: str | None = None, timezone: str | None = None
    ) -> None:
        """Change the expression or time zone of a schedule. Its next tick is computed again.

        Args:
            id: Its id.
            cron_expression: The new expression; the old one if omitted.
            timezone: The new time zone; the old one if omitted.

        Raises:
            ScheduleError: There is no such schedule, the new values cannot be read, or another
                schedule has them already. It is a `ValueError`.

        Since 1.0.
        """
        with Failing("Failed to update cron schedule"):
            for what, value in (
                ("the cron expression", cron_expression),
                ("the time zone", timezone),
            ):
                if value is not None:
                    check_text(what, value)
            self._schedules.update(_id(id), cron_expression, timezone)

    def set_cron_schedule_enabled(self, id: str, enabled: bool) -> None:
        """Switch a schedule on or off. Ticks that were due while it was off are not caught up.

        Args:
            id: Its id.
            enabled: Whether it fires.

        Raises:
            ScheduleError: There is no such schedule. It is a `ValueError`.

        Since 1.0.
        """
        with Failing("Failed to update cron schedule"):
            self._schedules.set_enabled(_id(id), bool(enabled))

    def delete_cron_schedule(self, id: str) -> None:
        """Delete a schedule. Its history stays readable until it is pruned.

        Args:
            id: Its id.

        Raises:
            ScheduleError: There is no such schedule. It is a `ValueError`.

        Since 1.0.
        """
        with Failing("Failed to delete cron schedule"):
            self._schedules.delete(_id(id))

    def run_cron_schedule_now(self, id: str) -> str:
        """Start a schedule's workflow once, now, whatever its rules. Its next tick is unchanged.

        Args:
            id: Its id.

        Returns:
            The execution's id.

        Raises:
            ScheduleError: There is no such schedule. It is a `ValueError`.
            WorkflowNotFoundError: No program has stored a definition of its workflow.

        Since 1.0.
        """
        with Failing("Failed to run cron schedule"):
            return self._schedules.run_now(_id(id))

    def get_cron_execution_history(
        self, id: str, limit: int | None = None, offset: int | None = None
    ) -> list[dict[str, Any]]:
        """The ticks of a schedule with their outcomes, newest first, also of a deleted schedule.

        Args:
            id: Its id.
            limit: Maximum number of rows.
            offset: Number of the newest rows to skip.

        Returns:
            Dicts with `id`, `schedule_id`, `scheduled_time`, `claimed_at`, `outcome` (`fired`,
            `missed`, `skipped`: its workflow was not known, `overlapped`, `queued`), `detail`,
            `workflow_execution_id` (also as `pipeline_execution_id`), `created_at`, `updated_at`.

        Raises:
            ScheduleError: There never was such a schedule. It is a `ValueError`.

        Since 1.0.
        """
        with Failing("Failed to get cron schedule"):
            ticks = self._core.reads.schedule_history(_id(id), *window(limit, offset))
        return [tick_dict(tick) for tick in ticks]

    def get_cron_execution_stats(self, since: str | datetime) -> dict[str, Any]:
        """The number of ticks that started an execution since a time.

        Args:
            since: RFC 3339 text or a datetime, with a time zone.

        Returns:
            A dict with `total_executions` (ticks that should have started an execution),
            `successful_executions` (ticks that started one), `lost_executions` (missed ticks, and
            ticks of an unknown workflow), `success_rate` (0 to 1; 0 if there were no ticks), and
            `missed_executions`, `skipped_executions`, `overlapped_executions`, `queued_executions`.

        Raises:
            ScheduleError: The time cannot be read. It is a `ValueError`.

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
    """The input of a schedule, validated if its workflow is known here and declares one."""
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
        ConfigurationError: One of them is negative or not a whole number.
    """
    for name, value in (("limit", limit), ("offset", offset)):
        if value is not None and not is_count(value):
            raise ConfigurationError(f"{name} must be a whole number from 0, not {value!r}")
    return (_ALL if limit is None else min(limit, _ALL), min(offset or 0, _ALL))


class Failing:
    """Adds the failed operation to an engine error, which contains only the reason."""

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
    """A tick, in the form of `get_cron_execution_history`."""
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
    """A time as text."""
    return None if value is None else rfc3339(value)


def _id(id: object) -> str:
    if not isinstance(id, str):
        raise ScheduleError(f"Invalid schedule ID {id!r}: it must be a string")
    return id


def schedule_dict(row: dict[str, Any]) -> dict[str, Any]:
    """A schedule, in the form of `get_cron_schedule`."""
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
