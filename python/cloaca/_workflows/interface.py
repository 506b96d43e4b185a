"""Texts about the declared input and output of a workflow, and about parameters of its tasks."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cloaca import _core


def title_line(workflow: _core.Workflow) -> str:
    """Returns the line that names a workflow, its version and its number of tasks."""
    count = len(workflow.tasks)
    tasks = "1 task" if count == 1 else f"{count} tasks"
    return f"{workflow.name}  {workflow.version}  {tasks}"


def interface_lines(workflow: _core.Workflow) -> list[str]:
    """Returns a line about a workflow's input and a line about its output, if they are declared."""
    lines = []
    schema = workflow.input_schema
    if schema is not None:
        required = schema.get("required", ())
        fields = [
            f"{name}: {kind_of(field)}{'' if name in required else ' (optional)'}"
            for name, field in schema.get("properties", {}).items()
        ]
        lines.append(f"input   {', '.join(fields) or 'nothing'}")
    output = workflow.output
    if output is not None:
        lines.append(f"output  {output if isinstance(output, str) else ', '.join(output)}")
    return lines


def kind_of(schema: Mapping[str, Any]) -> str:
    """Returns a few words that name the kind of JSON value that a schema describes."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    kind = schema.get("type")
    if kind == "array" and isinstance(schema.get("items"), dict):
        return f"array of {kind_of(schema['items'])}"
    if isinstance(kind, str):
        form = schema.get("format")
        return f"{kind} ({form})" if isinstance(form, str) else kind
    if isinstance(kind, list):
        return " or ".join(map(str, kind))
    parts = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(parts, list):
        return " or ".join(dict.fromkeys(map(kind_of, parts)))
    if "enum" in schema:
        return "one of " + ", ".join(map(repr, schema["enum"]))
    return "any value"


def source_text(parameter: Mapping[str, Any]) -> str:
    """Returns a text about the source of a parameter's value.

    Args:
        parameter: The parameter as a stored definition or the module `sources` describes it.
    """
    key = parameter.get("key", parameter.get("name"))
    origin = {
        "task": f"result of task '{parameter.get('task')}'",
        "input": f"input '{key}'",
        "context": f"key '{key}' of the context",
        "resource": "resource of the runner",
        "handle": "handle of the attempt",
        "item": "item of the map",
        "signal": "payload of the signal",
        "error": "error of the execution, or None",
    }.get(parameter["from"], parameter["from"])
    if "of" in parameter:
        batch = parameter["of"].get("batch")
        items = "item" if batch is None else f"up to {batch} items"
        origin = f"{items} of {list_text(parameter['of'])}"
    if "path" in parameter:
        origin = f"'{parameter['path']}' of the {origin}"
    return f"{origin}, or its default" if parameter.get("default") else str(origin)


def list_text(source: Mapping[str, Any]) -> str:
    """Returns a text about the source of a list that a task or node runs over."""
    return source_text(source) if "path" in source else f"the {source_text(source)}"


def parameter_texts(workflow: _core.Workflow) -> dict[str, str]:
    """Returns a text about the parameters of each typed task, by the task's id."""
    return {
        task: "".join(f"\n{entry['name']}: {source_text(entry)}" for entry in parameters)
        for task, parameters in workflow.parameters.items()
    }
