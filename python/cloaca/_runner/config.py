"""The settings of a runner."""

from __future__ import annotations

from cloaca._runner.settings import ALIASES, SETTINGS, default_value, resolve
from cloaca._values.arguments import suggests_arguments
from cloaca._values.exceptions import ConfigurationError
from cloaca._values.suggestion import suggestion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class DefaultRunnerConfig:
    """The settings of a `DefaultRunner`: attributes whose values are checked when they are set.

    If a setting is omitted, its environment variable applies, or else its default. The variable's
    name is `CLOACA_` with the setting's name in capital letters; the text `none` means `None`.

    Example:
        >>> config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=8, task_timeout_seconds=60)

    Since 1.0.
    """

    max_concurrent_tasks: int
    max_concurrent_async_tasks: int
    scheduler_poll_interval_ms: int
    task_timeout_seconds: float | None
    workflow_timeout_seconds: float | None
    db_pool_size: int
    db_timeout: float
    enable_recovery: bool
    heartbeat_interval: float
    lease_ttl: float
    stall_threshold: float | None
    max_rescues: int
    max_context_bytes: int
    shutdown_timeout: float
    retention_days: float | None
    signal_retention_days: float | None
    max_map_items: int
    auto_migrate: bool
    capture_logs: bool
    metrics_port: int | None
    metrics_host: str
    metrics_allowed_hosts: str
    enable_cron_scheduling: bool
    cron_poll_interval_seconds: int
    cron_max_catchup_executions: int
    cron_enable_recovery: bool
    cron_recovery_interval_seconds: int
    cron_lost_threshold_minutes: int
    cron_max_recovery_age_seconds: int
    cron_max_recovery_attempts: int

    @suggests_arguments
    def __init__(
        self,
        *,
        max_concurrent_tasks: int = default_value(4),
        scheduler_poll_interval_ms: int = default_value(100),
        task_timeout_seconds: float | None = default_value(300),
        workflow_timeout_seconds: float | None = default_value(None),
        pipeline_timeout_seconds: float | None = default_value(None),
        db_pool_size: int = default_value(10),
        connection_pool_size: int = default_value(10),
        enable_recovery: bool = default_value(True),
        enable_cron_scheduling: bool = default_value(True),
        cron_poll_interval_seconds: int = default_value(30),
        cron_max_catchup_executions: int = default_value(100),
        cron_enable_recovery: bool = default_value(True),
        cron_recovery_interval_seconds: int = default_value(300),
        cron_lost_threshold_minutes: int = default_value(10),
        cron_max_recovery_age_seconds: int = default_value(86400),
        cron_max_recovery_attempts: int = default_value(3),
        max_concurrent_async_tasks: int = default_value(1000),
        heartbeat_interval: float = default_value(5.0),
        lease_ttl: float = default_value(15.0),
        stall_threshold: float | None = default_value(None),
        max_rescues: int = default_value(3),
        max_context_bytes: int = default_value(16 * 1024 * 1024),
        shutdown_timeout: float = default_value(30.0),
        db_timeout: float = default_value(30.0),
        retention_days: float | None = default_value(30),
        signal_retention_days: float | None = default_value(30),
        max_map_items: int = default_value(100_000),
        auto_migrate: bool = default_value(True),
        capture_logs: bool = default_value(False),
        metrics_port: int | None = default_value(None),
        metrics_host: str = default_value("127.0.0.1"),
        metrics_allowed_hosts: str = default_value(""),
    ) -> None:
        """Make settings.

        Args:
            max_concurrent_tasks: Maximum number of functions that run at once, each on a thread.
            scheduler_poll_interval_ms: Interval at which the runner polls for changes by other
                processes when no notification arrives, in milliseconds.
            task_timeout_seconds: Timeout of one attempt of a task that sets no timeout, in seconds;
                `None` for no timeout.
            workflow_timeout_seconds: Timeout of an execution that was submitted without a timeout,
                in seconds; `None` for no timeout.
            pipeline_timeout_seconds: Another name for `workflow_timeout_seconds`.
            db_pool_size: Maximum number of connections to the database.
            connection_pool_size: Another name for `db_pool_size`.
            enable_recovery: Whether this runner rescues tasks of dead runners.
            enable_cron_scheduling: Whether this runner fires schedules.
            cron_poll_interval_seconds: Has no effect: the scheduler wakes up at the next due time.
            cron_max_catchup_executions: Maximum number of missed ticks that a schedule fires if the
                schedule itself sets no limit.
            cron_enable_recovery: Has no effect: ticks are recorded together with their executions
                and cannot be lost.
            cron_recovery_interval_seconds: Has no effect.
            cron_lost_threshold_minutes: Has no effect.
            cron_max_recovery_age_seconds: Has no effect.
            cron_max_recovery_attempts: Has no effect.
            max_concurrent_async_tasks: Maximum number of coroutines that run at once.
            heartbeat_interval: Interval at which the runner extends its lease, in seconds.
            lease_ttl: Time from the last heartbeat until the lease on the runner's claims expires,
                in seconds; at least twice `heartbeat_interval`.
            stall_threshold: Time without a sign of life from a task, in seconds, after which the
                runner logs one warning about the task; `None` means twice `lease_ttl`. Calls of
                `TaskHandle.heartbeat`, `set_progress` and `is_cancelled` are signs of life.
            max_rescues: Maximum number of times a task is rescued from a dead runner before the
                task fails.
            max_context_bytes: Maximum size of the values that one attempt writes to the context, in
                bytes.
            shutdown_timeout: Maximum time that shutdown waits for running tasks, in seconds.
            db_timeout: Maximum time that a call waits for a database that does not answer, in
                seconds.
            retention_days: Number of days from the end of an execution until the execution is
                deleted; `None` keeps all executions.
            signal_retention_days: Age in days at which signals are deleted; `None` keeps them. A
                signal that an open wait can still receive is kept.
            max_map_items: Maximum number of items of a task with `over=`; a longer list fails the
                task before any item starts.
            auto_migrate: Whether the runner migrates the database at its start.
            capture_logs: Whether log records and printed lines of tasks are stored with the
                executions: the first 500 lines of each attempt, at most about 262,144 characters,
                at the levels that the program's loggers let through.
            metrics_port: The port at which `/metrics` is served; 0 picks a free port, `None` turns
                the server off.
            metrics_host: The address at which `/metrics` is served; the default is reachable from
                this machine only.
            metrics_allowed_hosts: Host names that requests may use besides `localhost`,
                `metrics_host` and IP addresses, separated by commas; `*` allows any name.

        Raises:
            ConfigurationError: A value is not valid. The error is a `ValueError`.
        """
        given = locals()
        del given["self"]
        self.__dict__.update(resolve(given))
        self.check()

    @staticmethod
    def default() -> DefaultRunnerConfig:
        """Return the settings from the environment variables and the defaults.

        Raises:
            ConfigurationError: The value of a variable is not valid. The error is a `ValueError`.

        Example:
            >>> config = cloaca.DefaultRunnerConfig.default()
            >>> config.max_concurrent_tasks = 8

        Since 1.0.
        """
        return DefaultRunnerConfig()

    def check(self) -> None:
        """Check that the settings are consistent. A runner calls this method when it starts.

        Raises:
            ConfigurationError: `lease_ttl` is less than twice `heartbeat_interval`. The error is a
                `ValueError`.

        Example:
            >>> config = cloaca.DefaultRunnerConfig()
            >>> config.lease_ttl, config.heartbeat_interval = 60, 20
            >>> config.check()

        Since 1.0.
        """
        if self.lease_ttl < 2 * self.heartbeat_interval:
            raise ConfigurationError(
                f"lease_ttl ({self.lease_ttl:g} s) must be at least twice heartbeat_interval "
                f"({self.heartbeat_interval:g} s)",
                hint="raise lease_ttl, so that a lease survives one lost heartbeat",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return all settings by name.

        Example:
            >>> cloaca.DefaultRunnerConfig(lease_ttl=60).to_dict()["lease_ttl"]
            60

        Since 1.0.
        """
        return {name: self.__dict__[name] for name in SETTINGS}

    def _to_engine(self) -> dict[str, Any]:
        """Return the settings in the form that the engine reads."""
        data: dict[str, Any] = {}
        for name, setting in SETTINGS.items():
            if setting.to_engine is not None:
                engine_name, unit = setting.to_engine
                value = self.__dict__[name]
                data[engine_name] = round(value * unit) if unit and value is not None else value
        return data

    def __setattr__(self, name: str, value: object) -> None:
        """Check a setting and set it."""
        stored = ALIASES.get(name, name)
        setting = SETTINGS.get(stored)
        if setting is None:
            hint = suggestion(name, SETTINGS)
            raise AttributeError(
                f"DefaultRunnerConfig has no setting {name!r}" + (f"; {hint}" if hint else "")
            )
        self.__dict__[stored] = setting.check(name, value)

    @property
    def pipeline_timeout_seconds(self) -> float | None:
        """Another name for `workflow_timeout_seconds`. Since 1.0."""
        return self.workflow_timeout_seconds

    @property
    def connection_pool_size(self) -> int:
        """Another name for `db_pool_size`. Since 1.0."""
        return self.db_pool_size

    def __eq__(self, other: object) -> bool:
        """Return whether all settings are the same."""
        if not isinstance(other, DefaultRunnerConfig):
            return NotImplemented
        return self.to_dict() == other.to_dict()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return all settings."""
        return f"DefaultRunnerConfig({', '.join(f'{k}={v!r}' for k, v in self.to_dict().items())})"
