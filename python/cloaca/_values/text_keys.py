"""Converts keys of objects to the texts from which msgspec and pydantic decode them (J4)."""

from __future__ import annotations

import math

from cloaca._values.annotation_parts import contains, first_part
from cloaca._values.annotations import without_none
from cloaca._values.durations import iso_duration
from cloaca._values.type_name import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def has_other_keys(annotation: Any) -> bool:
    """Returns whether an annotation has, at any depth, objects whose keys are not strings."""
    return contains(annotation, _is_mapping_with_other_keys)


def _is_mapping_with_other_keys(part: Any) -> bool:
    from collections.abc import Mapping
    from typing import Any, get_args, get_origin

    kind, arguments = get_origin(part), get_args(part)
    if not isinstance(kind, type) or not issubclass(kind, Mapping) or len(arguments) != 2:
        return False
    return arguments[0] not in (str, Any, object)


def unusable_key(annotation: Any, *, in_classes: bool) -> Any:
    """Returns a type that keys of objects in an annotation have, but that has no text; or `None`.

    Args:
        annotation: The annotation.
        in_classes: Whether to search the fields of classes too.
    """
    found = first_part(annotation, _is_mapping_with_unusable_keys, in_classes=in_classes)
    if found is None:
        return None
    from typing import get_args

    return get_args(found)[0]


def _is_mapping_with_unusable_keys(part: Any) -> bool:
    from typing import get_args

    return _is_mapping_with_other_keys(part) and _has_no_text(get_args(part)[0])


def is_mixed_enum(part: Any) -> bool:
    """Returns whether a part is an `Enum` of JSON's simple values that msgspec does not decode.

    msgspec decodes enums whose values are all strings or all integers. Booleans are not integers.
    """
    values = _values_of_enum(part)
    return _are_simple(values) and not _are_decoded_by_msgspec(values)


def is_other_enum(part: Any) -> bool:
    """Returns whether a part is an `Enum` with a value that is not one of JSON's simple values."""
    values = _values_of_enum(part)
    return not _are_simple(values) and not _are_decoded_by_msgspec(values)


def _values_of_enum(part: Any) -> list[Any]:
    """Returns the values of an `Enum`; an empty list for anything else."""
    from enum import Enum

    is_enum = isinstance(part, type) and issubclass(part, Enum)
    return [member.value for member in part] if is_enum else []


def _are_simple(values: list[Any]) -> bool:
    return all(value is None or isinstance(value, (str, int, float)) for value in values)


def _are_decoded_by_msgspec(values: list[Any]) -> bool:
    if any(isinstance(value, bool) for value in values):
        return False
    return any(all(isinstance(value, kind) for value in values) for kind in (str, int))


def _has_no_text(key: Any) -> bool:
    """Returns whether no value of a type can be a key of a JSON object; see `text_of_key`."""
    from typing import get_origin

    if first_part(key, is_mixed_enum, in_classes=False) is not None:
        return True
    key = without_none(key)[0]
    kind = get_origin(key) or key
    if not isinstance(kind, type):
        return False
    if kind is bool or issubclass(kind, (tuple, list, set, frozenset, dict)):
        return True
    return hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__struct_fields__")


def with_text_keys(value: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns a copy of a mapping in which each key is replaced with its text.

    Raises:
        TypeError: A key has no text, or two keys have the same text.
    """
    found: dict[str, Any] = {}
    for key, part in value.items():
        text = text_of_key(key)
        if text is None:
            raise TypeError(
                f"the key {key!r} of an object is of type '{type_name(type(key))}', "
                "but keys of JSON objects are strings; store a list of pairs"
            )
        if text in found:
            raise TypeError(f"two keys of an object have the text {text!r} in JSON")
        found[text] = part
    return found


def text_of_key(key: Any) -> str | None:
    """Returns the text of a key; `None` for a key that the libraries cannot decode."""
    from datetime import date, time, timedelta
    from decimal import Decimal
    from enum import Enum
    from uuid import UUID

    if isinstance(key, Enum):
        return text_of_key(key.value)
    if isinstance(key, str):
        return str(key)
    if isinstance(key, bool):
        return None
    if isinstance(key, int):
        return int.__repr__(key)
    if isinstance(key, float):
        return float.__repr__(key) if math.isfinite(key) else None
    if isinstance(key, (date, time)):
        return key.isoformat()
    if isinstance(key, timedelta):
        return iso_duration(key)
    return str(key) if isinstance(key, (Decimal, UUID)) else None
