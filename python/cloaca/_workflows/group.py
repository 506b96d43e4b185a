"""Groups: tasks of a workflow that share a prefix and dependencies (semantics U1)."""

from __future__ import annotations

from cloaca._values.exceptions import TaskValidationError, WorkflowValidationError
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self


class TaskGroup:
    """A group of tasks whose ids share a prefix. `cloaca.group` creates it.

    Example:
        >>> with cloaca.WorkflowBuilder("report"):
        ...     with cloaca.group("load") as load:
        ...         @cloaca.task
        ...         def orders():
        ...             return [1, 2]
        >>> load.prefix
        'load.'

    Since 1.0.
    """

    __slots__ = ("_name", "dependencies", "name", "parent")

    def __init__(self, name: str, dependencies: Iterable[object] | None) -> None:
        """Private: use `cloaca.group`."""
        self._name = name
        #: The group's name, prefixed with the names of the enclosing groups. Since 1.0.
        self.name = name
        #: The tasks and groups that must end before the group's first tasks start.
        self.dependencies = dependencies
        #: The prefix of the enclosing group.
        self.parent = ""

    @property
    def _group_name(self) -> str:
        """The name, for references to the group."""
        return self.name

    @property
    def prefix(self) -> str:
        """The prefix of the ids of the group's tasks. Since 1.0."""
        return f"{self.name}."

    def __enter__(self) -> Self:
        """Begin the block. Tasks that are defined in it belong to the group."""
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
        """Return the name."""
        return f"<cloaca.group {self.name!r}>"


def group(
    name: str,
    dependencies: Iterable[str | Callable[..., object] | TaskGroup] | None = None,
) -> TaskGroup:
    """Group the tasks of a block in a workflow: `with cloaca.group("section") as section:`.

    The ids of the tasks have the prefix `section.`. Tasks that depend on no other task of the group
    start after the group's dependencies have ended. A task outside of the group can depend on the
    group, by object or by name. Such a task starts when all tasks of the group have ended. Inside
    the group, its tasks can be named without the prefix. Groups can be nested.

    Args:
        name: The group's name, without a dot.
        dependencies: Tasks or groups that must have ended before the group starts, by id or by
            function.

    Returns:
        The group, for a `with` block and for `dependencies=`.

    Raises:
        TaskValidationError: The name is not valid.
        WorkflowValidationError: The block is outside of a workflow, or the workflow already has a
            group with this name.

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
            f"the name of a group must be a non-empty string without dots, not {name!r}",
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
