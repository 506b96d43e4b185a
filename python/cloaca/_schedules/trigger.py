"""Triggers: functions that may start a workflow when they are called.

A runner calls them at intervals (it polls them), or after executions of another workflow end.
"""

from __future__ import annotations

from cloaca._values.arguments import check_flag, suggests_arguments
from cloaca._values.duration import duration_to_us
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


class TriggerResult:
    """The return value of a trigger's function.

    It is made by `skip()`, `fire(context)` or `fire_many([(context, key), …])`.

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
        """Private: use `skip`, `fire` or `fire_many`."""
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
            state: The state to store. The next call of the function receives it, if the function
                has a parameter `state`. If omitted, the stored state does not change.

        Returns:
            The value that the trigger's function must return.

        Raises:
            TypeError: The state is not JSON.

        Example:
            >>> cloaca.TriggerResult.skip().is_skip_result()
            True

        Since 1.0.
        """
        return TriggerResult(False, None, state=state)

    @staticmethod
    def fire_many(
        fires: Iterable[tuple[Input | None, str | None]], *, state: object = None
    ) -> TriggerResult:
        """Start the workflow several times.

        One transaction stores the executions and the new state. If the process crashes, the next
        call of the function therefore receives a state that matches the started executions.

        Args:
            fires: Pairs of an initial context and a key. A key makes the start idempotent: nothing
                is started if an execution of the workflow has the key. `None` means no key.
            state: The state to store. If omitted, the stored state does not change.

        Returns:
            The value that the trigger's function must return.

        Raises:
            TypeError: A value is not JSON, an entry is not a pair, or a key is not text of 1 to 512
                characters.

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
            context: The initial context of the execution. If the workflow declares `input=`, the
                context is validated when the function returns.
            state: The state to store. If omitted, the stored state does not change.

        Returns:
            The value that the trigger's function must return.

        Raises:
            TypeError: A value in the context or the state is not JSON.

        Example:
            >>> cloaca.TriggerResult.fire({"path": "inbox.csv"}, state="inbox.csv")

        Since 1.0.
        """
        return TriggerResult(True, context_of(context), state=state)

    def is_fire_result(self) -> bool:
        """Return whether the result starts the workflow.

        Example:
            >>> cloaca.TriggerResult.fire().is_fire_result()
            True

        Since 1.0.
        """
        return self._fires

    def is_skip_result(self) -> bool:
        """Return whether the result does not start the workflow.

        Example:
            >>> cloaca.TriggerResult.fire().is_skip_result()
            False

        Since 1.0.
        """
        return not self._fires

    @property
    def context(self) -> Context | None:
        """The initial context of the execution, or `None`. Since 1.0."""
        return self._context

    def __eq__(self, other: object) -> bool:
        """Return whether both have the same effect."""
        if not isinstance(other, TriggerResult):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in TriggerResult.__slots__)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the decision, and the initial context."""
        if not self._fires:
            return "<TriggerResult Skip>"
        if self._many is not None:
            return f"<TriggerResult Fire {len(self._many)} times>"
        return f"<TriggerResult Fire {self._context!r}>"


@suggests_arguments
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
    """Register a function that can start a workflow.

    Runners call the function at intervals, or, with `after`, when executions of another workflow
    have ended. The function returns a `TriggerResult`. It may take an argument named `state`: the
    state that it last returned with `state=`, or `None` if it has not returned a state yet.
    The function may be an `async def`. One runner at a time calls the function. The call does not
    occupy a worker, so a slow trigger does not delay tasks or other triggers. If the function
    raises an exception, the exception is logged and recorded, and the next call takes place as
    usual.

    Args:
        name: The trigger's name. Every program that defines this trigger must use the same name.
            Defaults to the function's name.
        on: The workflow to start. If omitted, the function is never called, and a warning is
            logged.
        poll_interval: Time between two calls: a string such as `"500ms"`, `"30s"` (the default),
            `"5m"`, `"1h"`, or seconds, or a timedelta.
        cron: A cron expression for the times of the calls, instead of `poll_interval`.
        timezone: The IANA time zone of the expression; UTC if omitted.
        allow_concurrent: Whether the trigger starts the workflow while an execution that it started
            earlier is open. With `after` this is always allowed.
        after: A workflow. The function is called once for each execution of this workflow that
            ends, and not at intervals. The function may also take the `WorkflowResult` of the ended
            execution as an argument. The transaction that ends the execution also records it for
            the trigger, so no ended execution is missed. After an exception the function is called
            again, until it has been called 10 times for this execution.
        status: The final states for which `after` calls the function: `"Completed"` (the default),
            `"Failed"`, `"Cancelled"`, or several of them.

    Returns:
        A decorator that returns the function unchanged.

    Raises:
        ScheduleError: An option is not valid, or the function has a parameter for which it receives
            no value. The error is a `ValueError`.

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
            "@cloaca.trigger takes its options in parentheses",
            hint="write @cloaca.trigger(on='workflow')",
        )
    if cron is not None and poll_interval is not None:
        raise ScheduleError("poll_interval and cron exclude each other: both set the poll times")
    if cron is None and timezone is not None:
        raise ScheduleError("timezone is the zone of cron=, but cron= is not given")
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
    check_flag("allow_concurrent", allow_concurrent, ScheduleError)

    def decorate(function: F) -> F:
        from cloaca._tasks.parameters import call_problem, is_coroutine_function
        from cloaca._workflows.registry import registry
        from cloaca._workflows.trigger_definition import TriggerDefinition

        if not callable(function):
            raise ScheduleError(
                f"@cloaca.trigger decorates functions, not {type(function).__name__}"
            )
        own = name if name is not None else getattr(function, "__name__", None)
        if not isinstance(own, str) or own == "<lambda>":
            raise ScheduleError(
                f"{function!r} has no name that the trigger could take",
                hint="pass a name for the trigger: name='...'",
            )
        if workflow is None:
            import warnings

            from cloaca._observe.logger import logger

            text = (
                f"trigger '{own}' starts no workflow and is never polled; hint: pass on='workflow'"
            )
            logger().warning("%s", text)
            warnings.warn(text, UserWarning, stacklevel=2)
            return function
        assert isinstance(workflow, str)
        takes_state = any(parameter.name == "state" for parameter in _parameters(function, own))
        result = None if follows is None else _result_parameter(function, own)
        named = (("state",) if takes_state else ()) + (() if result is None else (result,))
        problem = call_problem(function, named=named)
        if problem is not None:
            raise ScheduleError(
                f"the function of trigger '{own}': {problem}",
                hint="it can take `state` and, with after=, the ended execution, both by name",
            )
        registry.add_trigger(
            TriggerDefinition(
                own,
                workflow,
                interval_us,
                None if cron is None else cron.strip(),
                zone,
                allow_concurrent,
                function,
                is_coroutine_function(function),
                takes_state,
                follows,
                result,
            )
        )
        return function

    return decorate


def _parameters(function: Callable[..., object], name: str) -> tuple[Parameter, ...]:
    """Returns the parameters of a trigger's function; an empty tuple if they cannot be read."""
    from cloaca._tasks.parameters import read_signature
    from cloaca._values.exceptions import TaskValidationError

    try:
        return read_signature(function, name).parameters
    except TaskValidationError:
        return ()


def _after(after: object, status: object, is_polled: bool) -> tuple[str, list[str]] | None:
    """Returns the workflow that `after=` names, and the final states; `None` without `after=`.

    Raises:
        ScheduleError: An option is not valid, or two options exclude each other.
    """
    if after is None:
        if status is not None:
            raise ScheduleError("status selects final states for after=, but after= is not given")
        return None
    if is_polled:
        raise ScheduleError(
            "a trigger with after= is not polled, so it takes neither poll_interval nor cron"
        )
    workflow: object = getattr(after, "name", after)
    if not isinstance(workflow, str) or not is_workflow_name(workflow):
        raise ScheduleError(
            f"after must be the name of a workflow, not {workflow!r}", hint=NAME_HINT
        )
    given: Any = "Completed" if status is None else status
    words = [given] if isinstance(given, str) or not hasattr(given, "__iter__") else list(given)
    statuses: list[str] = []
    for word in words:
        if word not in _FINAL:
            raise ScheduleError(
                f"status must be 'Completed', 'Failed' or 'Cancelled', not {word!r}"
            )
        if str(word) not in statuses:
            statuses.append(str(word))
    if not statuses:
        raise ScheduleError("status names no state", hint="name at least one state, or omit status")
    return workflow, statuses


def _result_parameter(function: Callable[..., object], name: str) -> str | None:
    """Returns the parameter that receives the ended execution; `None` if there is none.

    Raises:
        ScheduleError: Several parameters could receive it.
    """
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
            f"{', '.join(parameter.name for parameter in needed)}, but only one parameter can "
            "receive the ended execution",
            hint="take only the ended execution and `state`, or give the others defaults",
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
    try:
        return duration_to_us("poll_interval", value)
    except ConfigurationError as error:
        raise ScheduleError(error.message, hint=error.hint) from None


for _public in (TriggerResult, trigger):
    _public.__module__ = "cloaca"
