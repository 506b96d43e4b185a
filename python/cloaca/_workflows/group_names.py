"""Finds the task or group that a name means inside a group (semantics U1)."""

from __future__ import annotations

from cloaca._values.exceptions import WorkflowValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection


class GroupNames:
    """The names of the tasks and the groups of one workflow."""

    __slots__ = ("_full_prefix", "_groups", "_tasks", "_workflow")

    def __init__(
        self, workflow: str, tasks: Collection[str], groups: Collection[str], full_prefix: str
    ) -> None:
        """Store the names.

        Args:
            workflow: The workflow's name.
            tasks: The ids of the workflow's tasks.
            groups: The names of the workflow's groups.
            full_prefix: The part of full task names before the id.
        """
        self._workflow = workflow
        self._tasks = tasks
        self._groups = groups
        self._full_prefix = full_prefix

    def shortened(self, name: str) -> str:
        """Return the id if the name is a task's full name; otherwise return the name unchanged."""
        return name.removeprefix(self._full_prefix)

    def nearest(self, name: str, group: str) -> str | None:
        """Return the task or group that a name means; `None` for an unknown name.

        The search begins in the group in which the name is used, and continues in the enclosing
        groups.

        Args:
            name: The id of a task or the name of a group, with or without prefixes of groups.
            group: The prefix of the group in which the name is used; empty outside of groups.
        """
        if name.startswith(self._full_prefix):
            name, group = self.shortened(name), ""
        while True:
            if group + name in self._tasks or group + name in self._groups:
                return group + name
            if not group:
                return None
            group = outer(group)

    def is_group(self, name: str) -> bool:
        """Return whether a name that `nearest` returned is the name of a group."""
        return name not in self._tasks

    def members(
        self, group: str, among: Collection[str] | None = None, kind: str = "tasks"
    ) -> list[str]:
        """Return the tasks of a group and of the groups in it.

        Args:
            group: The group's name.
            among: The tasks to search; all tasks if omitted.
            kind: The word for these tasks in the error message.

        Raises:
            WorkflowValidationError: The group has no such tasks.
        """
        ids = self._tasks if among is None else among
        found = [id for id in ids if id.startswith(f"{group}.")]
        if not found:
            raise WorkflowValidationError(
                f"workflow '{self._workflow}': group '{group}' has no {kind}"
            )
        return found

    def tasks(self, name: str, group: str) -> list[str]:
        """Return the named task, or all tasks of the named group; an empty list for no match."""
        found = self.nearest(name, group)
        if found is None:
            return []
        return self.members(found) if self.is_group(found) else [found]


def outer(group: str) -> str:
    """Returns the prefix of the group that encloses the group with the given prefix.

    Returns an empty string if no group encloses it.
    """
    around = group[:-1].rpartition(".")[0]
    return f"{around}." if around else ""
