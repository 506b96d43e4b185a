"""The command that checks the workflows of a module, and shows how their tasks are connected."""

from __future__ import annotations

import click

from cloaca._cli._options import COMMAND_SETTINGS, UNUSED_DATABASE
from cloaca._cli._output import json_only_stdout, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._tasks.definition import TaskDefinition
    from cloaca._workflows.workflow import Workflow


# The text after the id of a final task or a compensation, by the value of `final` in its document.
_PURPOSES = {
    "always": "  final task",
    "cancelled": "  final task of cancelled executions",
    "compensation": "  compensation",
    "failure": "  final task of failed executions",
    "success": "  final task of completed executions",
}


@click.command(context_settings=COMMAND_SETTINGS)
@click.argument("target", metavar="MODULE[:WORKFLOW]")
@UNUSED_DATABASE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(as_json: bool, target: str) -> None:
    """Check the workflows of a module, and show what each parameter of their tasks receives.

    Reads no database and runs no task. Ends with status 1 if a workflow is not valid, because no
    runner could start with it.
    """
    from cloaca._cli._loading import load, split, workflow_name
    from cloaca._workflows.registry import registry

    module, wanted = split(target)
    with json_only_stdout(as_json) as tell:
        loaded = load(module)
        found = registry.workflows_since(0)[1]
        if wanted:
            name = workflow_name(loaded, wanted)
            found = [workflow for workflow in found if workflow.name == name]
        if not found:
            raise click.ClickException(f"module '{loaded.__name__}' defines no workflow")
        found.sort(key=lambda workflow: workflow.name)
        if as_json:
            tell([_document(workflow) for workflow in found])
    if not as_json:
        for index, workflow in enumerate(found):
            if index:
                say("")
            _print(workflow)


def _document(workflow: Workflow) -> dict[str, Any]:
    return {
        "name": workflow.name,
        "version": workflow.version,
        "input": workflow.input_schema,
        "output": workflow.output,
        "tasks": [_task(workflow, task) for task in workflow._definitions.values()],
        "finals": [_final(workflow, task) for task in workflow._finals.values()],
    }


def _task(workflow: Workflow, task: TaskDefinition) -> dict[str, Any]:
    from cloaca._workflows.sources import list_of, node_of, parameters_of

    node = node_of(task)
    result = None if task.call is None else task.call.result_key
    document: dict[str, Any] = {
        "id": task.id,
        "dependencies": workflow.dependencies.get(task.id, list(task.dependencies)),
        "result": task.result_key if task.kind == "engine" else result,
        "parameters": parameters_of(workflow, task),
    }
    if node is not None:
        document["node"] = node
    if task.options.map is not None:
        document["over"] = {name: list_of(workflow, task, name) for name in task.lists or {}}
    return document


def _final(workflow: Workflow, task: TaskDefinition) -> dict[str, Any]:
    """Returns the document of a final task or a compensation.

    A compensation has the id of the task that it undoes.
    """
    final = task.options.final
    document = _task(workflow, task)
    document["final"] = "compensation" if final is None else final.end
    document["dependencies"] = list(task.dependencies)
    for entry in document["parameters"]:
        # The parameter `error` receives the error of the execution, not the context's key `error`.
        if entry["name"] == "error" and entry["from"] == "context":
            entry["from"] = "error"
    return document


def _print(workflow: Workflow) -> None:
    from cloaca._workflows.interface import interface_lines, title_line

    document = _document(workflow)
    say(title_line(workflow._core))
    for line in interface_lines(workflow._core):
        say(line)
    for task in document["tasks"]:
        _print_task(task, keeps_none=_keeps_none(workflow._definitions[task["id"]]))
    for task, definition in zip(document["finals"], workflow._finals.values(), strict=True):
        _print_task(task, keeps_none=_keeps_none(definition))


def _keeps_none(task: TaskDefinition) -> bool:
    """Returns whether a task stores its result even if the result is `None`."""
    return task.kind == "engine" or (task.call is not None and task.call.keeps_none)


def _print_task(task: dict[str, Any], *, keeps_none: bool) -> None:
    from cloaca._workflows.interface import source_text

    purpose = _PURPOSES[task["final"]] if "final" in task else ""
    after = ", ".join(task["dependencies"])
    say(f"{task['id']}{purpose}" + (f"  after {after}" if after else ""))
    if "node" in task:
        say(f"  {_node_text(task)}")
    width = max((len(entry["name"]) for entry in task["parameters"]), default=0)
    plain = {"context": "the context", "default": "its default"}
    for entry in task["parameters"]:
        is_value = "key" in entry
        text = source_text(entry) if is_value else plain.get(entry["from"]) or source_text(entry)
        say(f"  {entry['name'].ljust(width)}  {text}")
    if task["result"] is not None and keeps_none and task.get("final") != "compensation":
        say(f"  result under '{task['result']}'")


def _node_text(task: dict[str, Any]) -> str:
    """Describes a node, which has no function."""
    from cloaca._workflows.interface import list_text

    node = task["node"]
    if node["kind"] == "wait":
        return f"waits for {node['for']}"
    if node["kind"] == "approval":
        return "waits for an approval"
    if node["kind"] == "external":
        return "run by another program"
    lists = " and ".join(map(list_text, task.get("over", {}).values()))
    each = f" for each item of {lists}" if lists else ""
    given = "" if node["input"] else ", with the context as its input"
    return f"runs workflow '{node['workflow']}'{each}{given}"
