"""Calls the functions of triggers, each on its own thread, so that none waits for another."""

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
    from cloaca._workers.event_loop import LoopThread
    from cloaca._workflows.trigger_definition import TriggerDefinition

_MAX_ERROR = 4096

# The last error of each trigger that was logged: the same one is logged again only after a success.
_logged: dict[str, str] = {}


def start_poll(poll: Poll, loop: Callable[[], LoopThread | None]) -> None:
    """Calls a trigger's function on a thread of its own, and reports its result to the engine.

    Args:
        poll: The call that the engine requests.
        loop: Returns the event loop's thread, for coroutine functions.
    """
    threading.Thread(
        target=_poll,
        args=(poll, loop, registry.trigger(poll.handler)),
        name="cloaca-trigger",
        daemon=True,
    ).start()


def _poll(poll: Poll, loop: Callable[[], LoopThread | None], trigger: TriggerDefinition) -> None:
    try:
        context = _call(trigger, loop)
        _logged.pop(trigger.name, None)
        if context is None:
            poll.end("skip")
        else:
            poll.end("fire", context)
    except BaseException as error:
        text = storable(f"{type_name(type(error))}: {message_of(error)}")
        # Reported first: until then, no runner calls the function again.
        poll.end("failed", None, text[:_MAX_ERROR])
        if _logged.get(trigger.name) != text:
            _logged[trigger.name] = text
            _log(trigger, error)


def _call(trigger: TriggerDefinition, loop: Callable[[], LoopThread | None]) -> Context | None:
    """Returns the context of the execution to start; `None` if there is none to start."""
    from cloaca._core import Context
    from cloaca._schedules.trigger import TriggerResult

    result: Any = trigger.function()
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
        return None
    return Context() if result.context is None else result.context


async def _awaited(result: Any) -> Any:
    return await result


def _log(trigger: TriggerDefinition, error: BaseException) -> None:
    from cloaca._observe.logger import logger

    logger().error(
        "the function of trigger '%s' raised %s: %s",
        trigger.name,
        type(error).__name__,
        message_of(error),
        exc_info=error,
        extra={"trigger": trigger.name, "workflow": trigger.workflow},
    )
