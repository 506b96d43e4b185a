"""Draws a DAG as a text tree, with each task below its last dependency."""

from __future__ import annotations


def draw(tasks: list[str], dependencies: dict[str, list[str]], *, is_unicode: bool = True) -> str:
    """Returns the tree.

    A task with several dependencies is drawn once, below the dependency that is declared last. The
    task's line names the other dependencies.

    Args:
        tasks: The tasks' ids, in the order of their declaration.
        dependencies: The dependencies of each task.
        is_unicode: Whether lines may be drawn with box characters.
    """
    position = {task: index for index, task in enumerate(tasks)}
    below: dict[str | None, list[str]] = {}
    for task in tasks:
        parents = dependencies.get(task, [])
        parent = max(parents, key=position.__getitem__) if parents else None
        below.setdefault(parent, []).append(task)
    branch, last, line = ("├─ ", "└─ ", "│  ") if is_unicode else ("|- ", "`- ", "|  ")
    lines: list[str] = []
    # Not recursive, because a chain of tasks can be longer than Python's recursion limit.
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
