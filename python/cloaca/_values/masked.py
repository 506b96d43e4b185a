"""Finds secrets of pydantic that were encoded as asterisks, and would therefore be lost.

A model encodes a `SecretStr` as `"**********"`, unless the model has a serializer that writes the
secret itself.
"""

from __future__ import annotations

from collections.abc import Mapping

from cloaca._values.text_keys import text_of_key
from cloaca._values.type_name import type_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def refuse_masked(value: object, parts: object) -> None:
    """Raises an error for a value that contains a masked secret.

    Args:
        value: The value.
        parts: The value's JSON form, as Python objects.

    Raises:
        TypeError: The value contains a masked secret. The message names the path and the type.
    """
    found = _masked(value, parts, "")
    if found is not None:
        path, kind = found
        raise TypeError(
            f"{f'`{path}`' if path else 'it'} is a '{kind}', which would be stored as asterisks; "
            "store the name of the secret and load the secret in the task, or declare the field as "
            "str to store the secret itself"
        )


def _masked(value: Any, parts: Any, path: str) -> tuple[str, str] | None:
    """Returns the path and the type of the first masked secret, or `None`."""
    kind = type(value)
    if hasattr(kind, "get_secret_value"):
        is_masked = parts != "" and parts == str(value)
        return (path.removeprefix("."), type_name(kind)) if is_masked else None
    if getattr(kind, "__pydantic_root_model__", False):
        return _masked(value.root, parts, path)
    if isinstance(parts, dict):
        for name, member in _members(value):
            if name in parts:
                found = _masked(member, parts[name], f"{path}.{name}")
                if found is not None:
                    return found
    elif isinstance(parts, list) and isinstance(value, (list, tuple)):
        for index, (item, part) in enumerate(zip(value, parts, strict=False)):
            found = _masked(item, part, f"{path}[{index}]")
            if found is not None:
                return found
    elif isinstance(parts, list) and isinstance(value, (set, frozenset)):
        for item in value:
            if str(item) in parts:
                found = _masked(item, str(item), f"{path}[...]")
                if found is not None:
                    return found
    return None


def _members(value: Any) -> Iterable[tuple[str, Any]]:
    """Returns the parts of an object by the names under which they are stored."""
    kind = type(value)
    if isinstance(value, Mapping):
        return [(text_of_key(key) or "", part) for key, part in value.items()]
    if hasattr(kind, "model_fields"):
        return [*vars(value).items(), *(value.__pydantic_extra__ or {}).items()]
    if hasattr(kind, "__struct_encode_fields__"):
        names = zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True)
        return [(stored, getattr(value, name, None)) for stored, name in names]
    fields = getattr(kind, "__dataclass_fields__", None)
    if fields is None:
        fields = [field.name for field in getattr(kind, "__attrs_attrs__", ())]
    return [(name, getattr(value, name, None)) for name in fields]
