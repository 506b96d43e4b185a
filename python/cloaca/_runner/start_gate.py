"""Delays a runner's first claim until the program has assigned the runner to a variable."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from cloaca._core import Runner

# Seconds after which a runner starts even if its caller has not assigned it to a variable.
_LIMIT = 1.0
# Seconds between two checks of the caller.
_PAUSE = 0.005
# Maximum number of frames to examine: functions that return the runner to their callers.
_DEPTH = 8


class StartGate:
    """Lets a runner claim tasks only after the program has assigned the runner to a variable.

    A task may use the variable to which the program assigns the new runner. Therefore the first
    claim waits until the calling frame has executed the instruction after the call, which stores
    the runner in the variable.

    The gate has no lock. When it drops the caller's frames, finalizers of objects in these frames
    may run, for example the finalizer of the runner. A finalizer may call `close`, and must not
    wait for a lock of the gate.
    """

    __slots__ = ("_core", "_frames", "_is_open", "_runner_id", "_until")

    def __init__(self, core: Runner, runner: object) -> None:
        from time import monotonic

        self._core = core
        # Keeps the id instead of the runner, because the gate must not keep the runner alive.
        self._runner_id = id(runner)
        self._until = monotonic() + _LIMIT
        self._is_open = False
        self._frames: list[tuple[FrameType, int]] = []
        self.watch()

    def watch(self) -> None:
        """Records the frames of the runner's current callers.

        The gate opens when the callers have continued.
        """
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and self._is_of_runner(frame):
            frame = frame.f_back
        frames: list[tuple[FrameType, int]] = []
        while frame is not None and len(frames) < _DEPTH:
            frames.append((frame, frame.f_lasti))
            frame = frame.f_back
        self._frames = frames
        if self._is_open:
            # An open gate keeps no frame, because a frame keeps the caller's variables alive. The
            # check comes after the assignment, because another thread may open the gate meanwhile.
            self._frames = []

    def open_if_due(self) -> bool:
        """Opens the gate if the caller has continued or the time limit has passed.

        Returns:
            Whether the gate is open.
        """
        from time import monotonic

        if self._is_open:
            return True
        is_due = self._core.begun or self._has_gone_on() or monotonic() >= self._until
        if is_due:
            self._core.begin()
            self.close()
        return is_due

    def close(self) -> None:
        """Opens the gate without starting the runner, and drops the frames of the caller."""
        self._is_open = True
        self._frames = []

    def wait(self) -> None:
        """Waits until the gate is open."""
        from time import sleep

        while not self.open_if_due():
            sleep(_PAUSE)

    def _is_of_runner(self, frame: FrameType) -> bool:
        """Return whether a frame runs code of this package, or a constructor of the runner."""
        code = frame.f_code
        if code.co_filename.startswith(_PACKAGE):
            return True
        is_constructor = code.co_name == "__init__" and code.co_argcount > 0
        return is_constructor and id(frame.f_locals.get(code.co_varnames[0])) == self._runner_id

    def _has_gone_on(self) -> bool:
        for frame, at in self._frames:
            if frame.f_lasti == at:
                return False
            if not _returns_next(frame, at):
                return True
        # All examined frames only return the runner, so no Python code in them stores the runner.
        return True


def _returns_next(frame: FrameType, at: int) -> bool:
    """Returns whether a frame only returns the result of its call at offset `at`."""
    from opcode import opname

    code = frame.f_code.co_code
    at += 2
    while at < len(code) and opname[code[at]] in ("CACHE", "NOP"):
        at += 2
    return at < len(code) and opname[code[at]] == "RETURN_VALUE"


# The folder of this package.
_PACKAGE = __file__.rpartition("/_runner/")[0] + "/"
