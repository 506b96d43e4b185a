"""The handle with which a task's function controls its own attempt."""

from __future__ import annotations

from cloaca._tasks.control import Abort
from cloaca._values.exceptions import RunnerClosedError, TaskTimeoutError, TaskValidationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
    from datetime import timedelta
    from typing import Any, TypeVar, overload

    from cloaca._core import Runner, Work
    from cloaca._retry.policy import RetryPolicy
    from cloaca._tasks.conditions import Condition
    from cloaca._values.inputs import Input
    from cloaca._workers.steps import Steps

    T = TypeVar("T")

# Seconds between two checks whether the execution was cancelled.
_CHECK_INTERVAL = 0.1


class TaskHandle:
    """A task's own attempt.

    A parameter named `handle` or `task_handle` of the task's function receives it.

    Example:
        >>> @cloaca.task
        ... def copy(context, handle):
        ...     for number, name in enumerate(context["files"]):
        ...         if handle.is_cancelled():
        ...             return
        ...         handle.set_progress(number, len(context["files"]), name)

    Since 1.0.
    """

    __slots__ = ("_core", "_deadline", "_is_async", "_steps", "_work")

    def __init__(self, work: Work, is_async: bool, core: Runner | None = None) -> None:
        """Private: the engine makes it."""
        from time import monotonic

        self._work = work
        self._core = core
        self._is_async = is_async
        self._steps: Steps | None = None
        timeout_us = work.timeout_us
        self._deadline = None if timeout_us is None else monotonic() + timeout_us / 1_000_000

    @property
    def task_id(self) -> str:
        """The task's id; for an item of a map, with its index: `fetch[17]`. Since 1.0."""
        return self._work.task_id

    @property
    def index(self) -> int | None:
        """The index of the element that a mapped task runs for; `None` otherwise. Since 1.0."""
        return self._work.index

    @property
    def execution_id(self) -> str:
        """The execution's id. Since 1.0."""
        return self._work.execution_id

    @property
    def workflow_name(self) -> str:
        """The workflow's name. Since 1.0."""
        return self._work.workflow_name

    @property
    def attempt(self) -> int:
        """The number of the attempt; the first is 1. Since 1.0."""
        return self._work.attempt

    @property
    def forward_key(self) -> str:
        """A key that makes the effects of the task idempotent: the same in all its attempts.

        The compensation of a task has the key of the task that it undoes, so it can find what a
        failed attempt may have done. The key changes once the task has been compensated.

        Example:
            >>> def refund(charge, error, handle):
            ...     payments.refund(key=handle.forward_key)

        Since 1.0.
        """
        return self._work.forward_key or f"{self._work.execution_id}/{self._work.task_id}"

    @property
    def runner(self) -> Any:
        """The `DefaultRunner` that runs the task, for example to start other executions from it.

        In a function use `submit`, in an `async def` task `await handle.runner.submit_async(...)`.
        A task runs again after a crash: a key made from `execution_id` keeps it from starting the
        same execution twice.

        Raises:
            RunnerClosedError: The function runs without a runner, as in `cloaca.testing.run_task`,
                or the program has dropped the runner.

        Example:
            >>> @cloaca.task
            ... async def order(context, handle):
            ...     child = await handle.runner.submit_async("pay", key=handle.execution_id)
            ...     context["paid"] = (await child).raise_for_status().final_context["paid"]

        Since 1.0.
        """
        if self._core is None:
            raise RunnerClosedError(
                f"task '{self.task_id}' runs without a runner",
                hint="test it with the fixture cloaca_runner, or pass a runner of your own",
            )
        from cloaca._workflows.registry import registry

        found = registry.runner_of(self._work)
        if found is None:
            raise RunnerClosedError(
                f"the runner of task '{self.task_id}' is gone: no variable refers to it",
                hint="keep it in a variable while tasks run, or use it in a 'with' block",
            )
        return found

    def is_cancelled(self) -> bool:
        """Whether the execution was cancelled, so that the function's result will be dropped.

        Since 1.0.
        """
        self._work.beat()
        return self._work.is_cancelled()

    def is_slot_held(self) -> bool:
        """Whether the task occupies a worker.

        It does not while it waits in `defer_until` or, in an `async def` task, for a handle.

        Since 1.0.
        """
        from cloaca._workers.slot_release import is_slot_held

        return is_slot_held(self._work)

    def heartbeat(self, progress: float | None = None) -> None:
        """Report that the function is alive; raises if it should stop.

        The runner itself keeps the claim alive; a function need not call this.

        Args:
            progress: The part that is done, from 0 to 1; a value above 1 is read as a percentage.

        Raises:
            TaskTimeoutError: The attempt overran its timeout.
            Abort: The execution was cancelled. Its result is dropped in any case.

        Since 1.0.
        """
        if progress is not None:
            self.set_progress(progress, 1 if progress <= 1 else 100)
        self._check()

    def set_progress(self, done: float, total: float, message: str | None = None) -> None:
        """Report progress, which `WorkflowHandle.progress`, `cloaca watch` and bars show.

        Call it as often as you like: the progress is written to the database at most a few times a
        second, and other processes see it then.

        Args:
            done: The amount of work done.
            total: The total amount of work.
            message: A short text, e.g. about the current step.

        Raises:
            TaskValidationError: A number is negative, or `done` is more than `total`.
            ForkedProcessError: This is a forked child; only the task's own process can report
                progress.

        Since 1.0.
        """
        if not 0 <= done <= total:
            raise TaskValidationError(
                f"task '{self.task_id}': progress must be 0 <= done <= total, "
                f"not {done!r} of {total!r}"
            )
        self._work.beat()
        if self._core is not None:
            from cloaca._values.database_text import storable

            words = None if message is None else storable(str(message))
            self._core.note_progress(self._work, done, total, words)

    if TYPE_CHECKING:

        @overload
        def step(
            self,
            key: str,
            function: Callable[..., Coroutine[Any, Any, T]],
            /,
            *args: Any,
            type: None = None,
            retry: RetryPolicy | None = None,
            **kwargs: Any,
        ) -> Awaitable[T]: ...

        @overload
        def step(
            self,
            key: str,
            function: Callable[..., T],
            /,
            *args: Any,
            type: None = None,
            retry: RetryPolicy | None = None,
            **kwargs: Any,
        ) -> T: ...

        @overload
        def step(
            self,
            key: str,
            function: Callable[..., Any],
            /,
            *args: Any,
            type: Any,
            retry: RetryPolicy | None = None,
            **kwargs: Any,
        ) -> Any: ...

    def step(
        self,
        key: str,
        function: Callable[..., Any],
        /,
        *args: Any,
        type: Any = None,
        retry: RetryPolicy | None = None,
        **kwargs: Any,
    ) -> Any:
        """Call a function once and record its result, which every later attempt gets.

        The result is durable when this returns. If the task runs again, after a failure or a
        crash, recorded steps return their values and their functions are not called: a loop goes
        on where the last attempt ended. Steps are found by key, so code may change meanwhile.

        In an `async def` task it must be awaited; the function may be a coroutine function there.
        Steps may run concurrently, as in `asyncio.gather(handle.step(…), handle.step(…))`.

        Args:
            key: The name of the step in the task. A key that is used again in one attempt is
                recorded as `key#2`, `key#3`, … in the order of the calls.
            function: Called with the other arguments. If it raises, nothing is recorded and the
                task's own retry policy decides.
            *args: Arguments of the function.
            type: The type of the result; by default the function's return annotation. A result
                without either is plain JSON.
            retry: A policy by which a failed function is called again within the attempt, before
                the task's own policy applies.
            **kwargs: Arguments of the function by name.

        Returns:
            The result as it was recorded: JSON, decoded by `type` or the return annotation.

        Raises:
            ContextError: The task has more than 10,000 recorded steps, or they take more bytes than
                `max_context_bytes`. It is not retried.
            TypeError: The result is not JSON.
            TaskValidationError: The key is not a text of 1 to 500 characters, or the result does
                not match its type.
            Exception: Any exception of the function.

        Example:
            >>> @cloaca.task
            ... def support(context, handle):
            ...     plan = handle.step("plan", make_plan, context["question"])
            ...     for number, item in enumerate(plan):
            ...         handle.step(f"work-{number}", work, item)

        Since 1.0.
        """
        return self._own_steps().begin(key, function, args, kwargs, type, retry, self._is_async)

    def sleep(self, key: str, duration: str | float | timedelta) -> Any:
        """Sleep for a duration that survives restarts, without holding a worker.

        The function exits: `finally` blocks run, the worker is free, and no attempt is counted.
        When the time is over, the function starts again from its top, and its recorded steps return
        their values. A sleep that is over is a recorded step too.

        In an `async def` task it must be awaited.

        Args:
            key: The name of the step, as for `step`.
            duration: Seconds, a timedelta, or text such as `"90s"`, `"10m"`, `"48h"` or `"7d"`.

        Returns:
            An awaitable, in an `async def` task.

        Raises:
            ConfigurationError: The duration cannot be read or is negative.
            TaskValidationError: The key is not a text of 1 to 500 characters.

        Example:
            >>> handle.sleep("cool down", "1h")

        Since 1.0.
        """
        from cloaca._values.duration import duration_to_us

        us = duration_to_us("duration", duration, zero=True)
        condition = {"wait": "delay", "duration": us}
        return self._own_steps().park("sleep", key, condition, None, None, self._is_async)

    def wait(
        self,
        key: str,
        condition: Condition,
        *,
        timeout: str | float | timedelta | None = None,
        type: Any = None,
    ) -> Any:
        """Wait until a condition holds, without holding a worker.

        It returns at once if the condition already holds. Otherwise, as in `sleep`, the function
        exits, and starts again from its top afterwards. In an `async def` task it must be awaited.

        Args:
            key: The name of the step, as for `step`.
            condition: Made by `cloaca.signal`, `cloaca.delay`, `cloaca.until`, `cloaca.any_of` or
                `cloaca.all_of`. The key of a signal is the key itself here, not a path.
            timeout: Maximum time to wait: seconds, a timedelta, or text such as `"48h"`.
            type: The type of the data of the signal; plain JSON if omitted.

        Returns:
            The data of the signal; `None` for a timer; for several conditions, a dict of the data
            by the names of the signals. An awaitable of it, in an `async def` task.

        Raises:
            WaitTimeoutError: The wait timed out. Later attempts get the same error.
            ConfigurationError: The timeout cannot be read.
            TaskValidationError: The key or the condition is not valid.

        Example:
            >>> paid = handle.wait("payment", cloaca.signal("paid", key=order), timeout="48h")

        Since 1.0.
        """
        from cloaca._tasks.wait_options import wait_timeout
        from cloaca._workers.step_waits import literal_condition

        timeout_us = wait_timeout("timeout", timeout)
        definition = literal_condition(self.task_id, key, condition)
        steps = self._own_steps()
        return steps.park("wait", key, definition, timeout_us, type, self._is_async)

    def run(
        self,
        key: str,
        workflow: object,
        input: Input | None = None,
        *,
        timeout: str | float | timedelta | None = None,
        priority: int | None = None,
        type: Any = None,
    ) -> Any:
        """Run another workflow as a child, and wait for its output.

        As in `sleep`, the function exits while the child runs, holds no worker in the meantime,
        and starts again from its top. The end is recorded like a step, so the child is started
        once, whatever crashes. The child is cancelled when this execution is cancelled, fails or
        times out. If no program has defined the workflow yet, the call waits until one does;
        `explain` names the workflow.

        In an `async def` task it must be awaited.

        Args:
            key: The name of the step, as for `step`.
            workflow: The name of the workflow, in either language; or a `Workflow`, or the function
                that `@cloaca.workflow` decorates.
            input: The child's input: a mapping, a `Context`, or an instance of its model.
            timeout: Maximum run time of the child: seconds, a timedelta, or text such as `"1h"`.
                The child has at most the time that is left of this execution's.
            priority: The child's priority; this task's if omitted.
            type: The type of the output; plain JSON if omitted.

        Returns:
            The child's output; its final context if it has none. An awaitable of it, in an
            `async def` task.

        Raises:
            ChildFailedError: The child failed, timed out or was cancelled. Later attempts get the
                same, so it is not retried by the task's policy. `retry_execution` retries the child
                in place, `from_step=` starts a new one.
            WorkflowInputError: The input does not match the workflow's model.
            TaskValidationError: The key or an option is not valid.
            ConfigurationError: The timeout cannot be read.
            TypeError: The input is not a mapping, or a value in it is not JSON.

        Example:
            >>> invoice = handle.run("invoice", "invoice_workflow", {"order": 7}, timeout="1h")

        Since 1.0.
        """
        from cloaca._workers.step_children import RunOptions

        options = RunOptions(False, None, timeout, priority)
        return self._own_steps().run(key, workflow, [input], options, type, self._is_async)

    def run_many(
        self,
        key: str,
        workflow: object,
        inputs: Iterable[Input | None],
        parallel: int | None = None,
        *,
        timeout: str | float | timedelta | None = None,
        priority: int | None = None,
        type: Any = None,
    ) -> Any:
        """Run a child for each input, and wait for all their outputs.

        Like `run`, but the children run at the same time. All of them run to their end, even if one
        fails. `retry_execution` retries only those that failed.

        Args:
            key: The name of the step, as for `step`.
            workflow: As for `run`.
            inputs: The inputs of the children.
            parallel: Maximum number of children that are open at a time; all at once if omitted.
            timeout: Maximum run time of a child.
            priority: The priority of the children.
            type: The type of an output.

        Returns:
            The list of their outputs, in the order of the inputs. An awaitable of it, in an
            `async def` task.

        Raises:
            ChildFailedError: A child did not complete. If there are several, the error is about the
                first, in the order of the inputs.
            WorkflowInputError: An input does not match the workflow's model.
            TaskValidationError: The key or an option is not valid.
            ConfigurationError: The timeout cannot be read.
            TypeError: An input is not a mapping, or a value in it is not JSON.

        Example:
            >>> pages = handle.run_many("pages", "render", [{"page": p} for p in plan], parallel=20)

        Since 1.0.
        """
        from cloaca._workers.step_children import RunOptions

        options = RunOptions(True, parallel, timeout, priority)
        given = list(inputs)
        return self._own_steps().run(key, workflow, given, options, type, self._is_async)

    def start(self, key: str, workflow: object = None, input: Input | None = None) -> Any:
        """Start another execution when this task completes, and do not wait for it.

        It is submitted in the transaction that completes the task, so an attempt that fails submits
        nothing. It has no parent, so it is not cancelled or retried with this execution. An event
        `execution_started` of this task has its id.

        In an `async def` task it is awaited like the other calls.

        Args:
            key: The name of the step. If the second argument is omitted, or is an input, this is
                also the workflow.
            workflow: As for `run`.
            input: The input, as for `run`.

        Returns:
            An awaitable, in an `async def` task.

        Raises:
            WorkflowInputError: The input does not match the workflow's model.
            TaskValidationError: The key or the workflow is not valid.
            TypeError: The input is not a mapping, or a value in it is not JSON.

        Example:
            >>> handle.start("audit", "audit_workflow", {"order": 7})

        Since 1.0.
        """
        is_workflow = isinstance(workflow, str) or callable(workflow)
        if not is_workflow and not isinstance(getattr(workflow, "name", None), str):
            key, workflow, input = key, key, workflow  # type: ignore[assignment]
        return self._own_steps().start(key, workflow, input, self._is_async)

    def _own_steps(self) -> Steps:
        steps = self._steps
        if steps is None:
            from cloaca._workers.steps import Steps

            steps = self._steps = Steps(self, self._work, self._core)
        return steps

    def _run(
        self, function: Callable[..., Any], positional: list[Any], named: dict[str, Any]
    ) -> Any:
        """Calls the task's function, and checks how it exited: see `Steps.check_left`."""
        try:
            returned = function(*positional, **named)
        except BaseException as error:
            if self._steps is not None:
                self._steps.check_left(error)
            raise
        if self._steps is not None:
            self._steps.check_left(None)
        return returned

    async def _run_async(
        self, function: Callable[..., Any], positional: list[Any], named: dict[str, Any]
    ) -> Any:
        """The same for a coroutine function."""
        try:
            returned = await function(*positional, **named)
        except BaseException as error:
            if self._steps is not None:
                self._steps.check_left(error)
            raise
        if self._steps is not None:
            self._steps.check_left(None)
        return returned

    def defer_until(
        self,
        condition: Callable[[], bool | Awaitable[bool]],
        poll_interval_ms: float = 1000,
    ) -> Awaitable[None]:
        """Wait until a condition holds, and release the worker's slot to other tasks meanwhile.

        In a function it blocks; in an `async def` task it must be awaited. A function continues
        once it has reacquired a slot. The wait counts towards the task's timeout. At most 256
        functions of a runner release their slots at a time; further ones keep theirs.

        Args:
            condition: Called at once and then after every interval; in an `async def` task it may
                be a coroutine function.
            poll_interval_ms: Time between two calls, in milliseconds.

        Returns:
            An awaitable, in an `async def` task.

        Raises:
            TaskTimeoutError: The attempt overran its timeout.
            Abort: The execution was cancelled.
            TaskValidationError: The interval is not greater than zero.

        Example:
            >>> handle.defer_until(lambda: path.exists(), poll_interval_ms=500)

        Since 1.0.
        """
        if not 0 < poll_interval_ms < 1e12:
            raise TaskValidationError(
                f"task '{self.task_id}': poll_interval_ms must be greater than zero, "
                f"not {poll_interval_ms!r}"
            )
        seconds = poll_interval_ms / 1000
        if self._is_async:
            return self._defer_async(condition, seconds)
        self._defer(condition, seconds)
        return _Done()

    def _defer(self, condition: Callable[[], Any], seconds: float) -> None:
        from cloaca._workers.slot_release import reacquire_slot, release_slot

        if condition():
            return
        release_slot(self._work)
        try:
            while True:
                self._pause(seconds)
                if condition():
                    return
        finally:
            reacquire_slot(self._work)

    def _pause(self, seconds: float) -> None:
        """Sleeps; raises if the function should stop."""
        from time import monotonic, sleep

        until = monotonic() + seconds
        while (left := until - monotonic()) > 0:
            self._check()
            sleep(min(left, _CHECK_INTERVAL, self._left()))
        self._check()

    async def _defer_async(self, condition: Callable[[], Any], seconds: float) -> None:
        from asyncio import sleep
        from inspect import isawaitable

        from cloaca._workers.slot_release import reacquire_slot, release_slot

        # Timeout and cancel arrive as a cancellation of the coroutine.
        released = False
        try:
            while True:
                holds = condition()
                if isawaitable(holds):
                    holds = await holds
                if holds:
                    return
                if not released:
                    release_slot(self._work)
                    released = True
                self._work.beat()
                await sleep(seconds)
        finally:
            if released:
                reacquire_slot(self._work)

    def _left(self) -> float:
        """Seconds until the attempt's deadline."""
        from time import monotonic

        return _CHECK_INTERVAL if self._deadline is None else max(self._deadline - monotonic(), 0)

    def _check(self) -> None:
        from time import monotonic

        if self.is_cancelled():
            raise Abort("the execution was cancelled")
        if self._deadline is not None and monotonic() >= self._deadline:
            raise TaskTimeoutError(f"task '{self.task_id}' overran its timeout")

    def __repr__(self) -> str:
        """Task, workflow, execution and attempt."""
        return (
            f"<TaskHandle {self.task_id!r} of workflow {self.workflow_name!r} "
            f"execution={self.execution_id} attempt={self.attempt}>"
        )


class _Done:
    """A completed awaitable."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield
