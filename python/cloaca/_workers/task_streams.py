"""Wraps `sys.stdout` and `sys.stderr`, and stores printed lines of tasks (`capture_logs`).

The program's streams still print everything. They are wrapped while a runner captures; output
outside of tasks costs only the read of a context variable.
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

_LEVELS = {"stdout": 20, "stderr": 20}
# Maximum number of frames above a write that are searched for a logging handler.
_MAX_FRAMES = 40

_lock = threading.Lock()
_capturing = 0
# Whether the thread is inside a write, because the wrapped stream may itself print.
_inside = threading.local()


class TaskStream(Layer):
    """A stream that also passes the output of a captured task to its capture."""

    is_outermost = True

    def __init__(self, stream: Any, name: str) -> None:
        super().__init__(stream)
        self._name = name

    def write(self, text: str) -> Any:
        """Writes to the stream, and keeps the text if a captured task prints it."""
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
    """Whether a logging handler writes; its record is stored already."""
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return False
        if frame.f_globals.get("__name__") == "logging":
            return True
        frame = frame.f_back
    return False


def begin() -> None:
    """Wraps the streams when a runner that captures starts."""
    global _capturing
    with _lock:
        _capturing += 1
    wrap()


def end() -> None:
    """Restores the streams if no other runner captures."""
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
    """Wraps the streams, also those that the program has set since the last time."""
    if isinstance(sys.stdout, TaskStream) and isinstance(sys.stderr, TaskStream):
        return
    with _lock:
        for name in _LEVELS:
            stream = getattr(sys, name)
            if _capturing > 0 and stream is not None and not isinstance(stream, TaskStream):
                put(name, TaskStream(stream, name))
