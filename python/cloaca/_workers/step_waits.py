"""Sleeps and waits of a task's function: their conditions and their recorded outcomes (T5)."""

from __future__ import annotations

from cloaca._values.exceptions import WaitTimeoutError
from cloaca._workers.step_values import plain, recorded_by, value_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloaca._core import LoopWaker, Runner, StepLog, Work

    Read = Callable[[str], Any]


class EndNow:
    """The functions that record and read the outcome of a wait that may already be over."""

    __slots__ = ("record", "recorded")

    def __init__(
        self, record: Callable[[LoopWaker | None], int | None], recorded: Callable[[], Any]
    ) -> None:
        #: The function that records the outcome. Given a waker, it returns a token at once, and
        #: calls the waker when the outcome is recorded.
        self.record = record
        #: The function that returns the recorded outcome; `None` if the wait is not over.
        self.recorded = recorded


class StepWait:
    """A sleep or a wait of a task's function."""

    __slots__ = ("_read", "call", "condition", "name", "timeout_us")

    def __init__(
        self,
        call: str,
        name: str,
        condition: dict[str, Any],
        timeout_us: int | None,
        read: Read,
    ) -> None:
        self.call = call
        self.name = name
        self.condition = condition
        self.timeout_us = timeout_us
        self._read = read

    def recorded(self, log: StepLog) -> Any:
        """Return the recorded outcome; `None` if the wait is not over.

        Raises:
            TaskValidationError: Another kind of call recorded a step with this key.
        """
        return recorded_by(log, self.name, self.call)

    def over(self, log: StepLog) -> str | None:
        """Return the JSON to record at once for a sleep of zero seconds; `None` for other waits."""
        is_over = self.call == "sleep" and self.condition["duration"] == 0
        return "null" if is_over else None

    def recorded_over(self, log: StepLog, text: str) -> Any:
        """Return the outcome of a sleep of zero seconds, whose recorded JSON is `text`."""
        return text

    def reserve(self, core: Runner, work: Work, log: StepLog) -> int:
        """Reserve a position for the step that will record the outcome, and return it."""
        return core.reserve_step(work, log, self.name)

    def runs(self, log: StepLog) -> str | None:
        """Return the children to wait for, as JSON; a sleep or a wait has none."""
        return None

    def ended(self, task_id: str, recorded: str) -> Any:
        """Return the data that the wait received.

        Raises:
            WaitTimeoutError: The wait timed out.
        """
        import json

        if self.call == "sleep":
            return None
        end = json.loads(recorded)
        if end.get("timed_out"):
            error = WaitTimeoutError(f"task '{task_id}' waited for '{self.name}' until its timeout")
            # The error is final, because another attempt would read the same recorded outcome.
            error._is_final = True
            raise error
        return self._read(value_text(recorded)) if self._is_typed else end.get("value")

    @property
    def _is_typed(self) -> bool:
        return self._read is not plain


def literal_condition(task_id: str, key: str, condition: object) -> dict[str, Any]:
    """Returns the definition of a condition that a task's code waits for.

    The keys of its signals are literal strings, not paths.

    Raises:
        TaskValidationError: The value is not a condition that a task can wait for.
    """
    from cloaca._tasks.conditions import literal_definition

    return literal_definition(f"'{key}' of task '{task_id}'", condition)
