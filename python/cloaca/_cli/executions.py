"""Commands that read executions."""

from __future__ import annotations

import click

from cloaca._cli._options import HELP_NAMES, Database, database_options
from cloaca._cli._output import (
    iso,
    leave_by,
    one_line,
    print_json,
    print_result,
    print_table,
    result_document,
    say,
    summary_document,
    told_span,
    told_time,
)
from cloaca._values.exceptions import WorkflowNotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca._executions.result import WorkflowResult

_STATUSES = ("Pending", "Running", "Paused", "Completed", "Failed", "Cancelled")
# Seconds between two refreshes of `watch`, which polls because it gets no notifications.
_LOOK_SECONDS = 0.2


def _since(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """A time, or a span before now: `2026-01-31`, `2026-01-31T10:00+01:00`, `2h`."""
    if text is None:
        return None
    from datetime import datetime

    from cloaca._core import now_us
    from cloaca._values.duration import instant_to_us

    units = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
    if text[:-1].isdigit() and text[-1] in units:
        return now_us() - int(text[:-1]) * units[text[-1]] * 1_000_000
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"'{text}' is neither a time nor a span like 2h or 7d") from None
    return instant_to_us("since", time.astimezone() if time.tzinfo is None else time)


@click.command("list", context_settings=HELP_NAMES)
@click.option("-w", "--workflow", metavar="NAME", help="Only of this workflow.")
@click.option(
    "-s",
    "--status",
    "statuses",
    multiple=True,
    type=click.Choice(_STATUSES, case_sensitive=False),
    help="Only in this state; may be given several times.",
)
@click.option(
    "--since",
    "since_us",
    metavar="TIME",
    callback=_since,
    help="Only submitted since: an ISO time, or a span before now like 2h.",
)
@click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="KEY=VALUE",
    help="Only of workflows with this tag; may be given several times.",
)
@click.option(
    "-n", "--limit", type=click.IntRange(1), default=50, show_default=True, help="How many."
)
@click.option("--cursor", metavar="ID", help="Continue the listing after this execution.")
@database_options
def list_command(
    database: Database,
    as_json: bool,
    workflow: str | None,
    statuses: tuple[str, ...],
    since_us: int | None,
    tags: tuple[str, ...],
    limit: int,
    cursor: str | None,
) -> None:
    """List executions, newest first."""
    from cloaca._runner.control_methods import list_page

    wanted = None
    if tags:
        wanted = dict(tag.partition("=")[::2] for tag in tags)
    reads = database.inspect().reads
    page = list_page(reads, workflow, list(statuses), wanted, since_us, limit, cursor)
    results, next_cursor = page.items, page.next_cursor
    if as_json:
        items = [summary_document(result) for result in results]
        print_json({"items": items, "next_cursor": next_cursor})
        return
    print_table(
        ("execution", "workflow", "status", "submitted", "duration", "error"),
        (
            [
                result.execution_id,
                result.workflow_name,
                str(result.status),
                told_time(result.created_at),
                told_span(result.duration),
                result.error_message or "",
            ]
            for result in results
        ),
    )
    if next_cursor:
        say(f"there are more: --cursor {next_cursor}", err=True)


@click.command(context_settings=HELP_NAMES)
@click.argument("id")
@database_options
def show(database: Database, as_json: bool, id: str) -> None:
    """Show an execution with its tasks."""
    result = _result(database, id)
    if as_json:
        print_json(result_document(result))
    else:
        print_result(result)


@click.command(context_settings=HELP_NAMES)
@click.argument("id")
@database_options
def events(database: Database, as_json: bool, id: str) -> None:
    """Show the history of an execution, oldest first."""
    import json

    from cloaca._executions.history import Event

    found = [Event(record) for record in database.inspect().reads.events(id)]
    if as_json:
        print_json(
            [
                {
                    "time": iso(event.time),
                    "type": event.type,
                    "execution_id": event.execution_id,
                    "task_id": event.task_id,
                    "attempt": event.attempt,
                    "runner_id": event.runner_id,
                    "data": event.data,
                }
                for event in found
            ]
        )
        return
    print_table(
        ("time", "event", "task", "attempt", "data"),
        (
            [
                event.time.strftime("%Y-%m-%d %H:%M:%S.%f"),
                event.type,
                event.task_id or "",
                "" if event.attempt is None else str(event.attempt),
                json.dumps(event.data, ensure_ascii=False) if event.data else "",
            ]
            for event in found
        ),
    )


@click.command(context_settings=HELP_NAMES)
@click.argument("id")
@click.option("--follow", "-f", is_flag=True, help="Print lines as they come, until the end.")
@database_options
def logs(database: Database, as_json: bool, id: str, follow: bool) -> None:
    """Show the log lines of an execution's tasks, if their runners capture them."""
    from cloaca._executions.log_line import LogLine

    if follow:
        from cloaca._cli._log_lines import follow as follow_lines

        if as_json:
            raise click.UsageError("--follow prints lines as they come, and --json one document")
        return follow_lines(database.inspect().reads, id)
    lines = [LogLine(record) for record in database.inspect().reads.logs(id)]
    if as_json:
        print_json(
            [
                {
                    "time": iso(line.time),
                    "level": line.level_name,
                    "logger": line.logger,
                    "task_id": line.task_id,
                    "attempt": line.attempt,
                    "message": line.message,
                }
                for line in lines
            ]
        )
        return
    for line in lines:
        say(str(line))


@click.command(context_settings=HELP_NAMES)
@click.argument("id")
@database_options
def explain(database: Database, as_json: bool, id: str) -> None:
    """Explain the state of an execution or a schedule in plain sentences."""
    reads = database.inspect().reads
    sentences = reads.explain(id)
    if as_json:
        try:
            document = {"execution_id": id, "status": reads.status(id)}
        except WorkflowNotFoundError:
            document = {"schedule_id": id}
        print_json({**document, "reasons": sentences})
        return
    for sentence in sentences:
        say(one_line(sentence))


@click.command(context_settings=HELP_NAMES)
@click.argument("id")
@database_options
def watch(database: Database, as_json: bool, id: str) -> None:
    """Follow an execution to its end; ends with status 1 if it failed."""
    from time import sleep

    from cloaca._executions.status import WorkflowStatus
    from cloaca._observe.progress_bars import Bars, is_shown

    reads = database.inspect().reads
    bars = Bars() if is_shown() and not as_json else None
    states: dict[str, str] = {}

    def refresh() -> bool:
        report = reads.progress(id)
        execution = report.execution
        if bars is not None:
            bars.show(execution, report.tasks)
        elif not as_json:
            _tell_changes(WorkflowResult(execution), states)
        return WorkflowStatus(execution.status).is_terminal

    from cloaca._executions.result import WorkflowResult

    if bars is None:
        while not refresh():
            sleep(_LOOK_SECONDS)
    else:
        with bars:
            while not refresh():
                sleep(_LOOK_SECONDS)
    result = _result(database, id)
    if as_json:
        print_json(result_document(result))
    else:
        say(f"{result.workflow_name}  {result.execution_id}  {result.status}")
    leave_by(result)


def _tell_changes(result: WorkflowResult, states: dict[str, str]) -> None:
    """A line for each task whose state changed since the last refresh."""
    for task in result.tasks.values():
        if states.get(task.task_id, "Pending") != task.status:
            states[task.task_id] = str(task.status)
            say(f"{task.task_id}  {task.status}")


def _result(database: Database, id: str) -> WorkflowResult:
    from cloaca._executions.result import WorkflowResult

    return WorkflowResult(database.inspect().reads.execution(id))
