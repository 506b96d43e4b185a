"""The options of a task that waits before it runs."""

from __future__ import annotations

from cloaca._tasks.conditions import as_condition
from cloaca._values.duration import duration_to_us
from cloaca._values.exceptions import TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta
    from typing import Any

    from cloaca._tasks.conditions import Condition

# The consequences of a timeout or a rejection.
_ENDS = ("fail", "skip", "continue")


class WaitOptions:
    """The validated options of a wait. `approval` and `child` are in the engine's form."""

    __slots__ = ("approval", "child", "condition", "data", "is_node", "on_timeout", "timeout_us")

    def __init__(
        self,
        condition: Condition | None,
        timeout_us: int | None,
        on_timeout: str,
        *,
        is_node: bool = False,
        approval: dict[str, Any] | None = None,
        child: dict[str, Any] | None = None,
    ) -> None:
        self.condition = condition
        self.timeout_us = timeout_us
        self.on_timeout = on_timeout
        self.is_node = is_node
        self.approval = approval
        self.child = child
        #: The model of an approval's data, if the approval declares one.
        self.data: Any = None

    @property
    def signals(self) -> tuple[str, ...]:
        """The names of the signals whose data the function's parameters can receive.

        Empty for a node, which has no function.
        """
        return () if self.condition is None or self.is_node else self.condition.signals

    def to_definition(self) -> dict[str, Any]:
        """Return the options in the form that the engine reads."""
        data: dict[str, Any] = {}
        if self.condition is not None:
            data["wait_for"] = self.condition._to_definition()
        if self.timeout_us is not None:
            data["wait_timeout"] = self.timeout_us
        if self.on_timeout != "fail":
            data["on_timeout"] = self.on_timeout
        if self.approval is not None:
            data["approval"] = self.approval
        if self.child is not None:
            data["child"] = self.child
        return data


def end_of(option: str, value: object) -> str:
    """Checks the consequence of a timeout or a rejection, and returns it.

    Raises:
        TaskValidationError: The value is not `fail`, `skip` or `continue`.
    """
    if value not in _ENDS:
        raise TaskValidationError(f"{option} must be 'fail', 'skip' or 'continue', not {value!r}")
    return str(value)


def wait_timeout(
    option: str, value: float | timedelta | str | None, *, zero: bool = False
) -> int | None:
    """Returns a timeout in whole microseconds; `None` and `math.inf` mean no limit.

    Args:
        option: The name of the option, for the error message.
        value: The timeout: seconds, a timedelta, or text.
        zero: Whether zero is allowed.

    Raises:
        ConfigurationError: The value is not a duration, is negative, or is zero and `zero` is
            false.
    """
    if value is None or value == float("inf"):
        return None
    return duration_to_us(option, value, zero=zero, endless=True)


def read_wait(wait_for: object, timeout: Any, on_timeout: object) -> WaitOptions | None:
    """Validates the options of a wait, and returns them; `None` for a task that does not wait.

    Raises:
        TaskValidationError: `wait_for` or `on_timeout` is not valid, or `wait_for` is missing.
        ConfigurationError: `wait_timeout` is not a duration greater than 0.
    """
    if wait_for is None:
        for option, value in (("wait_timeout", timeout), ("on_timeout", on_timeout)):
            if value is not None:
                raise TaskValidationError(f"{option} is given without wait_for")
        return None
    return WaitOptions(
        as_condition("wait_for", wait_for),
        wait_timeout("wait_timeout", timeout),
        "fail" if on_timeout is None else end_of("on_timeout", on_timeout),
    )
