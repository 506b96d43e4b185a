"""The runner: the engine on one database, with this process's workflows and workers."""

from __future__ import annotations

import sys

from cloaca._executions.handle import WorkflowHandle, check_id
from cloaca._runner.control_methods import ControlMethods
from cloaca._runner.inspection_methods import InspectionMethods
from cloaca._runner.map_methods import MapMethods
from cloaca._runner.signal_methods import SignalMethods
from cloaca._runner.submission_methods import SubmissionMethods
from cloaca._runner.tenant_methods import TenantMethods
from cloaca._schedules.cron_methods import ScheduleMethods
from cloaca._schedules.trigger_methods import TriggerMethods
from cloaca._values.arguments import check_flag, suggests_arguments_with
from cloaca._values.duration import timeout_to_us
from cloaca._values.exceptions import ConfigurationError, RunnerClosedError
from cloaca._workers.attempt_scope import current, end_own_callback
from cloaca._workers.blocking import (
    FOR_CHILD,
    check_blocking,
    refuse_own,
    runs_coroutines,
    runs_event_loop,
)
from cloaca._workflows.registry import registry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType
    from typing import Any, NoReturn, Self

    from cloaca._core import Execution
    from cloaca._executions.result import WorkflowResult
    from cloaca._runner.config import DefaultRunnerConfig
    from cloaca._runner.start import Started
    from cloaca._runner.start_gate import StartGate

# Maximum time for the threads to end after the engine has stopped, in seconds.
_JOIN = 2.0
# The same maximum after a second Ctrl-C. Idle threads and cancelled coroutines end much sooner.
_SHORT_JOIN = 0.2
# Maximum number of open executions that a shutdown counts.
_MAX_COUNTED = 100


def _settings_advice(argument: str) -> str | None:
    """Returns a hint for a setting that was passed to the runner instead of its config."""
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
    """A runner: the engine on one database.

    The constructor starts the runner. The runner runs every workflow that this process defines. It
    also runs tasks of executions that other processes submitted to the same database, if this
    process has the tasks' functions.

    Use the runner as a context manager, with `with` or `async with`, or call `shutdown()`.

    Example:
        >>> with cloaca.DefaultRunner("sqlite:///etl.db") as runner:
        ...     result = runner.execute("etl", {"day": "2026-01-01"})

    Since 1.0.
    """

    _polls_triggers = True
    _starts_by_itself = True
    #: Whether the shutdown reports how many executions it leaves open.
    _tells_open = True
    # Maximum time for the threads to end after the engine has stopped, in seconds.
    _join_timeout = _JOIN
    _gate: StartGate | None = None
    # Kept for `__del__`: when the interpreter exits, the names of modules may be `None`.
    _is_finalizing = staticmethod(sys.is_finalizing)
    #: `None` until the runner has started, because `__del__` is also called if the start failed.
    _worker_host: Any = None

    @suggests_arguments_with(_settings_advice)
    def __init__(
        self,
        database_url: str | None = None,
        config: DefaultRunnerConfig | None = None,
        *,
        schema: str | None = None,
        start: bool = True,
    ) -> None:
        """Open a database and start the runner.

        No task runs before the constructor has returned to its caller.

        Args:
            database_url: `sqlite:///relative.db`, `sqlite:////absolute.db`, `:memory:`, a bare
                path, or a `postgresql://` URL. If omitted, the environment variable
                `CLOACA_DATABASE_URL`.
            config: The settings. If omitted, the environment variables and the defaults.
            schema: The PostgreSQL schema to work in. Each tenant has one.
            start: Whether the runner starts by itself. If not, it accepts submissions, but runs no
                task until `start()` is called.

        Raises:
            ConfigurationError: The URL, the schema's name or a setting is not valid. The error is
                a `ValueError`.
            ConnectionError: The database cannot be opened. The error is a `DatabaseError` and a
                builtin `ConnectionError`.
            MigrationError: The database's schema is newer than this program.
        """
        from cloaca._runner.start import start as open_runner

        self._starts_by_itself = check_flag("start", start)
        self._begin(open_runner(database_url, config, schema, is_gated=start))

    def _begin(self, started: Started) -> None:
        """Initialize the runner with an open engine.

        Unless the runner was created with `start=False`, the engine claims tasks once the caller
        has assigned the runner to a variable.
        """
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
        self._begins_at_use = self._starts_by_itself and not self._core.begun
        registry.add_runner(self)
        try:
            self._catch_up()
            self._serve_metrics()
        except BaseException:
            self.shutdown(timeout=0)
            raise
        if self._begins_at_use:
            from cloaca._runner.start_gate import StartGate

            self._gate = StartGate(self._core, self)
            self._worker_host.watch(self._gate)

    def start(self) -> None:
        """Start a runner that was created with `start=False`. A second call does nothing.

        Before the start, the runner accepts submissions and control actions. It does not claim or
        rescue tasks, and does not fire schedules or triggers. Runners that `tenant()`
        returned before this call start together with this runner.

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
        """Begin to claim tasks of this runner and of its tenants' runners."""
        self._core.begin()
        for tenant in self._tenant_runners():
            tenant._core.begin()

    def _watch_caller(self) -> None:
        """Delay the first claim until a `with` statement has assigned the runner to a variable."""
        if self._gate is not None and not self._core.begun:
            self._gate.watch()

    def _begin_early(self) -> None:
        """Begin to claim now, unless the runner was created with `start=False`.

        The caller already uses the runner, so there is no reason to wait.
        """
        if self._begins_at_use:
            self._begins_at_use = False
            self._core.begin()

    @staticmethod
    def with_config(database_url: str, config: DefaultRunnerConfig) -> DefaultRunner:
        """Return a runner with the given settings, like `DefaultRunner(database_url, config)`.

        Args:
            database_url: As for the constructor.
            config: The settings.

        Returns:
            The started runner.

        Raises:
            ConfigurationError: The URL or a setting is not valid. The error is a `ValueError`.
            ConnectionError: The database cannot be opened.
            MigrationError: The database's schema is newer than this program.

        Example:
            >>> config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=8)
            >>> runner = cloaca.DefaultRunner.with_config("sqlite:///etl.db", config)

        Since 1.0.
        """
        return DefaultRunner(database_url, config)

    @staticmethod
    def with_schema(database_url: str, schema: str) -> DefaultRunner:
        """Return a runner in a PostgreSQL schema, which is created if it does not exist.

        Args:
            database_url: A `postgresql://` URL.
            schema: The schema's name: letters, digits and `_`.

        Returns:
            The started runner.

        Raises:
            ConfigurationError: The name is not valid, or the database has no schemas. The error is
                a `ValueError`.
            ConnectionError: The database cannot be opened.
            MigrationError: The database's schema is newer than this program.

        Example:
            >>> runner = cloaca.DefaultRunner.with_schema("postgresql://db.example/app", "acme")

        Since 1.0.
        """
        if schema is None:
            raise ConfigurationError("Schema name cannot be empty")
        return DefaultRunner(database_url, schema=schema)

    def get_handle(self, execution_id: str) -> WorkflowHandle:
        """Return a handle of an existing execution, for example one that another process submitted.

        Args:
            execution_id: The execution's id.

        Returns:
            A handle like the one that `submit` returned.

        Raises:
            WorkflowNotFoundError: No execution has this id.

        Example:
            >>> runner.get_handle(execution_id).result().status

        Since 1.0.
        """
        self._core.reads.status(check_id(execution_id))
        return WorkflowHandle(self, execution_id)

    def run_forever(self) -> None:
        """Run until SIGTERM or SIGINT, then shut down.

        Running tasks finish; other claimed tasks are returned to the database. A second signal
        stops the runner at once. A runner that was created with `start=False` starts here. Only the
        main thread receives signals. On another thread the method returns after `shutdown` is
        called.

        Raises:
            SystemExit: A second signal has arrived. The exit status is 128 plus its number.
            RunnerClosedError: The runner has failed; the log shows the reason.

        Example:
            >>> with cloaca.DefaultRunner("sqlite:///etl.db") as runner:
            ...     runner.run_forever()

        Since 1.0.
        """
        from cloaca._runner.signals import serve

        # Signal handlers are installed before the runner begins to claim, because a signal may
        # arrive as soon as the first task runs.
        serve(self, begun=self._begin_claims)

    def shutdown(self, *, timeout: float | timedelta | str | None = None) -> None:
        """Shut down: no new task starts, running tasks may finish, other claims are returned.

        A second call is harmless.

        Args:
            timeout: Maximum time for running tasks to finish: seconds, a timedelta, or text such
                as `"30s"`; `math.inf` means no limit; the setting `shutdown_timeout` if omitted.

        Raises:
            ConfigurationError: The timeout is not a duration, or is negative. The error is a
                `ValueError`.

        Example:
            >>> runner.shutdown(timeout="5s")

        Since 1.0.
        """
        if timeout is None:
            grace_us = round(self._config.shutdown_timeout * 1_000_000)
        else:
            grace_us = timeout_to_us(timeout, zero=True)
        tenants = self._tenant_runners()
        for runner in (self, *tenants):
            runner._shutdown_request.expect()
            registry.remove_runner(runner)
            if runner._gate is not None:
                runner._gate.close()
        # A user may assume that all submitted executions have ended, so the shutdown reports open
        # executions. To count them, it reads the database. So a runner that is stopped at once does
        # not count them.
        is_told = self._tells_open and self._has_submitted and grace_us > 0
        count_open = _MAX_COUNTED if is_told else 0
        left_open = self._core.stop(grace_us, count_open)
        if left_open:
            self._tell_left_open(left_open)
        for tenant in tenants:
            # The engine has already stopped the tenants' runners.
            tenant.shutdown(timeout=0)
        self._shut = True
        self._close_insight()
        self._shutdown_request.make()
        self._waiters.close()
        self._worker_host.join(self._join_timeout)
        self._tracing.close()

    def _stop_at_once(self) -> None:
        """Shut down after a second Ctrl-C: return all claims, and do not wait for running tasks.

        If an earlier shutdown still waits for running tasks, this call ends that wait too.
        """
        self._join_timeout = _SHORT_JOIN
        self.shutdown(timeout=0)
        # The block of a `with` statement calls `shutdown` again when it ends.
        self._join_timeout = 0.0

    @property
    def config(self) -> DefaultRunnerConfig:
        """The settings of the runner.

        Changing them has no effect on a runner that has started, with two exceptions: `shutdown`
        uses the current `shutdown_timeout`, and `prune` the current `retention_days`.

        Since 1.0.
        """
        return self._config

    def _tell_left_open(self, count: int) -> None:
        from cloaca._observe.logger import logger
        from cloaca._runner.interruption import fate

        what = "1 execution is" if count == 1 else f"{count} executions are"
        if count == _MAX_COUNTED:
            what = f"{count} or more executions are"
        logger().warning(
            "%s open: %s %s; to wait for %s, call handle.result() or runner.wait_until_idle() "
            "before the runner shuts down",
            what,
            "it" if count == 1 else "they",
            fate(self._core, count),
            "it" if count == 1 else "them",
        )

    def _catch_up(self, *, quietly: bool = False) -> None:
        """Register everything that was defined since the last call.

        Args:
            quietly: Whether to log an error instead of raising it. The next submission tries again.
                Once the runner is closed, errors are not even logged.
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
            if not quietly:
                raise
            if self._core.closed:
                # A finalizer or another thread shut this runner down during the call. A runner that
                # is shut down does not need the definition.
                return
            from cloaca._observe.logger import logger

            logger().warning(
                "cannot register a workflow, task or trigger: %s; the next submission tries again",
                error,
            )

    def _begin_wait(self, execution_id: str, *, blocks: bool = False) -> WorkflowResult | None:
        """Prepare a wait for the end of an execution.

        Args:
            execution_id: The id of the execution.
            blocks: Whether the wait blocks this thread.

        Returns:
            The result, if this thread must not be blocked and the execution has already ended;
            `None` if the caller may wait.

        Raises:
            WorkflowError: The wait would block the event loop that runs all `async def` tasks, or
                a task waits for its own execution.
            RunnerClosedError: The runner is shut down, or it is not started and its database is in
                memory.
        """
        self._check_open()
        if blocks and not self._starts_by_itself and not self._core.begun:
            found = self.get_execution(execution_id)
            if found.status.is_final:
                return found
            self._check_started()
        if blocks and runs_event_loop():
            if runs_coroutines():
                found = self.get_execution(execution_id)
                if found.status.is_final:
                    return found
            check_blocking("result()", "`await handle`", FOR_CHILD)
        if current.get() is not None:
            # The caller is a task or a callback.
            refuse_own(execution_id)
            end_own_callback(execution_id)
        return None

    async def _await_end(self, execution_id: str) -> Execution:
        """Wait for the end of an execution on an event loop.

        A coroutine of a runner releases its slot while it waits.
        """
        from cloaca._workers.slot_release import coroutine_waits

        self._begin_wait(execution_id)
        with coroutine_waits():
            return await self._waiters.wait(execution_id)

    def _check_open(self) -> None:
        """Check that the runner is not shut down.

        Raises:
            RunnerClosedError: The runner is shut down.
        """
        if self._core.closed:
            raise RunnerClosedError(
                "the runner is shut down",
                hint="start another one, and wait there: runner.get_handle(execution_id)",
            )

    def _check_started(self) -> None:
        """Check that some runner can run the executions of this runner's database.

        Only this runner can use a database in memory.

        Raises:
            RunnerClosedError: The runner is shut down, or it is not started and its database is in
                memory.
        """
        from cloaca._runner.interruption import is_in_memory

        self._check_open()
        if not self._core.begun and is_in_memory(self._core):
            raise RunnerClosedError(
                "the runner is not started: call start(), because no other runner can use its "
                "database in memory"
            )

    def _close_at_exit(self, grace: float) -> None:
        """Stop when the interpreter exits, without raising an exception."""
        from cloaca._runner.interruption import shut_down_at_exit

        try:
            shut_down_at_exit(self, min(grace, self._config.shutdown_timeout))
        except BaseException:
            # After a failure, other runners rescue the running tasks when the lease expires.
            return

    def __enter__(self) -> Self:
        """Return the runner itself."""
        self._watch_caller()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut the runner down."""
        if isinstance(error, KeyboardInterrupt):
            from cloaca._runner.interruption import shut_down

            shut_down(self)
        else:
            self.shutdown()

    async def __aenter__(self) -> Self:
        """Return the runner itself."""
        self._watch_caller()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Shut the runner down, without blocking the event loop."""
        import asyncio

        from cloaca._runner.interruption import is_by_ctrl_c, shut_down_async

        if is_by_ctrl_c(error):
            await shut_down_async(self)
        else:
            await asyncio.to_thread(self.shutdown)

    def __del__(self) -> None:
        """Warn about a runner that was not shut down, and stop it without waiting for its tasks.

        No work is lost.
        """
        # The parent runner shuts down a tenant's runner.
        if self._worker_host is None or self._shut or self._worker_host.is_shared:
            return
        # When the interpreter exits, no module can be imported and no thread can be started.
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
        """Refuse to copy a runner, because each copy would shut the engine down.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a runner cannot be copied or pickled; start one in each process")

    def __repr__(self) -> str:
        """Return the database, and whether the runner is shut down or has not started."""
        state = ""
        if self._core.closed:
            state = " closed"
        elif not (self._starts_by_itself or self._core.begun):
            state = " not started"
        return f"<DefaultRunner {self._core.location}{state}>"


def _name_methods() -> None:
    """Names the inherited methods after `DefaultRunner`, the class that error messages should name.

    Python's error for a wrong argument contains the function's `__qualname__`.
    """
    for base in DefaultRunner.__bases__:
        for name, member in vars(base).items():
            functions: tuple[Any, Any] = (member, getattr(member, "__wrapped__", None))
            for function in functions:
                if hasattr(function, "__code__"):
                    function.__qualname__ = f"DefaultRunner.{name}"


_name_methods()
