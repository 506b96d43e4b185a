"""Hints for common errors in task functions, such as a stored date that is read back as text."""

from __future__ import annotations

from types import FunctionType

from cloaca._core import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# For each kind of value: substrings of Python's `TypeError` messages, the type before the value was
# stored, the type when it is read back, and the code that converts it to the original type.
_STORED = (
    (("'str'", "datetime.datetime"), "a datetime", "text", "datetime.fromisoformat(text)"),
    (("str", "datetime."), "a date or time", "text", "date.fromisoformat(text)"),
    (("float", "datetime.timedelta"), "a timedelta", "seconds", "timedelta(seconds=value)"),
    (("float", "datetime."), "a timedelta", "seconds", "timedelta(seconds=value)"),
    (("str", "decimal.Decimal"), "a Decimal", "text", "Decimal(text)"),
    (("unhashable type: 'list'",), "a tuple", "a list", "tuple(value)"),
    (("'list' and 'set'",), "a set", "a list", "set(value)"),
    (("'set' and 'list'",), "a set", "a list", "set(value)"),
)
# Attributes that task functions have in other workflow tools, such as `delay` in Celery.
_CALLS = frozenset(
    {"apply_async", "delay", "expand", "map", "partial", "remote", "run", "s", "si", "submit"}
)


def add_hint(error: AttributeError | TypeError) -> None:
    """Adds a hint to an error that a task's function raised, if the cause can be recognised."""
    if isinstance(error, AttributeError):
        hint = _hint(error.obj, error.name)
    else:
        hint = _hint_for_operands(str(error))
    if hint is not None:
        error.add_note(f"hint: {hint}")


def _hint_for_operands(message: str) -> str | None:
    for parts, kind, stored, again in _STORED:
        if all(part in message for part in parts):
            return f"a context stores JSON, so {kind} is read back as {stored}; convert it: {again}"
    return None


def _hint(value: Any, name: Any) -> str | None:
    if not isinstance(name, str) or name.startswith("_"):
        return None
    if isinstance(value, Context):
        return f"the value is a Context, whatever its annotation says; read context[{name!r}]"
    if type(value) is FunctionType and name in _CALLS:
        return (
            "a task is a plain function: its workflow runs it; run another workflow with "
            "runner.submit('name') or cloaca.child"
        )
    if type(value) is dict and name in value:
        return (
            "a context stores JSON, so a model or dataclass is read back as a dict; "
            f"read value[{name!r}], or create the object again from the dict"
        )
    if type(value) is list and hasattr(set, name):
        return "a context stores JSON, so a set is read back as a list; convert it: set(value)"
    if type(value) is str:
        return _hint_for_text(name)
    return None


def _hint_for_text(name: str) -> str | None:
    from datetime import date, datetime, time
    from decimal import Decimal
    from pathlib import PurePath
    from uuid import UUID

    for kind, what, again in (
        (datetime, "a datetime", "datetime.fromisoformat(text)"),
        (date, "a date", "date.fromisoformat(text)"),
        (time, "a time", "time.fromisoformat(text)"),
        (Decimal, "a Decimal", "Decimal(text)"),
        (UUID, "a UUID", "UUID(text)"),
        (PurePath, "a path", "Path(text)"),
    ):
        if hasattr(kind, name):
            return f"a context stores JSON, so {what} is read back as text; convert it: {again}"
    return None
