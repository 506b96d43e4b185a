"""A valid workflow, which a builder creates and a runner runs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca import _core
    from cloaca._tasks.definition import TaskDefinition
    from cloaca._workflows.input_model import InputModel


class Workflow:
    """A valid workflow: tasks, their order, and a version that changes with their behaviour.

    `WorkflowBuilder.build` returns it. Methods accept a task's short id (`load`) or its full name
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
        """Return the engine's handlers of the tasks that this program runs, by task."""
        return {
            name: handler
            for name, task in [*self._definitions.items(), *self._finals.items()]
            if (handler := task.core_handler()) is not None
        }

    @property
    def name(self) -> str:
        """The workflow's name. Since 1.0."""
        return self._core.name

    @property
    def description(self) -> str:
        """The workflow's description. Since 1.0."""
        return self._core.description

    @property
    def version(self) -> str:
        """A hash of everything that affects the workflow's behaviour (see "Versions" in the docs).

        Since 1.0.
        """
        return self._core.version

    @property
    def tags(self) -> dict[str, str]:
        """The workflow's tags. Since 1.0."""
        return self._core.tags

    @property
    def tasks(self) -> list[str]:
        """The ids of the tasks, in the order of their declaration. Since 1.0."""
        return self._core.tasks

    @property
    def dependencies(self) -> dict[str, list[str]]:
        """The ids of each task's dependencies, by the task's id. Since 1.0."""
        return self._core.dependencies

    @property
    def input_schema(self) -> dict[str, Any] | None:
        """The JSON schema of the input; `None` if the workflow declares no input. Since 1.0."""
        return self._core.input_schema

    @property
    def output(self) -> str | tuple[str, ...] | None:
        """The keys of the values that `output=` names; `None` if the workflow declares no output.

        Since 1.0.
        """
        return self._core.output

    def topological_sort(self) -> list[str]:
        """Return the full names of the tasks, each task after its dependencies.

        If several orders are possible, the tasks are in the order of their declaration.

        Example:
            >>> workflow.topological_sort()
            ['public::embedded::etl::load', 'public::embedded::etl::report']

        Since 1.0.
        """
        return self._core.topological_sort()

    def get_execution_levels(self) -> list[list[str]]:
        """Return the full names of the tasks by level. Tasks of the same level can run in parallel.

        Example:
            >>> workflow.get_execution_levels()
            [['public::embedded::etl::load'], ['public::embedded::etl::report']]

        Since 1.0.
        """
        return self._core.get_execution_levels()

    def get_roots(self) -> list[str]:
        """Return the full names of the tasks without dependencies.

        Example:
            >>> workflow.get_roots()
            ['public::embedded::etl::load']

        Since 1.0.
        """
        return self._core.get_roots()

    def get_leaves(self) -> list[str]:
        """Return the full names of the tasks that no other task depends on.

        Example:
            >>> workflow.get_leaves()
            ['public::embedded::etl::report']

        Since 1.0.
        """
        return self._core.get_leaves()

    def can_run_parallel(self, a: str, b: str) -> bool:
        """Return whether neither of two tasks must wait for the other.

        Args:
            a: A task's id.
            b: Another task's id.

        Returns:
            `True` if the tasks may run at the same time.

        Raises:
            WorkflowValidationError: There is no such task.

        Example:
            >>> workflow.can_run_parallel("load", "report")
            False

        Since 1.0.
        """
        return self._core.can_run_parallel(a, b)

    def validate(self) -> None:
        """Do nothing, because an invalid workflow cannot be built. Since 1.0."""
        self._core.validate()

    def to_mermaid(self) -> str:
        """Return the graph as a Mermaid chart, with the declared input and output.

        Example:
            >>> print(workflow.to_mermaid())

        Since 1.0.
        """
        return self._core.to_mermaid()

    def to_dot(self) -> str:
        """Return the graph in Graphviz's language, with the declared input and output.

        Example:
            >>> Path("etl.dot").write_text(workflow.to_dot())

        Since 1.0.
        """
        return self._core.to_dot()

    def _repr_html_(self) -> str:
        """Return the graph as an HTML drawing, which notebooks display."""
        from cloaca._values.html import escape
        from cloaca._workflows.drawing import draw
        from cloaca._workflows.interface import interface_lines, parameter_texts

        caption = f"<b>{escape(self.name)}</b> <code>{self.version}</code>"
        if self.description:
            caption += f"<br>{escape(self.description)}"
        caption += "".join(f"<br>{escape(line)}" for line in interface_lines(self._core))
        levels = [
            [name.rpartition("::")[2] for name in level] for level in self.get_execution_levels()
        ]
        external = {task.id for task in self._definitions.values() if task.kind == "external"}
        return draw(caption, levels, self.dependencies, external, parameter_texts(self._core))

    def __repr__(self) -> str:
        """Return the name, the version and the number of tasks."""
        return f"<Workflow {self.name!r} version={self.version} tasks={len(self.tasks)}>"
