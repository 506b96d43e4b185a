"""Reads the input of an execution that a command submits, and converts errors of the submission."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import click

from cloaca._values.exceptions import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from cloaca._core import Context


def json_context(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> Context | None:
    """Returns the JSON object in a text, in the file that `@FILE` names, or on stdin for `-`.

    Returns `None` if the argument was not given.

    Raises:
        click.BadParameter: The file cannot be read, or the text is not a JSON object.
    """
    if text is None:
        return None
    from cloaca._core import Context

    place = "the JSON"
    try:
        if text == "-":
            place, text = "stdin", sys.stdin.read()
        elif text.startswith("@"):
            from pathlib import Path

            place = text[1:]
            text = Path(place).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{place} cannot be read: {error}") from None
    try:
        return Context.from_json(text)
    except ValueError as error:
        raise click.BadParameter(f"{place}: {error}") from None


@contextmanager
def usage_errors() -> Iterator[None]:
    """Converts a `ConfigurationError` of the submission in the block to a usage error.

    Raises:
        click.UsageError: The submission raised a `ConfigurationError`.
    """
    try:
        yield
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
