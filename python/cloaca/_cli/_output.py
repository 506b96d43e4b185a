"""Tables for people, plain text for pipes, JSON for programs."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager

import click

from cloaca._values.visible_text import visible, visible_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime, timedelta
    from typing import Any, TextIO

    from cloaca._executions.result import WorkflowResult

STYLES = {
    "Completed": "green",
    "Failed": "red",
    "Cancelled": "yellow",
    "Paused": "yellow",
    "Skipped": "dim",
    "Running": "cyan",
}


def say(text: str, *, err: bool = False) -> None:
    """Prints text that may come from other programs, on stdout or stderr."""
    click.echo(visible(text), err=err)


def print_json(document: object, file: TextIO | None = None) -> None:
    """Prints one JSON document."""
    import json

    text = json.dumps(document, indent=2, ensure_ascii=False, default=str)
    click.echo(visible_json(text), file=file)


@contextmanager
def document_alone(is_wanted: bool) -> Iterator[Callable[[object], None]]:
    """Returns the function that prints a JSON document.

    All other output until then, by tasks and by programs that they start, goes to stderr.

    Args:
        is_wanted: Whether stdout is for the document alone.
    """
    if not is_wanted:
        yield print_json
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with os.fdopen(os.dup(kept), "w", encoding=sys.stdout.encoding) as own:
            yield lambda document: print_json(document, own)
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table: drawn by rich on a terminal, aligned columns elsewhere."""
    lines = [[visible(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _draw(head, lines)
        return
    widths = [
        max([len(head[column]), *(len(one_line(row[column])) for row in lines)])
        for column in range(len(head))
    ]
    for row in [[name.upper() for name in head], *lines]:
        cells = (one_line(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


def _draw(head: Sequence[str], rows: list[list[str]]) -> None:
    from rich.console import Console

    Console().print(table_of(head, rows))


def table_of(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Any:
    """A table of rich."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in head:
        # Ids are not truncated, because a truncated id cannot be used.
        table.add_column(name, no_wrap=name in {"id", "execution"}, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
    return table


def one_line(text: str) -> str:
    """A text without line breaks."""
    return " ".join(text.split()) if "\n" in text else text


def told_time(time: datetime | None) -> str:
    """A time in UTC to the second."""
    return "" if time is None else time.strftime("%Y-%m-%d %H:%M:%S")


def told_span(span: timedelta | None) -> str:
    """A duration in readable units."""
    if span is None:
        return ""
    seconds = span.total_seconds()
    if seconds < 60:
        return f"{seconds:.3f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def iso(time: datetime | None) -> str | None:
    """A time in JSON."""
    return None if time is None else time.isoformat()


def summary_document(result: WorkflowResult) -> dict[str, Any]:
    """An execution in a listing."""
    duration = result.duration
    return {
        "execution_id": result.execution_id,
        "workflow_name": result.workflow_name,
        "status": str(result.status),
        "created_at": iso(result.created_at),
        "started_at": iso(result.started_at),
        "ended_at": iso(result.ended_at),
        "duration_seconds": None if duration is None else duration.total_seconds(),
        "error_message": result.error_message,
    }


def result_document(result: WorkflowResult) -> dict[str, Any]:
    """An execution with its tasks and its context."""
    error = result.error
    document = summary_document(result)
    document["error"] = error and {
        "type": error.type,
        "message": error.message,
        "task_id": error.task_id,
        "traceback": error.traceback,
    }
    document["final_context"] = result.final_context.to_dict()
    document["tasks"] = [
        {
            "task_id": task.task_id,
            "status": str(task.status),
            "attempts": task.attempts,
            "started_at": iso(task.started_at),
            "ended_at": iso(task.ended_at),
            "duration_seconds": None if task.duration is None else task.duration.total_seconds(),
            "error": task.error and {"type": task.error.type, "message": task.error.message},
            "skip_reason": task.skip_reason,
        }
        for task in result.tasks.values()
    ]
    return document


TASK_HEAD = ("task", "status", "attempts", "started", "duration", "note")


def task_rows(result: WorkflowResult) -> list[list[str]]:
    """The rows of the table of an execution's tasks."""
    return [
        [
            task.task_id,
            str(task.status),
            str(task.attempts),
            told_time(task.started_at),
            told_span(task.duration),
            one_line(str(task.error or task.skip_reason or "")),
        ]
        for task in result.tasks.values()
    ]


def print_result(result: WorkflowResult) -> None:
    """Prints an execution with its tasks and its final context."""
    import json

    say(f"{result.workflow_name}  {result.execution_id}  {result.status}")
    times = [
        ("submitted", told_time(result.created_at)),
        ("started", told_time(result.started_at)),
        ("ended", told_time(result.ended_at)),
        ("duration", told_span(result.duration)),
    ]
    say("  ".join(f"{name} {value}" for name, value in times if value))
    if result.error_message:
        say(f"error: {one_line(result.error_message)}")
    print_table(TASK_HEAD, task_rows(result))
    context = result.final_context.to_dict()
    if context:
        say("context")
        for key, value in context.items():
            text = json.dumps(value, ensure_ascii=False)
            say(f"  {one_line(key)} = {text if len(text) <= 200 else text[:199] + '…'}")


def fail(message: str) -> None:
    """Prints the error on stderr and exits with status 1."""
    say(f"error: {message}", err=True)
    raise click.exceptions.Exit(1)


def leave_by(result: WorkflowResult) -> None:
    """Exits with status 1 and the error on stderr if the execution failed, else with 0."""
    from cloaca._executions.status import WorkflowStatus

    if result.status is WorkflowStatus.COMPLETED:
        return
    what = f"execution {result.execution_id} of workflow '{result.workflow_name}'"
    if result.status is WorkflowStatus.CANCELLED:
        fail(f"{what} was cancelled")
    fail(f"{what} failed: {one_line(result.error_message or 'no error is stored')}")
