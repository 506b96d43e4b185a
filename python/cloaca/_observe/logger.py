"""The records of the package's logger, which also receives the engine's records."""

from __future__ import annotations

import sys

from cloaca._values.package_logger import logger as logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from logging import Handler, Logger
    from typing import Any

# The attributes that every log record has.
_RECORD_ATTRIBUTES = frozenset(
    {"args", "asctime", "created", "exc_info", "exc_text", "filename", "funcName", "levelname"}
    | {"levelno", "lineno", "message", "module", "msecs", "msg", "name", "pathname", "process"}
    | {"processName", "relativeCreated", "stack_info", "taskName", "thread", "threadName"}
)


# `logging.WARNING`, the level if the program sets none.
_WARNING = 30

# The target of the records of executions and attempts. Their messages end with the execution's id.
_RUN_TARGET = "cloacina::run"


def effective_level() -> int:
    """The level of the logger `cloaca`, without loading `logging` if the program has not."""
    if "logging" not in sys.modules:
        return _WARNING
    found = logger()
    return found.level or found.root.level  # its parent is the root; this runs at each submission


def prepare() -> int:
    """Sets the level from `CLOACA_LOG_LEVEL`, and returns the effective level.

    Python's handler of last resort prints nothing below WARNING. If the variable asks for more and
    the program has set no handler, records go to stderr as well.

    Raises:
        ConfigurationError: The value of the variable is not a level.
    """
    import os

    level = os.environ.get("CLOACA_LOG_LEVEL")
    if level is None and "logging" not in sys.modules:
        # The program has not configured `logging`, and importing it takes as long as opening the
        # database.
        return _WARNING
    if level is not None:
        try:
            logger().setLevel(level.strip().upper())
        except ValueError:
            from cloaca._values.exceptions import ConfigurationError

            raise ConfigurationError(
                f"CLOACA_LOG_LEVEL is {level!r}",
                hint="it takes DEBUG, INFO, WARNING, ERROR or CRITICAL",
            ) from None
        if logger().getEffectiveLevel() < _WARNING:
            show_on_stderr()
    return logger().getEffectiveLevel()


def show_on_stderr() -> None:
    """Prints records with their time and level on stderr, as long as the program sets no handler.

    Python's handler of last resort prints the message alone, and nothing below WARNING.
    """
    _stderr_handler()


def show_other_failures() -> Callable[[str | None], None]:
    """Like `show_on_stderr`, for a command that prints the failure of its execution itself.

    The failures of all executions are held back until the id of that execution is known.

    Returns:
        A function to call with the execution's id, or with `None` if it was not submitted: the
        failures of all other executions are printed.
    """
    handler = _stderr_handler()
    handler.keep_failures()
    leave_out: Callable[[str | None], None] = handler.leave_out
    return leave_out


def _stderr_handler() -> Any:
    """The handler of this package; it is added to the logger at the first call."""
    found = logger()
    for handler in found.handlers:
        if getattr(handler, "is_cloacas", False):
            return handler
    handler = _make_stderr_handler()
    found.addHandler(handler)
    return handler


def _make_stderr_handler() -> Handler:
    import logging

    class StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
        """Prints a record unless another handler gets it too."""

        is_cloacas = True
        #: The failures that are held back; `None` if they are printed.
        _kept: list[logging.LogRecord] | None = None
        _left_out: str | None = None

        def keep_failures(self) -> None:
            self._kept = []
            self._left_out = None

        def leave_out(self, id: str | None) -> None:
            with self.lock:  # type: ignore[union-attr]
                kept, self._kept, self._left_out = self._kept or [], None, id
                for record in kept:
                    self.emit(record)

        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR and getattr(record, "target", "") == _RUN_TARGET:
                if self._kept is not None:
                    self._kept.append(record)
                    return
                if self._left_out == getattr(record, "execution_id", ""):
                    return
            if not _has_handler_beside(self):
                self.stream = sys.stderr  # the program may have replaced it
                super().emit(record)

    handler = StderrHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    return handler


def _has_handler_beside(own: Handler) -> bool:
    found: Logger | None = logger()
    while found is not None:
        if any(handler is not own for handler in found.handlers):
            return True
        found = found.parent if found.propagate else None
    return False


def write(level: int, target: str, message: str, fields: Mapping[str, Any]) -> None:
    """Logs a record of the engine; its fields become attributes of the record."""
    if target == _RUN_TARGET:
        return _write_run(level, message, dict(fields))
    extra = {
        f"{name}_" if name in _RECORD_ATTRIBUTES else name: value for name, value in fields.items()
    }
    extra["target"] = target
    shown = ", ".join(f"{name}={value}" for name, value in fields.items())
    logger().log(level, "%s (%s)" if shown else "%s%s", message, shown, extra=extra)


def _write_run(level: int, message: str, fields: dict[str, Any]) -> None:
    """Logs a record of an execution or an attempt. Its message ends with the execution's id."""
    found = logger()
    if not found.isEnabledFor(level):
        return
    traceback = fields.pop("traceback", None)
    if "execution_id" in fields:
        message = f"{message} [execution {fields['execution_id']}]"
    fields["target"] = _RUN_TARGET
    record = found.makeRecord(
        found.name, level, __file__, 0, "%s", (message,), None, "write", fields
    )
    if traceback:
        # Formatters append this text as they append the traceback of an exception.
        record.exc_text = traceback.rstrip()
    found.handle(record)
