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
from cloaca._values.duration import duration_to_us, timeout_to_us
from cloaca._values.exceptions import CloacaException

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from typing import Any

    from cloaca._executions.result import WorkflowResult

# Microseconds in a day.
_DAY_US = 86_400_000_000
# The settings of a sole runner: it need not poll for changes, and no peer needs its heartbeats.
_SOLE_RUNNER = {
    "poll_interval_us": 1000 * _DAY_US,
    "heartbeat_interval_us": 300 * _DAY_US,
    "lease_ttl_us": 1000 * _DAY_US,
    "enable_recovery": False,
    "retention_us": None,
    "signal_retention_us": None,
}
# Interval of the heartbeats of a runner that will be killed, and the length of its lease.
_HEARTBEAT_US = 20_000_000
_LEASE_US = 3 * _HEARTBEAT_US
# The settings of a runner that will be killed. When its lease expires, another runner rescues its
# tasks.
_KILLED_RUNNER = {
    **_SOLE_RUNNER,
    "heartbeat_interval_us": _HEARTBEAT_US,
    "lease_ttl_us": _LEASE_US,
}
# The settings of the runner that rescues the tasks of a killed one.
_RESCUER = {**_KILLED_RUNNER, "enable_recovery": True}
# Seconds of real time after which a running function is considered to hang.
_REAL_PATIENCE = 60.0
# Maximum time for running functions to finish at shutdown, in seconds.
_GRACE = 2.0
# Interval of real time at which a waiting caller checks for the planned crash, in microseconds.
_CRASH_CHECK_US = 2000
# Maximum number of executions whose events are compared with those of the run without a crash.
_STATE_LIMIT = 1000
_ENDED = frozenset({"Completed", "Failed", "Cancelled"})


class VirtualRunner(DefaultRunner):
    """A `DefaultRunner` on an in-memory database, with a virtual clock.

    The clock stands still while functions run. While a caller waits (`execute`, `handle.result()`,
    `await handle`, `wait_until_idle`), the clock jumps to the next due time. So an hour of back-off
    takes no real time. `time.sleep` in a task and `asyncio.sleep` in a coroutine use the virtual
    clock. `time.time`, `datetime.now`, and a `sleep` that a module has imported by name use the
    real clock.

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
        _crash: Crash | None = None,
        _polls_triggers: bool = True,
    ) -> None:
        """Start a runner on an empty database.

        Args:
            config: The settings; the environment variables and the defaults if omitted. Settings
                for several runners on one database, such as heartbeats and leases, have no effect.
                Signals are never deleted. Executions are deleted only if `config` is given.
        """
        self._shut = False
        self._polls_triggers = _polls_triggers
        given = config is not None
        config = DefaultRunnerConfig() if config is None else config
        settings = {**config._to_engine(), **(_SOLE_RUNNER if _crash is None else _KILLED_RUNNER)}
        if given:
            settings["retention_us"] = config._to_engine()["retention_us"]
        bench = _core.Bench() if _bench is None else _bench
        log_level = prepare()
        self._bench_runner = bench.open(json.dumps(settings))
        core = self._bench_runner.core
        self._virtual = VirtualTime(bench)
        patched.add(core, self._virtual)
        started = start_threads(core, config, log_level)
        heartbeats = None
        if _crash is not None:
            heartbeats = SkippedHeartbeats(self._bench_runner, bench.now_us, _crash.expected)
        self._pacer = Pacer(
            self._bench_runner, self._virtual, config.max_concurrent_tasks, heartbeats
        )
        virtual: Any = VirtualCore(core, self._pacer, _crash is not None)
        started.core = virtual
        started.waiters._core = virtual
        self._begin(started)
        if _crash is not None:
            # The count starts after `settle`, because transactions before the first submission do
            # not belong to the workflow.
            self._bench_runner.settle()
            self._bench_runner.crash_at(_crash.number, _crash.applied)

    def advance(self, seconds: float | timedelta | str) -> None:
        """Advance the clock, and run everything that becomes due, in order.

        The method returns when all due work is done and every running function sleeps.

        Args:
            seconds: The time to advance: seconds, a timedelta, or a string such as `"1h"`.

        Raises:
            TimeoutError: A function has been running for a minute of real time.

        Example:
            >>> handle = cloaca_runner.submit("reminder", delay="7d")
            >>> cloaca_runner.advance("7d")
            >>> assert handle.status() == "Completed"

        Since 1.0.
        """
        self._pacer.advance(duration_to_us("seconds", seconds, zero=True))

    def now(self) -> float:
        """Return the virtual time, in seconds since 1970.

        Example:
            >>> before = runner.now()
            >>> runner.advance("1h")
            >>> runner.now() - before
            3600.0

        Since 1.0.
        """
        return self._virtual.now_us / 1_000_000

    def shutdown(self, *, timeout: float | timedelta | str | None = None) -> None:
        """Shut down. Sleeping functions wake up; claims of tasks that do not finish are returned.

        Args:
            timeout: Maximum time for running functions to finish: seconds, a timedelta, or text
                such as `"5s"`; `math.inf` means no limit; 2 seconds if omitted.

        Raises:
            ConfigurationError: The timeout is not a duration, or is negative.

        Example:
            >>> runner.shutdown(timeout="5s")

        Since 1.0.
        """
        grace = _GRACE if timeout is None else timeout
        grace_us = timeout_to_us(grace, zero=True)
        self._pacer.close()
        self._virtual.end()
        self._bench_runner.hurry(grace_us)
        super().shutdown(timeout=grace)
        patched.remove(self._bench_runner.core)

    def _result_or_crash(self, execution_id: str) -> WorkflowResult | None:
        """Waits for the end of an execution and of its final tasks.

        Returns `None` if the planned crash happens first.
        """
        from cloaca._executions.result import WorkflowResult

        execution = self._end_or_crash(execution_id)
        if execution is None:
            return None
        result = WorkflowResult(execution)
        if execution.final_id is not None:
            final = self._end_or_crash(execution.final_id)
            if final is None:
                return None
            result._final = WorkflowResult(final)
        return result

    def _end_or_crash(self, execution_id: str) -> _core.Execution | None:
        runner = self._bench_runner
        with self._pacer.waiting(execution_id):
            while not runner.crashed:
                try:
                    found = runner.core.wait(execution_id, _CRASH_CHECK_US)
                except CloacaException:
                    if self._bench_runner.crashed:
                        return None
                    raise
                if found is not None:
                    return found
        return None


class Jumps:
    """The jumps of the clock during a run without a crash. At the end of each jump, work is due."""

    def __init__(self) -> None:
        #: The virtual time at which the run began.
        self.start_us = 0
        # The end of each jump, with the state of the executions before the jump.
        self._ends: list[tuple[int, tuple[int, ...]]] = []

    def add(self, state: tuple[int, ...], end_us: int) -> None:
        """Records a jump."""
        self._ends.append((end_us, state))

    def next_end(self, state: tuple[int, ...], from_us: int, shift_us: int) -> int | None:
        """Returns the time at which the next jump from a state ends; `None` if none is recorded.

        A jump to a fixed time, such as that of `until`, is not shifted. Both the shifted and the
        recorded end are therefore considered, and the result may be too early.

        Args:
            state: The state of the executions before the jump.
            from_us: The earliest result.
            shift_us: The time between the beginnings of the recorded run and the present run.
        """
        ends = (
            moved
            for end_us, before in self._ends
            if before == state
            for moved in (end_us, end_us + shift_us)
            if moved >= from_us
        )
        return min(ends, default=None)


class Crash:
    """A planned crash: the transaction, and the jumps that are expected before the crash."""

    def __init__(self, number: int, applied: bool, expected: Jumps) -> None:
        self.number = number
        self.applied = applied
        self.expected = expected


class SkippedHeartbeats:
    """Lets the clock of a runner that will be killed jump over the heartbeats.

    The engine reports only the next due time. If this is the time of a heartbeat, the jumps of the
    run without a crash show when the next work is due.
    """

    def __init__(self, runner: _core.BenchRunner, start_us: int, expected: Jumps) -> None:
        self._runner = runner
        self._expected = expected
        self._shift_us = start_us - expected.start_us
        self._next_us = start_us + _HEARTBEAT_US

    def due_after(self, due_us: int, now_us: int) -> int:
        """Returns the time at which work is due, from the coordinator's next due time."""
        if now_us >= self._next_us:
            self._next_us = now_us + _HEARTBEAT_US  # the coordinator has just sent a heartbeat
        if due_us != self._next_us or self._runner.crashed:
            return due_us
        state = state_of(self._runner)
        end_us = self._expected.next_end(state, due_us, self._shift_us)
        return due_us if end_us is None else end_us


def state_of(runner: _core.BenchRunner) -> tuple[int, ...]:
    """Returns the number of recorded events of each execution, in ascending order."""
    reads = runner.core.reads
    try:
        page = reads.executions(_core.ListFilter(children=True), _STATE_LIMIT)
        ids = [execution.execution_id for execution in page.executions]
        return tuple(sorted(len(reads.events(id)) for id in ids))
    except CloacaException:
        return ()  # the runner has crashed


def rescue(bench: _core.Bench) -> None:
    """Starts another runner, which rescues a killed runner's tasks when the lease has expired.

    The rescuer has no workflows and runs no functions, so the clock can move in small steps until
    the rescue.
    """
    settings = {**DefaultRunnerConfig()._to_engine(), **_RESCUER}
    runner = bench.open(json.dumps(settings))
    try:
        end_us = bench.now_us + 2 * _LEASE_US
        while True:
            due_us = runner.settle()
            if len(runner.core.reads.runners()) <= 1 or bench.now_us >= end_us:
                break
            bench.move_to(due_us)
    finally:
        runner.hurry(0)
        runner.core.stop(0, 0)


class Pacer:
    """Moves the clock: for `advance`, and, on a separate thread, while a caller waits."""

    def __init__(
        self,
        runner: _core.BenchRunner,
        virtual: VirtualTime,
        max_concurrent_tasks: int,
        heartbeats: SkippedHeartbeats | None = None,
    ) -> None:
        self._runner = runner
        self._heartbeats = heartbeats
        #: The record to which the jumps of the clock are added.
        self.jumps: Jumps | None = None
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
        """The virtual time in microseconds since the epoch."""
        return self._virtual.now_us

    def tick(self) -> None:
        """Moves the clock by a microsecond."""
        self._virtual.move_to(self.now_us + 1)

    @contextmanager
    def waiting(self, execution_id: str | None, until_us: int | None = None) -> Iterator[None]:
        """Registers a caller that waits for an execution or an answer, until the block ends."""
        number = self.follow(execution_id, until_us)
        try:
            yield
        finally:
            with self._changed:
                self._waiting.pop(number, None)

    def follow(self, execution_id: str | None, until_us: int | None = None) -> int:
        """Registers a waiting caller, and returns its number."""
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
        """Moves the clock forward by a span, and runs everything that becomes due."""
        with self._moving:
            target = self._virtual.now_us + span_us
            while (due := self._wait_until_asleep()) <= target:
                self._virtual.move_to(due)
            self._virtual.move_to(target)
            self._wait_until_asleep()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._closed or self._waiting):
                    self._changed.wait()
                if self._closed:
                    return
            with self._moving:
                due = self._next_due()
                moves = due is not None and self._is_waited_for()
                if due is not None and moves:
                    if self.jumps is not None:
                        self.jumps.add(state_of(self._runner), due)
                    self._virtual.move_to(due)
            if not moves:
                _pause()

    def _is_waited_for(self) -> bool:
        """Return whether a caller still waits.

        The pacer calls this when nothing runs and all results are reported.
        """
        core, now = self._runner.core, self._virtual.now_us
        with self._changed:
            waiting = list(self._waiting.items())
        waits = False
        for number, (execution_id, until) in waiting:
            if execution_id is None:
                waits = True
            elif self._runner.crashed:
                pass  # the caller notices the crash
            elif core.closed or self._has_ended(execution_id):
                # A waiting coroutine does not unregister itself when its wait ends.
                with self._changed:
                    self._waiting.pop(number, None)
            else:
                waits = waits or until is None or until > now
        return waits and not self._closed

    def _has_ended(self, execution_id: str) -> bool:
        try:
            return self._runner.core.reads.status(execution_id) in _ENDED
        except CloacaException:
            return not self._runner.crashed  # a pruned execution has ended

    def _wait_until_asleep(self) -> int:
        """Waits until every running function sleeps, and returns the time of the next due work."""
        until = time.monotonic() + _REAL_PATIENCE
        while (due := self._next_due()) is None:
            if time.monotonic() > until:
                raise TimeoutError(
                    f"a task has been running for {_REAL_PATIENCE:g} s of real time: "
                    "the clock stands still while functions run"
                )
            _pause()
        return due

    def _next_due(self) -> int | None:
        """Returns the time at which the next work is due; `None` while work still runs."""
        commits, before = self._runner.commits, self._runner.work()
        due = self._runner.settle()
        timers, sleepers = self._virtual.timers(), self._virtual.sleepers()
        work = self._runner.work()
        running, queued = work.threads.running, work.threads.waiting
        coroutines, unseen = work.event_loop.running, work.event_loop.waiting
        if work != before or self._runner.commits != commits:
            return None
        # After a crash, functions may wait for an engine that no longer answers.
        is_busy = running > len(sleepers) or coroutines > len(timers) or unseen
        if is_busy and not self._runner.crashed:
            return None
        # The number of tasks whose functions returned, but whose results are not processed yet.
        on_the_way = self._runner.in_flight - (running + queued + coroutines + unseen)
        if on_the_way > 0 and not self._runner.crashed:
            return None
        if queued and running < self._limit and not self._runner.crashed:
            return None
        with self._changed:
            bounds = [until for _, until in self._waiting.values() if until is not None]
        now = self._virtual.now_us
        if self._heartbeats is not None:
            due = self._heartbeats.due_after(due, now)
        return max(min([due, *timers, *sleepers, *bounds]), now)


class VirtualCore:
    """The engine of a virtual runner. While a call waits, the pacer moves the clock."""

    def __init__(self, core: _core.Runner, pacer: Pacer, will_crash: bool) -> None:
        self._core = core
        self._pacer = pacer
        self._will_crash = will_crash

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def execute(self, request: _core.SubmitRequest) -> _core.Execution:
        """Submits an execution and waits for its end."""
        (submitted,) = self.submit([request])
        found = self.wait(submitted.execution_id, None)
        assert found is not None
        return found

    def submit(self, requests: list[_core.SubmitRequest]) -> list[_core.Submitted]:
        """Submits executions. If a crash prevents the answer, the clock advances to the timeout."""
        if not self._will_crash:
            return self._core.submit(requests)
        with self._pacer.waiting(None):
            return self._core.submit(requests)

    def send(self, *arguments: Any) -> Any:
        """Sends signals. An execution that is submitted later does not receive them.

        Signals are older than an execution if they were sent before its submission, so the clock
        must not stand still between the two.
        """
        sent = self._core.send(*arguments)
        self._pacer.tick()
        return sent

    def wait(self, execution_id: str, timeout_us: int | None) -> _core.Execution | None:
        """Waits for the end of an execution, at most for a span of virtual time."""
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
        """Subscribes to the end of an execution, and registers the caller as waiting."""
        token = self._core.subscribe(waker, execution_id)
        self._pacer.follow(execution_id)
        return token


def _pause() -> None:
    # On the threads of the pacer and the test, `time.sleep` sleeps in real time.
    time.sleep(0.0005)
