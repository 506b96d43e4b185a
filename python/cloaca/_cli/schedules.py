"""Commands that read and switch schedules, without running any task."""

from __future__ import annotations

import click

from cloaca._cli._options import HELP_NAMES, Database, ListingGroup, database_options
from cloaca._cli._output import print_json, print_table, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._core import Schedules

_MAX = 2**62


def _schedules(database: Database) -> Schedules:
    from cloaca._core import Schedules

    return Schedules(database.inspect())


def _state(schedule: dict[str, Any]) -> str:
    return "enabled" if schedule["enabled"] else "disabled"


def _told(time: str | None) -> str:
    """RFC 3339 text as tables show it: in UTC, to the second."""
    return "" if time is None else time[:19].replace("T", " ")


@click.group(cls=ListingGroup, context_settings=HELP_NAMES)
def schedules() -> None:
    """Inspect schedules, switch them on and off; `list` if no command is given."""


@schedules.command("list", context_settings=HELP_NAMES)
@click.option("--enabled", "enabled_only", is_flag=True, help="Only those that are enabled.")
@database_options
def list_command(database: Database, as_json: bool, enabled_only: bool) -> None:
    """List the schedules of a database, oldest first."""
    from cloaca._schedules.cron_methods import told_schedule

    rows = database.inspect().reads.schedules(enabled_only, _MAX, 0)
    found = [told_schedule(row) for row in rows]
    if as_json:
        print_json(found)
        return
    print_table(
        ("id", "workflow", "expression", "timezone", "state", "next", "last"),
        (
            [
                schedule["id"],
                schedule["workflow_name"],
                schedule["cron_expression"],
                schedule["timezone"],
                _state(schedule),
                _told(schedule["next_run_at"]),
                _told(schedule["last_run_at"]),
            ]
            for schedule in found
        ),
    )


@schedules.command(context_settings=HELP_NAMES)
@click.argument("id")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(0, 1000),
    default=10,
    show_default=True,
    help="Number of its last ticks to show.",
)
@database_options
def show(database: Database, as_json: bool, id: str, limit: int) -> None:
    """Show a schedule with the results of its last ticks."""
    from cloaca._schedules.cron_methods import tick_dict, told_schedule

    reads = database.inspect().reads
    schedule = told_schedule(reads.schedule(id))
    history = [tick_dict(tick) for tick in reads.schedule_history(id, limit, 0)]
    if as_json:
        print_json({**schedule, "history": history})
        return
    for name, value in schedule.items():
        if value not in (None, "", {}):
            say(f"{name}  {value}")
    if history:
        print_table(
            ("due", "outcome", "execution", "detail"),
            (
                [
                    _told(one["scheduled_time"]),
                    one["outcome"],
                    one["workflow_execution_id"] or "",
                    one["detail"] or "",
                ]
                for one in history
            ),
        )


@schedules.command(context_settings=HELP_NAMES)
@click.argument("what", metavar="ID|EXPRESSION")
@click.option("--timezone", metavar="ZONE", help="The time zone of an expression; UTC if omitted.")
@click.option(
    "-n", "--limit", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many."
)
@database_options
def preview(database: Database, as_json: bool, what: str, timezone: str | None, limit: int) -> None:
    """Show the next times of a schedule, or of a cron expression, which needs no database."""
    from cloaca._schedules.cron import cron_preview

    expression = what
    if _is_id(what):
        if timezone is not None:
            raise click.UsageError("a schedule has its own zone: leave --timezone out")
        row = database.inspect().reads.schedule(what)
        expression, timezone = row["expression"], row["timezone"]
    times = cron_preview(expression, timezone or "UTC", limit)
    if as_json:
        print_json([time.isoformat() for time in times])
        return
    for time in times:
        say(time.isoformat(sep=" "))


def _is_id(text: str) -> bool:
    from uuid import UUID

    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _switch(database: Database, as_json: bool, id: str, enabled: bool) -> None:
    from cloaca._schedules.cron_methods import told_schedule

    schedule = told_schedule(_schedules(database).set_enabled(id, enabled))
    if as_json:
        print_json(schedule)
        return
    next_time = f", next at {_told(schedule['next_run_at'])} UTC" if enabled else ""
    say(f"{id}  {_state(schedule)}{next_time}")


@schedules.command(context_settings=HELP_NAMES)
@click.argument("id")
@database_options
def enable(database: Database, as_json: bool, id: str) -> None:
    """Switch a schedule on. Ticks that were due while it was off are not caught up."""
    _switch(database, as_json, id, True)


@schedules.command(context_settings=HELP_NAMES)
@click.argument("id")
@database_options
def disable(database: Database, as_json: bool, id: str) -> None:
    """Switch a schedule off, for all runners."""
    _switch(database, as_json, id, False)


@schedules.command("run-now", context_settings=HELP_NAMES)
@click.argument("id")
@database_options
def run_now(database: Database, as_json: bool, id: str) -> None:
    """Start a schedule's workflow once, now. A runner that has the workflow executes it."""
    execution = _schedules(database).run_now(id)
    if as_json:
        print_json({"schedule_id": id, "execution_id": execution})
    else:
        say(execution)


@schedules.command(context_settings=HELP_NAMES)
@click.argument("id")
@database_options
def delete(database: Database, as_json: bool, id: str) -> None:
    """Delete a schedule. Its history stays readable until it is pruned."""
    _schedules(database).delete(id)
    if as_json:
        print_json({"deleted": id})
    else:
        say(f"{id}  deleted")
