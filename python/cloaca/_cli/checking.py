"""The command that checks the workflows of a module, and shows how their tasks are connected."""

from __future__ import annotations

import click

from cloaca._cli._options import HELP_NAMES
from cloaca._cli._output import json_only_stdout, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._tasks.definition import TaskDefinition
    from cloaca._workflows.workflow import Workflow


@click.command(context_settings=HELP_NAMES)
@click.argument("target", metavar="MODULE[:WORKFLOW]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(as_json: bool, target: str) -> None:
    """Check the workflows of a module, and show what each parameter of their tasks receives.

    Reads no database and runs nothing. A workflow that is not valid ends the command with status 1,
    as at the start of a program.
    """
    from cloaca._cli._loading import load, workflow_name
    from cloaca._workflows.registry import registry

    module, _, wanted = target.partition(":")
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
        "tasks": [
            {
                "id": task.id,
                "dependencies": workflow.dependencies[task.id],
                "result": None if task.call is None else task.call.result_key,
                "parameters": _parameters(task),
            }
            for task in workflow._definitions.values()
        ],
    }


def _parameters(task: TaskDefinition) -> list[dict[str, Any]]:
    """The parameters of a task's function, those included that keep their default."""
    if task.signature is None or task.call is None:
        return []
    found: list[dict[str, Any]] = []
    for parameter in task.signature.parameters:
        what = task.call.by_name.get(parameter.name)
        if isinstance(what, str):
            found.append({"name": parameter.name, "from": what})
        elif what is not None:
            found.append(what.to_definition())
        elif parameter.is_single:
            found.append({"name": parameter.name, "from": "default"})
    return found


def _print(workflow: Workflow) -> None:
    from cloaca._workflows.interface import interface_lines, told

    say(f"{workflow.name}  {workflow.version}  {len(workflow.tasks)} tasks")
    for line in interface_lines(workflow._core):
        say(line)
    for task in workflow._definitions.values():
        after = workflow.dependencies[task.id]
        say(f"{task.id}" + (f"  after {', '.join(after)}" if after else ""))
        if task.call is None:
            say("  run by another program")
            continue
        parameters = _parameters(task)
        width = max((len(entry["name"]) for entry in parameters), default=0)
        for entry in parameters:
            origin = {"context": "the context", "default": "its default"}
            is_value = "key" in entry
            text = told(entry) if is_value else origin.get(entry["from"]) or told(entry)
            say(f"  {entry['name'].ljust(width)}  {text}")
        key = task.call.result_key
        if key is not None and task.call.keeps_none:
            say(f"  result under '{key}'")
