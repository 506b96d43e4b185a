"""The types of `cloaca._core`, the Rust engine's Python module.

The module is private: `cloaca` re-exports or wraps everything public.

Names that end in `_us` are times in microseconds since the Unix epoch, or durations in
microseconds. Methods that wait release the interpreter lock; on the main thread, Ctrl-C interrupts
most of these waits. In a forked child, methods that use the database or the engine's threads raise
`ForkedProcessError`. Errors of the engine are raised as classes of `cloaca._values.exceptions`,
with `.code` and `.hint`. Plain data is returned as frozen classes with named fields.
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
    "WebLog",
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
    "encode_plain",
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
    """An ordered map from string keys to JSON values.

    The context encodes values on write, decodes them on read, and records which keys were written.

    Example:
        >>> context = cloaca.Context({"rows": [1, 2]})
        >>> context["total"] = sum(context["rows"])
        >>> context.to_json()
        '{"rows":[1,2],"total":3}'

    Since 1.0.
    """

    def __new__(cls, data: Mapping[str, Any] | None = None) -> Context:
        """Make a context with the keys and values of a mapping; an empty context if omitted."""

    def __getitem__(self, key: str, /) -> Any: ...
    def __setitem__(self, key: str, value: Any, /) -> None: ...
    def __delitem__(self, key: str, /) -> None: ...
    def __iter__(self) -> Iterator[str]: ...
    def __len__(self) -> int: ...
    def __contains__(self, key: object, /) -> bool: ...
    def __eq__(self, other: object, /) -> bool: ...
    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key, or `default` if the key is missing.

        Every read of a list or dict returns the same object, and a change inside the object counts
        as a write. Since 1.0.
        """

    def setdefault(self, key: str, default: Any = None) -> Any:
        """Return the value of a key; a missing key is first set to `default`. Since 1.0."""

    def set(self, key: str, value: Any) -> None:
        """Set a key, like `context[key] = value`.

        Raises `TypeError` if the value has no JSON form, and `ValueError` if it contains NaN, an
        infinity or itself. Since 1.0.
        """

    @overload  # type: ignore[override]
    def update(self, key: str, value: Any) -> None:
        """Change the value of a key; raise `KeyError` if the key is missing. Since 1.0."""

    @overload
    def update(
        self, data: Mapping[str, Any] | Iterable[tuple[str, Any]] = ..., /, **values: Any
    ) -> None:
        """Update the context like a dict. Since 1.0."""

    def insert(self, key: str, value: Any) -> None:
        """Set a key that is missing; raise `ValueError` if the key is present. Since 1.0."""

    def remove(self, key: str) -> Any:
        """Remove a key; return its value, or `None` if the key is missing. Since 1.0."""

    def delete(self, key: str) -> None:
        """Remove a key; raise `KeyError` if the key is missing. Since 1.0."""

    def get_required(self, key: str) -> Any:
        """Return the value of a key; raise `ContextError` if the key is missing. Since 1.0."""

    def __reversed__(self) -> Iterator[str]: ...
    def popitem(self) -> tuple[str, Any]:
        """Remove the last key, and return the key and its value; raise `KeyError` if empty.

        Since 1.0.
        """

    def to_dict(self) -> dict[str, Any]:
        """Return all keys and values as a new dict. Since 1.0."""

    def update_from_dict(self, data: Mapping[str, Any]) -> None:
        """Set all keys of a mapping, or none if a value has no JSON form. Since 1.0."""

    def to_json(self) -> str:
        """Return the context as a JSON object: compact text, without white space. Since 1.0."""

    @staticmethod
    def from_json(text: str) -> Context:
        """Return a context with the keys and values of a JSON object.

        Raises `ValueError` if the text is not a JSON object, or a value is nested deeper than 512
        levels. Since 1.0.
        """

    @property
    def data(self) -> dict[str, Any]:
        """A new dict with all keys and values, like `to_dict()`. Since 1.0."""

    def copy(self) -> Context:
        """Return a separate context with the same keys and values. Since 1.0."""

    def __or__(self, other: Mapping[str, Any], /) -> Context: ...
    def __ror__(self, other: Mapping[str, Any], /) -> Context: ...
    def __ior__(self, other: Mapping[str, Any] | Iterable[tuple[str, Any]], /) -> Context: ...
    def _settle(self) -> None:
        """Store changes that the program made inside lists and dicts that it has read."""

    def _raw(self, key: str) -> str | None:
        """Return the JSON text of a key's value; `None` if the key is missing."""

    def _decoded(self, key: str, missing: object) -> Any:
        """Return a key's value as a new object, or `missing` if the key is missing.

        Changes inside the returned object are not stored.
        """

    def _replace_with(self, other: Context) -> None:
        """Become a copy of `other`, the context that a task returned.

        The keys that change are recorded as written.
        """

@final
class Workflow:
    """A valid workflow definition."""

    @staticmethod
    def build(definition: str) -> Workflow:
        """Build a workflow from the JSON of a `WorkflowDefinition` and validate it.

        `WorkflowDefinition` is a Rust type of crates/cloacina/src/workflow.
        """

    @property
    def always_runs(self) -> list[str]:
        """The names of workflows that every execution without failures runs as children."""

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
        """The JSON schema of the input; `None` if the workflow declares no input."""
    @property
    def output(self) -> str | tuple[str, ...] | None:
        """The context keys that form the output; `None` if the final context is the output."""
    @property
    def cancel_signals(self) -> list[str]:
        """The names of the signals that cancel executions of the workflow."""

    @property
    def results(self) -> dict[str, str]:
        """The context key of each value task's result, by the task's short id (semantics J3)."""
    @property
    def parameters(self) -> dict[str, list[dict[str, Any]]]:
        """The resolved parameters of each typed task, by the task's short id."""
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
    """The cause of a failure of a task or an execution."""

    task_id: Final[str | None]
    """The failed task; `None` if the execution itself failed, for example at its timeout."""
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
    """The time at which a ready task is due; `None` means now."""
    started_at_us: Final[int | None]
    ended_at_us: Final[int | None]
    error: Final[Failure | None]
    skip_reason: Final[str | None]

@final
class Execution:
    """A snapshot of an execution. Each property is decoded when it is read."""

    @property
    def execution_id(self) -> str: ...
    @property
    def workflow_name(self) -> str: ...
    @property
    def output(self) -> str | tuple[str, ...] | None:
        """The context keys that form the output; `None` if the final context is the output."""
    @property
    def results(self) -> dict[str, str]:
        """The context key of each value task's result, by the task's short id (semantics J3)."""
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
        """The earliest time at which the execution may start; `None` means at once."""

    @property
    def started_at_us(self) -> int | None: ...
    @property
    def ended_at_us(self) -> int | None: ...
    @property
    def origin(self) -> tuple[int, str | None, int | None] | None:
        """The position of the parent task, the key of the starting call, and the child's number.

        The key is `None` if no function started the child, and the number is `None` if the call or
        the node has one child. The property is `None` if the execution is not the child of a task.
        """

    @property
    def labels(self) -> dict[str, str]:
        """The labels, by name."""

    @property
    def error(self) -> Failure | None:
        """The error of the first failed task, or of the execution itself, for example a timeout."""

    def final_context(self) -> Context: ...
    @property
    def final_id(self) -> str | None:
        """The id of the execution of this execution's final tasks; `None` if there is none."""

    def final(self) -> Execution | None:
        """Read the execution `final_id` from the database; return `None` if there is none."""
    def is_map(self, task_id: str) -> bool:
        """Return whether a task is a map."""

    def item_results(self, task_id: str) -> list[str | None]:
        """Return the results of a map's items as JSON texts, in the order of the list.

        An item without a result is `None`.
        """

    def tasks(self) -> list[TaskRecord]:
        """Return the states of the tasks, in the order of their declaration."""

@final
class Work:
    """A claimed task to run, or a callback to call."""

    def start(self, key: str, workflow: str, input: str) -> None:
        """Request an execution. The transaction that completes the task submits it.

        `input` is a JSON object.
        """

    @property
    def handler(self) -> int:
        """The number of the task's function in the package's registry."""

    @property
    def callback(self) -> bool:
        """Whether this is a callback to call, not a task to run."""

    @property
    def error(self) -> str | None:
        """The text of the error that a callback receives; `None` means success."""

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
        """The index of the map's item that this work runs; `None` for other tasks."""

    @property
    def attempt(self) -> int: ...
    @property
    def token(self) -> int:
        """The number that identifies the attempt in events; 0 for a callback."""

    @property
    def timeout_us(self) -> int | None:
        """The timeout of the attempt; `None` for no limit."""

    @property
    def forward_key(self) -> str | None:
        """The idempotency key of the task's effects.

        `None` unless the workflow has final tasks, or the task is a compensation.
        """

    def begin_deferral(self) -> bool:
        """Release the worker's slot; return `False` if that is not possible."""

    def end_deferral(self) -> None:
        """Reacquire a slot; a worker thread blocks until a slot is free."""

    def beat(self) -> None:
        """Record that the task is active, so that it does not count as stalled."""

    def end_callback(self) -> None:
        """Record that the callback has returned; waiting callers then receive the result."""

    def is_cancelled(self) -> bool:
        """Return whether the task must stop.

        This is the case if the execution was cancelled, if the attempt or the execution timed out,
        or if the runner has given up the attempt.
        """

@final
class Poll:
    """The request to call a trigger's function.

    The function of a polled trigger is called once; any other function is called once for each of
    `executions`.
    """

    @property
    def name(self) -> str: ...
    @property
    def handler(self) -> int: ...
    @property
    def state(self) -> Any:
        """The state that an earlier call of the function stored, or `None`."""

    @property
    def executions(self) -> list[str] | None:
        """The ended executions for which to call the function; `None` for a polled trigger."""

    def execution(self, execution_id: str) -> Execution | None:
        """Return a snapshot of an execution; `None` if the execution was deleted."""

    def end_all(self) -> None:
        """Report that the function was called for all of `executions`."""

    def end_many(self, fires: list[tuple[Context, str | None]], state: str | None = None) -> None:
        """Report the executions to start, each with its key, and the new state as JSON text."""

    def end(self, kind: str, context: Context | None = None, error: str | None = None) -> None:
        """Report the result: `skip`, `fire` with a context, or `failed` with an error text."""

@final
class EndedSubscription:
    """A subscription that has ended: its execution has ended, or the runner has shut down."""

    token: Final[int]
    """The token that `Runner.subscribe` returned."""
    execution: Final[Execution | None]
    """The ended execution; `None` if the runner has shut down."""

@final
class Submitted:
    """The result of a submission: a new execution, or an earlier execution with the same key."""

    execution_id: Final[str]
    created: Final[bool]
    """Whether the submission created the execution; false if an earlier execution has its key."""

@final
class AnsweredSubmission:
    """The answer to a submission."""

    token: Final[int]
    """The token that `Runner.begin_submit` returned."""
    submitted: Final[list[Submitted] | None]
    """The executions; `None` if the submission was refused."""
    error: Final[BaseException | None]
    """The reason for the refusal; `None` if the submission was accepted."""

@final
class AnsweredStep:
    """The answer to an attempt's request to read or record its steps."""

    token: Final[int]
    """The token that `load_steps`, `record_step` or `end_wait` of `Runner` returned."""
    error: Final[BaseException | None]
    """The reason for the refusal; `None` if the request succeeded."""

@final
class StepLog:
    """The steps of one attempt: the recorded steps, and the keys that the attempt has used."""

    def __init__(self) -> None: ...
    def key(self, key: str) -> str:
        """Return the key under which a call with `key` is recorded: `key`, then `key#2`, and so on.

        Must be called once for each call, in the order of the calls.
        """

    def replay(self, key: str) -> tuple[str, tuple[str, str] | None]:
        """Call `key`, then `recorded` with the key that it returned; return both results."""

    @property
    def loaded(self) -> bool:
        """Whether the recorded steps were read."""

    def recorded(self, key: str) -> tuple[str, str] | None:
        """Return the call that recorded a step, e.g. `sleep`, and the step's value as JSON text.

        Return `None` if no step with this key is recorded.
        """

    def recorded_children(self, key: str) -> list[str] | None:
        """Return the recorded outcomes of a call's children; `None` if the call has not ended."""

    def missing_children(self, key: str, count: int) -> list[int]:
        """Return the numbers, below `count`, of the children that have no recorded outcome."""

    def reserve_children(self, work: Work, key: str, count: int | None) -> int:
        """Return the position of the step that will record the outcome of a call with children.

        `count`: the number of children of `run_many`; `None` for `run`.
        """

@final
class LoopWaker:
    """Wakes an asyncio event loop through a readable file descriptor."""

    def __init__(self) -> None: ...
    def fileno(self) -> int: ...
    def completed(self) -> list[EndedSubscription | AnsweredSubmission | AnsweredStep]:
        """Return the subscriptions that ended, and the answered submissions and step requests.

        This method makes the descriptor unreadable; later arrivals make it readable again. So call
        this method first whenever the descriptor is readable. For `Runner.loop_waker`, then call
        `async_notices` and `take_async`.
        """

    def close(self) -> None: ...

@final
class CancelNotice:
    """A coroutine that the event loop must cancel."""

    token: Final[int]
    """The token of the coroutine's attempt."""
    reason: Final[str]
    """`overrun` after a timeout, or `cancelled`."""

@final
class WorkerWanted:
    """The request to start another worker thread."""

@final
class LoopWanted:
    """The request to start the event loop's thread. A runner sends it once."""

@final
class SuperviseTimeout:
    """The event that `supervise` returns if no other event arrived before its timeout."""

@final
class InterruptWorker:
    """The request to interrupt a worker whose task has overrun its timeout."""

    worker: Final[int]
    token: Final[int]
    """The token of the attempt to interrupt."""

@final
class LogRecord:
    """A log record of the engine."""

    level: Final[int]
    """The level as `logging` numbers it; 5 for the engine's finest level."""
    target: Final[str]
    """The target or the Rust module of the log statement; begins with `cloacina`."""
    message: Final[str]
    fields: Final[dict[str, Any]]
    """The record's fields by name: texts, numbers and booleans."""

@final
class ExecutionEnded:
    """The event that reports the end of an execution watched by `Runner.announce_end`."""

    execution_id: Final[str]
    status: Final[str]
    ended_at_us: Final[int | None]
    error: Final[str | None]
    """The type and message of the execution's failure."""

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
        """The function raised an exception.

        `lineage` names the exception's type and its bases, nearest first.
        """

    @staticmethod
    def retry(after_us: int | None, type: str, message: str, traceback: str | None) -> Outcome:
        """The function asked for another attempt.

        The next attempt starts after `after_us`, or after the delay of the task's retry policy.
        """

    @staticmethod
    def snooze(after_us: int) -> Outcome:
        """The function asked to run again after `after_us`. The attempt does not count."""

    @staticmethod
    def park(
        call: str,
        key: str,
        position: int,
        condition: str,
        timeout_us: int | None,
        runs: str | None,
    ) -> Outcome:
        """The function waits for a condition, and is called again when the wait ends."""

    @property
    def kind(self) -> str:
        """`completed`, `failed`, `retry`, `snooze` or `park`."""

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
        """The signal's number."""

    @property
    def created(self) -> bool:
        """Whether this call stored the signal; false if an earlier call had the same id."""

    @property
    def woken(self) -> int:
        """The number of waiting tasks that the signal woke at once."""

@final
class WaitRecord:
    """An open wait."""

    @property
    def kind(self) -> str:
        """`signal`, `approval`, `timer`, `child` or `cancel`."""

    @property
    def name(self) -> str:
        """The name of the signal or of the child's workflow; otherwise the id of the task."""

    @property
    def key(self) -> str | None:
        """The key of the signal, if it has one."""

    @property
    def execution_id(self) -> str:
        """The id of the execution."""

    @property
    def workflow(self) -> str:
        """The workflow's name."""

    @property
    def task_id(self) -> str | None:
        """The task's id; `None` for a signal that cancels the execution."""

    @property
    def since_us(self) -> int:
        """The beginning of the wait, in microseconds since 1970."""

    @property
    def deadline_us(self) -> int | None:
        """The time of the wait's timeout, or a timer's due time, in microseconds since 1970.

        `None` if the wait has no timeout.
        """

    @property
    def title(self) -> str | None:
        """The title of an approval."""

    @property
    def to(self) -> str | None:
        """The person or group who decides an approval."""

    @property
    def schema(self) -> str | None:
        """The JSON schema of the data of an approval, as JSON text."""

@final
class WaitPage:
    """A page of open waits."""

    @property
    def items(self) -> list[WaitRecord]:
        """The waits."""

    @property
    def next(self) -> str | None:
        """The cursor of the next page; `None` on the last page."""

@final
class RerunRequest:
    """A request to submit an execution again.

    If `input` or `labels` is omitted, the earlier execution's value is used. With `latest` the
    latest stored version of the workflow runs.
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
    """A submission: the workflow to start, its input, and the time of the start."""

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
    """The input; `None` means an empty input."""
    key: Final[str | None]
    """The key under which the submission is unique."""
    priority: Final[int]
    """The priority, from -32768 to 32767. Higher priorities start first."""
    delay_us: Final[int | None]
    at_us: Final[int | None]
    timeout_us: Final[int | None]
    labels: Final[dict[str, str] | None]
    """The labels, by name."""
    trace: Final[str | None]
    """The trace context that is stored with the execution, as JSON."""
    def with_trace(self, trace: str) -> SubmitRequest:
        """Return a copy with a trace context."""

@final
class TaskHandler:
    """A task's handler: the number of the Python function, and the executor that runs it."""

    def __new__(
        cls, executor: str, number: int, on_success: bool, on_failure: bool
    ) -> TaskHandler: ...
    executor: Final[str]
    """The executor: `threads` or `loop`."""
    number: Final[int]
    """The number of the function in the package's registry."""
    on_success: Final[bool]
    on_failure: Final[bool]

@final
class WorkLoad:
    """The number of running tasks, and of tasks and callbacks that wait for a worker."""

    running: Final[int]
    waiting: Final[int]
    def __eq__(self, other: object, /) -> bool: ...

@final
class Runner:
    """A runner: the engine on one database, with its threads. The constructor starts it."""

    def __new__(
        cls, database_url: str, config: str, schema: str | None = None, held: bool = False
    ) -> Runner:
        """Start a runner.

        `config` is the JSON of a `RunnerSettings` (crates/cloaca-python/src/settings.rs). With
        `held` the runner claims no tasks until `begin` is called.
        """

    def begin(self) -> None:
        """Begin to claim tasks, if the runner was started with `held`. Later calls do nothing."""

    @property
    def begun(self) -> bool:
        """Whether the runner claims tasks."""

    def tenant(self, schema: str, database_url: str | None = None) -> Runner:
        """Return a runner for a tenant's schema.

        The new runner shares this runner's workers and connections.
        """

    @property
    def location(self) -> str:
        """The location of the database, without a password."""

    @property
    def runner_id(self) -> str: ...
    @property
    def closed(self) -> bool:
        """Whether the engine has stopped, on request or after a failure."""

    @property
    def reads(self) -> Reads:
        """An object that reads from the runner's database."""

    def register(self, workflow: Workflow, handlers: Mapping[str, TaskHandler]) -> None:
        """Register a workflow with handlers by task id."""

    def serve(self, workflow: str, definition: str, handler: TaskHandler) -> None:
        """Register a handler for an external task of a workflow that another program defines.

        `definition` is the JSON of a `TaskDefinition`: this program's declaration of the task.
        """

    def submit(self, requests: list[SubmitRequest]) -> list[Submitted]:
        """Submit executions, all or none; return them once they are durable."""

    def begin_submit(self, waker: LoopWaker, requests: list[SubmitRequest]) -> int:
        """Submit executions, all or none; return a token.

        The waker wakes its loop when the executions are durable or refused.
        """

    def runs(self, work: Work) -> bool:
        """Return whether work belongs to this runner, not to another runner on the same workers."""

    def execute(self, request: SubmitRequest) -> Execution:
        """Submit an execution and wait for its end."""

    def cancel(self, execution_id: str) -> bool:
        """Cancel an execution; return whether it was open."""

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
        """Send a signal, whose data is JSON. Return once the signal is durable."""

    def decide(
        self,
        execution_id: str,
        task: str,
        approved: bool,
        data: str,
        by: str | None = None,
        reason: str | None = None,
    ) -> str:
        """Approve or reject an approval; return the execution's state, which is durable."""

    def reschedule(
        self, execution_id: str, task: str, at_us: int | None = None, after_us: int = 0
    ) -> str:
        """Move the due time of a timer or of a retry delay; return the execution's state."""

    def prune(self, older_than_us: int, limit: int) -> int:
        """Delete at most `limit` executions that ended at least `older_than_us` ago.

        Return the number of deleted executions, including children.
        """

    def metrics(self) -> str:
        """Return the metrics in the text format of Prometheus."""

    def note_progress(self, work: Work, done: float, total: float, message: str | None) -> None:
        """Store the progress of an attempt. The runner writes progress every 100 ms."""

    def note_logs(self, work: Work, lines: list[tuple[int, int, str, str]]) -> None:
        """Store log lines of an attempt, each a tuple (time_us, level, logger, message).

        A line is a tuple, not an object, because an attempt can log many lines.
        """

    @property
    def clock_us(self) -> int:
        """The time on the runner's clock, in microseconds since 1970."""

    def load_steps(self, work: Work, log: StepLog, waker: LoopWaker | None) -> int | None:
        """Read the recorded steps of an attempt into its log.

        With a `waker`, return a token at once, and wake the waker when the steps are read.
        """

    def reserve_step(self, work: Work, log: StepLog, key: str) -> int:
        """Return the position of the step that will record the outcome of a sleep or a wait."""

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
        """Record a step that ended; return when the step is durable. `value` is JSON text.

        With a `waker`, return a token at once, and wake the waker when the step is durable or
        refused.
        """

    def end_wait(
        self, work: Work, log: StepLog, waker: LoopWaker | None, key: str, condition: str
    ) -> int | None:
        """Record the outcome of a wait whose condition already holds, and add the step to the log.

        In all other respects, the method behaves like `record_step`. `condition` is JSON text.
        """

    def announce_end(self, execution_id: str) -> None:
        """Make `supervise` return an `ExecutionEnded` when an execution ends.

        This also works for an execution that has already ended.
        """

    def wait(self, execution_id: str, timeout_us: int | None) -> Execution | None:
        """Wait for the end of an execution; return `None` after the timeout."""

    def recent_end(self, execution_id: str) -> Execution | None:
        """Return an execution that has ended recently and has no final tasks, without a wait.

        Return `None` if `wait` must be called: the end is not remembered, callbacks of the
        execution's tasks are running, final tasks follow, or the runner is closed.
        """

    def subscribe(self, waker: LoopWaker, execution_id: str) -> int:
        """Wake `waker` when an execution ends, or at once if it has ended; return a token."""

    def unsubscribe(self, token: int) -> None:
        """Cancel a subscription."""

    def load(self) -> WorkLoad:
        """Return how many of this runner's tasks run, and how many tasks and callbacks wait."""

    # Worker threads
    def next_work(self, worker: int) -> Work | None:
        """Wait for work; `None` ends the thread."""

    def finish_and_next(self, worker: int, work: Work, outcome: Outcome) -> Work | None:
        """Report an outcome and take the next work; `None` ends the thread.

        Releases the interpreter lock only when no work is queued.
        """

    def interrupted(self, work: Work) -> None:
        """Report that the thread was interrupted after the function of `work` had returned."""

    # The supervisor thread
    def supervise(self, timeout_us: int | None = None) -> list[_SupervisorEvent]:
        """Wait for events for the supervisor thread.

        Return an empty list once the runner has shut down. After the timeout, the list contains a
        `SuperviseTimeout`.
        """

    def set_log_level(self, level: int) -> None:
        """Set the lowest level of log records that `supervise` returns. The initial level is 20.

        A level above 20 applies only to records about executions and attempts.
        """

    # The event loop's thread
    @property
    def loop_waker(self) -> LoopWaker:
        """The waker of the event loop.

        Its descriptor is readable when `take_async`, `async_notices` or the waker's `completed`
        has items.
        """

    def take_async(self, limit: int) -> list[Work]:
        """Take queued work for the event loop, at most `limit` items.

        The waker does not signal the remaining items again.
        """

    def async_notices(self) -> list[CancelNotice]:
        """Return the coroutines that the event loop must cancel."""

    def finish_async(self, work: Work, outcome: Outcome) -> None:
        """Report the outcome of a coroutine.

        Also report coroutines that overran their timeout or were cancelled; their outcomes are
        dropped.
        """

    def stop(self, grace_us: int, count_open: int = 0) -> int:
        """Shut down gracefully, and return when the shutdown is complete.

        A second call with a shorter grace period shortens the grace period of the first call.
        Return the number of open executions without a live runner, counted up to `count_open`.
        """

@final
class Inspector:
    """Access to a database without a runner, for reading and control."""

    def __new__(
        cls,
        database_url: str,
        schema: str | None = None,
        migrate: bool = False,
        read_only: bool = False,
    ) -> Inspector:
        """Open a database.

        With `migrate` the database is created or migrated; otherwise it must exist and have this
        program's schema version. With `read_only` the database refuses every change.
        """

    @property
    def location(self) -> str:
        """The location of the database, without a password."""

    @property
    def reads(self) -> Reads:
        """An object that reads from the database."""

    def cancel(self, execution_id: str) -> bool:
        """Cancel an execution; return whether it was open."""

    def submit(self, request: SubmitRequest) -> Submitted:
        """Submit an execution of a stored workflow without a runner; return it once it is durable.

        A live runner with handlers for the workflow's tasks runs the execution.
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
        """Send a signal, whose data is JSON. Return once the signal is durable."""

    def decide(
        self,
        execution_id: str,
        task: str,
        approved: bool,
        data: str,
        by: str | None = None,
        reason: str | None = None,
    ) -> str:
        """Approve or reject an approval; return the execution's state, which is durable."""

    def reschedule(
        self, execution_id: str, task: str, at_us: int | None = None, after_us: int = 0
    ) -> str:
        """Move the due time of a timer or of a retry delay; return the execution's state."""

    def prune(self, older_than_us: int, limit: int) -> int:
        """Delete at most `limit` executions that ended at least `older_than_us` ago.

        Return the number of deleted executions, including children.
        """

@final
class WebOptions:
    """The options of an HTTP API."""

    def __new__(
        cls,
        read_only: bool,
        hide_payloads: bool,
        redact: list[str],
        allowed_hosts: list[str] | None,
        trust_proxy: bool,
        trace_url: str | None = None,
        polled: bool = False,
    ) -> WebOptions:
        """Create options. Without `allowed_hosts`, requests for any host are answered.

        `polled`: whether the page polls for changes instead of following the stream of events.
        """

@final
class WebAccess:
    """The access of an authenticated caller."""

    def __new__(cls, user: str, permissions: list[str], tenants: list[str] | None) -> WebAccess:
        """Describe the access of a caller.

        Without `tenants`, the access covers all tenants and the default schema.
        """

@final
class WebLog:
    """The log records of a web service's threads."""

    def wait(self) -> list[LogRecord]:
        """Wait for records, and return them. Return an empty list once the service has ended."""

@final
class WebService:
    """The HTTP API of a database, without a socket."""

    def __new__(cls, database_url: str, schema: str | None, options: WebOptions) -> WebService:
        """Open an existing database."""

    @staticmethod
    def security_headers() -> list[tuple[bytes, bytes]]:
        """Return the security headers of every answer."""

    @property
    def log(self) -> WebLog:
        """The log records of the service's threads."""

    def admits(self, method: str, target: str, headers: list[tuple[bytes, bytes]]) -> bool:
        """Return whether a request passes the checks that precede authentication."""

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
    """A request that is being answered."""

    def take(self) -> tuple[int, list[tuple[bytes, bytes]]] | bytes | None:
        """Return the next part of the answer, or `None` if it has not arrived.

        The first part is the status with the headers. Then come parts of the body. An empty part
        marks the end.
        """

    def wait(self) -> tuple[int, list[tuple[bytes, bytes]]] | bytes:
        """Wait for the next part of the answer."""

@final
class WebServer:
    """A server that serves the HTTP API of a database on a port."""

    def __new__(
        cls,
        database_url: str,
        schema: str | None,
        options: WebOptions,
        host: str,
        port: int,
        token: str | None,
        uds: str | None = None,
    ) -> WebServer:
        """Open an existing database, and listen. Without a token every caller is accepted."""

    @property
    def port(self) -> int:
        """The port that the server listens on; 0 for a Unix socket."""

    @property
    def log(self) -> WebLog:
        """The log records of the server's threads."""

    def close(self) -> None:
        """Stop listening, and close all connections."""

@final
class ExecutionPage:
    """A page of a listing of executions."""

    executions: Final[list[Execution]]
    """The executions, newest first."""
    next_cursor: Final[str | None]
    """The cursor of the next page; `None` on the last page."""
    prev_cursor: Final[str | None]
    """The cursor of the previous page; `None` on the first page."""
    scanned_until_us: Final[int | None]
    """The submission time of the last examined execution, if the search ended early."""

@final
class ListFilter:
    """The conditions that an execution must meet to be listed."""

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
        parent: str | None = None,
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
    """The details, as a JSON object."""

@final
class ProgressRecord:
    """The progress that a running task reported."""

    task_id: Final[str]
    attempt: Final[int]
    done: Final[float]
    total: Final[float]
    message: Final[str | None]
    items: Final[list[tuple[str, int]] | None]
    """The number of a map's items in each state; `None` for a task that is not a map."""
    parallel: Final[int | None]
    """Maximum number of a map's items that run at once; `None` for no limit or no map."""
    time_us: Final[int]

@final
class ProgressReport:
    """An execution with the progress of its running tasks."""

    execution: Final[Execution]
    tasks: Final[list[ProgressRecord]]
    """The latest progress of each task that reported progress."""

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
    """Whether the runner's lease is valid, and its process is not known to have ended."""
    workflows: Final[list[str]]
    """The workflows that the runner has handlers for."""

@final
class StoredWorkflow:
    """A version of a workflow that is stored in the database."""

    number: Final[int]
    """The version's number in the database; later versions have higher numbers."""
    workflow: Final[Workflow]

@final
class DatabaseHealth:
    """The result of a check of a database."""

    problems: Final[list[str]]
    """The problems; empty if the database is sound."""
    size_bytes: Final[int]
    free_bytes: Final[int]
    """The unused part of the database's size."""
    advice: Final[list[str]]
    schema_version: Final[str]
    """The newest migration that was applied."""

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

    Two methods write: `rerun` and `set_map`.

    A schedule or trigger is a dict: id, name, workflow, expression, timezone, interval_us, after,
    instance, input, enabled, catchup, max_catchup, overlap, start_us, end_us, jitter_us, next_us,
    last_us, fired_us, last_error, created_us, updated_us.
    """

    def status(self, execution_id: str) -> str: ...
    def counts(self) -> list[tuple[str, int, bool]]: ...
    def activity(
        self, since_us: int, until_us: int, buckets: int
    ) -> list[tuple[int, int, tuple[int, bool], tuple[int, bool]]]: ...
    def failures(self, since_us: int | None = None) -> list[dict[str, Any]]: ...
    def waits(
        self,
        name: str | None = None,
        workflow: str | None = None,
        execution_id: str | None = None,
        kind: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> WaitPage: ...
    def find_executions(self, short_id: str, limit: int) -> list[str]: ...
    def items(
        self, execution_id: str, task_id: str, status: str | None, first: int, limit: int
    ) -> tuple[list[str], int | None]: ...
    def maps(self, execution_id: str) -> list[tuple[str, list[tuple[str, int]], int | None]]: ...
    def set_map(self, execution_id: str, task_id: str, parallel: int | None) -> None: ...
    def rerun(self, request: RerunRequest) -> str: ...
    def execution(self, execution_id: str) -> Execution: ...
    def executions(
        self, filter: ListFilter, limit: int, cursor: str | None = None
    ) -> ExecutionPage: ...
    def find(self, workflow: str, key: str) -> str | None: ...
    def key(self, execution_id: str) -> str | None: ...
    def events(self, execution_id: str) -> list[EventRecord]: ...
    def trace(self, execution_id: str) -> str | None: ...
    def explain(self, id: str) -> list[str]: ...
    def progress(self, execution_id: str) -> ProgressReport: ...
    def logs(self, execution_id: str) -> list[LogLineRecord]: ...
    def runners(self) -> list[RunnerRecord]: ...
    def workflows(self) -> list[StoredWorkflow]: ...
    def is_workflow_stored(self, workflow: str) -> bool: ...
    def check(self) -> DatabaseHealth: ...
    def schedules(self, enabled_only: bool, limit: int, offset: int) -> list[dict[str, Any]]: ...
    def schedule(self, id: str) -> dict[str, Any]: ...
    def schedule_history(self, id: str, limit: int, offset: int) -> list[TickRecord]: ...
    def tick_counts(self, since_us: int) -> TickCounts: ...
    def triggers(self, enabled_only: bool, limit: int, offset: int) -> list[dict[str, Any]]: ...
    def trigger(self, name: str) -> dict[str, Any] | None: ...

@final
class Schedules:
    """Registers and changes the schedules and triggers of a database.

    Schedules and triggers are dicts, as in `Reads`.
    """

    def __new__(cls, target: Runner | Inspector) -> Schedules: ...
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
    ) -> str: ...
    def update(self, id: str, expression: str | None, timezone: str | None) -> dict[str, Any]: ...
    def set_enabled(self, id: str, enabled: bool) -> dict[str, Any]: ...
    def delete(self, id: str) -> None: ...
    def run_now(self, id: str) -> str: ...
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
    ) -> str: ...
    def set_trigger_enabled(self, name: str, enabled: bool) -> dict[str, Any]: ...

@final
class FireTime:
    """A time at which a cron expression fires."""

    at_us: Final[int]
    offset_seconds: Final[int]
    """The time zone's offset from UTC at this time."""

@final
class SchemaState:
    """The version of a database's schema."""

    current: Final[str | None]
    """The newest applied migration, if any."""
    pending: Final[list[str]]
    """The migrations that have not been applied."""

def cron_preview(expression: str, timezone: str, count: int, start_us: int) -> list[FireTime]:
    """Return the next times at which a cron expression fires after `start_us`."""

def now_us() -> int:
    """Return the time in microseconds since the Unix epoch."""

def schema_state(database_url: str, schema: str | None = None) -> SchemaState:
    """Return the version of a database's schema, without changing the database."""

def after_fork_child() -> None:
    """Mark this process as a forked child.

    From now on, every engine object that the parent process created raises `ForkedProcessError`.
    """

def set_exceptions(classes: dict[str, type[BaseException]]) -> None:
    """Set the exception class of each error code. A class takes `(message, *, code, hint)`.

    Raises `ValueError` if a code has no class.
    """

def encode_plain(value: object) -> str | None:
    """Return the JSON text of a value that consists of plain values; `None` for other values."""

def set_encoder(encode: Any, dataclasses: dict[type, tuple[str, ...]]) -> None:
    """Set the function `encode(key, value) -> str` for values of types that JSON does not have.

    The function raises `TypeError` or `ValueError` for a value that it cannot encode. `dataclasses`
    contains the field names of each dataclass that the function encodes as an object.
    """

def should_retry(policy: str, attempt: int, lineage: list[str], message: str) -> bool:
    """Return whether a policy retries a failed attempt.

    The policy is JSON. `lineage` has the names of the error's type and its bases, nearest first.
    """

def retry_delay_us(policy: str, attempt: int, random: float) -> int:
    """Return the delay after a failed attempt.

    `random`, from 0 to 1, selects the delay within the range of the jitter.
    """

def nearest(typed: str, known: list[str]) -> str | None:
    """Return the known word that is most similar to a typed word, if any is similar."""

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
    """The role that was created for the schema, if the role still exists."""

@final
class DatabaseAdmin:
    """Creates, lists, migrates and removes tenants. It keeps no connection open."""

    def __new__(cls, database_url: str) -> DatabaseAdmin: ...
    @property
    def location(self) -> str: ...
    def create_tenant(
        self, schema_name: str, username: str, password: str | None
    ) -> TenantCredentials:
        """Create a tenant: its schema, its role and its tables."""

    def remove_tenant(self, schema_name: str, username: str, force: bool) -> None:
        """Remove a tenant with its data; with `force`, even while a live runner uses its schema."""

    def list_tenants(self) -> list[TenantRecord]:
        """Return the schemas of tenants, each with the role that was created for it."""

    def migrate_tenant(self, schema_name: str) -> None:
        """Migrate the schema of a tenant."""

def check_tenant(schema_name: str, username: str, password: str | None = None) -> None:
    """Validate the settings of a tenant without connecting to the database."""

@final
class BenchLoad:
    """The loads of the worker threads and of the event loop of a `Bench`'s runner."""

    threads: Final[WorkLoad]
    event_loop: Final[WorkLoad]
    def __eq__(self, other: object, /) -> bool: ...

@final
class Bench:
    """An in-memory database with a virtual clock, for `cloaca.testing`."""

    def __new__(cls) -> Bench: ...
    @property
    def now_us(self) -> int: ...
    def move_to(self, now_us: int) -> None: ...
    def open(self, config: str) -> BenchRunner: ...

@final
class BenchRunner:
    """A runner on a bench; tests control its time and make it crash."""

    @property
    def core(self) -> Runner: ...
    def crash_at(self, number: int, applied: bool) -> None: ...
    @property
    def commits(self) -> int: ...
    @property
    def crashed(self) -> bool: ...
    def settle(self) -> int: ...
    def work(self) -> BenchLoad: ...
    @property
    def in_flight(self) -> int: ...
    def hurry(self, grace_us: int) -> None: ...
