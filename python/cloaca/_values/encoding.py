"""Encodes Python values as JSON text, for contexts, rules and definitions (semantics B1).

- An `Enum` becomes its value.
- Dataclass, attrs, pydantic and msgspec objects and any `Mapping` become objects. Keys of objects
  must be strings, because `{1: "a"}` would be decoded as `{"1": "a"}`. Other keys become strings
  only inside of a msgspec.Struct, or if an annotation decodes them again, such as `dict[int, str]`.
- `datetime`, `date` and `time` become ISO 8601 text. `timedelta` becomes a number of seconds.
- `Decimal` and `UUID` become text.
- Tuples and sets become arrays. A set is sorted.

`bytes` and values of all other types are refused.
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

#: Maximum number of nested arrays and objects in a value; the engine's `MAX_JSON_DEPTH`. Deeper
#: values are refused, so that code that reads the text does not run out of stack.
MAX_DEPTH = 512

# A part of the text that pydantic writes instead of a secret.
_MASK = "****"

_NOTHING = object()
#: The types of values that JSON has, except arrays and objects.
SCALARS = frozenset({str, int, float, bool, type(None)})


def encode(key: str, value: object) -> str:
    """Returns the compact JSON text of a value.

    Args:
        key: The context's key, for messages.
        value: The value to encode.

    Raises:
        TypeError: A part of the value has no JSON form. The message names the key and the type.
        ValueError: The value contains NaN, an infinity, a reference cycle, more than 512 levels, or
            a lone surrogate. The message names the key.
    """
    return encode_as(f"context key {key!r}", value)


def encode_as(what: str, value: object, convert: Callable[[Any], object] | None = None) -> str:
    """Encodes a value like `encode`; error messages begin with `what` instead of a key.

    Args:
        what: The subject of error messages.
        value: The value.
        convert: A function that replaces `plain`.
    """
    import json

    try:
        parts = plain(value) if convert is None else convert(value)
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


def plain(value: object, depth: int = 0, *, has_text_keys: bool = False) -> object:
    """Returns the JSON form of a value, as Python objects.

    A list or dict is not copied if all its items are strings, numbers, booleans or `None`.

    Args:
        value: The value.
        depth: The number of arrays and objects around the value.
        has_text_keys: Whether keys of objects that are not strings are converted to text.

    Raises:
        TypeError: A part of the value has no JSON form, or an object's key is not a string.
        ValueError: The value is nested too deeply, or contains NaT or a `Decimal` that is not
            finite.
    """
    if type(value) in SCALARS:
        return value
    if isinstance(value, (dict, list, tuple)) and depth >= MAX_DEPTH:
        raise ValueError(_TOO_DEEP)
    # Uses loops, because in Python 3.11 a comprehension adds a second frame to each recursion.
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                if has_text_keys:
                    from cloaca._values.text_keys import with_text_keys

                    return plain(with_text_keys(value), depth, has_text_keys=True)
                raise TypeError(
                    f"the key {key!r} of an object is of type '{type_name(type(key))}', "
                    f"but keys of JSON objects are strings{key_advice(key)}"
                )
        if SCALARS.issuperset(map(type, value.values())):
            return value
        members = {}
        for key, part in value.items():
            members[key] = plain(part, depth + 1, has_text_keys=has_text_keys)
        return members
    if isinstance(value, (list, tuple)):
        if SCALARS.issuperset(map(type, value)):
            return value
        items = []
        for part in value:
            items.append(plain(part, depth + 1, has_text_keys=has_text_keys))
        return items
    return _simplify(value, depth, has_text_keys)


def _simplify(value: object, depth: int, has_text_keys: bool) -> object:
    """Returns the JSON form of a value whose type JSON does not have."""
    from enum import Enum

    if isinstance(value, Enum):
        return plain(value.value, depth, has_text_keys=has_text_keys)
    if isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (set, frozenset)):
        return plain(_ordered(value), depth, has_text_keys=has_text_keys)
    if isinstance(value, Mapping):
        return plain(dict(value), depth, has_text_keys=has_text_keys)
    fields = _fields(value)
    if fields is not None:
        # Inside a Struct, keys that are not strings become text, as msgspec encodes them.
        has_text_keys = has_text_keys or hasattr(type(value), "__struct_encode_fields__")
        return plain(fields, depth, has_text_keys=has_text_keys)
    for kind, convert in _conversions():
        if isinstance(value, kind):
            return convert(value)
    raise TypeError(f"a value of type '{type_name(type(value))}' is not JSON{_advice(value)}")


def _ordered(members: set[Any] | frozenset[Any]) -> list[Any]:
    try:
        return sorted(members)
    except TypeError:
        # The order must not depend on hashes, so that the text is the same in every process.
        return sorted(members, key=lambda member: (type_name(type(member)), repr(member)))


#: The field names of each dataclass whose objects have been encoded. The Rust module reads this
#: dict, and encodes objects of these classes itself if all their parts are plain.
dataclass_fields: dict[type, tuple[str, ...]] = {}


def _field_names(kind: type) -> tuple[str, ...]:
    """Returns the names of a dataclass's fields, and caches them."""
    names = dataclass_fields.get(kind)
    if names is None:
        from dataclasses import fields

        names = dataclass_fields[kind] = tuple(field.name for field in fields(kind))
    return names


def is_model(value: object) -> bool:
    """Returns whether a value is a dataclass, attrs, pydantic or msgspec object."""
    kind = type(value)
    return (
        (hasattr(kind, "model_dump") and hasattr(kind, "model_fields"))
        or hasattr(kind, "__dataclass_fields__")
        or hasattr(kind, "__attrs_attrs__")
        or hasattr(kind, "__struct_encode_fields__")
    )


def _fields(value: object) -> object | None:
    """Returns the fields of a dataclass, attrs, pydantic or msgspec object by name.

    Returns `None` for other values.
    """
    kind = type(value)
    dump = getattr(kind, "model_dump", None)
    if dump is not None and hasattr(kind, "model_fields"):
        # Dumps in the form that pydantic reads: by the names of the fields, without computed
        # fields. A warning about a field of a wrong type is not needed, because decoding the value
        # reports the field.
        dumped: object = dump(value, mode="json", by_alias=False, round_trip=True, warnings=False)
        return dumped
    if hasattr(kind, "__dataclass_fields__"):
        return _without_unset({name: getattr(value, name) for name in _field_names(kind)})
    if hasattr(kind, "__attrs_attrs__"):
        names = [attribute.name for attribute in kind.__attrs_attrs__]
        return _without_unset({name: getattr(value, name) for name in names})
    if hasattr(kind, "__struct_encode_fields__"):
        return _struct_fields(kind, value)
    return None


def _struct_fields(kind: Any, value: object) -> object:
    """Returns the fields of a msgspec.Struct in the form that msgspec decodes, with its tag."""
    config = getattr(kind, "__struct_config__", None)
    values = [getattr(value, name) for name in kind.__struct_fields__]
    if config is not None and config.array_like:
        unset = _unset()
        while values and values[-1] is unset:
            values.pop()
        return values if config.tag is None else [config.tag, *values]
    fields = _without_unset(dict(zip(kind.__struct_encode_fields__, values, strict=True)))
    if config is None or config.tag is None:
        return fields
    return {config.tag_field: config.tag, **fields}


def _without_unset(fields: dict[str, Any]) -> dict[str, Any]:
    """Returns the fields, except those with the value `msgspec.UNSET`, which are not stored."""
    unset = _unset()
    for value in fields.values():
        if value is unset:
            return {name: kept for name, kept in fields.items() if kept is not unset}
    return fields


def _unset() -> object:
    """Returns `msgspec.UNSET`; if msgspec is not imported, an object that no field contains."""
    return getattr(sys.modules.get("msgspec"), "UNSET", _NOTHING)


_conversion_table: list[tuple[type | tuple[type, ...], Callable[[Any], object]]] = []


def _conversions() -> list[tuple[type | tuple[type, ...], Callable[[Any], object]]]:
    """Returns types of the standard library, each with the function that converts its values."""
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
    # pandas' NaT is a datetime that does not equal itself.
    if value != value:
        raise ValueError("NaT is not JSON; store None instead")
    return value.isoformat()


def _decimal_text(value: Decimal) -> str:
    if not value.is_finite():
        raise ValueError(_NOT_FINITE)
    return str(value)


def key_advice(key: object) -> str:
    if isinstance(key, (int, float)):
        return "; convert it with str(key)"
    return "; convert it to a string, or store a list of pairs"


def _advice(value: object) -> str:
    from pathlib import PurePath

    if isinstance(value, (bytes, bytearray, memoryview)):
        return "; encode it as text, e.g. with base64, or store a file's name"
    if isinstance(value, PurePath):
        return "; convert it with str(path)"
    if hasattr(value, "get_secret_value"):
        return "; store the name of the secret, and load the secret in the task"
    if type(value).__name__ == "NAType":  # of pandas
        return "; store None instead"
    if hasattr(value, "tolist"):
        return "; convert it with .tolist()"
    if type(value).__name__ == "DataFrame":
        method = "to_dicts()" if hasattr(value, "to_dicts") else 'to_dict("records")'
        return f"; convert it with .{method}"
    if callable(getattr(value, "to_dict", None)):
        return "; convert it with .to_dict()"
    if hasattr(value, "cr_code"):
        return "; await it in an 'async def' function"
    if isinstance(value, Iterable) and not hasattr(value, "read"):
        return "; convert it with list(value)"
    if callable(value):
        return "; store what it returns, or its name"
    return "; store its data (text, numbers, lists, dicts) or the name of a file"
