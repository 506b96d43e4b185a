"""The tasks and groups that a name stands for inside of a group (semantics U1)."""

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
        """Note the names.

        Args:
            workflow: The workflow's name.
            tasks: The ids of its tasks.
            groups: The names of its groups.
            full_prefix: The part of full names before the ids.
        """
        self._workflow = workflow
        self._tasks = tasks
        self._groups = groups
        self._full_prefix = full_prefix

    def shortened(self, name: str) -> str:
        """The id of a task that is given by its full name; any other name as it is."""
        return name.removeprefix(self._full_prefix)

    def nearest(self, name: str, group: str) -> str | None:
        """The task or the group that a name stands for, nearest first; `None` if there is none.

        Args:
            name: An id or a name of a group, with or without the prefix of the groups around it.
            group: The prefix of the group in which it is used; empty outside of groups.
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
        """Whether a name that `nearest` returned names a group."""
        return name not in self._tasks

    def members(
        self, group: str, among: Collection[str] | None = None, kind: str = "tasks"
    ) -> list[str]:
        """The tasks of a group and of the groups in it.

        Args:
            group: The group's name.
            among: The tasks to look in; all if omitted.
            kind: The name of those tasks, for the message.

        Raises:
            WorkflowValidationError: There are none.
        """
        ids = self._tasks if among is None else among
        found = [id for id in ids if id.startswith(f"{group}.")]
        if not found:
            raise WorkflowValidationError(
                f"workflow '{self._workflow}': group '{group}' has no {kind}"
            )
        return found

    def tasks(self, name: str, group: str) -> list[str]:
        """The task that a name stands for, or all tasks of a group; none if it is not known."""
        found = self.nearest(name, group)
        if found is None:
            return []
        return self.members(found) if self.is_group(found) else [found]


def outer(group: str) -> str:
    """The prefix of the group around a group, whose prefix is given; empty if there is none."""
    around = group[:-1].rpartition(".")[0]
    return f"{around}." if around else ""
