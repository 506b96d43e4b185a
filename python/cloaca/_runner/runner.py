"""The runner: the engine on one database, with this process's workflows and workers."""

from __future__ import annotations

from cloaca._executions.handle import WorkflowHandle
from cloaca._executions.result import WorkflowResult
from cloaca._executions.submission import request, request_of
from cloaca._runner.control_methods import ControlMethods
from cloaca._runner.inspection_methods import InspectionMethods
from cloaca._runner.tenant_methods import TenantMethods
from cloaca._schedules.cron_methods import ScheduleMethods
from cloaca._schedules.trigger_methods import TriggerMethods
from cloaca._values.arguments import names_arguments, names_arguments_with
from cloaca._values.exceptions import (
    ConfigurationError,
    RunnerClosedError,
    WorkflowNotFoundError,
)
from cloaca._workers.blocking import check_blocking, refuse_own
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta
    from types import TracebackType
    from typing import Any, NoReturn, Self

    from cloaca._core import Context, SubmitRequest, Submitted
    from cloaca._observe.tracing import ExecutionSpan
    from cloaca._runner.config import DefaultRunnerConfig
    from cloaca._runner.start import Started
    from cloaca._runner.start_gate import StartGate
    from cloaca._workflows.workflow import Workflow

# Seconds that threads get to end once the engine has stopped.
_JOIN = 2.0
# Maximum number of open executions that are counted at the end.
_MAX_COUNTED = 100


def _settings_advice(argument: str) -> str | None:
    """A hint for a setting that was given to the runner itself."""
    from cloaca._runner.config import DefaultRunnerConfig
    from cloaca._values.arguments import meant

    known = list(DefaultRunnerConfig.__annotations__)
    setting = argument if argument in known else meant(argument, known)
    if setting is None:
        return None
    return f"settings go into the config: DefaultRunnerConfig({setting}=...)"


class DefaultRunner(
    ControlMethods, InspectionMethods, ScheduleMethods, TenantMethods, TriggerMethods
):
    """The engine on one database.

    It starts on construction, and runs every workflow that this process defines.

    Use it as a context manager, also with `async with`, or call `shutdown()`. It also runs
    tasks of executions that other processes submitted to the same database, if this process has the
    functions.

    Example:
        >>> with cloaca.DefaultRunner("sqlite:///etl.db") as runner:
        ...     result = runner.execute("etl", {"day": "2026-01-01"})

    Since 1.0.
    """

    _polls_triggers = True
    _starts_by_itself = True
    _gate: StartGate | None = None
    #: None until the runner has started: `__del__` is also called if starting failed.
    _worker_host: Any = None
    _has_submitted = False

    @names_arguments_with(_settings_advice)
    def __init__(
        self,
        database_url: str | None = None,
        config: DefaultRunnerConfig | None = None,
        *,
        schema: str | None = None,
        start: bool = True,
    ) -> None:
        """Open a database and start.

        No task runs before this has returned to its caller.

        Args:
            database_url: `sqlite:///relative.db`, `sqlite:////absolute.db`, `:memory:`, a bare
                path, or a `postgresql://` URL. The environment's `CLOACA_DATABASE_URL` if
                omitted.
            config: Settings; the environment's and the defaults if omitted.
            schema: The PostgreSQL schema to work in: one for each tenant.
            start: Whether the runner starts by itself. If not, it takes submissions, and runs
                nothing until `start()` is called.

        Raises:
            ConfigurationError: The URL, the schema's name or a setting is not valid. It is a
                `ValueError`.
            ConnectionError: The database cannot be opened. It is a `DatabaseError` and a builtin
                `ConnectionError`.
            MigrationError: The database's schema is newer than this program.
        """
        from cloaca._runner.start import start as open_runner

        if not isinstance(start, bool):
            raise ConfigurationError(f"start must be True or False, not {start!r}")
        self._starts_by_itself = start
        self._begin(open_runner(database_url, config, schema, is_gated=start))

    def _begin(self, started: Started) -> None:
        """Adopt an open engine, and have it claim tasks once the caller has the runner."""
        TenantMethods.__init__(self)
        self._shut = False
        self._core = started.core
        self._schedules = started.schedules
        self._worker_host = started.worker_host
        self._waiters = started.waiters
        self._shutdown_request = started.shutdown_request
        self._tracing = started.tracing
        self._config = started.config
        self._catching_up = started.lock
        self._revision = 0
        registry.add_runner(self)
        try:
            self._catch_up()
            self._serve_metrics()
        except BaseException:
            self.shutdown(timeout=0)
            raise
        if self._starts_by_itself and not self._core.begun:
            from cloaca._runner.start_gate import StartGate

            self._gate = StartGate(self._core, self)
            self._worker_host.watch(self._gate)

    def start(self) -> None:
        """Start, where the runner was made with `start=False`. A second call does nothing.

        Until then the runner is open: it takes submissions and control actions, claims no task,
        rescues none, and fires no schedule and no trigger.

        Raises:
            RunnerClosedError: The runner was shut down.

        Example:
            >>> runner = cloaca.DefaultRunner("sqlite:///etl.db", start=False)
            >>> handle = runner.submit("etl")
            >>> runner.start()

        Since 1.0.
        """
        self._check_open()
        self._core.begin()

    def _watch_caller(self) -> None:
        """Wait for the `as` of a `with` statement before the first claim."""
        if self._gate is not None and not self._core.begun:
            self._gate.watch()

    def _begin_early(self) -> None:
        """Start at once if the runner starts by itself: a caller that uses it has it."""
        if self._starts_by_itself and not self._core.begun:
            self._core.begin()

    @staticmethod
    def with_config(database_url: str, config: DefaultRunnerConfig) -> DefaultRunner:
        """A runner with settings: the same as `DefaultRunner(database_url, config)`.

        Args:
            database_url: As for the constructor.
            config: The settings.

        Returns:
            The runner, started.

        Raises:
            ConfigurationError: The URL or a setting is not valid. It is a `ValueError`.
            ConnectionError: The database cannot be opened.

        Since 1.0.
        """
        return DefaultRunner(database_url, config)

    @staticmethod
    def with_schema(database_url: str, schema: str) -> DefaultRunner:
        """A runner in a PostgreSQL schema, which is created if it does not exist.

        Args:
            database_url: A `postgresql://` URL.
            schema: The schema's name: letters, digits and `_`.

        Returns:
            The runner, started.

        Raises:
            ConfigurationError: The name is not valid, or the database has no schemas. It is a
                `ValueError`.

        Since 1.0.
        """
        if schema is None:
            raise ConfigurationError("Schema name cannot be empty")
        return DefaultRunner(database_url, schema=schema)

    @names_arguments
    def execute(
        self,
        workflow_name: str | Workflow,
        context: Context | Mapping[str, Any] | None = None,
        *,
        timeout: float | timedelta | None = None,
        key: str | None = None,
        priority: int = 0,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        progress: bool = False,
        check: bool = False,
    ) -> WorkflowResult:
        """Run a workflow and wait for its end. Ctrl-C stops waiting; the execution continues.

        Args:
            workflow_name: The workflow.
            context: The initial context.
            timeout: The execution's own limit in seconds, from its first task's start; it fails
                when that time has passed. `math.inf` for no limit, whatever the runner's
                `workflow_timeout_seconds` says.
            key: Makes the submission idempotent: an execution with this key is waited for, and none
                is started.
            priority: -32768 to 32767, higher first.
            delay: Seconds until it may start.
            at: The earliest start time; a datetime with a time zone.
            progress: Show a bar for each task on stderr while it runs. Nothing is shown if stderr
                is neither a terminal nor a notebook.
            check: Raise if the execution does not complete. Without it, a failure is only in the
                result and in the log.

        Returns:
            The result, also of an execution that failed, timed out or was cancelled, unless `check`
            is set.

        Raises:
            WorkflowNotFoundError: There is no such workflow. It is a `ValueError` and a `KeyError`.
            ConfigurationError: An argument is not valid. It is a `ValueError`.
            DatabaseError: The database did not take the submission within `db_timeout`.
            RunnerClosedError: The runner was shut down.
            WorkflowError: The code is `deadlock`: a coroutine of a runner calls this, or a task
                does and no worker would be left to run the workflow.
            WorkflowExecutionError: With `check`, the execution failed or was cancelled.
            WorkflowTimeoutError: With `check`, the execution exceeded its timeout. It is a
                `TimeoutError`.

        Example:
            >>> total = runner.execute("etl", check=True).final_context["total"]

        Since 1.0.
        """
        check_blocking("execute()", "`await runner.execute_async(...)`")
        self._catch_up()
        submission = request(
            workflow_name, context, key=key, priority=priority, delay=delay, at=at, timeout=timeout
        )
        self._begin_early()
        if progress:
            from cloaca._observe.progress_bars import follow

            (handle,) = self._submit([submission])
            return _checked(follow(self._core, handle.id), check)
        span = self._begin_trace(submission)
        if span is None:
            try:
                return _checked(WorkflowResult(self._core.execute(submission)), check)
            except WorkflowNotFoundError as error:
                registry.explain_unknown(error)
                raise
        try:
            result = WorkflowResult(self._core.execute(submission.with_trace(span.carrier)))
        except BaseException as error:
            self._refused([span], error)
            raise
        span.identify(result.execution_id)
        span.end(result.status, result._ended_at_us, result.error)
        return _checked(result, check)

    async def execute_async(
        self,
        workflow_name: str | Workflow,
        context: Context | Mapping[str, Any] | None = None,
        *,
        timeout: float | timedelta | None = None,
        key: str | None = None,
        priority: int = 0,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        check: bool = False,
    ) -> WorkflowResult:
        """Run a workflow and wait for its end on an event loop.

        Arguments and errors are those of `execute`.

        Args:
            workflow_name: The workflow.
            context: The initial context.
            timeout: The execution's own limit in seconds.
            key: Makes the submission idempotent.
            priority: -32768 to 32767, higher first.
            delay: Seconds until it may start.
            at: The earliest start time.
            check: Raise if the execution does not complete.

        Returns:
            The result, also of an execution that failed, timed out or was cancelled, unless `check`
            is set.

        Since 1.0.
        """
        submission = request(
            workflow_name, context, key=key, priority=priority, delay=delay, at=at, timeout=timeout
        )
        (handle,) = await self._submit_async([submission])
        return _checked(await handle, check)

    @names_arguments
    def submit(
        self,
        workflow: str | Workflow,
        context: Context | Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        priority: int = 0,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        timeout: float | timedelta | None = None,
    ) -> WorkflowHandle:
        """Start a workflow, without waiting for its end.

        The submission is durable when this method returns.

        Args:
            workflow: The workflow.
            context: The initial context.
            key: Makes the submission idempotent: while an execution of this workflow with this key
                exists, its handle is returned and none is started, whatever the context:
                `handle.created` tells. At most 512 characters.
            priority: -32768 to 32767, higher first.
            delay: Seconds until it may start.
            at: The earliest start time; a datetime with a time zone.
            timeout: The execution's own limit in seconds, from its first task's start; it fails
                when that time has passed. `math.inf` for no limit, whatever the runner's
                `workflow_timeout_seconds` says.

        Returns:
            A handle that follows and controls the execution; await it, or call its `result()`.

        Raises:
            WorkflowNotFoundError: There is no such workflow. It is a `ValueError` and a `KeyError`.
            ConfigurationError: An argument is not valid. It is a `ValueError`.
            DatabaseError: The database did not take the submission within `db_timeout`.
            RunnerClosedError: The runner was shut down.

        Since 1.0.
        """
        submission = request(
            workflow, context, key=key, priority=priority, delay=delay, at=at, timeout=timeout
        )
        return self._submit([submission])[0]

    async def submit_async(
        self,
        workflow: str | Workflow,
        context: Context | Mapping[str, Any] | None = None,
        *,
        key: str | None = None,
        priority: int = 0,
        delay: float | timedelta | None = None,
        at: datetime | None = None,
        timeout: float | timedelta | None = None,
    ) -> WorkflowHandle:
        """Start a workflow from a coroutine, without blocking the event loop meanwhile.

        The submission is durable when this returns. If the caller is cancelled before, the workflow
        may have been started: give a key to be able to submit again.

        Args:
            workflow: The workflow.
            context: The context that the tasks see at first.
            key: Makes the submission idempotent, as for `submit`.
            priority: -32768 to 32767, higher first.
            delay: Seconds until it may start.
            at: The earliest start; a datetime with a time zone.
            timeout: The execution's own limit in seconds, from its first task's start.

        Returns:
            The execution to follow and control; await it for its result.

        Raises:
            WorkflowNotFoundError: There is no such workflow. It is a `ValueError` and a `KeyError`.
            ConfigurationError: An argument is not valid. It is a `ValueError`.
            DatabaseError: The database did not take the submission within `db_timeout`.
            RunnerClosedError: The runner was shut down.

        Example:
            >>> handle = await runner.submit_async("mail", {"to": "ada@example.org"})
            >>> result = await handle

        Since 1.0.
        """
        submission = request(
            workflow, context, key=key, priority=priority, delay=delay, at=at, timeout=timeout
        )
        return (await self._submit_async([submission]))[0]

    def submit_many(
        self,
        submissions: Iterable[
            tuple[str | Workflow, Context | Mapping[str, Any] | None] | Mapping[str, Any]
        ],
    ) -> list[WorkflowHandle]:
        """Start many executions in one commit: all or none.

        Args:
            submissions: `(workflow, context)` pairs, or mappings with the names of `submit`'s
                arguments.

        Returns:
            A handle for each, in the order of the submissions.

        Raises:
            WorkflowNotFoundError: One of the workflows is not known.
            ConfigurationError: An argument of one of them is not valid.
            DatabaseError: The database did not take them within `db_timeout`.
            RunnerClosedError: The runner was shut down.

        Example:
            >>> handles = runner.submit_many(("resize", {"file": name}) for name in names)

        Since 1.0.
        """
        return self._submit([request_of(entry) for entry in submissions])

    async def submit_many_async(
        self,
        submissions: Iterable[
            tuple[str | Workflow, Context | Mapping[str, Any] | None] | Mapping[str, Any]
        ],
    ) -> list[WorkflowHandle]:
        """Start many executions in one commit from a coroutine, without blocking the event loop.

        Args:
            submissions: As for `submit_many`.

        Returns:
            A handle for each, in the order of the submissions.

        Raises:
            WorkflowNotFoundError: One of the workflows is not known.
            ConfigurationError: An argument of one of them is not valid.
            DatabaseError: The database did not take them within `db_timeout`.
            RunnerClosedError: The runner was shut down.

        Example:
            >>> handles = await runner.submit_many_async([("resize", {"file": name})])
            >>> results = await asyncio.gather(*handles)

        Since 1.0.
        """
        return await self._submit_async([request_of(entry) for entry in submissions])

    def get_handle(self, execution_id: str) -> WorkflowHandle:
        """The handle of an execution that exists, e.g. one that another process submitted.

        Args:
            execution_id: Its id.

        Returns:
            A handle like the one that `submit` returned.

        Raises:
            WorkflowNotFoundError: No execution has this id.

        Since 1.0.
        """
        self._core.reads.status(execution_id)
        return WorkflowHandle(self, execution_id)

    def run_forever(self) -> None:
        """Run until SIGTERM or SIGINT, then shut down. Running tasks finish, others are returned.

        A runner that was made with `start=False` starts here.

        A second signal stops the runner at once. On any thread but the main one, it runs until
        `shutdown` is called.

        Raises:
            SystemExit: After a second signal.
            RunnerClosedError: The runner has failed; the log says why.

        Since 1.0.
        """
        from cloaca._runner.signals import serve

        self._core.begin()
        serve(self)

    def shutdown(self, *, timeout: float | None = None) -> None:
        """Shut down: no new task starts, running ones may finish, other claims are returned.

        Calling it twice is harmless.

        Args:
            timeout: Maximum time for running tasks to finish, in seconds; the setting
                `shutdown_timeout` if omitted.

        Since 1.0.
        """
        tenants = self._tenant_runners()
        for runner in (self, *tenants):
            runner._shutdown_request.expect()
            registry.remove_runner(runner)
        grace = self._config.shutdown_timeout if timeout is None else timeout
        # Only a program that submits may believe that its executions are done. One that is
        # stopped at once must not wait for the database.
        count_open = _MAX_COUNTED if self._has_submitted and grace > 0 else 0
        left_open = self._core.stop(round(grace * 1_000_000), count_open)
        if left_open:
            self._tell_left_open(left_open)
        for tenant in tenants:
            # The engine has stopped them too.
            tenant.shutdown(timeout=0)
        self._shut = True
        self._close_insight()
        self._shutdown_request.make()
        self._waiters.close()
        self._worker_host.join(_JOIN)
        self._tracing.close()

    @property
    def config(self) -> DefaultRunnerConfig:
        """The settings. Changing them has no effect on a runner that has started. Since 1.0."""
        return self._config

    def _submit(self, requests: list[SubmitRequest]) -> list[WorkflowHandle]:
        self._catch_up()
        self._begin_early()
        requests, spans = self._begin_traces(requests)
        try:
            submitted = self._core.submit(requests)
        except BaseException as error:
            self._refused(spans, error)
            raise
        if spans:
            self._tracing.submitted(spans, [execution.execution_id for execution in submitted])
        return self._handles(requests, submitted)

    async def _submit_async(self, requests: list[SubmitRequest]) -> list[WorkflowHandle]:
        import asyncio

        if not requests:
            return []
        self._check_open()
        if self._revision != registry.revision:
            await asyncio.to_thread(self._catch_up)
        self._begin_early()
        requests, spans = self._begin_traces(requests)
        try:
            submitted = await self._waiters.submit(requests)
        except BaseException as error:
            self._refused(spans, error)
            raise
        if spans:
            ids = [execution.execution_id for execution in submitted]
            await asyncio.to_thread(self._tracing.submitted, spans, ids)
        return self._handles(requests, submitted)

    def _begin_traces(
        self, requests: list[SubmitRequest]
    ) -> tuple[list[SubmitRequest], list[ExecutionSpan | None]]:
        """The requests with their trace contexts, and the spans; no spans if tracing is off."""
        spans = [self._begin_trace(entry) for entry in requests]
        if not any(spans):
            return requests, []
        traced = [
            entry if span is None else entry.with_trace(span.carrier)
            for entry, span in zip(requests, spans, strict=True)
        ]
        return traced, spans

    def _refused(self, spans: list[ExecutionSpan | None], error: BaseException) -> None:
        for span in filter(None, spans):
            span.abandon(error)
        if isinstance(error, WorkflowNotFoundError):
            registry.explain_unknown(error)

    def _handles(
        self, requests: list[SubmitRequest], submitted: list[Submitted]
    ) -> list[WorkflowHandle]:
        self._has_submitted = True
        return [
            WorkflowHandle(self, found.execution_id, key=entry.key, created=found.created)
            for entry, found in zip(requests, submitted, strict=True)
        ]

    def _tell_left_open(self, count: int) -> None:
        from cloaca._observe.logger import logger

        what = "1 execution is" if count == 1 else f"{count} executions are"
        if count == _MAX_COUNTED:
            what = f"{count} or more executions are"
        its = "it goes" if count == 1 else "they go"
        if self._core.location.endswith(":memory:"):
            its = "it is lost" if count == 1 else "they are lost"
            end = "with the database in memory"
        else:
            end = "on with the next runner of this database"
        logger().warning(
            "%s open: %s %s; wait before the end with handle.result() or runner.wait_until_idle()",
            what,
            its,
            end,
        )

    def _catch_up(self, *, quietly: bool = False) -> None:
        """Register everything that was defined since the last call.

        Args:
            quietly: Whether an error is only logged: the next submission tries again.
        """
        self._worker_host.follow_log_level()
        if self._revision == registry.revision:
            return
        try:
            with self._catching_up:
                known = self._revision
                revision, workflows = registry.workflows_since(known)
                for workflow in workflows:
                    self._core.register(workflow._core, workflow._handlers())
                for name, task in registry.served_since(known):
                    from cloaca._runner.external import serve_external

                    serve_external(self._core, name, task)
                triggers = registry.triggers_since(known) if self._polls_triggers else ()
                for handler, trigger in triggers:
                    self._schedules.register_trigger(
                        trigger.name,
                        trigger.workflow,
                        trigger.interval_us,
                        trigger.expression,
                        trigger.timezone,
                        trigger.allow_concurrent,
                        handler,
                        trigger.is_async,
                    )
                self._revision = revision
        except Exception as error:
            if not quietly or self._core.closed:
                raise
            from cloaca._observe.logger import logger

            logger().warning("a workflow could not be registered now: %s", error)

    def _begin_wait(self, execution_id: str, *, blocks: bool = False) -> None:
        """Prepares a wait for the end of an execution, which may block the calling thread."""
        from cloaca._workers.attempt_scope import end_own_callback

        self._check_open()
        if blocks:
            check_blocking("result()", "`await handle`")
        else:
            refuse_own(execution_id)
        end_own_callback(execution_id)

    def _check_open(self) -> None:
        """Refuse to wait for anything once the runner is shut down.

        Raises:
            RunnerClosedError: It is.
        """
        if self._core.closed:
            raise RunnerClosedError(
                "the runner is shut down",
                hint="start another one, and wait there: runner.get_handle(execution_id)",
            )

    def _close_at_exit(self, grace: float) -> None:
        """Stop at the interpreter's end; nothing may be raised there."""
        try:
            self.shutdown(timeout=min(grace, self._config.shutdown_timeout))
        except BaseException:
            # For example Ctrl-C. Other runners rescue the running tasks when the lease expires.
            return

    def __enter__(self) -> Self:
        """The runner itself."""
        self._watch_caller()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut down."""
        if isinstance(error, KeyboardInterrupt):
            from cloaca._runner.interruption import shut_down

            shut_down(self)
        else:
            self.shutdown()

    async def __aenter__(self) -> Self:
        """The runner itself."""
        self._watch_caller()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut down, without blocking the loop."""
        import asyncio

        await asyncio.to_thread(self.shutdown)

    def __del__(self) -> None:
        """Warn about a runner that was not shut down, and stop it as a crash would.

        No work is lost.
        """
        # The parent shuts a tenant's runner down.
        if self._worker_host is None or self._shut or self._worker_host.is_shared:
            return
        import warnings

        warnings.warn(
            f"unclosed {self!r}: use it as a context manager, or call shutdown()",
            ResourceWarning,
            source=self,
            stacklevel=2,
        )
        from cloaca._runner.start import abandon

        abandon(self._core, self._worker_host)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse to copy, because each of two objects would shut the engine down.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a runner cannot be copied or pickled; start one in each process")

    def __repr__(self) -> str:
        """The database, and whether it is shut down or not started yet."""
        state = ""
        if self._core.closed:
            state = " closed"
        elif not (self._starts_by_itself or self._core.begun):
            state = " not started"
        return f"<DefaultRunner {self._core.location}{state}>"


def _checked(result: WorkflowResult, check: bool) -> WorkflowResult:
    """Returns the result, or raises for one that did not complete if `check` is set."""
    return result.raise_for_status() if check else result
