"""Implements the methods of `TaskHandle` that record durable steps (semantics T).

A call that must sleep or wait *interrupts the function*: it raises `TaskParked`, which ends the
function and frees the worker. When the wait is over, the function is called again.
"""

from __future__ import annotations

from contextvars import ContextVar
from time import monotonic

from cloaca._core import AnsweredStep, StepLog
from cloaca._tasks.control import AttemptEnded, TaskParked
from cloaca._values.encoding import SCALARS, encode_as
from cloaca._values.exceptions import (
    CaughtParkError,
    CloacaException,
    RunnerClosedError,
    TaskExecutionError,
    TaskValidationError,
    WholeTaskError,
)
from cloaca._workers.attempt_scope import TRACING, modules
from cloaca._workers.departure import Departure, contains, follows
from cloaca._workers.step_call import StepCall, check_arguments, check_key, check_policy
from cloaca._workers.step_children import StepRun, definition_of, input_text, workflow_name
from cloaca._workers.step_values import (
    input_decoder,
    output_decoder,
    plain,
    reader,
    recorded_by,
    text_by,
    text_of,
)
from cloaca._workers.step_waits import EndNow, StepWait

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future
    from collections.abc import Awaitable, Callable, Generator
    from typing import Any, Protocol

    from cloaca._core import Runner, Work
    from cloaca._retry.policy import RetryPolicy
    from cloaca._workers.step_children import RunOptions

    Read = Callable[[str], Any]

    class Attempt(Protocol):
        """The attributes of a task's handle that steps use."""

        @property
        def task_id(self) -> str:
            """The task's id."""

        _deadline: float | None

        def is_cancelled(self) -> bool:
            """Returns whether the execution was cancelled, or the claim is lost."""

        def _check(self) -> None:
            """Raises an error if the function should stop."""

        def _pause(self, seconds: float) -> None:
            """Sleeps; raises an error if the function should stop."""


# The number of consecutive event-loop rounds in which every `_Activity` must be blocked before a
# call interrupts the function. If the function started the call in nested asyncio tasks, each level
# of nesting takes up to two rounds.
_ROUNDS = 8

# The coroutines that wait for the engine, by the token of their request.
_answers: dict[int, Future[None]] = {}


def resolve(done: object) -> None:
    """Resumes the coroutine that waits for an answer. The loop's thread calls this function."""
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
    """A running step of a coroutine, or a sleep, wait or run call that reads its outcome."""

    __slots__ = ("waits",)

    def __init__(self) -> None:
        # The number of calls inside the step's function that are about to interrupt the task's
        # function. While it is not zero, the step waits for these calls.
        self.waits = 0


# The steps whose functions enclose the current call.
_enclosing: ContextVar[tuple[_Activity, ...]] = ContextVar("cloaca_steps", default=())


class Steps:
    """The steps of one attempt."""

    __slots__ = (
        "_active",
        "_beside",
        "_changed",
        "_core",
        "_departure",
        "_handle",
        "_has_ended",
        "_interrupting",
        "_loaders",
        "_loading",
        "_log",
        "_running_loop",
        "_work",
    )

    def __init__(self, handle: Attempt, work: Work, core: Runner | None) -> None:
        self._handle = handle
        self._work = work
        self._core = core
        self._log = StepLog()
        # The answer with the recorded steps, if it was requested, and a future for each step that
        # waits for the answer.
        self._loading: Future[None] | None = None
        self._loaders: list[Future[None]] = []
        # `asyncio.get_running_loop`, once a coroutine has made a call.
        self._running_loop: Callable[[], AbstractEventLoop] | None = None
        # The exception with which a call has interrupted the function, if a call has.
        self._departure: Departure | None = None
        self._has_ended = False
        # A future for the call that is about to interrupt the function, resolved when the call has
        # done so or failed. `None` if there is no such call.
        self._interrupting: Future[None] | None = None
        # Other calls that run children. The interrupting call also starts their children.
        self._beside: list[StepRun] = []
        # The activities of the function, and a future that is resolved when they change.
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
        """Returns the value of a step; in an `async def` task, an awaitable of the value."""
        if self._departure is not None:
            self._check_not_interrupted("step", key, is_async)
        handle, log = self._handle, self._log
        was_loaded = log.loaded
        # A task function may replay thousands of recorded steps, so a recorded key is not checked
        # if it is ASCII.
        may_replay = was_loaded and type(key) is str and key.isascii() and callable(function)
        if not may_replay:
            check_arguments(handle.task_id, key, function)
        if policy is not None:
            check_policy(handle.task_id, key, policy)
        # Takes the key before the first await, so that keys are numbered in the order of the calls.
        name, recorded = log.replay(key)
        if recorded is not None and not is_async:
            self._check_attempt()
            return reader(name, function, kind)(text_by(recorded, name, "step"))
        if may_replay:
            check_arguments(handle.task_id, key, function)
        read = reader(name, function, kind)
        if is_async and recorded is not None:
            return self._given(name, recorded, read)
        call = StepCall(name, function, args, kwargs, policy)
        if is_async:
            return self._run_async(call, read, was_loaded)
        if was_loaded:
            self._check_attempt()
            return self._run(call, read)
        self._load_once()
        text = recorded_by(log, name, "step")
        return self._run(call, read) if text is None else read(text)

    def _run(self, call: StepCall, read: Read) -> Any:
        core = self._core
        started_us = 0 if core is None else core.clock_us
        if TRACING in modules:
            with _span(call.name):
                returned = self._attempts(call)
        else:
            returned = self._attempts(call)
        text, value = self._ended(call, returned, read)
        if core is not None:
            try:
                core.record_step(self._work, self._log, None, call.name, "step", started_us, text)
            except CloacaException as error:
                raise _converted(error) from None
        return value

    def _check_attempt(self) -> None:
        """Ends the function if its result would be dropped.

        Raises:
            AttemptEnded: The execution was cancelled, or the claim is lost.
            TaskTimeoutError: The task has overrun its timeout.
        """
        handle = self._handle
        if handle.is_cancelled():
            raise AttemptEnded(f"task '{handle.task_id}' was cancelled, or lost its claim")
        if handle._deadline is not None and monotonic() >= handle._deadline:
            handle._check()

    def _load_once(self) -> None:
        """Reads the recorded steps, unless they were read already."""
        core, log = self._core, self._log
        self._check_attempt()
        if core is not None and not log.loaded:
            _end_if_lost(lambda: core.load_steps(self._work, log, None))

    async def _load_once_async(self) -> None:
        self._check_attempt()
        if self._core is not None and not self._log.loaded:
            await self._load(self._core)

    def _attempts(self, call: StepCall) -> Any:
        """Calls the step's function until it succeeds or its policy allows no further retry."""
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

    async def _run_async(self, call: StepCall, read: Read, is_new: bool) -> Any:
        """Runs a step. `is_new` says that no earlier attempt has recorded the step."""
        # Begins the activity before the first await, so that no other call interrupts the function
        # before this step begins.
        activity = self._begin_activity()
        try:
            if is_new:
                self._check_attempt()
            else:
                await self._load_once_async()
                recorded = recorded_by(self._log, call.name, "step")
                if recorded is not None:
                    return read(recorded)
            self._check_parked()
            token = _enclosing.set((*_enclosing.get(), activity))
            try:
                return await self._run_and_record(call, read)
            finally:
                _enclosing.reset(token)
        finally:
            self._end_activity(activity)

    async def _given(self, name: str, recorded: tuple[str, str], read: Read) -> Any:
        """Returns the value of a step that an earlier attempt recorded."""
        self._check_attempt()
        return read(text_by(recorded, name, "step"))

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
        if TRACING in modules:
            with _span(call.name):
                returned = await self._attempts_async(call)
        else:
            returned = await self._attempts_async(call)
        text, value = self._ended(call, returned, read)
        if core is not None:
            waker = core.loop_waker
            try:
                await self._answer(
                    core.record_step(self._work, log, waker, call.name, "step", started_us, text)
                )
            except CloacaException as error:
                raise _converted(error) from None
        return value

    async def _attempts_async(self, call: StepCall) -> Any:
        attempt = 1
        while True:
            try:
                returned = call.run()
                return await returned if hasattr(returned, "__await__") else returned
            except Exception as error:
                delay = call.delay(attempt, error)
                if delay is None:
                    raise
            from asyncio import sleep

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
        """Returns the outcome of a sleep or a wait if it is over; else interrupts the function."""
        check_key(self._handle.task_id, key)
        self._check_whole(call, key)
        self._check_not_interrupted(call, key, is_async)
        name = self._log.key(key)
        read = plain if kind is None else input_decoder("wait", name, kind)
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
        """Returns the outputs of the children if all have ended; else interrupts the function."""
        task_id = self._handle.task_id
        check_key(task_id, key)
        call = "run_many" if options.many else "run"
        self._check_whole(call, key)
        self._check_not_interrupted(call, key, is_async)
        name = self._log.key(key)
        if kind is None:
            read = output_decoder(call, name, workflow)
        else:
            read = input_decoder(call, name, kind)
        wait = StepRun(name, definition_of(task_id, name, workflow, inputs, options), read)
        return self._park_async(wait) if is_async else self._park(wait)

    def start(self, key: str, workflow: object, given: Any, is_async: bool) -> Any:
        """Requests an execution. The transaction that completes the task will submit it."""
        task_id = self._handle.task_id
        check_key(task_id, key)
        self._check_whole("start", key)
        self._check_not_interrupted("start", key, is_async)
        name = self._log.key(key)
        started = workflow_name(task_id, name, workflow)
        text = input_text(task_id, name, started, given)
        if self._core is not None:
            self._work.start(name, started, text)
        return _Started() if is_async else None

    def _park(self, wait: StepWait) -> Any:
        self._load_once()
        core, log = self._core, self._log
        recorded = wait.recorded(log)
        if recorded is None and core is not None:
            end = self._ends_now(core, wait)
            if end is not None:
                _end_if_lost(lambda: end.record(None))
                recorded = end.recorded()
        if recorded is None:
            self._interrupt(wait, is_async=False)
            return None
        return wait.ended(self._handle.task_id, recorded)

    async def _park_async(self, wait: StepWait) -> Any:
        # Begins the activity before the first await. Otherwise another call of the same `gather`,
        # which finds the log already loaded, could interrupt the function without this call.
        activity = self._begin_activity()
        try:
            await self._load_once_async()
            core = self._core
            recorded = wait.recorded(self._log)
            if recorded is None and core is not None:
                end = self._ends_now(core, wait)
                if end is not None:
                    waker = core.loop_waker
                    await _awaited(self._answer(_end_if_lost(lambda: end.record(waker))))
                    recorded = end.recorded()
        finally:
            self._end_activity(activity)
        if recorded is None:
            await self._interrupt_together(wait)
            return None
        return wait.ended(self._handle.task_id, recorded)

    def _ends_now(self, core: Runner, wait: StepWait) -> EndNow | None:
        """Return the calls that record and read the end of a wait; `None` if it cannot be over."""
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

    async def _interrupt_together(self, wait: StepWait) -> None:
        """Interrupts the function. If other calls run children, starts their children too."""
        from asyncio import get_running_loop

        enclosing = _enclosing.get()
        for activity in enclosing:
            activity.waits += 1
        self._note_change()
        try:
            while self._interrupting is not None:
                await self._wait_for_interruption(wait, self._interrupting)
            self._interrupting = get_running_loop().create_future()
            try:
                await self._settle()
                self._interrupt(wait, is_async=True)
            finally:
                self._interrupting.set_result(None)
                self._interrupting = None
        finally:
            for activity in enclosing:
                activity.waits -= 1

    async def _wait_for_interruption(self, wait: StepWait, interrupting: Future[None]) -> None:
        """Waits until another call has interrupted the function, and raises its exception.

        If this call runs children, the other call also starts them. If the other call fails or is
        cancelled, this method returns, and this call then interrupts the function itself.
        """
        from asyncio import shield

        if isinstance(wait, StepRun):
            self._beside.append(wait)
        try:
            await shield(interrupting)
            self._check_parked()
        finally:
            if isinstance(wait, StepRun):
                self._beside.remove(wait)

    async def _settle(self) -> None:
        """Waits until no other coroutine that the function started can continue.

        Running steps are recorded first, because their functions must not be called again. If a
        coroutine awaits a running step, it continues when the step ends. If a coroutine
        meanwhile makes a call that runs children, `_interrupt` starts them too.
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

    def _interrupt(self, wait: StepWait, is_async: bool) -> None:
        """Interrupts the function. Without a runner, a sleep returns, a wait raises an error."""
        if self._core is None:
            if wait.call == "sleep":
                return
            raise TaskValidationError(
                f"task '{self._handle.task_id}' waits for '{wait.name}', but runs without a runner",
                hint="test it with the fixture cloaca_runner",
            )
        if self._has_ended:
            from asyncio import CancelledError

            raise CancelledError  # the function has ended, but this coroutine still runs
        beside = list(self._beside)
        if beside and not isinstance(wait, StepRun):
            # Children are started before the function sleeps or waits: a child may send the signal
            # for which the function waits.
            wait = beside.pop(0)
        position = wait.reserve(self._core, self._work, self._log)
        runs = wait.runs(self._log)
        if runs is not None and beside:
            parts = ",".join(self._part(run) for run in beside)
            runs = f'{runs[:-1]},"beside":[{parts}]}}'
        parked = TaskParked(
            wait.call,
            wait.name,
            position,
            encode_as(f"the condition of {wait.name!r}", wait.condition),
            wait.timeout_us,
            runs,
        )
        self._departure = Departure(parked, is_async)
        raise parked

    def _check_whole(self, call: str, key: str) -> None:
        """Refuses a call in an item of a map: only whole tasks can wait or start executions."""
        if self._work.index is not None:
            raise WholeTaskError(
                f"item '{self._handle.task_id}' calls handle.{call}({key!r}), but an item of a map "
                "cannot wait, and cannot start other executions",
                hint="start a child for each element with cloaca.child(..., over=...)",
            )

    def _part(self, run: StepRun) -> str:
        """Return the JSON of a call whose children another call starts."""
        assert self._core is not None
        position = run.reserve(self._core, self._work, self._log)
        name = encode_as(f"the key {run.name!r}", run.name)
        return f'{{"key":{name},"position":{position},"runs":{run.runs(self._log)}}}'

    def _check_parked(self) -> None:
        """Raises the exception of another call, if that call has interrupted the function."""
        if self._departure is not None:
            raise self._departure.parked

    def _check_not_interrupted(self, call: str, key: str, is_async: bool) -> None:
        """Refuses a further call on the handle after a call has interrupted the function.

        Raises:
            CaughtParkError: The function caught the exception that interrupted it, and continued.
            TaskParked: The function has not caught the exception, but has not ended yet.
        """
        departure = self._departure
        if departure is None:
            return
        if departure.is_caught(is_async):
            then = f"handle.{call}({key!r})"
            raise departure.error(self._handle.task_id, then) from departure.parked
        raise departure.parked

    def check_end(self, error: BaseException | None) -> None:
        """Checks that an interrupted function has ended with the exception that interrupted it.

        Args:
            error: The exception that the function raised; `None` if it returned.

        Raises:
            CaughtParkError: The function caught the exception that interrupted it.
            TaskParked: The function raised a group that contains the exception.
        """
        self._has_ended = True
        departure = self._departure
        if departure is None or error is departure.parked or isinstance(error, CaughtParkError):
            return
        if contains(error, departure.parked):
            raise departure.parked
        if isinstance(error, Exception) and not follows(error, departure.parked):
            # Another coroutine of a `gather` failed after the interruption. The attempt ends with
            # that failure.
            return
        raise departure.error(self._handle.task_id) from error

    async def load_early(self) -> None:
        """Reads the steps that earlier attempts recorded, before the task's function begins.

        If the function then makes thousands of calls at once, they need not wait for the answer.
        An error is ignored, because the first call reads the steps again and raises it.
        """
        if self._core is None:
            return
        try:
            await self._load(self._core)
        except (AttemptEnded, CloacaException):
            self._loading = None

    async def _load(self, core: Runner) -> None:
        """Reads the recorded steps once. Concurrent steps wait for the same answer."""
        if self._loading is None:
            self._loading = self._answer(core.load_steps(self._work, self._log, core.loop_waker))
            self._loading.add_done_callback(self._end_loading)
        if not self._loading.done():
            # Thousands of steps may wait. A future for each is faster than `asyncio.shield`, and a
            # step that is cancelled does not cancel the others either.
            waiting = self._loading.get_loop().create_future()
            self._loaders.append(waiting)
            await waiting
        try:
            self._loading.result()
        except CloacaException as error:
            raise _converted(error) from None

    def _end_loading(self, loading: Future[None]) -> None:
        loading.exception()  # if every step was cancelled, asyncio would log this exception
        waiting, self._loaders = self._loaders, []
        for future in waiting:
            if not future.done():
                future.set_result(None)

    def _answer(self, token: int | None) -> Future[None]:
        """Returns the future of an answer.

        The answer cannot arrive before the future is registered, because the loop reads answers
        only after this coroutine has yielded.
        """
        assert token is not None  # the request was made with a waker
        running_loop = self._running_loop
        if running_loop is None:
            from asyncio import get_running_loop

            running_loop = self._running_loop = get_running_loop
        future: Future[None] = running_loop().create_future()
        _answers[token] = future
        return future

    def _ended(self, call: StepCall, returned: Any, read: Read) -> tuple[str, Any]:
        """Return the JSON to record, and the value that this and every later attempt receives."""
        is_scalar = type(returned) in SCALARS
        if not is_scalar and hasattr(returned, "__await__"):
            close = getattr(returned, "close", None)
            if close is not None:
                close()
            raise TaskValidationError(
                f"step '{call.name}' of task '{self._handle.task_id}' returned a coroutine",
                hint="make the task an 'async def', and await handle.step(...) there",
            )
        text = text_of(f"step {call.name!r}", returned, read)
        # Decodes the JSON before it is recorded, because JSON that cannot be decoded must not be
        # stored. A scalar would be decoded to itself.
        return text, returned if is_scalar and read is plain else read(text)


def _end_if_lost(ask: Callable[[], Any]) -> Any:
    """Calls the engine. If the attempt can no longer record steps, ends the function.

    Raises:
        AttemptEnded: The claim is lost, or the runner is shut down. The class is not an
            `Exception`, so a function that catches every `Exception` does not continue.
    """
    try:
        return ask()
    except CloacaException as error:
        raise _converted(error) from None


async def _awaited(answer: Awaitable[None]) -> None:
    try:
        await answer
    except CloacaException as error:
        raise _converted(error) from None


def _converted(error: CloacaException) -> BaseException:
    """Returns `AttemptEnded` if the attempt can no longer record steps; otherwise the error."""
    is_lost = isinstance(error, TaskExecutionError) and error.code == "claim_lost"
    if is_lost or isinstance(error, RunnerClosedError):
        return AttemptEnded(error.message)
    return error


class _Started:
    """The result of `start` in an `async def` task, where calls of the handle are awaited."""

    def __await__(self) -> Generator[None, None, None]:
        """Returns at once, because there is nothing to wait for."""
        yield from ()


class _NoSpan:
    """Replaces the span of a step if the program has set up no tracing."""

    def __enter__(self) -> None:
        """Does nothing."""

    def __exit__(self, *error: object) -> None:
        """Does nothing."""


_no_span = _NoSpan()


def _span(key: str) -> Any:
    from cloaca._observe.tracing import step_span, tracer

    found = tracer()
    return _no_span if found is None else step_span(found, key)
