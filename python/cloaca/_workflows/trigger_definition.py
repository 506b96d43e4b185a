"""A trigger of this process: its workflow, the times of its polls, and its function."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class TriggerDefinition:
    """A trigger that this process defines."""

    __slots__ = (
        "after",
        "allow_concurrent",
        "expression",
        "function",
        "interval_us",
        "is_async",
        "name",
        "result_parameter",
        "takes_state",
        "timezone",
        "workflow",
    )

    def __init__(
        self,
        name: str,
        workflow: str,
        interval_us: int | None,
        expression: str | None,
        timezone: str,
        allow_concurrent: bool,
        function: Callable[..., object],
        is_async: bool,
        takes_state: bool = False,
        after: tuple[str, list[str]] | None = None,
        result_parameter: str | None = None,
    ) -> None:
        self.name = name
        self.workflow = workflow
        self.interval_us = interval_us
        self.expression = expression
        self.timezone = timezone
        self.allow_concurrent = allow_concurrent
        self.function = function
        self.is_async = is_async
        # Whether the function has a parameter `state`.
        self.takes_state = takes_state
        # For a function that is called after executions of another workflow: that workflow, and the
        # final states of these executions. `None` if the trigger is polled.
        self.after = after
        # The name of the parameter that receives the ended execution, if there is one.
        self.result_parameter = result_parameter
