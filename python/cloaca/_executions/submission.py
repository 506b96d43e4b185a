"""Converts the arguments of `execute` and `submit` into the engine's requests."""

from __future__ import annotations

from cloaca._core import Context, SubmitRequest
from cloaca._tasks.options import PRIORITIES
from cloaca._values.duration import instant_to_us, seconds_to_us, timeout_to_us
from cloaca._values.exceptions import ConfigurationError
from cloaca._values.suggestion import suggestion
from cloaca._workflows.workflow import Workflow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta
    from typing import Any

_MAX_KEY = 512
_NAMES = ("workflow", "context", "key", "priority", "delay", "at", "timeout")


def request(
    workflow: str | Workflow,
    context: Context | Mapping[str, Any] | None,
    *,
    key: str | None,
    priority: int,
    delay: float | timedelta | None,
    at: datetime | None,
    timeout: float | timedelta | None,
) -> SubmitRequest:
    """Checks the arguments of a submission.

    Raises:
        ConfigurationError: One of them is not valid, or two exclude each other.
        TypeError: The context is not a mapping, or a value in it is not JSON.
        ValueError: A value in the context is NaN or an infinity.
    """
    name: object = workflow.name if isinstance(workflow, Workflow) else workflow
    if not isinstance(name, str):
        raise ConfigurationError(
            f"workflow must be the name of a workflow, not {type(name).__name__}"
        )
    if context is not None and not isinstance(context, Context):
        if isinstance(context, (list, tuple, set, frozenset, str, bytes)):
            kind = type(context).__name__
            raise TypeError(f"the context must be a mapping or a Context, not {kind}")
        context = Context(context)
    if key is not None:
        _check_key(key)
    if priority != 0:
        _check_priority(priority)
    if delay is not None and at is not None:
        raise ConfigurationError("delay and at exclude each other: both set the start time")
    return SubmitRequest(
        name,
        context,
        key,
        priority,
        None if delay is None else seconds_to_us("delay", delay, zero=True),
        None if at is None else instant_to_us("at", at),
        None if timeout is None else timeout_to_us(timeout),
    )


def request_of(entry: object) -> SubmitRequest:
    """The request of an entry of `submit_many`: a pair, or a mapping of `submit`'s arguments.

    Raises:
        ConfigurationError: The entry is neither, or an argument is not valid.
    """
    from collections.abc import Mapping

    given: dict[str, Any] = dict.fromkeys(_NAMES)
    given["priority"] = 0
    if isinstance(entry, Mapping):
        for name in entry:
            if name not in _NAMES:
                raise ConfigurationError(
                    f"submit_many: unknown argument {name!r}",
                    hint=suggestion(name, _NAMES, listing=True),
                )
        given.update(entry)
    elif isinstance(entry, (tuple, list)) and len(entry) == 2:
        given["workflow"], given["context"] = entry
    else:
        raise ConfigurationError(
            f"submit_many takes (workflow, context) pairs or mappings, not {entry!r}",
            hint="for example [('etl', {'day': 1})] or [{'workflow': 'etl', 'priority': 5}]",
        )
    return request(given.pop("workflow"), given.pop("context"), **given)


def _check_priority(priority: object) -> None:
    if isinstance(priority, bool) or not isinstance(priority, int) or priority not in PRIORITIES:
        raise ConfigurationError(
            f"priority must be a whole number from -32768 to 32767, not {priority!r}"
        )


def _check_key(key: object) -> None:
    if not isinstance(key, str):
        raise ConfigurationError(f"key must be a string, not {type(key).__name__}")
    if not 0 < len(key) <= _MAX_KEY:
        raise ConfigurationError(
            f"key must have 1 to {_MAX_KEY} characters, not {len(key)}",
            hint="use a hash of what makes the submission unique",
        )
    if "\0" in key or not _is_unicode(key):
        raise ConfigurationError(f"key must be Unicode text without NUL characters, not {key!r}")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
