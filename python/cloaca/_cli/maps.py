"""Commands that list the items of a map and change a running map, without starting a runner."""

from __future__ import annotations

import click

from cloaca._cli._ids import execution_id
from cloaca._cli._options import COMMAND_SETTINGS, VERBOSE, Database, database_options
from cloaca._cli._output import (
    duration_text,
    is_terminal,
    iso,
    note,
    one_line,
    print_json,
    print_table,
    say,
    short_error,
    time_text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._executions.items import Item

_STATES = ("Pending", "Ready", "Running", "Completed", "Failed", "Skipped", "Cancelled")


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("id", metavar="ID")
@click.argument("task")
@click.option(
    "--status",
    type=click.Choice(_STATES, case_sensitive=False),
    help="Only items in this state. Ready items wait for another attempt.",
)
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    help="Maximum number of items.",
)
@click.option(
    "--cursor",
    metavar="CURSOR",
    help="Continue after an earlier page, with the cursor that it printed.",
)
@VERBOSE
@database_options
def items(
    database: Database,
    as_json: bool,
    id: str,
    task: str,
    status: str | None,
    limit: int,
    cursor: str | None,
    verbose: bool,
) -> None:
    """List the items of a map in the order of its list.

    TASK is the task with `over=`.
    """
    import json

    from cloaca._runner.map_methods import item_page

    reads = database.inspect().reads
    page = item_page(reads, execution_id(reads, id), task, status, cursor, limit)
    if as_json:
        document = [item_document(item) for item in page]
        print_json({"items": document, "next_cursor": page.next_cursor})
        return
    if not page.items:
        which = "" if status is None else f" {status.lower()}"
        note(f"task '{task}' has no{which} items")
        return
    is_short = is_terminal() and not verbose
    print_table(
        ("item", "status", "attempts", "started", "duration", "result"),
        (
            [
                str(item.index),
                str(item.status),
                str(item.attempts),
                time_text(item.started_at),
                duration_text(_span(item)),
                _result(item, json.dumps(item.value, ensure_ascii=False), is_short),
            ]
            for item in page
        ),
        cut=("result",),
        verbose=verbose,
    )
    if page.next_cursor:
        note(f"there are more: --cursor {page.next_cursor}")


def _span(item: Item) -> Any:
    if item.started_at is None or item.ended_at is None:
        return None
    return item.ended_at - item.started_at


def _result(item: Item, value: str, is_short: bool) -> str:
    """Returns the value of a completed item, otherwise the item's error."""
    if item.status == "Completed":
        return value
    return one_line(short_error(item.error)) if is_short else short_error(item.error)


def item_document(item: Item) -> dict[str, Any]:
    """Returns an item for `--json`."""
    error = item.error
    return {
        "index": item.index,
        "status": str(item.status),
        "attempts": item.attempts,
        "started_at": iso(item.started_at),
        "ended_at": iso(item.ended_at),
        "value": item.value,
        "error": error
        and {"type": error.type, "message": error.message, "traceback": error.traceback},
    }


@click.command("set-map", context_settings=COMMAND_SETTINGS)
@click.argument("id", metavar="ID")
@click.argument("task")
@click.option(
    "--parallel", type=click.IntRange(1, 2**32 - 1), help="Maximum number of running items."
)
@click.option("--no-limit", is_flag=True, help="Run as many items as there are free workers.")
@database_options
def set_map(
    database: Database, as_json: bool, id: str, task: str, parallel: int | None, no_limit: bool
) -> None:
    """Change how many items of a running map run at once, on all runners together.

    TASK is the task with `over=`. Running items continue.
    """
    if (parallel is None) != no_limit:
        raise click.UsageError("give either --parallel or --no-limit")
    reads = database.inspect().reads
    execution = execution_id(reads, id)
    reads.set_map(execution, task, parallel)
    if as_json:
        print_json({"execution_id": execution, "task_id": task, "parallel": parallel})
        return
    bound = "without a limit" if parallel is None else f"parallel {parallel}"
    say(f"{execution} {task} {bound}")
