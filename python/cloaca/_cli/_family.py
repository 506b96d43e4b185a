"""An execution with its children and their children, as `show --tree` prints them."""

from __future__ import annotations

from cloaca._cli._ids import shorten
from cloaca._cli._output import is_terminal, is_unicode, short_error, summary_document
from cloaca._cli._tree import draw
from cloaca._executions.children import children_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._executions.result import WorkflowResult


def family_document(reads: Any, result: WorkflowResult) -> dict[str, Any]:
    """Returns the execution as JSON, with each child inside its parent.

    The recursion is safe, because the engine allows at most 32 levels of children.
    """
    document = summary_document(result)
    document["children"] = [
        {"started_by": origin, **family_document(reads, child)}
        for origin, child in children_of(reads, result.execution_id)
    ]
    return document


def family_text(reads: Any, root: WorkflowResult, *, verbose: bool) -> str:
    """Returns the execution and its descendants as a tree, with one line for each execution."""
    members: list[tuple[str, WorkflowResult, str | None]] = [("", root, None)]
    for _, parent, _ in members:
        known = parent.execution_id
        members.extend((origin, child, known) for origin, child in children_of(reads, known))
    ids = [member.execution_id for _, member, _ in members]
    shown = shorten(ids) if is_terminal() and not verbose else {id: id for id in ids}
    lines: dict[str, str] = {}
    parents: dict[str, list[str]] = {}
    for origin, member, parent_id in members:
        started_by = f"{origin}: " if origin else ""
        error = f"  {short_error(member.error)}" if member.error is not None else ""
        line = (
            f"{started_by}{member.workflow_name}  {shown[member.execution_id]}  "
            f"{member.status.value}{error}"
        )
        lines[member.execution_id] = line
        if parent_id is not None:
            parents[line] = [lines[parent_id]]
    return draw(list(lines.values()), parents, is_unicode=is_unicode())
