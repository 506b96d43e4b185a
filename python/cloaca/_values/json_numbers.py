"""JSON whose numbers keep their text, for changes that must not round the other numbers."""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Number(str):
    """A number of a JSON text, as it is written there."""

    __slots__ = ()


def parsed(text: str) -> Any:
    """The value of a JSON text, with each number as a `Number`."""
    return json.loads(text, parse_int=Number, parse_float=Number)


def text_of(value: Any) -> str:
    """The JSON text of a value that `parsed` returned, or of a changed one."""
    parts: list[str] = []
    _write(value, parts)
    return "".join(parts)


def _write(value: Any, parts: list[str]) -> None:
    kind = type(value)
    if kind is Number:
        parts.append(value)
    elif kind is dict:
        separator = "{"
        for key, part in value.items():
            parts.append(f"{separator}{json.dumps(key)}:")
            _write(part, parts)
            separator = ","
        parts.append("}" if value else "{}")
    elif kind is list:
        separator = "["
        for part in value:
            parts.append(separator)
            _write(part, parts)
            separator = ","
        parts.append("]" if value else "[]")
    else:
        parts.append(json.dumps(value))
