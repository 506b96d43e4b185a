"""Draws the results of the last benchmark: each workload's figure relative to its limit."""

from __future__ import annotations

import html
from typing import Any

#: Colours that are readable on light and dark pages.
TEXT, LINE = "#7b8494", "#8a94a6"
COLOURS = {"sqlite": ("SQLite", "#3b82c4"), "postgres": ("PostgreSQL", "#d97c2b")}

#: For each panel: the title, the workloads, the target, and the maximum of the axis.
PANELS = [
    (
        "rate relative to writing the rows alone (higher is better)",
        ["W2", "W2-threads", "W3"],
        0.35,
        1.0,
    ),
    ("time relative to four commits (lower is better)", ["W1"], 1.5, 3.0),
]

#: The left margin, the width of the longest bar, the height of a bar's row, and the gap between two
#: workloads, in CSS pixels.
LEFT, WIDTH, BAR, GAP = 96, 420, 14, 12


def _text(x: float, y: float, said: str, anchor: str = "start") -> str:
    where = f'x="{x:g}" y="{y:g}" text-anchor="{anchor}"'
    return f'<text {where} fill="{TEXT}">{html.escape(said)}</text>'


def _line(x: float, top: float, bottom: float, dashes: str = "") -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<path d="M{x:g} {top:g}V{bottom:g}" stroke="{LINE}"{dashed}/>'


def _bars(workload: str, results: dict[str, Any], top: float, end: float) -> list[str]:
    """Draws a bar and its ratio for each database."""
    drawn = [_text(LEFT - 8, top + BAR + 4, workload, "end")]
    for index, (database, (_, colour)) in enumerate(COLOURS.items()):
        figures = results.get(database, {}).get("workloads", {}).get(workload, {})
        ratio = figures.get("ratio_to_limit")
        if ratio is None:
            continue
        y, length = top + index * BAR, min(ratio / end, 1.0) * WIDTH
        drawn.append(
            f'<rect x="{LEFT}" y="{y:g}" width="{length:.1f}" height="{BAR - 2}" fill="{colour}"/>'
        )
        drawn.append(_text(LEFT + WIDTH + 8, y + BAR - 3, f"{ratio:.2f}"))
    return drawn


def limits_plot(results: dict[str, Any]) -> str:
    """Returns the picture as SVG. `results` is the output of `benchmarks/run.py`."""
    drawn: list[str] = []
    x = float(LEFT)
    for name, colour in COLOURS.values():
        drawn.append(f'<rect x="{x:g}" y="8" width="12" height="12" fill="{colour}"/>')
        drawn.append(_text(x + 18, 18, name))
        x += 110
    drawn += [_line(x + 6, 7, 21, "3 3"), _text(x + 14, 18, "target")]
    y = 34.0
    for title, workloads, target, end in PANELS:
        drawn.append(_text(LEFT, y + 10, title))
        top = y + 18
        bottom = top + len(workloads) * (2 * BAR + GAP)
        for index, workload in enumerate(workloads):
            drawn += _bars(workload, results, top + GAP / 2 + index * (2 * BAR + GAP), end)
        drawn += [_line(LEFT, top, bottom), _line(LEFT + target / end * WIDTH, top, bottom, "3 3")]
        y = bottom + 12
    width, height = LEFT + WIDTH + 48, y
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:g}" '
        f'viewBox="0 0 {width} {height:g}" role="img" font-family="sans-serif" font-size="13" '
        f'style="max-width:100%">{"".join(drawn)}</svg>\n'
    )
