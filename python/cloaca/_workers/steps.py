"""Durable steps of a task's function: what `TaskHandle.step` does (semantics T)."""

from __future__ import annotations

from contextvars import ContextVar

from cloaca._core import AnsweredStep, StepLog
from cloaca._tasks.control import AttemptEnded, TaskParked
from cloaca._values.encoding import encode_as
from cloaca._values.exceptions import (
    CaughtParkError,
    CloacaException,
    RunnerClosedError,
    TaskExecutionError,
    TaskValidationError,
    WholeTaskError,
)
from cloaca._workers.step_call import StepCall, check_arguments, check_key
from cloaca._workers.step_children import StepRun, definition_of, input_text, workflow_name
from cloaca._workers.step_values import check_call, decoder, plain, reader
from cloaca._workers.step_waits import EndNow, StepWait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Callable, Generator
    from typing import Any, Protocol

    from cloaca._core import Runner, Work
    from cloaca._retry.policy import RetryPolicy
    from cloaca._workers.step_children import RunOptions

    Read = Callable[[str], Any]

    class Attempt(Protocol):
        """The part of a task's handle that steps need."""

        @property
        def task_id(self) -> str:
            """The task's id."""

        def _check(self) -> None:
            """Raises if the function should stop."""

        def _pause(self, seconds: float) -> None:
            """Sleeps; raises if the function should stop."""


# Rounds of the event loop without an activity before a call leaves the function. Each task of
# asyncio between the function and a call needs up to two.
_ROUNDS = 8

# The coroutines that wait for the engine, by the token of their request.
_answers: dict[int, Future[None]] = {}


def resolve(done: object) -> None:
    """Continues the coroutine that waits for an answer; called on the loop's thread."""
    if not isinstance(done, AnsweredStep):
        return
    future = _answers.pop(done.token, None)
    if future is None or future.done():
        return
    if done.error is None:
        future.set_result(None)
    else:
        future.set_exception(done.error)


class _Activity:
    """A step that runs in a coroutine, or a call that looks for its recorded end."""

    __slots__ = ("waits",)

    def __init__(self) -> None:
        # The number of calls in the step's function that are about to leave. The step waits for
        # them.
        self.waits = 0


# The steps inside whose functions the current coroutine runs.
_enclosing: ContextVar[tuple[_Activity, ...]] = ContextVar("cloaca_steps", default=())


class Steps:
    """The steps of one attempt."""

    __slots__ = (
        "_active",
        "_beside",
        "_changed",
        "_core",
        "_handle",
        "_has_ended",
        "_leaving",
        "_loading",
        "_log",
        "_parked",
        "_work",
    )

    def __init__(self, handle: Attempt, work: Work, core: Runner | None) -> None:
        self._handle = handle
        self._work = work
        self._core = core
        self._log = StepLog()
        self._loading: Future[None] | None = None
        # The exception that leaves the function, once it sleeps or waits.
        self._parked: TaskParked | None = None
        self._has_ended = False
        # The call that is about to leave the function, and calls that it takes along.
        self._leaving: Future[None] | None = None
        self._beside: list[StepRun] = []
        # The coroutines that run a step or look for a recorded end, and the future of a change of
        # them.
        self._active: set[_Activity] = set()
        self._changed: Future[None] | None = None

    def begin(
        self,
        key: str,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        kind: Any,
        policy: RetryPolicy | None,
        is_async: bool,
    ) -> Any:
        """Returns the value of a step, or an awaitable of it in an `async def` task."""
        check_arguments(self._handle.task_id, key, function)
        self._check_parked()
        # Before the first await, so that keys are numbered in the order of the calls.
        name = self._log.key(key)
        read = reader(name, function, kind)
        call = StepCall(name, function, args, kwargs, policy)
        if not is_async:
            return self._run(call, read)
        # A fast path, because a loop may read thousands of recorded steps again.
        recorded = self._log.recorded(name)
        if recorded is None:
            return self._run_async(call, read)
        return self._given(name, recorded, read)

    def _run(self, call: StepCall, read: Read) -> Any:
        core, log = self._core, self._log
        recorded = self._recorded(call.name)
        if recorded is not None:
            check_call(log, call.name, "step")
            return read(recorded)
        started_us = 0 if core is None else core.clock_us
        with _span(call.name):
            returned = self._attempts(call)
        text, value = self._ended(call, returned, read)
        if core is not None:
            _leave_if_lost(
                lambda: core.record_step(self._work, log, None, call.name, "step", started_us, text)
            )
        return value

    def _recorded(self, name: str) -> str | None:
        core, log = self._core, self._log
        self._handle._check()
        if core is not None and not log.loaded:
            _leave_if_lost(lambda: core.load_steps(self._work, log, None))
        return log.recorded(name)

    async def _recorded_async(self, name: str) -> str | None:
        self._handle._check()
        if self._core is not None and not self._log.loaded:
            await self._load(self._core)
        return self._log.recorded(name)

    def _attempts(self, call: StepCall) -> Any:
        """Calls the function, again after failures that the policy of the step retries."""
        attempt = 1
        while True:
            try:
                return call.run()
            except Exception as error:
                delay = call.delay(attempt, error)
                if delay is None:
                    raise
            self._handle._pause(delay)
            attempt += 1

    async def _run_async(self, call: StepCall, read: Read) -> Any:
        # Before the first await, so that no other call leaves the function before this step begins.
        activity = self._begin_activity()
        try:
            recorded = await self._recorded_async(call.name)
            if recorded is not None:
                check_call(self._log, call.name, "step")
                return read(recorded)
            self._check_parked()
            token = _enclosing.set((*_enclosing.get(), activity))
            try:
                return await self._run_and_record(call, read)
            finally:
                _enclosing.reset(token)
        finally:
            self._end_activity(activity)

    async def _given(self, name: str, recorded: str, read: Read) -> Any:
        """Returns the value of a step that was recorded before the call."""
        self._handle._check()
        check_call(self._log, name, "step")
        return read(recorded)

    def _begin_activity(self) -> _Activity:
        activity = _Activity()
        self._active.add(activity)
        return activity

    def _end_activity(self, activity: _Activity) -> None:
        self._active.discard(activity)
        self._note_change()

    def _note_change(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    async def _run_and_record(self, call: StepCall, read: Read) -> Any:
        core, log = self._core, self._log
        started_us = 0 if core is None else core.clock_us
        with _span(call.name):
            returned = await self._attempts_async(call)
        text, value = self._ended(call, returned, read)
        if core is not None:
            token = _leave_if_lost(
                lambda: core.record_step(
                    self._work, log, core.loop_waker, call.name, "step", started_us, text
                )
            )
            await _awaited(_answer(token))
        return value

    async def _attempts_async(self, call: StepCall) -> Any:
        from asyncio import sleep

        attempt = 1
        while True:
            try:
                returned = call.run()
                return await returned if hasattr(returned, "__await__") else returned
            except Exception as error:
                delay = call.delay(attempt, error)
                if delay is None:
                    raise
            await sleep(delay)
            attempt += 1

    def park(
        self,
        call: str,
        key: str,
        condition: dict[str, Any],
        timeout_us: int | None,
        kind: Any,
        is_async: bool,
    ) -> Any:
        """Returns the end of a sleep or a wait that is over; otherwise the function exits."""
        check_key(self._handle.task_id, key)
        self._check_whole(call, key)
        self._check_parked()
        name = self._log.key(key)
        read = plain if kind is None else decoder(name, kind)
        wait = StepWait(call, name, condition, timeout_us, read)
        return self._park_async(wait) if is_async else self._park(wait)

    def run(
        self,
        key: str,
        workflow: object,
        inputs: list[Any],
        options: RunOptions,
        kind: Any,
        is_async: bool,
    ) -> Any:
        """Returns the outputs of children that have ended; otherwise the function exits."""
        task_id = self._handle.task_id
        check_key(task_id, key)
        self._check_whole("run_many" if options.many else "run", key)
        self._check_parked()
        name = self._log.key(key)
        read = plain if kind is None else decoder(name, kind)
        wait = StepRun(name, definition_of(task_id, name, workflow, inputs, options), read)
        return self._park_async(wait) if is_async else self._park(wait)

    def start(self, key: str, workflow: object, given: Any, is_async: bool) -> Any:
        """Starts an execution with the completion of the task."""
        task_id = self._handle.task_id
        check_key(task_id, key)
        self._check_whole("start", key)
        self._check_parked()
        name = self._log.key(key)
        started = workflow_name(task_id, name, workflow)
        text = input_text(task_id, name, started, given)
        if self._core is not None:
            self._work.start(name, started, text)
        return _Started() if is_async else None

    def _park(self, wait: StepWait) -> Any:
        self._recorded(wait.name)
        core, log = self._core, self._log
        recorded = wait.recorded(log)
        if recorded is None and core is not None:
            end = self._ends_now(core, wait)
            if end is not None:
                _leave_if_lost(lambda: end.record(None))
                recorded = end.recorded()
        if recorded is None:
            self._leave(wait)
            return None
        return wait.ended(self._handle.task_id, recorded)

    async def _park_async(self, wait: StepWait) -> Any:
        # So that another call of a `gather`, which finds the log loaded, does not leave without
        # this.
        activity = self._begin_activity()
        try:
            await self._recorded_async(wait.name)
            core = self._core
            recorded = wait.recorded(self._log)
            if recorded is None and core is not None:
                end = self._ends_now(core, wait)
                if end is not None:
                    waker = core.loop_waker
                    await _awaited(_answer(_leave_if_lost(lambda: end.record(waker))))
                    recorded = end.recorded()
        finally:
            self._end_activity(activity)
        if recorded is None:
            await self._leave_together(wait)
            return None
        return wait.ended(self._handle.task_id, recorded)

    def _ends_now(self, core: Runner, wait: StepWait) -> EndNow | None:
        """The end of a wait that may be over already; `None` if it cannot be."""
        work, log = self._work, self._log
        text = wait.over(log)
        if text is not None:
            return EndNow(
                lambda waker: core.record_step(
                    work, log, waker, wait.name, wait.call, core.clock_us, text
                ),
                lambda: wait.recorded_over(log, text),
            )
        if wait.call != "wait":
            return None
        condition = encode_as(f"the condition of {wait.name!r}", wait.condition)
        return EndNow(
            lambda waker: core.end_wait(work, log, waker, wait.name, condition),
            lambda: wait.recorded(log),
        )

    async def _leave_together(self, wait: StepWait) -> None:
        """Leaves the function. Calls that run children at the same time leave it together."""
        from asyncio import get_running_loop

        enclosing = _enclosing.get()
        for activity in enclosing:
            activity.waits += 1
        self._note_change()
        try:
            while self._leaving is not None:
                await self._leave_beside(wait, self._leaving)
            self._leaving = get_running_loop().create_future()
            try:
                await self._settle()
                self._leave(wait)
            finally:
                self._leaving.set_result(None)
                self._leaving = None
        finally:
            for activity in enclosing:
                activity.waits -= 1

    async def _leave_beside(self, wait: StepWait, leaving: Future[None]) -> None:
        """Waits until another call has left the function, and takes this one along if it can.

        If that call was cancelled or failed instead, this one returns, and leaves by itself.
        """
        from asyncio import shield

        if isinstance(wait, StepRun):
            self._beside.append(wait)
        try:
            await shield(leaving)
            self._check_parked()
        finally:
            if isinstance(wait, StepRun):
                self._beside.remove(wait)

    async def _settle(self) -> None:
        """Waits until no other coroutine that the function started can continue.

        Steps are recorded first, because their functions must not be called again. Calls that other
        coroutines make now join this one and leave the function with it. If a step ends for which
        the function waits, the function continues instead.
        """
        from asyncio import get_running_loop, sleep

        rounds = 0
        while rounds < _ROUNDS:
            if any(activity.waits == 0 for activity in self._active):
                self._changed = get_running_loop().create_future()
                try:
                    await self._changed
                finally:
                    self._changed = None
                rounds = 0
            else:
                await sleep(0)
                rounds += 1

    def _leave(self, wait: StepWait) -> None:
        """Leaves the function. Without a runner, a sleep returns at once."""
        if self._core is None:
            if wait.call == "sleep":
                return
            raise TaskValidationError(
                f"task '{self._handle.task_id}' waits for '{wait.name}', and runs without a runner",
                hint="test it with the fixture cloaca_runner",
            )
        if self._has_ended:
            from asyncio import CancelledError

            raise CancelledError  # a coroutine that the function has left behind
        position = wait.reserve(self._core, self._work, self._log)
        runs = wait.runs(self._log)
        if runs is not None and self._beside:
            parts = ",".join(self._part(run) for run in self._beside)
            runs = f'{runs[:-1]},"beside":[{parts}]}}'
        self._parked = TaskParked(
            wait.call,
            wait.name,
            position,
            encode_as(f"the condition of {wait.name!r}", wait.condition),
            wait.timeout_us,
            runs,
        )
        raise self._parked

    def _check_whole(self, call: str, key: str) -> None:
        """Refuses the call in an item of a map: only a whole task can wait or start executions."""
        if self._work.index is not None:
            raise WholeTaskError(
                f"item '{self._handle.task_id}' calls handle.{call}({key!r}), but an item of a map "
                "cannot wait for or start other executions",
                hint="start a child for each element, whose tasks can: cloaca.child(..., over=...)",
            )

    def _part(self, run: StepRun) -> str:
        """A call that leaves the function together with another call, as JSON."""
        assert self._core is not None
        position = run.reserve(self._core, self._work, self._log)
        name = encode_as(f"the key {run.name!r}", run.name)
        return f'{{"key":{name},"position":{position},"runs":{run.runs(self._log)}}}'

    def _check_parked(self) -> None:
        """Refuses calls of a function that is leaving to sleep or wait."""
        if self._parked is not None:
            raise self._parked

    def check_left(self, error: BaseException | None) -> None:
        """Checks, after a function has ended, how it exited.

        Args:
            error: The exception that left it; `None` if it returned.

        Raises:
            CaughtParkError: The function caught the exception by which it leaves to sleep or wait.
        """
        self._has_ended = True
        parked = self._parked
        if parked is None or error is parked:
            return
        if _contains(error, parked):
            raise parked
        if isinstance(error, Exception) and not _follows(error, parked):
            # Another coroutine of a `gather` failed while this one left: that is the outcome.
            return
        raise CaughtParkError(
            f"task '{self._handle.task_id}' caught TaskParked, by which handle.{parked.call}"
            f"({parked.key!r}) leaves the function until its wait ends",
            hint="catch Exception instead of BaseException, and do not return in a finally block",
        ) from error

    async def _load(self, core: Runner) -> None:
        """Reads the recorded steps once; concurrent steps wait for the same answer."""
        from asyncio import shield

        if self._loading is None:
            token = core.load_steps(self._work, self._log, core.loop_waker)
            self._loading = _answer(token)
        await _awaited(shield(self._loading))

    def _ended(self, call: StepCall, returned: Any, read: Read) -> tuple[str, Any]:
        """The text to record, and the value that this and every later attempt gets."""
        if hasattr(returned, "__await__"):
            close = getattr(returned, "close", None)
            if close is not None:
                close()
            raise TaskValidationError(
                f"step '{call.name}' of task '{self._handle.task_id}' returned a coroutine",
                hint="make the task an 'async def', and await handle.step(...) there",
            )
        text = encode_as(f"step {call.name!r}", returned)
        # Read before it is recorded: a value that no attempt can read must not become durable.
        return text, read(text)


def _contains(error: BaseException | None, parked: TaskParked) -> bool:
    """Whether a group of exceptions contains the one that leaves the function."""
    if isinstance(error, BaseExceptionGroup):
        return any(part is parked or _contains(part, parked) for part in error.exceptions)
    return False


def _follows(error: BaseException, parked: TaskParked) -> bool:
    """Whether an exception was raised while the one that leaves the function was handled."""
    seen: set[int] = set()
    pending: list[BaseException | None] = [error]
    while pending:
        each = pending.pop()
        if each is parked:
            return True
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            pending += [each.__cause__, each.__context__]
    return False


def _leave_if_lost(ask: Callable[[], Any]) -> Any:
    """Calls the engine. If the attempt can no longer record steps, the function exits.

    Raises:
        AttemptEnded: The claim is lost, or the runner is shut down. A function that catches every
            `Exception` must not go on with effects that nothing records.
    """
    try:
        return ask()
    except CloacaException as error:
        raise _left(error) from None


async def _awaited(answer: Awaitable[None]) -> None:
    try:
        await answer
    except CloacaException as error:
        raise _left(error) from None


def _left(error: CloacaException) -> BaseException:
    is_lost = isinstance(error, TaskExecutionError) and error.code == "claim_lost"
    if is_lost or isinstance(error, RunnerClosedError):
        return AttemptEnded(error.message)
    return error


def _answer(token: int | None) -> Future[None]:
    """The future of an answer. The loop reads the answers only after this coroutine has yielded."""
    from asyncio import get_running_loop

    assert token is not None  # the call had a waker
    future: Future[None] = get_running_loop().create_future()
    _answers[token] = future
    return future


class _Started:
    """The result of `start` in an `async def` task, where the calls of a handle are awaited."""

    def __await__(self) -> Generator[None, None, None]:
        """Has nothing to wait for."""
        yield from ()


class _NoSpan:
    """Stands for the span of a step if the program has set up no tracing."""

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, *error: object) -> None:
        """Does nothing."""


_no_span = _NoSpan()


def _span(key: str) -> Any:
    from cloaca._workers.attempt_scope import TRACING, modules

    if TRACING not in modules:
        return _no_span
    from cloaca._observe.tracing import step_span, tracer

    found = tracer()
    return _no_span if found is None else step_span(found, key)
