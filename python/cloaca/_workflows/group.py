"""Groups: tasks of a workflow that share a prefix and a start (semantics U1)."""

from __future__ import annotations

from cloaca._values.exceptions import TaskValidationError, WorkflowValidationError
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self


class TaskGroup:
    """Tasks with a common prefix. Made by `cloaca.group`.

    Since 1.0.
    """

    __slots__ = ("_name", "dependencies", "name", "parent")

    def __init__(self, name: str, dependencies: Iterable[object] | None) -> None:
        """Private: use `cloaca.group`."""
        self._name = name
        #: The name, with the names of the groups around it. Since 1.0.
        self.name = name
        #: The tasks and groups after which its first tasks start, as they were given.
        self.dependencies = dependencies
        #: The prefix of the group around it.
        self.parent = ""

    @property
    def _group_name(self) -> str:
        """The name, for references to the group."""
        return self.name

    @property
    def prefix(self) -> str:
        """The prefix of the ids of its tasks. Since 1.0."""
        return f"{self.name}."

    def __enter__(self) -> Self:
        """Begin the block whose tasks join the group."""
        builder = registry.current_builder()
        if builder is None:
            raise WorkflowValidationError(
                f"group '{self._name}' is outside of a workflow",
                hint="use it inside of 'with cloaca.WorkflowBuilder(...)'",
            )
        self.parent = builder._prefix
        self.name = f"{self.parent}{self._name}"
        builder._open_group(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the block."""
        builder = registry.current_builder()
        if builder is not None:
            builder._close_group(self)

    def __repr__(self) -> str:
        """Its name."""
        return f"<cloaca.group {self.name!r}>"


def group(
    name: str,
    dependencies: Iterable[str | Callable[..., object] | TaskGroup] | None = None,
) -> TaskGroup:
    """Group the tasks of a `with` block of a workflow: `with cloaca.group("section") as section:`.

    The ids of the tasks get the prefix `section.`. The tasks of the group that depend on no other
    task of the group start after the group's dependencies. Other tasks can name the group, by the
    object or its name, as one dependency: they start when all of its tasks have ended. Inside of
    the group, other tasks of the group can be named without the prefix. Groups nest.

    Args:
        name: The group's name, without a dot.
        dependencies: Tasks or groups that must have ended before, by id or function.

    Returns:
        The group, for a `with` block and for `dependencies=`.

    Raises:
        TaskValidationError: The name is not valid.
        WorkflowValidationError: Its block is outside of a workflow, or the workflow has a group
            with this name.

    Example:
        >>> with cloaca.WorkflowBuilder("report"):
        ...     with cloaca.group("load") as load:
        ...         @cloaca.task
        ...         def orders() -> list[int]:
        ...             return [1, 2]
        ...     @cloaca.task(dependencies=[load])
        ...     def mail(total: list[int] = cloaca.result(orders)) -> None: ...

    Since 1.0.
    """
    given: object = name
    if not isinstance(given, str) or not name or "." in name:
        raise TaskValidationError(
            f"the name of a group must be a text without dots, not {name!r}",
            hint="nest groups: their names are joined by dots",
        )
    if isinstance(dependencies, str) or callable(dependencies):
        raise TaskValidationError(
            f"group '{name}': dependencies must be a list, not {dependencies!r}",
            hint="write dependencies=[...]",
        )
    return TaskGroup(name, None if dependencies is None else tuple(dependencies))


for _public in (TaskGroup, group):
    _public.__module__ = "cloaca"
