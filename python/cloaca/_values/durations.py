"""Prepares durations, which are stored as numbers of seconds, for msgspec.

A strict decoder of msgspec accepts a duration only as ISO 8601 text. A decoder that is not strict
accepts numbers, but also accepts `"5"` for an `int`. So the decoder is strict, and where the
annotation has a duration, the number is rewritten as text.
"""

from __future__ import annotations

from cloaca._values.json_numbers import Number, parsed, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Any

# Microseconds in a day.
_DAY_US = 86_400_000_000


def with_duration_texts(info: Any, text: str) -> str:
    """Returns a JSON text in which the durations are ISO 8601 texts instead of numbers.

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
        return iso_text(value) if type(value) is Number else value
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
    """Returns the type of each item of an array; `None` for an item without a type."""
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
    """Returns the part of a union that a value belongs to; `None` if the value is not rewritten."""
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
    """Returns whether a value has the tag of a struct type; true if the type has no tag."""
    tag = getattr(info, "tag", None)
    return tag is None or found == [str(tag)]


def iso_text(seconds: Number) -> str:
    """Converts a number of seconds to ISO 8601 text; does not change a number that is too large."""
    from datetime import timedelta

    try:
        span = timedelta(seconds=int(seconds) if seconds.lstrip("-").isdigit() else float(seconds))
    except (OverflowError, ValueError):
        return seconds
    return iso_duration(span)


def iso_duration(span: timedelta) -> str:
    """Returns the ISO 8601 text of a duration."""
    from datetime import timedelta

    microseconds = span // timedelta(microseconds=1)
    days, rest = divmod(abs(microseconds), _DAY_US)
    whole, part = divmod(rest, 1_000_000)
    return f"{'-' if microseconds < 0 else ''}P{days}DT{whole}.{part:06}S"
