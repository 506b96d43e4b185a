"""Parts of the HTML that notebooks show. They need no network and no script."""

from __future__ import annotations

import html

from cloaca._values.visible_text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta

#: Maximum number of rows of a table; the callers leave out the rest.
MAX_ROWS = 100

_COLORS = {
    "Completed": "#1a7f37",
    "Failed": "#cf222e",
    "Cancelled": "#9a6700",
    "Skipped": "#6e7781",
    "Running": "#0969da",
}


def escape(text: str) -> str:
    """The text in HTML."""
    return html.escape(visible(text))


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table; its cells are HTML already."""
    cells = "".join(f'<th style="text-align:left">{name}</th>' for name in head)
    body = "".join(map(_row, rows))
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _row(cells: list[str]) -> str:
    return "<tr>" + "".join(f'<td style="text-align:left">{cell}</td>' for cell in cells) + "</tr>"


def status_text(status: str) -> str:
    """A status in its colour."""
    return f'<span style="color:{_COLORS.get(str(status), "inherit")}">{escape(str(status))}</span>'


def seconds_text(span: timedelta | None) -> str:
    """A duration in seconds, or an empty text."""
    return "" if span is None else f"{span.total_seconds():.3f} s"
