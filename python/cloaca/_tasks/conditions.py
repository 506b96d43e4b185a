"""Conditions that tasks wait for: `signal`, `delay`, `until` (semantics L)."""

from __future__ import annotations

from cloaca._values.duration import duration_to_us, instant_to_us
from cloaca._values.exceptions import ConfigurationError, TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Any

_SINCE = ("submitted", "ever")


class Condition:
    """A condition that a task waits for. Made by `signal`, `delay`, `until`, `any_of`, `all_of`."""

    __slots__ = ("_data", "_text", "signals")

    def __init__(self, data: dict[str, Any], text: str, signals: tuple[str, ...] = ()) -> None:
        """Private: made by the functions of `cloaca`."""
        self._data = data
        self._text = text
        #: The names of its signals.
        self.signals = signals

    def _to_definition(self) -> dict[str, Any]:
        """The condition as the engine reads it."""
        return self._data

    def _literal(self) -> Condition:
        """The condition with literal keys of signals, not paths to the keys, for a wait in code."""
        return Condition(_literal(self._data), self._text, self.signals)

    def __repr__(self) -> str:
        """The call that makes it."""
        return self._text


def _literal(data: dict[str, Any]) -> dict[str, Any]:
    if "conditions" in data:
        return {**data, "conditions": [_literal(part) for part in data["conditions"]]}
    if data["wait"] == "signal" and "key" in data:
        return {"key_value" if name == "key" else name: value for name, value in data.items()}
    return data


def signal(name: str, *, key: str | None = None, since: str = "submitted") -> Condition:
    """The condition that a signal with this name and key has been sent.

    A wait takes the first such signal that no earlier wait of the execution has taken. The task
    receives its data as a value with the name of the signal.

    Args:
        name: The signal's name.
        key: A path into the context, such as `"order_id"` or `"order.id"`: the value there is the
            key of the signal. It is read when the wait begins. In `handle.wait`, `key` is the key
            itself. If omitted, the signal must have no key, or must have been sent to the
            execution.
        since: The earlier signals that count: with `"submitted"`, signals sent since the execution
            was submitted; with `"ever"`, all that are kept.

    Returns:
        The condition, for `wait_for` and `cancel_on`.

    Raises:
        TaskValidationError: An argument is not valid. The error is a `ValueError`.

    Example:
        >>> @cloaca.task(wait_for=cloaca.signal("paid", key="order_id"))
        ... def book(paid: dict): ...

    Since 1.0.
    """
    given: Any = name
    if not isinstance(given, str) or not given:
        raise TaskValidationError(f"the name of a signal must be a string, not {name!r}")
    path: Any = key
    if path is not None and (not isinstance(path, str) or not path):
        raise TaskValidationError(
            f"the key of signal {name!r} must be a string, not {key!r}",
            hint='it is a path into the context: key="order_id"',
        )
    if since not in _SINCE:
        raise TaskValidationError(
            f"since of signal {name!r} must be 'submitted' or 'ever', not {since!r}"
        )
    data: dict[str, Any] = {"wait": "signal", "name": name}
    text = f"signal({name!r}"
    if key is not None:
        data["key"] = key
        text += f", key={key!r}"
    if since != "submitted":
        data["since"] = since
        text += f", since={since!r}"
    return Condition(data, f"{text})", (name,))


def delay(duration: float | timedelta | str) -> Condition:
    """The condition that a time has passed since the wait began. Pauses do not count.

    Args:
        duration: Seconds, a timedelta, or a text such as `"90s"`, `"10m"`, `"48h"` or `"7d"`.

    Returns:
        The condition, for `wait_for`.

    Raises:
        TaskValidationError: The duration is not valid. The error is a `ValueError`.

    Example:
        >>> cloaca.wait("cool_down", wait_for=cloaca.delay("1h"), dependencies=["stop"])

    Since 1.0.
    """
    try:
        us = duration_to_us("the duration of delay", duration, zero=True)
    except ConfigurationError as error:
        raise TaskValidationError(error.message, hint=error.hint) from None
    return Condition({"wait": "delay", "duration": us}, f"delay({duration!r})")


def until(when: datetime | str) -> Condition:
    """The condition that a point in time has come. A pause of the execution does not shift it.

    Args:
        when: A datetime with a time zone, or a path into the context to an ISO 8601 text with an
            offset, such as `"due_at"`.

    Returns:
        The condition, for `wait_for`.

    Raises:
        TaskValidationError: `when` is neither, or has no time zone. The error is a `ValueError`.

    Since 1.0.
    """
    if isinstance(when, str):
        if not when:
            raise TaskValidationError("the path of until is empty")
        return Condition({"wait": "until", "path": when}, f"until({when!r})")
    try:
        at = instant_to_us("the time of until", when)
    except ConfigurationError as error:
        raise TaskValidationError(error.message, hint=error.hint) from None
    return Condition({"wait": "until", "at": at}, f"until({when!r})")


def group(name: str, conditions: tuple[object, ...]) -> Condition:
    """Joins conditions: `any_of` or `all_of`.

    Raises:
        TaskValidationError: One of them is a trigger rule, or is repeated.
    """
    parts: list[Condition] = []
    for condition in conditions:
        if not isinstance(condition, Condition):
            raise TaskValidationError(
                f"{name} joins either conditions to wait for or trigger rules, not both: "
                f"{condition!r}"
            )
        parts.append(condition)
    _check_repeated(name, parts)
    data = {"wait": name, "conditions": [part._data for part in parts]}
    names = dict.fromkeys(name for part in parts for name in part.signals)
    return Condition(data, f"{name}({', '.join(map(repr, parts))})", tuple(names))


def _check_repeated(name: str, parts: list[Condition]) -> None:
    """Refuses two signals of one name that must both come, and one condition twice.

    The result has one payload for each name, so the second payload would be lost.
    """
    for index, part in enumerate(parts):
        earlier = parts[:index]
        if name == "any_of" and any(part._data == other._data for other in earlier):
            raise TaskValidationError(f"any_of joins {part!r} twice", hint="leave one of them out")
        seen = {signal for other in earlier for signal in other.signals}
        twice = next((signal for signal in part.signals if signal in seen), None)
        if name == "all_of" and twice is not None:
            raise TaskValidationError(
                f"all_of joins two signals named {twice!r}, but the result of a wait has one "
                "payload for each name",
                hint="give the signals different names, or wait twice",
            )


def as_condition(what: str, value: object) -> Condition:
    """Returns a value that must be a condition.

    Args:
        what: The subject of the error message.
        value: The given value.

    Raises:
        TaskValidationError: The value is not a condition.
    """
    if isinstance(value, Condition):
        return value
    raise TaskValidationError(
        f"{what} must be a condition to wait for, not {value!r}",
        hint='such as cloaca.signal("paid", key="order_id") or cloaca.delay("1h")',
    )
