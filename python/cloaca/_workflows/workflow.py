"""A valid workflow, built by a builder and run by a runner."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca import _core
    from cloaca._tasks.definition import TaskDefinition
    from cloaca._workflows.input_model import InputModel


class Workflow:
    """A valid workflow: tasks, their order, and a version that changes with their behaviour.

    Made by `WorkflowBuilder.build`. Task ids may be short (`load`) or full
    (`public::embedded::etl::load`).

    Example:
        >>> with cloaca.WorkflowBuilder("etl") as builder:
        ...     @cloaca.task
        ...     def load(context):
        ...         pass
        ...
        ...     @cloaca.task(dependencies=[load])
        ...     def report(context):
        ...         pass
        >>> workflow = builder.build()
        >>> workflow.tasks, workflow.can_run_parallel("load", "report")
        (['load', 'report'], False)

    Since 1.0.
    """

    __slots__ = ("_core", "_definitions", "_finals", "_input")

    def __init__(
        self,
        core: _core.Workflow,
        definitions: dict[str, TaskDefinition],
        input: InputModel | None = None,
        finals: dict[str, TaskDefinition] | None = None,
    ) -> None:
        """Private: use `WorkflowBuilder`."""
        self._core = core
        self._definitions = definitions
        self._input = input
        # The final tasks and compensations, by the names of their handlers.
        self._finals = finals or {}

    def _handlers(self) -> dict[str, _core.TaskHandler]:
        """The engine's handlers of the tasks that this program runs, by task."""
        return {
            name: handler
            for name, task in [*self._definitions.items(), *self._finals.items()]
            if (handler := task.core_handler()) is not None
        }

    @property
    def name(self) -> str:
        """Its name. Since 1.0."""
        return self._core.name

    @property
    def description(self) -> str:
        """Its description. Since 1.0."""
        return self._core.description

    @property
    def version(self) -> str:
        """A hash of everything that affects its behaviour: see "Versions" in the docs.

        Since 1.0.
        """
        return self._core.version

    @property
    def tags(self) -> dict[str, str]:
        """Its tags. Since 1.0."""
        return self._core.tags

    @property
    def tasks(self) -> list[str]:
        """The ids of its tasks, in the order of their declaration. Since 1.0."""
        return self._core.tasks

    @property
    def dependencies(self) -> dict[str, list[str]]:
        """The ids of each task's dependencies, which must have ended before it. Since 1.0."""
        return self._core.dependencies

    @property
    def input_schema(self) -> dict[str, Any] | None:
        """The JSON schema of its `input=`; `None` if it declares none. Since 1.0."""
        return self._core.input_schema

    @property
    def output(self) -> str | tuple[str, ...] | None:
        """The keys of the results that its `output=` names; `None` if it declares none.

        Since 1.0.
        """
        return self._core.output

    def topological_sort(self) -> list[str]:
        """The full names of the tasks, each after its dependencies, otherwise in declaration order.

        Since 1.0.
        """
        return self._core.topological_sort()

    def get_execution_levels(self) -> list[list[str]]:
        """The full names of the tasks by level: tasks of one level can run in parallel.

        Since 1.0.
        """
        return self._core.get_execution_levels()

    def get_roots(self) -> list[str]:
        """The full names of the tasks without dependencies. Since 1.0."""
        return self._core.get_roots()

    def get_leaves(self) -> list[str]:
        """The full names of the tasks that nothing depends on. Since 1.0."""
        return self._core.get_leaves()

    def can_run_parallel(self, a: str, b: str) -> bool:
        """Whether neither of two tasks must wait for the other.

        Args:
            a: A task's id.
            b: Another task's id.

        Returns:
            True if they may run at the same time.

        Raises:
            WorkflowValidationError: There is no such task.

        Since 1.0.
        """
        return self._core.can_run_parallel(a, b)

    def validate(self) -> None:
        """Do nothing, because an invalid workflow cannot be built. Since 1.0."""
        self._core.validate()

    def to_mermaid(self) -> str:
        """The graph as a Mermaid flow chart, with the declared input and output. Since 1.0."""
        return self._core.to_mermaid()

    def to_dot(self) -> str:
        """The graph in Graphviz's language, with the declared input and output. Since 1.0."""
        return self._core.to_dot()

    def _repr_html_(self) -> str:
        """The graph as a drawing, for notebooks."""
        from cloaca._values.html import escape
        from cloaca._workflows.drawing import draw
        from cloaca._workflows.interface import interface_lines, notes

        caption = f"<b>{escape(self.name)}</b> <code>{self.version}</code>"
        if self.description:
            caption += f"<br>{escape(self.description)}"
        caption += "".join(f"<br>{escape(line)}" for line in interface_lines(self._core))
        levels = [
            [name.rpartition("::")[2] for name in level] for level in self.get_execution_levels()
        ]
        external = {task.id for task in self._definitions.values() if task.kind == "external"}
        return draw(caption, levels, self.dependencies, external, notes(self._core))

    def __repr__(self) -> str:
        """Name, version and size."""
        return f"<Workflow {self.name!r} version={self.version} tasks={len(self.tasks)}>"
