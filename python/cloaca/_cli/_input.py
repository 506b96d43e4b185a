"""The JSON object that a command takes as the input of an execution."""

from __future__ import annotations

import sys

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca._core import Context


def json_context(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> Context | None:
    """The JSON object in a text, in the file that `@FILE` names, or on stdin for `-`.

    Raises:
        click.BadParameter: It cannot be read, or it is not a JSON object.
    """
    if text is None:
        return None
    from cloaca._core import Context

    place = "the JSON"
    if text == "-":
        place, text = "stdin", sys.stdin.read()
    elif text.startswith("@"):
        from pathlib import Path

        place = text[1:]
        try:
            text = Path(place).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise click.BadParameter(f"{place} cannot be read: {error}") from None
    try:
        return Context.from_json(text)
    except ValueError as error:
        raise click.BadParameter(f"{place}: {error}") from None
