"""The command line `cloaca`. Each group of commands is a module, loaded when it is called."""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: The exit status of a process that Ctrl-C ended.
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        0: success. 1: the execution or the request failed; stderr says why. 2: wrong usage. 130:
        interrupted by Ctrl-C.
    """
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe. Python would report that when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _run(arguments: list[str]) -> int:
    complete = os.environ.get("_CLOACA_COMPLETE")
    if arguments in (["--help"], ["-h"]) and not complete:
        from cloaca._cli._commands import help_text

        sys.stdout.write(f"{help_text()}\n")
        return 0

    import click

    from cloaca._cli._root import cli
    from cloaca._values.exceptions import CloacaException
    from cloaca._values.visible_text import visible

    if complete:
        from click.shell_completion import shell_complete

        return shell_complete(cli, {}, "cloaca", "_CLOACA_COMPLETE", complete)
    try:
        with cli.make_context("cloaca", arguments) as context:
            cli.invoke(context)
            return 0
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.Abort:
        return INTERRUPTED
    except click.ClickException as error:
        if not isinstance(error, click.UsageError):
            sys.stderr.write(f"error: {visible(error.format_message())}\n")
            return 1
        shown = io.StringIO()
        error.show(shown)
        sys.stderr.write(visible(shown.getvalue()))
        return 2
    except CloacaException as error:
        sys.stderr.write(f"error: {visible(str(error))}\n")
        return 1
