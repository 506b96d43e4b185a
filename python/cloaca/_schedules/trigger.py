"""Triggers: functions that are polled, or called after ends, and may start a workflow."""

from __future__ import annotations

from cloaca._values.duration import seconds_to_us
from cloaca._values.exceptions import ConfigurationError, ScheduleError
from cloaca._values.inputs import context_of
from cloaca._workflows.namespace import NAME_HINT, is_workflow_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta
    from typing import Any, TypeVar

    from cloaca._core import Context
    from cloaca._tasks.parameters import Parameter
    from cloaca._values.inputs import Input
    from cloaca._workflows.workflow import Workflow

    F = TypeVar("F", bound=Callable[..., object])

_DEFAULT_INTERVAL = "30s"
# The states in which executions end.
_FINAL = ("Completed", "Failed", "Cancelled")
_SPAN = r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*"
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


class TriggerResult:
    """The return value of a trigger: `skip()`, `fire(context)` or `fire_many([(context, key), …])`.

    Example:
        >>> cloaca.TriggerResult.fire({"path": "inbox.csv"}).is_fire_result()
        True

    Since 1.0.
    """

    __slots__ = ("_context", "_fires", "_many", "_state")

    def __init__(
        self,
        fires: bool,
        context: Context | None,
        many: list[tuple[Context | None, str | None]] | None = None,
        state: object = None,
    ) -> None:
        """Private: made by `skip`, `fire` and `fire_many`."""
        self._fires = fires
        self._context = context
        self._many = many
        self._state: str | None = None
        if state is not None:
            from cloaca._values.encoding import encode_as

            self._state = encode_as("the state of a trigger", state)

    @staticmethod
    def skip(*, state: object = None) -> TriggerResult:
        """Do not start the workflow.

        Args:
            state: The state to keep; the earlier one if omitted. The function gets it in the next
                call, if it has a parameter `state`.

        Returns:
            The value that the trigger's function must return.

        Raises:
            TypeError: The state is not JSON.

        Since 1.0.
        """
        return TriggerResult(False, None, state=state)

    @staticmethod
    def fire_many(
        fires: Iterable[tuple[Input | None, str | None]], *, state: object = None
    ) -> TriggerResult:
        """Start the workflow several times.

        The executions and the new state are committed together: after a crash, the function is
        called again with the state that matches the started executions.

        Args:
            fires: Pairs of an initial context and a key. A key makes the start idempotent: nothing
                is started if an execution of the workflow has it. `None` means no key.
            state: The state to keep; the earlier one if omitted.

        Returns:
            The value that the trigger's function must return.

        Raises:
            TypeError: A value is not JSON, or an entry is not a pair.

        Example:
            >>> @cloaca.trigger(on="import_row", poll_interval="10s")
            ... def new_rows(state):
            ...     rows = database.rows_after(state or 0)
            ...     last = max([row.id for row in rows], default=state)
            ...     fires = [({"row": row.id}, f"row-{row.id}") for row in rows]
            ...     return cloaca.TriggerResult.fire_many(fires, state=last)

        Since 1.0.
        """
        many = []
        entry: Any
        for entry in fires:
            if not isinstance(entry, (tuple, list)) or len(entry) != 2:
                raise TypeError(f"fire_many takes pairs of a context and a key, not {entry!r}")
            context, key = entry
            if key is not None and not (isinstance(key, str) and 0 < len(key) <= 512):
                raise TypeError(f"a key must be text of 1 to 512 characters, not {key!r}")
            many.append((context_of(context), key))
        return TriggerResult(bool(many), None, many, state)

    @staticmethod
    def fire(context: Input | None = None, *, state: object = None) -> TriggerResult:
        """Start the workflow.

        Args:
            context: The initial context of the execution. It is validated when the function
                returns, if the workflow declares `input=`.
            state: The state to keep; the earlier one if omitted.

        Returns:
            The value that the trigger's function must return.

        Raises:
            TypeError: A value in it is not JSON.

        Since 1.0.
        """
        return TriggerResult(True, context_of(context), state=state)

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
        if self._many is not None:
            return f"<TriggerResult Fire {len(self._many)} times>"
        return f"<TriggerResult Fire {self._context!r}>"


def trigger(
    *,
    name: str | None = None,
    on: str | Workflow | None = None,
    poll_interval: str | float | timedelta | None = None,
    cron: str | None = None,
    timezone: str | None = None,
    allow_concurrent: bool = False,
    after: str | Workflow | None = None,
    status: str | Iterable[str] | None = None,
) -> Callable[[F], F]:
    """Register a function that is polled, and starts a workflow when it returns `fire`.

    The function takes no argument, or one named `state`: the state that it last returned with
    `state=`, at first `None`. It returns a `TriggerResult`, and may be an `async def`. One runner
    at a time calls it. It does not use a worker: a slow trigger does not delay tasks or other
    triggers. An exception is logged and recorded, and the next poll takes place as usual.

    Args:
        name: The trigger's name, the same in every program. Defaults to the function's name.
        on: The workflow to start. Without it, the function is never called, and a warning says so.
        poll_interval: Time between two calls: text such as `"500ms"`, `"30s"` (the default),
            `"5m"`, `"1h"`, or seconds, or a timedelta.
        cron: A cron expression for the times of the calls, instead of `poll_interval`.
        timezone: The IANA time zone of the expression; UTC if omitted.
        allow_concurrent: Whether it starts the workflow while an execution that it started is open.
            With `after` it always does.
        after: A workflow: the function is called once for each end of its executions instead of
            being polled. It may take the `WorkflowResult` of the ended execution as its argument.
            The end is stored with the execution, by whichever program ends it, so that none is
            lost; after an exception the function is called again, at most 10 times.
        status: The final states that count with `after`: `"Completed"` (the default), `"Failed"`,
            `"Cancelled"`, or several of them.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        ScheduleError: An option is not valid. The error is a `ValueError`.

    Example:
        >>> @cloaca.trigger(on="import_file", poll_interval="10s")
        ... def new_file():
        ...     for path in Path("inbox").glob("*.csv"):
        ...         return cloaca.TriggerResult.fire({"path": str(path)})
        ...     return cloaca.TriggerResult.skip()
        >>> @cloaca.trigger(after="extract", status="Completed", on="load")
        ... def load_next(ended: cloaca.WorkflowResult):
        ...     return cloaca.TriggerResult.fire({"rows": ended.output})

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
    follows = _after(after, status, cron is not None or poll_interval is not None)
    interval_us = None
    if follows is not None:
        pass
    elif cron is None:
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
        from cloaca._tasks.parameters import is_coroutine_function
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
                any(parameter.name == "state" for parameter in _parameters(function, own)),
                follows,
                None if follows is None else _result_parameter(function, own),
            )
        )
        return function

    return decorate


def _parameters(function: Callable[..., object], name: str) -> tuple[Parameter, ...]:
    """The parameters of a trigger's function; none if they cannot be read."""
    from cloaca._tasks.parameters import read_signature
    from cloaca._values.exceptions import TaskValidationError

    try:
        return read_signature(function, name).parameters
    except TaskValidationError:
        return ()


def _after(after: object, status: object, is_polled: bool) -> tuple[str, list[str]] | None:
    """The workflow and the final states that a trigger follows; `None` if it is polled."""
    if after is None:
        if status is not None:
            raise ScheduleError("status selects the ends of `after`, which is not given")
        return None
    if is_polled:
        raise ScheduleError(
            "a trigger with after= is not polled: poll_interval and cron do not go with it"
        )
    workflow: object = getattr(after, "name", after)
    if not isinstance(workflow, str) or not is_workflow_name(workflow):
        raise ScheduleError(
            f"after must be the name of a workflow, not {workflow!r}", hint=NAME_HINT
        )
    given: Any = "Completed" if status is None else status
    words = [given] if isinstance(given, str) else list(given)
    statuses: list[str] = []
    for word in words:
        if word not in _FINAL:
            raise ScheduleError(
                f"status must be 'Completed', 'Failed' or 'Cancelled', not {word!r}"
            )
        if str(word) not in statuses:
            statuses.append(str(word))
    if not statuses:
        raise ScheduleError("status names no state: name one, or leave it out")
    return workflow, statuses


def _result_parameter(function: Callable[..., object], name: str) -> str | None:
    """The parameter that receives the ended execution; `None` if there is none."""
    from cloaca._tasks.parameters import MISSING

    others = [
        parameter
        for parameter in _parameters(function, name)
        if parameter.name != "state" and parameter.is_single
    ]
    needed = [parameter for parameter in others if parameter.default is MISSING]
    if len(needed) > 1:
        raise ScheduleError(
            f"the function of trigger '{name}' has the parameters "
            f"{', '.join(parameter.name for parameter in needed)}; it can take the ended "
            "execution and `state`"
        )
    return needed[0].name if needed else None


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
