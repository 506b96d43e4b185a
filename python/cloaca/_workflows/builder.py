"""The builder of workflows, and the registration of workflows without a `with` block."""

from __future__ import annotations

from cloaca._core import Workflow as CoreWorkflow
from cloaca._core import encode_plain
from cloaca._tasks.references import tasks_of
from cloaca._values.arguments import suggests_arguments
from cloaca._values.exceptions import WorkflowValidationError
from cloaca._workflows.late_binding import LateBinding
from cloaca._workflows.registry import DefinitionSite, registry
from cloaca._workflows.workflow import Workflow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Token
    from types import TracebackType
    from typing import Any, Self

    from cloaca._tasks.conditions import Condition
    from cloaca._tasks.definition import TaskDefinition
    from cloaca._workflows.group import TaskGroup
    from cloaca._workflows.input_model import InputModel
    from cloaca._workflows.registry import OpenBuilder


class WorkflowBuilder:
    """Builds a workflow from the tasks defined in a `with` block, or step by step.

    The end of the `with` block registers the workflow, which replaces an earlier workflow with the
    same name. If the body of the block raises an exception, nothing is registered.

    Example:
        >>> with cloaca.WorkflowBuilder("etl") as builder:
        ...     builder.description("Load the daily file")
        ...
        ...     @cloaca.task
        ...     def extract(context):
        ...         context["rows"] = [1, 2, 3]

    Since 1.0.
    """

    @suggests_arguments
    def __init__(
        self,
        name: str,
        *,
        tenant: str | None = None,
        package: str | None = None,
        workflow: str | None = None,
        input: type | Mapping[str, object] | None = None,
        output: str | tuple[str, ...] | None = None,
    ) -> None:
        """Begin a workflow.

        Args:
            name: The workflow's name: 1 to 255 of the characters `A-Z a-z 0-9 _ . -`.
            tenant: The first part of the full task names; `public` if omitted.
            package: The second part of the full task names; `embedded` if omitted.
            workflow: The third part of the full task names; must equal `name` if given.
            input: The type of an execution's input: a model (pydantic, msgspec, attrs, a dataclass
                or a `TypedDict`), or a dict of names and types. Submissions are validated. A
                task's parameter receives the input field of the same name.
            output: The name of the task whose result is the execution's output, or a tuple of
                names. A name can also be a field of `input`. If omitted, the output is the final
                context.

        Raises:
            WorkflowValidationError: A name is not a string, `workflow` differs from `name`, or
                values of the type `input` cannot be decoded from JSON.
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
                hint="leave workflow= out, because it must equal the name",
            )
        registry.note_builder(name)
        self._place = _site_of_caller()
        self._name = name
        self._tenant = tenant
        self._package = package
        self._description = ""
        self._tags: dict[str, str] = {}
        self._definitions: dict[str, TaskDefinition] = {}
        self._late_binding = LateBinding()
        self._tokens: list[Token[OpenBuilder | None]] = []
        self._output = _checked_output(name, output)
        self._input: InputModel | None = None
        self._groups: dict[str, TaskGroup] = {}
        self._cancel_on: list[Condition] = []
        # The prefix of the open group, for the ids of new tasks.
        self._prefix = ""
        # The id of the task whose result becomes the output, if the function does not take the
        # context.
        self._returns: str | None = None
        if input is not None:
            from cloaca._workflows.input_model import InputModel

            self._input = InputModel(name, input)

    @property
    def name(self) -> str:
        """The workflow's name. Since 1.0."""
        return self._name

    def description(self, text: str) -> Self:
        """Set a description of the workflow for human readers.

        Args:
            text: The description.

        Returns:
            The builder.

        Raises:
            WorkflowValidationError: The description is not a string.

        Example:
            >>> builder.description("Load the daily file")

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
        """Tag the workflow, for human readers and for `list_executions(tags=...)`.

        Args:
            key: The tag's name.
            value: The tag's value, which replaces an earlier value.

        Returns:
            The builder.

        Raises:
            WorkflowValidationError: The key or the value is not a string.

        Example:
            >>> builder.tag("team", "data")

        Since 1.0.
        """
        if not all(isinstance(text, str) for text in (key, value)):
            raise WorkflowValidationError(
                f"a tag of workflow '{self._name}' must have a string as key and as value, "
                f"not {key!r} and {value!r}"
            )
        self._tags[key] = value
        return self

    def cancel_on(self, *signals: Condition) -> Self:
        """Cancel an execution when one of these signals is sent.

        Args:
            *signals: The signals. Their keys are paths into the input. If an input has no value at
                a path, the signal cannot cancel the execution; a warning and `explain` report
                this.

        Returns:
            The builder.

        Raises:
            TaskValidationError: An argument is not a signal. The error is a `ValueError`.

        Example:
            >>> builder.cancel_on(cloaca.signal("order.cancelled", key="order_id"))

        Since 1.0.
        """
        from cloaca._tasks.conditions import as_condition

        self._cancel_on += [as_condition("cancel_on", signal) for signal in signals]
        return self

    def add_task(self, task: str | Callable[..., object]) -> Self:
        """Add a task that was defined outside of the builder's block.

        If the workflow already has the task, for example from its `with` block, nothing changes.

        Args:
            task: The task's id, or its function.

        Returns:
            The builder.

        Raises:
            WorkflowValidationError: There is no such task, or the workflow has a different task
                with the same id. The error is a `ValueError`.

        Example:
            >>> builder.add_task(extract).add_task("total")

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
        """Add a task. Adding the same task object again has no effect.

        The check runs here, so the traceback of its error contains the line that adds the task.

        Raises:
            WorkflowValidationError: The workflow has a different task with the same id.
        """
        if self._definitions.get(task.id, task) is not task:
            raise WorkflowValidationError(
                f"workflow '{self._name}' has two tasks with the id '{task.id}'",
                hint="give one of them another id=...",
            )
        if task.id not in self._definitions:
            self._late_binding.check(task)
        self._definitions[task.id] = task

    def build(self) -> Workflow:
        """Validate and return the workflow, without registering it.

        A `with` block or `register_workflow_constructor` registers a workflow.

        Returns:
            The workflow.

        Raises:
            WorkflowValidationError: The definition breaks a rule; the message names the task. The
                error is a `ValueError`.
            TaskValidationError: The definition of a task breaks a rule. The error is a
                `ValueError`.

        Example:
            >>> workflow = cloaca.WorkflowBuilder("etl").add_task(extract).build()
            >>> workflow.version

        Since 1.0.
        """
        from cloaca._values.encoding import encode_as
        from cloaca._workflows.linking import Linker
        from cloaca._workflows.producers import note_producers

        tenant, package = self._tenant or "public", self._package or "embedded"
        full_prefix = f"{tenant}::{package}::{self._name}::"
        definitions = self._definitions
        ordinary = {id: task for id, task in definitions.items() if task.options.final is None}
        finals = {id: task for id, task in definitions.items() if id not in ordinary}
        linker = Linker(
            self._name,
            ordinary,
            full_prefix=full_prefix,
            groups=self._groups,
            input=self._input,
        )
        tasks = linker.link()
        data: dict[str, Any] = {
            "name": self._name,
            "description": self._description,
            "tags": self._tags,
            "tasks": [task.to_definition() for task in tasks.values()],
        }
        if self._tenant is not None:
            data["tenant"] = self._tenant
        if self._package is not None:
            data["package"] = self._package
        if self._cancel_on:
            data["cancel_on"] = [signal._to_definition() for signal in self._cancel_on]
        if self._input is not None:
            data["input"] = self._input.schema()
        handlers: dict[str, TaskDefinition] = {}
        if finals or any(task.options.compensation is not None for task in ordinary.values()):
            from cloaca._workflows.finale import Finale
            from cloaca._workflows.group_names import GroupNames

            names = GroupNames(self._name, definitions, self._groups, full_prefix)
            finale = Finale(self._name, ordinary, finals, self._input, names)
            data["finals"], handlers = finale.definitions, finale.handlers
        note_producers(tasks, handlers)
        if self._returns is not None:
            returning = tasks[self._returns]
            # The results of a map are not in the context, so they cannot be the output.
            if returning.returns_value and returning.options.map is None:
                self._output = self._returns
        output = linker.output_keys(self._output)
        if self._output is not None:
            data["output"] = output[0] if isinstance(self._output, str) else output
        text = encode_plain(data)
        if text is None:
            try:
                text = encode_as(f"the definition of workflow {self._name!r}", data)
            except ValueError as error:
                raise WorkflowValidationError(str(error)) from None
        return Workflow(CoreWorkflow.build(text), tasks, self._input, handlers)

    def _return_result(self, task_id: str) -> None:
        """Make a task's result the output, if the task's function does not take the context."""
        self._returns = task_id

    def _open_group(self, group: TaskGroup) -> None:
        """Begin a group.

        The check runs here, so the traceback of its error contains the line that defines the group.

        Raises:
            WorkflowValidationError: The workflow already has a group or a task with this name.
        """
        if self._groups.get(group.name, group) is not group or group.name in self._definitions:
            raise WorkflowValidationError(
                f"workflow '{self._name}' has two groups or tasks with the name '{group.name}'"
            )
        self._groups[group.name] = group
        self._prefix = group.prefix

    def _close_group(self, group: TaskGroup) -> None:
        """End a group."""
        self._prefix = group.parent

    def __enter__(self) -> Self:
        """Begin the block. Tasks that are defined in it belong to the workflow."""
        self._tokens.append(registry.enter(self))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Register the workflow, unless the body raised an exception."""
        registry.leave(self._tokens.pop())
        if kind is None:
            registry.add_workflow(self.build(), self._place)

    def __repr__(self) -> str:
        """Return the name and the tasks."""
        return f"<WorkflowBuilder {self._name!r} tasks={list(self._definitions)}>"


def register_workflow_constructor(name: str, constructor: Callable[[], Workflow]) -> None:
    """Register the workflow that a function returns.

    The function is called at once, and its exceptions are raised here.

    Args:
        name: The workflow's name.
        constructor: The function, which returns the result of `WorkflowBuilder.build`.

    Raises:
        WorkflowValidationError: The function returns no workflow, or a workflow with another name.
            The error is a `ValueError`.

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
    registry.add_workflow(workflow, _site_of_caller())


def _checked_output(name: str, output: Any) -> str | tuple[str, ...] | None:
    names = output if isinstance(output, (tuple, list)) else () if output is None else (output,)
    if any(not isinstance(part, str) for part in names) or (output is not None and not names):
        raise WorkflowValidationError(
            f"the output of workflow '{name}' must be the name of a task or a tuple of names, "
            f"not {output!r}"
        )
    return tuple(output) if isinstance(output, (tuple, list)) else output


def _site_of_caller() -> DefinitionSite:
    """Returns the line of the nearest calling code outside of the package `cloaca`."""
    from sys import _getframe

    frame = _getframe(1)
    while frame.f_back and str(frame.f_globals.get("__name__")).startswith("cloaca."):
        frame = frame.f_back
    return DefinitionSite(frame)
