"""The error of a task or of an execution, as a value."""

from __future__ import annotations


class ErrorInfo:
    """The cause of a failure of a task or an execution, compared by value.

    Attributes:
        type: The qualified name of the exception's type, e.g. `ValueError`.
        message: The message of the exception.
        traceback: The text of the traceback, if there is one.
        task_id: The task that failed; `None` if the execution itself failed, e.g. at its
            timeout.

    Example:
        >>> str(cloaca.ErrorInfo("ValueError", "no rows", task_id="load"))
        "task 'load' failed: ValueError: no rows"

    Since 1.0.
    """

    __slots__ = ("message", "task_id", "traceback", "type")

    def __init__(
        self, type: str, message: str, traceback: str | None = None, task_id: str | None = None
    ) -> None:
        """Describe an error.

        Args:
            type: The qualified name of the exception's type.
            message: The message of the exception.
            traceback: The traceback's text.
            task_id: The task that failed.
        """
        self.type = type
        self.message = message
        self.traceback = traceback
        self.task_id = task_id

    @property
    def task(self) -> str | None:
        """The task that failed; another name for `task_id`. Since 1.0."""
        return self.task_id

    def __eq__(self, other: object) -> bool:
        """Returns whether both describe the same error."""
        if not isinstance(other, ErrorInfo):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in ErrorInfo.__slots__)

    def __hash__(self) -> int:
        """Returns the hash of the type, the message and the task."""
        return hash((self.type, self.message, self.task_id))

    def __str__(self) -> str:
        """Returns the failed task with the error's type and message."""
        text = f"{self.type}: {self.message}" if self.message else self.type
        return text if self.task_id is None else f"task '{self.task_id}' failed: {text}"

    def __repr__(self) -> str:
        """Returns the type, the message and the task."""
        return f"ErrorInfo(type={self.type!r}, message={self.message!r}, task_id={self.task_id!r})"
