"""The builder of a workflow."""

from __future__ import annotations

from cloaca._core import Workflow as CoreWorkflow
from cloaca._tasks.references import tasks_of
from cloaca._values.arguments import names_arguments
from cloaca._values.exceptions import WorkflowValidationError
from cloaca._workflows.registry import registry
from cloaca._workflows.workflow import Workflow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType
    from typing import Any, Self

    from cloaca._tasks.definition import TaskDefinition
    from cloaca._workflows.registry import OpenBuilder


class WorkflowBuilder:
    """Builds a workflow, from the tasks defined in its `with` block or step by step.

    A `with` block registers the workflow at its end, and replaces an earlier one of the same name.
    If its body raises, nothing is registered.

    Example:
        >>> with cloaca.WorkflowBuilder("etl") as builder:
        ...     builder.description("Load the daily file")
        ...
        ...     @cloaca.task
        ...     def extract(context):
        ...         context["rows"] = [1, 2, 3]

    Since 1.0.
    """

    @names_arguments
    def __init__(
        self,
        name: str,
        *,
        tenant: str | None = None,
        package: str | None = None,
        workflow: str | None = None,
    ) -> None:
        """Begin a workflow.

        Args:
            name: Its name: 1 to 255 of the characters `A-Z a-z 0-9 _ . -`.
            tenant: First part of the full task names; `public` if omitted.
            package: Second part of the full task names; `embedded` if omitted.
            workflow: Third part of the full task names; must equal `name` if given.

        Raises:
            WorkflowValidationError: An argument is not a string, or `workflow` is not the name.
        """
        given: dict[str, object] = {"name": name, "tenant": tenant, "package": package}
        for what, value in given.items():
            if not isinstance(value, str) and (what == "name" or value is not None):
                raise WorkflowValidationError(
                    f"the {what} of a workflow must be a string, not {type(value).__name__}"
                )
        if workflow is not None and workflow != name:
            raise WorkflowValidationError(
                f"workflow {name!r} cannot have tasks of the workflow {workflow!r}",
                hint="leave workflow= out: it is the name",
            )
        registry.note_builder(name)
        self._file = _file_of_caller()
        self._name = name
        self._tenant = tenant
        self._package = package
        self._description = ""
        self._tags: dict[str, str] = {}
        self._definitions: dict[str, TaskDefinition] = {}
        self._tokens: list[Token[OpenBuilder | None]] = []

    @property
    def name(self) -> str:
        """The workflow's name. Since 1.0."""
        return self._name

    def description(self, text: str) -> Self:
        """Describe the workflow, for people.

        Args:
            text: The description.

        Returns:
            The builder.

        Raises:
            WorkflowValidationError: It is not a string.

        Since 1.0.
        """
        if not isinstance(text, str):
            raise WorkflowValidationError(
                f"the description of workflow '{self._name}' must be a string, "
                f"not {type(text).__name__}"
            )
        self._description = text
        return self

    def tag(self, key: str, value: str) -> Self:
        """Tag the workflow, for people and for `list_executions(tags=...)`.

        Args:
            key: The tag's name.
            value: The tag's value. Replaces an earlier one.

        Returns:
            The builder.

        Raises:
            WorkflowValidationError: One of them is not a string.

        Since 1.0.
        """
        if not all(isinstance(text, str) for text in (key, value)):
            raise WorkflowValidationError(
                f"a tag of workflow '{self._name}' must be a string with a string: "
                f"{key!r}: {value!r}"
            )
        self._tags[key] = value
        return self

    def add_task(self, task: str | Callable[..., object]) -> Self:
        """Add a task that was defined outside of the builder's block.

        A task that the workflow already has, for example from the block, is unchanged.

        Args:
            task: Its id, or its function.

        Returns:
            The builder.

        Raises:
            WorkflowValidationError: There is no such task, or the workflow has one with its id. It
                is a `ValueError`.

        Since 1.0.
        """
        if isinstance(task, str):
            if task in self._definitions:
                return self
            found = registry.loose_task(task)
            if found is None:
                raise WorkflowValidationError(
                    f"Task '{task}' not found in registry",
                    hint=registry.suggest_task(task)
                    or "define it with @cloaca.task before it is added",
                )
            self._add_definition(found)
            return self
        if not callable(task):
            raise WorkflowValidationError(
                "Task must be either a string task ID or a function object, "
                f"not {type(task).__name__}"
            )
        tasks = tasks_of(task)
        if not tasks:
            name = getattr(task, "__name__", repr(task))
            raise WorkflowValidationError(
                f"Task '{name}' not found in registry", hint="decorate it with @cloaca.task"
            )
        self._add_definition(tasks[-1])
        return self

    def _add_definition(self, task: TaskDefinition) -> None:
        """Add a task, at the line that defines it.

        Adding the very same task again does nothing.

        Raises:
            WorkflowValidationError: The workflow has another task with its id.
        """
        if self._definitions.get(task.id, task) is not task:
            raise WorkflowValidationError(
                f"workflow '{self._name}' has two tasks with the id '{task.id}'",
                hint="give one of them another id=...",
            )
        self._definitions[task.id] = task

    def build(self) -> Workflow:
        """Validate the workflow.

        This does not register it; the `with` block or a constructor does.

        Returns:
            The workflow.

        Raises:
            WorkflowValidationError: The definition breaks a rule; the message names the task. It
                is a `ValueError`.
            TaskValidationError: The definition of a task breaks a rule. It is a `ValueError`.

        Since 1.0.
        """
        from cloaca._values.encoding import encode_as

        data: dict[str, Any] = {
            "name": self._name,
            "description": self._description,
            "tags": self._tags,
            "tasks": [task.to_definition() for task in self._definitions.values()],
        }
        if self._tenant is not None:
            data["tenant"] = self._tenant
        if self._package is not None:
            data["package"] = self._package
        try:
            text = encode_as(f"the definition of workflow {self._name!r}", data)
        except ValueError as error:
            raise WorkflowValidationError(str(error)) from None
        return Workflow(CoreWorkflow.build(text), dict(self._definitions))

    def __enter__(self) -> Self:
        """Begin the block whose tasks join the workflow."""
        self._tokens.append(registry.enter(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Register the workflow, unless the body raised."""
        registry.leave(self._tokens.pop())
        if kind is None:
            registry.add_workflow(self.build(), self._file)

    def __repr__(self) -> str:
        """Name and tasks."""
        return f"<WorkflowBuilder {self._name!r} tasks={list(self._definitions)}>"


def register_workflow_constructor(name: str, constructor: Callable[[], Workflow]) -> None:
    """Register the workflow that a function makes.

    The function is called at once, so that an error is raised at the call.

    Args:
        name: The workflow's name.
        constructor: Returns what `WorkflowBuilder.build` made.

    Raises:
        WorkflowValidationError: It returns no workflow, or one of another name. It is a
            `ValueError`.

    Example:
        >>> builder = cloaca.WorkflowBuilder("etl").add_task("extract").add_task("total")
        >>> cloaca.register_workflow_constructor("etl", builder.build)

    Since 1.0.
    """
    if not callable(constructor):
        raise WorkflowValidationError(
            f"the constructor of workflow {name!r} must be a function, "
            f"not {type(constructor).__name__}"
        )
    workflow = constructor()
    if not isinstance(workflow, Workflow):
        raise WorkflowValidationError(
            f"the constructor of workflow {name!r} returned {type(workflow).__name__}, "
            "not a Workflow",
            hint="return builder.build()",
        )
    if workflow.name != name:
        raise WorkflowValidationError(
            f"the constructor of workflow {name!r} returned the workflow {workflow.name!r}"
        )
    registry.add_workflow(workflow, _file_of_caller())


def _file_of_caller() -> str:
    """The file of the code outside of this package that is being run."""
    from sys import _getframe

    frame = _getframe(1)
    while frame.f_back and str(frame.f_globals.get("__name__")).startswith("cloaca."):
        frame = frame.f_back
    return frame.f_code.co_filename
