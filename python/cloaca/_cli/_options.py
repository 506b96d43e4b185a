"""The options that several commands share, such as the database and `--json`."""

from __future__ import annotations

import os

import click

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from cloaca._core import Inspector

    Command = TypeVar("Command", bound=Callable[..., Any])

COMMAND_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class ListingGroup(click.Group):
    """A group of commands that runs `list` if no command is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the arguments; inserts `list` unless a command or the help option comes first."""
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
        """Whether `--database` or `--schema` was given. Environment variables do not count."""
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
        """Opens the database for reading and control, without starting a runner.

        Args:
            migrate: Whether to create or migrate the database. If not, the database must exist and
                have this program's schema version.
        """
        if self._inspector is None:
            from cloaca._core import Inspector

            self._inspector = Inspector(self.url, self.schema, migrate)
        return self._inspector


PRIORITY = click.option(
    "--priority",
    type=click.IntRange(-(2**15), 2**15 - 1),
    metavar="N",
    default=0,
    help="Executions with a higher priority run first.",
)

VERBOSE = click.option(
    "-v", "--verbose", is_flag=True, help="Print full ids, times and texts on a terminal too."
)


# Commands that use no database accept `--database` too, because aliases and scripts may pass it to
# every command.
UNUSED_DATABASE = click.option(
    "-c",
    "--database",
    metavar="URL",
    expose_value=False,
    help="Has no effect: the command uses no database.",
)


def database_options(command: Command) -> Command:
    """Adds `-c/--database`, `--schema` and `--json`.

    The function receives `database`, a `Database`, and `as_json`.
    """
    from functools import wraps

    @click.option(
        "-c",
        "--database",
        "url",
        metavar="URL",
        help="The database; CLOACA_DATABASE_URL if omitted.",
    )
    @click.option("--schema", metavar="NAME", help="The PostgreSQL schema to work in.")
    @click.option("--json", "as_json", is_flag=True, help="Print only one JSON document.")
    @wraps(command)
    def wrapped(url: str | None, schema: str | None, **given: Any) -> Any:
        return command(database=Database(url, schema), **given)

    return wrapped  # type: ignore[return-value]
