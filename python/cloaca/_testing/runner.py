"""The runner for tests: an in-memory database, and a clock that advances while a caller waits."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager

from cloaca import _core
from cloaca._observe.logger import prepare
from cloaca._runner.config import DefaultRunnerConfig
from cloaca._runner.runner import DefaultRunner
from cloaca._runner.start import start_threads
from cloaca._testing.time import VirtualTime, patched
from cloaca._values.duration import seconds_to_us
from cloaca._values.exceptions import CloacaException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from typing import Any

_DAY_US = 86_400_000_000
# There are no peers: this runner need not poll for changes, and no peer needs its heartbeats.
_ALONE = {
    "poll_interval_us": 1000 * _DAY_US,
    "heartbeat_interval_us": 300 * _DAY_US,
    "lease_ttl_us": 1000 * _DAY_US,
    "enable_recovery": False,
    "retention_us": None,
    "signal_retention_us": None,
}
# The settings of a runner that takes over from a killed one.
_AMONG_OTHERS = {
    "poll_interval_us": 10_000_000,
    "heartbeat_interval_us": 20_000_000,
    "lease_ttl_us": 60_000_000,
    "enable_recovery": True,
    "retention_us": None,
    "signal_retention_us": None,
}
# Seconds of real time after which a running function is considered to hang.
_REAL_PATIENCE = 60.0
# Seconds that running functions get to finish at shutdown.
_GRACE = 2.0
_ENDED = frozenset({"Completed", "Failed", "Cancelled"})


class VirtualRunner(DefaultRunner):
    """A `DefaultRunner` on an in-memory database, with a virtual clock.

    Time stands still while functions run, and jumps to the next due time while a caller waits:
    `execute`, `handle.result()`, `await handle`, `wait_until_idle`. So an hour of back-off takes no
    time. `time.sleep` in a task and `asyncio.sleep` in a coroutine use the virtual clock;
    `time.time` and `datetime.now` do not, and neither does a `sleep` that a module imported by
    name.

    Example:
        >>> with VirtualRunner() as runner:
        ...     assert runner.execute("report").tasks["send"].attempts == 3

    Since 1.0.
    """

    def __init__(
        self,
        config: DefaultRunnerConfig | None = None,
        *,
        _bench: _core.Bench | None = None,
        _crash_at: int | None = None,
        _applied: bool = False,
        _alone: bool = True,
    ) -> None:
        """Start on an empty database.

        Args:
            config: Settings; the defaults if omitted.
        """
        self._shut = False
        # A runner that will be killed runs only one workflow; polls of triggers would be an endless
        # series of transactions.
        self._polls_triggers = _alone
        given = config is not None
        config = DefaultRunnerConfig() if config is None else config
        settings = {**config._to_engine(), **(_ALONE if _alone else _AMONG_OTHERS)}
        if given:
            settings["retention_us"] = config._to_engine()["retention_us"]
        bench = _core.Bench() if _bench is None else _bench
        log_level = prepare()
        self._bench_runner = bench.open(json.dumps(settings))
        core = self._bench_runner.core
        self._virtual = VirtualTime(bench)
        patched.add(core, self._virtual)
        started = start_threads(core, config, log_level)
        self._pacer = Pacer(self._bench_runner, self._virtual, config.max_concurrent_tasks)
        virtual: Any = VirtualCore(core, self._pacer, _crash_at is not None)
        started.core = virtual
        started.waiters._core = virtual
        self._begin(started)
        if _crash_at is not None:
            # Counting starts here, because transactions before the first submission do not belong
            # to the workflow.
            self._bench_runner.settle()
            self._bench_runner.crash_at(_crash_at, _applied)

    def advance(self, seconds: float | timedelta) -> None:
        """Advance the clock, and run everything that becomes due on the way, in order.

        Returns when all due work is done and every remaining function sleeps.

        Args:
            seconds: The time to advance, in seconds.

        Raises:
            TimeoutError: A function has been running for a minute of real time.

        Since 1.0.
        """
        self._pacer.advance(seconds_to_us("seconds", seconds, zero=True))

    def now(self) -> float:
        """The virtual time, in seconds since the epoch. Since 1.0."""
        return self._virtual.now_us / 1_000_000

    def shutdown(self, *, timeout: float | None = None) -> None:
        """Shut down. Sleeping functions wake up; tasks that do not finish in time are returned.

        Args:
            timeout: Maximum time for running functions to finish, in seconds.

        Since 1.0.
        """
        self._pacer.close()
        self._virtual.end()
        grace = _GRACE if timeout is None else timeout
        self._bench_runner.hurry(round(grace * 1_000_000))
        super().shutdown(timeout=grace)
        patched.remove(self._bench_runner.core)


class Pacer:
    """Moves the clock: step by step for `advance`, and automatically while a caller waits."""

    def __init__(
        self, runner: _core.BenchRunner, virtual: VirtualTime, max_concurrent_tasks: int
    ) -> None:
        self._runner = runner
        self._virtual = virtual
        self._limit = max_concurrent_tasks
        self._moving = threading.Lock()
        self._changed = threading.Condition()
        # The execution and the deadline of each waiting caller, by the caller's number.
        self._waiting: dict[int, tuple[str | None, int | None]] = {}
        self._last = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def now_us(self) -> int:
        """The virtual time."""
        return self._virtual.now_us

    @contextmanager
    def waiting(self, execution_id: str | None, until_us: int | None = None) -> Iterator[None]:
        """Registers a caller that waits for an execution or an answer, until a deadline."""
        number = self.follow(execution_id, until_us)
        try:
            yield
        finally:
            with self._changed:
                self._waiting.pop(number, None)

    def follow(self, execution_id: str | None, until_us: int | None = None) -> int:
        """Registers a waiting caller."""
        with self._changed:
            self._last += 1
            self._waiting[self._last] = (execution_id, until_us)
            self._wake()
            return self._last

    def _wake(self) -> None:
        if self._thread is None and not self._closed:
            self._thread = threading.Thread(target=self._run, name="cloaca-pacer", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def close(self) -> None:
        """Ends the pacer's thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(5)

    def advance(self, span_us: int) -> None:
        """Moves the time on by a span."""
        with self._moving:
            target = self._virtual.now_us + span_us
            while (due := self._rest()) <= target:
                self._virtual.move_to(due)
            self._virtual.move_to(target)
            self._rest()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._closed or self._waiting):
                    self._changed.wait()
                if self._closed:
                    return
            with self._moving:
                due = self._look()
                moves = due is not None and self._is_waited_for()
                if due is not None and moves:
                    self._virtual.move_to(due)
            if not moves:
                _pause()

    def _is_waited_for(self) -> bool:
        """Whether a caller still waits. Called when nothing runs and all results are reported."""
        core, now = self._runner.core, self._virtual.now_us
        with self._changed:
            waiting = list(self._waiting.items())
        waits = False
        for number, (execution_id, until) in waiting:
            if execution_id is None:
                waits = True
            elif core.closed or self._has_ended(execution_id):
                # A coroutine does not report that its wait is over.
                with self._changed:
                    self._waiting.pop(number, None)
            else:
                waits = waits or until is None or until > now
        return waits and not self._closed

    def _has_ended(self, execution_id: str) -> bool:
        try:
            return self._runner.core.reads.status(execution_id) in _ENDED
        except CloacaException:
            return not self._runner.crashed  # pruned: its end will not be announced

    def _rest(self) -> int:
        """Waits until every running function sleeps, and returns the time of the next due work."""
        until = time.monotonic() + _REAL_PATIENCE
        while (due := self._look()) is None:
            if time.monotonic() > until:
                raise TimeoutError(
                    f"a task has been running for {_REAL_PATIENCE:g} s of real time: "
                    "the clock stands still while functions run"
                )
            _pause()
        return due

    def _look(self) -> int | None:
        """Returns the time at which the next work is due; `None` while work still runs."""
        commits, before = self._runner.commits, self._runner.work()
        due = self._runner.settle()
        timers, sleepers = self._virtual.timers(), self._virtual.sleepers()
        work = self._runner.work()
        running, queued = work.threads.running, work.threads.waiting
        coroutines, unseen = work.event_loop.running, work.event_loop.waiting
        if work != before or self._runner.commits != commits:
            return None
        # After a crash, functions may wait for an engine that never answers.
        is_busy = running > len(sleepers) or coroutines > len(timers) or unseen
        if is_busy and not self._runner.crashed:
            return None
        # A worker whose function has returned may not have reported it yet.
        on_the_way = self._runner.in_flight - (running + queued + coroutines + unseen)
        if on_the_way > 0 and not self._runner.crashed:
            return None
        if queued and running < self._limit and not self._runner.crashed:
            return None
        with self._changed:
            bounds = [until for _, until in self._waiting.values() if until is not None]
        return max(min([due, *timers, *sleepers, *bounds]), self._virtual.now_us)


class VirtualCore:
    """The engine of a virtual runner: a call that waits moves the time."""

    def __init__(self, core: _core.Runner, pacer: Pacer, hastens: bool) -> None:
        self._core = core
        self._pacer = pacer
        self._hastens = hastens

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def execute(self, request: _core.SubmitRequest) -> _core.Execution:
        """Submits and waits."""
        (submitted,) = self.submit([request])
        found = self.wait(submitted.execution_id, None)
        assert found is not None
        return found

    def submit(self, requests: list[_core.SubmitRequest]) -> list[_core.Submitted]:
        """Submits. If a crash prevents the answer, the wait for it times out in virtual time."""
        if not self._hastens:
            return self._core.submit(requests)
        with self._pacer.waiting(None):
            return self._core.submit(requests)

    def wait(self, execution_id: str, timeout_us: int | None) -> _core.Execution | None:
        """Waits, at most for a span of virtual time."""
        if timeout_us is None:
            with self._pacer.waiting(execution_id):
                return self._core.wait(execution_id, None)
        until = self._pacer.now_us + timeout_us
        with self._pacer.waiting(execution_id, until):
            while True:
                is_over = self._pacer.now_us >= until
                found = self._core.wait(execution_id, 0 if is_over else 2000)
                if found is not None or is_over:
                    return found

    def subscribe(self, waker: _core.LoopWaker, execution_id: str) -> int:
        """Waits on an event loop."""
        token = self._core.subscribe(waker, execution_id)
        self._pacer.follow(execution_id)
        return token


def _pause() -> None:
    # On the pacer's and the test's thread `time.sleep` is the real one.
    time.sleep(0.0005)
