"""Commands that read executions."""

from __future__ import annotations

import click

from cloaca._cli import INTERRUPTED
from cloaca._cli._filters import Filter, filter_options
from cloaca._cli._ids import execution_id, shorten, takes_execution
from cloaca._cli._interrupt import deferred_interrupt
from cloaca._cli._options import COMMAND_SETTINGS, VERBOSE, Database, database_options
from cloaca._cli._output import (
    ago,
    duration_text,
    exit_with_status,
    is_terminal,
    iso,
    note,
    print_json,
    print_result,
    print_table,
    print_tracebacks,
    result_document,
    say,
    say_paragraph,
    short_error,
    summary_document,
    time_text,
)
from cloaca._values.exceptions import WorkflowNotFoundError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca._executions.result import WorkflowResult

# Seconds between two refreshes of `watch`, which polls because it receives no notifications.
_REFRESH_SECONDS = 0.2


@click.command("list", context_settings=COMMAND_SETTINGS)
@filter_options
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(1),
    default=50,
    show_default=True,
    help="Maximum number of executions.",
)
@click.option("--cursor", metavar="ID", help="Continue the listing after this execution.")
@VERBOSE
@database_options
def list_command(
    database: Database,
    as_json: bool,
    wanted: Filter,
    limit: int,
    cursor: str | None,
    verbose: bool,
) -> None:
    """List executions, newest first."""
    reads = database.inspect().reads
    if cursor is not None and not cursor.startswith("newer-than:"):
        cursor = execution_id(reads, cursor)
    page = wanted.page(reads, limit, cursor)
    results, next_cursor = page.items, page.next_cursor
    if as_json:
        items = [summary_document(result) for result in results]
        print_json(
            {
                "items": items,
                "next_cursor": next_cursor,
                "prev_cursor": page.prev_cursor,
                "scanned_until": iso(page.scanned_until),
            }
        )
        return
    if not results and page.scanned_until is None:
        what = "no execution matches" if wanted or cursor else "there are no executions yet"
        note(f"{what} in {database.inspect().location}")
        return
    is_short = is_terminal() and not verbose
    ids = shorten(result.execution_id for result in results)
    print_table(
        ("execution", "workflow", "status", "submitted", "duration", "error"),
        (
            [
                ids[result.execution_id] if is_short else result.execution_id,
                result.workflow_name,
                str(result.status),
                (ago if is_short else time_text)(result.created_at),
                duration_text(result.duration),
                short_error(result.error) if is_short else result.error_message or "",
            ]
            for result in results
        ),
        cut=("error", "workflow"),
        verbose=verbose,
    )
    if page.scanned_until is not None:
        note(
            f"searched back to {time_text(page.scanned_until)}; to continue: --cursor {next_cursor}"
        )
    elif next_cursor:
        note(f"there are more: --cursor {next_cursor}")


@click.command(context_settings=COMMAND_SETTINGS)
@click.option(
    "--tree", is_flag=True, help="Show the tree of its child executions instead of its tasks."
)
@click.option("--web", is_flag=True, help="Serve its page and open a browser, until Ctrl-C.")
@VERBOSE
@database_options
@takes_execution
def show(database: Database, as_json: bool, id: str, tree: bool, verbose: bool, web: bool) -> None:
    """Show an execution with its tasks and their recorded steps."""
    if web:
        from cloaca._cli.ui import serve_at

        serve_at(database, f"executions/{id}", as_json)
        return
    from cloaca._cli._maps import map_counts, print_failed_items
    from cloaca._cli._steps import print_steps, recorded_steps, step_document

    result = _result(database, id)
    if tree:
        from cloaca._cli._family import family_document, family_text

        reads = database.inspect().reads
        if as_json:
            print_json(family_document(reads, result))
        else:
            say(family_text(reads, result, verbose=verbose))
        return
    steps = recorded_steps(database.inspect().reads, id)
    maps = map_counts(database.inspect().reads, id)
    if as_json:
        document = result_document(result)
        for task in document["tasks"]:
            if task["task_id"] in maps:
                task["map"] = maps[task["task_id"]].document()
        document["steps"] = [step_document(step) for step in steps]
        print_json(document)
        return
    print_result(
        result, verbose=verbose, notes={task: str(counts) for task, counts in maps.items()}
    )
    print_failed_items(database.inspect().reads, id, maps)
    print_steps(steps, verbose=verbose)
    if result.final is not None:
        say("")
        say("final tasks:")
        print_result(result.final, verbose=verbose)


@click.command(context_settings=COMMAND_SETTINGS)
@VERBOSE
@database_options
@takes_execution
def events(database: Database, as_json: bool, id: str, verbose: bool) -> None:
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
    is_short = is_terminal() and not verbose
    if is_short and found:
        say(f"{found[0].time:%Y-%m-%d} UTC")
    print_table(
        ("time", "event", "task", "attempt", "data"),
        (
            [
                event.time.strftime("%H:%M:%S.%f" if is_short else "%Y-%m-%d %H:%M:%S.%f"),
                event.type,
                event.task_id or "",
                "" if event.attempt is None else str(event.attempt),
                json.dumps(event.data, ensure_ascii=False) if event.data else "",
            ]
            for event in found
        ),
        cut=("data", "task"),
        verbose=verbose,
    )


@click.command(context_settings=COMMAND_SETTINGS)
@click.option(
    "--follow", "-f", is_flag=True, help="Print lines as they arrive, until the execution ends."
)
@database_options
@takes_execution
def logs(database: Database, as_json: bool, id: str, follow: bool) -> None:
    """Show the log lines of an execution's tasks, if their runners capture them."""
    from cloaca._executions.log_line import LogLine

    if follow:
        from cloaca._cli._log_lines import follow as follow_lines

        if as_json:
            raise click.UsageError(
                "--follow cannot be combined with --json: --follow prints lines as they arrive, "
                "but --json prints a single document"
            )
        _end_of_logs(database, id, follow_lines(database.inspect().reads, id))
        return
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
    _end_of_logs(database, id, bool(lines))


def _end_of_logs(database: Database, id: str, has_lines: bool) -> None:
    """Prints the tracebacks of failed tasks, and a remark if there are no log lines."""
    print_tracebacks(_result(database, id))
    if not has_lines:
        note(
            f"no log lines of execution {id} are stored: set capture_logs=True or "
            "CLOACA_CAPTURE_LOGS=true where its tasks run"
        )


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("id", required=False, metavar="ID")
@click.option("--last", is_flag=True, help="Take the newest execution instead of an ID.")
@database_options
def explain(database: Database, as_json: bool, id: str | None, last: bool) -> None:
    """Explain the state of an execution, a schedule or a trigger in plain sentences.

    A trigger may be given by its name.
    """
    from cloaca._cli._ids import newest
    from cloaca._cli.schedules import find

    if (id is None) != last:
        raise click.UsageError("name one execution, schedule or trigger, or give --last")
    reads = database.inspect().reads
    if id is None:
        id = newest(reads)
    else:
        known = find(reads, id)
        id = execution_id(reads, id) if known is None else known["id"]
    sentences = reads.explain(id)
    if as_json:
        try:
            document = {"execution_id": id, "status": reads.status(id)}
        except WorkflowNotFoundError:
            document = {"schedule_id": id}
        print_json({**document, "reasons": sentences})
        return
    for sentence in sentences:
        say_paragraph(sentence)


@click.command(context_settings=COMMAND_SETTINGS)
@database_options
@takes_execution
def watch(database: Database, as_json: bool, id: str) -> None:
    """Follow an execution to its end; ends with status 1 unless it completed."""
    from contextlib import nullcontext
    from time import sleep

    from cloaca._executions.result import WorkflowResult
    from cloaca._executions.status import WorkflowStatus
    from cloaca._observe.progress_bars import Bars, is_shown

    reads = database.inspect().reads
    states: dict[str, str] = {}

    def refresh(bars: Bars | None) -> bool:
        report = reads.progress(id)
        execution = report.execution
        if bars is not None:
            bars.show(execution, report.tasks)
        elif not as_json:
            _tell_changes(WorkflowResult(execution), states)
        return WorkflowStatus(execution.status).is_terminal

    try:
        with (
            deferred_interrupt() as raise_interrupt,
            Bars() if is_shown() and not as_json else nullcontext() as bars,
        ):
            while not refresh(bars):
                sleep(_REFRESH_SECONDS)
                raise_interrupt()
    except KeyboardInterrupt:
        note(f"execution {id} goes on\nhint: end it with `cloaca cancel {id}`")
        raise click.exceptions.Exit(INTERRUPTED) from None
    result = _result(database, id)
    if as_json:
        print_json(result_document(result))
    else:
        say(f"{result.workflow_name}  {result.execution_id}  {result.status}")
    exit_with_status(result)


def _tell_changes(result: WorkflowResult, states: dict[str, str]) -> None:
    """Prints a line for each task whose state has changed since the last refresh."""
    for task in result.tasks.values():
        if states.get(task.task_id, "Pending") != task.status:
            states[task.task_id] = str(task.status)
            say(f"{task.task_id}  {task.status}")


def _result(database: Database, id: str) -> WorkflowResult:
    from cloaca._executions.result import WorkflowResult

    return WorkflowResult(database.inspect().reads.execution(id))
