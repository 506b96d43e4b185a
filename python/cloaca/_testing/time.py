"""Virtual time for sleeps on worker threads and for timers of event loops."""

from __future__ import annotations

import asyncio
import threading
import time

from cloaca._workers.event_loop import LoopThread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cloaca._core import Bench, Runner

_real_sleep = time.sleep
# Seconds of real time between two wake-ups of a sleeping thread, so that it notices interrupts.
_SLICE = 0.01


class VirtualTime:
    """A virtual clock, and the threads and loops that use it."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._changed = threading.Condition()
        self._sleepers: dict[int, int] = {}
        self._loops: list[VirtualLoop] = []
        self._ended = False

    @property
    def now_us(self) -> int:
        """The virtual time in microseconds since the epoch."""
        return self._bench.now_us

    def move_to(self, now_us: int) -> None:
        """Advances the time, and wakes the sleepers that are due."""
        self._bench.move_to(now_us)
        with self._changed:
            for thread in [t for t, due in self._sleepers.items() if due <= now_us]:
                del self._sleepers[thread]  # the thread counts as awake even before it runs
            self._changed.notify_all()
            loops = list(self._loops)
        for loop in loops:
            loop.nudge()

    def end(self) -> None:
        """Ends all sleeps, because the runner is being shut down."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def sleep(self, seconds: float) -> None:
        """Replaces `time.sleep` on a worker thread."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        thread = threading.get_ident()
        due = self.now_us + round(seconds * 1_000_000)
        with self._changed:
            self._sleepers[thread] = due
        try:
            while True:
                with self._changed:
                    if self._ended or self.now_us >= due:
                        return
                    self._changed.wait(_SLICE)
        finally:
            with self._changed:
                self._sleepers.pop(thread, None)

    def add_loop(self, loop: VirtualLoop) -> None:
        """Registers a loop that must check its timers when the time advances."""
        with self._changed:
            self._loops.append(loop)

    def sleepers(self) -> list[int]:
        """Return the virtual times at which the sleeping threads are due."""
        with self._changed:
            return list(self._sleepers.values())

    def timers(self) -> list[int]:
        """Let the loops run everything due; return the virtual due times of the other timers."""
        with self._changed:
            loops = list(self._loops)
        found: list[int] = []
        for loop in loops:
            found += loop.settled_timers()
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers use the virtual time."""

    def __init__(self, virtual: VirtualTime) -> None:
        self._virtual = virtual
        # The loop's time starts at 0, because asyncio adds its clock resolution to the time, and
        # this small number would be lost in a number as large as the seconds since the epoch.
        self._start_us = virtual.now_us
        super().__init__()

    def time(self) -> float:
        """Return the virtual seconds since the loop was created."""
        return (self._virtual.now_us - self._start_us) / 1_000_000

    def nudge(self) -> None:
        """Makes the loop check its timers again."""
        try:
            self.call_soon_threadsafe(lambda: None)
        except RuntimeError:
            return  # the loop is closed

    def settled_timers(self) -> list[int]:
        """Runs everything that is due, and returns the times at which the other timers are due.

        Returns an empty list if the loop does not run.
        """
        answer: list[int] = []
        done = threading.Event()

        def check() -> None:
            # Uses the loop's private lists of ready and scheduled handles, which all versions of
            # asyncio have.
            loop: Any = self
            timers = [handle for handle in loop._scheduled if not handle._cancelled]
            if loop._ready or any(handle._when < self.time() for handle in timers):
                self.call_soon(check)
                return
            due = (round(handle._when * 1_000_000) + 1 for handle in timers)
            answer.extend(self._start_us + span for span in due)
            done.set()

        try:
            self.call_soon_threadsafe(check)
        except RuntimeError:
            return []
        while not done.wait(0.05):
            if self.is_closed() or not self.is_running():
                return []
        return answer


def _method(function: Any) -> Any:
    """Wraps a bound method in a function that a class can bind to its objects."""

    def method(thread: LoopThread) -> Any:
        return function(thread)

    return method


class Patched:
    """Replaces `time.sleep` and the event loops of runners with versions on virtual time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._times: dict[int, VirtualTime] = {}

    def add(self, core: Runner, virtual: VirtualTime) -> None:
        """Makes the worker threads and event loop of a runner use a virtual time."""
        with self._lock:
            if not self._times:
                sleep: Any = self._sleep
                time.sleep = sleep
                LoopThread.make_loop = _method(self._make_loop)  # type: ignore[method-assign]
            self._times[id(core)] = virtual

    def remove(self, core: Runner) -> None:
        """Undoes `add` for a runner."""
        with self._lock:
            self._times.pop(id(core), None)
            if not self._times:
                time.sleep = _real_sleep
                LoopThread.make_loop = _real_make_loop  # type: ignore[method-assign]

    def _of_thread(self) -> VirtualTime | None:
        core = getattr(threading.current_thread(), "cloaca_core", None)
        return self._times.get(id(core))

    def _sleep(self, seconds: float, /) -> None:
        virtual = self._of_thread()
        if virtual is None:
            _real_sleep(seconds)
        else:
            virtual.sleep(seconds)

    def _make_loop(self, thread: LoopThread) -> asyncio.AbstractEventLoop:
        virtual = self._times.get(id(thread.core))
        if virtual is None:
            own: asyncio.AbstractEventLoop = _real_make_loop(thread)
            return own
        loop = VirtualLoop(virtual)
        virtual.add_loop(loop)
        return loop


_real_make_loop: Any = LoopThread.make_loop
patched = Patched()
