"""Handlers for interpreter exit and forks, so that no runner hangs or crashes the process."""

from __future__ import annotations

import atexit
import os

from cloaca import _core
from cloaca._workflows.registry import registry

# Maximum time for running tasks to finish when the interpreter exits, in seconds. A task that does
# not finish in time runs again in another runner, or when the program starts again.
_EXIT_GRACE = 5.0


def install() -> None:
    """Registers the handlers for the end of the process and for forks."""
    atexit.register(_close_runners)
    os.register_at_fork(after_in_child=_after_fork)


def _close_runners() -> None:
    """Stops the live runners one after another, because no more threads can be started."""
    from time import monotonic

    until = monotonic() + _EXIT_GRACE
    for runner in registry.runners():
        runner._close_at_exit(max(until - monotonic(), 0))


def _after_fork() -> None:
    _core.after_fork_child()
    registry.after_fork()
