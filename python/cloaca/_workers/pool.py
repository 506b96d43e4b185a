"""The threads that run functions: each takes a task, runs it, and reports its outcome."""

from __future__ import annotations

import threading

from cloaca._values.exceptions import ForkedProcessError, TaskTimeoutError
from cloaca._workers.attempt_scope import TRACING, current, modules
from cloaca._workers.outcome import COMPLETED, message_of, of_exception, of_return, of_value
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cloaca._core import Context, Outcome, Runner, Work
    from cloaca._tasks.call import Call
    from cloaca._tasks.definition import TaskDefinition
    from cloaca._workers.attempt_scope import AttemptScope
    from cloaca._workers.task_handle import TaskHandle


class WorkerPool:
    """The worker threads of a runner."""

    def __init__(self, core: Runner, scope: AttemptScope) -> None:
        self._core = core
        self._scope = scope
        # No lock protects the dictionary, because a finalizer that shuts the runner down calls
        # `join`, and may run on any thread at any time. Each operation on the dictionary is atomic.
        self._workers: dict[int, _Worker] = {}
        self._last = 0

    def start_worker(self) -> None:
        """Starts a worker thread. Only the supervisor calls this method."""
        self._last += 1
        worker = _Worker(self._core, self._scope, self._last, self._forget)
        self._workers[worker.number] = worker
        try:
            worker.start()
        except BaseException:
            self._forget(worker)
            raise

    def interrupt(self, number: int) -> None:
        """Raises `TaskTimeoutError` in the function that a worker runs, if Python can do so.

        The engine has already given the slot to another worker, and the interrupted worker ends
        after its task. So a late exception cannot hit another task.
        """
        worker = self._workers.get(number)
        if worker is not None:
            worker.interrupt()

    def join(self, timeout: float) -> None:
        """Waits for the threads to end, at most `timeout` seconds in all."""
        from time import monotonic

        until = monotonic() + timeout
        for worker in list(self._workers.values()):
            thread = worker.thread
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(max(until - monotonic(), 0))

    def _forget(self, worker: _Worker) -> None:
        self._workers.pop(worker.number, None)


class _Worker:
    """One worker thread."""

    def __init__(
        self,
        core: Runner,
        scope: AttemptScope,
        number: int,
        forget: Callable[[_Worker], None],
    ) -> None:
        self.number = number
        self._core = core
        self._scope = scope
        self._forget = forget
        self._lock = threading.Lock()
        self._ended = False
        self.thread = threading.Thread(
            target=self._run, name=f"cloaca-worker-{number}", daemon=True
        )
        # `cloaca.testing` uses this attribute to find the workers that use a virtual clock.
        self.thread.cloaca_core = core  # type: ignore[attr-defined]

    def start(self) -> None:
        self.thread.start()

    def interrupt(self) -> None:
        from ctypes import c_ulong, py_object, pythonapi

        # The thread cannot end while the lock is held, so no other thread has its `ident`.
        with self._lock:
            if not self._ended and self.thread.ident is not None:
                pythonapi.PyThreadState_SetAsyncExc(
                    c_ulong(self.thread.ident), py_object(TaskTimeoutError)
                )

    def _run(self) -> None:
        try:
            self._work()
        except TaskTimeoutError:
            pass  # the interrupt arrived between two attempts
        finally:
            self._end()

    def _work(self) -> None:
        core, scope, number = self._core, self._scope, self.number
        work = core.next_work(number)
        while work is not None:
            try:
                while work is not None:
                    if work.callback:
                        call_back(work)
                        work = core.next_work(number)
                    else:
                        work = core.finish_and_next(number, work, attempt(work, scope))
            except TaskTimeoutError:
                # The interrupt arrived after the function had returned. Another thread has the
                # slot, so this thread ends.
                if work is not None:
                    core.interrupted(work)
                return
            except ForkedProcessError:
                raise
            except BaseException as error:
                # For example, the function has set a trace function that raises an exception.
                assert work is not None
                work = core.finish_and_next(number, work, of_exception(error))

    def _end(self) -> None:
        # If a late interrupt arrives during these calls, they are repeated.
        for _ in range(2):
            try:
                with self._lock:
                    self._ended = True
                self._forget(self)
            except TaskTimeoutError:
                continue
            return


def attempt(work: Work, scope: AttemptScope) -> Outcome:
    """Runs a task's function, and returns its outcome."""
    # The variable is not reset, because it belongs to the thread, whose next attempt sets it again.
    current.set(work)
    if not scope.capture_logs and TRACING not in modules:
        return outcome_of(work, scope)
    with scope.watch(work) as watch:
        outcome = outcome_of(work, scope)
        watch.note(outcome)
    return outcome


def outcome_of(work: Work, scope: AttemptScope) -> Outcome:
    """Runs a task's function without tracing and log capture, and returns its outcome."""
    try:
        task = registry.task(work.handler)
        context = work.context
        call, function = task.call, task.function
        assert call is not None
        assert function is not None
        if call.is_plain:
            returned = function(context)
        else:
            returned = invoke(function, call, work, context, scope)
            if call.result_key is not None:
                return of_value(context, call, returned)
        if returned is None or returned is context:
            context._settle()
            return COMPLETED
        return of_return(context, returned)
    except BaseException as error:
        return of_exception(error)


def invoke(
    function: Callable[..., Any], call: Call, work: Work, context: Context, scope: AttemptScope
) -> Any:
    """Calls a task's function with its arguments."""
    from cloaca._workers.arguments import arguments

    handle = handle_of(call, work, scope)
    positional, named = arguments(call, work, context, handle, scope.resource)
    if handle is None:
        return function(*positional, **named)
    return handle._run(function, positional, named)


def handle_of(call: Call, work: Work, scope: AttemptScope) -> TaskHandle | None:
    """Returns the handle of an attempt; `None` if the function does not take it."""
    if not call.wants_handle:
        return None
    from cloaca._workers.task_handle import TaskHandle

    return TaskHandle(work, call.is_async, scope.core)


def call_back(work: Work) -> None:
    """Calls a callback on a worker thread, and logs its exception."""
    task = registry.task(work.handler)
    current.set(work)
    try:
        called = start_callback(task, work)
        if hasattr(called, "__await__"):
            import asyncio

            asyncio.run(_awaited(called))
    except BaseException as error:
        log_callback(task, work, error)
    finally:
        work.end_callback()


def start_callback(task: TaskDefinition, work: Work) -> Any:
    """Calls `on_success` or `on_failure`."""
    error = work.error
    if error is None:
        function = task.options.on_success
        return None if function is None else function(work.task_id, work.context)
    function = task.options.on_failure
    return None if function is None else function(work.task_id, error, work.context)


def log_callback(task: TaskDefinition, work: Work, error: BaseException) -> None:
    """Logs the exception of a callback."""
    from cloaca._observe.logger import logger

    name = "on_success" if work.error is None else "on_failure"
    logger().error(
        "%s of task '%s' of workflow '%s' raised %s [execution %s]",
        name,
        task.id,
        work.workflow_name,
        f"{type(error).__name__}: {message_of(error)}".removesuffix(": "),
        work.execution_id,
        exc_info=error,
        extra={
            "workflow": work.workflow_name,
            "task": task.id,
            "task_id": task.id,
            "execution_id": work.execution_id,
        },
    )


async def _awaited(called: Any) -> None:
    await called
