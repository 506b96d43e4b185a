"""Executions as HTML tables, for notebooks. Needs no network and no script."""

from __future__ import annotations

import html

from cloaca._values.visible_text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta

    from cloaca._executions.history import Page
    from cloaca._executions.result import WorkflowResult

_COLORS = {
    "Completed": "#1a7f37",
    "Failed": "#cf222e",
    "Cancelled": "#9a6700",
    "Skipped": "#6e7781",
    "Running": "#0969da",
}
# Longer tables are cut.
_MAX_ROWS = 100


def show_result(result: WorkflowResult) -> str:
    """An execution with its tasks."""
    tasks = list(result.tasks.values())
    rows = [
        _row(
            escape(task.task_id),
            _status(task.status),
            str(task.attempts),
            _span(task.duration),
            escape(str(task.error or task.skip_reason or "")),
        )
        for task in tasks[:_MAX_ROWS]
    ]
    more = f"<br>and {len(tasks) - _MAX_ROWS} more tasks" if len(tasks) > _MAX_ROWS else ""
    error = f"<br>{escape(result.error_message)}" if result.error_message else ""
    return (
        f"<div><b>{escape(result.workflow_name)}</b> <code>{result.execution_id}</code> "
        f"{_status(result.status)} {_span(result.duration)}{error}"
        f"{_table(['task', 'status', 'attempts', 'duration', 'note'], rows)}{more}</div>"
    )


def show_page(page: Page) -> str:
    """A listing of executions."""
    rows = [
        _row(
            f"<code>{result.execution_id}</code>",
            escape(result.workflow_name),
            _status(result.status),
            escape(result.created_at.isoformat(timespec="seconds")),
            _span(result.duration),
            escape(result.error_message or ""),
        )
        for result in page.items[:_MAX_ROWS]
    ]
    head = ["execution", "workflow", "status", "submitted", "duration", "error"]
    more = "<br>there are more" if page.next_cursor or len(page) > _MAX_ROWS else ""
    return f"<div>{_table(head, rows)}{more}</div>"


def _table(head: list[str], rows: list[str]) -> str:
    cells = "".join(f'<th style="text-align:left">{name}</th>' for name in head)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _row(*cells: str) -> str:
    return "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>"


def _status(status: str) -> str:
    return f'<span style="color:{_COLORS.get(str(status), "inherit")}">{escape(str(status))}</span>'


def _span(span: timedelta | None) -> str:
    return "" if span is None else f"{span.total_seconds():.3f} s"


def escape(text: str) -> str:
    """The text in HTML."""
    return html.escape(visible(text))
