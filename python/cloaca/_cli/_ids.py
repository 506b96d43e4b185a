"""Short ids: tables show them, and commands accept them in place of whole ids.

The first digits of an id encode a time, so executions that were submitted together share these
digits. A short id therefore consists of the first 8 digits and the last few digits, for example
`01a213ed-9c2e41`. Like a prefix, a short id is looked up through the index of ids.
"""

from __future__ import annotations

from functools import wraps

import click

from cloaca._cli._options import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from cloaca._core import Reads

    Command = TypeVar("Command", bound=Callable[..., Any])

# Number of first digits in a short id.
_FIRST = 8
# Possible numbers of last digits. A table uses the smallest number that keeps its ids distinct.
_LAST = (6, 8, 12, 24)
# Minimum number of digits in a text that refers to an object by its id.
_MIN_PREFIX = 4
# Maximum number of candidates that an error lists.
_MAX_CANDIDATES = 10


def shorten(ids: Iterable[str]) -> dict[str, str]:
    """Returns the short form of each id, or the whole ids if some short forms are equal."""
    wanted = set(ids)
    for digits in _LAST:
        short = {id: f"{id[:_FIRST]}-{id.replace('-', '')[-digits:]}" for id in wanted}
        if len(set(short.values())) == len(wanted):
            return short
    return {id: id for id in wanted}


def is_whole(text: str) -> bool:
    """Returns whether a string is a whole id."""
    from uuid import UUID

    try:
        UUID(text)
    except ValueError:
        return False
    return True


def means(text: str, id: str) -> bool:
    """Returns whether `text` is the given id, its short form, or a prefix of at least 4 digits."""
    text = text.lower()
    if len(text.replace("-", "")) < _MIN_PREFIX:
        return False
    first, _, last = text.partition("-")
    digits = id.replace("-", "")
    # In a whole id, 4 digits follow the first hyphen. More digits are the last part of a short id.
    if len(first) == _FIRST and len(last) > 4 and "-" not in last:
        return digits.startswith(first) and digits.endswith(last)
    return digits.startswith(text.replace("-", ""))


def execution_id(reads: Reads, text: str) -> str:
    """Returns the id of the execution that a text refers to.

    A whole id is returned as it is, even if no execution has it.

    Raises:
        click.ClickException: The text matches no execution, or several.
        CloacaException: The text cannot be an id, or the database does not answer.
    """
    if is_whole(text):
        return text
    found = reads.find_executions(text, _MAX_CANDIDATES + 1)
    if len(found) == 1:
        return found[0]
    if not found:
        raise click.ClickException(
            f"there is no execution '{text}'\nhint: `cloaca list` shows the executions"
        )
    raise ambiguous("executions", text, [_candidate(reads, id) for id in found])


def ambiguous(what: str, text: str, candidates: list[str]) -> click.ClickException:
    """Returns the error for a text that matches several objects; the error lists them."""
    shown = candidates[:_MAX_CANDIDATES]
    more = "\n  and more" if len(candidates) > len(shown) else ""
    return click.ClickException(
        f"'{text}' matches several {what}:\n  " + "\n  ".join(shown) + more + "\n"
        "hint: type more of the id"
    )


def newest(reads: Reads) -> str:
    """Returns the id of the newest execution.

    Raises:
        click.ClickException: The database has no executions.
    """
    from cloaca._core import ListFilter

    page = reads.executions(ListFilter(), 1)
    if not page.executions:
        raise click.ClickException("the database has no executions")
    return page.executions[0].execution_id


def _candidate(reads: Reads, id: str) -> str:
    execution = reads.execution(id)
    return f"{id}  {execution.workflow_name}  {execution.status}"


def takes_execution(command: Command) -> Command:
    """Adds the argument `ID` and the option `--last`; the function receives a whole `id`."""

    @click.argument("id", required=False, metavar="ID")
    @click.option("--last", is_flag=True, help="Take the newest execution instead of an ID.")
    @wraps(command)
    def wrapped(database: Database, id: str | None, last: bool, **given: Any) -> Any:
        if (id is None) != last:
            raise click.UsageError(
                "no execution was given: give its ID, the beginning of its ID, or --last"
                if id is None
                else "both an ID and --last were given: give only one of them"
            )
        reads = database.inspect().reads
        whole = newest(reads) if id is None else execution_id(reads, id)
        return command(database=database, id=whole, **given)

    return wrapped  # type: ignore[return-value]
