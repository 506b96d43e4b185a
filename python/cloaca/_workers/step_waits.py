"""Sleeps and waits of a task's function: their conditions and their recorded ends (T5)."""

from __future__ import annotations

from cloaca._values.exceptions import WaitTimeoutError
from cloaca._workers.step_values import check_call, plain, value_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloaca._core import LoopWaker, Runner, StepLog, Work

    Read = Callable[[str], Any]


class EndNow:
    """The end of a wait that is recorded without leaving the function, if the wait is over."""

    __slots__ = ("record", "recorded")

    def __init__(
        self, record: Callable[[LoopWaker | None], int | None], recorded: Callable[[], Any]
    ) -> None:
        #: Records the end. With a waker, it returns a token at once, and wakes it later.
        self.record = record
        #: Returns the recorded end; `None` if the wait is open.
        self.recorded = recorded


class StepWait:
    """A sleep or a wait of the function."""

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
        """The recorded end; `None` if the wait is not over.

        Raises:
            TaskValidationError: Another call recorded the key.
        """
        check_call(log, self.name, self.call)
        return log.recorded(self.name)

    def over(self, log: StepLog) -> str | None:
        """The text to record at once, for a sleep of zero length: the function continues."""
        is_over = self.call == "sleep" and self.condition["duration"] == 0
        return "null" if is_over else None

    def recorded_over(self, log: StepLog, text: str) -> Any:
        """The end that was recorded at once."""
        return text

    def reserve(self, core: Runner, work: Work, log: StepLog) -> int:
        """The position of the step that will record the end."""
        return core.reserve_step(work, log, self.name)

    def runs(self, log: StepLog) -> str | None:
        """The children to wait for, as JSON."""
        return None

    def ended(self, task_id: str, recorded: str) -> Any:
        """The data that the wait received.

        Raises:
            WaitTimeoutError: The wait timed out.
        """
        import json

        if self.call == "sleep":
            return None
        end = json.loads(recorded)
        if end.get("timed_out"):
            error = WaitTimeoutError(f"task '{task_id}' waited for '{self.name}' until its timeout")
            # Another attempt gets the same recorded end.
            error._is_final = True
            raise error
        return self._read(value_text(recorded)) if self._is_typed else end.get("value")

    @property
    def _is_typed(self) -> bool:
        return self._read is not plain


def literal_condition(task_id: str, key: str, condition: object) -> dict[str, Any]:
    """The definition of a condition in code, whose signals have literal keys.

    Raises:
        TaskValidationError: It is not a condition that a task can wait for.
    """
    from cloaca._tasks.conditions import as_condition

    return as_condition(f"'{key}' of task '{task_id}'", condition)._literal()._to_definition()
