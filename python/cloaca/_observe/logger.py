"""The logger `cloaca`: its level, its handler on stderr, and the engine's records in it."""

from __future__ import annotations

import sys

from cloaca._values.package_logger import logger as logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from logging import Handler, Logger
    from typing import Any

# The attributes that every `logging.LogRecord` has.
_RECORD_ATTRIBUTES = frozenset(
    {"args", "asctime", "created", "exc_info", "exc_text", "filename", "funcName", "levelname"}
    | {"levelno", "lineno", "message", "module", "msecs", "msg", "name", "pathname", "process"}
    | {"processName", "relativeCreated", "stack_info", "taskName", "thread", "threadName"}
)


# `logging.WARNING`, the logger's level if the program sets no level.
_WARNING = 30

# The `target` of records about executions and attempts. Their messages end with the execution's id.
_RUN_TARGET = "cloacina::run"


def effective_level() -> int:
    """Returns the level of the logger `cloaca`.

    Does not load `logging` if the program has not loaded it.
    """
    if "logging" not in sys.modules:
        return _WARNING
    found = logger()
    return found.getEffectiveLevel()


def prepare() -> int:
    """Sets the level from `CLOACA_LOG_LEVEL`, and returns the effective level.

    Python's handler of last resort prints nothing below WARNING. If the variable sets a lower
    level, this function therefore adds a handler, which prints records on stderr while the program
    has no handler of its own.

    Raises:
        ConfigurationError: The value of the variable is not a level.
    """
    import os

    level = os.environ.get("CLOACA_LOG_LEVEL")
    if level is None and "logging" not in sys.modules:
        # The program has not configured `logging`. Importing it here would take as long as opening
        # the database.
        return _WARNING
    if level is not None:
        try:
            logger().setLevel(level.strip().upper())
        except ValueError:
            from cloaca._values.exceptions import ConfigurationError

            raise ConfigurationError(
                f"CLOACA_LOG_LEVEL is {level!r}, which is not a log level",
                hint="set it to DEBUG, INFO, WARNING, ERROR or CRITICAL",
            ) from None
        if logger().getEffectiveLevel() < _WARNING:
            show_on_stderr()
    return logger().getEffectiveLevel()


def show_on_stderr() -> None:
    """Prints records with their time and level on stderr, while the program has set no handler.

    Python's handler of last resort prints only the message, and nothing below WARNING.
    """
    _stderr_handler()


def show_failures() -> set[tuple[str, str | None]]:
    """Prints records on stderr like `show_on_stderr`, and collects the failures among them.

    A command that prints failures itself uses the set to omit those that are already on stderr.

    Returns:
        A set of execution ids and task ids, to which the handler adds each failure that it prints.
        The task id is `None` if no task caused the failure.
    """
    shown: set[tuple[str, str | None]] = set()
    _stderr_handler().shown = shown
    return shown


def _stderr_handler() -> Any:
    """Returns this package's handler. The first call adds it to the logger."""
    found = logger()
    for handler in found.handlers:
        if getattr(handler, "is_from_cloaca", False):
            return handler
    handler = _make_stderr_handler()
    found.addHandler(handler)
    return handler


def _make_stderr_handler() -> Handler:
    import logging

    class StderrHandler(logging.StreamHandler):  # type: ignore[type-arg]
        """Prints a record unless another handler also receives it."""

        is_from_cloaca = True
        #: The failures that were printed, by execution and task; `None` until `show_failures` is
        #: called.
        shown: set[tuple[str, str | None]] | None = None

        def emit(self, record: logging.LogRecord) -> None:
            if _has_handler_beside(self):
                return
            self.stream = sys.stderr  # the program may have replaced it
            super().emit(record)
            if self.shown is None or record.levelno < logging.ERROR:
                return
            if getattr(record, "target", "") == _RUN_TARGET and hasattr(record, "execution_id"):
                self.shown.add((record.execution_id, getattr(record, "task_id", None)))

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
    """Logs a record of the engine. The engine's fields become attributes of the record."""
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
        # Formatters append this text like the traceback of an exception.
        record.exc_text = traceback.rstrip()
    found.handle(record)
