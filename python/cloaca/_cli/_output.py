"""Prints results: as tables on a terminal, as plain text in pipes, and as JSON for programs."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager

import click

from cloaca._values.visible_text import visible, visible_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta
    from typing import Any, TextIO

    from cloaca._executions.result import WorkflowResult
    from cloaca._values.error_info import ErrorInfo

STYLES = {
    "Completed": "green",
    "Failed": "red",
    "Cancelled": "yellow",
    "Paused": "yellow",
    "Skipped": "dim",
    "Running": "cyan",
}


def is_unicode() -> bool:
    """Returns whether standard output can show the box characters of a tree."""
    encoding = sys.stdout.encoding or "ascii"
    try:
        "├─└│".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def say(text: str, *, err: bool = False) -> None:
    """Prints text on stdout or stderr, and escapes the control characters in it.

    The text may come from other programs, and must not be able to control the terminal.
    """
    click.echo(visible(text), err=err)


def print_json(document: object, file: TextIO | None = None) -> None:
    """Prints one JSON document."""
    import json

    text = json.dumps(document, indent=2, ensure_ascii=False, default=str)
    click.echo(visible_json(text), file=file)


@contextmanager
def json_only_stdout(is_wanted: bool) -> Iterator[Callable[[object], None]]:
    """Yields a function that prints a JSON document on stdout.

    Inside the block, all other output goes to stderr, even the output of programs that tasks start.

    Args:
        is_wanted: Whether stdout is reserved for the document. If not, nothing is redirected.
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


def is_terminal() -> bool:
    """Returns whether stdout is a terminal."""
    return sys.stdout.isatty()


def print_table(
    head: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    cut: Sequence[str] = (),
    verbose: bool = False,
) -> None:
    """Prints a table: drawn by rich on a terminal, aligned columns elsewhere.

    Each row takes one line.

    Args:
        head: The names of the columns.
        rows: The cells.
        cut: The columns that are cut first if a terminal is too narrow, beginning with the widest.
        verbose: Whether to print as if there were no terminal.
    """
    lines = [[visible(cell) for cell in row] for row in rows]
    if is_terminal() and not verbose:
        _draw(head, lines, cut)
        return
    widths = [
        max([len(head[column]), *(len(one_line(row[column])) for row in lines)])
        for column in range(len(head))
    ]
    for row in [[name.upper() for name in head], *lines]:
        cells = (one_line(cell).ljust(width) for cell, width in zip(row, widths, strict=True))
        say("  ".join(cells).rstrip())


def _draw(head: Sequence[str], rows: list[list[str]], cut: Sequence[str]) -> None:
    from rich.console import Console

    console = Console()
    console.print(table_of(head, rows, console.width, cut))


# Minimum width of a column that is cut, in characters.
_MIN_CUT = 8


def table_of(
    head: Sequence[str], rows: Iterable[Sequence[str]], width: int, cut: Sequence[str] = ()
) -> Any:
    """Builds a rich table of at most `width` characters a line, unless it has too many columns."""
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    lines = [[one_line(cell) for cell in row] for row in rows]
    widths = [
        max(cell_len(text) for text in (name, *(line[column] for line in lines)))
        for column, name in enumerate(head)
    ]
    _narrow(head, widths, width - 2 * (len(head) - 1), cut)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    for name, size in zip(head, widths, strict=True):
        table.add_column(name, no_wrap=True, overflow="ellipsis", width=size)
    for line in lines:
        table.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in line))
    return table


def _narrow(head: Sequence[str], widths: list[int], width: int, cut: Sequence[str]) -> None:
    """Cuts the widest columns of `cut`, then the widest of all columns, until the width fits."""
    for names in (cut, head):
        columns = [index for index, name in enumerate(head) if name in names]
        while sum(widths) > width and columns:
            widest = max(columns, key=widths.__getitem__)
            if widths[widest] <= max(_MIN_CUT, len(head[widest])):
                columns.remove(widest)
            else:
                widths[widest] -= 1


def say_paragraph(text: str, indent: str = "") -> None:
    """Prints a sentence; on a terminal, wraps it between words."""
    text = one_line(text)
    if is_terminal():
        from shutil import get_terminal_size
        from textwrap import fill

        width = max(40, get_terminal_size().columns)
        text = fill(
            visible(text),
            width,
            initial_indent=indent,
            subsequent_indent=f"{indent}  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    say(text)


def note(text: str) -> None:
    """Prints a remark on stderr, apart from the command's result."""
    say(text, err=True)


def one_line(text: str) -> str:
    """Returns a text without line breaks."""
    return " ".join(text.split()) if "\n" in text else text


def time_text(time: datetime | None) -> str:
    """Formats a time in UTC to the second."""
    return "" if time is None else time.strftime("%Y-%m-%d %H:%M:%S")


def ago(time: datetime | None) -> str:
    """Formats a time relative to now, like `3 min ago` or `in 2 h`."""
    if time is None:
        return ""
    from cloaca._core import now_us
    from cloaca._values.duration import us_to_instant

    seconds = round((us_to_instant(now_us()) - time).total_seconds())
    text = _rough(abs(seconds))
    return f"{text} ago" if seconds >= 0 else f"in {text}"


def _rough(seconds: int) -> str:
    for unit, size, next_size in (("s", 1, 60), ("min", 60, 3_600), ("h", 3_600, 86_400)):
        if seconds < next_size:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86_400} d"


def duration_text(span: timedelta | None) -> str:
    """Formats a duration in seconds, in minutes and seconds, or in hours and minutes."""
    if span is None:
        return ""
    seconds = span.total_seconds()
    if seconds < 60:
        return f"{seconds:.3f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def iso(time: datetime | None) -> str | None:
    """Formats a time for JSON."""
    return None if time is None else time.isoformat()


def summary_document(result: WorkflowResult) -> dict[str, Any]:
    """Returns the JSON fields of an execution that a listing shows."""
    duration = result.duration
    return {
        "execution_id": result.execution_id,
        "workflow_name": result.workflow_name,
        "key": result.key,
        "labels": result.labels,
        "status": str(result.status),
        "created_at": iso(result.created_at),
        "started_at": iso(result.started_at),
        "ended_at": iso(result.ended_at),
        "duration_seconds": None if duration is None else duration.total_seconds(),
        "error_message": result.error_message,
    }


def result_document(result: WorkflowResult) -> dict[str, Any]:
    """Returns an execution with its tasks, its context and its final tasks for JSON."""
    error = result.error
    document = summary_document(result)
    document["error"] = error and {
        "type": error.type,
        "message": error.message,
        "task_id": error.task_id,
        "traceback": error.traceback,
    }
    document["final_context"] = result.final_context.to_dict()
    keys = result._execution.output
    if keys is not None:
        values = document["final_context"]
        is_one = isinstance(keys, str)
        document["output"] = values.get(keys) if is_one else [values.get(key) for key in keys]
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
    if result.final is not None:
        document["final"] = result_document(result.final)
    return document


TASK_HEAD = ("task", "status", "attempts", "started", "duration", "note")


def task_rows(
    result: WorkflowResult, *, is_short: bool = False, notes: Mapping[str, str] | None = None
) -> list[list[str]]:
    """Returns the rows of the table of an execution's tasks.

    Args:
        result: The execution.
        is_short: Whether to omit the date of a task's start if the execution was submitted on the
            same day.
        notes: Texts for the column `note`, by task; each is printed before the task's error.
    """
    notes = notes or {}
    return [
        [
            task.task_id,
            str(task.status),
            str(task.attempts),
            _started(task.started_at, result.created_at if is_short else None),
            duration_text(task.duration),
            _note(notes.get(task.task_id), task.skip_reason or _without_task(task.error)),
        ]
        for task in result.tasks.values()
    ]


def _note(note: str | None, problem: str) -> str:
    return one_line("; ".join(text for text in (note, problem) if text))


def _started(time: datetime | None, of_execution: datetime | None) -> str:
    text = time_text(time)
    if time is not None and of_execution is not None and time.date() == of_execution.date():
        return text.partition(" ")[2]
    return text


def _without_task(error: ErrorInfo | None) -> str:
    """Returns an error's type and message, without the task."""
    if error is None:
        return ""
    return f"{error.type}: {error.message}" if error.message else error.type


def short_error(error: ErrorInfo | None) -> str:
    """Returns an error for a narrow column: the task, the type and the message."""
    if error is None or error.task_id is None:
        return _without_task(error)
    return f"{error.task_id}: {_without_task(error)}"


def print_result(
    result: WorkflowResult,
    *,
    verbose: bool = False,
    tells_error: bool = True,
    notes: Mapping[str, str] | None = None,
    logged: Collection[str | None] = (),
) -> None:
    """Prints an execution with its tasks, the tracebacks of failed tasks, and its context.

    Args:
        result: The execution.
        verbose: Whether to print as if there were no terminal, with more details.
        tells_error: Whether to print the error of the execution.
        notes: Texts for the column `note`, by task; each is printed before the task's error.
        logged: The tasks whose tracebacks are already on stderr; they are not printed again.
    """
    import json

    say(f"{result.workflow_name}  {result.execution_id}  {result.status}")
    times = [
        ("submitted", time_text(result.created_at)),
        ("started", time_text(result.started_at)),
        ("ended", time_text(result.ended_at)),
        ("duration", duration_text(result.duration)),
    ]
    parts = [f"{name} {value}" for name, value in times if value]
    if is_terminal() and not verbose:
        # The table of tasks shows when tasks started and how long they took.
        parts = [part for part in parts if not part.startswith(("started", "ended"))]
    say("  ".join(parts))
    if verbose:
        execution = result._execution
        say(f"version {execution.workflow_version}  priority {execution.priority}")
    if result.key is not None:
        say(f"key {one_line(result.key)}")
    if result.labels:
        pairs = [f"{name}={value}" for name, value in result.labels.items()]
        say(f"labels {one_line('  '.join(pairs))}")
    if result.error_message and tells_error:
        say_paragraph(f"error: {result.error_message}")
    is_short = is_terminal() and not verbose
    rows = task_rows(result, is_short=is_short, notes=notes)
    print_table(TASK_HEAD, rows, cut=("note", "task"), verbose=verbose)
    print_tracebacks(result, logged)
    context = result.final_context.to_dict()
    keys = result._execution.output
    if keys is not None:
        say(f"output {one_line(keys if isinstance(keys, str) else ', '.join(keys))}")
    if context:
        say("context")
        for key, value in context.items():
            text = json.dumps(value, ensure_ascii=False)
            if not verbose and len(text) > 200:
                text = f"{text[:199]}…"
            say(f"  {one_line(key)} = {text}")


def print_tracebacks(result: WorkflowResult, logged: Collection[str | None] = ()) -> None:
    """Prints the traceback of the last attempt of each failed task that `logged` does not name."""
    for task in result.tasks.values():
        if task.task_id in logged:
            continue
        if task.status == "Failed" and task.error is not None and task.error.traceback:
            say(f"task '{task.task_id}' failed in attempt {task.attempts}:")
            for line in task.error.traceback.rstrip().splitlines():
                say(f"  {line}")


def fail(message: str) -> None:
    """Prints the error on stderr and exits with status 1."""
    say(f"error: {message}", err=True)
    raise click.exceptions.Exit(1)


def exit_with_status(result: WorkflowResult) -> None:
    """Prints the error on stderr and exits with status 1, unless the execution completed."""
    from cloaca._executions.status import WorkflowStatus

    if result.status is WorkflowStatus.COMPLETED:
        return
    what = f"execution {result.execution_id} of workflow '{result.workflow_name}'"
    if result.status is WorkflowStatus.CANCELLED:
        fail(f"{what} was cancelled")
    fail(f"{what} failed: {one_line(result.error_message or 'no error is stored')}")
