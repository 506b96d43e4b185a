"""The supervisor thread: starts worker threads and the loop, interrupts tasks, and writes logs."""

from __future__ import annotations

import sys
import threading

from cloaca._core import (
    ExecutionEnded,
    InterruptWorker,
    LogRecord,
    LoopWanted,
    Poll,
    WorkerWanted,
)
from cloaca._observe.logger import logger, write
from cloaca._workers.attempt_scope import AttemptScope, install
from cloaca._workers.event_loop import LoopThread
from cloaca._workers.pool import WorkerPool
from cloaca._workers.trigger_calls import start_poll

TYPE_CHECKING = False
if TYPE_CHECKING:
    from logging import Logger
    from typing import Protocol

    from cloaca._core import Runner
    from cloaca._observe.tracing import Tracing

    class Gate(Protocol):
        """Decides when the runner starts; `StartGate` implements it."""

        def open_if_due(self) -> bool: ...


# The events that start a thread. They are handled again until the system can start the thread.
_STARTS = (WorkerWanted, LoopWanted, Poll)
# Shortest and longest pause between two attempts to start a thread, in microseconds.
_FIRST_PAUSE_US = 20_000
_LAST_PAUSE_US = 1_000_000
# Microseconds between two checks whether a runner may start.
_GATE_PAUSE_US = 5_000


class WorkerHost:
    """The Python threads of one runner.

    The threads reference the engine, not the `DefaultRunner`, so that a `DefaultRunner` without
    references can be garbage-collected.
    """

    is_shared = False

    def __init__(
        self, core: Runner, log_level: int, tracing: Tracing, *, capture_logs: bool = False
    ) -> None:
        self._core = core
        self._log_level = log_level
        self._logger: Logger | None = None
        self._tracing = tracing
        self._scope = AttemptScope(core, tracing, capture_logs, self._loop_thread)
        self._workers = WorkerPool(core, self._scope)
        self._loop: LoopThread | None = None
        self._starting = threading.Lock()
        self._gate: Gate | None = None
        self._is_gated = False
        self._restores_streams = False
        self._thread = threading.Thread(target=self._run, name="cloaca-supervisor", daemon=True)
        core.set_log_level(log_level)

    def start(self, is_gated: bool = False) -> None:
        """Starts the supervisor, which starts the other threads on demand.

        Args:
            is_gated: Whether `watch` will be called.
        """
        self._is_gated = is_gated
        if self._scope.capture_logs:
            from cloaca._workers.task_streams import begin, wrap

            begin()
            self._scope.before_capture = wrap
            self._restores_streams = True
        self._thread.start()

    def watch(self, gate: Gate) -> None:
        """Starts the runner when the gate opens."""
        self._gate = gate

    def join(self, timeout: float) -> None:
        """Ends the threads of a stopped engine, waiting at most `timeout` seconds in all."""
        from time import monotonic

        until = monotonic() + timeout
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        if self._loop is not None:
            self._loop.close(max(until - monotonic(), 0))
        self._workers.join(max(until - monotonic(), 0))
        if self._scope.has_resources:
            self._scope.resources().close()
        self._tracing.close()
        if self._restores_streams:
            from cloaca._workers.task_streams import end

            self._restores_streams = False
            end()

    def follow_log_level(self) -> None:
        """Passes the logger's level to the engine if the program has changed the level."""
        # Each submission calls this method, so it makes no calls once the logger is known.
        found = self._logger
        if found is None:
            if "logging" not in sys.modules:
                return
            found = self._logger = logger()
        # `getEffectiveLevel` is slower. The logger's parent is the root logger.
        wanted = found.level or found.root.level
        if wanted != self._log_level:
            self._log_level = wanted
            self._core.set_log_level(wanted)

    def _run(self) -> None:
        later: list[object] = []
        pause_us = _FIRST_PAUSE_US
        while events := self._core.supervise(pause_us if later else self._gate_pause()):
            pending, later = [*later, *events], []
            for event in pending:
                try:
                    self._handle(event)
                except BaseException as error:
                    # The process may have reached its limit of threads or file descriptors.
                    if isinstance(event, _STARTS):
                        later.append(event)
                    if pause_us == _FIRST_PAUSE_US or event in events:
                        _report(event, error)
            pause_us = min(2 * pause_us, _LAST_PAUSE_US) if later else _FIRST_PAUSE_US

    def _gate_pause(self) -> int | None:
        """Opens the gate if it is due. Returns the microseconds until the next check, if any."""
        if not self._is_gated:
            return None
        gate = self._gate
        # `open_if_due` is called even after a start, so that the gate drops the caller's frames.
        if self._core.begun if gate is None else gate.open_if_due():
            self._gate = None
            self._is_gated = False
            return None
        return _GATE_PAUSE_US

    def _handle(self, event: object) -> None:
        if isinstance(event, WorkerWanted):
            # The program may have loaded `logging` since the runner started.
            install()
            self.follow_log_level()
            self._workers.start_worker()
        elif isinstance(event, InterruptWorker):
            self._workers.interrupt(event.worker)
        elif isinstance(event, LoopWanted):
            self._loop_thread()
        elif isinstance(event, Poll):
            start_poll(event, lambda: self._loop)
        elif isinstance(event, LogRecord):
            self._log(event)
        elif isinstance(event, ExecutionEnded):
            self._tracing.ended(event)

    def _loop_thread(self) -> LoopThread:
        """Return the thread with the event loop; the first call starts it."""
        with self._starting:
            if self._loop is None:
                loop = LoopThread(self._core, self._scope)
                loop.start()
                self._loop = loop
            return self._loop

    def _log(self, record: LogRecord) -> None:
        write(record.level, record.target, record.message, record.fields)
        self.follow_log_level()


def _report(event: object, error: BaseException) -> None:
    """Logs the error of an event: a thread that cannot start, or a log handler that raises."""
    try:
        logger().error("the supervisor could not handle %r: %s", event, error, exc_info=error)
    except BaseException:
        return
