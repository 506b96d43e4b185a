"""Python values as JSON text, for contexts, rules and definitions (semantics B1).

An `Enum` becomes its value; dataclass, attrs, pydantic and msgspec objects become objects;
`datetime`, `date` and `time` become ISO 8601 text; `timedelta` becomes seconds; `Decimal` and
`UUID` become text; tuples become arrays; sets become arrays too, sorted if their members can be
compared; any `Mapping` becomes an object. Keys of objects must be strings, because `{1: "a"}` would
come back as `{"1": "a"}`. `bytes` and everything else are refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from cloaca._values.type_name import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date, time
    from decimal import Decimal
    from typing import Any

#: Maximum number of arrays and objects around a part of a value: the engine's `MAX_JSON_DEPTH`.
#: Deeper values are refused, so that code that reads the text does not run out of stack.
MAX_DEPTH = 512

# A part of the text that pydantic writes instead of a secret.
_MASK = "****"

_NOTHING = object()
_SCALARS = frozenset({str, int, float, bool, type(None)})


def encode(key: str, value: object) -> str:
    """The compact JSON text of a value.

    Args:
        key: The context's key, for messages.
        value: The value to encode.

    Raises:
        TypeError: A part of the value has no JSON form. The message names the key and the type.
        ValueError: NaN, an infinity, a reference cycle, more than 512 levels, or a lone surrogate.
            The message names the key.
    """
    return encode_as(f"context key {key!r}", value)


def encode_as(what: str, value: object) -> str:
    """Like `encode`, for a value outside of a context; error messages begin with `what`."""
    import json

    try:
        parts = plain(value)
        text = json.dumps(
            parts,
            ensure_ascii=False,
            allow_nan=False,
            separators=(",", ":"),
            check_circular=False,
        )
        if not text.isascii():
            text.encode()
        if _MASK in text:
            from cloaca._values.masked import refuse_masked

            refuse_masked(value, parts)
    except TypeError as error:
        raise TypeError(f"{what}: {error}") from None
    except UnicodeEncodeError:
        raise ValueError(f"{what}: a text with a lone surrogate is not Unicode") from None
    except RecursionError:
        raise ValueError(f"{what}: {_TOO_DEEP}") from None
    except ValueError as error:
        reason = _NOT_FINITE if "range float" in str(error) else str(error)
        raise ValueError(f"{what}: {reason}") from None
    return text


_NOT_FINITE = "NaN and infinities are not JSON; store None or a text instead"
_TOO_DEEP = f"the value is nested deeper than {MAX_DEPTH} levels, or contains itself"


def plain(value: object, depth: int = 0) -> object:
    """Returns the value, with all parts converted that JSON cannot represent.

    Other parts are not copied.

    Raises:
        TypeError: A part of it has no JSON form, or an object's key is not a string.
        ValueError: It is nested too deeply.
    """
    if type(value) in _SCALARS:
        return value
    if isinstance(value, (dict, list, tuple)) and depth >= MAX_DEPTH:
        raise ValueError(_TOO_DEEP)
    # Loops, because in Python 3.11 a comprehension adds a second frame to each level of recursion.
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(
                    f"the key {key!r} of an object is of type '{type_name(type(key))}', "
                    f"but keys of JSON objects are strings{_key_advice(key)}"
                )
        if _SCALARS.issuperset(map(type, value.values())):
            return value
        members = {}
        for key, part in value.items():
            members[key] = plain(part, depth + 1)
        return members
    if isinstance(value, (list, tuple)):
        if _SCALARS.issuperset(map(type, value)):
            return value
        items = []
        for part in value:
            items.append(plain(part, depth + 1))
        return items
    return _simplify(value, depth)


def _simplify(value: object, depth: int) -> object:
    """The JSON form of a value whose type JSON does not have."""
    from enum import Enum

    if isinstance(value, Enum):
        return plain(value.value, depth)
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (set, frozenset)):
        return plain(_ordered(value), depth)
    if isinstance(value, Mapping):
        return plain(dict(value), depth)
    fields = _fields(value)
    if fields is not None:
        return plain(fields, depth)
    for kind, convert in _conversions():
        if isinstance(value, kind):
            return convert(value)
    raise TypeError(f"a value of type '{type_name(type(value))}' is not JSON{_advice(value)}")


def _ordered(members: set[Any] | frozenset[Any]) -> list[Any]:
    try:
        return sorted(members)
    except TypeError:
        # The order must not depend on hashes, because the text must be the same in every process.
        return sorted(members, key=lambda member: (type_name(type(member)), repr(member)))


_field_names: dict[type, tuple[str, ...]] = {}


def _dataclass_fields(kind: type) -> tuple[str, ...]:
    """The names of a dataclass's fields, which are read once."""
    names = _field_names.get(kind)
    if names is None:
        from dataclasses import fields

        names = _field_names[kind] = tuple(field.name for field in fields(kind))
    return names


def is_model(value: object) -> bool:
    """Whether a value is a dataclass, attrs, pydantic or msgspec object."""
    kind = type(value)
    return (
        (hasattr(kind, "model_dump") and hasattr(kind, "model_fields"))
        or hasattr(kind, "__dataclass_fields__")
        or hasattr(kind, "__attrs_attrs__")
        or hasattr(kind, "__struct_encode_fields__")
    )


def _fields(value: object) -> object | None:
    """The fields of a dataclass, attrs, pydantic or msgspec object by name.

    `None` for anything else.
    """
    kind = type(value)
    dump = getattr(kind, "model_dump", None)
    if dump is not None and hasattr(kind, "model_fields"):
        # In the form that pydantic reads: by the names of the fields, without computed fields. A
        # warning about a field of a wrong type is not needed: decoding the value names the field.
        dumped: object = dump(value, mode="json", by_alias=False, round_trip=True, warnings=False)
        return dumped
    if hasattr(kind, "__dataclass_fields__"):
        return _set_fields({name: getattr(value, name) for name in _dataclass_fields(kind)})
    if hasattr(kind, "__attrs_attrs__"):
        return _set_fields({each.name: getattr(value, each.name) for each in kind.__attrs_attrs__})
    if hasattr(kind, "__struct_encode_fields__"):
        return _struct_fields(kind, value)
    return None


def _struct_fields(kind: Any, value: object) -> object:
    """The fields of a msgspec.Struct, in the form that msgspec decodes: with its tag, if any."""
    config = getattr(kind, "__struct_config__", None)
    values = [getattr(value, name) for name in kind.__struct_fields__]
    if config is not None and config.array_like:
        unset = _unset()
        while values and values[-1] is unset:
            values.pop()
        return values if config.tag is None else [config.tag, *values]
    fields = _set_fields(dict(zip(kind.__struct_encode_fields__, values, strict=True)))
    if config is None or config.tag is None:
        return fields
    return {config.tag_field: config.tag, **fields}


def _set_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields that are not `msgspec.UNSET`, which stands for a missing field."""
    unset = _unset()
    for value in fields.values():
        if value is unset:
            return {name: kept for name, kept in fields.items() if kept is not unset}
    return fields


def _unset() -> object:
    """The object `msgspec.UNSET`; if msgspec is not imported, an object that is in no field."""
    return getattr(sys.modules.get("msgspec"), "UNSET", _NOTHING)


_conversion_table: list[tuple[type | tuple[type, ...], Callable[[Any], object]]] = []


def _conversions() -> list[tuple[type | tuple[type, ...], Callable[[Any], object]]]:
    """Types of the standard library with the functions that convert them."""
    if not _conversion_table:
        from datetime import date, time, timedelta
        from decimal import Decimal
        from uuid import UUID

        _conversion_table[:] = [
            ((date, time), _iso_text),  # a datetime is a date
            (timedelta, lambda value: value.total_seconds()),
            (Decimal, _decimal_text),
            (UUID, str),
        ]
    return _conversion_table


def _iso_text(value: date | time) -> str:
    # The NaT of pandas is a datetime that does not equal itself.
    if value != value:
        raise ValueError("NaT is not JSON; store None instead")
    return value.isoformat()


def _decimal_text(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(_NOT_FINITE)
    return str(value)


def _key_advice(key: object) -> str:
    if isinstance(key, (int, float)):
        return "; convert it with str(key)"
    return "; make a text of it, or store a list of pairs"


def _advice(value: object) -> str:
    from pathlib import PurePath

    if isinstance(value, (bytes, bytearray, memoryview)):
        return "; encode it as text, e.g. with base64, or store a file's name"
    if isinstance(value, PurePath):
        return "; convert it with str(path)"
    if hasattr(value, "get_secret_value"):
        return "; store the name of the secret, and read its text in the task"
    if hasattr(value, "tolist"):
        return "; convert it with .tolist()"
    if type(value).__name__ == "DataFrame":
        method = "to_dicts()" if hasattr(value, "to_dicts") else 'to_dict("records")'
        return f"; convert it with .{method}"
    if callable(getattr(value, "to_dict", None)):
        return "; convert it with .to_dict()"
    if hasattr(value, "cr_code"):
        return "; await it, in a function that is 'async def'"
    if isinstance(value, Iterable) and not hasattr(value, "read"):
        return "; convert it with list(value)"
    if callable(value):
        return "; store what it returns, or its name"
    return "; store its data (text, numbers, lists, dicts) or the name of a file"
