"""Parses and writes JSON and keeps the text of each number, so that no number is rounded."""

from __future__ import annotations

import json
import re
from functools import partial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

# Every integer of at most this number of digits becomes a `float` without rounding.
_EXACT_DIGITS = 15
# Matches a text in which a number may change when the text is decoded and encoded again.
_INEXACT = re.compile(r"\d(?:\.\d|[eE])|\d{16}")


class Number(str):
    """A number, as it is written in a JSON text."""

    __slots__ = ()


def parsed(text: str) -> Any:
    """Returns the value of a JSON text, with each number as a `Number`."""
    return json.loads(text, parse_int=Number, parse_float=Number)


def text_of(value: Any, *, ensure_ascii: bool = True) -> str:
    """Returns the JSON text of a value that `parsed` returned, even if parts were changed since."""
    parts: list[str] = []
    _write(value, parts, partial(json.dumps, ensure_ascii=ensure_ascii))
    return "".join(parts)


def with_original_numbers(
    text: str, original: str, aliases: Mapping[str, str] | None = None
) -> str:
    """Returns a JSON text in which numbers that were only rounded have their original digits.

    Args:
        text: The text of a value that was decoded and encoded again.
        original: The text from which the value was decoded.
        aliases: Other names that fields of the original object may have.
    """
    if text == original or _INEXACT.search(original) is None:
        return text
    source = parsed(original)
    for name, alias in (aliases or {}).items():
        if name not in source and alias in source:
            source[name] = source[alias]
    return text_of(_restored(parsed(text), source), ensure_ascii=False)


def _restored(value: Any, original: Any) -> Any:
    if type(value) is Number:
        is_rounded = type(original) is Number and value in _rounded(original)
        return original if is_rounded else value
    if type(value) is dict and type(original) is dict:
        for key in value:
            if key in original:
                value[key] = _restored(value[key], original[key])
    elif type(value) is list and type(original) is list and len(value) == len(original):
        value[:] = map(_restored, value, original)
    return value


def _rounded(number: Number) -> set[str]:
    """Returns the texts that a number can have after it was decoded and encoded again."""
    found = {repr(float(number))}
    if number.lstrip("-").isdigit():
        # An integer of at most `_EXACT_DIGITS` digits is never rounded. If it comes back as `5.0`,
        # the program has changed its type, so the new text is kept.
        found = {str(number), *(found if len(number) > _EXACT_DIGITS else ())}
    return found


def _write(value: Any, parts: list[str], dumps: Callable[[Any], str]) -> None:
    kind = type(value)
    if kind is Number:
        parts.append(value)
    elif kind is dict:
        separator = "{"
        for key, part in value.items():
            parts.append(f"{separator}{dumps(key)}:")
            _write(part, parts, dumps)
            separator = ","
        parts.append("}" if value else "{}")
    elif kind is list:
        separator = "["
        for part in value:
            parts.append(separator)
            _write(part, parts, dumps)
            separator = ","
        parts.append("]" if value else "[]")
    else:
        parts.append(dumps(value))
