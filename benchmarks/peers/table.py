"""Formats the results of `run.py` as a table, for `run.py` and `make bench`."""

from __future__ import annotations

from typing import Any

HEADER = ("workload", "database", "peer", "executions", "figure", "peer's", "cloaca's", "ratio")


def amount(value: float) -> str:
    """Formats a figure: a whole number from 100 on, otherwise up to three significant digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def line(row: dict[str, Any]) -> tuple[str, ...]:
    """Returns the cells of one measured figure. A ratio above 1 means that cloaca is faster."""
    scaled = row["count"] != row["asked"]
    return (
        row["workload"],
        row["database"],
        row["peer"],
        f"{row['count']} of {row['asked']}" if scaled else str(row["count"]),
        row["figure"],
        amount(row["value"]),
        amount(row["cloaca"]) if row["cloaca"] is not None else "-",
        f"{row['ratio']:.1f}" if row["ratio"] is not None else "-",
    )


def table(report: dict[str, Any]) -> str:
    """Returns the table. A row without a figure is listed below it with the reason."""
    rows = report["rows"]
    lines = [HEADER, *[line(row) for row in rows if "value" in row]]
    widths = [max(len(cells[column]) for cells in lines) for column in range(len(HEADER))]
    text = [
        f"Peers, {report['date']}; a ratio of 2 means that cloaca is twice as fast as the peer",
        *[
            "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
            for cells in lines
        ],
        *[
            f"{row['workload']} {row['database']} {row['peer']}: {row['why']}"
            for row in rows
            if "why" in row
        ],
    ]
    return "\n".join(text)
