"""Commands that maintain a database."""

from __future__ import annotations

from typing import Any

import click

from cloaca._cli._options import COMMAND_SETTINGS, Database, database_options
from cloaca._cli._output import fail, print_json, say
from cloaca._values.exceptions import MigrationError

# Microseconds in a day.
_DAY_US = 86_400 * 1_000_000


class _Days(click.FloatRange):
    """A number of days, at most a thousand years. Refuses NaN, which `FloatRange` accepts."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        days: float = super().convert(value, param, ctx)
        if days != days:
            self.fail(f"{value!r} is not a number of days", param, ctx)
        return days


_DAYS = _Days(0, 365_000)


@click.group(context_settings=COMMAND_SETTINGS)
def db() -> None:
    """Migrate, check and clean up a database."""


@db.command(context_settings=COMMAND_SETTINGS)
@database_options
def migrate(database: Database, as_json: bool) -> None:
    """Bring a database's schema up to date. A missing SQLite file is created."""
    inspector = database.inspect(migrate=True)
    from cloaca._core import schema_state

    current = schema_state(database.url, database.schema).current
    if as_json:
        print_json({"database": inspector.location, "version": current, "pending": []})
    else:
        say(f"{inspector.location} has the schema version {current}")


@db.command(context_settings=COMMAND_SETTINGS)
@database_options
def status(database: Database, as_json: bool) -> None:
    """Show the version of a database's schema.

    Ends with status 1 if the database must be migrated, or if a newer program has migrated it.
    """
    from cloaca._core import schema_state

    state = schema_state(database.url, database.schema)
    current, pending = state.current, state.pending
    newer = None if pending else _newer(database)
    if as_json:
        is_current = not pending and newer is None
        print_json({"version": current, "pending": pending, "up_to_date": is_current})
    elif pending:
        say(f"schema version {current or 'none'}, pending migrations: {', '.join(pending)}")
    elif newer is None:
        say(f"schema version {current}, up to date")
    if newer is not None:
        raise newer
    if pending:
        fail("the database must be migrated\nhint: run `cloaca db migrate`")


def _newer(database: Database) -> MigrationError | None:
    """Returns the error for a database that a newer program has migrated, or `None`."""
    try:
        database.inspect()  # refuses such a database
    except MigrationError as error:
        return error
    return None


@db.command(context_settings=COMMAND_SETTINGS)
@click.option(
    "--older-than",
    "days",
    type=_DAYS,
    default=30,
    show_default=True,
    metavar="DAYS",
    help="Minimum age of the executions to delete, in days.",
)
@database_options
def prune(database: Database, as_json: bool, days: float) -> None:
    """Delete ended executions with all their data, in small batches."""
    from cloaca._runner.inspection_methods import prune_all

    deleted = prune_all(database.inspect(), round(days * _DAY_US))
    if as_json:
        print_json({"deleted": deleted, "older_than_days": days})
    else:
        executions = "1 execution" if deleted == 1 else f"{deleted} executions"
        say(f"deleted {executions} that ended more than {days:g} days ago")


@db.command(context_settings=COMMAND_SETTINGS)
@database_options
def check(database: Database, as_json: bool) -> None:
    """Check that a database is sound, and show its unused space. Ends with status 1 if unsound."""
    inspector = database.inspect()
    health = inspector.reads.check()
    problems = health.problems
    if as_json:
        print_json(
            {
                "database": inspector.location,
                "sound": not problems,
                "problems": problems,
                "size_bytes": health.size_bytes,
                "free_bytes": health.free_bytes,
                "advice": health.advice,
                "schema_version": health.schema_version,
            }
        )
    else:
        say(inspector.location)
        size, free = health.size_bytes / 2**20, health.free_bytes / 2**20
        say(f"size {size:.1f} MiB, of which {free:.1f} MiB are unused")
        for line in health.advice:
            say(f"advice: {line}")
        if not problems:
            say("no problem was found")
    if problems:
        fail("the database is not sound: " + "; ".join(problems))
