"""Submits and waits for executions on an event loop, without a thread per waiter."""

from __future__ import annotations

import threading

from cloaca._core import AnsweredStep, AnsweredSubmission, LoopWaker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from typing import Any
    from weakref import WeakKeyDictionary

    from cloaca._core import Execution, Runner, SubmitRequest, Submitted


class Waiters:
    """The coroutines that wait for executions of one runner.

    Each event loop has one waker, which serves any number of coroutines.
    """

    def __init__(self, core: Runner) -> None:
        self._core = core
        # Reentrant, because a finalizer may shut the runner down while this thread holds the lock.
        self._lock = threading.RLock()
        # Created for the first coroutine that waits.
        self._by_loop: WeakKeyDictionary[AbstractEventLoop, _LoopWaiters] | None = None

    async def wait(self, execution_id: str) -> Execution:
        """Wait for the end of an execution, and return the execution.

        Raises:
            RunnerClosedError: The runner was shut down during the wait.
        """
        return await self._of_running_loop().wait(execution_id)

    async def submit(self, requests: list[SubmitRequest]) -> list[Submitted]:
        """Submit executions, all or none. They are durable when the method returns.

        Raises:
            CloacaException: The engine refused the submission, or the runner was shut down.
        """
        return await self._of_running_loop().submit(requests)

    def _of_running_loop(self) -> _LoopWaiters:
        import asyncio

        loop = asyncio.get_running_loop()
        with self._lock:
            if self._by_loop is None:
                from weakref import WeakKeyDictionary

                self._by_loop = WeakKeyDictionary()
            waiters = self._by_loop.get(loop)
            if waiters is None:
                waiters = self._by_loop[loop] = _LoopWaiters(self._core, loop)
        return waiters

    def close(self) -> None:
        """Notify the waiting coroutines of the shutdown, and remove the wakers from the loops."""
        with self._lock:
            by_loop, self._by_loop = self._by_loop, None
        for loop, waiters in list(by_loop.items() if by_loop else ()):
            try:
                loop.call_soon_threadsafe(waiters.close, loop)
            except RuntimeError:
                continue  # the loop and its selector are closed


class _LoopWaiters:
    """The waiting coroutines of one loop. Only the loop's thread uses this object."""

    def __init__(self, core: Runner, loop: AbstractEventLoop) -> None:
        self._core = core
        self._futures: dict[int, Future[Any]] = {}
        self._waker = LoopWaker()
        loop.add_reader(self._waker.fileno(), self._on_readable)

    async def wait(self, execution_id: str) -> Execution:
        import asyncio

        future: Future[Execution] = asyncio.get_running_loop().create_future()
        # The future can be stored after this call: the loop reads the waker only after this
        # coroutine has yielded.
        token = self._core.subscribe(self._waker, execution_id)
        self._futures[token] = future
        try:
            return await future
        finally:
            if self._futures.pop(token, None) is not None:
                self._core.unsubscribe(token)

    async def submit(self, requests: list[SubmitRequest]) -> list[Submitted]:
        import asyncio

        future: Future[list[Submitted]] = asyncio.get_running_loop().create_future()
        token = self._core.begin_submit(self._waker, requests)
        self._futures[token] = future
        try:
            return await future
        finally:
            self._futures.pop(token, None)

    def close(self, loop: AbstractEventLoop) -> None:
        self._on_readable()
        loop.remove_reader(self._waker.fileno())
        self._waker.close()

    def _on_readable(self) -> None:
        from cloaca._values.exceptions import RunnerClosedError

        for done in self._waker.completed():
            future = self._futures.pop(done.token, None)
            if future is None or future.done():
                continue
            if isinstance(done, AnsweredSubmission):
                if done.error is None:
                    future.set_result(done.submitted)
                else:
                    future.set_exception(done.error)
            elif isinstance(done, AnsweredStep):
                continue  # answers to steps belong to the event loop of the runner's tasks
            elif done.execution is None:
                future.set_exception(
                    RunnerClosedError(
                        "the runner was shut down during the wait for the execution",
                        hint="the execution continues in another runner: use get_handle there",
                    )
                )
            else:
                future.set_result(done.execution)
