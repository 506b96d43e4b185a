"""Waits for a runner's shutdown request or failure. The main thread also waits for signals."""

from __future__ import annotations

import os
from _thread import RLock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloaca._core import Runner


# Seconds between two checks whether the runner has failed.
_CHECK_INTERVAL = 1.0


class ShutdownRequest:
    """The request to shut a runner down. Threads wait for the request or for the runner's failure.

    A wait reads a pipe, to which Python's low-level signal handler writes. A lock or a queue would
    not work, because a signal that arrives just before the main thread blocks would not wake the
    thread.
    """

    def __init__(self, core: Runner) -> None:
        self._core = core
        # Reentrant, because a finalizer may shut the runner down while this thread holds the lock.
        self._lock = RLock()
        self._made = False
        self._expected = False
        self._writers: set[int] = set()

    def make(self) -> None:
        """Requests shutdown, which ends all current and future waits."""
        with self._lock:
            self._made = True
            for writer in tuple(self._writers):
                _write(writer)

    def expect(self) -> None:
        """Records that a stop of the engine was requested, so it does not count as a failure."""
        self._expected = True

    @property
    def failed(self) -> bool:
        """Whether the engine stopped without a request."""
        return self._core.closed and not self._expected

    def wait(self) -> None:
        """Waits for the request or a failure."""
        self._wait(())

    def wait_with_signals(self, received: Sequence[int]) -> None:
        """Waits for the request or a failure, or until a signal handler fills `received`.

        Only the main thread may call this method.
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
            # Not `select.select`, which refuses file descriptors of 1,024 and more.
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
        return  # the pipe is full, so the reader wakes up without another byte
