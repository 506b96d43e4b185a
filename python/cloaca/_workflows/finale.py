"""Binds the final tasks and the compensations of a complete workflow (semantics Q).

These tasks form a derived workflow, which runs after an execution has ended. Its input contains the
results of the execution's ordinary tasks. A parameter that names an ordinary task therefore reads
the input and adds no dependency. A parameter `error` receives the `ErrorInfo`.
"""

from __future__ import annotations

from cloaca._tasks.definition import TaskDefinition
from cloaca._tasks.options import read_options
from cloaca._tasks.parameters import MISSING, name_of, read_signature
from cloaca._tasks.references import task_id, tasks_of
from cloaca._tasks.resolver import Scope, resolve
from cloaca._values.exceptions import TaskValidationError
from cloaca._values.suggestion import suggestion
from cloaca._workflows.group_names import outer
from cloaca._workflows.map_kinds import check_reader, is_map

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cloaca._tasks.call import Call
    from cloaca._tasks.final_options import Compensation
    from cloaca._tasks.markers import ResultMarker
    from cloaca._tasks.parameters import Signature
    from cloaca._workflows.group_names import GroupNames
    from cloaca._workflows.input_model import InputModel


class ErrorDecoder:
    """Decodes the error of the ended execution: an `ErrorInfo`, or `None` if it has no error."""

    accepts_null = True
    converts = False
    kinds = None

    def decode(self, text: str) -> Any:
        """Return the error that a JSON text describes."""
        from json import loads

        from cloaca._values.error_info import ErrorInfo

        data = loads(text)
        if data is None:
            return None
        return ErrorInfo(data["type"], data["message"], data.get("traceback"), data.get("task"))


def _check_error(task: TaskDefinition, signature: Signature, call: Call) -> None:
    """Refuses a parameter `error` whose annotation does not admit the error that it receives."""
    written = signature.annotation("error")
    takes_error = any(isinstance(source.decoder, ErrorDecoder) for source in call.sources)
    if written is MISSING or not takes_error or signature.is_annotated("error", "ErrorInfo"):
        return
    from typing import Any

    from cloaca._values.annotations import evaluate
    from cloaca._values.error_info import ErrorInfo

    try:
        annotation = evaluate("error", written, signature.function)
    except Exception:
        return  # The annotation contains a name that is imported only for type checkers.
    parts = (annotation, *getattr(annotation, "__args__", ()))
    if not any(part in (ErrorInfo, object, Any) for part in parts):
        shown = getattr(annotation, "__name__", annotation)
        raise TaskValidationError(
            f"task '{task.id}': parameter 'error' of {name_of(signature.function)} receives the "
            f"error of the execution, not {shown}",
            hint="annotate it with `cloaca.ErrorInfo | None`, or rename the parameter",
        )


class Finale:
    """The bound final tasks and compensations of a workflow.

    Attributes:
        handlers: The tasks by the names of their handlers.
        definitions: The tasks in the form that the engine reads.
    """

    __slots__ = (
        "_finals",
        "_input",
        "_keys",
        "_names",
        "_ordinary",
        "_workflow",
        "definitions",
        "handlers",
    )

    def __init__(
        self,
        workflow: str,
        ordinary: Mapping[str, TaskDefinition],
        finals: Mapping[str, TaskDefinition],
        input: InputModel | None,
        names: GroupNames,
    ) -> None:
        """Bind the tasks.

        Args:
            workflow: The workflow's name.
            ordinary: The workflow's ordinary tasks by id, before they are bound.
            finals: The workflow's final tasks by id, before they are bound.
            input: The workflow's declared input.
            names: The names of all tasks and groups of the workflow.

        Raises:
            TaskValidationError: A parameter has no source, or a reference is not known.
            WorkflowValidationError: A reference names a group that has no tasks of the required
                kind, ordinary or final.
        """
        self._workflow = workflow
        self._ordinary = ordinary
        self._finals = finals
        self._input = input
        self._names = names
        self._keys = {task.id: task.result_key for task in [*ordinary.values(), *finals.values()]}
        self.handlers: dict[str, TaskDefinition] = {}
        self.definitions: list[dict[str, Any]] = []
        for task in finals.values():
            self._add_final(task)
        for task in ordinary.values():
            if task.options.compensation is not None:
                self._add_compensation(task, task.options.compensation)

    def _add_final(self, task: TaskDefinition) -> None:
        final = task.options.final
        assert final is not None
        bound = self._bound(task, with_finals=True)
        what = f"task '{task.id}': undoes"
        undoes: dict[str, None] = {}
        for reference in final.undoes:
            name = task_id(what, reference, dict(self._ordinary))
            undoes.update(dict.fromkeys(self._tasks(name, task.group, self._ordinary) or [name]))
        role: dict[str, Any] = {"on": final.end}
        if undoes:
            role["undoes"] = list(undoes)
        self.handlers[task.id] = bound
        self.definitions.append({**bound.to_definition(), "role": {"final": role}})

    def _add_compensation(self, task: TaskDefinition, compensation: Compensation) -> None:
        function = compensation.function
        signature = read_signature(function, f"{task.id} (compensate)")
        known = tasks_of(function)
        options = known[-1].options if known else read_options(f"compensation of {task.id!r}")
        undo = TaskDefinition(
            task.id, (), options, function, signature, output=f"{task.id}~undone", group=task.group
        )
        bound = self._bound(undo, with_finals=False)
        role = {"failed": True} if compensation.after_failure else {}
        self.handlers[f"{task.id}~final"] = bound
        self.definitions.append({**bound.to_definition(), "role": {"compensation": role}})

    def _bound(self, task: TaskDefinition, *, with_finals: bool) -> TaskDefinition:
        if task.signature is None:
            raise TaskValidationError(f"task '{task.id}': a final task must have a function")
        tasks = {**self._ordinary, **self._finals} if with_finals else dict(self._ordinary)

        def find(name: str) -> str | None:
            return self._find(name, task, tasks)

        def marked(parameter: str, marker: ResultMarker) -> tuple[str, str]:
            what = f"task '{task.id}': cloaca.result of parameter '{parameter}'"
            reference = task_id(what, marker.reference, tasks)
            found = find(self._names.shortened(reference))
            if found is None:
                raise TaskValidationError(
                    f"task '{task.id}': parameter '{parameter}' is the result of task "
                    f"'{reference}', which workflow '{self._workflow}' does not have",
                    hint=suggestion(reference, list(tasks)),
                )
            return found, self._keys[found]

        scope = Scope(
            task.id if with_finals else "",
            task.result_key,
            find=find,
            keys=self._keys,
            fields=None if self._input is None else self._input.fields,
            default_of_input=None if self._input is None else self._input.default_of,
            marked=marked,
            error=ErrorDecoder(),
        )
        call = resolve(task.signature, scope)
        _check_error(task, task.signature, call)
        for source in call.sources:
            maker = tasks.get(source.task or "")
            if maker is not None and (source.items is not None or is_map(maker)):
                check_reader(task, source, maker)
        rule = task.rule
        if rule is not None:
            rule = rule.with_tasks(lambda name: self._tasks(name, task.group, self._finals))
        return task.bound(call, self._edges(task, call), rule=rule)

    def _tasks(self, name: str, group: str, among: Mapping[str, TaskDefinition]) -> list[str]:
        """Return the named task, or the tasks of the named group that are in `among`.

        Returns an empty list for an unknown name.
        """
        found = self._names.nearest(name, group)
        if found is None:
            return []
        if not self._names.is_group(found):
            return [found]
        kind = "final tasks" if among is self._finals else "ordinary tasks"
        return self._names.members(found, among, kind)

    def _find(
        self, name: str, task: TaskDefinition, tasks: Mapping[str, TaskDefinition]
    ) -> str | None:
        group = task.group
        while group:
            if group + name in tasks:
                return group + name
            group = outer(group)
        if name in tasks:
            return name
        return next((id for id in tasks if self._keys[id] == name), None)

    def _edges(self, task: TaskDefinition, call: Call) -> tuple[str, ...]:
        """Return the final tasks that must end before a task.

        These are the task's declared dependencies and the final tasks whose results it takes.
        """
        edges: list[str] = []
        for name in task.dependencies:
            edges += self._tasks(name, task.group, self._finals) or [name]
        for source in call.sources:
            needed = source.task
            if needed is not None and needed in self._finals and needed != task.id:
                edges.append(needed)
        return tuple(dict.fromkeys(edges))
