"""The Rust engine as Python sees it.

Private: everything public is re-exported or wrapped by `cloaca`.

Times are microseconds since the Unix epoch (`*_us`), durations are microseconds too, unless a name
says otherwise. Every method that waits releases the interpreter and answers Ctrl-C; every method
refuses a forked child. Errors are raised as the classes of `cloaca._values.exceptions`, with their
`.code` and `.hint`. Plain data is returned as frozen classes with named fields.
"""

from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Final, TypeAlias, final, overload

__all__ = [
    "AnsweredStep",
    "AnsweredSubmission",
    "Bench",
    "BenchLoad",
    "BenchRunner",
    "CancelNotice",
    "Context",
    "DatabaseAdmin",
    "DatabaseHealth",
    "EndedSubscription",
    "EventRecord",
    "Execution",
    "ExecutionEnded",
    "ExecutionPage",
    "Failure",
    "FireTime",
    "Inspector",
    "InterruptWorker",
    "ListFilter",
    "LogLineRecord",
    "LogRecord",
    "LoopWaker",
    "LoopWanted",
    "Outcome",
    "Poll",
    "ProgressRecord",
    "ProgressReport",
    "Reads",
    "RerunRequest",
    "Runner",
    "RunnerRecord",
    "Schedules",
    "SchemaState",
    "SentSignal",
    "StepLog",
    "StoredWorkflow",
    "SubmitRequest",
    "Submitted",
    "SuperviseTimeout",
    "TaskHandler",
    "TaskRecord",
    "TenantCredentials",
    "TenantRecord",
    "TickCounts",
    "TickRecord",
    "WaitPage",
    "WaitRecord",
    "WebAccess",
    "WebExchange",
    "WebOptions",
    "WebServer",
    "WebService",
    "Work",
    "WorkLoad",
    "WorkerWanted",
    "Workflow",
    "__version__",
    "after_fork_child",
    "check_tenant",
    "cron_preview",
    "nearest",
    "now_us",
    "retry_delay_us",
    "schema_state",
    "set_encoder",
    "set_exceptions",
    "should_retry",
]

__version__: str

@final
class Context(MutableMapping[str, Any]):
    """Ordered map from string keys to JSON values.

    Encodes on write, decodes on read, records what was written.
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
        """Change a key that is present; `KeyError` if it is missing."""

    @overload
    def update(
        self, data: Mapping[str, Any] | Iterable[tuple[str, Any]] = ..., /, **values: Any
    ) -> None:
        """Works as for a dict."""

    def insert(self, key: str, value: Any) -> None: ...
    def remove(self, key: str) -> Any: ...
    def delete(self, key: str) -> None: ...
    def get_required(self, key: str) -> Any: ...
    def __reversed__(self) -> Iterator[str]: ...
    def popitem(self) -> tuple[str, Any]:
        """Remove the last key and return it with its value, as for a dict."""

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
    def _settle(self) -> None:
        """Store the changes inside lists and dicts that reads have returned."""

    def _raw(self, key: str) -> str | None:
        """Return the JSON text of a key's value; `None` if the key is missing."""

    def _decoded(self, key: str, missing: object) -> Any:
        """Return a new object with a key's value, or `missing`.

        A change inside of it does not count as written.
        """

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
    def always_runs(self) -> list[str]:
        """The workflows that the nodes of every execution without failures run as children."""

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
    @property
    def input_schema(self) -> dict[str, Any] | None:
        """The JSON schema of the input."""
    @property
    def output(self) -> str | tuple[str, ...] | None:
        """The keys of the context that are the output. `None`: the output is the final context."""
    @property
    def cancel_signals(self) -> list[str]:
        """The names of the signals that cancel executions."""

    @property
    def results(self) -> dict[str, str]:
        """The key that each value task's result is stored under, by the task's short id."""
    @property
    def parameters(self) -> dict[str, list[dict[str, Any]]]:
        """The resolved parameters of each typed task, by its short id."""
    def topological_sort(self) -> list[str]: ...
    def get_execution_levels(self) -> list[list[str]]: ...
    def get_roots(self) -> list[str]: ...
    def get_leaves(self) -> list[str]: ...
    def can_run_parallel(self, a: str, b: str) -> bool: ...
    def validate(self) -> None: ...
    def to_mermaid(self) -> str: ...
    def to_dot(self) -> str: ...

@final
class Failure:
    """Why a task or an execution failed."""

    task_id: Final[str | None]
    """The task; `None` if the execution itself failed, for example by its timeout."""
    type: Final[str]
    """The qualified name of the exception's type."""
    message: Final[str]
    traceback: Final[str | None]

@final
class TaskRecord:
    """The state of one task of an execution."""

    task_id: Final[str]
    status: Final[str]
    attempts: Final[int]
    due_at_us: Final[int | None]
    """When a ready task becomes due; `None` means now."""
    started_at_us: Final[int | None]
    ended_at_us: Final[int | None]
    error: Final[Failure | None]
    skip_reason: Final[str | None]

@final
class Execution:
    """A snapshot of an execution. Its parts are decoded when they are read."""

    @property
    def execution_id(self) -> str: ...
    @property
    def workflow_name(self) -> str: ...
    @property
    def output(self) -> str | tuple[str, ...] | None:
        """The keys of the context that are the output. `None`: the output is the final context."""
    @property
    def results(self) -> dict[str, str]:
        """The key that each value task's result is stored under, by the task's short id."""
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
    def start_at_us(self) -> int | None:
        """The earliest start; `None` means at once."""

    @property
    def started_at_us(self) -> int | None: ...
    @property
    def ended_at_us(self) -> int | None: ...
    @property
    def labels(self) -> dict[str, str]:
        """The labels, by name."""

    @property
    def error(self) -> Failure | None:
        """The first failed task's error, or the execution's own."""

    def final_context(self) -> Context: ...
    @property
    def final_id(self) -> str | None:
        """The id of the last execution of its final tasks, if there is one."""

    def final(self) -> Execution | None:
        """Return the last execution of its final tasks, as the database has it."""
    def is_map(self, task_id: str) -> bool:
        """Whether a task is a map."""

    def item_results(self, task_id: str) -> list[str | None]:
        """Return the results of a map's items as JSON texts, in the order of the list."""

    def tasks(self) -> list[TaskRecord]:
        """Return the states of its tasks, in the order of their declaration."""

@final
class Work:
    """A claimed task to run, or a callback to call."""

    def start(self, key: str, workflow: str, input: str) -> None:
        """Start an execution with the completion of the task. `input` is a JSON object."""

    @property
    def handler(self) -> int: ...
    @property
    def callback(self) -> bool: ...
    @property
    def error(self) -> str | None:
        """The text of the error that is passed to a callback; `None` means success."""

    @property
    def context(self) -> Context: ...
    @property
    def execution_id(self) -> str: ...
    @property
    def workflow_name(self) -> str: ...
    @property
    def task_id(self) -> str: ...
    @property
    def index(self) -> int | None:
        """The index of the element that a mapped task runs for; `None` for other tasks."""

    @property
    def attempt(self) -> int: ...
    @property
    def token(self) -> int: ...
    @property
    def timeout_us(self) -> int | None: ...
    @property
    def forward_key(self) -> str | None:
        """The idempotency key of the task's effects, if the workflow has final tasks."""

    def begin_deferral(self) -> bool:
        """Release the worker's slot; return `False` if that is not possible."""

    def end_deferral(self) -> None:
        """Reacquire a slot; a thread waits for a free one."""

    def beat(self) -> None: ...
    def end_callback(self) -> None: ...
    def is_cancelled(self) -> bool: ...

@final
class Poll:
    """One call of a trigger's function."""

    @property
    def name(self) -> str: ...
    @property
    def handler(self) -> int: ...
    @property
    def state(self) -> Any:
        """The state that the function has kept, or `None`."""

    @property
    def executions(self) -> list[str] | None:
        """The executions for whose ends the function is called; `None` if it is polled."""

    def execution(self, execution_id: str) -> Execution | None:
        """Return a snapshot of an execution, or `None` if it is deleted."""

    def end_all(self) -> None:
        """Report the results of the calls for ends of executions."""

    def end_many(self, fires: list[tuple[Context, str | None]], state: str | None = None) -> None:
        """Report the executions to start, each with its key, and the state to keep as JSON."""

    def end(self, kind: str, context: Context | None = None, error: str | None = None) -> None:
        """Report the result: `skip`, `fire` with a context, or `failed` with an error text."""

@final
class EndedSubscription:
    """A subscription that is over: its execution has ended, or the runner has shut down."""

    token: Final[int]
    """The token that `Runner.subscribe` returned."""
    execution: Final[Execution | None]
    """The ended execution; `None` if the runner has shut down."""

@final
class Submitted:
    """The execution that a submission led to."""

    execution_id: Final[str]
    created: Final[bool]
    """Whether the submission started it; false if an earlier execution has its key."""

@final
class AnsweredSubmission:
    """The answer to a submission."""

    token: Final[int]
    """The token that `Runner.begin_submit` returned."""
    submitted: Final[list[Submitted] | None]
    """The executions; `None` if they were refused."""
    error: Final[BaseException | None]
    """Why they were refused."""

@final
class AnsweredStep:
    """The answer about a step of a task."""

    token: Final[int]
    """The token that `load_steps`, `record_step` or `end_wait` of `Runner` returned."""
    error: Final[BaseException | None]
    """Why the step was refused; `None` if it is durable."""

@final
class StepLog:
    """The steps of one attempt: the recorded ones, and the keys that the attempt has used."""

    def __init__(self) -> None: ...
    def key(self, key: str) -> str:
        """Return the key under which a call is recorded. To be called in the order of the calls."""

    @property
    def loaded(self) -> bool:
        """Whether the recorded steps were read."""

    def recorded(self, key: str) -> str | None:
        """Return the recorded value of a step as JSON text."""

    def recorded_call(self, key: str) -> str | None:
        """Return the name of the call that recorded a step, such as `run_many`."""

    def recorded_children(self, key: str) -> list[str] | None:
        """Return the recorded ends of the children of a call; `None` if the call has not ended."""

    def missing_children(self, key: str, count: int) -> list[int]:
        """Return the numbers, below `count`, of the children whose ends are not recorded."""

    def reserve_children(self, work: Work, key: str, count: int | None) -> int:
        """Return the position of the step that will record the end of a call that runs children."""

@final
class LoopWaker:
    """Wakes an asyncio event loop through a readable file descriptor."""

    def __init__(self) -> None: ...
    def fileno(self) -> int: ...
    def completed(self) -> list[EndedSubscription | AnsweredSubmission | AnsweredStep]:
        """Return the subscriptions that ended, and the submissions and steps that were answered.

        This makes the descriptor unreadable. Call it first whenever the descriptor is readable,
        also for `Runner.loop_waker`, and only then `async_notices` and `take_async`: whatever
        arrives later makes it readable again.
        """

    def close(self) -> None: ...

@final
class CancelNotice:
    """A coroutine that the event loop must cancel."""

    token: Final[int]
    """The token of its attempt."""
    reason: Final[str]
    """`overrun` after a timeout, or `cancelled`."""

@final
class WorkerWanted:
    """Another worker thread is needed."""

@final
class LoopWanted:
    """The event loop's thread is needed. Sent once."""

@final
class SuperviseTimeout:
    """The timeout of `Runner.supervise` is over."""

@final
class InterruptWorker:
    """A worker's task overran its timeout and must be interrupted."""

    worker: Final[int]
    token: Final[int]
    """The token of the attempt that it runs."""

@final
class LogRecord:
    """A log record of the engine."""

    level: Final[int]
    """The level as `logging` numbers it; 5 for the engine's finest level."""
    target: Final[str]
    """The Rust module that logged it; it begins with `cloacina`."""
    message: Final[str]
    fields: Final[dict[str, Any]]
    """Text, numbers and booleans by name."""

@final
class ExecutionEnded:
    """An execution for which `Runner.announce_end` was called has ended."""

    execution_id: Final[str]
    status: Final[str]
    ended_at_us: Final[int | None]
    error: Final[str | None]
    """The type and message of its failure."""

_SupervisorEvent: TypeAlias = (
    WorkerWanted
    | LoopWanted
    | SuperviseTimeout
    | InterruptWorker
    | LogRecord
    | ExecutionEnded
    | Poll
)

@final
class Outcome:
    """The result of an attempt."""

    @staticmethod
    def completed() -> Outcome:
        """The function returned. The writes of `Work.context` are recorded."""

    @staticmethod
    def failed(
        type: str,
        message: str,
        traceback: str | None,
        lineage: list[str],
        retryable: bool,
    ) -> Outcome:
        """The function raised an exception. `lineage` names its base classes."""

    @staticmethod
    def retry(after_us: int | None, type: str, message: str, traceback: str | None) -> Outcome:
        """The function asked for another attempt.

        It starts after `after_us`, or after the delay of the task's retry policy.
        """

    @staticmethod
    def snooze(after_us: int) -> Outcome:
        """The function asked to run again after `after_us`; this does not count as an attempt."""

    @staticmethod
    def park(
        call: str,
        key: str,
        position: int,
        condition: str,
        timeout_us: int | None,
        runs: str | None,
    ) -> Outcome:
        """The function waits for a condition, and starts again from its top afterwards."""

    @property
    def kind(self) -> str:
        """`completed`, `failed`, `retry` or `snooze`."""

    @property
    def type(self) -> str | None:
        """The qualified name of the exception's type, if there is an exception."""

    @property
    def message(self) -> str | None: ...
    @property
    def traceback(self) -> str | None: ...

@final
class SentSignal:
    """The answer to a signal."""

    @property
    def seq(self) -> int:
        """Its number."""

    @property
    def created(self) -> bool:
        """Whether this call stored the signal; otherwise an earlier call with the same id did."""

    @property
    def woken(self) -> int:
        """The number of tasks that it woke at once."""

@final
class WaitRecord:
    """An open wait."""

    @property
    def kind(self) -> str:
        """`signal`, `approval`, `timer` or `cancel`."""

    @property
    def name(self) -> str:
        """The name of the signal or the approval."""

    @property
    def key(self) -> str | None:
        """The key of the signal."""

    @property
    def execution_id(self) -> str:
        """The execution."""

    @property
    def workflow(self) -> str:
        """The workflow's name."""

    @property
    def task_id(self) -> str | None:
        """The task's id."""

    @property
    def since_us(self) -> int:
        """The beginning of the wait, in microseconds since 1970."""

    @property
    def deadline_us(self) -> int | None:
        """The time at which it times out or its timer is due, in microseconds since 1970."""

    @property
    def title(self) -> str | None:
        """The title of an approval."""

    @property
    def to(self) -> str | None:
        """The person or group who decides."""

    @property
    def schema(self) -> str | None:
        """The JSON schema of the data of an approval, as JSON."""

@final
class WaitPage:
    """A page of open waits."""

    @property
    def items(self) -> list[WaitRecord]:
        """The waits."""

    @property
    def next(self) -> str | None:
        """The cursor of the next page."""

@final
class RerunRequest:
    """An execution to submit again.

    `input`, `labels`: those of the earlier execution if omitted. `latest`: run the latest stored
    version of the workflow.
    """

    def __new__(
        cls,
        execution_id: str,
        input: Context | None = None,
        latest: bool = False,
        labels: dict[str, str] | None = None,
        actor: str | None = None,
        note: str | None = None,
    ) -> RerunRequest: ...

@final
class SubmitRequest:
    """A submission: which workflow to start, with which input, and when."""

    def __new__(
        cls,
        workflow: str,
        context: Context | None = None,
        key: str | None = None,
        priority: int = 0,
        delay_us: int | None = None,
        at_us: int | None = None,
        timeout_us: int | None = None,
        labels: dict[str, str] | None = None,
    ) -> SubmitRequest: ...
    workflow: Final[str]
    context: Final[Context | None]
    """The input; `None` for an empty one."""
    key: Final[str | None]
    """The key under which the submission is unique."""
    priority: Final[int]
    """From -32768 to 32767. Higher priorities start first."""
    delay_us: Final[int | None]
    at_us: Final[int | None]
    timeout_us: Final[int | None]
    labels: Final[dict[str, str] | None]
    """By name."""
    trace: Final[str | None]
    """The trace context that is stored with the execution, as JSON."""
    def with_trace(self, trace: str) -> SubmitRequest:
        """Return a copy with a trace context."""

@final
class TaskHandler:
    """A handler of a task: a number by which Python finds the function, and how to run it."""

    def __new__(
        cls, executor: str, number: int, on_success: bool, on_failure: bool
    ) -> TaskHandler: ...
    executor: Final[str]
    """`threads` or `loop`."""
    number: Final[int]
    """The number of the function in the package's registry."""
    on_success: Final[bool]
    on_failure: Final[bool]

@final
class WorkLoad:
    """The numbers of tasks and callbacks that run, and that wait for a worker."""

    running: Final[int]
    waiting: Final[int]
    def __eq__(self, other: object, /) -> bool: ...

@final
class Runner:
    """The engine on one database, with its threads. It starts on construction."""

    def __new__(
        cls, database_url: str, config: str, schema: str | None = None, held: bool = False
    ) -> Runner:
        """`config` is JSON: see `RunnerSettings` in crates/cloaca-python/src/settings.rs.

        `held`: the runner claims nothing until `begin` is called.
        """

    def begin(self) -> None:
        """Begin to claim tasks, if it was opened with `held`. Later calls do nothing."""

    @property
    def begun(self) -> bool:
        """Whether it claims tasks."""

    def tenant(self, schema: str, database_url: str | None = None) -> Runner:
        """Return a runner for a tenant's schema.

        It shares this runner's workers and connections.
        """

    @property
    def location(self) -> str:
        """The location of the database, without a password."""

    @property
    def runner_id(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def reads(self) -> Reads:
        """Reads from the runner's database."""

    def register(self, workflow: Workflow, handlers: Mapping[str, TaskHandler]) -> None:
        """Register a workflow with handlers by task id."""

    def serve(self, workflow: str, definition: str, handler: TaskHandler) -> None:
        """Register a handler for an external task of a workflow that another program defines.

        `definition` is the JSON of a `TaskDefinition`: what this program declares of the task.
        """

    def submit(self, requests: list[SubmitRequest]) -> list[Submitted]:
        """Submit executions, all or none; return them once they are durable."""

    def begin_submit(self, waker: LoopWaker, requests: list[SubmitRequest]) -> int:
        """Submit executions, all or none; return a token.

        The waker wakes its loop when they are durable or refused.
        """

    def runs(self, work: Work) -> bool:
        """Return whether a task or a callback belongs to this runner."""

    def execute(self, request: SubmitRequest) -> Execution:
        """Submit an execution and wait for its end."""

    def cancel(self, execution_id: str) -> bool:
        """Cancel an execution; whether it was open."""

    def control(
        self,
        execution_id: str,
        action: str,
        from_task: str | None = None,
        from_step: str | None = None,
    ) -> str:
        """Cancel, pause, resume or retry an execution; return its new state once it is durable.

        `action` is `cancel`, `pause`, `resume` or `retry`.
        """

    def send(
        self,
        name: str,
        data: str,
        key: str | None = None,
        to: str | None = None,
        id: str | None = None,
        sender: str | None = None,
    ) -> SentSignal:
        """Send a signal, whose data is JSON; return its number once it is durable."""

    def decide(
        self,
        execution_id: str,
        task: str,
        approved: bool,
        data: str,
        by: str | None = None,
        reason: str | None = None,
    ) -> str:
        """Approve or reject an approval; return the execution's state once that is durable."""

    def reschedule(
        self, execution_id: str, task: str, at_us: int | None = None, after_us: int = 0
    ) -> str:
        """Move the due time of a timer or of a retry delay; return the execution's state."""

    def prune(self, older_than_us: int, limit: int) -> int:
        """Delete at most `limit` executions that ended at least this long ago.

        Return their number.
        """

    def metrics(self) -> str:
        """Return the counters in the text format of Prometheus."""

    def note_progress(self, work: Work, done: float, total: float, message: str | None) -> None:
        """Store the progress of an attempt. It is written a few times a second."""

    def note_logs(self, work: Work, lines: list[tuple[int, int, str, str]]) -> None:
        """Store log lines of an attempt: time_us, level, logger, message.

        They are tuples because an attempt may have many.
        """

    @property
    def clock_us(self) -> int:
        """The time on the runner's clock, in microseconds since 1970."""

    def load_steps(self, work: Work, log: StepLog, waker: LoopWaker | None) -> int | None:
        """Read the recorded steps of an attempt into its log.

        With a `waker`, return a token at once, and wake it later.
        """

    def reserve_step(self, work: Work, log: StepLog, key: str) -> int:
        """Return the position of the step that will record the end of a sleep or a wait."""

    def record_step(
        self,
        work: Work,
        log: StepLog,
        waker: LoopWaker | None,
        key: str,
        kind: str,
        started_at_us: int,
        value: str,
    ) -> int | None:
        """Record a step that ended; return when it is durable. `value` is JSON text.

        With a `waker`, return a token at once, and wake it when the step is durable or refused.
        """

    def end_wait(
        self, work: Work, log: StepLog, waker: LoopWaker | None, key: str, condition: str
    ) -> int | None:
        """Record the end of a wait whose condition already holds, and add it to the log.

        Otherwise like `record_step`. `condition` is JSON text.
        """

    def announce_end(self, execution_id: str) -> None:
        """Make `supervise` return an `ExecutionEnded` when an execution ends.

        It does so also if the execution has ended already.
        """

    def wait(self, execution_id: str, timeout_us: int | None) -> Execution | None:
        """Wait for the end of an execution; return `None` after the timeout."""

    def subscribe(self, waker: LoopWaker, execution_id: str) -> int:
        """Wake `waker` when an execution ends, also if it has ended already; return a token."""

    def unsubscribe(self, token: int) -> None:
        """Cancel a subscription."""

    def load(self) -> WorkLoad:
        """Return how many tasks run in this process, and how many wait for a worker here."""

    # Worker threads
    def next_work(self, worker: int) -> Work | None:
        """Wait for work; `None` ends the thread."""

    def finish_and_next(self, worker: int, work: Work, outcome: Outcome) -> Work | None:
        """Report an outcome and take the next work; `None` ends the thread.

        Detaches only when no work is queued.
        """

    # The supervisor thread
    def supervise(self, timeout_us: int | None = None) -> list[_SupervisorEvent]:
        """Wait for events for the supervisor thread.

        Return an empty list once the runner has ended, and a `SuperviseTimeout` after the timeout.
        """

    def set_log_level(self, level: int) -> None:
        """Set the lowest level of log records that `supervise` returns. It starts at 20."""

    # The event loop's thread
    @property
    def loop_waker(self) -> LoopWaker:
        """Readable when there is something for `take_async` or `async_notices`."""

    def take_async(self, limit: int) -> list[Work]:
        """Take queued work for the event loop, at most `limit` items.

        The waker does not signal again for the rest.
        """

    def async_notices(self) -> list[CancelNotice]:
        """Return the coroutines that the event loop must cancel."""

    def finish_async(self, work: Work, outcome: Outcome) -> None:
        """Report the outcome of a coroutine.

        Report coroutines that overran or were cancelled too; their outcome is dropped.
        """

    def stop(self, grace_us: int, count_open: int = 0) -> int:
        """Shut down gracefully and wait for it.

        A second call with a shorter grace period shortens the first one's. Returns the number of
        executions that are left open without a live runner, counted up to `count_open`.
        """

@final
class Inspector:
    """A database that is read and changed without a runner."""

    def __new__(
        cls,
        database_url: str,
        schema: str | None = None,
        migrate: bool = False,
        read_only: bool = False,
    ) -> Inspector:
        """Open a database. With `migrate` it is created and migrated; otherwise it must exist.

        With `read_only` the database refuses every change.
        """

    @property
    def location(self) -> str:
        """The location of the database, without a password."""

    @property
    def reads(self) -> Reads:
        """Reads from the database."""

    def cancel(self, execution_id: str) -> bool:
        """Cancel an execution; whether it was open."""

    def submit(self, request: SubmitRequest) -> Submitted:
        """Submit an execution of a stored workflow without a runner; return it once it is durable.

        A live runner with handlers for its tasks runs it.
        """

    def rerun(
        self,
        execution_id: str,
        input: Context | None = None,
        latest: bool = False,
        labels: dict[str, str] | None = None,
        actor: str | None = None,
        note: str | None = None,
    ) -> str:
        """Submit an execution like an earlier one; return its id once it is durable.

        `latest`: run the latest stored version of the workflow.
        """

    def control(
        self,
        execution_id: str,
        action: str,
        from_task: str | None = None,
        from_step: str | None = None,
    ) -> str:
        """Cancel, pause, resume or retry an execution; return its new state once it is durable.

        `action` is `cancel`, `pause`, `resume` or `retry`.
        """

    def send(
        self,
        name: str,
        data: str,
        key: str | None = None,
        to: str | None = None,
        id: str | None = None,
        sender: str | None = None,
    ) -> SentSignal:
        """Send a signal, whose data is JSON; return its number once it is durable."""

    def decide(
        self,
        execution_id: str,
        task: str,
        approved: bool,
        data: str,
        by: str | None = None,
        reason: str | None = None,
    ) -> str:
        """Approve or reject an approval; return the execution's state once that is durable."""

    def reschedule(
        self, execution_id: str, task: str, at_us: int | None = None, after_us: int = 0
    ) -> str:
        """Move the due time of a timer or of a retry delay; return the execution's state."""

    def prune(self, older_than_us: int, limit: int) -> int:
        """Delete at most `limit` executions that ended at least this long ago.

        Return their number.
        """

@final
class WebOptions:
    """How a database is served."""

    def __new__(
        cls,
        read_only: bool,
        hide_payloads: bool,
        redact: list[str],
        allowed_hosts: list[str] | None,
        trust_proxy: bool,
        trace_url: str | None = None,
    ) -> WebOptions:
        """Describe it. Without `allowed_hosts`, requests for any host are answered."""

@final
class WebAccess:
    """The access of an authenticated caller."""

    def __new__(cls, user: str, permissions: list[str], tenants: list[str] | None) -> WebAccess:
        """Describe it. Without `tenants`, it covers all tenants and the database itself."""

@final
class WebService:
    """The HTTP API of a database, without a socket."""

    def __new__(cls, database_url: str, schema: str | None, options: WebOptions) -> WebService:
        """Open a database that exists."""

    def admits(self, method: str, target: str, headers: list[tuple[bytes, bytes]]) -> bool:
        """Return whether a request passes the checks that come before authentication."""

    def begin(
        self,
        method: str,
        target: str,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
        access: WebAccess | None,
        waker: LoopWaker | None,
    ) -> WebExchange:
        """Begin to answer a request.

        `waker` wakes an event loop when a part of the answer has arrived.
        """

@final
class WebExchange:
    """A request whose answer is being made."""

    def take(self) -> tuple[int, list[tuple[bytes, bytes]]] | bytes | None:
        """Return the next part of the answer, or None if there is none yet.

        First come the status and the headers, then parts of the body, and an empty one at the end.
        """

    def wait(self) -> tuple[int, list[tuple[bytes, bytes]]] | bytes:
        """Wait for the next part of the answer."""

@final
class WebServer:
    """The HTTP API of a database on a port."""

    def __new__(
        cls,
        database_url: str,
        schema: str | None,
        options: WebOptions,
        host: str,
        port: int,
        token: str | None,
    ) -> WebServer:
        """Open a database that exists, and listen. Without a token every caller is let in."""

    @property
    def port(self) -> int:
        """The port."""

    def close(self) -> None:
        """Stop listening, and close all connections."""

@final
class ExecutionPage:
    """A page of a listing of executions."""

    executions: Final[list[Execution]]
    """Newest first."""
    next_cursor: Final[str | None]
    """The cursor of the next page; `None` on the last one."""
    prev_cursor: Final[str | None]
    """The cursor of the previous page; `None` on the first one."""
    scanned_until_us: Final[int | None]
    """When the last examined execution was submitted, if the search ended early."""

@final
class ListFilter:
    """The conditions that the executions of a listing meet."""

    def __new__(
        cls,
        *,
        workflows: list[str] = ...,
        versions: list[str] = ...,
        statuses: list[str] = ...,
        not_statuses: list[str] = ...,
        tags: list[tuple[str, str]] = ...,
        labels: list[tuple[str, str]] = ...,
        keys: list[str] | None = None,
        id_prefix: str | None = None,
        error: str | None = None,
        inputs: list[tuple[str, str]] = ...,
        schedule: str | None = None,
        runner: str | None = None,
        since_us: int | None = None,
        until_us: int | None = None,
        children: bool = False,
    ) -> ListFilter: ...

@final
class EventRecord:
    """One event of an execution's history."""

    time_us: Final[int]
    type: Final[str]
    execution_id: Final[str]
    task_id: Final[str | None]
    attempt: Final[int | None]
    runner_id: Final[str | None]
    data: Final[str | None]
    """Details as a JSON object."""

@final
class ProgressRecord:
    """The progress that a running task reported."""

    task_id: Final[str]
    attempt: Final[int]
    done: Final[float]
    total: Final[float]
    message: Final[str | None]
    items: Final[list[tuple[str, int]] | None]
    parallel: Final[int | None]
    time_us: Final[int]

@final
class ProgressReport:
    """An execution with the progress of its running tasks."""

    execution: Final[Execution]
    tasks: Final[list[ProgressRecord]]
    """The latest progress of each task that reported any."""

@final
class LogLineRecord:
    """A captured log line of a task."""

    task_id: Final[str]
    attempt: Final[int]
    time_us: Final[int]
    level: Final[int]
    logger: Final[str]
    message: Final[str]

@final
class RunnerRecord:
    """A runner that is registered in the database."""

    runner_id: Final[str]
    host: Final[str]
    pid: Final[int]
    started_at_us: Final[int]
    heartbeat_at_us: Final[int]
    lease_until_us: Final[int]
    is_alive: Final[bool]
    """Whether its lease is valid."""
    workflows: Final[list[str]]
    """The workflows that it has handlers for."""

@final
class StoredWorkflow:
    """A version of a workflow that is stored in the database."""

    number: Final[int]
    """Its number in the database; later versions have higher numbers."""
    workflow: Final[Workflow]

@final
class DatabaseHealth:
    """The result of a check of a database."""

    problems: Final[list[str]]
    """Empty if the database is sound."""
    size_bytes: Final[int]
    free_bytes: Final[int]
    """The unused part of the size."""
    advice: Final[list[str]]

@final
class TickRecord:
    """One tick of a schedule, or one poll of a trigger, and its outcome."""

    schedule_id: Final[str]
    due_us: Final[int]
    outcome: Final[str]
    execution_id: Final[str | None]
    created_us: Final[int]
    updated_us: Final[int]
    detail: Final[str | None]

@final
class TickCounts:
    """The number of ticks with each outcome."""

    fired: Final[int]
    missed: Final[int]
    skipped: Final[int]
    overlapped: Final[int]
    queued: Final[int]

@final
class Reads:
    """Reads from a database: executions, runners, workflows, schedules and triggers.

    A schedule or trigger is a dict: id, name, workflow, expression, timezone, interval_us, after,
    instance, input, enabled, catchup, max_catchup, overlap, start_us, end_us, jitter_us, next_us,
    last_us, fired_us, last_error, created_us, updated_us.
    """

    def status(self, execution_id: str) -> str:
        """Return the name of an execution's state."""

    def counts(self) -> list[tuple[str, int, bool]]:
        """Return the number of executions in each state, and whether it is exact."""

    def activity(
        self, since_us: int, until_us: int, buckets: int
    ) -> list[tuple[int, int, tuple[int, bool], tuple[int, bool]]]:
        """Return spans, oldest first, with the numbers of submitted and of failed executions."""

    def failures(self, since_us: int | None = None) -> list[dict[str, Any]]:
        """Return the failed executions grouped by cause, the newest failure first."""

    def waits(
        self,
        name: str | None = None,
        workflow: str | None = None,
        execution_id: str | None = None,
        kind: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> WaitPage:
        """Return a page of open waits, oldest first."""

    def find_executions(self, short_id: str, limit: int) -> list[str]:
        """Return the ids of at most `limit` executions that a shortened id means, newest first.

        A short id is a prefix of at least 4 characters, or the first 8 and at least the last 5,
        like `01a213ed-9c2e41`. It is found through the index of ids.
        """

    def items(
        self, execution_id: str, task_id: str, status: str | None, first: int, limit: int
    ) -> tuple[list[str], int | None]:
        """Return a page of a map's items as JSON, and the index from which the next one starts."""

    def maps(self, execution_id: str) -> list[tuple[str, list[tuple[str, int]], int | None]]:
        """Return the maps of an execution that have expanded.

        Each has the task's id, the number of items in each state, and the maximum number of running
        ones.
        """

    def set_map(self, execution_id: str, task_id: str, parallel: int | None) -> None:
        """Change how many items of a running map run at once."""

    def rerun(self, request: RerunRequest) -> str:
        """Submit an execution like an earlier one; return its id once it is durable."""

    def execution(self, execution_id: str) -> Execution:
        """Return a snapshot of an execution."""

    def executions(
        self, filter: ListFilter, limit: int, cursor: str | None = None
    ) -> ExecutionPage:
        """Return a page of executions, newest first."""

    def find(self, workflow: str, key: str) -> str | None:
        """Return the id of a workflow's execution with a key, or `None` if there is none."""

    def key(self, execution_id: str) -> str | None:
        """Return the key that an execution was submitted with."""

    def events(self, execution_id: str) -> list[EventRecord]:
        """Return the history of an execution, oldest event first."""

    def trace(self, execution_id: str) -> str | None:
        """Return the trace context that an execution was submitted with, as JSON."""

    def explain(self, id: str) -> list[str]:
        """Return sentences that say why an execution is in its state, or what a schedule waits for.

        A runner's reads also know the handlers that this process has registered.
        """

    def progress(self, execution_id: str) -> ProgressReport:
        """Return an execution with the progress of its running tasks."""

    def logs(self, execution_id: str) -> list[LogLineRecord]:
        """Return the captured log lines of an execution."""

    def runners(self) -> list[RunnerRecord]:
        """Return the runners that were not declared dead."""

    def workflows(self) -> list[StoredWorkflow]:
        """Return the stored versions of all workflows, oldest first."""

    def is_workflow_stored(self, workflow: str) -> bool:
        """Return whether a definition of a workflow is stored."""

    def check(self) -> DatabaseHealth:
        """Check whether the database is sound."""

    def schedules(self, enabled_only: bool, limit: int, offset: int) -> list[dict[str, Any]]:
        """Return schedules, oldest first."""

    def schedule(self, id: str) -> dict[str, Any]:
        """Return a schedule."""

    def schedule_history(self, id: str, limit: int, offset: int) -> list[TickRecord]:
        """Return ticks of a schedule or polls of a trigger, newest first."""

    def tick_counts(self, since_us: int) -> TickCounts:
        """Return the number of ticks of all schedules since a time, by outcome."""

    def triggers(self, enabled_only: bool, limit: int, offset: int) -> list[dict[str, Any]]:
        """Return triggers, oldest first."""

    def trigger(self, name: str) -> dict[str, Any] | None:
        """Return a trigger, or `None` if there is none of this name."""

@final
class Schedules:
    """Registers and changes the schedules and triggers of a database.

    Schedules and triggers are dicts, as in `Reads`.
    """

    def __new__(cls, target: Runner | Inspector) -> Schedules:
        """Take a runner or an inspector. Only a runner can register schedules and triggers."""

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
        """Register a schedule; return its id."""

    def update(self, id: str, expression: str | None, timezone: str | None) -> dict[str, Any]:
        """Change the expression or the time zone of a schedule; return the schedule."""

    def set_enabled(self, id: str, enabled: bool) -> dict[str, Any]:
        """Enable or disable a schedule; return it."""

    def delete(self, id: str) -> None:
        """Delete a schedule. Its history stays."""

    def run_now(self, id: str) -> str:
        """Start a schedule's workflow now; return the id of the execution."""

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
        after: tuple[str, list[str]] | None,
    ) -> str:
        """Register a trigger with the number of its function; return its id.

        `Runner.supervise` returns a `Poll` for each call of the function.
        """

    def set_trigger_enabled(self, name: str, enabled: bool) -> dict[str, Any]:
        """Enable or disable a trigger; return it."""

@final
class FireTime:
    """A time at which a cron expression fires."""

    at_us: Final[int]
    offset_seconds: Final[int]
    """The time zone's offset from UTC at that time."""

@final
class SchemaState:
    """The version of a database's schema."""

    current: Final[str | None]
    """The newest migration that was applied, if any."""
    pending: Final[list[str]]
    """The migrations that were not applied yet."""

def cron_preview(expression: str, timezone: str, count: int, start_us: int) -> list[FireTime]:
    """Return the next times at which a cron expression fires after `start_us`."""

def now_us() -> int:
    """Return the time in microseconds since the Unix epoch."""

def schema_state(database_url: str, schema: str | None = None) -> SchemaState:
    """Return the version of a database's schema. Changes nothing."""

def after_fork_child() -> None:
    """Mark this process as a forked child.

    Every engine object that its parent made raises `ForkedProcessError`.
    """

def set_exceptions(classes: dict[str, type[BaseException]]) -> None:
    """Set the exception classes by error code. Each takes `(message, *, code, hint)`.

    Raises `ValueError` if a code has no class.
    """

def set_encoder(encode: Any) -> None:
    """Set the function `encode(key, value) -> str` for values that are not plain.

    It raises `TypeError` or `ValueError`.
    """

def should_retry(policy: str, attempt: int, lineage: list[str], message: str) -> bool:
    """Return whether another attempt follows a failed one.

    The policy is JSON; `lineage` has the names of the error's type and its bases, nearest first.
    """

def retry_delay_us(policy: str, attempt: int, random: float) -> int:
    """Return the delay after a failed attempt.

    `random`, from 0 to 1, places it within the jitter.
    """

def nearest(typed: str, known: list[str]) -> str | None:
    """Return the known word that is most similar to a typed one, if any is similar."""

@final
class TenantCredentials:
    """A tenant with its credentials. Its `__repr__` shows no password."""

    username: Final[str]
    password: Final[str]
    schema_name: Final[str]
    connection_string: Final[str]
    """The database URL that a program of the tenant connects to, with the password."""

@final
class TenantRecord:
    """A tenant of a database."""

    schema_name: Final[str]
    username: Final[str | None]
    """The role that was created for the schema, if it still exists."""

@final
class DatabaseAdmin:
    """Creates, lists, migrates and removes tenants. It holds no open connection."""

    def __new__(cls, database_url: str) -> DatabaseAdmin: ...
    @property
    def location(self) -> str: ...
    def create_tenant(
        self, schema_name: str, username: str, password: str | None
    ) -> TenantCredentials:
        """Create a tenant: its schema, its role and the tables."""

    def remove_tenant(self, schema_name: str, username: str, force: bool) -> None:
        """Remove a tenant with its data; with `force` also if its programs are connected."""

    def list_tenants(self) -> list[TenantRecord]:
        """Return the schemas of tenants, each with the role that was created for it."""

    def migrate_tenant(self, schema_name: str) -> None:
        """Migrate the schema of a tenant."""

def check_tenant(schema_name: str, username: str, password: str | None = None) -> None:
    """Validate the settings of a tenant without connecting to the database."""

@final
class BenchLoad:
    """The work of a runner on a bench."""

    threads: Final[WorkLoad]
    event_loop: Final[WorkLoad]
    def __eq__(self, other: object, /) -> bool: ...

@final
class Bench:
    """An in-memory database with a virtual clock, for `cloaca.testing`."""

    def __new__(cls) -> Bench: ...
    @property
    def now_us(self) -> int: ...
    def move_to(self, now_us: int) -> None:
        """Move the virtual clock forward, never back."""

    def open(self, config: str) -> BenchRunner:
        """Start a runner on the bench."""

@final
class BenchRunner:
    """A runner on a bench, with control over its time and its crash."""

    @property
    def core(self) -> Runner: ...
    def crash_at(self, number: int, applied: bool) -> None:
        """Plan a crash at the nth transaction from now, before or after it is applied."""

    @property
    def commits(self) -> int: ...
    @property
    def crashed(self) -> bool: ...
    def settle(self) -> int:
        """Wait until everything that is due is done; return the time of the next wake-up."""

    def work(self) -> BenchLoad:
        """Return the numbers of tasks and callbacks on threads, and on the event loop."""

    @property
    def in_flight(self) -> int:
        """The number of claimed tasks whose end the coordinator has not processed."""

    def hurry(self, grace_us: int) -> None:
        """Begin to stop, and then advance only this runner's time, to skip its grace period."""
