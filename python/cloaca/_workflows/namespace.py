"""The parts of a task's full name, `tenant::package::workflow::task`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn, Self

_SEPARATOR = "::"
NAME_HINT = "a workflow's name has 1 to 255 of the characters A-Z a-z 0-9 _ . -"


def is_workflow_name(value: object) -> bool:
    """Returns whether a workflow can have this name (semantics A1)."""
    import re

    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]{1,255}", value) is not None


class _Names:
    """A tuple of named parts. Immutable; compared by value."""

    __slots__ = ("_parts",)

    def __init__(self, *parts: str) -> None:
        given: tuple[object, ...] = parts
        for part in given:
            if not isinstance(part, str) or not part or _SEPARATOR in part:
                raise ValueError(
                    f"a part of a full name must be a non-empty string without '::', not {part!r}"
                )
        object.__setattr__(self, "_parts", parts)

    _parts: tuple[str, ...]

    def __setattr__(self, name: str, value: object) -> NoReturn:
        """Refuse to set an attribute."""
        raise AttributeError(f"{type(self).__name__} cannot be changed")

    def __reduce__(self) -> tuple[type[Self], tuple[str, ...]]:
        """Makes copying and unpickling call the constructor, because attributes cannot be set."""
        return type(self), self._parts

    def as_components(self) -> tuple[str, ...]:
        """Returns the parts in order, starting with the tenant. Since 1.0."""
        return self._parts

    def __str__(self) -> str:
        """Returns the parts, joined by `::`."""
        return _SEPARATOR.join(self._parts)

    def __repr__(self) -> str:
        """Returns the constructor call."""
        return f"{type(self).__name__}({', '.join(map(repr, self._parts))})"

    def __eq__(self, other: object) -> bool:
        """Returns whether the two objects have the same class and the same parts."""
        return (
            isinstance(other, _Names) and type(other) is type(self) and self._parts == other._parts
        )

    def __hash__(self) -> int:
        """Returns the hash of the value."""
        return hash(self._parts)


class WorkflowContext(_Names):
    """The prefix of a workflow's task names: tenant, package and workflow.

    Example:
        >>> str(cloaca.WorkflowContext(workflow_id="etl").task_namespace("load"))
        'public::embedded::etl::load'

    Since 1.0.
    """

    __slots__ = ()

    def __init__(
        self,
        tenant_id: str = "public",
        package_name: str = "embedded",
        workflow_id: str = "default",
    ) -> None:
        """Create a prefix.

        Args:
            tenant_id: The tenant.
            package_name: The package.
            workflow_id: The workflow's name.

        Raises:
            ValueError: A part is empty or contains `::`.
        """
        super().__init__(tenant_id, package_name, workflow_id)

    @property
    def tenant_id(self) -> str:
        """The tenant. Since 1.0."""
        return self._parts[0]

    @property
    def package_name(self) -> str:
        """The package. Since 1.0."""
        return self._parts[1]

    @property
    def workflow_id(self) -> str:
        """The workflow's name. Since 1.0."""
        return self._parts[2]

    def task_namespace(self, task_id: str) -> TaskNamespace:
        """Return the full name of a task of this workflow.

        Args:
            task_id: The task's short id.

        Returns:
            The parts of the full name.

        Raises:
            ValueError: The id is empty or contains `::`.

        Example:
            >>> cloaca.WorkflowContext(workflow_id="etl").task_namespace("load").task_id
            'load'

        Since 1.0.
        """
        return TaskNamespace(self.tenant_id, self.package_name, self.workflow_id, task_id)


class TaskNamespace(_Names):
    """A task's full name.

    Example:
        >>> str(cloaca.TaskNamespace("public", "embedded", "etl", "load"))
        'public::embedded::etl::load'

    Since 1.0.
    """

    __slots__ = ()

    def __init__(self, tenant_id: str, package_name: str, workflow_id: str, task_id: str) -> None:
        """Name a task.

        Args:
            tenant_id: The tenant.
            package_name: The package.
            workflow_id: The workflow's name.
            task_id: The task's short id.

        Raises:
            ValueError: A part is empty or contains `::`.
        """
        super().__init__(tenant_id, package_name, workflow_id, task_id)

    @staticmethod
    def from_string(text: str) -> TaskNamespace:
        """Parse a full name such as `public::embedded::etl::load`.

        Args:
            text: The four parts, joined by `::`.

        Returns:
            The parts of the full name.

        Raises:
            ValueError: The value is not text with four non-empty parts.

        Example:
            >>> cloaca.TaskNamespace.from_string("public::embedded::etl::load").workflow_id
            'etl'

        Since 1.0.
        """
        given: object = text
        parts = given.split(_SEPARATOR) if isinstance(given, str) else []
        if len(parts) != 4:
            raise ValueError(
                f"a full task name must be tenant::package::workflow::task, not {text!r}"
            )
        return TaskNamespace(*parts)

    @property
    def tenant_id(self) -> str:
        """The tenant. Since 1.0."""
        return self._parts[0]

    @property
    def package_name(self) -> str:
        """The package. Since 1.0."""
        return self._parts[1]

    @property
    def workflow_id(self) -> str:
        """The workflow's name. Since 1.0."""
        return self._parts[2]

    @property
    def task_id(self) -> str:
        """The task's short id. Since 1.0."""
        return self._parts[3]
