"""The attempt that a thread or coroutine runs: for log records, captured lines and traces.

Outside of tasks, this module does nothing. Inside a task, the only cost is setting a context
variable.
"""

from __future__ import annotations

import sys
from _thread import allocate_lock
from contextvars import ContextVar

from cloaca._core import Work
from cloaca._values.database_text import storable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import LogRecord
    from typing import Any

    from cloaca._core import Outcome, Runner
    from cloaca._observe.tracing import Tracing
    from cloaca._tasks.call import Source
    from cloaca._workers.resources import ResourcePool

#: Checked for each attempt: a program that has not loaded this module has set up no tracing.
TRACING = "opentelemetry.trace"
modules = sys.modules

#: The running work, or the capture of its log lines.
current: ContextVar[Work | LogCapture | None] = ContextVar("cloaca_attempt", default=None)

# Limits of the log lines stored for each attempt.
_MAX_LINES = 500
_MAX_BYTES = 256 * 1024
_MAX_LINE = 16 * 1024
_MAX_LEVEL = 2**31 - 1

_NAMES = ("execution_id", "task_id", "attempt", "workflow")


def end_own_callback(execution_id: str) -> None:
    """Called before a wait, because a callback must not hold back its own execution's result."""
    work = current.get()
    if isinstance(work, Work) and work.callback and work.execution_id == execution_id:
        work.end_callback()


class LogCapture:
    """Keeps what an attempt logs and prints with its execution.

    Each line goes to the engine at once. The engine writes several times a second, so other
    programs can read the lines while the attempt runs.
    """

    __slots__ = ("_bytes", "_core", "_count", "_printed", "work")

    def __init__(self, work: Work, core: Runner) -> None:
        self.work = work
        self._core = core
        # Printed text that has no line break yet, by stream, with its level.
        self._printed: dict[str, tuple[int, str]] = {}
        self._count = 0
        self._bytes = 0

    def add(self, record: LogRecord) -> None:
        """Keeps a record; beyond the limits, records are only counted.

        A record of `logging.makeLogRecord` is filled only afterwards, and is not kept.
        """
        level: Any = record.levelno
        name: Any = record.name
        if not (isinstance(level, int) and isinstance(name, str)):
            return
        if not self._has_room():
            return
        try:
            message = record.getMessage()
            if record.exc_info:
                import traceback

                message += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        except Exception as error:
            # A log call with wrong arguments; logging itself reports it when it writes the record.
            message = f"{record.msg!r} (cannot be shown: {error})"
        self._keep(round(record.created * 1_000_000), level, name, message)

    def add_printed(self, stream: str, level: int, text: str) -> None:
        """Keeps what was printed, line by line; text after a carriage return replaces its line."""
        _, before = self._printed.pop(stream, (level, ""))
        *lines, rest = (before + text).split("\n")
        if len(rest) > _MAX_LINE:
            lines, rest = [*lines, rest], ""
        if rest:
            self._printed[stream] = level, rest
        for line in lines:
            self._add_line(stream, level, line)

    def _add_line(self, stream: str, level: int, line: str) -> None:
        if self._has_room():
            from cloaca._core import now_us

            self._keep(now_us(), level, stream, line.rstrip("\r").rpartition("\r")[2])

    def _has_room(self) -> bool:
        self._count += 1
        return self._count <= _MAX_LINES and self._bytes <= _MAX_BYTES

    def _keep(self, time_us: int, level: int, name: str, message: str) -> None:
        message = storable(message)
        if len(message) > _MAX_LINE:
            message = f"{message[:_MAX_LINE]} …"
        self._bytes += len(message)
        self._note(time_us, min(max(level, 0), _MAX_LEVEL), storable(name), message)

    def _note(self, time_us: int, level: int, name: str, message: str) -> None:
        """Passes a line to the engine. The line is durable before the attempt's end."""
        try:
            self._core.note_logs(self.work, [(time_us, level, name, message)])
        except Exception as error:
            # For example, a record of the program's own class has a number that no database can
            # store.
            from contextlib import suppress

            from cloaca._core import now_us

            told = f"a line could not be kept: {error}"
            with suppress(Exception):  # a forked child, which reports nothing
                self._core.note_logs(self.work, [(now_us(), 30, "cloaca", told)])

    def close(self) -> None:
        """Ends the capture: keeps incomplete lines, and notes how many lines were dropped."""
        printed, self._printed = self._printed, {}
        for stream, (level, rest) in printed.items():
            self._add_line(stream, level, rest)
        dropped = self._count - _MAX_LINES
        if dropped > 0 or self._bytes > _MAX_BYTES:
            from cloaca._core import now_us

            told = f"{dropped} more lines were" if dropped > 0 else "more was"
            self._note(now_us(), 30, "cloaca", f"{told} logged, and not kept")


# Held while a runner gets its pool of resources.
_making = allocate_lock()


def _nothing() -> None:
    """Does nothing."""


class AttemptScope:
    """Runs the attempts of a runner's workers, with tracing and log capture if they are on."""

    __slots__ = ("_loop", "_resources", "before_capture", "capture_logs", "core", "tracing")

    def __init__(
        self,
        core: Runner,
        tracing: Tracing,
        capture_logs: bool,
        loop: Callable[[], Any] | None = None,
    ) -> None:
        self._loop = loop
        self._resources: ResourcePool | None = None
        self.core = core
        self.tracing = tracing
        self.capture_logs = capture_logs
        #: Called before each attempt whose lines are kept.
        self.before_capture: Callable[[], None] = _nothing

    @property
    def has_resources(self) -> bool:
        """Whether a task has used a resource."""
        return self._resources is not None

    def resources(self) -> ResourcePool:
        """The resources of the runner."""
        if self._resources is None:
            from cloaca._workers.resources import ResourcePool

            assert self._loop is not None
            pool = ResourcePool(self._loop)
            with _making:
                if not self.has_resources:
                    self._resources = pool
        assert self._resources is not None
        return self._resources

    def resource(self, source: Source) -> Any:
        """The object of a parameter that takes a resource, on a worker thread."""
        assert source.marker is not None
        return self.resources().get(source.marker)

    def watch(self, work: Work) -> Watch:
        """Returns a context manager around an attempt that traces it and captures its logs."""
        return Watch(self, work)


class Watch:
    """The span of one attempt, and the capture of its log lines."""

    __slots__ = ("_capture", "_span")

    def __init__(self, scope: AttemptScope, work: Work) -> None:
        from cloaca._observe.tracing import AttemptSpan, tracer

        found = tracer()
        self._span = None if found is None else AttemptSpan(found, scope.tracing, work)
        self._capture = None
        if scope.capture_logs:
            scope.before_capture()
            self._capture = LogCapture(work, scope.core)

    def __enter__(self) -> Watch:
        if self._capture is not None:
            current.set(self._capture)
        if self._span is not None:
            self._span.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        if self._span is not None:
            self._span.__exit__()
        if self._capture is not None:
            current.set(None)
            self._capture.close()

    def note(self, outcome: Outcome) -> None:
        """Records how the attempt ended."""
        if self._span is not None:
            self._span.note(outcome)


def install() -> None:
    """Makes log records of tasks name their attempt.

    Python has one factory for all records, so this one calls its predecessor. Nothing is done while
    the program has not loaded `logging`.
    """
    if "logging" not in sys.modules:
        return
    # Another thread may be importing it at this moment: this waits for that.
    import logging

    factory = logging.getLogRecordFactory()
    if getattr(factory, "is_cloacas", False):
        return
    logging.setLogRecordFactory(_factory(factory))


def _factory(before: Callable[..., LogRecord]) -> Callable[..., LogRecord]:
    def make(*args: Any, **kwargs: Any) -> LogRecord:
        record = before(*args, **kwargs)
        scope = current.get()
        if scope is None:
            return record
        if isinstance(scope, LogCapture):
            scope.add(record)
            scope = scope.work
        record.__class__ = _class_of(type(record))
        record._cloaca_work = scope
        return record

    make.is_cloacas = True  # type: ignore[attr-defined]
    return make


class _OfTask:
    """Adds the attempt to a log record.

    The values are added on access, and only if the caller's `extra` has no such name, because
    `logging` refuses an `extra` whose name the record has already.
    """

    def getMessage(self) -> str:
        """The message. Every formatter calls this before it reads the attributes."""
        self._tell()
        return super().getMessage()  # type: ignore[misc,no-any-return]

    def __getattr__(self, name: str) -> Any:
        if name in _NAMES and "_cloaca_work" in self.__dict__:
            self._tell()
            return self.__dict__[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _tell(self) -> None:
        work = self.__dict__.pop("_cloaca_work", None)
        if work is None:
            return
        told = self.__dict__
        told.setdefault("execution_id", work.execution_id)
        told.setdefault("task_id", work.task_id)
        told.setdefault("attempt", work.attempt)
        told.setdefault("workflow", work.workflow_name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles as a plain record with the values."""
        import logging

        self._tell()
        return logging.makeLogRecord, (dict(self.__dict__),)


_classes: dict[type, type] = {}


def _class_of(kind: type) -> type:
    known = _classes.get(kind)
    if known is None:
        if issubclass(kind, _OfTask):
            return kind
        known = _classes[kind] = type(kind.__name__, (_OfTask, kind), {})
    return known
