"""Methods of a runner that start executions."""

from __future__ import annotations

from cloaca._executions.handle import WorkflowHandle
from cloaca._executions.result import WorkflowResult
from cloaca._executions.submission import request, request_of
from cloaca._values.arguments import check_flag, suggests_arguments
from cloaca._values.exceptions import WorkflowNotFoundError
from cloaca._workers.blocking import FOR_CHILD, check_blocking, refuse_own_key
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta
    from typing import Any

    from cloaca import _core
    from cloaca._core import Execution, SubmitRequest, Submitted
    from cloaca._observe.tracing import ExecutionSpan, Tracing
    from cloaca._runner.async_waiting import Waiters
    from cloaca._values.inputs import Input
    from cloaca._workflows.workflow import Workflow


class SubmissionMethods:
    """The part of `DefaultRunner` that starts executions. Private."""

    _core: _core.Runner
    _tracing: Tracing
    _waiters: Waiters
    _revision: int
    _has_submitted = False
    _begins_at_use: bool
    _starts_by_itself: bool

    if TYPE_CHECKING:

        def _begin_early(self) -> None: ...
        def _catch_up(self, *, quietly: bool = False) -> None: ...
        def _check_open(self) -> None: ...
        def _check_started(self) -> None: ...

    @suggests_arguments
    def execute(
        self,
        workflow_name: str | Workflow,
        context: Input | None = None,
        *,
        timeout: float | timedelta | str | None = None,
        key: str | None = None,
        priority: int = 0,
        delay: float | timedelta | str | None = None,
        at: datetime | None = None,
        progress: bool = False,
        check: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> WorkflowResult:
        """Run a workflow and wait for its end. Ctrl-C stops waiting; the execution continues.

        Args:
            workflow_name: The workflow, or its name.
            context: The initial context: a mapping, a `Context`, or an instance of a model. If the
                workflow declares `input=`, the context is validated and defaults are filled in.
            timeout: Maximum run time of the execution, from its first task's start: seconds,
                a timedelta, or a string such as `"1h"`. The execution fails when it exceeds this
                time. `math.inf` means no limit, regardless of the runner's
                `workflow_timeout_seconds`.
            key: Makes the submission idempotent: if an execution of this workflow with this key
                exists, the method waits for that execution and starts none.
            priority: -32768 to 32767; executions with higher priorities start first.
            delay: Time until the execution may start: seconds, a timedelta, or a string such as
                `"10m"`.
            at: The earliest start time; a datetime with a time zone.
            progress: Whether to show a bar for each task on stderr. Nothing is shown if stderr
                is neither a terminal nor a notebook.
            check: Whether to raise an error if the execution does not complete. If not, only the
                result and the log show a failure.
            labels: The labels, by name, with which `list_executions` can find the execution later.
                At most 32. They do not affect how the execution runs.

        Returns:
            The result. Without `check`, it is also returned for an execution that failed, timed out
            or was cancelled.

        Raises:
            WorkflowNotFoundError: There is no such workflow. The error is a `ValueError` and
                a `KeyError`.
            WorkflowInputError: The context does not match the workflow's `input=`. Nothing is
                stored. The error is a `ValueError`.
            ConfigurationError: An argument is not valid. The error is a `ValueError`.
            ContextError: The context takes more than `max_context_bytes`.
            TypeError: The context is not a mapping, or a value in it has no JSON form.
            ValueError: A value in the context is NaN or an infinity.
            DatabaseError: The database did not accept the submission within `db_timeout`.
            RunnerClosedError: The runner was shut down, or it was not started and its database is
                in memory.
            WorkflowError: The code is `deadlock`: a coroutine of a runner calls this method, or a
                task calls it and no worker is left to run the workflow.
            WorkflowExecutionError: With `check`, the execution failed or was cancelled.
            WorkflowTimeoutError: With `check`, the execution exceeded its timeout. The error is a
                `TimeoutError`.

        Example:
            >>> total = runner.execute("etl", check=True).final_context["total"]

        Since 1.0.
        """
        if progress is not False:
            check_flag("progress", progress)
        if check is not False:
            check_flag("check", check)
        check_blocking("execute()", "`await runner.execute_async(...)`", FOR_CHILD)
        if not self._starts_by_itself:
            self._check_started()
        if key is not None:
            refuse_own_key(self._core, workflow_name, key)
        self._catch_up()
        submission = request(
            workflow_name,
            context,
            key=key,
            priority=priority,
            delay=delay,
            at=at,
            timeout=timeout,
            labels=labels,
        )
        if self._begins_at_use:
            self._begin_early()
        if progress:
            from cloaca._observe.progress_bars import follow, is_shown

            (handle,) = self._submit([submission])
            return _checked(follow(self._core, handle.id, shows_bars=is_shown()), check)
        spans = self._tracing.begin([submission])
        if not spans:
            try:
                result = self._with_final(self._core.execute(submission))
                return result.raise_for_status() if check else result
            except WorkflowNotFoundError as error:
                registry.explain_unknown(error)
                raise
            except KeyboardInterrupt:
                # The program did not wait for the end, so the shutdown reports the open execution.
                self._has_submitted = True
                raise
        (span,) = spans
        try:
            result = self._with_final(self._core.execute(submission.with_trace(span.carrier)))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                self._has_submitted = True
            self._refused(spans, error)
            raise
        span.identify(result.execution_id)
        span.end(result.status, result._ended_at_us, result.error)
        return _checked(result, check)

    def _with_final(self, execution: Execution) -> WorkflowResult:
        """Wait for the final tasks of an ended execution, and return the execution's result."""
        result = WorkflowResult(execution)
        if execution.final_id is not None:
            ended = self._core.wait(execution.final_id, None)
            result._final = None if ended is None else WorkflowResult(ended)
        return result

    @suggests_arguments
    async def execute_async(
        self,
        workflow_name: str | Workflow,
        context: Input | None = None,
        *,
        timeout: float | timedelta | str | None = None,
        key: str | None = None,
        priority: int = 0,
        delay: float | timedelta | str | None = None,
        at: datetime | None = None,
        check: bool = False,
        labels: Mapping[str, str] | None = None,
    ) -> WorkflowResult:
        """Run a workflow and wait for its end on an event loop.

        The arguments and errors are the same as for `execute`, but there is no `progress`.

        Args:
            workflow_name: The workflow, or its name.
            context: The initial context: a mapping, a `Context`, or an instance of a model. If the
                workflow declares `input=`, the context is validated and defaults are filled in.
            timeout: Maximum run time of the execution: seconds, a timedelta, or a string such as
                `"1h"`.
            key: Makes the submission idempotent.
            priority: -32768 to 32767; executions with higher priorities start first.
            delay: Time until the execution may start: seconds, a timedelta, or a string such as
                `"10m"`.
            at: The earliest start time.
            check: Whether to raise an error if the execution does not complete.
            labels: The labels, by name, with which the execution can be found later.

        Returns:
            The result. Without `check`, it is also returned for an execution that failed, timed out
            or was cancelled.

        Raises:
            WorkflowNotFoundError: There is no such workflow. For the other errors, see `execute`.

        Example:
            >>> result = await runner.execute_async("etl", {"day": "2026-01-01"}, check=True)

        Since 1.0.
        """
        submission = request(
            workflow_name,
            context,
            key=key,
            priority=priority,
            delay=delay,
            at=at,
            timeout=timeout,
            labels=labels,
        )
        check_flag("check", check)
        (handle,) = await self._submit_async([submission])
        return _checked(await handle, check)

    @suggests_arguments
    def submit(
        self,
        workflow: str | Workflow,
        context: Input | None = None,
        *,
        key: str | None = None,
        priority: int = 0,
        delay: float | timedelta | str | None = None,
        at: datetime | None = None,
        timeout: float | timedelta | str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> WorkflowHandle:
        """Start a workflow, without waiting for its end.

        The submission is durable when this method returns.

        Args:
            workflow: The workflow, or its name.
            context: The initial context: a mapping, a `Context`, or an instance of a model. If the
                workflow declares `input=`, the context is validated and defaults are filled in.
            key: Makes the submission idempotent, at most 512 characters. If an execution of this
                workflow with this key exists, the method returns a handle of that execution and
                starts none, even if the context differs. `handle.created` shows whether an
                execution was started.
            priority: -32768 to 32767; executions with higher priorities start first.
            delay: Time until the execution may start: seconds, a timedelta, or a string such as
                `"10m"`.
            at: The earliest start time; a datetime with a time zone.
            timeout: Maximum run time of the execution, from its first task's start: seconds,
                a timedelta, or a string such as `"1h"`. The execution fails when it exceeds this
                time. `math.inf` means no limit, regardless of the runner's
                `workflow_timeout_seconds`.
            labels: The labels, by name, with which `list_executions` can find the execution later.
                At most 32. They do not affect how the execution runs.

        Returns:
            A handle of the execution. To wait for the end, await the handle or call `result()`.

        Raises:
            WorkflowNotFoundError: There is no such workflow. The error is a `ValueError` and
                a `KeyError`.
            WorkflowInputError: The context does not match the workflow's `input=`. Nothing is
                stored. The error is a `ValueError`.
            ConfigurationError: An argument is not valid. The error is a `ValueError`.
            ContextError: The context takes more than `max_context_bytes`.
            TypeError: The context is not a mapping, or a value in it has no JSON form.
            ValueError: A value in the context is NaN or an infinity.
            DatabaseError: The database did not accept the submission within `db_timeout`.
            RunnerClosedError: The runner was shut down.

        Example:
            >>> handle = runner.submit("etl", {"day": "2026-01-01"}, key="2026-01-01")
            >>> handle.result(timeout=60).status

        Since 1.0.
        """
        submission = request(
            workflow,
            context,
            key=key,
            priority=priority,
            delay=delay,
            at=at,
            timeout=timeout,
            labels=labels,
        )
        return self._submit([submission])[0]

    @suggests_arguments
    async def submit_async(
        self,
        workflow: str | Workflow,
        context: Input | None = None,
        *,
        key: str | None = None,
        priority: int = 0,
        delay: float | timedelta | str | None = None,
        at: datetime | None = None,
        timeout: float | timedelta | str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> WorkflowHandle:
        """Start a workflow from a coroutine, without blocking the event loop.

        The submission is durable when this method returns. If the caller is cancelled earlier, the
        workflow may have been started. With a key it is safe to submit again.

        Args:
            workflow: The workflow, or its name.
            context: The initial context, as for `submit`.
            key: Makes the submission idempotent, as for `submit`.
            priority: -32768 to 32767; executions with higher priorities start first.
            delay: Time until the execution may start: seconds, a timedelta, or a string such as
                `"10m"`.
            at: The earliest start time; a datetime with a time zone.
            timeout: Maximum run time of the execution, from its first task's start: seconds,
                a timedelta, or a string such as `"1h"`.
            labels: The labels, by name, with which the execution can be found later.

        Returns:
            A handle of the execution. To wait for the result, await the handle.

        Raises:
            WorkflowNotFoundError: There is no such workflow. The error is a `ValueError` and
                a `KeyError`.
            WorkflowInputError: The context does not match the workflow's `input=`. Nothing is
                stored. The error is a `ValueError`.
            ConfigurationError: An argument is not valid. The error is a `ValueError`.
            ContextError: The context takes more than `max_context_bytes`.
            TypeError: The context is not a mapping, or a value in it has no JSON form.
            ValueError: A value in the context is NaN or an infinity.
            DatabaseError: The database did not accept the submission within `db_timeout`.
            RunnerClosedError: The runner was shut down.

        Example:
            >>> handle = await runner.submit_async("mail", {"to": "ada@example.org"})
            >>> result = await handle

        Since 1.0.
        """
        submission = request(
            workflow,
            context,
            key=key,
            priority=priority,
            delay=delay,
            at=at,
            timeout=timeout,
            labels=labels,
        )
        return (await self._submit_async([submission]))[0]

    @suggests_arguments
    def submit_many(
        self,
        submissions: Iterable[tuple[str | Workflow, Input | None] | Mapping[str, Any]],
    ) -> list[WorkflowHandle]:
        """Start many executions in one commit, all or none.

        Args:
            submissions: `(workflow, context)` pairs, or mappings with the names of `submit`'s
                arguments.

        Returns:
            A handle for each submission, in the same order.

        Raises:
            WorkflowNotFoundError: A workflow is not known.
            WorkflowInputError: A context does not match its workflow's `input=`.
            ConfigurationError: An argument of a submission is not valid.
            ContextError: A context takes more than `max_context_bytes`.
            TypeError: A context is not a mapping, or a value in it has no JSON form.
            ValueError: A value in a context is NaN or an infinity.
            DatabaseError: The database did not accept the submissions within `db_timeout`.
            RunnerClosedError: The runner was shut down.

        Example:
            >>> handles = runner.submit_many(("resize", {"file": name}) for name in names)

        Since 1.0.
        """
        return self._submit([request_of(entry) for entry in submissions])

    @suggests_arguments
    async def submit_many_async(
        self,
        submissions: Iterable[tuple[str | Workflow, Input | None] | Mapping[str, Any]],
    ) -> list[WorkflowHandle]:
        """Start many executions in one commit from a coroutine, without blocking the event loop.

        Args:
            submissions: The submissions, as for `submit_many`.

        Returns:
            A handle for each submission, in the same order.

        Raises:
            WorkflowNotFoundError: A workflow is not known.
            WorkflowInputError: A context does not match its workflow's `input=`.
            ConfigurationError: An argument of a submission is not valid.
            ContextError: A context takes more than `max_context_bytes`.
            TypeError: A context is not a mapping, or a value in it has no JSON form.
            ValueError: A value in a context is NaN or an infinity.
            DatabaseError: The database did not accept the submissions within `db_timeout`.
            RunnerClosedError: The runner was shut down.

        Example:
            >>> handles = await runner.submit_many_async([("resize", {"file": name})])
            >>> results = await asyncio.gather(*handles)

        Since 1.0.
        """
        return await self._submit_async([request_of(entry) for entry in submissions])

    @suggests_arguments
    def rerun(
        self,
        execution_id: str | WorkflowHandle,
        input: Input | None = None,
        *,
        version: str = "original",
        labels: Mapping[str, str] | None = None,
        note: str | None = None,
    ) -> WorkflowHandle:
        """Start a new execution with the input and the options of an earlier execution.

        The new execution has the input, the labels, the priority and the timeout of the earlier
        execution, but no key. The event `rerun_of` in its history names the earlier execution,
        which does not change. To continue the earlier execution itself, use `retry_execution`.

        Args:
            execution_id: The earlier execution, in any state, as a handle or an id.
            input: The initial context, as for `submit`; if omitted, the earlier execution's input.
            version: The version of the workflow to run: "original" for the version of the earlier
                execution, or "latest".
            labels: The labels, by name, in place of the earlier execution's labels.
            note: The reason, for the history.

        Returns:
            A handle of the new execution.

        Raises:
            WorkflowNotFoundError: No execution has this id.
            WorkflowInputError: The input does not match the workflow's `input=`. Nothing is
                stored. The error is a `ValueError`.
            ConfigurationError: An argument is not valid. The error is a `ValueError`.
            TypeError: The input is not a mapping, or a value in it has no JSON form.
            ValueError: A value in the input is NaN or an infinity.
            DatabaseError: The database does not answer.
            RunnerClosedError: The runner was shut down.

        Example:
            >>> again = runner.rerun(handle.id, {"day": "2026-01-02"}, note="the file was late")
            >>> again.result().status
            'Completed'

        Since 1.0.
        """
        from cloaca._executions.rerun import rerun_request

        self._catch_up()
        self._begin_early()
        request = rerun_request(self._core.reads, execution_id, input, version, labels, note)
        self._has_submitted = True
        runner: Any = self
        return WorkflowHandle(runner, self._core.reads.rerun(request), created=True)

    def _submit(self, requests: list[SubmitRequest]) -> list[WorkflowHandle]:
        # Threads that submit wait for the interpreter's lock, so this function makes few calls.
        if not requests:
            self._check_open()
        self._catch_up()
        if self._begins_at_use:
            self._begin_early()
        spans = self._tracing.begin(requests)
        if spans:
            requests = _traced(requests, spans)
        try:
            submitted = self._core.submit(requests)
        except BaseException as error:
            self._refused(spans, error)
            raise
        self._has_submitted = True
        if spans:
            self._tracing.submitted(spans, [execution.execution_id for execution in submitted])
        return _handles(self, requests, submitted)

    async def _submit_async(self, requests: list[SubmitRequest]) -> list[WorkflowHandle]:
        import asyncio

        self._check_open()
        if not requests:
            return []
        if self._revision != registry.revision:
            await asyncio.to_thread(self._catch_up)
        self._begin_early()
        spans = self._tracing.begin(requests)
        if spans:
            requests = _traced(requests, spans)
        try:
            submitted = await self._waiters.submit(requests)
        except BaseException as error:
            self._refused(spans, error)
            raise
        self._has_submitted = True
        if spans:
            ids = [execution.execution_id for execution in submitted]
            await asyncio.to_thread(self._tracing.submitted, spans, ids)
        return _handles(self, requests, submitted)

    def _refused(self, spans: list[ExecutionSpan], error: BaseException) -> None:
        for span in spans:
            span.abandon(error)
        if isinstance(error, WorkflowNotFoundError):
            registry.explain_unknown(error)


def _traced(requests: list[SubmitRequest], spans: list[ExecutionSpan]) -> list[SubmitRequest]:
    """Returns the requests with the trace contexts of their spans."""
    return [entry.with_trace(span.carrier) for entry, span in zip(requests, spans, strict=True)]


def _handles(
    runner: Any, requests: list[SubmitRequest], submitted: list[Submitted]
) -> list[WorkflowHandle]:
    if len(requests) == 1:
        found = submitted[0]
        return [WorkflowHandle(runner, found.execution_id, requests[0].key, found.created)]
    return [
        WorkflowHandle(runner, found.execution_id, entry.key, found.created)
        for entry, found in zip(requests, submitted, strict=True)
    ]


def _checked(result: WorkflowResult, check: bool) -> WorkflowResult:
    """Returns the result. With `check`, raises an error unless the execution completed."""
    return result.raise_for_status() if check else result
