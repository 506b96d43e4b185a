"""The end of the process, and forks: no runner may hang or crash either (design §6)."""

from __future__ import annotations

import atexit
import os

from cloaca import _core
from cloaca._workflows.registry import registry

# Maximum number of seconds that running tasks get when the interpreter ends. A task that is cut off
# runs again at the next start.
_EXIT_GRACE = 5.0


def install() -> None:
    """Registers the handlers for the end of the process and for forks."""
    atexit.register(_close_runners)
    os.register_at_fork(after_in_child=_after_fork)


def _close_runners() -> None:
    """Stops the live runners, one after the other: no thread can be started any more."""
    from time import monotonic

    until = monotonic() + _EXIT_GRACE
    for runner in registry.runners():
        runner._close_at_exit(max(until - monotonic(), 0))


def _after_fork() -> None:
    _core.after_fork_child()
    registry.after_fork()
