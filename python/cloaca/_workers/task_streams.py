"""Wraps `sys.stdout` and `sys.stderr`, and stores printed lines of tasks (`capture_logs`).

The program's streams still print everything. They are wrapped while at least one runner captures
output. Outside of tasks, the only cost is reading a context variable.
"""

from __future__ import annotations

import sys
import threading

from cloaca._observe.stream_layers import Layer, layers, put, remove
from cloaca._workers.attempt_scope import LogCapture, current

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

# The captured streams, with the log level of their lines.
_LEVELS = {"stdout": 20, "stderr": 20}
# Maximum number of calling frames to search for a logging handler.
_MAX_FRAMES = 40

# Reentrant, because a finalizer may shut down a runner while this thread holds the lock.
_lock = threading.RLock()
_capturing = 0
# Whether this thread is inside `write`. If it is, a nested call comes from the wrapped stream, and
# its text is not captured.
_inside = threading.local()


class TaskStream(Layer):
    """A stream that also stores the text that tasks print, if their runner captures output."""

    is_outermost = True

    def __init__(self, stream: Any, name: str) -> None:
        super().__init__(stream)
        self._name = name

    def write(self, text: str) -> Any:
        """Writes to the stream, and stores the text if a task of a capturing runner prints it."""
        capture = current.get()
        if not isinstance(capture, LogCapture) or getattr(_inside, "write", False):
            return self.stream.write(text)
        _inside.write = True
        try:
            return self.stream.write(text)
        finally:
            _inside.write = False
            if not _is_logging(sys._getframe(1)):
                capture.add_printed(self._name, _LEVELS[self._name], text)


def _is_logging(frame: FrameType | None) -> bool:
    """Returns whether a logging handler makes this call. If so, its record is already stored."""
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return False
        if frame.f_globals.get("__name__") == "logging":
            return True
        frame = frame.f_back
    return False


def begin() -> None:
    """Registers a runner that captures output, and wraps the streams."""
    global _capturing
    with _lock:
        _capturing += 1
    wrap()


def end() -> None:
    """Unregisters a runner, and restores the streams if no other runner captures output."""
    global _capturing
    with _lock:
        _capturing -= 1
        if _capturing > 0:
            return
        for name in _LEVELS:
            for layer in layers(name):
                if isinstance(layer, TaskStream):
                    remove(name, layer)


def wrap() -> None:
    """Wraps the streams that are not wrapped, for example because the program replaced them."""
    if isinstance(sys.stdout, TaskStream) and isinstance(sys.stderr, TaskStream):
        return
    with _lock:
        for name in _LEVELS:
            stream = getattr(sys, name)
            if _capturing > 0 and stream is not None and not isinstance(stream, TaskStream):
                put(name, TaskStream(stream, name))
