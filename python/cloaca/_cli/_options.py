"""The options that all commands share: the database and `--json`."""

from __future__ import annotations

import os

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from cloaca._core import Inspector

    Command = TypeVar("Command", bound=Callable[..., Any])

HELP_NAMES = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class ListingGroup(click.Group):
    """A group that runs its command `list` if no command is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the arguments, with `list` in front if the first one is not a command."""
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


class Database:
    """The database that a command works on."""

    def __init__(self, url: str | None, schema: str | None) -> None:
        self._url = url
        self.schema = schema
        self._inspector: Inspector | None = None

    @property
    def is_given(self) -> bool:
        """Whether an option or the environment names a database."""
        return bool(self._url or os.environ.get("CLOACA_DATABASE_URL"))

    @property
    def is_chosen(self) -> bool:
        """Whether `--database` or `--schema` was given, rather than the environment alone."""
        return self._url is not None or self.schema is not None

    @property
    def url(self) -> str:
        """The URL of the database.

        Raises:
            click.UsageError: No database was given.
        """
        url = self._url or os.environ.get("CLOACA_DATABASE_URL")
        if not url:
            raise click.UsageError(
                "no database was given: name its URL with -c/--database or CLOACA_DATABASE_URL"
            )
        return url

    def inspect(self, *, migrate: bool = False) -> Inspector:
        """The database, for reading and control; no runner is started.

        Args:
            migrate: Whether to create and migrate the database; otherwise it must exist.
        """
        if self._inspector is None:
            from cloaca._core import Inspector

            self._inspector = Inspector(self.url, self.schema, migrate)
        return self._inspector


VERBOSE = click.option(
    "-v", "--verbose", is_flag=True, help="Print full ids, times and texts on a terminal too."
)


def database_options(command: Command) -> Command:
    """Adds `-c/--database`, `--schema` and `--json`; the function gets `database` and `as_json`."""
    from functools import wraps

    @click.option(
        "-c",
        "--database",
        "url",
        metavar="URL",
        help="The database; CLOACA_DATABASE_URL if omitted.",
    )
    @click.option("--schema", metavar="NAME", help="The PostgreSQL schema to work in.")
    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document, nothing else.")
    @wraps(command)
    def wrapped(url: str | None, schema: str | None, **given: Any) -> Any:
        return command(database=Database(url, schema), **given)

    return wrapped  # type: ignore[return-value]
