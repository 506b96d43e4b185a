"""Conditions that tasks wait for: `signal`, `delay`, `until` (semantics L)."""

from __future__ import annotations

from cloaca._values.duration import duration_to_us, instant_to_us
from cloaca._values.exceptions import ConfigurationError, TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Any

# The values of `since=`.
_SINCE = ("submitted", "ever")

#: Maximum length of a signal's name, in bytes.
MAX_NAME = 255

#: Maximum length of a signal's key, in bytes.
MAX_KEY = 1024


class Condition:
    """A condition to wait for, made by `signal`, `delay`, `until`, `any_of` or `all_of`."""

    __slots__ = ("_data", "_text", "signals")

    def __init__(self, data: dict[str, Any], text: str, signals: tuple[str, ...] = ()) -> None:
        """Private: use `cloaca.signal` and the other functions."""
        self._data = data
        self._text = text
        #: The names of the signals in the condition.
        self.signals = signals

    def _to_definition(self) -> dict[str, Any]:
        """Return the condition in the form that the engine reads."""
        return self._data

    def __repr__(self) -> str:
        """Return the call that makes the condition."""
        return self._text


def _literal(data: dict[str, Any]) -> dict[str, Any]:
    if "conditions" in data:
        return {**data, "conditions": [_literal(part) for part in data["conditions"]]}
    if data["wait"] == "signal" and "key" in data:
        return {"key_value" if name == "key" else name: value for name, value in data.items()}
    return data


def signal(name: str, *, key: str | None = None, since: str = "submitted") -> Condition:
    """Return the condition that a signal with this name and key has been sent.

    A wait receives the first of these signals that no earlier wait of the execution received. The
    task receives the signal's data as a value with the name of the signal.

    Args:
        name: The signal's name.
        key: The path of the signal's key in the context, such as `"order_id"` or `"order.id"`. The
            path is read when the wait begins. In `handle.wait`, `key` is the key itself. If
            omitted, the signal must have no key, or must have been sent to the execution.
        since: The earlier signals that the wait can receive: `"submitted"` means signals sent since
            the execution was submitted, `"ever"` means all stored signals.

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
        raise TaskValidationError(f"the name of a signal must be a non-empty string, not {name!r}")
    if key is not None and not isinstance(key, str):
        raise TaskValidationError(
            f"the key of signal {name!r} must be a string, not {key!r:.100}",
            hint='for a task, it is a path into the context, such as "order_id"; '
            "for handle.wait, it is the key itself",
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
    """Return the condition that the given time has passed since the wait began.

    The time during which the execution is paused does not count.

    Args:
        duration: Seconds, a timedelta, or a string such as `"90s"`, `"10m"`, `"48h"` or `"7d"`.

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
    """Return the condition that a point in time has come.

    A pause of the execution does not move this point.

    Args:
        when: A datetime with a time zone, or a path into the context, such as `"due_at"`. The value
            at the path must be ISO 8601 text with a UTC offset.

    Returns:
        The condition, for `wait_for`.

    Raises:
        TaskValidationError: `when` is not a datetime or path, or has no time zone. The error is a
            `ValueError`.

    Example:
        >>> cloaca.wait("due", wait_for=cloaca.until("due_at"), dependencies=["order"])

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
    """Joins conditions with `any_of` or `all_of`.

    Raises:
        TaskValidationError: A condition is a trigger rule, or is repeated.
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
    """Raises an error for repeated conditions.

    `any_of` must not have the same condition twice. `all_of` must not have two signals with the
    same name: the result has one payload for each name, so the second payload would be lost.
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
    """Checks that a value can be a condition in a task's definition, and returns it.

    Args:
        what: The subject of the error message.
        value: The value.

    Raises:
        TaskValidationError: The value is not a condition, or the path of a key is empty.
    """
    condition = _checked(what, value)
    for data in _signals(condition._data):
        if data.get("key") == "":
            raise TaskValidationError(
                f"the key of signal {data['name']!r} must be a string that is not empty",
                hint='it is a path into the context: key="order_id"',
            )
    return condition


def literal_definition(what: str, value: object) -> dict[str, Any]:
    """Returns a condition that a task's code waits for, in the form that the engine reads.

    The keys of its signals are the keys themselves, not paths into the context.

    Args:
        what: The subject of the error message.
        value: The value.

    Raises:
        TaskValidationError: The value is not a condition, or contains a name or a key that no
            signal can have.
    """
    condition = _checked(what, value)
    for data in _signals(condition._data):
        name, key = data["name"], data.get("key", "")
        if not 0 < _size(name) <= MAX_NAME or any(map(_is_control, name)):
            raise TaskValidationError(
                f"{what}: {name!r:.100} cannot be the name of a signal: a name has 1 to {MAX_NAME} "
                "bytes and no control characters"
            )
        if not 0 <= _size(key) <= MAX_KEY or "\0" in key:
            raise TaskValidationError(
                f"{what}: {key!r:.100} cannot be the key of signal {name!r}: a key has at most "
                f"{MAX_KEY} bytes and no NUL"
            )
    return _literal(condition._data)


def _checked(what: str, value: object) -> Condition:
    if isinstance(value, Condition):
        return value
    raise TaskValidationError(
        f"{what} must be a condition to wait for, not {value!r}",
        hint='pass cloaca.signal("paid", key="order_id") or cloaca.delay("1h"), for example',
    )


def _signals(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the definitions of the signals in a condition."""
    if "conditions" in data:
        return [found for part in data["conditions"] for found in _signals(part)]
    return [data] if data["wait"] == "signal" else []


def _size(text: str) -> int:
    """Returns the length of a text in bytes; -1 if the text is not Unicode."""
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return -1


def _is_control(char: str) -> bool:
    return char < " " or "\x7f" <= char <= "\x9f"
