"""The package's logger, and the engine's records on their way to it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from logging import Logger
    from typing import Any

# The attributes that every log record has.
_RECORD_ATTRIBUTES = frozenset(
    {"args", "asctime", "created", "exc_info", "exc_text", "filename", "funcName", "levelname"}
    | {"levelno", "lineno", "message", "module", "msecs", "msg", "name", "pathname", "process"}
    | {"processName", "relativeCreated", "stack_info", "taskName", "thread", "threadName"}
)


# `logging.WARNING`, the level if the program sets none.
_WARNING = 30


def logger() -> Logger:
    """The logger `cloaca`. If the program sets no level, WARNING and above are logged."""
    import logging

    found = logging.getLogger("cloaca")
    if not found.handlers:
        # Without any handler, Python would print warnings to stderr by itself.
        found.addHandler(logging.NullHandler())
    return found


def prepare() -> int:
    """Sets the level from `CLOACA_LOG_LEVEL`, and returns the effective level.

    Raises:
        ConfigurationError: The variable names no level.
    """
    import os
    import sys

    level = os.environ.get("CLOACA_LOG_LEVEL")
    if level is None and "logging" not in sys.modules:
        # Nobody has set anything, and loading it would take as long as opening the database.
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
    return logger().getEffectiveLevel()


def write(level: int, target: str, message: str, fields: Mapping[str, Any]) -> None:
    """Logs a record of the engine; its fields become attributes of the record."""
    extra = {
        f"{name}_" if name in _RECORD_ATTRIBUTES else name: value for name, value in fields.items()
    }
    extra["target"] = target
    shown = ", ".join(f"{name}={value}" for name, value in fields.items())
    logger().log(level, "%s (%s)" if shown else "%s%s", message, shown, extra=extra)
