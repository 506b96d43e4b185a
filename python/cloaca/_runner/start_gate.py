"""Delays a runner's first claim until the runner's constructor has returned to its caller."""

from __future__ import annotations

import sys
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from cloaca._core import Runner

# Seconds after which a runner starts in any case.
_LIMIT = 1.0
# Seconds between two checks of the caller.
_PAUSE = 0.005
# Maximum number of frames that may pass the runner on to each other.
_DEPTH = 8


class StartGate:
    """Lets a runner claim tasks only after the code that creates it has stored it.

    A task may use the variable to which the program assigns the new runner. So the first claim
    waits until the calling frame has executed the instruction after the call, which stores the
    runner in that variable.
    """

    __slots__ = ("_core", "_frames", "_is_open", "_lock", "_runner_id", "_until")

    def __init__(self, core: Runner, runner: object) -> None:
        from time import monotonic

        self._core = core
        # The id and not the runner, because the gate must not keep the runner alive.
        self._runner_id = id(runner)
        self._until = monotonic() + _LIMIT
        self._lock = allocate_lock()
        self._is_open = False
        self.watch()

    def watch(self) -> None:
        """Notes the frames that call the runner now: the gate opens once they have gone on."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and self._is_of_runner(frame):
            frame = frame.f_back
        frames: list[tuple[FrameType, int]] = []
        while frame is not None and len(frames) < _DEPTH:
            frames.append((frame, frame.f_lasti))
            frame = frame.f_back
        with self._lock:
            # An open gate keeps no frame, because a frame keeps the caller's variables alive.
            self._frames = [] if self._is_open else frames

    def open_if_due(self) -> bool:
        """Opens the gate if the caller has gone on. Returns whether the gate is open."""
        from time import monotonic

        with self._lock:
            if self._is_open:
                return True
            is_due = self._core.begun or self._has_gone_on() or monotonic() >= self._until
            if is_due:
                self._release()
        if is_due:
            self._core.begin()
        return is_due

    def close(self) -> None:
        """Forgets the caller of a runner that is shut down before it has started."""
        with self._lock:
            self._release()

    def _release(self) -> None:
        self._is_open = True
        self._frames = []

    def wait(self) -> None:
        """Waits until the gate is open."""
        from time import sleep

        while not self.open_if_due():
            sleep(_PAUSE)

    def _is_of_runner(self, frame: FrameType) -> bool:
        """Whether a frame belongs to the runner's construction, also in a subclass."""
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
        # All these frames only return the runner, so the code that receives it is not Python.
        return True


def _returns_next(frame: FrameType, at: int) -> bool:
    """Whether a frame returns the value of the call at an offset, so that its caller stores it."""
    from opcode import opname

    code = frame.f_code.co_code
    at += 2
    while at < len(code) and opname[code[at]] in ("CACHE", "NOP"):
        at += 2
    return at < len(code) and opname[code[at]] == "RETURN_VALUE"


# The folder of this package.
_PACKAGE = __file__.rpartition("/_runner/")[0] + "/"
