"""The handle with which a task's function controls its attempt."""

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

# Seconds between two checks for a cancellation of the execution.
_CHECK_INTERVAL = 0.1


class TaskHandle:
    """The handle with which a task's function controls its attempt.

    The function receives it in a parameter named `handle` or `task_handle`.

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
        """Private: each attempt of a task that takes a handle receives one."""
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
        """The index of this item in its map; `None` for a task that is not a map. Since 1.0."""
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
        """The number of the attempt; the first attempt is 1. Since 1.0."""
        return self._work.attempt

    @property
    def forward_key(self) -> str:
        """An idempotency key for the task's effects, such as payments. All attempts have this key.

        A compensation has the key of the task that it undoes, so that it can find the effects of a
        failed attempt. If the task runs again after its compensation, the task has a new key.

        Example:
            >>> def refund(charge, error, handle):
            ...     payments.refund(key=handle.forward_key)

        Since 1.0.
        """
        return self._work.forward_key or f"{self._work.execution_id}/{self._work.task_id}"

    @property
    def runner(self) -> Any:
        """The `DefaultRunner` that runs the task, for example to submit other executions.

        In an ordinary function, use `handle.runner.submit(...)`. In an `async def` task, use
        `await handle.runner.submit_async(...)`. A task runs again after a crash. A key made from
        `execution_id` ensures that the task does not submit the same execution twice.

        Raises:
            RunnerClosedError: The function runs without a runner, as in `cloaca.testing.run_task`,
                or the program no longer refers to the runner.

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
                hint="test it with the fixture cloaca_runner",
            )
        from cloaca._workflows.registry import registry

        found = registry.runner_of(self._work)
        if found is None:
            raise RunnerClosedError(
                f"the runner of task '{self.task_id}' was garbage-collected, because no variable "
                "refers to it",
                hint="keep it in a variable while tasks run, or use it in a 'with' block",
            )
        return found

    def is_cancelled(self) -> bool:
        """Return whether the execution was cancelled or timed out.

        Also returns `True` once the runner has given up the attempt, for example at the end of the
        grace period of a shutdown. In each case, the function's result is dropped.

        Example:
            >>> for row in rows:
            ...     if handle.is_cancelled():
            ...         return

        Since 1.0.
        """
        self._work.beat()
        return self._work.is_cancelled()

    def is_slot_held(self) -> bool:
        """Return whether the task occupies a worker.

        A task occupies no worker while it waits in `defer_until`. An `async def` task also occupies
        none while it waits for a `WorkflowHandle`. If a runner and the runners of tenants share
        workers, their tasks keep the workers while they wait.

        Example:
            >>> handle.is_slot_held()
            True

        Since 1.0.
        """
        from cloaca._workers.slot_release import is_slot_held

        return is_slot_held(self._work)

    def heartbeat(self, progress: float | None = None) -> None:
        """Report that the function is alive. Raises an error if the function should stop.

        The call is optional, because the runner itself keeps the claim alive.

        Args:
            progress: The part of the work that is done, from 0 to 1; a value above 1 is a
                percentage.

        Raises:
            TaskTimeoutError: The attempt overran its timeout.
            Abort: `is_cancelled` returns `True`. The function's result will be dropped.
            TaskValidationError: The progress is not a number, or is negative or above 100.

        Example:
            >>> for number, row in enumerate(rows):
            ...     handle.heartbeat(number / len(rows))

        Since 1.0.
        """
        if progress is not None:
            try:
                total = 1 if progress <= 1 else 100
            except TypeError:
                raise TaskValidationError(
                    f"task '{self.task_id}': progress must be a number, not {progress!r}"
                ) from None
            self.set_progress(progress, total)
        self._check()

    def set_progress(self, done: float, total: float, message: str | None = None) -> None:
        """Report progress, which `WorkflowHandle.progress`, `cloaca watch` and progress bars show.

        The call is cheap. The runner writes the latest progress to the database at most ten times a
        second; other processes can then read it.

        Args:
            done: The amount of work done.
            total: The total amount of work.
            message: A short text, for example about the current step.

        Raises:
            TaskValidationError: A value is not a number or is negative, or `done` is more than
                `total`.
            ForkedProcessError: The caller is a forked child. Only the task's process can report
                progress.

        Example:
            >>> handle.set_progress(17, 40, "file 17")

        Since 1.0.
        """
        try:
            fits = 0 <= done <= total
        except TypeError:
            fits = False
        if not fits:
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
        """Call a function once and record its result. Later attempts receive the recorded result.

        The result is durable when the method returns. If the task runs again after a failure or a
        crash, recorded steps return their values, and their functions are not called. A loop
        therefore continues where the last attempt ended. Steps are found by their keys, so the code
        may change between attempts.

        In an `async def` task the call must be awaited, and the function may be a coroutine
        function. Steps can run concurrently: `asyncio.gather(handle.step(…), handle.step(…))`.

        Args:
            key: The name of the step in the task. A key that is used again in one attempt is
                recorded as `key#2`, `key#3`, … in the order of the calls.
            function: The function to call with the other arguments. If it raises an exception,
                nothing is recorded, and the task's retry policy applies.
            *args: The positional arguments of the function.
            type: The type of the result; by default the function's return annotation. Without
                either, the result is plain JSON.
            retry: A policy for calling a failed function again within the attempt, before the
                task's policy applies.
            **kwargs: The arguments of the function by name.

        Returns:
            The recorded result: JSON, decoded by `type` or the return annotation.

        Raises:
            ContextError: The task has more than 10,000 recorded steps, or they take more bytes than
                `max_context_bytes`. The task is not retried.
            TypeError: The result is not JSON.
            TaskValidationError: The key is not a string of 1 to 500 characters, `function` or
                `retry` is not valid, or the result does not match its type.
            Exception: The exception that the function raised.

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
        """Sleep without occupying a worker. The sleep survives restarts of the program.

        The call interrupts the function: `finally` blocks run, the worker becomes free, and no
        attempt is used up. When the time is over, the function is called again from the beginning,
        and its recorded steps return their values. A sleep that is over is also a recorded step.

        In an `async def` task the call must be awaited.

        Args:
            key: The name of the step, as for `step`.
            duration: Seconds, a timedelta, or text such as `"90s"`, `"10m"`, `"48h"` or `"7d"`.

        Returns:
            In an `async def` task, an awaitable; otherwise `None`.

        Raises:
            ConfigurationError: The duration cannot be read or is negative.
            TaskValidationError: The key is not a string of 1 to 500 characters, or an item of a map
                makes the call.

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
        """Wait until a condition holds, without occupying a worker.

        The method returns at once if the condition already holds. Otherwise, as in `sleep`, the
        call interrupts the function, which is called again from the beginning when the condition
        holds. In an `async def` task the call must be awaited.

        Args:
            key: The name of the step, as for `step`.
            condition: The condition, made by `cloaca.signal`, `cloaca.delay`, `cloaca.until`,
                `cloaca.any_of` or `cloaca.all_of`. Here, the `key` of a signal is the key itself,
                not a path into the context.
            timeout: Maximum time to wait: seconds, a timedelta, or text such as `"48h"`. With 0,
                the call raises an error unless the condition already holds.
            type: The type of the signal's data. If omitted, the data is plain JSON.

        Returns:
            The data of the signal; `None` for a timer. For several conditions, a dict with the
            data of each signal by the signal's name. In an `async def` task, an awaitable of this
            value.

        Raises:
            WaitTimeoutError: The wait timed out. Later attempts raise the same error.
            ConfigurationError: The timeout cannot be read or is negative.
            TaskValidationError: The key or the condition is not valid, or an item of a map makes
                the call.

        Example:
            >>> paid = handle.wait("payment", cloaca.signal("paid", key=order), timeout="48h")

        Since 1.0.
        """
        from cloaca._tasks.wait_options import wait_timeout
        from cloaca._workers.step_waits import literal_condition

        timeout_us = wait_timeout("timeout", timeout, zero=True)
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
        """Run another workflow as a child, and wait for the child's output.

        As in `sleep`, the call interrupts the function. The task occupies no worker while the child
        runs. When the child has ended, the function is called again from the beginning. The child
        is recorded like a step, so it is started once, even if processes crash. The child is
        cancelled when this execution is cancelled, fails or times out. If no program has defined
        the workflow, the call waits until a program defines it; `explain` names the workflow.

        In an `async def` task the call must be awaited.

        Args:
            key: The name of the step, as for `step`.
            workflow: The workflow to run, which may be defined in Rust: its name, a `Workflow`, or
                the function that `@cloaca.workflow` decorates.
            input: The child's input: a mapping, a `Context`, or an instance of the workflow's
                model.
            timeout: Maximum run time of the child: seconds, a timedelta, or text such as `"1h"`;
                the runner's `workflow_timeout_seconds` if omitted. The child also times out when
                this execution times out.
            priority: The child's priority; this task's priority if omitted.
            type: The type of the output. If omitted, it is the return annotation of the function
                that makes the output, or plain JSON if `workflow` is a name.

        Returns:
            The child's output, or its final context if the workflow declares no output. In an
            `async def` task, an awaitable of this value.

        Raises:
            ChildFailedError: The child failed, timed out or was cancelled. The task is not retried,
                because later attempts would raise the same error. `retry_execution` retries the
                child itself; with `from_step=`, or if the child was cancelled, it starts a new
                child.
            WorkflowInputError: The input does not match the workflow's model. The task is not
                retried.
            TaskValidationError: The key or an option is not valid, or an item of a map makes the
                call.
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
        """Run a child for each input, and wait for the outputs of all children.

        The call works like `run`, but the children run at the same time. If a child fails, the
        other children still run to completion. `retry_execution` retries only the children that
        did not complete; for a cancelled child, it starts a new one.

        Args:
            key: The name of the step, as for `step`.
            workflow: The workflow, as for `run`.
            inputs: The inputs of the children.
            parallel: Maximum number of children that are open at a time; no limit if omitted.
            timeout: Maximum run time of each child, as for `run`.
            priority: The priority of the children, as for `run`.
            type: The type of each output, as for `run`.

        Returns:
            The list of the outputs, in the order of the inputs. In an `async def` task, an
            awaitable of this list.

        Raises:
            ChildFailedError: A child did not complete. If several did not complete, the error
                describes the first of them in the order of the inputs.
            WorkflowInputError: An input does not match the workflow's model. The task is not
                retried.
            TaskValidationError: The key or an option is not valid, or an item of a map makes the
                call.
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
        """Start another execution when this task completes, without waiting for the execution.

        The transaction that completes the task also submits the execution, so an attempt that fails
        submits nothing. The new execution has no parent, so cancelling or retrying this execution
        does not affect it. The event `execution_started` of this task contains the new id.

        In an `async def` task the call must be awaited.

        Args:
            key: The name of the step. If the second argument is omitted, or is an input, the key is
                also the name of the workflow.
            workflow: The workflow, as for `run`.
            input: The input, as for `run`.

        Returns:
            In an `async def` task, an awaitable; otherwise `None`.

        Raises:
            WorkflowInputError: The input does not match the workflow's model. The task is not
                retried.
            TaskValidationError: The key or the workflow is not valid, or an item of a map makes the
                call.
            TypeError: The input is not a mapping, or a value in it is not JSON.

        Example:
            >>> handle.start("audit", "audit_workflow", {"order": 7})

        Since 1.0.
        """
        from cloaca._workflows.function import defined_workflow

        is_workflow = isinstance(workflow, str) or callable(workflow)
        if not is_workflow and defined_workflow(workflow) is None:
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
        """Call the task's function, and check how it ended (see `Steps.check_end`)."""
        try:
            returned = function(*positional, **named)
        except BaseException as error:
            if self._steps is not None:
                self._steps.check_end(error)
            raise
        if self._steps is not None:
            self._steps.check_end(None)
        return returned

    async def _run_async(
        self, function: Callable[..., Any], positional: list[Any], named: dict[str, Any]
    ) -> Any:
        """Call the task's coroutine function, and check how it ended (see `Steps.check_end`)."""
        if self._work.attempt > 1:
            await self._own_steps().load_early()
        try:
            returned = await function(*positional, **named)
        except BaseException as error:
            if self._steps is not None:
                self._steps.check_end(error)
            raise
        if self._steps is not None:
            self._steps.check_end(None)
        return returned

    def defer_until(
        self,
        condition: Callable[[], bool | Awaitable[bool]],
        poll_interval_ms: float | timedelta | str = 1000,
    ) -> Awaitable[None]:
        """Wait until a condition holds, and release the worker's slot to other tasks meanwhile.

        In an ordinary function, the call blocks. In an `async def` task, it must be awaited. The
        function continues after it has reacquired a slot. The waiting time counts towards the
        task's timeout. At most 256 functions of a runner can release their slots at the same time;
        further functions keep their slots while they wait. If a runner and the runners of tenants
        share workers, all their functions keep their slots.

        Args:
            condition: A function that returns whether the condition holds. It is called at once and
                then after every interval. In an `async def` task it may be a coroutine function.
            poll_interval_ms: Time between two calls: milliseconds, a timedelta, or text such as
                `"1s"`.

        Returns:
            In an `async def` task, an awaitable.

        Raises:
            TaskTimeoutError: In an ordinary function, the attempt overran its timeout.
            Abort: In an ordinary function, `is_cancelled` returns `True`.
            asyncio.CancelledError: In an `async def` task, for either of these causes.
            ConfigurationError: The interval cannot be read or is not greater than zero.

        Example:
            >>> handle.defer_until(lambda: path.exists(), poll_interval_ms=500)

        Since 1.0.
        """
        from cloaca._values.duration import milliseconds_to_us

        seconds = milliseconds_to_us("poll_interval_ms", poll_interval_ms) / 1_000_000
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
        """Sleep; raise an error if the function should stop."""
        from time import sleep

        # Adds up the sleeps instead of reading a clock, because a virtual clock advances only
        # during sleeps.
        left = seconds
        while left > 0:
            self._check()
            pause = min(left, _CHECK_INTERVAL, self._left())
            sleep(pause)
            left -= pause
        self._check()

    async def _defer_async(self, condition: Callable[[], Any], seconds: float) -> None:
        from asyncio import sleep
        from inspect import isawaitable

        from cloaca._workers.slot_release import reacquire_slot, release_slot

        # This method does not check for a timeout or for a cancellation of the execution, because
        # either one cancels the coroutine.
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
        """Return the seconds until the attempt's deadline; `_CHECK_INTERVAL` if it has none."""
        from time import monotonic

        return _CHECK_INTERVAL if self._deadline is None else max(self._deadline - monotonic(), 0)

    def _check(self) -> None:
        if self.is_cancelled():
            raise Abort("the execution was cancelled")
        if self._deadline is None:
            return
        from time import monotonic

        if monotonic() >= self._deadline:
            raise TaskTimeoutError(f"task '{self.task_id}' overran its timeout")

    def __repr__(self) -> str:
        """Return the task, the workflow, the execution and the attempt."""
        return (
            f"<TaskHandle {self.task_id!r} of workflow {self.workflow_name!r} "
            f"execution={self.execution_id} attempt={self.attempt}>"
        )


class _Done:
    """An awaitable that completes at once."""

    __slots__ = ()

    def __await__(self) -> Generator[Any, None, None]:
        return
        yield
