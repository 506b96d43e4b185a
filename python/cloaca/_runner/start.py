"""Starts a runner: validates the arguments, opens the database, and starts the threads."""

from __future__ import annotations

import os
import threading

from cloaca import _core
from cloaca._observe.logger import prepare
from cloaca._observe.tracing import Tracing
from cloaca._runner.async_waiting import Waiters
from cloaca._runner.config import DefaultRunnerConfig
from cloaca._runner.shutdown import ShutdownRequest
from cloaca._values.exceptions import (
    CloacaException,
    ConfigurationError,
    DatabaseError,
    ForkedProcessError,
)
from cloaca._values.variables import note_location
from cloaca._workers.attempt_scope import install
from cloaca._workers.host import WorkerHost

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cloaca._runner.start_gate import StartGate


class SharedWorkerHost:
    """The worker host of a tenant's runner, whose threads belong to the parent runner."""

    is_shared = True

    def follow_log_level(self) -> None:
        """Does nothing, because the parent runner follows the log level."""

    def watch(self, gate: StartGate) -> None:
        """Starts the tenant's runner once its creator has assigned the runner to a variable."""
        threading.Thread(target=gate.wait, name="cloaca-start", daemon=True).start()

    def join(self, timeout: float) -> None:
        """Does nothing, because the threads belong to the parent runner."""


class Started:
    """The parts of a running runner."""

    def __init__(
        self,
        core: _core.Runner,
        config: DefaultRunnerConfig,
        worker_host: WorkerHost | SharedWorkerHost,
        tracing: Tracing,
    ) -> None:
        self.core = core
        self.schedules = _core.Schedules(core)
        self.config = config
        self.tracing = tracing
        self.worker_host = worker_host
        self.waiters = Waiters(core)
        self.shutdown_request = ShutdownRequest(core)
        # Reentrant, because a finalizer may submit while this thread registers workflows.
        self.lock = threading.RLock()
        #: The URL and the schema with which other parts of the process open the database.
        self.database: tuple[str, str | None] | None = None


def start(
    database_url: str | None,
    config: DefaultRunnerConfig | None,
    schema: str | None,
    *,
    is_gated: bool = False,
) -> Started:
    """Opens the database and starts the Python threads of an engine that claims nothing yet.

    Args:
        database_url: The database; if omitted, the environment variable `CLOACA_DATABASE_URL`.
        config: The settings; if omitted, the environment variables and the defaults.
        schema: The PostgreSQL schema.
        is_gated: Whether a `StartGate` will start the engine.

    Raises:
        ConfigurationError: An argument is not valid.
        DatabaseError: The database cannot be opened.
    """
    _refuse_green_threads()
    if database_url is None:
        database_url = os.environ.get("CLOACA_DATABASE_URL")
        if database_url is None:
            raise ConfigurationError(
                "there is no database URL",
                hint="give one, e.g. 'sqlite:///app.db', or set CLOACA_DATABASE_URL",
            )
    if not isinstance(database_url, str):
        raise ConfigurationError(
            f"the database URL must be a string, not {type(database_url).__name__}",
            hint="for example 'sqlite:///app.db'",
        )
    if config is None:
        config = DefaultRunnerConfig()
    if not isinstance(config, DefaultRunnerConfig):
        raise ConfigurationError(
            f"config must be a DefaultRunnerConfig, not {type(config).__name__}"
        )
    config.check()
    if config.capture_logs:
        import logging as logging  # log capture requires the loaded module
    log_level = prepare()
    install()
    settings = _core.Context(config._to_engine()).to_json()
    if schema is None:
        try:
            core = _core.Runner(database_url, settings, held=True)
        except DatabaseError as error:
            _name_absolute_path(error, database_url)
            raise
    else:
        core = _open_schema(schema, lambda: _core.Runner(database_url, settings, schema, held=True))
    note_location(core.location if "://" in core.location else database_url)
    started = start_threads(core, config, log_level, is_gated=is_gated)
    started.database = (database_url, schema)
    return started


def _name_absolute_path(error: DatabaseError, url: str) -> None:
    """Completes the hint about a missing folder if the URL seems to lack a slash.

    `sqlite:///tmp/app.db` is a relative path, but is often meant to be the absolute `/tmp/app.db`.
    """
    from pathlib import Path

    prefix = "sqlite:///"
    path = url.removeprefix(prefix).partition("?")[0]
    top, slash, _ = path.partition("/")
    is_relative = url.startswith(prefix) and top and slash
    is_missing = error.hint is not None and not Path(path).parent.is_dir()
    if is_relative and is_missing and Path("/", top).is_dir():
        absolute = f"for the absolute path /{path} write four slashes: {prefix}/{path}"
        error.hint = f"{error.hint}; {absolute}"


def _refuse_green_threads() -> None:
    """Refuses to start if gevent or eventlet has replaced threads by greenlets.

    Raises:
        ConfigurationError: Threads are replaced. A greenlet that waited for the engine would block
            all other greenlets.
    """
    import _thread

    starters = ("start_new_thread", "start_joinable_thread")
    if any(type(getattr(_thread, name, len)) is not type(len) for name in starters):
        raise ConfigurationError(
            "a runner needs threads, and gevent or eventlet has replaced them by greenlets",
            hint="keep threads: gevent.monkey.patch_all(thread=False) or "
            "eventlet.monkey_patch(thread=False); or run the runner in a process of its own",
        )


def start_threads(
    core: _core.Runner, config: DefaultRunnerConfig, log_level: int, *, is_gated: bool = False
) -> Started:
    """Starts the Python threads of a running engine."""
    tracing = Tracing(core)
    worker_host = WorkerHost(core, log_level, tracing, capture_logs=config.capture_logs)
    started = Started(core, config, worker_host, tracing)
    worker_host.start(is_gated)
    return started


def start_tenant(
    parent: _core.Runner, config: DefaultRunnerConfig, schema: str, database_url: str | None
) -> Started:
    """Opens a tenant's schema with the workers and connections of another runner.

    Raises:
        ConfigurationError: An argument is not valid.
        DatabaseError: The schema cannot be opened.
    """
    if database_url is not None and not isinstance(database_url, str):
        raise ConfigurationError(
            f"the database URL must be a string, not {type(database_url).__name__}"
        )
    core = _open_schema(schema, lambda: parent.tenant(schema, database_url))
    return Started(core, config, SharedWorkerHost(), Tracing(core))


def abandon(core: _core.Runner, worker_host: WorkerHost | SharedWorkerHost) -> None:
    """Stops an engine whose runner was dropped, without waiting for the engine."""

    def stop() -> None:
        try:
            core.stop(0)
        except ForkedProcessError:
            return  # this is a forked child; the workers belong to the parent process
        worker_host.join(1)

    try:
        threading.Thread(target=stop, name="cloaca-abandoned", daemon=True).start()
    except RuntimeError:
        return  # the interpreter is exiting


def _open_schema(schema: str, open_runner: Callable[[], _core.Runner]) -> _core.Runner:
    if not isinstance(schema, str):
        raise ConfigurationError(f"Schema name must be a string, not {type(schema).__name__}")
    if not schema:
        raise ConfigurationError("Schema name cannot be empty")
    if not (schema.isascii() and schema.isidentifier() and len(schema) <= 63):
        raise ConfigurationError(
            f"Schema name '{schema[:80]}' must contain only alphanumeric characters "
            "and underscores",
            hint="use at most 63 of A-Z a-z 0-9 _, and do not begin with a digit",
        )
    try:
        return open_runner()
    except CloacaException as error:
        raise type(error)(
            f"Failed to create DefaultRunner with schema '{schema}': {error.message}",
            code=error.code,
            hint=error.hint,
        ) from None
