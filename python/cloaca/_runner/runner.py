"""The runner: the engine on one database, with this process's workflows and workers."""

from __future__ import annotations

import sys

from cloaca._executions.handle import WorkflowHandle
from cloaca._runner.control_methods import ControlMethods
from cloaca._runner.inspection_methods import InspectionMethods
from cloaca._runner.map_methods import MapMethods
from cloaca._runner.signal_methods import SignalMethods
from cloaca._runner.submission_methods import SubmissionMethods
from cloaca._runner.tenant_methods import TenantMethods
from cloaca._schedules.cron_methods import ScheduleMethods
from cloaca._schedules.trigger_methods import TriggerMethods
from cloaca._values.arguments import names_arguments_with
from cloaca._values.exceptions import ConfigurationError, RunnerClosedError
from cloaca._workers.blocking import check_blocking, refuse_own
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, NoReturn, Self

    from cloaca._core import Execution
    from cloaca._runner.config import DefaultRunnerConfig
    from cloaca._runner.start import Started
    from cloaca._runner.start_gate import StartGate

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
    ControlMethods,
    InspectionMethods,
    ScheduleMethods,
    MapMethods,
    SignalMethods,
    SubmissionMethods,
    TenantMethods,
    TriggerMethods,
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
    #: Whether the shutdown says how many executions it leaves open.
    _tells_open = True
    _gate: StartGate | None = None
    # For `__del__`, which at the interpreter's end finds `None` instead of modules.
    _is_finalizing = staticmethod(sys.is_finalizing)
    #: None until the runner has started: `__del__` is also called if starting failed.
    _worker_host: Any = None

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

        No task runs before the constructor has returned to its caller.

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
        self._database = started.database
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
        """Start a runner that was made with `start=False`. A second call does nothing.

        Until then the runner is open: it takes submissions and control actions, claims no task,
        rescues none, and fires no schedule and no trigger. Runners that its method `tenant` has
        made start with it.

        Raises:
            RunnerClosedError: The runner was shut down.

        Example:
            >>> runner = cloaca.DefaultRunner("sqlite:///etl.db", start=False)
            >>> handle = runner.submit("etl")
            >>> runner.start()

        Since 1.0.
        """
        self._check_open()
        self._begin_claims()

    def _begin_claims(self) -> None:
        """Begin to claim tasks, also those of tenants that this runner has made."""
        self._core.begin()
        for tenant in self._tenant_runners():
            tenant._core.begin()

    def _watch_caller(self) -> None:
        """Delay the first claim until the `as` of a `with` statement has stored the runner."""
        if self._gate is not None and not self._core.begun:
            self._gate.watch()

    def _begin_early(self) -> None:
        """Start at once if the runner starts by itself: a caller that uses it has stored it."""
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
            ConfigurationError: The URL or a setting is not valid. The error is a `ValueError`.
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

        # The handlers are installed first, because a signal may arrive with the first task.
        serve(self, begun=self._begin_claims)

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
            if runner._gate is not None:
                runner._gate.close()
        grace = self._config.shutdown_timeout if timeout is None else timeout
        # Only a program that submits may wrongly believe that its executions are done. A runner
        # that is stopped at once must not wait for the database.
        is_told = self._tells_open and self._has_submitted and grace > 0
        count_open = _MAX_COUNTED if is_told else 0
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

    def _tell_left_open(self, count: int) -> None:
        from cloaca._observe.logger import logger
        from cloaca._runner.interruption import fate

        what = "1 execution is" if count == 1 else f"{count} executions are"
        if count == _MAX_COUNTED:
            what = f"{count} or more executions are"
        logger().warning(
            "%s open: %s %s; wait before the end with handle.result() or runner.wait_until_idle()",
            what,
            "it" if count == 1 else "they",
            fate(self._core, count),
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
                        trigger.after,
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
        refuse_own(execution_id)
        end_own_callback(execution_id)

    async def _await_end(self, execution_id: str) -> Execution:
        """Waits for the end of an execution on an event loop.

        A coroutine of this runner or of another one releases its slot while it waits.
        """
        from cloaca._workers.slot_release import coroutine_waits

        self._begin_wait(execution_id)
        with coroutine_waits():
            return await self._waiters.wait(execution_id)

    def _check_open(self) -> None:
        """Refuse to wait for anything once the runner is shut down.

        Raises:
            RunnerClosedError: The runner is shut down.
        """
        if self._core.closed:
            raise RunnerClosedError(
                "the runner is shut down",
                hint="start another one, and wait there: runner.get_handle(execution_id)",
            )

    def _close_at_exit(self, grace: float) -> None:
        """Stop at the interpreter's end; nothing may be raised there."""
        from cloaca._runner.interruption import shut_down_at_exit

        try:
            shut_down_at_exit(self, min(grace, self._config.shutdown_timeout))
        except BaseException:
            # Other runners rescue the running tasks when the lease expires.
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

        from cloaca._runner.interruption import is_by_ctrl_c, shut_down_async

        if is_by_ctrl_c(error):
            await shut_down_async(self)
        else:
            await asyncio.to_thread(self.shutdown)

    def __del__(self) -> None:
        """Warn about a runner that was not shut down, and stop it as a crash would.

        No work is lost.
        """
        # The parent shuts a tenant's runner down.
        if self._worker_host is None or self._shut or self._worker_host.is_shared:
            return
        # At the interpreter's end nothing can be imported, and no thread can be started.
        if self._is_finalizing():
            return
        import warnings

        from cloaca._runner.start import abandon

        try:
            # Raises an exception if the program turns warnings into errors.
            warnings.warn(
                f"unclosed {self!r}: use it as a context manager, or call shutdown()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        finally:
            if self._gate is not None:
                self._gate.close()
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
