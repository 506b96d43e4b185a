"""The kinds of JSON values, and the kinds that types of `msgspec.inspect` have (semantics J6).

Stored and accepted kinds may differ: a `Decimal` is stored as text, and read from text or a number.
`None` means that the kinds are not known.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeAlias

    Kinds: TypeAlias = frozenset[str] | None

ARRAY, BOOLEAN, NULL, NUMBER, OBJECT, STRING = (
    "array",
    "boolean",
    "null",
    "number",
    "object",
    "string",
)


def joined(parts: Iterable[Kinds]) -> Kinds:
    """Returns the kinds of a union."""
    found: set[str] = set()
    for part in parts:
        if part is None:
            return None
        found |= part
    return frozenset(found)


def kind_of(value: object) -> str:
    """Returns the kind of a value of a `Literal`, an `Enum`, or a schema's `const` or `enum`."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return BOOLEAN
    if isinstance(value, (int, float)):
        return NUMBER
    if isinstance(value, list):
        return ARRAY
    return STRING if isinstance(value, str) else OBJECT


def kinds_of_info(info: Any, *, stored: bool) -> Kinds:
    """Returns the kinds of JSON that a type accepts.

    With `stored`, returns the kinds of JSON that values of the type have when they are stored.
    """
    import msgspec

    types = msgspec.inspect
    if isinstance(info, types.Metadata):
        return kinds_of_info(info.type, stored=stored)
    if isinstance(info, types.UnionType):
        return joined(kinds_of_info(part, stored=stored) for part in info.types)
    if isinstance(info, (types.EnumType, types.LiteralType)):
        values = info.values if isinstance(info, types.LiteralType) else list(info.cls)
        return frozenset(kind_of(getattr(value, "value", value)) for value in values)
    if isinstance(info, types.StructType):
        return frozenset({ARRAY if info.array_like else OBJECT})
    table: list[tuple[tuple[Any, ...], tuple[str, ...]]] = [
        ((types.NoneType,), (NULL,)),
        ((types.BoolType,), (BOOLEAN,)),
        ((types.IntType, types.FloatType), (NUMBER,)),
        ((types.StrType, types.DateTimeType, types.DateType, types.TimeType), (STRING,)),
        ((types.UUIDType,), (STRING,)),
        ((types.DecimalType,), (STRING,) if stored else (NUMBER, STRING)),
        ((types.TimeDeltaType,), (NUMBER,) if stored else (NUMBER, STRING)),
        (
            (
                types.ListType,
                types.SetType,
                types.FrozenSetType,
                types.VarTupleType,
                types.TupleType,
                types.NamedTupleType,
            ),
            (ARRAY,),
        ),
        ((types.DictType, types.TypedDictType, types.DataclassType), (OBJECT,)),
    ]
    for classes, found in table:
        if isinstance(info, classes):
            return frozenset(found)
    return None


def kinds_of_schema(schema: Any, definitions: dict[str, Any]) -> Kinds:
    """Returns the kinds of the values that a JSON schema describes."""
    if not isinstance(schema, dict):
        return None
    if isinstance(schema.get("$ref"), str):
        named = definitions.get(schema["$ref"].rpartition("/")[2])
        return kinds_of_schema(named, definitions)
    parts = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(parts, list):
        return joined(kinds_of_schema(part, definitions) for part in parts)
    if "const" in schema:
        return frozenset({kind_of(schema["const"])})
    if isinstance(schema.get("enum"), list):
        return frozenset(map(kind_of, schema["enum"]))
    kind = schema.get("type")
    known = {ARRAY, BOOLEAN, NULL, NUMBER, OBJECT, STRING}
    kind = NUMBER if kind == "integer" else kind
    return frozenset({kind}) if kind in known else None
