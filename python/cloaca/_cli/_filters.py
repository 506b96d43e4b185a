"""The options that choose executions, for listing them and for controlling many at once."""

from __future__ import annotations

from functools import wraps

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from cloaca._core import Reads
    from cloaca._executions.history import Page

    Command = TypeVar("Command", bound=Callable[..., Any])

_STATUSES = ("Pending", "Running", "Paused", "Completed", "Failed", "Cancelled")


def moment(text: str) -> int:
    """A time, or a span before now, in microseconds since 1970.

    For example `2026-01-31`, `2026-01-31T10:00+01:00`, `2h`.

    Raises:
        click.BadParameter: It is neither.
    """
    from datetime import datetime

    from cloaca._core import now_us
    from cloaca._values.duration import instant_to_us

    seconds = span(text)
    if seconds is not None and not text.isdigit():
        return now_us() - round(seconds * 1_000_000)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"'{text}' is neither a time nor a span like 2h or 7d") from None
    return instant_to_us("since", time.astimezone() if time.tzinfo is None else time)


def span(text: str) -> float | None:
    """Seconds, or a span like `90s`, `5m`, `2h` or `7d`, in seconds; `None` for other texts."""
    units = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        return float(number) * unit
    except ValueError:
        return None


def _since(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    return None if text is None else moment(text)


class Filter:
    """The conditions that chosen executions meet."""

    def __init__(
        self,
        workflow: str | None,
        statuses: Sequence[str],
        since_us: int | None,
        tags: Sequence[str],
    ) -> None:
        self.workflow = workflow
        self.statuses = list(statuses)
        self.since_us = since_us
        self.tags = dict(tag.partition("=")[::2] for tag in tags) if tags else None

    def __bool__(self) -> bool:
        """Whether it asks for anything."""
        return bool(self.workflow or self.statuses or self.since_us is not None or self.tags)

    def page(
        self,
        reads: Reads,
        limit: int,
        cursor: str | None = None,
        keys: list[str] | None = None,
    ) -> Page:
        """A page of the executions, newest first; with `keys` only those with one of them."""
        from cloaca._runner.control_methods import list_page

        return list_page(
            reads, self.workflow, self.statuses, self.tags, self.since_us, limit, cursor, keys
        )


def filter_options(command: Command) -> Command:
    """Adds the options; the function gets `wanted`, a `Filter`."""

    @click.option("-w", "--workflow", metavar="NAME", help="Only of this workflow.")
    @click.option(
        "-s",
        "--status",
        "statuses",
        multiple=True,
        type=click.Choice(_STATUSES, case_sensitive=False),
        help="Only in this state; may be given several times.",
    )
    @click.option(
        "--since",
        "since_us",
        metavar="TIME",
        callback=_since,
        help="Only submitted since: an ISO time, or a span before now like 2h.",
    )
    @click.option(
        "--tag",
        "tags",
        multiple=True,
        metavar="KEY=VALUE",
        help="Only of workflows with this tag; may be given several times.",
    )
    @wraps(command)
    def wrapped(
        workflow: str | None,
        statuses: tuple[str, ...],
        since_us: int | None,
        tags: tuple[str, ...],
        **given: Any,
    ) -> Any:
        return command(wanted=Filter(workflow, statuses, since_us, tags), **given)

    return wrapped  # type: ignore[return-value]
