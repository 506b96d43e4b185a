"""Checks JSON values by a JSON schema, for programs that do not have the model it was made of.

Only the keywords that describe the shape are read: `type`, `properties`, `required`, `items`,
`anyOf`, `oneOf`, `enum`, `const` and `$ref`. All others are left to the program with the model.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Schema = Mapping[str, Any]

# The types of Python's values by the name of the JSON type.
_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "null": (type(None),),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
}


def fault(schema: Schema, value: object) -> tuple[str, str] | None:
    """The first part of a value that does not match a schema.

    Args:
        schema: The schema, with its `$defs`.
        value: A JSON value.

    Returns:
        The path of the part and what is wrong with it; `None` if the value matches.
    """
    return _fault(schema, value, "", schema.get("$defs", {}))


def with_defaults(schema: Schema, value: Mapping[str, Any]) -> dict[str, Any]:
    """An object with the defaults of the properties that it does not have."""
    defaults = {
        name: part["default"]
        for name, part in schema.get("properties", {}).items()
        if isinstance(part, dict) and "default" in part
    }
    return {**defaults, **value}


def _fault(schema: Any, value: Any, path: str, models: Schema) -> tuple[str, str] | None:
    if not isinstance(schema, dict):
        return None
    if isinstance(schema.get("$ref"), str):
        return _fault(models.get(schema["$ref"].rpartition("/")[2]), value, path, models)
    choices = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(choices, list):
        faults = [_fault(choice, value, path, models) for choice in choices]
        return None if None in faults else min(filter(None, faults), key=_depth, default=None)
    if "enum" in schema and value not in schema["enum"]:
        return path, f"expected one of {schema['enum']}, got {value!r}"
    if "const" in schema and value != schema["const"]:
        return path, f"expected {schema['const']!r}, got {value!r}"
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if isinstance(kinds, list) and not any(_is(value, kind) for kind in kinds):
        return path, f"expected {' or '.join(kinds)}, got {_kind(value)}"
    return _inner_fault(schema, value, path, models)


def _inner_fault(schema: Schema, value: Any, path: str, models: Schema) -> tuple[str, str] | None:
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                return path, f"the field '{name}' is missing"
        for name, part in schema.get("properties", {}).items():
            if name in value:
                found = _fault(part, value[name], f"{path}.{name}" if path else name, models)
                if found is not None:
                    return found
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for index, item in enumerate(value):
            found = _fault(schema["items"], item, f"{path}[{index}]", models)
            if found is not None:
                return found
    return None


def _depth(fault: tuple[str, str]) -> int:
    """Sorts the choice that matched furthest first, because it explains best."""
    return -len(fault[0])


def _is(value: object, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES.get(kind, (object,)))


def _kind(value: object) -> str:
    return next((name for name in _TYPES if _is(value, name)), type(value).__name__)
