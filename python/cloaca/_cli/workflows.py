"""Commands that read workflow definitions."""

from __future__ import annotations

import click

from cloaca._cli._options import COMMAND_SETTINGS, VERBOSE, Database, ListingGroup, database_options
from cloaca._cli._output import fail, is_unicode, note, print_json, print_table, say

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca import _core

_MODULE = click.option(
    "--module",
    metavar="MODULE",
    help="Use the workflows of a module instead of those in the database.",
)


def _known(database: Database, module: str | None) -> list[_core.Workflow]:
    """Returns the latest version of each workflow of the module or database, sorted by name."""
    if module is None:
        stored = database.inspect().reads.workflows()
        latest = {version.workflow.name: version.workflow for version in stored}
    else:
        from cloaca._cli._loading import load
        from cloaca._workflows.registry import registry

        load(module)
        latest = {workflow.name: workflow._core for workflow in registry.workflows_since(0)[1]}
    return [latest[name] for name in sorted(latest)]


def _document(workflow: _core.Workflow) -> dict[str, Any]:
    return {
        "name": workflow.name,
        "version": workflow.version,
        "description": workflow.description,
        "tags": workflow.tags,
        "tasks": workflow.tasks,
        "dependencies": workflow.dependencies,
        "input": workflow.input_schema,
        "output": workflow.output,
        "parameters": workflow.parameters,
    }


@click.group(cls=ListingGroup, context_settings=COMMAND_SETTINGS)
def workflows() -> None:
    """Inspect workflow definitions; `list` if no command is given."""


@workflows.command("list", context_settings=COMMAND_SETTINGS)
@_MODULE
@VERBOSE
@database_options
def list_command(database: Database, as_json: bool, module: str | None, verbose: bool) -> None:
    """List the workflows that are stored in a database, each in its latest version."""
    known = _known(database, module)
    if as_json:
        print_json([_document(workflow) for workflow in known])
        return
    if not known:
        if module:
            note(f"module '{module}' defines no workflows")
        else:
            note("the database has no workflows: a program stores them when its runner starts")
        return
    print_table(
        ("workflow", "version", "tasks", "tags", "description"),
        (
            [
                workflow.name,
                workflow.version,
                str(len(workflow.tasks)),
                ", ".join(f"{key}={value}" for key, value in workflow.tags.items()),
                workflow.description,
            ]
            for workflow in known
        ),
        cut=("description", "tags", "workflow"),
        verbose=verbose,
    )


@workflows.command(context_settings=COMMAND_SETTINGS)
@click.argument("name")
@click.option(
    "-f",
    "--format",
    "form",
    type=click.Choice(["all", "text", "mermaid", "dot"]),
    default="all",
    show_default=True,
    help="Output format; `all` prints text and Mermaid.",
)
@_MODULE
@database_options
def show(database: Database, as_json: bool, name: str, form: str, module: str | None) -> None:
    """Draw a workflow's DAG, as text and as Mermaid."""
    from cloaca._values.suggestion import suggestion

    known = {workflow.name: workflow for workflow in _known(database, module)}
    if name not in known:
        hint = suggestion(name, list(known), listing=True)
        fail(f"there is no workflow '{name}'" + (f"\nhint: {hint}" if hint else ""))
    workflow = known[name]
    if as_json:
        print_json(
            {**_document(workflow), "mermaid": workflow.to_mermaid(), "dot": workflow.to_dot()}
        )
        return
    if form in {"all", "text"}:
        from cloaca._cli._tree import draw
        from cloaca._workflows.interface import interface_lines, title_line

        say(title_line(workflow))
        if workflow.description:
            say(workflow.description)
        for line in interface_lines(workflow):
            say(line)
        say(draw(workflow.tasks, workflow.dependencies, is_unicode=is_unicode()))
    if form == "all":
        say("")
    if form in {"all", "mermaid"}:
        say(workflow.to_mermaid().rstrip())
    if form == "dot":
        say(workflow.to_dot().rstrip())
