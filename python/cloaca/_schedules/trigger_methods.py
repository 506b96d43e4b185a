"""Methods of a runner that read triggers and control them."""

from __future__ import annotations

from cloaca._schedules.cron_methods import tick_dict, when, window
from cloaca._values.exceptions import ScheduleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._core import Runner, Schedules


class TriggerMethods:
    """The part of `DefaultRunner` that deals with triggers. Private."""

    _core: Runner
    _schedules: Schedules

    def list_trigger_schedules(
        self,
        enabled_only: bool | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[dict[str, Any]]:
        """The triggers of programs on this database, oldest first.

        Args:
            enabled_only: Whether to leave out those that are switched off.
            limit: Maximum number of rows.
            offset: Number of the oldest rows to skip.

        Returns:
            Dicts in the form of `get_trigger_schedule`.

        Since 1.0.
        """
        rows = self._core.reads.triggers(bool(enabled_only), *window(limit, offset))
        return [told_trigger(row) for row in rows]

    def get_trigger_schedule(self, name: str) -> dict[str, Any] | None:
        """A trigger.

        Args:
            name: Its name.

        Returns:
            `None` if it does not exist, else a dict with `id`, `name` (also as `trigger_name`),
            `workflow_name`, `poll_interval` (seconds) and `poll_interval_ms`, or `cron_expression`
            and `timezone`, or `after` (a workflow) and `after_status` (a list), each `None` where
            it does not apply, `allow_concurrent`, `enabled`, `last_error`, and times as RFC 3339
            text or `None`: `next_poll_at`, `last_poll_at`, `last_fired_at`, `created_at`,
            `updated_at`.

        Since 1.0.
        """
        row = self._row(name)
        return None if row is None else told_trigger(row)

    def set_trigger_enabled(self, name: str, enabled: bool) -> None:
        """Switch a trigger on or off, for all runners.

        Args:
            name: Its name.
            enabled: Whether it is polled.

        Raises:
            ScheduleError: There is no such trigger. It is a `ValueError`.

        Since 1.0.
        """
        if "\0" in _name(name):
            raise _unknown(name)
        self._schedules.set_trigger_enabled(name, bool(enabled))

    def get_trigger_execution_history(
        self, name: str, limit: int | None = None, offset: int | None = None
    ) -> list[dict[str, Any]]:
        """The polls of a trigger that had consequences, newest first; none for an unknown trigger.

        Args:
            name: Its name.
            limit: Maximum number of rows.
            offset: Number of the newest rows to skip.

        Returns:
            Dicts with `id`, `trigger_name`, `schedule_id`, `scheduled_time` (when the poll began),
            `claimed_at`, `outcome` (`fired`, `overlapped`: an execution was open, `skipped`: the
            workflow was not known, `failed`: the function raised), `detail` (the exception),
            `workflow_execution_id` (also as `pipeline_execution_id`), `created_at`, `updated_at`.

        Since 1.0.
        """
        row = self._row(name)
        if row is None:
            return []
        polls = self._core.reads.schedule_history(row["id"], *window(limit, offset))
        return [{"trigger_name": name, **tick_dict(poll)} for poll in polls]

    def _row(self, name: str) -> dict[str, Any] | None:
        # No trigger has such a name, and PostgreSQL cannot store such text.
        return None if "\0" in _name(name) else self._core.reads.trigger(name)


def _unknown(name: str) -> ScheduleError:
    return ScheduleError(
        f"there is no trigger '{name[:80]}'",
        code="schedule_not_found",
        hint="a trigger is stored when a runner starts in a program that has it",
    )


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise ScheduleError(f"a trigger's name must be a string, not {type(name).__name__}")
    return name


def told_trigger(row: dict[str, Any]) -> dict[str, Any]:
    """A trigger, as `get_trigger_schedule` gives it."""
    interval_us = row["interval_us"]
    after: tuple[str | None, list[str] | None] = row["after"] or (None, None)
    return {
        "id": row["id"],
        "name": row["name"],
        "trigger_name": row["name"],
        "workflow_name": row["workflow"],
        "poll_interval": None if interval_us is None else interval_us / 1_000_000,
        "poll_interval_ms": None if interval_us is None else interval_us / 1_000,
        "cron_expression": row["expression"],
        "timezone": None if row["expression"] is None else row["timezone"],
        "after": after[0],
        "after_status": after[1],
        "allow_concurrent": row["overlap"] == "allow",
        "enabled": row["enabled"],
        "last_error": row["last_error"],
        "next_poll_at": when(row["next_us"]),
        "last_poll_at": when(row["last_us"]),
        "last_fired_at": when(row["fired_us"]),
        "created_at": when(row["created_us"]),
        "updated_at": when(row["updated_us"]),
    }
