"""Waits for a runner's shutdown request or failure, and on the main thread also for signals."""

from __future__ import annotations

import os
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloaca._core import Runner


# Seconds between two checks whether the runner has failed.
_CHECK_INTERVAL = 1.0


class ShutdownRequest:
    """The request to shut a runner down, for threads that wait for it or for the runner's failure.

    A wait reads a pipe, and Python's low-level signal handler writes to it. A lock or a queue
    would not work, because a signal that arrives just before the main thread blocks would not wake
    it.
    """

    def __init__(self, core: Runner) -> None:
        self._core = core
        self._lock = allocate_lock()
        self._made = False
        self._expected = False
        self._writers: set[int] = set()

    def make(self) -> None:
        """Requests shutdown, which ends all current and future waits."""
        with self._lock:
            self._made = True
            for writer in self._writers:
                _write(writer)

    def expect(self) -> None:
        """Records that the engine stops on request, and has not failed."""
        self._expected = True

    @property
    def failed(self) -> bool:
        """Whether the engine stopped without having been asked to."""
        return self._core.closed and not self._expected

    def wait(self) -> None:
        """Waits for the request or a failure."""
        self._wait(())

    def wait_with_signals(self, received: Sequence[int]) -> None:
        """Waits for the request or a failure, or until a signal handler fills `received`.

        On the main thread only.
        """
        self._wait(received, is_main=True)

    def _wait(self, received: Sequence[int], *, is_main: bool = False) -> None:
        import selectors
        import signal

        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        with self._lock:
            self._writers.add(writer)
        previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False) if is_main else -1
        try:
            # Not `select.select`, which refuses descriptors from 1,024 on.
            with selectors.DefaultSelector() as selector:
                selector.register(reader, selectors.EVENT_READ)
                while not (self._made or received or self.failed):
                    if selector.select(_CHECK_INTERVAL):
                        os.read(reader, 512)
        finally:
            if is_main:
                signal.set_wakeup_fd(previous)
            with self._lock:
                self._writers.discard(writer)
            os.close(reader)
            os.close(writer)


def _write(writer: int) -> None:
    try:
        os.write(writer, b"\0")
    except BlockingIOError:
        return  # full: the reader will wake up anyway
