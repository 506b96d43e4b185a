"""Writes docs/reference/cli.md from the definitions of the commands.

python scripts/cli_reference.py [--check]
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cloaca._cli._commands import COMMANDS
from cloaca._cli._root import cli

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"
HEAD = """# Command line

The command is `cloaca` or `python -m cloaca`. `scripts/cli_reference.py` generates this page from
the commands.

Every command takes the database from `-c`/`--database URL`, or else from the environment variable
`CLOACA_DATABASE_URL`. With `--json`, every command prints one JSON document and nothing else on
stdout; the output of tasks goes to stderr. Commands that view or control executions do not start a
runner, and never create or migrate a database.

| exit status | meaning |
|---|---|
| 0 | Success, even if the reader of the output closes the pipe early. |
| 1 | The execution or the request failed, or stdout cannot be written. stderr has the reason. |
| 2 | Wrong usage, e.g. an unknown option or no database. |
| 130 | Interrupted by Ctrl-C. |

"""


def render() -> str:
    """Returns the whole page."""
    parts = [HEAD]
    root = click.Context(cli, info_name="cloaca")
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        parts += section(command, f"cloaca {name}")
    return "".join(parts)


def section(command: click.Command, path: str) -> list[str]:
    """Returns a command's section; for a group, the sections of its commands."""
    context = click.Context(command, info_name=path, terminal_width=88, max_content_width=88)
    context.help_option_names = ["-h", "--help"]
    if isinstance(command, click.Group):
        parts = []
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            parts += section(child, f"{path} {name}")
        return parts
    return [f"## {path}\n\n```text\n{command.get_help(context)}\n```\n\n"]


def main() -> int:
    """Writes the page. With `--check`, reports whether the page is current."""
    page = render().rstrip() + "\n"
    if "--check" not in sys.argv:
        PAGE.write_text(page, encoding="utf-8")
        return 0
    if PAGE.read_text(encoding="utf-8") == page:
        return 0
    print(f"{PAGE.name} is out of date; hint: run python scripts/cli_reference.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
