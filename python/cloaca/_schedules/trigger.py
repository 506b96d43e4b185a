"""Triggers: functions that are polled, and decide whether to start a workflow."""

from __future__ import annotations

from cloaca._core import Context
from cloaca._values.duration import seconds_to_us
from cloaca._values.exceptions import ConfigurationError, ScheduleError
from cloaca._workflows.namespace import NAME_HINT, is_workflow_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import timedelta
    from typing import Any, TypeVar

    from cloaca._workflows.workflow import Workflow

    F = TypeVar("F", bound=Callable[..., object])

_DEFAULT_INTERVAL = "30s"
_SPAN = r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*"
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


class TriggerResult:
    """The return value of a trigger: `TriggerResult.skip()` or `TriggerResult.fire(context)`.

    Example:
        >>> cloaca.TriggerResult.fire({"path": "inbox.csv"}).is_fire_result()
        True

    Since 1.0.
    """

    __slots__ = ("_context", "_fires")

    def __init__(self, fires: bool, context: Context | None) -> None:
        """Private: made by `skip` and `fire`."""
        self._fires = fires
        self._context = context

    @staticmethod
    def skip() -> TriggerResult:
        """Do not start the workflow. Since 1.0."""
        return TriggerResult(False, None)

    @staticmethod
    def fire(context: Context | Mapping[str, Any] | None = None) -> TriggerResult:
        """Start the workflow.

        Args:
            context: The initial context of the execution.

        Returns:
            The value that the trigger's function must return.

        Raises:
            TypeError: A value in it is not JSON.

        Since 1.0.
        """
        if context is None or isinstance(context, Context):
            return TriggerResult(True, context)
        return TriggerResult(True, Context(context))

    def is_fire_result(self) -> bool:
        """Whether it starts the workflow. Since 1.0."""
        return self._fires

    def is_skip_result(self) -> bool:
        """Whether it does not start the workflow. Since 1.0."""
        return not self._fires

    @property
    def context(self) -> Context | None:
        """The initial context of the execution. Since 1.0."""
        return self._context

    def __repr__(self) -> str:
        """The decision, and the initial context."""
        if not self._fires:
            return "<TriggerResult Skip>"
        return f"<TriggerResult Fire {self._context!r}>"


def trigger(
    *,
    name: str | None = None,
    on: str | Workflow | None = None,
    poll_interval: str | float | timedelta | None = None,
    cron: str | None = None,
    timezone: str | None = None,
    allow_concurrent: bool = False,
) -> Callable[[F], F]:
    """Register a function that is polled, and starts a workflow when it returns `fire`.

    The function takes no argument and returns a `TriggerResult`; it may be an `async def`. One
    runner at a time calls it. It does not use a worker: a slow trigger does not delay tasks or
    other triggers. An exception is logged and recorded, and the next poll takes place as usual.

    Args:
        name: The trigger's name, the same in every program. Defaults to the function's name.
        on: The workflow to start. Without it, the function is never called, and a warning says so.
        poll_interval: Time between two calls: text such as `"500ms"`, `"30s"` (the default),
            `"5m"`, `"1h"`, or seconds, or a timedelta.
        cron: A cron expression for the times of the calls, instead of `poll_interval`.
        timezone: The IANA time zone of the expression; UTC if omitted.
        allow_concurrent: Whether it starts the workflow while an execution that it started is open.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        ScheduleError: An option is not valid. It is a `ValueError`.

    Example:
        >>> @cloaca.trigger(on="import_file", poll_interval="10s")
        ... def new_file():
        ...     for path in Path("inbox").glob("*.csv"):
        ...         return cloaca.TriggerResult.fire({"path": str(path)})
        ...     return cloaca.TriggerResult.skip()

    Since 1.0.
    """
    if callable(name):
        raise ScheduleError(
            "@cloaca.trigger takes its options in brackets",
            hint="write @cloaca.trigger(on='workflow')",
        )
    if cron is not None and poll_interval is not None:
        raise ScheduleError("poll_interval and cron exclude each other: both say when to poll")
    if cron is None and timezone is not None:
        raise ScheduleError("timezone is the zone of cron, which is not given")
    zone = "UTC" if timezone is None else timezone
    interval_us = None
    if cron is None:
        interval_us = _interval_us(_DEFAULT_INTERVAL if poll_interval is None else poll_interval)
    else:
        from cloaca._schedules.cron import cron_preview

        cron_preview(cron, zone, 1)
    workflow: object = getattr(on, "name", on)
    if workflow is not None and not is_workflow_name(workflow):
        raise ScheduleError(
            f"on must be the name of a workflow, not {workflow!r}",
            hint=NAME_HINT,
        )
    if name is not None:
        _check_name(name)

    def decorate(function: F) -> F:
        from cloaca._tasks.signature import is_coroutine_function
        from cloaca._workflows.registry import registry
        from cloaca._workflows.trigger_definition import TriggerDefinition

        if not callable(function):
            raise ScheduleError(
                f"@cloaca.trigger decorates functions, not {type(function).__name__}"
            )
        own = name if name is not None else getattr(function, "__name__", None)
        if not isinstance(own, str) or own == "<lambda>":
            raise ScheduleError(
                f"{function!r} has no name that could be the trigger's",
                hint="give it one: name='...'",
            )
        if workflow is None:
            from cloaca._observe.logger import logger

            logger().warning(
                "trigger '%s' starts no workflow and is never polled: give it one, on='...'", own
            )
            return function
        assert isinstance(workflow, str)
        registry.add_trigger(
            TriggerDefinition(
                own,
                workflow,
                interval_us,
                None if cron is None else cron.strip(),
                zone,
                bool(allow_concurrent),
                function,
                is_coroutine_function(function),
            )
        )
        return function

    return decorate


def _check_name(name: object) -> None:
    try:
        fits = isinstance(name, str) and 0 < len(name.encode()) <= 255 and "\0" not in name
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise ScheduleError(
            f"a trigger's name must be text of 1 to 255 bytes without NUL, not {name!r}"
        )


def _interval_us(value: str | float | timedelta) -> int:
    if isinstance(value, str):
        import re

        match = re.fullmatch(_SPAN, value)
        if match is None:
            raise ScheduleError(
                f"poll_interval {value[:40]!r} cannot be read",
                hint="write a number with ms, s, m, h or d, like '30s'",
            )
        value = float(match[1]) * _SECONDS[match[2]]
    try:
        return seconds_to_us("poll_interval", value)
    except ConfigurationError as error:
        raise ScheduleError(error.message, hint=error.hint) from None


for _public in (TriggerResult, trigger):
    _public.__module__ = "cloaca"
