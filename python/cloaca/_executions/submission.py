"""Converts the arguments of `execute` and `submit` into the engine's requests."""

from __future__ import annotations

from cloaca._core import SubmitRequest
from cloaca._tasks.options import PRIORITIES
from cloaca._values.duration import duration_to_us, instant_to_us, timeout_to_us
from cloaca._values.exceptions import ConfigurationError
from cloaca._values.inputs import context_of
from cloaca._values.suggestion import suggestion
from cloaca._workflows.registry import registry
from cloaca._workflows.workflow import Workflow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta
    from typing import Any

    from cloaca._values.inputs import Input

# Maximum length of a key, in characters.
_MAX_KEY = 512
_NAMES = ("workflow", "context", "key", "priority", "delay", "at", "timeout", "labels")


def request(
    workflow: str | Workflow,
    context: Input | None,
    *,
    key: str | None,
    priority: int,
    delay: float | timedelta | str | None,
    at: datetime | None,
    timeout: float | timedelta | str | None,
    labels: Mapping[str, str] | None = None,
) -> SubmitRequest:
    """Checks the arguments of a submission and returns the request.

    Raises:
        ConfigurationError: An argument is not valid, or two arguments exclude each other.
        WorkflowInputError: The input does not match the workflow's model.
        TypeError: The context is not a mapping, or a value in it is not JSON.
        ValueError: A value in the context is NaN or an infinity.
    """
    known: Workflow | None
    if isinstance(workflow, str):
        name, known = workflow, registry.workflow(workflow)
    elif isinstance(workflow, Workflow):
        name, known = workflow.name, workflow
    else:
        raise ConfigurationError(
            f"workflow must be the name of a workflow, not {type(workflow).__name__}",
            hint="pass the name given to WorkflowBuilder, or the name of the @cloaca.workflow "
            "function",
        )
    model = None if known is None else known._input
    if model is not None:
        context = model.validate(context)
    elif context is not None:
        context = context_of(context)
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
        None if delay is None else duration_to_us("delay", delay, zero=True),
        None if at is None else instant_to_us("at", at),
        None if timeout is None else timeout_to_us(timeout),
        None if labels is None else checked_labels(labels),
    )


def request_of(entry: object) -> SubmitRequest:
    """Returns the request for one entry of `submit_many`.

    The entry is a pair of workflow and context, or a mapping of `submit`'s arguments.

    Raises:
        ConfigurationError: The entry has another type, or an argument is not valid.
    """
    if isinstance(entry, (tuple, list)) and len(entry) == 2:
        workflow, context = entry
        return request(workflow, context, key=None, priority=0, delay=None, at=None, timeout=None)
    from collections.abc import Mapping

    if not isinstance(entry, Mapping):
        raise ConfigurationError(
            f"submit_many takes (workflow, context) pairs or mappings, not {entry!r}",
            hint="for example [('etl', {'day': 1})] or [{'workflow': 'etl', 'priority': 5}]",
        )
    for name in entry:
        if name not in _NAMES:
            raise ConfigurationError(
                f"submit_many: unknown argument {name!r}",
                hint=suggestion(name, _NAMES, listing=True),
            )
    given: dict[str, Any] = dict.fromkeys(_NAMES)
    given["priority"] = 0
    given.update(entry)
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


def checked_labels(labels: object, what: str = "labels") -> dict[str, str]:
    """Checks the labels of a submission, or the labels or tags of a filter, and returns a copy.

    Args:
        labels: The labels or tags.
        what: The name of the argument, for messages: `labels` or `tags`.

    Raises:
        ConfigurationError: The labels are not a mapping of strings to strings.
    """
    from collections.abc import Mapping

    if not isinstance(labels, Mapping):
        raise ConfigurationError(
            f"{what} must be a mapping, not {type(labels).__name__}",
            hint=f'for example {what}={{"order": "4711"}}',
        )
    for name, value in labels.items():
        for text in (name, value):
            if not isinstance(text, str):
                raise ConfigurationError(
                    f"{what} must be strings: {what[:-1]} {name!r} has the value {value!r}",
                    hint="write numbers as text, for example str(4711)",
                )
            if not _is_unicode(text):
                raise ConfigurationError(f"a {what[:-1]} must be Unicode text, not {text!r}")
    return dict(labels)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
