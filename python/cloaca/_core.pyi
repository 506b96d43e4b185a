"""The Rust engine as Python sees it.

Private: everything public is re-exported or wrapped by `cloaca`.

Times are microseconds since the Unix epoch (`*_us`), spans are microseconds too, unless a name says
otherwise. Every method that waits releases the interpreter and honours Ctrl-C; every method refuses
a forked child. Errors are raised as the classes of `cloaca._values.exceptions`, with their `.code`
and `.hint`.
"""

import builtins
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, final, overload

__all__ = [
    "Bench",
    "BenchRunner",
    "Context",
    "DatabaseAdmin",
    "Execution",
    "Inspector",
    "LoopWaker",
    "Outcome",
    "Poll",
    "Runner",
    "Schedules",
    "Work",
    "Workflow",
    "__version__",
    "after_fork_child",
    "check_tenant",
    "cron_preview",
    "nearest",
    "now_us",
    "schema_state",
    "set_encoder",
    "set_exceptions",
]

__version__: str

@final
class Context(MutableMapping[str, Any]):
    """Ordered map from string keys to JSON values.

    Encodes on write, decodes on read, notes what was written.
    """

    def __new__(cls, data: Mapping[str, Any] | None = None) -> Context: ...
    def __getitem__(self, key: str, /) -> Any: ...
    def __setitem__(self, key: str, value: Any, /) -> None: ...
    def __delitem__(self, key: str, /) -> None: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def get(self, key: str, default: Any = None) -> Any: ...
    def setdefault(self, key: str, default: Any = None) -> Any: ...
    def set(self, key: str, value: Any) -> None: ...
    @overload  # type: ignore[override]
    def update(self, key: str, value: Any) -> None:
        """Change a key that is present; `KeyError` where it is not."""

    @overload
    def update(
        self, data: Mapping[str, Any] | Iterable[tuple[str, Any]] = ..., /, **values: Any
    ) -> None:
        """The same as with a dict."""

    def insert(self, key: str, value: Any) -> None: ...
    def remove(self, key: str) -> Any: ...
    def delete(self, key: str) -> None: ...
    def get_required(self, key: str) -> Any: ...
    def __reversed__(self) -> Iterator[str]: ...
    def popitem(self) -> tuple[str, Any]:
        """The last one, as with a dict."""

    def to_dict(self) -> dict[str, Any]: ...
    def update_from_dict(self, data: Mapping[str, Any]) -> None: ...
    def to_json(self) -> str: ...
    @staticmethod
    def from_json(text: str) -> Context: ...
    @property
    def data(self) -> dict[str, Any]: ...
    def copy(self) -> Context: ...
    def __or__(self, other: Mapping[str, Any], /) -> Context: ...
    def __ror__(self, other: Mapping[str, Any], /) -> Context: ...
    def __ior__(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]], /) -> Context: ...
    def _replace_with(self, other: Context) -> None:
        """Become a copy of `other`; the difference counts as written.

        Used for a task's return value.
        """

@final
class Workflow:
    """A valid workflow definition."""

    @staticmethod
    def build(definition: str) -> Workflow:
        """Validate the JSON of a `WorkflowDefinition` (crates/cloacina/src/workflow)."""

    @property
    def name(self) -> str: ...
    @property
    def description(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def tags(self) -> dict[str, str]: ...
    @property
    def tasks(self) -> list[str]: ...
    @property
    def dependencies(self) -> dict[str, list[str]]: ...
    def topological_sort(self) -> list[str]: ...
    def get_execution_levels(self) -> list[list[str]]: ...
    def get_roots(self) -> list[str]: ...
    def get_leaves(self) -> list[str]: ...
    def can_run_parallel(self, a: str, b: str) -> bool: ...
    def validate(self) -> None: ...
    def to_mermaid(self) -> str: ...
    def to_dot(self) -> str: ...

@final
class Execution:
    """What is known of an execution at one instant; parts are decoded when they are read."""

    @property
    def execution_id(self) -> str: ...
    @property
    def workflow_name(self) -> str: ...
    @property
    def workflow_version(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def key(self) -> str | None: ...
    @property
    def priority(self) -> int: ...
    @property
    def created_at_us(self) -> int: ...
    @property
    def started_at_us(self) -> int | None: ...
    @property
    def ended_at_us(self) -> int | None: ...
    @property
    def error(self) -> tuple[str | None, str, str, str | None] | None:
        """Task id, type, message, traceback."""

    def final_context(self) -> Context: ...
    def tasks(
        self,
    ) -> list[
        tuple[
            str,
            str,
            int,
            int | None,
            int | None,
            tuple[str, str, str | None] | None,
            str | None,
        ]
    ]:
        """Per task.

        Id, status, attempts, started_at_us, ended_at_us, (type, message, traceback), skip reason.
        """

@final
class Work:
    """A claimed task (`error is None and not callback`), or a callback to make."""

    @property
    def handler(self) -> int: ...
    @property
    def callback(self) -> bool: ...
    @property
    def error(self) -> str | None:
        """Of a callback: the error's text; `None` means success."""

    @property
    def context(self) -> Context: ...
    @property
    def execution_id(self) -> str: ...
    @property
    def workflow_name(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def token(self) -> int: ...
    @property
    def timeout_us(self) -> int | None: ...
    def begin_deferral(self) -> bool:
        """Release the worker's slot until `end_deferral`; `False` if that is not possible."""

    def end_deferral(self) -> None:
        """Reacquire the slot; a thread waits for a free one."""

    def beat(self) -> None: ...
    def is_cancelled(self) -> bool: ...

@final
class Poll:
    """A trigger's function to call."""

    @property
    def name(self) -> str: ...
    @property
    def handler(self) -> int: ...
    def end(self, kind: str, context: Context | None = None, error: str | None = None) -> None:
        """Say how it ended: `skip`, `fire` with a context, or `failed` with a text."""

@final
class LoopWaker:
    """Wakes an asyncio loop from Rust through a readable file descriptor."""

    def __init__(self) -> None: ...
    def fileno(self) -> int: ...
    def completed(self) -> list[tuple[int, Execution | None]]:
        """Token and execution of the subscriptions that ended since the last call.

        The execution is `None` when the runner is gone.

        Makes the waker unreadable. Call it first whenever the waker is readable, also on
        `Runner.loop_waker`, and only then `async_notices` and `take_async`: work that arrives later
        makes it readable again.
        """

    def close(self) -> None: ...

# How an attempt ended, for `finish_and_next` and `finish_async`:
# ("completed",): what `work.context` notes as written counts
# ("failed", type, message, traceback, lineage, retryable)
# ("retry", after_us | None, type, message, traceback)
# ("snooze", after_us)
Outcome = tuple[Any, ...]

@final
class Runner:
    """The engine on one database, with its threads. Starts at once."""

    def __new__(cls, database_url: str, config: str, schema: str | None = None) -> Runner:
        """`config` is JSON: see `RunnerSettings` in crates/cloaca-python/src/settings.rs."""

    def tenant(self, schema: str, database_url: str | None = None) -> Runner:
        """A runner for a tenant's schema, which shares this one's workers and connections."""

    @property
    def location(self) -> str:
        """The database, without a password."""

    @property
    def runner_id(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    def register(
        self, workflow: Workflow, handlers: Mapping[str, tuple[str, int, bool, bool]]
    ) -> None:
        """Handlers by task id.

        Executor ("threads" or "loop"), handler number, on_success, on_failure.
        """

    def serve(self, workflow: str, definition: str, handler: tuple[str, int, bool, bool]) -> None:
        """Take a handler for an external task of a workflow that another program defines.

        `definition` is the JSON of a `TaskDefinition`: what this program declares of the task.
        """

    def submit(
        self,
        requests: builtins.list[
            tuple[str, Context | None, str | None, int, int | None, int | None, int | None]
        ],
        traces: builtins.list[str | None] | None = None,
    ) -> builtins.list[str]:
        """Requests: workflow, context, key, priority, delay_us, at_us, timeout_us.

        All or none; durable on return. Of the traces, which are JSON, each is kept with its
        execution.
        """

    def execute(
        self,
        request: tuple[str, Context | None, str | None, int, int | None, int | None, int | None],
        trace: str | None = None,
    ) -> Execution:
        """Submit and wait for the end."""

    def inspector(self) -> Inspector:
        """The inspector of the runner's database."""

    def metrics(self) -> str:
        """The counters in the text format of Prometheus."""

    def note_progress(self, work: Work, done: float, total: float, message: str | None) -> None:
        """Take note of how far an attempt is; written a few times a second."""

    def note_logs(self, work: Work, lines: builtins.list[tuple[int, int, str, str]]) -> None:
        """Take log lines of an attempt: time_us, level, logger, message."""

    def announce_end(self, execution_id: str) -> None:
        """Have `supervise` tell of the end of an execution, also when it has ended already."""

    def wait(self, execution_id: str, timeout_us: int | None) -> Execution | None:
        """Wait for the end of an execution; `None` when the time is over."""

    def subscribe(self, waker: LoopWaker, execution_id: str) -> int:
        """Signal `waker` when an execution ends, at once if it has ended already."""

    def unsubscribe(self, token: int) -> None: ...
    def status(self, execution_id: str) -> str: ...
    def execution(self, execution_id: str) -> Execution: ...
    def list(
        self,
        workflow: str | None,
        statuses: builtins.list[str],
        tags: dict[str, str] | None,
        since_us: int | None,
        limit: int,
        cursor: str | None,
    ) -> tuple[builtins.list[Execution], str | None]: ...
    def events(
        self, execution_id: str
    ) -> builtins.list[tuple[int, str, str, str | None, int | None, str | None, str | None]]:
        """time_us, type, execution_id, task_id, attempt, runner_id, data as JSON."""

    def control(self, execution_id: str, action: str, from_task: str | None = None) -> str:
        """`cancel`, `pause`, `resume` or `retry`; the state after it is durable."""

    def load(self) -> tuple[int, int]:
        """Tasks that run and that wait for a worker, in this process."""

    # Worker threads
    def next_work(self, worker: int) -> Work | None:
        """Wait for work; `None` means: end this thread."""

    def finish_and_next(self, worker: int, work: Work, outcome: Outcome) -> Work | None:
        """Report and take the next work; detaches only when none waits.

        `None` means: end this thread.
        """

    # The supervisor thread
    def supervise(self, timeout_us: int | None = None) -> builtins.list[tuple[Any, ...]]:
        """Wait for what to do.

        ("worker_wanted",), ("interrupt", worker, token), ("log", level, target, message,
        {field: value}), ("poll", Poll) for a trigger's function to call, ("loop_wanted",) once when
        the first "loop" handler is registered, ("ended", execution id, status, ended_at_us, error)
        as asked by `announce_end`, ("timeout",) when the time is over. Empty list: end.

        The level of a log record is a number of `logging`, or 5 for the engine's finest; the target
        begins with `cloacina`; the values are text, numbers and booleans.
        """

    def set_log_level(self, level: int) -> None:
        """Queue log records of this level of `logging` and above for `supervise`; 20 at first."""

    # The event loop's thread
    @property
    def loop_waker(self) -> LoopWaker: ...
    def take_async(self, limit: int) -> builtins.list[Work]:
        """At most `limit` waiting tasks; the waker does not signal again for the others."""
    def async_notices(self) -> builtins.list[tuple[str, int]]:
        """("overrun" | "cancelled", token) for coroutines to cancel."""

    def finish_async(self, work: Work, outcome: Outcome) -> None:
        """Report; also what overran or was cancelled, whose result is dropped."""

    def stop(self, grace_us: int) -> None:
        """Graceful shutdown; waits. A second call with a shorter grace shortens the first."""

@final
class Inspector:
    """Reads a database and controls its executions, without a runner."""

    def __new__(
        cls, database_url: str, schema: str | None = None, migrate: bool = False
    ) -> Inspector:
        """With `migrate` the database is created and migrated; without, it must be there."""

    @property
    def location(self) -> str:
        """The database, without a password."""

    def status(self, execution_id: str) -> str: ...
    def execution(self, execution_id: str) -> Execution: ...
    def list(
        self,
        workflow: str | None,
        statuses: builtins.list[str],
        tags: dict[str, str] | None,
        since_us: int | None,
        limit: int,
        cursor: str | None,
    ) -> tuple[builtins.list[Execution], str | None]: ...
    def events(
        self, execution_id: str
    ) -> builtins.list[tuple[int, str, str, str | None, int | None, str | None, str | None]]:
        """time_us, type, execution_id, task_id, attempt, runner_id, data as JSON."""

    def control(self, execution_id: str, action: str, from_task: str | None = None) -> str:
        """`cancel`, `pause`, `resume` or `retry`; the state after it is durable."""

    def trace(self, execution_id: str) -> str | None:
        """The trace context that the execution was submitted with, as JSON."""

    def explain(self, id: str) -> builtins.list[str]:
        """Why an execution is where it is, or what a schedule waits for, in sentences."""

    def runners(
        self,
    ) -> builtins.list[tuple[str, str, int, int, int, int, bool, builtins.list[str]]]:
        """Id, host, pid, started_at_us, heartbeat_at_us, lease_until_us, is alive, workflows."""

    def workflows(self) -> builtins.list[tuple[int, Workflow]]:
        """Number in the database and workflow, oldest first."""

    def progress(
        self, execution_id: str
    ) -> tuple[Execution, builtins.list[tuple[str, int, float, float, str | None, int]]]:
        """The execution, and per task that said so: id, attempt, done, total, message, time_us."""

    def logs(self, execution_id: str) -> builtins.list[tuple[str, int, int, int, str, str]]:
        """Task id, attempt, time_us, level, logger, message."""

    def prune(self, older_than_us: int, limit: int) -> int:
        """Delete at most `limit` executions that ended longer ago; how many it deleted."""

    def check(self) -> tuple[builtins.list[str], int, int, builtins.list[str]]:
        """Problems, bytes on disk, bytes of them that hold nothing, advice."""

@final
class Schedules:
    """The schedules and triggers of a database; only with a runner can some be registered.

    A schedule or trigger is a dict: id, name, workflow, expression, timezone, interval_us,
    instance, input, enabled, catchup, max_catchup, overlap, start_us, end_us, jitter_us, next_us,
    last_us, fired_us, last_error, created_us, updated_us.
    """

    def __new__(cls, place: Runner | Inspector) -> Schedules: ...
    def register(
        self,
        workflow: str,
        expression: str,
        timezone: str,
        instance: str | None,
        input: Context | None,
        catchup: str,
        max_catchup: int | None,
        overlap: str,
        start_us: int | None,
        end_us: int | None,
        jitter_us: int,
        enabled: bool,
    ) -> str:
        """The schedule's id."""

    def is_workflow_stored(self, workflow: str) -> bool: ...
    def list(
        self, enabled_only: bool, limit: int, offset: int
    ) -> builtins.list[dict[str, Any]]: ...
    def get(self, id: str) -> dict[str, Any]: ...
    def update(self, id: str, expression: str | None, timezone: str | None) -> dict[str, Any]: ...
    def set_enabled(self, id: str, enabled: bool) -> dict[str, Any]: ...
    def delete(self, id: str) -> None: ...
    def run_now(self, id: str) -> str:
        """Start a schedule's workflow now; the execution's id."""

    def history(
        self, id: str, limit: int, offset: int
    ) -> builtins.list[tuple[str, int, str, str | None, int, int, str | None]]:
        """Newest first: schedule_id, due_us, outcome, execution_id, created_us, updated_us,
        detail."""

    def counts(self, since_us: int) -> tuple[int, int, int, int, int]:
        """Fired, missed, skipped, overlapped, queued."""

    def register_trigger(
        self,
        name: str,
        workflow: str,
        interval_us: int | None,
        expression: str | None,
        timezone: str,
        allow_concurrent: bool,
        handler: int,
        is_async: bool,
    ) -> str:
        """Make a trigger known; `("poll", Poll)` of `supervise` asks to call it."""

    def triggers(
        self, enabled_only: bool, limit: int, offset: int
    ) -> builtins.list[dict[str, Any]]: ...
    def trigger(self, name: str) -> dict[str, Any] | None: ...
    def set_trigger_enabled(self, name: str, enabled: bool) -> dict[str, Any]: ...

def cron_preview(
    expression: str, timezone: str, count: int, start_us: int
) -> list[tuple[int, int]]:
    """Fire times after an instant, and the zone's offset from UTC in seconds at each."""

def now_us() -> int: ...
def schema_state(
    database_url: str, schema: str | None = None
) -> tuple[str | None, builtins.list[str]]:
    """The newest version of a database's schema, and those that it lacks. Changes nothing."""

def after_fork_child() -> None:
    """Mark this process as a forked child.

    Every engine object made before raises ForkedProcessError.
    """

def set_exceptions(classes: dict[str, type[BaseException]]) -> None:
    """Exception classes by error code; each takes `(message, *, code, hint)`.

    `ValueError` when a code has none.
    """

def set_encoder(encode: Any) -> None:
    """`encode(key, value) -> str` for values that are not plain scalars.

    Raises TypeError or ValueError.
    """

def should_retry(policy: str, attempt: int, lineage: list[str], message: str) -> bool:
    """Whether another attempt follows a failed one.

    The policy is JSON; `lineage` has the names of the error's type and its bases, nearest first.
    """

def retry_delay_us(policy: str, attempt: int, random: float) -> int:
    """The delay after a failed attempt; `random` from 0 to 1 places it within the jitter."""

def nearest(typed: str, known: list[str]) -> str | None: ...

@final
class DatabaseAdmin:
    """Makes, lists, migrates and removes tenants. Holds no connection."""

    def __new__(cls, database_url: str) -> DatabaseAdmin: ...
    @property
    def location(self) -> str: ...
    def create_tenant(
        self, schema_name: str, username: str, password: str | None
    ) -> tuple[str, str, str, str]:
        """Username, password, schema and connection string."""

    def remove_tenant(self, schema_name: str, username: str, force: bool) -> None: ...
    def list_tenants(self) -> list[tuple[str, str | None]]:
        """Schemas, and the role that was made for each."""

    def migrate_tenant(self, schema_name: str) -> None: ...

def check_tenant(schema_name: str, username: str, password: str | None = None) -> None:
    """Check what a tenant is to be, without a database."""

@final
class Bench:
    """A database in memory and a clock that only moves when it is told, for `cloaca.testing`."""

    def __new__(cls) -> Bench: ...
    @property
    def now_us(self) -> int: ...
    def move_to(self, now_us: int) -> None:
        """Move the time on; it never goes back."""

    def open(self, config: str) -> BenchRunner:
        """Start a runner."""

@final
class BenchRunner:
    """One runner on a bench, as its tester sees it."""

    @property
    def core(self) -> Runner: ...
    def crash_at(self, number: int, applied: bool) -> None:
        """Have it die at its nth transaction from now: before it is applied, or after."""

    @property
    def commits(self) -> int: ...
    @property
    def crashed(self) -> bool: ...
    def settle(self) -> int:
        """Wait until the coordinator has done all that it can do now; when it is due next."""

    def work(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Running and waiting: of threads, of the event loop."""

    @property
    def in_flight(self) -> int:
        """Claimed tasks whose end has not reached the coordinator."""

    def hurry(self, grace_us: int) -> None:
        """Begin to stop, and let the time run away under this runner alone."""
