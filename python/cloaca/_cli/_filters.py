"""The options that choose executions, for commands that list or control many executions."""

from __future__ import annotations

import sys
from functools import wraps

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from cloaca._core import Reads
    from cloaca._executions.history import Page
    from cloaca._executions.result import WorkflowResult

    Command = TypeVar("Command", bound=Callable[..., Any])

_STATUSES = ("Pending", "Running", "Paused", "Completed", "Failed", "Cancelled")


def moment(text: str) -> int:
    """Converts a string to a time, in microseconds since 1970.

    The string is a time, like `2026-01-31` or `2026-01-31T10:00+01:00`, or a span before now, like
    `2h`. Digits alone are a date like `20260131`, not a number of seconds.

    Raises:
        click.BadParameter: The string is neither a time nor a span, or the time is out of range.
    """
    from datetime import datetime

    from cloaca._core import now_us
    from cloaca._values.duration import instant_to_us, us_to_instant

    seconds = None if text.isdigit() else span(text)
    try:
        if seconds is not None:
            since_us = now_us() - round(seconds * 1_000_000)
            us_to_instant(since_us)
            return since_us
        time = datetime.fromisoformat(text)
        return instant_to_us("since", time.astimezone() if time.tzinfo is None else time)
    except OverflowError:
        raise click.BadParameter(f"'{text}' is out of range") from None
    except ValueError:
        raise click.BadParameter(f"'{text}' is neither a time nor a span like 2h or 7d") from None


def span(text: str) -> float | None:
    """Converts a number of seconds, or a span like `90s` or `7d`, to seconds.

    Returns `None` for other strings and for negative numbers.
    """
    from cloaca._values.duration import duration_to_us
    from cloaca._values.exceptions import ConfigurationError

    try:
        number: float | str = float(text)
    except ValueError:
        number = text
    try:
        return duration_to_us("the span", number, zero=True) / 1_000_000
    except ConfigurationError:
        return None


def span_option(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> float | None:
    """Reads an option that is a number of seconds or a span; `None` if it was not given.

    Raises:
        click.BadParameter: The text is neither a number of seconds nor a span.
    """
    if text is None:
        return None
    seconds = span(text)
    if seconds is None:
        raise click.BadParameter(
            f"'{text}' is neither a number of seconds nor a span like 5m or 2h"
        )
    return seconds


def timeout_option(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> float | None:
    """Reads an option like `span_option`, and refuses zero.

    Raises:
        click.BadParameter: The text is neither a number of seconds nor a span, or is zero.
    """
    seconds = span_option(context, parameter, text)
    if seconds == 0:
        raise click.BadParameter(f"'{text}' is not greater than zero")
    return seconds


def _since(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    return None if text is None else moment(text)


def pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Splits options like `name=value` into pairs of name and value.

    Raises:
        click.UsageError: A text has no name or no `=`.
    """
    found = []
    for text in texts:
        name, sign, value = text.partition("=")
        if not name or not sign:
            raise click.UsageError(f"{text!r} does not have the form NAME=VALUE")
        found.append((name, value))
    return found


class Filter:
    """The conditions that an execution must meet to be chosen."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = {name: value for name, value in given.items() if value}

    def __bool__(self) -> bool:
        """Returns whether the filter has a condition."""
        return bool(self._given)

    def narrow(self, statuses: Sequence[str]) -> None:
        """Restricts the filter to these states, unless the filter has states already."""
        self._given.setdefault("statuses", list(statuses))

    def all(self, reads: Reads) -> list[WorkflowResult]:
        """Returns all matching executions, newest first."""
        found: list[WorkflowResult] = []
        cursor = None
        while True:
            page = self.page(reads, sys.maxsize, cursor)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                return found

    def page(self, reads: Reads, limit: int, cursor: str | None = None) -> Page:
        """Returns a page of the matching executions, newest first."""
        from cloaca._core import ListFilter
        from cloaca._executions.listing import list_page

        return list_page(reads, ListFilter(**self._with_whole_ids(reads)), limit, cursor)

    def _with_whole_ids(self, reads: Reads) -> dict[str, Any]:
        """Returns the conditions, with whole ids in place of short ids of schedules and runners."""
        from cloaca._cli._ids import means
        from cloaca._cli.schedules import find

        schedule, runner = self._given.get("schedule"), self._given.get("runner")
        known = find(reads, schedule) if schedule else None
        if known is not None:
            self._given["schedule"] = known["id"]
        if runner:
            ids = [found.runner_id for found in reads.runners()]
            matching = [id for id in ids if means(runner, id)]
            if len(matching) == 1:
                self._given["runner"] = matching[0]
        return self._given


def filter_options(command: Command) -> Command:
    """Adds the options to a command, whose function receives them as `wanted`, a `Filter`."""

    @click.option("-w", "--workflow", metavar="NAME", help="Only executions of this workflow.")
    @click.option(
        "-s",
        "--status",
        "statuses",
        multiple=True,
        type=click.Choice(_STATUSES, case_sensitive=False),
        help="Only executions in this state; may be given several times.",
    )
    @click.option(
        "--since",
        "since_us",
        metavar="TIME",
        callback=_since,
        help="Only executions submitted since this time: an ISO time, or a span before now "
        "like 2h.",
    )
    @click.option(
        "--tag",
        "tags",
        multiple=True,
        metavar="KEY=VALUE",
        help="Only executions of workflows with this tag; may be given several times.",
    )
    @click.option(
        "--key",
        "keys",
        multiple=True,
        metavar="KEY",
        help="Only executions submitted with this key; may be given several times.",
    )
    @click.option(
        "--label",
        "labels",
        multiple=True,
        metavar="NAME=VALUE",
        help="Only executions submitted with this label; may be given several times.",
    )
    @click.option(
        "--not-status",
        "not_statuses",
        multiple=True,
        type=click.Choice(_STATUSES, case_sensitive=False),
        help="No executions in this state; may be given several times.",
    )
    @click.option(
        "--version",
        "versions",
        multiple=True,
        metavar="HASH",
        help="Only executions of the workflow version whose hash begins with this.",
    )
    @click.option("--id-prefix", metavar="ID", help="Only executions whose id begins with this.")
    @click.option("--error", metavar="TEXT", help="Only executions with this text in the error.")
    @click.option(
        "--input",
        "inputs",
        multiple=True,
        metavar="PATH=VALUE",
        help="Only executions with this value in the input, like user.id=123.",
    )
    @click.option(
        "--until",
        "until_us",
        metavar="TIME",
        callback=_since,
        help="Only executions submitted before this time: an ISO time, or a span before now "
        "like 2h.",
    )
    @click.option(
        "--schedule", metavar="ID", help="Only executions started by this schedule or trigger."
    )
    @click.option(
        "--runner", metavar="ID", help="Only executions with tasks that this runner runs now."
    )
    @wraps(command)
    def wrapped(
        workflow: str | None,
        statuses: tuple[str, ...],
        since_us: int | None,
        tags: tuple[str, ...],
        keys: tuple[str, ...],
        labels: tuple[str, ...],
        not_statuses: tuple[str, ...],
        versions: tuple[str, ...],
        id_prefix: str | None,
        error: str | None,
        inputs: tuple[str, ...],
        until_us: int | None,
        schedule: str | None,
        runner: str | None,
        **given: Any,
    ) -> Any:
        wanted = Filter(
            {
                "workflows": [workflow] if workflow else [],
                "statuses": list(statuses),
                "not_statuses": list(not_statuses),
                "versions": list(versions),
                "tags": pairs(tags),
                "keys": list(keys),
                "labels": pairs(labels),
                "inputs": pairs(inputs),
                "id_prefix": id_prefix,
                "error": error,
                "schedule": schedule,
                "runner": runner,
                "since_us": since_us,
                "until_us": until_us,
            }
        )
        return command(wanted=wanted, **given)

    return wrapped  # type: ignore[return-value]
