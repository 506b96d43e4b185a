"""Describes the sources of the values of a workflow's tasks and nodes, for `cloaca check`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._tasks.definition import TaskDefinition
    from cloaca._workflows.workflow import Workflow


def parameters_of(workflow: Workflow, task: TaskDefinition) -> list[dict[str, Any]]:
    """Returns the parameters of a task's function, each with the source of its value.

    Includes parameters that keep their defaults. For a node that runs another workflow, returns the
    fields of the child's input.
    """
    if task.signature is None:
        return _input_of_child(workflow, task)
    if task.call is None:
        return []
    found: list[dict[str, Any]] = []
    for parameter in task.signature.parameters:
        what = task.call.by_name.get(parameter.name)
        if isinstance(what, str):
            found.append({"name": parameter.name, "from": what})
        elif what is not None:
            entry = what.to_definition()
            if what.kind == "item":
                entry["of"] = list_of(workflow, task, parameter.name)
            found.append(entry)
        elif parameter.is_single:
            found.append({"name": parameter.name, "from": "default"})
    return found


def list_of(workflow: Workflow, task: TaskDefinition, name: str = "item") -> dict[str, Any]:
    """Returns the source of the list whose elements a map passes to a parameter, or to `item`."""
    assert task.options.map is not None
    entry = origin_of(workflow, (task.lists or {})[name])
    if task.options.map.batch is not None:
        entry["batch"] = task.options.map.batch
    return entry


def origin_of(workflow: Workflow, path: str) -> dict[str, Any]:
    """Returns the source of the value at a path into the context.

    The source is a task's result, a field of the input, or another key of the context.
    """
    results = {task.result_key: task.id for task in workflow._definitions.values()}
    fields = () if workflow._input is None else workflow._input.fields.values()
    known = [name for name in (*results, *fields) if path == name or path.startswith(f"{name}.")]
    key = max(known, key=len, default=path.partition(".")[0])
    entry: dict[str, Any] = {"from": "context", "key": key}
    if key in results:
        entry.update({"from": "task", "task": results[key]})
    elif known:
        entry["from"] = "input"
    if key != path:
        entry["path"] = path[len(key) + 1 :]
    return entry


def _input_of_child(workflow: Workflow, task: TaskDefinition) -> list[dict[str, Any]]:
    wait = task.options.wait
    found = []
    for name, path in ((wait.child if wait is not None else None) or {}).get("input", {}).items():
        head, dot, rest = path.partition(".")
        if task.lists is not None and head in task.lists:
            entry = {"from": "item", "of": list_of(workflow, task, head)}
            if dot:
                entry["path"] = rest
        else:
            entry = origin_of(workflow, path)
        found.append({"name": name, **entry})
    return found


def node_of(task: TaskDefinition) -> dict[str, Any] | None:
    """Describes a node without a function; returns `None` for a task with a function."""
    wait = task.options.wait
    if task.signature is not None:
        return None
    if wait is None:
        return {"kind": "external"}
    if wait.child is not None:
        has_input = "input" in wait.child
        return {"kind": "child", "workflow": wait.child["workflow"], "input": has_input}
    if wait.approval is not None:
        return {"kind": "approval"}
    return {"kind": "wait", "for": repr(wait.condition)}
