"""Binds the final tasks and the compensations of a complete workflow (semantics Q).

Their parameters receive the results of ordinary tasks. These are values in the input of the derived
workflow, not dependencies. A parameter `error` receives the `ErrorInfo`.
"""

from __future__ import annotations

from cloaca._tasks.definition import TaskDefinition
from cloaca._tasks.options import read_options
from cloaca._tasks.parameters import read_signature
from cloaca._tasks.references import task_id, tasks_of
from cloaca._tasks.resolver import Scope, resolve
from cloaca._values.exceptions import TaskValidationError
from cloaca._values.suggestion import suggestion
from cloaca._workflows.group_names import outer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cloaca._tasks.call import Call
    from cloaca._tasks.final_options import Compensation
    from cloaca._tasks.markers import ResultMarker
    from cloaca._workflows.group_names import GroupNames
    from cloaca._workflows.input_model import InputModel


class ErrorDecoder:
    """Decodes the error of the ended execution: an `ErrorInfo`, or `None` if it completed."""

    accepts_null = True
    kinds = None

    def decode(self, text: str) -> Any:
        """The error of a JSON text."""
        from json import loads

        from cloaca._values.error_info import ErrorInfo

        data = loads(text)
        if data is None:
            return None
        return ErrorInfo(data["type"], data["message"], data.get("traceback"), data.get("task"))


class Finale:
    """The bound final tasks and compensations of a workflow.

    Attributes:
        handlers: The tasks by the name of their handlers.
        definitions: The tasks as the engine reads them.
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
            ordinary: Its ordinary tasks by id, as they were defined.
            finals: Its final tasks by id, as they were defined.
            input: Its declared input.
            names: The names of all its tasks and groups.

        Raises:
            TaskValidationError: A parameter has no meaning, or a reference is not known.
            WorkflowValidationError: A group has no tasks.
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
            marked=marked,
            error=ErrorDecoder(),
        )
        call = resolve(task.signature, scope)
        rule = task.rule
        if rule is not None:
            rule = rule.with_tasks(lambda name: self._tasks(name, task.group, self._finals))
        return task.bound(call, self._edges(task, call), rule=rule)

    def _tasks(self, name: str, group: str, among: Mapping[str, TaskDefinition]) -> list[str]:
        """The task that a name stands for, or those tasks of a group that are in a mapping."""
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
        """The final tasks that must have ended before: declared ones, and sources of parameters."""
        edges: list[str] = []
        for name in task.dependencies:
            edges += self._tasks(name, task.group, self._finals) or [name]
        for source in call.sources:
            needed = source.task
            if needed is not None and needed in self._finals and needed != task.id:
                edges.append(needed)
        return tuple(dict.fromkeys(edges))
