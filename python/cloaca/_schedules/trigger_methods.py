"""Methods of a runner that read triggers and control them."""

from __future__ import annotations

from cloaca._schedules.cron_methods import tick_dict, when, window
from cloaca._values.arguments import check_flag
from cloaca._values.exceptions import ScheduleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._core import Runner, Schedules


class TriggerMethods:
    """The part of `DefaultRunner` that reads and controls triggers. Private."""

    _core: Runner
    _schedules: Schedules

    def list_trigger_schedules(
        self,
        enabled_only: bool | None = None,
        limit: int | None = None,
        offset: int | None = None,
    ) -> list[dict[str, Any]]:
        """Return the triggers that programs have registered in this database, oldest first.

        Args:
            enabled_only: Whether to leave out triggers that are switched off.
            limit: Maximum number of triggers; no limit if omitted.
            offset: Number of the oldest triggers to leave out; 0 if omitted.

        Returns:
            Dicts in the form of `get_trigger_schedule`.

        Raises:
            ConfigurationError: An argument is not valid. The error is a `ValueError`.

        Example:
            >>> [trigger["name"] for trigger in runner.list_trigger_schedules()]

        Since 1.0.
        """
        wanted = False if enabled_only is None else check_flag("enabled_only", enabled_only)
        rows = self._core.reads.triggers(wanted, *window(limit, offset))
        return [trigger_dict(row) for row in rows]

    def get_trigger_schedule(self, name: str) -> dict[str, Any] | None:
        """Return a trigger.

        Args:
            name: The name of the trigger.

        Returns:
            `None` if there is no such trigger, else a dict with `id`, `name` (also as
            `trigger_name`), `workflow_name`, `allow_concurrent`, `enabled` and `last_error`. It
            also has `poll_interval` (seconds), `poll_interval_ms`, `cron_expression`, `timezone`,
            `after` (a workflow) and `after_status` (a list); each is `None` if it does not apply.
            Times are RFC 3339 text or `None`: `next_poll_at`, `last_poll_at`, `last_fired_at`,
            `created_at`, `updated_at`.

        Raises:
            ScheduleError: The name is not a string. The error is a `ValueError`.

        Example:
            >>> runner.get_trigger_schedule("new_file")["last_fired_at"]

        Since 1.0.
        """
        row = self._row(name)
        return None if row is None else trigger_dict(row)

    def set_trigger_enabled(self, name: str, enabled: bool) -> None:
        """Switch a trigger on or off, for all runners.

        Args:
            name: The name of the trigger.
            enabled: Whether the trigger's function is called.

        Raises:
            ScheduleError: There is no such trigger. The error is a `ValueError`.

        Example:
            >>> runner.set_trigger_enabled("new_file", False)

        Since 1.0.
        """
        wanted = check_flag("enabled", enabled, ScheduleError)
        if "\0" in _name(name):
            raise _unknown(name)
        self._schedules.set_trigger_enabled(name, wanted)

    def get_trigger_execution_history(
        self, name: str, limit: int | None = None, offset: int | None = None
    ) -> list[dict[str, Any]]:
        """Return the polls of a trigger with their outcomes, newest first.

        A poll that returned `skip()` has no entry. A poll that fired several times with `fire_many`
        has one entry for each execution. For a trigger with `after=`, each call of the function
        counts as a poll.

        Args:
            name: The name of the trigger.
            limit: Maximum number of entries; no limit if omitted.
            offset: Number of the newest entries to leave out; 0 if omitted.

        Returns:
            Dicts with `id`, `trigger_name`, `schedule_id`, `scheduled_time` (the start of the
            poll), `claimed_at`, `outcome`, `detail` (the exception, or another explanation of the
            outcome), `workflow_execution_id` (also as `pipeline_execution_id`), `created_at`,
            `updated_at`. The outcome is `fired`, `overlapped` (an execution was open), `skipped`
            (the workflow was not known, or an execution already had the key) or `failed` (the
            function raised an exception). The list is empty for an unknown trigger.

        Raises:
            ScheduleError: The name is not a string. The error is a `ValueError`.
            ConfigurationError: `limit` or `offset` is not valid. The error is a `ValueError`.

        Example:
            >>> for poll in runner.get_trigger_execution_history("new_file", limit=10):
            ...     print(poll["scheduled_time"], poll["outcome"], poll["detail"])

        Since 1.0.
        """
        row = self._row(name)
        if row is None:
            return []
        polls = self._core.reads.schedule_history(row["id"], *window(limit, offset))
        return [{"trigger_name": name, **tick_dict(poll)} for poll in polls]

    def _row(self, name: str) -> dict[str, Any] | None:
        # No trigger has a name with NUL, and PostgreSQL cannot store NUL in text.
        return None if "\0" in _name(name) else self._core.reads.trigger(name)


def _unknown(name: str) -> ScheduleError:
    return ScheduleError(
        f"there is no trigger '{name[:80]}'",
        code="schedule_not_found",
        hint="start a runner in a program that defines the trigger; the runner stores it",
    )


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise ScheduleError(f"a trigger's name must be a string, not {type(name).__name__}")
    return name


def trigger_dict(row: dict[str, Any]) -> dict[str, Any]:
    """Returns a trigger, in the form of `get_trigger_schedule`."""
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
