"""Binds the tasks of a complete workflow: finds the sources of parameters and the dependencies.

See semantics J1, J6, U1. Binding creates new objects and leaves the given tasks unchanged, so that
a task can be part of several workflows.
"""

from __future__ import annotations

from functools import partial

from cloaca._tasks.references import task_id
from cloaca._tasks.resolver import Scope, resolve
from cloaca._values.exceptions import TaskValidationError, WorkflowValidationError
from cloaca._values.suggestion import suggestion
from cloaca._workflows.group_names import GroupNames, outer
from cloaca._workflows.map_kinds import (
    MappedList,
    check_lists,
    check_reader,
    is_map,
    kinds_text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from cloaca._tasks.call import Call, Source
    from cloaca._tasks.definition import TaskDefinition
    from cloaca._tasks.markers import ResultMarker
    from cloaca._tasks.trigger_rule import TriggerRule
    from cloaca._workflows.group import TaskGroup
    from cloaca._workflows.input_model import InputModel

    Tasks = Mapping[str, TaskDefinition]


class Linker:
    """Binds the tasks of one workflow."""

    def __init__(
        self,
        workflow: str,
        tasks: Tasks,
        *,
        full_prefix: str,
        groups: Mapping[str, TaskGroup],
        input: InputModel | None,
    ) -> None:
        """Collect the names of the workflow's tasks, groups and results.

        Args:
            workflow: The workflow's name.
            tasks: The workflow's tasks by id, before they are bound.
            full_prefix: The part of full task names before the id.
            groups: The workflow's groups by name.
            input: The workflow's declared input.

        Raises:
            WorkflowValidationError: Two tasks store their results under the same key.
        """
        self._workflow = workflow
        self._tasks = tasks
        self._groups = groups
        self._names = GroupNames(workflow, tasks, groups, full_prefix)
        self._input = input
        self._keys = {task.id: task.result_key for task in tasks.values()}
        self._by_key = self._owners()
        self._calls: dict[str, Call | None] = {}
        # For each mapped task: the key of each parameter's list, the origin of each parameter's
        # list, and the tasks whose results contain the lists.
        self._lists: dict[str, dict[str, str]] = {}
        self._origins: dict[str, dict[str, MappedList]] = {}
        self._makers: dict[str, list[str]] = {}
        # In a workflow with groups: the trigger rules, with each name replaced by the ids of the
        # tasks that it means.
        self._rules: dict[str, TriggerRule] = {}
        # The groups for which a call of `_leaves` is running. They reveal a group that depends on
        # itself.
        self._expanding: set[str] = set()

    def link(self) -> dict[str, TaskDefinition]:
        """Return the bound tasks by id.

        Raises:
            TaskValidationError: A parameter has no source, or its annotation does not match the
                source.
            WorkflowValidationError: A dependency or a trigger rule names a group without tasks.
        """
        calls = self._calls = {task.id: self._call(task) for task in self._tasks.values()}
        if self._groups:
            for task in self._tasks.values():
                if task.rule is not None:
                    find = partial(self._names.tasks, group=task.group)
                    self._rules[task.id] = task.rule.with_tasks(find)
        edges = {id: self._edges(self._tasks[id], call) for id, call in calls.items()}
        if self._groups:
            self._join_groups(edges)
        self._check_kinds(calls)
        return {
            id: self._tasks[id].bound(
                call, tuple(edges[id]), self._lists.get(id), self._rules.get(id)
            )
            for id, call in calls.items()
        }

    def output_keys(self, output: str | tuple[str, ...] | None) -> list[str]:
        """Return the keys of the results and input fields that form the workflow's output.

        Raises:
            WorkflowValidationError: A name is neither a task's result nor a field of the input, or
                it names a map.
        """
        names = (output,) if isinstance(output, str) else (output or ())
        keys = []
        for name in names:
            id = self._find(name, "")
            key = self._keys[id] if id is not None else name
            if id is None and (self._input is None or name not in self._input.fields):
                raise WorkflowValidationError(
                    f"workflow '{self._workflow}': output={name!r} is neither the result of a task "
                    "nor a field of the input",
                    hint=suggestion(name, [*self._keys, *self._keys.values()]),
                )
            if id is not None and self._tasks[id].options.map is not None:
                raise WorkflowValidationError(
                    f"workflow '{self._workflow}': output={name!r} is a map, whose results are "
                    "not in the context",
                    hint=f"add a task that takes {name} as a parameter and returns the output",
                )
            keys.append(self._input.fields[name] if id is None and self._input else key)
        return keys

    def _owners(self) -> dict[str, str]:
        """Return the task of each result, by the result's key."""
        found: dict[str, str] = {}
        for task in self._tasks.values():
            other = found.get(task.result_key)
            if other is None and task.output is not None and task.output in self._tasks:
                other = task.output if task.output != task.id else None
            if other is not None:
                raise WorkflowValidationError(
                    f"workflow '{self._workflow}': the tasks '{other}' and '{task.id}' both have "
                    f"the result '{task.result_key}'",
                    hint="give one of them another output=",
                )
            found[task.result_key] = task.id
        return found

    def _find(self, name: str, group: str) -> str | None:
        """Return the id of the nearest task that a name means inside a group, or `None`."""
        while True:
            if group + name in self._tasks:
                return group + name
            if not group:
                return self._by_key.get(name)
            group = outer(group)

    def _call(self, task: TaskDefinition) -> Call | None:
        if task.signature is None:
            if task.options.map is not None:
                self._read_lists(task, None)
            return None

        def marked(parameter: str, marker: ResultMarker) -> tuple[str, str]:
            what = f"task '{task.id}': cloaca.result of parameter '{parameter}'"
            reference = task_id(what, marker.reference, dict(self._tasks))
            found = self._find(self._names.shortened(reference), task.group)
            if found is None:
                raise TaskValidationError(
                    f"task '{task.id}': parameter '{parameter}' is the result of task "
                    f"'{reference}', which workflow '{self._workflow}' does not have",
                    hint=suggestion(reference, [id for id in self._tasks if id != task.id]),
                )
            return found, self._keys[found]

        scope = Scope(
            task.id,
            task.result_key,
            find=lambda name: self._find(name, task.group),
            keys=self._keys,
            fields=None if self._input is None else self._input.fields,
            default_of_input=None if self._input is None else self._input.default_of,
            signals=() if task.options.wait is None else task.options.wait.signals,
            map=task.options.map,
            marked=marked,
        )
        call = resolve(task.signature, scope)
        if task.options.map is not None:
            self._read_lists(task, call)
        if task.output is not None and call.result_key is None:
            raise TaskValidationError(
                f"task '{task.id}' takes the context, so it has no result that "
                f"output={task.output!r} could name",
                hint=f"store it in the function: context[{task.output!r}] = ...",
            )
        return call

    def _read_lists(self, task: TaskDefinition, call: Call | None) -> None:
        """Records the keys of the lists that a mapped task or node runs over.

        A list is the result of a task, a field of the input or, if the workflow declares no input,
        the value of a context key.

        Raises:
            TaskValidationError: The workflow declares an input, and `over=` names neither a task
                nor a field of the input.
        """
        assert task.options.map is not None
        over = task.options.map.over
        items = ["item"]
        if call is not None:
            items = [source.parameter for source in call.sources if source.kind == "item"]
        given = over if isinstance(over, dict) else dict.fromkeys(items, over)
        lists, makers = self._lists.setdefault(task.id, {}), self._makers.setdefault(task.id, [])
        origins = self._origins.setdefault(task.id, {})
        for parameter, reference in given.items():
            what = f"over of task '{task.id}'"
            name = self._names.shortened(task_id(what, reference, dict(self._tasks)))
            head, dot, rest = name.partition(".")
            for part, path in ((name, ""), (head, dot + rest)):
                maker = self._find(part, task.group)
                if maker is not None and maker != task.id:
                    makers.append(maker)
                    lists[parameter] = self._keys[maker] + path
                    origins[parameter] = MappedList(maker, None, path)
                    break
                if self._input is not None and part in self._input.fields:
                    lists[parameter] = self._input.fields[part] + path
                    origins[parameter] = MappedList(None, part, path)
                    break
            else:
                if self._input is not None:
                    others = [id for id in self._keys if id != task.id]
                    raise TaskValidationError(
                        f"task '{task.id}' runs over '{name}', which is neither a task of the "
                        "workflow nor a field of its input",
                        hint=suggestion(name, [*others, *self._input.fields]),
                    )
                lists[parameter] = name

    def _edges(self, task: TaskDefinition, call: Call | None) -> list[str]:
        """Return the declared dependencies, and the dependencies that parameters add."""
        declared = list(task.dependencies)
        if self._groups:
            declared = [name for id in declared for name in self._expanded(task, id)]
        known = {self._names.shortened(id) for id in declared}
        for source in call.sources if call is not None else ():
            if source.task is not None and source.task not in known:
                known.add(source.task)
                declared.append(source.task)
        declared.extend(self._makers.get(task.id, ()))
        return list(dict.fromkeys(declared))

    # Groups

    def _expanded(self, task: TaskDefinition, name: str) -> list[str]:
        """Return the task that a dependency names, or the last tasks of the group that it names."""
        return self._lookup(name, task.group) or [name]

    def _lookup(self, name: str, group: str) -> list[str]:
        found = self._names.nearest(name, group)
        if found is None:
            return []
        return self._leaves(found) if self._names.is_group(found) else [found]

    def _leaves(self, group: str) -> list[str]:
        """Return the last tasks of a group: no other task of the group depends on them."""
        members = self._names.members(group)
        if group in self._expanding:
            return members  # The group depends on itself. The engine will refuse the cycle.
        self._expanding.add(group)
        before: set[str | None] = set()
        for id in members:
            task, call = self._tasks[id], self._calls[id]
            for name in task.dependencies:
                before.update(self._lookup(name, task.group))
            before.update(source.task for source in (call.sources if call is not None else ()))
            before.update(self._makers.get(id, ()))
            before.update(self._named_by_rule(id))
        for inner in self._groups.values():
            if inner.name.startswith(f"{group}."):
                for name in self._group_dependencies(inner):
                    before.update(self._lookup(name, inner.parent))
        self._expanding.remove(group)
        return [id for id in members if id not in before] or members

    def _named_by_rule(self, id: str) -> list[str]:
        """Return the tasks that a task's rule names. The engine counts them as dependencies."""
        return self._rules[id].tasks if id in self._rules else []

    def _group_dependencies(self, group: TaskGroup) -> list[str]:
        """Return the declared dependencies of a group, by task id or group name."""
        what = f"a dependency of group '{group.name}'"
        known = dict(self._tasks)
        declared = group.dependencies or ()
        return [self._names.shortened(task_id(what, reference, known)) for reference in declared]

    def _join_groups(self, edges: dict[str, list[str]]) -> None:
        """Adds each group's dependencies to the first tasks of the group.

        The first tasks of a group are those that depend on no other task of the group.
        """
        # Inner groups come first. If an inner group depends on a task of the outer group, the tasks
        # of the inner group do not need the dependencies of the outer group.
        for group in reversed(list(self._groups.values())):
            names = self._group_dependencies(group)
            before = [id for name in names for id in self._lookup(name, group.parent) or [name]]
            members = [id for id in self._tasks if id.startswith(group.prefix)]
            inside = set(members)
            for id in members:
                after = [*map(self._names.shortened, edges[id]), *self._named_by_rule(id)]
                if not inside.intersection(after):
                    edges[id] = list(dict.fromkeys([*edges[id], *before]))

    # Kinds of JSON

    def _check_kinds(self, calls: Mapping[str, Call | None]) -> None:
        for id, call in calls.items():
            if id in self._origins:
                check_lists(
                    self._tasks[id], call, self._origins[id], self._tasks, calls, self._input
                )
            for source in call.sources if call is not None else ():
                accepted = source.decoder.kinds if source.decoder is not None else None
                maker = self._tasks.get(source.task or "")
                if maker is not None and (source.items is not None or is_map(maker)):
                    check_reader(self._tasks[id], source, maker)
                    continue
                if accepted is None:
                    continue
                made = self._kinds_of(calls, source)
                if made is not None and not made & accepted:
                    raise TaskValidationError(
                        f"task '{id}': parameter '{source.parameter}' takes "
                        f"{kinds_text(accepted)}, but {_origin(source)} is {kinds_text(made)}",
                        hint="change one of the two annotations",
                    )

    def _kinds_of(self, calls: Mapping[str, Call | None], source: Source) -> frozenset[str] | None:
        """Return the JSON kinds of a source's values; `None` if they are not known."""
        if source.kind == "input" and self._input is not None:
            field = next(name for name, key in self._input.fields.items() if key == source.key)
            return self._input.kinds(field)
        call = calls.get(source.task) if source.task is not None else None
        if call is None or call.result_key is None or source.task is None:
            return None
        signature = self._tasks[source.task].signature
        if signature is None:
            return None
        from cloaca._values.decoding import Unreadable

        try:
            decoder = signature.decoder("return")
        except Unreadable:
            return None
        return None if decoder is None else decoder.stored_kinds


def _origin(source: Source) -> str:
    if source.kind == "input":
        return f"the field '{source.key}' of the input"
    return f"the result of task '{source.task}'"
