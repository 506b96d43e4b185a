"""The thread that runs `async def` tasks on an event loop, many at a time."""

from __future__ import annotations

import threading

from cloaca._attempt_scope import TRACING, current, modules
from cloaca._outcome import COMPLETED, of_exception, of_return
from cloaca._worker import invoke, log_callback, start_callback
from cloaca._workflow_registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Coroutine
    from typing import Any

    from cloaca._attempt_scope import AttemptScope
    from cloaca._core import Outcome, Runner, Work

# What is taken from the engine before the loop gets a turn.
_BATCH = 256


class LoopThread:
    """One event loop on a thread of its own. It takes tasks when the engine's port is readable."""

    def __init__(self, core: Runner, scope: AttemptScope) -> None:
        self._core = core
        self._scope = scope
        self._port = core.loop_port
        self._loop: AbstractEventLoop | None = None
        self._running: dict[int, Task[None]] = {}
        self._callbacks: set[Task[None]] = set()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cloaca-loop", daemon=True)

    @property
    def core(self) -> Runner:
        """The engine that it works for."""
        return self._core

    def make_loop(self) -> AbstractEventLoop:
        """The loop to run on; tests put one with a clock of their own here."""
        import asyncio

        return asyncio.new_event_loop()

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Cancels what still runs and ends the thread, waiting at most so many seconds."""
        self._started.wait(timeout)
        if self._loop is not None and not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._loop.stop)
            except RuntimeError:
                return  # it was closed in between
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine on the loop, for a thread that waits for its result."""
        import asyncio

        self._started.wait()
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _run(self) -> None:
        import asyncio

        loop = self.make_loop()
        asyncio.set_event_loop(loop)
        self._loop = loop
        loop.add_reader(self._port.fileno(), self._on_readable)
        # What arrived before the reader was there.
        loop.call_soon(self._on_readable)
        loop.call_soon(self._started.set)
        try:
            loop.run_forever()
        finally:
            loop.remove_reader(self._port.fileno())
            loop.run_until_complete(self._cancel_all())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

    async def _cancel_all(self) -> None:
        import asyncio

        left = {*self._running.values(), *self._callbacks}
        for task in left:
            task.cancel()
        if left:
            # A coroutine that swallows its cancellation must not hold up the end.
            await asyncio.wait(left, timeout=1)

    def _on_readable(self) -> None:
        core = self._core
        self._port.completed()  # makes it unreadable
        while batch := core.take_async(_BATCH):
            for work in batch:
                self._begin(work)
        for _, token in core.async_notices():
            task = self._running.get(token)
            if task is not None:
                task.cancel()

    def _begin(self, work: Work) -> None:
        assert self._loop is not None
        if work.callback:
            callback = self._loop.create_task(_call_back(work))
            self._callbacks.add(callback)
            callback.add_done_callback(self._callbacks.discard)
            return
        token = work.token
        self._running[token] = self._loop.create_task(self._attempt(work, token))

    async def _attempt(self, work: Work, token: int) -> None:
        outcome = await _attempt(work, self._scope)
        self._running.pop(token, None)
        self._core.finish_async(work, outcome)


async def _attempt(work: Work, scope: AttemptScope) -> Outcome:
    """Runs a coroutine in the context of its own asyncio task."""
    current.set(work)
    if not scope.capture_logs and TRACING not in modules:
        return await _outcome_of(work, scope.core)
    with scope.watch(work) as watch:
        outcome = await _outcome_of(work, scope.core)
        watch.note(outcome)
    return outcome


async def _outcome_of(work: Work, core: Runner) -> Outcome:
    """Runs a coroutine to its outcome.

    A cancelled one fails; the engine knows whether it asked for that.
    """
    try:
        task = registry.task(work.handler)
        context = work.context
        call, function = task.call, task.function
        assert call is not None
        assert function is not None
        returned = await invoke(function, call, work, context, core)
        if returned is None or returned is context:
            return COMPLETED
        return of_return(context, returned)
    except BaseException as error:
        return of_exception(error)


async def _call_back(work: Work) -> None:
    """Makes a callback.

    A coroutine function on the loop, any other on a thread, so that it cannot block the loop.
    """
    import asyncio

    from cloaca._signature import is_coroutine_function

    task = registry.task(work.handler)
    function: Any = task.options.on_success if work.error is None else task.options.on_failure
    try:
        if function is not None and is_coroutine_function(function):
            await start_callback(task, work)
        else:
            await asyncio.to_thread(start_callback, task, work)
    except BaseException as error:
        log_callback(task, work, error)
