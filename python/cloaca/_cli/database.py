"""Commands that maintain a database."""

from __future__ import annotations

import click

from cloaca._cli._options import HELP_NAMES, Database, database_options
from cloaca._cli._output import fail, print_json, say

_DAY_US = 86_400 * 1_000_000


@click.group(context_settings=HELP_NAMES)
def db() -> None:
    """Migrate, check and clean up a database."""


@db.command(context_settings=HELP_NAMES)
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


@db.command(context_settings=HELP_NAMES)
@database_options
def status(database: Database, as_json: bool) -> None:
    """Show the version of a database's schema. Ends with status 1 if it must be migrated."""
    from cloaca._core import schema_state

    state = schema_state(database.url, database.schema)
    current, pending = state.current, state.pending
    if as_json:
        print_json({"version": current, "pending": pending, "up_to_date": not pending})
    elif pending:
        say(f"schema version {current or 'none'}, lacks {', '.join(pending)}")
    else:
        say(f"schema version {current}, up to date")
    if pending:
        fail("the database must be migrated\nhint: run `cloaca db migrate`")


@db.command(context_settings=HELP_NAMES)
@click.option(
    "--older-than",
    "days",
    type=click.FloatRange(0),
    default=30,
    show_default=True,
    metavar="DAYS",
    help="Minimum age of the executions to delete, in days.",
)
@database_options
def prune(database: Database, as_json: bool, days: float) -> None:
    """Delete ended executions with all that belongs to them, in small batches."""
    from cloaca._runner.inspection_methods import prune_all

    deleted = prune_all(database.inspect(), round(days * _DAY_US))
    if as_json:
        print_json({"deleted": deleted, "older_than_days": days})
    else:
        say(f"deleted {deleted} executions that ended more than {days:g} days ago")


@db.command(context_settings=HELP_NAMES)
@database_options
def check(database: Database, as_json: bool) -> None:
    """Check that a database is sound, and how much space is unused. Status 1 if it is not sound."""
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
