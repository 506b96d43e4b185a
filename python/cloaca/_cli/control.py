"""Commands that control executions without starting a runner."""

from __future__ import annotations

import click

from cloaca._cli._options import HELP_NAMES, Database, database_options
from cloaca._cli._output import print_json, say

_DONE = {"cancel": "cancelled", "pause": "paused", "resume": "resumed", "retry": "runs again"}


def _control(
    database: Database, as_json: bool, id: str, action: str, from_task: str | None = None
) -> None:
    status = database.inspect().control(id, action, from_task)
    if as_json:
        print_json({"execution_id": id, "action": action, "status": status})
    else:
        say(f"{id}  {_DONE[action]}: {status}")


@click.command(context_settings=HELP_NAMES)
@click.argument("id")
@database_options
def cancel(database: Database, as_json: bool, id: str) -> None:
    """Cancel an execution: no more of its tasks start, and running coroutines are cancelled."""
    _control(database, as_json, id, "cancel")


@click.command(context_settings=HELP_NAMES)
@click.argument("id")
@database_options
def pause(database: Database, as_json: bool, id: str) -> None:
    """Pause an execution: no new tasks start, running ones finish, timers stop."""
    _control(database, as_json, id, "pause")


@click.command(context_settings=HELP_NAMES)
@click.argument("id")
@database_options
def resume(database: Database, as_json: bool, id: str) -> None:
    """Resume a paused execution."""
    _control(database, as_json, id, "resume")


@click.command(context_settings=HELP_NAMES)
@click.argument("id")
@click.option(
    "--from-task", metavar="TASK", help="Also run this task and all its descendants again."
)
@database_options
def retry(database: Database, as_json: bool, id: str, from_task: str | None) -> None:
    """Run the failed tasks of an ended execution again; completed ones keep their results."""
    _control(database, as_json, id, "retry", from_task)
