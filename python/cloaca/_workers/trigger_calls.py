"""Calls the functions of triggers, each on its own thread, so that they do not delay each other."""

from __future__ import annotations

import threading

from cloaca._values.database_text import storable
from cloaca._values.type_name import type_name
from cloaca._workers.outcome import message_of
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloaca._core import Context, Poll
    from cloaca._executions.result import WorkflowResult
    from cloaca._schedules.trigger import TriggerResult
    from cloaca._workers.event_loop import LoopThread
    from cloaca._workflows.trigger_definition import TriggerDefinition

# Maximum number of characters of an error's text that are reported to the engine.
_MAX_ERROR = 4096

# The last logged error of each trigger. The same error is logged again only after a success or a
# different error.
_logged: dict[str, str] = {}


def start_poll(poll: Poll, loop: Callable[[], LoopThread | None]) -> None:
    """Calls a trigger's function on a separate thread, and reports each result to the engine.

    Args:
        poll: The requested call, or one call for each of several ended executions.
        loop: A function that returns the event loop's thread, for coroutine functions.
    """
    threading.Thread(
        target=_poll,
        args=(poll, loop, registry.trigger(poll.handler)),
        name="cloaca-trigger",
        daemon=True,
    ).start()


def _poll(poll: Poll, loop: Callable[[], LoopThread | None], trigger: TriggerDefinition) -> None:
    executions = poll.executions
    if executions is None:
        _report(poll, loop, trigger, poll.state, None)
        return
    from cloaca._executions.result import WorkflowResult

    state = poll.state
    try:
        for execution_id in executions:
            try:
                ended = poll.execution(execution_id)
            except BaseException as error:
                _report_error(poll, trigger, error)
                continue
            if ended is None:
                poll.end("skip")
            else:
                state = _report(poll, loop, trigger, state, WorkflowResult(ended))
    finally:
        poll.end_all()


def _report(
    poll: Poll,
    loop: Callable[[], LoopThread | None],
    trigger: TriggerDefinition,
    state: object,
    ended: WorkflowResult | None,
) -> object:
    """Calls the function and reports its result. Returns the state for the next call."""
    try:
        result, contexts = _call(trigger, loop, state, ended)
        _logged.pop(trigger.name, None)
        if result._many is not None or result._state is not None:
            poll.end_many(contexts, result._state)
        elif not contexts:
            poll.end("skip")
        else:
            poll.end("fire", contexts[0][0])
    except BaseException as error:
        _report_error(poll, trigger, error)
        return state
    if result._state is None:
        return state
    from json import loads

    return loads(result._state)


def _report_error(poll: Poll, trigger: TriggerDefinition, error: BaseException) -> None:
    text = storable(f"{type_name(type(error))}: {message_of(error)}")
    # Reports the error before logging it, because no runner calls the function again until the
    # error is reported.
    poll.end("failed", None, text[:_MAX_ERROR])
    if _logged.get(trigger.name) != text:
        _logged[trigger.name] = text
        _log(trigger, error)


def _call(
    trigger: TriggerDefinition,
    loop: Callable[[], LoopThread | None],
    state: object,
    ended: WorkflowResult | None,
) -> tuple[TriggerResult, list[tuple[Context, str | None]]]:
    """Returns the function's result, and the contexts and keys of the executions to start."""
    from cloaca._core import Context
    from cloaca._schedules.trigger import TriggerResult

    arguments: dict[str, object] = {"state": state} if trigger.takes_state else {}
    if trigger.result_parameter is not None:
        arguments[trigger.result_parameter] = ended
    result: Any = trigger.function(**arguments)
    if hasattr(result, "__await__"):
        thread = loop()
        if thread is None:
            import asyncio

            result = asyncio.run(_awaited(result))
        else:
            result = thread.run(_awaited(result))
    if not isinstance(result, TriggerResult):
        raise TypeError(
            f"the function of trigger '{trigger.name}' returned a value of type "
            f"'{type(result).__qualname__}'; it must return TriggerResult.skip() or "
            "TriggerResult.fire(context)"
        )
    if result.is_skip_result():
        return result, []
    workflow = registry.workflow(trigger.workflow)
    fires = [(result.context, None)] if result._many is None else result._many
    if workflow is not None and workflow._input is not None:
        what = f"the input that trigger '{trigger.name}' gives workflow '{trigger.workflow}'"
        given = workflow._input
        return result, [(given.validate(context, what), key) for context, key in fires]
    return result, [(Context() if context is None else context, key) for context, key in fires]


async def _awaited(result: Any) -> Any:
    return await result


def _log(trigger: TriggerDefinition, error: BaseException) -> None:
    from cloaca._observe.logger import logger

    logger().error(
        "trigger '%s' failed with %s: %s",
        trigger.name,
        type(error).__name__,
        message_of(error),
        exc_info=error,
        extra={"trigger": trigger.name, "workflow": trigger.workflow},
    )
