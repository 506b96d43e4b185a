"""The command line `cloaca`. The module of a command is loaded when the command is called."""

from __future__ import annotations

import errno
import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: The exit status of a command that was interrupted by Ctrl-C.
INTERRUPTED = 130

# The error numbers of a write to a file or a device that accepts no more data.
_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        The exit status. 0: success, also if the reader of stdout closed the pipe early. 1: the
        execution or the request failed, or writing to stdout failed; stderr says why. 2: wrong
        usage. 130: interrupted by Ctrl-C.
    """
    try:
        code = _run(list(sys.argv[1:] if arguments is None else arguments))
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop_output()  # the reader has closed the pipe
        return 0
    except OSError as error:
        # An error from opening a file has a file name; an error from writing to stdout has none.
        if error.errno not in _CANNOT_WRITE or error.filename is not None:
            raise
        _drop_output()
        try:
            sys.stderr.write(f"error: cannot write to stdout: {error.strerror}\n")
        except OSError:
            return 1  # stderr cannot be written either
        return 1


def _drop_output() -> None:
    """Discards the buffered output. Otherwise Python's flush of stdout at exit would fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
