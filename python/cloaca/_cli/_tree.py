"""Draws a DAG as a text tree, with each task below its last dependency."""

from __future__ import annotations


def draw(tasks: list[str], dependencies: dict[str, list[str]], *, is_unicode: bool = True) -> str:
    """Returns the tree.

    A task with several dependencies is drawn once, below the one that is declared last; the others
    are named in its line.

    Args:
        tasks: The ids, in the order of their declaration.
        dependencies: The dependencies of each task.
        is_unicode: Whether lines may be drawn with box characters.
    """
    place = {task: index for index, task in enumerate(tasks)}
    below: dict[str | None, list[str]] = {}
    for task in tasks:
        befores = dependencies.get(task, [])
        parent = max(befores, key=place.__getitem__) if befores else None
        below.setdefault(parent, []).append(task)
    branch, last, line = ("├─ ", "└─ ", "│  ") if is_unicode else ("|- ", "`- ", "|  ")
    lines: list[str] = []
    # Without recursion, because a chain of tasks may be longer than Python's stack is deep.
    stack = [(task, "", "", "") for task in reversed(below.get(None, []))]
    while stack:
        task, indent, mark, deeper = stack.pop()
        others = [other for other in dependencies.get(task, []) if task not in below.get(other, [])]
        beside = f"  (and after {', '.join(others)})" if others else ""
        lines.append(f"{indent}{mark}{task}{beside}")
        children = below.get(task, [])
        for index, child in reversed(list(enumerate(children))):
            is_last = index == len(children) - 1
            stack.append(
                (child, indent + deeper, last if is_last else branch, "   " if is_last else line)
            )
    return "\n".join(lines)
