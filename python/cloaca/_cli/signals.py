"""Commands that send signals, list open waits and decide approvals, without starting a runner."""

from __future__ import annotations

import click

from cloaca._cli._ids import execution_id, shorten
from cloaca._cli._options import COMMAND_SETTINGS, Database, database_options
from cloaca._cli._output import ago, is_terminal, note, print_json, print_table, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from cloaca._executions.wait import Wait

_KINDS = click.Choice(["signal", "approval", "timer", "child", "cancel"])


def _data(context: click.Context, parameter: click.Parameter, text: str | None) -> str:
    """Checks that an argument is JSON, and returns it; returns `null` for an omitted argument."""
    if text is None:
        return "null"
    import json

    try:
        json.loads(text)
    except ValueError as error:
        raise click.BadParameter(
            f"not valid JSON: {error}; a string needs quotes: '\"hello\"'"
        ) from None
    return text


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("name")
@click.argument("data", required=False, metavar="[JSON]", callback=_data)
@click.option("--key", metavar="KEY", help="Only tasks that wait with this key receive the signal.")
@click.option("--to", metavar="ID", help="Only tasks of this execution receive the signal.")
@click.option("--id", "signal_id", metavar="ID", help="Makes the signal idempotent.")
@click.option("--sender", metavar="NAME", help="The name of the sender, for the history.")
@database_options
def send(
    database: Database,
    as_json: bool,
    name: str,
    data: str,
    key: str | None,
    to: str | None,
    signal_id: str | None,
    sender: str | None,
) -> None:
    """Send a signal to the tasks that wait for it, now or later.

    JSON is the signal's data. Without `--key` and `--to`, the signal reaches only tasks that wait
    for its name without a key.
    """
    if key is not None and to is not None:
        raise click.UsageError("--key and --to exclude each other")
    inspector = database.inspect()
    target = None if to is None else execution_id(inspector.reads, to)
    sent = inspector.send(name, data, key, target, signal_id, sender)
    if as_json:
        print_json({"seq": sent.seq, "created": sent.created, "woken": sent.woken})
        return
    if not sent.created:
        say(f"signal {sent.seq} was already sent")
        return
    say(f"signal {sent.seq} woke {sent.woken} task{'' if sent.woken == 1 else 's'}")


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("name", required=False)
@click.option("--workflow", metavar="NAME", help="Only waits of this workflow.")
@click.option(
    "--kind", type=_KINDS, help="Only waits of this kind; signals and approvals if omitted."
)
@click.option("--limit", type=click.IntRange(min=1), default=50, help="Maximum number of waits.")
@click.option(
    "--cursor",
    metavar="CURSOR",
    help="Continue after an earlier page, with the cursor that it printed.",
)
@database_options
def waits(
    database: Database,
    as_json: bool,
    name: str | None,
    workflow: str | None,
    kind: str | None,
    limit: int,
    cursor: str | None,
) -> None:
    """List the open waits of tasks, oldest first.

    NAME is the name of a signal or of an approval.
    """
    from cloaca._runner.signal_methods import wait_page

    reads = database.inspect().reads
    page = wait_page(reads, name, workflow, kind=kind, limit=limit, cursor=cursor)
    if as_json:
        print_json({"items": [_as_json(wait) for wait in page], "next_cursor": page.next_cursor})
        return
    if not page.items:
        note("no open wait was found")
        return
    is_short = is_terminal()
    ids = shorten(wait.execution_id for wait in page)
    rows = [
        [
            ids[wait.execution_id] if is_short else wait.execution_id,
            wait.workflow,
            wait.task_id or "",
            wait.kind,
            wait.name if wait.key is None else f"{wait.name} {wait.key}",
            wait.title or wait.to or "",
            ago(wait.deadline) if is_short else _iso_text(wait.deadline),
        ]
        for wait in page
    ]
    head = ["execution", "workflow", "task", "kind", "for", "title", "until"]
    print_table(head, rows, cut=("title", "for", "workflow", "task"))
    if page.next_cursor:
        note(f"there are more: --cursor {page.next_cursor}")


def _iso_text(time: datetime | None) -> str:
    """Formats a time in ISO format to the second."""
    return "" if time is None else time.isoformat(timespec="seconds")


def _as_json(wait: Wait) -> dict[str, Any]:
    return {
        "kind": wait.kind,
        "name": wait.name,
        "key": wait.key,
        "execution_id": wait.execution_id,
        "workflow": wait.workflow,
        "task_id": wait.task_id,
        "since": wait.since.isoformat(),
        "deadline": None if wait.deadline is None else wait.deadline.isoformat(),
        "title": wait.title,
        "to": wait.to,
        "schema": wait.schema,
    }


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("id", metavar="ID")
@click.argument("task")
@click.argument("data", required=False, metavar="[JSON]", callback=_data)
@click.option("--by", metavar="NAME", help="The name of the person who approves.")
@database_options
def approve(
    database: Database, as_json: bool, id: str, task: str, data: str, by: str | None
) -> None:
    """Approve an open approval of an execution.

    JSON is data that becomes part of the result of TASK.
    """
    _decide(database, as_json, id, task, True, data, by, None)


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("id", metavar="ID")
@click.argument("task")
@click.option("--reason", metavar="TEXT", help="The reason for the rejection.")
@click.option("--by", metavar="NAME", help="The name of the person who rejects.")
@database_options
def reject(
    database: Database, as_json: bool, id: str, task: str, reason: str | None, by: str | None
) -> None:
    """Reject an open approval of an execution."""
    _decide(database, as_json, id, task, False, "null", by, reason)


def _decide(
    database: Database,
    as_json: bool,
    id: str,
    task: str,
    approved: bool,
    data: str,
    by: str | None,
    reason: str | None,
) -> None:
    inspector = database.inspect()
    execution = execution_id(inspector.reads, id)
    status = inspector.decide(execution, task, approved, data, by, reason)
    if as_json:
        print_json({"execution_id": execution, "task_id": task, "status": status})
        return
    say(f"{execution} {task} {'approved' if approved else 'rejected'}")
