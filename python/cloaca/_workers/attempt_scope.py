"""Stores which attempt a thread or coroutine runs, for log records, captured lines and traces.

Outside of tasks, this module does nothing. In a task without capture and tracing, the only cost is
setting a context variable.
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

#: The name of a module. Each attempt checks whether the module is loaded, because a program that
#: has not loaded it has no tracing.
TRACING = "opentelemetry.trace"
modules = sys.modules

#: The running work, or the capture of its log lines.
current: ContextVar[Work | LogCapture | None] = ContextVar("cloaca_attempt", default=None)

# Limits of the captured log lines: the number of an attempt's lines, the total length of their
# messages in characters, and the length of one message in characters.
_MAX_LINES = 500
_MAX_LENGTH = 256 * 1024
_MAX_LINE = 16 * 1024
# The highest log level that can be stored.
_MAX_LEVEL = 2**31 - 1

# The attributes that log records of tasks have.
_NAMES = ("execution_id", "task_id", "attempt", "workflow")


def end_own_callback(execution_id: str) -> None:
    """Reports the caller's callback as ended, if it is about to wait for its own execution.

    Otherwise the result of the execution would wait for the callback, and the callback for the
    result.
    """
    work = current.get()
    if isinstance(work, Work) and work.callback and work.execution_id == execution_id:
        work.end_callback()


class LogCapture:
    """Stores the log records and printed lines of an attempt with its execution.

    Each line is passed to the engine at once. The engine writes the lines ten times a second, so
    other programs can read them while the attempt runs.
    """

    __slots__ = ("_core", "_count", "_length", "_printed", "work")

    def __init__(self, work: Work, core: Runner) -> None:
        self.work = work
        self._core = core
        # The incomplete last line of each printed stream, by stream, with its log level.
        self._printed: dict[str, tuple[int, str]] = {}
        self._count = 0
        self._length = 0

    def add(self, record: LogRecord) -> None:
        """Stores a record; beyond the limits, records are only counted.

        A record that `logging.makeLogRecord` creates is not stored, because its attributes are set
        only after this call.
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
            # The log call has wrong arguments. `logging` reports this when it writes the record.
            message = f"{record.msg!r} (cannot be shown: {error})"
        self._keep(round(record.created * 1_000_000), level, name, message)

    def add_printed(self, stream: str, level: int, text: str) -> None:
        """Stores printed text line by line; a carriage return discards the text before it."""
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
        return self._count <= _MAX_LINES and self._length <= _MAX_LENGTH

    def _keep(self, time_us: int, level: int, name: str, message: str) -> None:
        message = storable(message)
        if len(message) > _MAX_LINE:
            message = f"{message[:_MAX_LINE]} …"
        self._length += len(message)
        self._note(time_us, min(max(level, 0), _MAX_LEVEL), storable(name), message)

    def _note(self, time_us: int, level: int, name: str, message: str) -> None:
        """Passes a line to the engine. Once the attempt's end is durable, so is the line."""
        try:
            self._core.note_logs(self.work, [(time_us, level, name, message)])
        except Exception as error:
            # For example, the program's own record class has a time that no database can store.
            from contextlib import suppress

            from cloaca._core import now_us

            message = f"a log line could not be stored: {error}"
            with suppress(Exception):  # in a forked child, this call fails too
                self._core.note_logs(self.work, [(now_us(), 30, "cloaca", message)])

    def close(self) -> None:
        """Ends the capture: stores incomplete lines, and the number of lines that were dropped."""
        printed, self._printed = self._printed, {}
        for stream, (level, rest) in printed.items():
            self._add_line(stream, level, rest)
        dropped = self._count - _MAX_LINES
        if dropped > 0 or self._length > _MAX_LENGTH:
            from cloaca._core import now_us

            dropped_text = f"{dropped} more lines were" if dropped > 0 else "more text was"
            self._note(now_us(), 30, "cloaca", f"{dropped_text} logged but not stored")


# Held while a runner stores its pool of resources, so that all threads use the same pool.
_making = allocate_lock()


def _nothing() -> None:
    """Does nothing."""


class AttemptScope:
    """The state that the attempts of a runner share: tracing, log capture and resources."""

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
        #: A function to call before each attempt whose lines are captured.
        self.before_capture: Callable[[], None] = _nothing

    @property
    def has_resources(self) -> bool:
        """Whether a task has used a resource."""
        return self._resources is not None

    def resources(self) -> ResourcePool:
        """Return the resources of the runner."""
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
        """Return the object of the resource that a parameter takes. For worker threads."""
        assert source.marker is not None
        return self.resources().get(source.marker)

    def watch(self, work: Work) -> Watch:
        """Return a context manager that traces an attempt and captures its logs."""
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
        """Records the outcome of the attempt in the span."""
        if self._span is not None:
            self._span.note(outcome)


def install() -> None:
    """Installs a factory that adds the attempt to log records of tasks.

    Python has one factory for all records, so the new factory calls its predecessor. The function
    does nothing if the program has not loaded `logging`.
    """
    if "logging" not in sys.modules:
        return
    # Another thread may be importing `logging`; this statement waits until that import is complete.
    import logging

    factory = logging.getLogRecordFactory()
    if getattr(factory, "is_from_cloaca", False):
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

    make.is_from_cloaca = True  # type: ignore[attr-defined]
    return make


class _AttemptRecord:
    """Adds the attempt to a log record.

    The attributes are added when they are first read, after the caller's `extra`, because `logging`
    refuses an `extra` with a name that the record already has. The caller's values are kept.
    """

    def getMessage(self) -> str:
        """Returns the message. Formatters call this method before they read the attributes."""
        self._add_attributes()
        return super().getMessage()  # type: ignore[misc,no-any-return]

    def __getattr__(self, name: str) -> Any:
        if name in _NAMES and "_cloaca_work" in self.__dict__:
            self._add_attributes()
            return self.__dict__[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _add_attributes(self) -> None:
        work = self.__dict__.pop("_cloaca_work", None)
        if work is None:
            return
        attributes = self.__dict__
        attributes.setdefault("execution_id", work.execution_id)
        attributes.setdefault("task_id", work.task_id)
        attributes.setdefault("attempt", work.attempt)
        attributes.setdefault("workflow", work.workflow_name)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the record as a plain `LogRecord` with the attributes."""
        import logging

        self._add_attributes()
        return logging.makeLogRecord, (dict(self.__dict__),)


_classes: dict[type, type] = {}


def _class_of(kind: type) -> type:
    known = _classes.get(kind)
    if known is None:
        if issubclass(kind, _AttemptRecord):
            return kind
        known = _classes[kind] = type(kind.__name__, (_AttemptRecord, kind), {})
    return known
