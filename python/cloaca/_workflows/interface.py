"""Sentences about the declared input and output of a workflow, and the parameters of its tasks."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from cloaca import _core


def interface_lines(workflow: _core.Workflow) -> list[str]:
    """The input and the output of a workflow, one line each; nothing if it declares none."""
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
    """The kind of JSON that a schema describes, in a word or a few."""
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


def told(parameter: Mapping[str, Any]) -> str:
    """The origin of a parameter of a stored definition, or of `sources`."""
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
        origin = f"{items} of {told_list(parameter['of'])}"
    if "path" in parameter:
        origin = f"'{parameter['path']}' of the {origin}"
    return f"{origin}, or its default" if parameter.get("default") else str(origin)


def told_list(source: Mapping[str, Any]) -> str:
    """The origin of a list that a task or node runs over."""
    return told(source) if "path" in source else f"the {told(source)}"


def notes(workflow: _core.Workflow) -> dict[str, str]:
    """The parameters of each typed task, in one text."""
    return {
        task: "".join(f"\n{entry['name']}: {told(entry)}" for entry in parameters)
        for task, parameters in workflow.parameters.items()
    }
