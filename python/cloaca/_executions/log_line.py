"""The log lines that runners capture from tasks."""

from __future__ import annotations

from cloaca._values.duration import us_to_instant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime

    from cloaca._core import LogLineRecord


class LogLine:
    """A captured log line of a task.

    Attributes:
        task_id: The id of the task.
        attempt: The number of the attempt.
        level: The level, as a number of the module `logging`.
        logger: The logger's name.
        message: The message, followed by the traceback if the record had one.

    Example:
        >>> [line.message for line in runner.logs(handle.id) if line.level_name == "ERROR"]

    Since 1.0.
    """

    __slots__ = ("_time_us", "attempt", "level", "logger", "message", "task_id")

    def __init__(self, record: LogLineRecord) -> None:
        """Private: `DefaultRunner.logs` creates these objects."""
        self.task_id = record.task_id
        self.attempt = record.attempt
        self._time_us = record.time_us
        self.level = record.level
        self.logger = record.logger
        self.message = record.message

    @property
    def time(self) -> datetime:
        """The time at which the line was logged. Since 1.0."""
        return us_to_instant(self._time_us)

    @property
    def level_name(self) -> str:
        """The level's name. Since 1.0."""
        import logging

        return logging.getLevelName(self.level)

    def __str__(self) -> str:
        """Return the line as text."""
        return (
            f"{self.time.isoformat(timespec='milliseconds')} {self.level_name} {self.task_id}"
            f"[{self.attempt}] {self.logger}: {self.message}"
        )

    def __repr__(self) -> str:
        """Return the line."""
        return f"<LogLine {self}>"
