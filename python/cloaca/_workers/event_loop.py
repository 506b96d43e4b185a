"""The thread that runs `async def` tasks on an event loop, many at a time."""

from __future__ import annotations

import threading

from cloaca._values.exceptions import TaskInputError
from cloaca._workers.attempt_scope import TRACING, current, modules
from cloaca._workers.loop_watch import LoopWatch
from cloaca._workers.outcome import COMPLETED, message_of, of_exception, of_return, of_value
from cloaca._workers.pool import handle_of, log_callback, start_callback
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Task
    from collections.abc import Callable, Coroutine
    from typing import Any

    from cloaca._core import Context, Outcome, Runner, Work
    from cloaca._tasks.call import Call
    from cloaca._workers.arguments import Arguments
    from cloaca._workers.attempt_scope import AttemptScope

# Maximum number of tasks to take from the engine before the loop runs other callbacks.
_BATCH = 256
# Shortest and longest pause between two attempts to create a loop, in seconds.
_FIRST_PAUSE = 0.05
_LAST_PAUSE = 1.0


class LoopThread:
    """An event loop on a separate thread. It takes tasks when the engine's waker is readable."""

    def __init__(self, core: Runner, scope: AttemptScope) -> None:
        self._core = core
        self._scope = scope
        self._waker = core.loop_waker
        self._loop: AbstractEventLoop | None = None
        self._running: dict[int, tuple[Work, Task[None]]] = {}
        self._callbacks: set[Task[None]] = set()
        self._watch: LoopWatch | None = None
        # The tasks for which a warning was logged because they blocked the loop, by workflow and
        # id.
        self._warned: set[tuple[str, str]] = set()
        self._started = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cloaca-loop", daemon=True)
        # Marks the thread, so that the package refuses blocking calls on it.
        self._thread.cloaca_runs_coroutines = True  # type: ignore[attr-defined]

    @property
    def core(self) -> Runner:
        """The engine whose tasks the thread runs."""
        return self._core

    def make_loop(self) -> AbstractEventLoop:
        """Makes the loop; `cloaca.testing` replaces this method to use a virtual clock."""
        import asyncio

        return asyncio.new_event_loop()

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Cancels the running tasks and ends the thread, waiting at most `timeout` seconds."""
        self._closing.set()
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
        except RuntimeError:
            return  # the loop was closed in the meantime
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Runs a coroutine on the loop, and waits on the calling thread for its result."""
        import asyncio

        self._started.wait()
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._closing.is_set():
            try:
                self._serve()
                pause = _FIRST_PAUSE
            except BaseException as error:
                # For example, the process may have no file descriptor left for a loop.
                if pause == _FIRST_PAUSE:
                    _warn("the event loop failed (%s) and is replaced", error)
                self._closing.wait(pause)
                pause = min(2 * pause, _LAST_PAUSE)

    def _serve(self) -> None:
        """Runs one loop until the runner ends, or until the loop fails."""
        import asyncio

        loop = self.make_loop()
        try:
            asyncio.set_event_loop(loop)
            loop.add_reader(self._waker.fileno(), self._on_readable)
            # Handles work and cancellation notices that arrived before the reader was added.
            loop.call_soon(self._on_readable)
            if LoopThread.make_loop is _make_loop:  # a loop with a virtual clock is not watched
                self._watch = LoopWatch(loop, lambda: self._running, self._warned)
            self._loop = loop
            self._started.set()
            while not self._closing.is_set():
                try:
                    loop.run_forever()
                except (SystemExit, KeyboardInterrupt) as error:
                    # An asyncio task or callback that a task started has raised `error`. The other
                    # tasks continue.
                    _warn("a coroutine stopped the event loop (%s); the loop continues", error)
        finally:
            watch, self._watch = self._watch, None
            if watch is not None:
                watch.close()
            self._end(loop)

    def _end(self, loop: AbstractEventLoop) -> None:
        """Ends a loop. Its running tasks fail."""
        try:
            if self._closing.is_set():
                loop.run_until_complete(_cancel_all(loop, self._waker.fileno()))
                if self._scope.has_resources:
                    loop.run_until_complete(self._scope.resources().close_async())
                loop.run_until_complete(loop.shutdown_asyncgens())
        except BaseException as error:
            _warn("the event loop did not shut down cleanly (%s)", error)
        left, self._running = self._running, {}
        for work, _ in left.values():
            self._core.finish_async(work, of_exception(RuntimeError("the event loop has ended")))
        self._callbacks.clear()
        if self._scope.has_resources:
            self._scope.resources().forget(loop)
        loop.close()

    def _on_readable(self) -> None:
        core = self._core
        answers = self._waker.completed()  # also clears the waker
        if answers:
            # Imported here, because most programs take no steps.
            from cloaca._workers.steps import resolve

            for done in answers:
                resolve(done)
        while batch := core.take_async(_BATCH):
            for work in batch:
                self._begin(work)
            if self._watch is not None:
                self._watch.wake()
        for notice in core.async_notices():
            if notice.token in self._running:
                work, running = self._running[notice.token]
                # A coroutine that is cancelled before it has begun cannot report its outcome.
                running.add_done_callback(self._report_cancelled(work))
                running.cancel()

    def _begin(self, work: Work) -> None:
        assert self._loop is not None
        if work.callback:
            callback = self._loop.create_task(_call_back(work))
            self._callbacks.add(callback)
            callback.add_done_callback(self._callbacks.discard)
            return
        self._running[work.token] = (work, self._loop.create_task(self._attempt(work)))

    def _report_cancelled(self, work: Work) -> Callable[[object], None]:
        from asyncio import CancelledError

        return lambda _: self._report(work, of_exception(CancelledError()))

    async def _attempt(self, work: Work) -> None:
        try:
            outcome = await _attempt(work, self._scope)
        except BaseException as error:
            outcome = of_exception(error)
        self._report(work, outcome)

    def _report(self, work: Work, outcome: Outcome) -> None:
        """Reports the outcome of a task, once."""
        if self._running.pop(work.token, None) is None:
            return
        try:
            self._core.finish_async(work, outcome)
        except BaseException as error:
            self._core.finish_async(work, of_exception(error))


_make_loop = LoopThread.make_loop


async def _cancel_all(loop: AbstractEventLoop, descriptor: int) -> None:
    """Cancels all tasks of a loop. From now on, the loop takes no new tasks."""
    import asyncio

    loop.remove_reader(descriptor)
    left = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in left:
        task.cancel()
    if left:
        # A coroutine that swallows its cancellation must not delay the shutdown by more than 1 s.
        await asyncio.wait(left, timeout=1)


def _warn(message: str, error: BaseException) -> None:
    try:
        from cloaca._observe.logger import logger

        logger().warning(message, f"{type(error).__name__}: {message_of(error)}")
    except BaseException:
        return  # a log handler has raised an exception


async def _attempt(work: Work, scope: AttemptScope) -> Outcome:
    """Runs a task's coroutine function, with tracing and log capture."""
    current.set(work)
    if not scope.capture_logs and TRACING not in modules:
        return await _outcome_of(work, scope)
    with scope.watch(work) as watch:
        outcome = await _outcome_of(work, scope)
        watch.note(outcome)
    return outcome


async def _outcome_of(work: Work, scope: AttemptScope) -> Outcome:
    """Runs a task's coroutine function, and returns its outcome.

    A cancelled coroutine is reported as failed. The engine distinguishes a cancellation that it
    requested from one that the task's own code caused.
    """
    try:
        task = registry.task(work.handler)
        context = work.context
        call, function = task.call, task.function
        assert call is not None
        assert function is not None
        returned = await (
            function(context) if call.is_plain else _called(function, call, work, context, scope)
        )
        if call.result_key is not None:
            return of_value(context, call, returned)
        if returned is None or returned is context:
            context._settle()
            return COMPLETED
        return of_return(context, returned)
    except BaseException as error:
        return of_exception(error)


async def _called(
    function: Callable[..., Any], call: Call, work: Work, context: Context, scope: AttemptScope
) -> Any:
    """Calls a task's coroutine function with its arguments."""
    from cloaca._workers.arguments import arguments

    made: dict[str, object] = {}
    for source in call.sources:
        if source.marker is not None:
            made[source.parameter] = await scope.resources().get_async(source.marker)
    handle = handle_of(call, work, scope)

    def read(asks: bool) -> Arguments:
        return arguments(
            call, work, context, handle, lambda source: made[source.parameter], asks=asks
        )

    try:
        found = read(False)
    except TaskInputError:
        found = None
    if found is None:
        import asyncio

        # The complete error may ask the database, which must not block the loop. It is raised
        # outside the `except` block, so that its traceback does not show the first error too.
        found = await asyncio.to_thread(read, True)
    positional, named = found
    if handle is None:
        return await function(*positional, **named)
    return await handle._run_async(function, positional, named)


async def _call_back(work: Work) -> None:
    """Calls a callback.

    A coroutine function runs on the loop. Any other function runs on a thread, so that it cannot
    block the loop.
    """
    import asyncio

    from cloaca._tasks.parameters import is_coroutine_function

    current.set(work)
    task = registry.task(work.handler)
    function: Any = task.options.on_success if work.error is None else task.options.on_failure
    try:
        if function is not None and is_coroutine_function(function):
            await start_callback(task, work)
        else:
            await asyncio.to_thread(start_callback, task, work)
    except BaseException as error:
        log_callback(task, work, error)
    finally:
        work.end_callback()
