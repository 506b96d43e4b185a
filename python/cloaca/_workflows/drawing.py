"""Draws a workflow's graph as SVG, for notebooks. The drawing needs no network and no script."""

from __future__ import annotations

from cloaca._values.html import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

# Sizes in CSS pixels.
_HEIGHT = 34
_GAP_X = 56
_GAP_Y = 18
_MARGIN = 12
_LETTER = 7.3
# Maximum number of tasks in a drawing. For a larger graph, only the number of tasks is shown.
_MAX_TASKS = 200
# Maximum number of characters of a task's id that are shown.
_MAX_LETTERS = 32


def draw(
    caption: str,
    levels: Sequence[Sequence[str]],
    dependencies: Mapping[str, Sequence[str]],
    external: Collection[str],
    notes: Mapping[str, str],
) -> str:
    """Draws the graph from left to right, one column for each level.

    Args:
        caption: The HTML that is shown above the graph.
        levels: The ids of the tasks in each level.
        dependencies: The ids of the tasks that each task depends on.
        external: The tasks that another program runs; their boxes are dashed.
        notes: Texts by task, shown while the mouse is over the task's box.
    """
    count = sum(map(len, levels))
    if count > _MAX_TASKS:
        return f"<div>{caption}<br>{count} tasks</div>"
    return f"<div>{caption}<br>{_svg(levels, dependencies, external, notes)}</div>"


def _svg(
    columns: Sequence[Sequence[str]],
    dependencies: Mapping[str, Sequence[str]],
    external: Collection[str],
    notes: Mapping[str, str],
) -> str:
    rows = max(len(column) for column in columns)
    height = rows * (_HEIGHT + _GAP_Y) - _GAP_Y + 2 * _MARGIN
    boxes: dict[str, tuple[float, float, float]] = {}
    x: float = _MARGIN
    for column in columns:
        width = max(_width(task) for task in column)
        top = (height - len(column) * (_HEIGHT + _GAP_Y) + _GAP_Y) / 2
        for index, task in enumerate(column):
            boxes[task] = (x, top + index * (_HEIGHT + _GAP_Y), width)
        x += width + _GAP_X
    parts = [
        _edge(boxes[before], boxes[task])
        for task, befores in dependencies.items()
        for before in befores
    ]
    parts += [
        _box(task, *corner, is_external=task in external, note=notes.get(task, ""))
        for task, corner in boxes.items()
    ]
    width = x - _GAP_X + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" font-family="sans-serif" '
        f'font-size="13" style="max-width:100%">{"".join(parts)}</svg>'
    )


def _shown(task: str) -> str:
    return task if len(task) <= _MAX_LETTERS else f"{task[: _MAX_LETTERS - 1]}…"


def _width(task: str) -> float:
    return len(_shown(task)) * _LETTER + 26


def _edge(start: tuple[float, float, float], end: tuple[float, float, float]) -> str:
    x1, y1 = start[0] + start[2], start[1] + _HEIGHT / 2
    x2, y2 = end[0], end[1] + _HEIGHT / 2
    middle = (x1 + x2) / 2
    return (
        f'<path d="M{x1:.0f} {y1:.0f}'
        f'C{middle:.0f} {y1:.0f} {middle:.0f} {y2:.0f} {x2 - 5:.0f} {y2:.0f}" '
        'fill="none" stroke="#8a94a6"/>'
        f'<path d="M{x2:.0f} {y2:.0f}l-7 -4v8z" fill="#8a94a6"/>'
    )


def _box(task: str, x: float, y: float, width: float, *, is_external: bool, note: str) -> str:
    dashes = ' stroke-dasharray="5 3"' if is_external else ""
    return (
        f"<g><title>{escape(task)}{escape(note)}</title>"
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_HEIGHT}" rx="7" '
        f'fill="#eef3fb" stroke="#3b6fb6"{dashes}/>'
        f'<text x="{x + width / 2:.0f}" y="{y + _HEIGHT / 2 + 4.5:.1f}" text-anchor="middle" '
        f'fill="#1d2b3f">'
        f"{escape(_shown(task))}</text></g>"
    )
