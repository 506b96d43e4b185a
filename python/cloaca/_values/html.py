"""Builds HTML for notebooks. The HTML needs no network and no script."""

from __future__ import annotations

import html

from cloaca._values.visible_text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta

#: Maximum number of rows in a table; callers leave out further rows.
MAX_ROWS = 100

_COLORS = {
    "Completed": "#1a7f37",
    "Failed": "#cf222e",
    "Cancelled": "#9a6700",
    "Skipped": "#6e7781",
    "Running": "#0969da",
}


def escape(text: str) -> str:
    """Escapes text for HTML."""
    return html.escape(visible(text))


def table(head: list[str], rows: list[list[str]]) -> str:
    """Returns a table. The cells must be HTML."""
    cells = "".join(f'<th style="text-align:left">{name}</th>' for name in head)
    body = "".join(map(_row, rows))
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _row(cells: list[str]) -> str:
    return "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>"


def status_text(status: str) -> str:
    """Returns a status as coloured text."""
    return f'<span style="color:{_COLORS.get(str(status), "inherit")}">{escape(str(status))}</span>'


def seconds_text(span: timedelta | None) -> str:
    """Returns a duration in seconds; an empty string for `None`."""
    return "" if span is None else f"{span.total_seconds():.3f} s"
