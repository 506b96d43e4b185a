"""Durations that are stored as numbers of seconds, for msgspec.

A strict decoder of msgspec takes a duration only as ISO 8601 text. One that is not strict takes
numbers, but also takes `"5"` for an `int`. So the numbers are rewritten where the annotation has a
duration, and the decoder stays strict.
"""

from __future__ import annotations

from cloaca._values.json_numbers import Number, parsed, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DAY_US = 86_400_000_000


def with_duration_texts(info: Any, text: str) -> str:
    """A JSON text in which the numbers in the places of durations are ISO 8601 texts.

    Args:
        info: The annotation as `msgspec.inspect` describes it.
        text: The JSON text.
    """
    return text_of(_changed(info, parsed(text)))


def _changed(info: Any, value: Any) -> Any:
    from msgspec import inspect

    if isinstance(info, inspect.Metadata):
        return _changed(info.type, value)
    if isinstance(info, inspect.UnionType):
        part = _part_of_union(info, value)
        return value if part is None else _changed(part, value)
    if isinstance(info, inspect.TimeDeltaType):
        return _iso_text(value) if type(value) is Number else value
    if type(value) is list:
        for index, part in enumerate(_infos_of_items(info, value)):
            if part is not None:
                value[index] = _changed(part, value[index])
    elif type(value) is dict:
        if isinstance(info, inspect.DictType):
            for key in value:
                value[key] = _changed(info.value_type, value[key])
        for field in getattr(info, "fields", ()):
            key = field.encode_name
            if key in value:
                value[key] = _changed(field.type, value[key])
    return value


def _infos_of_items(info: Any, items: list[Any]) -> list[Any]:
    """The type of each item of an array; `None` for an item without a type."""
    from msgspec import inspect

    found: list[Any]
    if isinstance(info, inspect.TupleType):
        found = list(info.item_types)
    elif isinstance(info, inspect.NamedTupleType):
        found = [field.type for field in info.fields]
    elif isinstance(info, inspect.StructType):
        found = [] if info.tag is None else [None]
        found += [field.type for field in info.fields]
    else:
        found = [getattr(info, "item_type", None)] * len(items)
    return found[: len(items)]


def _part_of_union(info: Any, value: Any) -> Any:
    """The type of a union that a value belongs to; `None` if the value stays as it is."""
    from msgspec import inspect

    if type(value) is Number:
        if any(isinstance(part, (inspect.IntType, inspect.FloatType)) for part in info.types):
            return None
        wanted = [part for part in info.types if isinstance(part, inspect.TimeDeltaType)]
    elif type(value) is list:
        wanted = [part for part in info.types if _is_array(part) and _has_tag(part, value[:1])]
    elif type(value) is dict:
        wanted = [
            part
            for part in info.types
            if not _is_array(part)
            and _has_tag(part, [value.get(getattr(part, "tag_field", None) or "")])
        ]
    else:
        return None
    return wanted[0] if wanted else None


def _is_array(info: Any) -> bool:
    from msgspec import inspect

    if isinstance(info, inspect.StructType):
        return bool(info.array_like)
    return hasattr(info, "item_type") or isinstance(
        info, (inspect.TupleType, inspect.NamedTupleType)
    )


def _has_tag(info: Any, found: list[Any]) -> bool:
    """Whether a value has the tag of a type, which distinguishes the structs of a union."""
    tag = getattr(info, "tag", None)
    return tag is None or found == [str(tag)]


def _iso_text(seconds: Number) -> str:
    """A number of seconds as a duration in ISO 8601; the number itself if it is too large."""
    from datetime import timedelta

    try:
        span = timedelta(seconds=int(seconds) if seconds.lstrip("-").isdigit() else float(seconds))
    except (OverflowError, ValueError):
        return seconds
    microseconds = span // timedelta(microseconds=1)
    days, rest = divmod(abs(microseconds), _DAY_US)
    whole, part = divmod(rest, 1_000_000)
    return f"{'-' if microseconds < 0 else ''}P{days}DT{whole}.{part:06}S"
