"""Prepares JSON numbers that pydantic would round or, in strict mode, refuse.

pydantic reads a number with a fraction as a `float`. Where the model has a `Decimal`, the number is
therefore passed to pydantic as text. Durations are stored as numbers of seconds, but a strict
decoder of pydantic accepts them only as text.
"""

from __future__ import annotations

import re

from cloaca._values.durations import iso_text
from cloaca._values.json_numbers import Number, parsed, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Finds a number with a fraction or an exponent. It may also match inside a string; the text is then
# parsed and written again without a change.
_FRACTION = re.compile(r"(?:^|[\[:,])\s*-?\d+(?:\.\d|[eE])")
# The types of schemas that wrap an inner schema, each with the key of the inner schema. None of
# these wrappers receives the raw JSON value.
_INNER = {
    "chain": "steps",
    "custom-error": "schema",
    "default": "schema",
    "function-after": "schema",
    "json-or-python": "json_schema",
    "lax-or-strict": "lax_schema",
    "model": "schema",
    "dataclass": "schema",
    "nullable": "schema",
}
# Types of pydantic's core schemas.
_DECIMAL = frozenset({"decimal"})
_ARRAYS = frozenset({"list", "set", "frozenset", "tuple"})
_OBJECTS = frozenset({"dict", "dataclass-args", "model-fields", "typed-dict"})


class ExactNumbers:
    """Rewrites numbers as text where an annotation has decimals or durations."""

    __slots__ = ("_definitions", "_has_decimals", "_has_durations", "_schema")

    def __init__(self, schema: Any, *, has_iso_durations: bool = False) -> None:
        """Check whether the annotation has decimals or durations.

        Args:
            schema: pydantic's core schema of the annotation.
            has_iso_durations: Whether durations must be ISO 8601 text.
        """
        self._definitions: dict[str, Any] = {}
        self._schema = schema
        types = self._types(schema)
        # Whether the annotation has decimals, and durations that must be text.
        self._has_decimals = "decimal" in types
        self._has_durations = has_iso_durations and "timedelta" in types

    def rewritten(self, text: str) -> str:
        """Returns the JSON text, in which decimals and durations are texts instead of numbers."""
        is_needed = self._has_decimals and _FRACTION.search(text) is not None
        if not is_needed and not self._has_durations:
            return text
        return text_of(self._changed(self._schema, parsed(text)))

    def _types(self, schema: Any) -> set[str]:
        """Returns the types of a schema's parts. Also collects the schema's definitions."""
        found: set[str] = set()
        stack = [schema]
        while stack:
            part = stack.pop()
            if isinstance(part, dict):
                kind = part.get("type")
                if isinstance(kind, str):
                    found.add(kind)
                if kind == "definitions":
                    self._definitions.update({each["ref"]: each for each in part["definitions"]})
                stack += part.values()
            elif isinstance(part, (list, tuple)):
                stack += part
        return found

    def _inner(self, schema: Any) -> Any:
        """Returns the schema inside wrappers; `None` if a function receives the raw value."""
        while schema is not None:
            kind = schema["type"]
            if kind == "definitions":
                schema = schema["schema"]
            elif kind == "definition-ref":
                schema = self._definitions.get(schema["schema_ref"])
            elif kind in _INNER:
                if schema.get("custom_init"):
                    return None
                schema = schema[_INNER[kind]]
                schema = schema[0] if isinstance(schema, list) else schema
            else:
                return None if kind.startswith("function-") else schema
        return None

    def _changed(self, schema: Any, value: Any) -> Any:
        schema = self._inner(schema)
        if schema is None:
            return value
        kind = schema["type"]
        if kind == "decimal":
            return str(value) if type(value) is Number else value
        if kind == "timedelta":
            is_number = type(value) is Number and self._has_durations
            return iso_text(value) if is_number else value
        if kind in {"union", "tagged-union"}:
            part = self._part_of_union(schema, value)
            return value if part is None else self._changed(part, value)
        if type(value) is list and kind in _ARRAYS:
            for index, part in enumerate(_schemas_of_items(schema, len(value))):
                if part is not None:
                    value[index] = self._changed(part, value[index])
        elif type(value) is dict and kind == "dict":
            for key in value if "values_schema" in schema else ():
                value[key] = self._changed(schema["values_schema"], value[key])
        elif type(value) is dict and kind in _OBJECTS:
            for name, field in _fields(schema):
                for key in _keys(name, field):
                    if key in value:
                        value[key] = self._changed(field["schema"], value[key])
        return value

    def _part_of_union(self, schema: Any, value: Any) -> Any:
        """Returns the part of a union that a value belongs to; `None` unless exactly one fits."""
        if schema["type"] == "tagged-union":
            field = schema["discriminator"]
            tag = value.get(field) if type(value) is dict and isinstance(field, str) else None
            return schema["choices"].get(tag) if type(tag) is str else None
        inner = []
        for choice in schema["choices"]:
            inner.append(self._inner(choice[0] if isinstance(choice, tuple) else choice))
        if any(part is None for part in inner):
            return None
        kinds = _OBJECTS if type(value) is dict else _ARRAYS if type(value) is list else _DECIMAL
        if type(value) is Number:
            # A number is rewritten only if no other part of the union could match it, as a number
            # or as text.
            others = {part["type"] for part in inner}
            if not others <= {"none"} | _DECIMAL | _ARRAYS | _OBJECTS:
                return None
        wanted = [part for part in inner if part["type"] in kinds]
        return wanted[0] if len(wanted) == 1 else None


def _schemas_of_items(schema: Any, count: int) -> list[Any]:
    """Returns the schema of each item of an array; `None` for an item without a schema."""
    items = schema.get("items_schema")
    if not isinstance(items, list):
        return [items] * count
    variadic = schema.get("variadic_item_index")
    if variadic is not None and count >= len(items) - 1:
        after = items[variadic + 1 :]
        items = [*items[:variadic], *[items[variadic]] * (count - len(items) + 1), *after]
    return list(items[:count])


def _fields(schema: Any) -> list[tuple[str, Any]]:
    fields = schema["fields"]
    if isinstance(fields, dict):
        return list(fields.items())
    return [(field["name"], field) for field in fields]


def _keys(name: str, field: Any) -> set[str]:
    """Returns the keys of an object from which a field can be read, except paths to deeper keys."""
    alias = field.get("validation_alias")
    found = {name}
    if isinstance(alias, str):
        found.add(alias)
    for path in alias if isinstance(alias, list) else ():
        if isinstance(path, list) and len(path) == 1:
            found.add(str(path[0]))
    return found
