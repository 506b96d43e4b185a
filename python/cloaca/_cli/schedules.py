"""Commands that show schedules and triggers, and switch them on and off, without a runner."""

from __future__ import annotations

import click

from cloaca._cli._ids import ambiguous, is_whole, means, shorten
from cloaca._cli._options import COMMAND_SETTINGS, VERBOSE, Database, ListingGroup, database_options
from cloaca._cli._output import ago, is_terminal, note, print_json, print_table, say
from cloaca._values.exceptions import CloacaException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from cloaca._core import Reads, Schedules

# The limit for a listing of all rows. No database has so many rows.
_MAX = 2**62


def _schedules(database: Database) -> Schedules:
    from cloaca._core import Schedules

    return Schedules(database.inspect())


def _rows(reads: Reads, *, enabled_only: bool = False) -> list[dict[str, Any]]:
    """Returns the rows of schedules, then those of triggers; the oldest of each kind comes first.

    Each row has a `kind`: `schedule` or `trigger`.
    """
    schedules = reads.schedules(enabled_only, _MAX, 0)
    triggers = reads.triggers(enabled_only, _MAX, 0)
    return [{"kind": "schedule", **row} for row in schedules] + [
        {"kind": "trigger", **row} for row in triggers
    ]


def find(reads: Reads, text: str) -> dict[str, Any] | None:
    """Returns the schedule or trigger that a text refers to; `None` if the text matches none.

    The text is an id, the beginning of an id, a short id, the name of a trigger, or a schedule's
    instance name or workflow.

    Raises:
        click.ClickException: The text matches several.
    """
    rows = _rows(reads)
    found = [row for row in rows if row["id"] == text.lower()]
    found = found or [row for row in rows if text in _names(row)]
    found = found or [row for row in rows if means(text, row["id"])]
    if len(found) > 1:
        candidates = [f"{row['id']}  {row['kind']}  {_name(row)}  {_when(row)}" for row in found]
        raise ambiguous("schedules or triggers", text, candidates)
    return found[0] if found else None


def _schedule_or_trigger(database: Database, text: str) -> dict[str, Any]:
    """Returns the schedule or trigger that a text refers to.

    Raises:
        click.ClickException: The text matches several, or none.
        ScheduleError: The text is a whole id, and no schedule has this id.
    """
    reads = database.inspect().reads
    row = find(reads, text)
    if row is not None:
        return row
    if is_whole(text):
        return {"kind": "schedule", **reads.schedule(text)}  # raises: no schedule has this id
    raise click.ClickException(
        f"there is no schedule or trigger '{text}'\nhint: `cloaca schedules` lists them"
    )


def _schedule(database: Database, text: str, action: str) -> dict[str, Any]:
    """Returns the schedule that a text refers to.

    Raises:
        click.ClickException: The text matches none, several, or a trigger.
    """
    row = _schedule_or_trigger(database, text)
    if row["kind"] == "trigger":
        raise click.ClickException(
            f"'{row['name']}' is a trigger: it cannot be {action}\n"
            f"hint: triggers can only be switched on and off: `cloaca schedules disable "
            f"{row['name']}`"
        )
    return row


def _names(row: dict[str, Any]) -> set[str]:
    if row["kind"] == "trigger":
        return {row["name"]}
    return {name for name in (row["instance"], row["workflow"]) if name}


def _name(row: dict[str, Any]) -> str:
    return row["name"] if row["kind"] == "trigger" else row["instance"] or ""


def _when(row: dict[str, Any]) -> str:
    """Describes when a schedule or trigger fires: its expression, interval or `after=` workflow."""
    if row["after"] is not None:
        workflow, statuses = row["after"]
        return f"after {workflow}: {', '.join(statuses)}"
    if row["expression"] is None:
        return f"every {row['interval_us'] / 1_000_000:g} s"
    zone = "" if row["timezone"] == "UTC" else f" {row['timezone']}"
    return f"{row['expression']}{zone}"


def _document(row: dict[str, Any]) -> dict[str, Any]:
    if row["kind"] == "trigger":
        from cloaca._schedules.trigger_methods import trigger_dict

        return {"kind": "trigger", **trigger_dict(row)}
    from cloaca._schedules.cron_methods import schedule_dict

    return {"kind": "schedule", **schedule_dict(row)}


def _state(row: dict[str, Any]) -> str:
    return "enabled" if row["enabled"] else "disabled"


def _instant(us: int | None) -> datetime | None:
    from cloaca._values.duration import us_to_instant

    return None if us is None else us_to_instant(us)


def _time_text(time: str | None) -> str:
    """Formats an RFC 3339 time for tables: in UTC, to the second."""
    return "" if time is None else time[:19].replace("T", " ")


def _us_text(us: int | None) -> str:
    time = _instant(us)
    return "" if time is None else time.strftime("%Y-%m-%d %H:%M:%S")


@click.group(cls=ListingGroup, context_settings=COMMAND_SETTINGS)
def schedules() -> None:
    """Inspect schedules and triggers, switch them on and off; `list` if no command is given."""


@schedules.command("list", context_settings=COMMAND_SETTINGS)
@click.option(
    "--enabled", "enabled_only", is_flag=True, help="Only schedules and triggers that are enabled."
)
@VERBOSE
@database_options
def list_command(database: Database, as_json: bool, enabled_only: bool, verbose: bool) -> None:
    """List the schedules and triggers of a database, oldest first."""
    rows = _rows(database.inspect().reads, enabled_only=enabled_only)
    if as_json:
        print_json([_document(row) for row in rows])
        return
    if not rows:
        note(
            "no schedule or trigger is enabled: `cloaca schedules list` lists all"
            if enabled_only
            else "there are no schedules and no triggers: a program makes a schedule with "
            "runner.register_cron_workflow, and a trigger with @cloaca.trigger"
        )
        return
    crons = [row for row in rows if row["kind"] == "schedule"]
    triggers = [row for row in rows if row["kind"] == "trigger"]
    ids = shorten(row["id"] for row in rows)
    if is_terminal() and not verbose:
        if crons:
            print_table(
                ("id", "workflow", "when", "next", "last"),
                (
                    [ids[row["id"]], row["workflow"], _when(row), _next(row), _last(row)]
                    for row in crons
                ),
                cut=("workflow", "when"),
            )
        if crons and triggers:
            say("")
        if triggers:
            print_table(
                ("id", "trigger", "workflow", "polled", "next", "last fired"),
                (
                    [
                        ids[row["id"]],
                        row["name"],
                        row["workflow"],
                        _when(row),
                        _next(row),
                        _last(row),
                    ]
                    for row in triggers
                ),
                cut=("workflow", "trigger", "polled"),
            )
        return
    if crons:
        print_table(
            ("id", "workflow", "expression", "timezone", "state", "next", "last"),
            (
                [
                    row["id"],
                    row["workflow"],
                    row["expression"],
                    row["timezone"],
                    _state(row),
                    _us_text(row["next_us"]),
                    _us_text(row["fired_us"]),
                ]
                for row in crons
            ),
            verbose=True,
        )
    if triggers:
        print_table(
            ("id", "trigger", "workflow", "polled", "state", "next", "fired"),
            (
                [
                    row["id"],
                    row["name"],
                    row["workflow"],
                    _when(row),
                    _state(row),
                    _us_text(row["next_us"]),
                    _us_text(row["fired_us"]),
                ]
                for row in triggers
            ),
            verbose=True,
        )


def _next(row: dict[str, Any]) -> str:
    return ago(_instant(row["next_us"])) if row["enabled"] else "disabled"


def _last(row: dict[str, Any]) -> str:
    return ago(_instant(row["fired_us"])) or "never"


@schedules.command(context_settings=COMMAND_SETTINGS)
@click.argument("id")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(0, 1000),
    default=10,
    show_default=True,
    help="Number of recent ticks to show.",
)
@database_options
def show(database: Database, as_json: bool, id: str, limit: int) -> None:
    """Show a schedule with its last ticks and their results, or a trigger with its last polls.

    ID may also be the beginning of an id, or a name.
    """
    from cloaca._schedules.cron_methods import tick_dict

    row = _schedule_or_trigger(database, id)
    schedule = _document(row)
    reads = database.inspect().reads
    history = [tick_dict(tick) for tick in reads.schedule_history(row["id"], limit, 0)]
    if as_json:
        print_json({**schedule, "history": history})
        return
    for name, value in schedule.items():
        if value not in (None, "", {}):
            say(f"{name}  {value}")
    if not history:
        return
    started = [one["workflow_execution_id"] for one in history if one["workflow_execution_id"]]
    ids = shorten(started) if is_terminal() else {}
    print_table(
        ("due", "outcome", "execution", "detail"),
        (
            [
                _time_text(one["scheduled_time"]),
                one["outcome"],
                ids.get(one["workflow_execution_id"]) or one["workflow_execution_id"] or "",
                one["detail"] or "",
            ]
            for one in history
        ),
        cut=("detail",),
    )


@schedules.command(context_settings=COMMAND_SETTINGS)
@click.argument("what", metavar="ID|EXPRESSION")
@click.option("--timezone", metavar="ZONE", help="The time zone of an expression; UTC if omitted.")
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, 1000),
    default=5,
    show_default=True,
    help="Number of times to show.",
)
@database_options
def preview(database: Database, as_json: bool, what: str, timezone: str | None, limit: int) -> None:
    """Show the next times of a schedule or of a cron expression, which needs no database."""
    from cloaca._schedules.cron import cron_preview

    expression = what
    if _is_reference(database, what):
        if timezone is not None:
            raise click.UsageError("a schedule has its own zone: leave --timezone out")
        row = _schedule_or_trigger(database, what)
        if row["expression"] is None:
            raise click.ClickException(
                f"trigger '{row['name']}' has no expression: it is called {_when(row)}"
            )
        expression, timezone = row["expression"], row["timezone"]
    times = cron_preview(expression, timezone or "UTC", limit)
    if as_json:
        print_json([time.isoformat() for time in times])
        return
    for time in times:
        say(time.isoformat(sep=" "))


def _is_reference(database: Database, text: str) -> bool:
    """Returns whether a text refers to a schedule or trigger, not a cron expression.

    An expression has several words or begins with `@`. An instance name may look the same, so such
    a text is looked up as a name only if it is not a valid expression. Without a database, only a
    whole id is a reference.
    """
    if is_whole(text):
        return True
    if not database.is_given:
        return False
    if not (text.startswith("@") or len(text.split()) > 1):
        return True
    from cloaca._schedules.cron import cron_preview

    try:
        cron_preview(text, "UTC", 1)
        return False
    except CloacaException:
        pass
    try:
        return find(database.inspect().reads, text) is not None
    except CloacaException:
        return False  # the database cannot be read; the caller reports the invalid expression


def _switch(database: Database, as_json: bool, id: str, enabled: bool) -> None:
    row = _schedule_or_trigger(database, id)
    changes = _schedules(database)
    if row["kind"] == "trigger":
        changed = changes.set_trigger_enabled(row["name"], enabled)
    else:
        changed = changes.set_enabled(row["id"], enabled)
    changed = {"kind": row["kind"], **changed}
    if as_json:
        print_json(_document(changed))
        return
    next_time = _us_text(changed["next_us"]) if enabled else ""
    next_text = f", next at {next_time} UTC" if next_time else ""
    say(f"{row['id']}  {_state(changed)}{next_text}")


@schedules.command(context_settings=COMMAND_SETTINGS)
@click.argument("id")
@database_options
def enable(database: Database, as_json: bool, id: str) -> None:
    """Switch a schedule or a trigger on. Ticks that were due while it was off do not fire."""
    _switch(database, as_json, id, True)


@schedules.command(context_settings=COMMAND_SETTINGS)
@click.argument("id")
@database_options
def disable(database: Database, as_json: bool, id: str) -> None:
    """Switch a schedule or a trigger off, for all runners."""
    _switch(database, as_json, id, False)


@schedules.command("run-now", context_settings=COMMAND_SETTINGS)
@click.argument("id")
@database_options
def run_now(database: Database, as_json: bool, id: str) -> None:
    """Submit a schedule's workflow once, now. A runner that has the workflow executes it."""
    id = _schedule(database, id, "run by hand")["id"]
    execution = _schedules(database).run_now(id)
    if as_json:
        print_json({"schedule_id": id, "execution_id": execution})
    else:
        say(execution)


@schedules.command(context_settings=COMMAND_SETTINGS)
@click.argument("id")
@database_options
def delete(database: Database, as_json: bool, id: str) -> None:
    """Delete a schedule. Its history stays readable until it is pruned."""
    id = _schedule(database, id, "deleted")["id"]
    _schedules(database).delete(id)
    if as_json:
        print_json({"deleted": id})
    else:
        say(f"{id}  deleted")
