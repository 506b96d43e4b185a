"""The exceptions of the package: one class tree, with stable codes and hints."""

from __future__ import annotations

import builtins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import ClassVar

    from cloaca._values.error_info import ErrorInfo


class CloacaException(Exception):
    """The base of the package's errors, except `Retry`, `Abort` and `Snooze`.

    Attributes:
        message: The problem, without the hint.
        code: The stable name of the kind of error, for programs.
        hint: The recommended next step, or `None`.

    Example:
        >>> try:
        ...     runner.execute("etl")
        ... except cloaca.CloacaException as error:
        ...     print(error.code, error.message, error.hint)

    Since 1.0.
    """

    _default_code: ClassVar[str] = "cloaca"
    _default_message: ClassVar[str] = "cloaca failed"
    code: str
    hint: str | None
    # Whether a task that raises the error fails without another attempt; see `is_final`.
    _is_final = False

    def __init__(
        self, message: str | None = None, *, code: str | None = None, hint: str | None = None
    ) -> None:
        """Make an error.

        Args:
            message: The problem, with the object and the value.
            code: The kind of error, if it differs from the class's default.
            hint: The recommended next step.
        """
        self.message = self._default_message if message is None else message
        self.code = self._default_code if code is None else code
        self.hint = hint
        super().__init__(self.message)

    def __str__(self) -> str:
        """Returns the message, and the hint on a separate line."""
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class WorkflowError(CloacaException):
    """The base of the errors of workflows and their executions.

    Example:
        >>> try:
        ...     runner.pause_execution(handle.id)
        ... except cloaca.WorkflowError as error:
        ...     print(error.code)

    Since 1.0.
    """

    _default_code = "workflow"
    _default_message = "the workflow failed"


class WorkflowValidationError(WorkflowError, ValueError):
    """A workflow's definition breaks a rule.

    Example:
        >>> try:
        ...     cloaca.WorkflowBuilder("empty").build()
        ... except cloaca.WorkflowValidationError as error:
        ...     print(error.code)
        workflow_invalid

    Since 1.0.
    """

    _default_code = "workflow_invalid"
    _default_message = "the workflow is not valid"


class WorkflowInputError(WorkflowValidationError):
    """The input of an execution does not match the `input=` of its workflow. Nothing was stored.

    The data of a signal or an approval that does not match its declared type also raises this
    error.

    Attributes:
        path: The part of the input or the data that does not match, such as `urls[0]`; empty for
            the whole value.

    Example:
        >>> try:
        ...     runner.submit("crawl", {"urls": [1]})
        ... except cloaca.WorkflowInputError as error:
        ...     print(error.path)
        urls[0]

    Since 1.0.
    """

    _default_code = "workflow_input_invalid"
    _default_message = "the input does not match the workflow's model"
    path: str = ""


class WorkflowNotFoundError(WorkflowError, ValueError, KeyError):
    """No workflow has this name, or no execution has this id.

    Example:
        >>> try:
        ...     runner.submit("elt")
        ... except cloaca.WorkflowNotFoundError as error:
        ...     print(error.hint)
        did you mean 'etl'?

    Since 1.0.
    """

    _default_code = "workflow_not_found"
    _default_message = "the workflow is not known"


class WorkflowExecutionError(WorkflowError):
    """An execution failed or was cancelled.

    `WorkflowResult.raise_for_status` raises this error.

    Example:
        >>> try:
        ...     runner.execute("etl", check=True)
        ... except cloaca.WorkflowExecutionError as error:
        ...     print(error)

    Since 1.0.
    """

    _default_code = "workflow_failed"
    _default_message = "the execution failed"


class WorkflowTimeoutError(WorkflowError, TimeoutError):
    """An execution overran its own timeout.

    Example:
        >>> try:
        ...     runner.execute("etl", timeout="1h", check=True)
        ... except cloaca.WorkflowTimeoutError as error:
        ...     print(error)

    Since 1.0.
    """

    _default_code = "workflow_timeout"
    _default_message = "the execution overran its timeout"


class TaskError(CloacaException):
    """The base of the errors of tasks.

    Example:
        >>> issubclass(cloaca.TaskTimeoutError, cloaca.TaskError)
        True

    Since 1.0.
    """

    _default_code = "task"
    _default_message = "the task failed"


class TaskValidationError(TaskError, ValueError):
    """A task's definition breaks a rule.

    Example:
        >>> try:
        ...     cloaca.RetryPolicy(max_attempts=-1)
        ... except cloaca.TaskValidationError as error:
        ...     print(error.code)
        task_invalid

    Since 1.0.
    """

    _default_code = "task_invalid"
    _default_message = "the task is not valid"


class TaskInputError(TaskError, TypeError):
    """A parameter of a task has no value, or its value does not match its annotation.

    The task fails without another attempt, which would receive the same value.

    Attributes:
        parameter: The parameter's name.
        producer: The task whose result is the value; `None` for a value of the input or the
            context.
        path: The part of the value that does not match, such as `rows[3].price`.

    Example:
        >>> result = runner.execute("etl")
        >>> result.error.type, result.error.message

    Since 1.0.
    """

    _default_code = "task_input_invalid"
    _default_message = "a parameter of the task has no valid value"
    _is_always_final = True
    parameter: str = ""
    producer: str | None = None
    path: str = ""


class CaughtParkError(TaskValidationError):
    """A function caught the exception with which a wait interrupts the function. Private.

    Programs catch the base class.
    """

    _is_always_final = True


class WholeTaskError(TaskValidationError):
    """An item of a map made a call that only whole tasks may make. Private.

    Programs catch the base class.
    """

    _is_always_final = True


class TaskExecutionError(TaskError):
    """A task failed, or its runner was lost too often while the task ran.

    Example:
        >>> issubclass(cloaca.TaskExecutionError, cloaca.TaskError)
        True

    Since 1.0.
    """

    _default_code = "task_failed"
    _default_message = "the task failed"


class TaskTimeoutError(TaskError, TimeoutError):
    """An attempt overran its timeout.

    If possible, the error is raised inside the task's function.

    Example:
        >>> @cloaca.task(timeout=30)
        ... def fetch(context, handle):
        ...     try:
        ...         handle.defer_until(is_ready)
        ...     except cloaca.TaskTimeoutError:
        ...         release()
        ...         raise

    Since 1.0.
    """

    _default_code = "task_timeout"
    _default_message = "the attempt overran its timeout"


class ContextError(CloacaException):
    """A required key or result is missing, or a limit on stored data is exceeded.

    Example:
        >>> try:
        ...     cloaca.Context({"rows": []}).get_required("row")
        ... except cloaca.ContextError as error:
        ...     print(error.code)
        context_invalid

    Since 1.0.
    """

    _default_code = "context_invalid"
    _default_message = "the context is not valid"


class ConfigurationError(CloacaException, ValueError):
    """A setting, an argument or a database URL is not valid.

    Example:
        >>> try:
        ...     cloaca.DefaultRunnerConfig(max_concurrent_tasks=0)
        ... except cloaca.ConfigurationError as error:
        ...     print(error.code)
        configuration

    Since 1.0.
    """

    _default_code = "configuration"
    _default_message = "the configuration is not valid"


class VariableNotSetError(ConfigurationError, KeyError):
    """An environment variable is not set. Private: catch `KeyError`."""


class DatabaseError(CloacaException):
    """The database refused an operation, or an operation failed.

    Example:
        >>> try:
        ...     runner.submit("etl")
        ... except cloaca.DatabaseError as error:
        ...     print(error.message)

    Since 1.0.
    """

    _default_code = "database"
    _default_message = "the database failed"


class ConnectionError(DatabaseError, builtins.ConnectionError):
    """The database cannot be opened or does not answer.

    Example:
        >>> try:
        ...     runner = cloaca.DefaultRunner("postgresql://db.example/app")
        ... except cloaca.ConnectionError as error:
        ...     print(error.message)

    Since 1.0.
    """

    _default_code = "connection"
    _default_message = "the database does not answer"


class MigrationError(DatabaseError):
    """The database's schema is newer than this program, or cannot be brought up to date.

    Example:
        >>> try:
        ...     runner = cloaca.DefaultRunner("sqlite:///etl.db")
        ... except cloaca.MigrationError as error:
        ...     print(error.hint)

    Since 1.0.
    """

    _default_code = "migration"
    _default_message = "the database cannot be migrated"


class ScheduleError(CloacaException, ValueError):
    """A schedule or trigger is not valid or not known.

    Example:
        >>> try:
        ...     cloaca.cron_preview("0 25 * * *")
        ... except cloaca.ScheduleError as error:
        ...     print(error.code)
        schedule_invalid

    Since 1.0.
    """

    _default_code = "schedule_invalid"
    _default_message = "the schedule is not valid"


class RunnerClosedError(CloacaException, RuntimeError):
    """The runner was shut down, has failed or is not started, or a task's function has no runner.

    Example:
        >>> with cloaca.DefaultRunner(":memory:") as runner:
        ...     pass
        >>> try:
        ...     runner.submit("etl")
        ... except cloaca.RunnerClosedError as error:
        ...     print(error.code)
        runner_closed

    Since 1.0.
    """

    _default_code = "runner_closed"
    _default_message = "the runner is shut down"


class ForkedProcessError(CloacaException, RuntimeError):
    """The process was forked after the runner had started.

    Example:
        >>> if os.fork() == 0:
        ...     try:
        ...         runner.submit("etl")
        ...     except cloaca.ForkedProcessError:
        ...         runner = cloaca.DefaultRunner("sqlite:///etl.db")

    Since 1.0.
    """

    _default_code = "forked"
    _default_message = "the process was forked after the runner had started"


class WaitTimeoutError(CloacaException, TimeoutError):
    """A wait of a caller or a task timed out. The error is a `TimeoutError`.

    `result(timeout=...)` raises this error; the execution continues. The failure of a task whose
    wait exceeded `wait_timeout` also has this type.

    Example:
        >>> try:
        ...     handle.result(timeout=1)
        ... except cloaca.WaitTimeoutError:
        ...     handle.cancel()

    Since 1.0.
    """

    _default_code = "wait_timeout"
    _default_message = "the wait timed out"


class AlreadyDecidedError(WorkflowError):
    """An approval is already decided. The message says who decided, and when.

    Attributes:
        by: The name of the person who decided; `None` if the decision has no name.

    Example:
        >>> try:
        ...     runner.approve(wait.execution_id, wait.task_id, by="ann")
        ... except cloaca.AlreadyDecidedError as error:
        ...     print(error.by, error.at)

    Since 1.0.
    """

    _default_code = "already_decided"
    _default_message = "the approval has already been decided"

    by: str | None = None
    _at_us: int | None = None

    @property
    def at(self) -> datetime | None:
        """The time of the decision; `None` if a program made this error. Since 1.0."""
        if self._at_us is None:
            return None
        # `_values.duration` imports this module, so it is not used here.
        from datetime import UTC, datetime, timedelta

        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self._at_us)


class ChildFailedError(TaskError):
    """A child failed, timed out or was cancelled. The message names the child and its error.

    `TaskHandle.run` raises this error. The failure of a node that runs another workflow also has
    this type.

    Attributes:
        child_id: The id of the child's execution; `None` if the error was not raised by a handle.
        status: The final status of the child, such as `"Failed"`.
        error_type: The type of the child's error; `None` if the child was cancelled.
        error_message: The message of the child's error.

    Example:
        >>> try:
        ...     handle.run("invoice", "invoice_workflow", {"order": 7})
        ... except cloaca.ChildFailedError as error:
        ...     print(error.child_id, error.status, error.error_message)

    Since 1.0.
    """

    _default_code = "child_failed"
    _default_message = "a child did not complete"

    child_id: str | None = None
    status: str | None = None
    error_type: str | None = None
    error_message: str | None = None

    @property
    def error(self) -> ErrorInfo | None:
        """The child's error; `None` if the child was cancelled. Since 1.0."""
        if self.error_type is None:
            return None
        from cloaca._values.error_info import ErrorInfo

        return ErrorInfo(self.error_type, self.error_message or "")


# The public classes. In tracebacks and stored failures, their module is `cloaca`.
_PUBLIC: list[type[CloacaException]] = [
    AlreadyDecidedError,
    ChildFailedError,
    WaitTimeoutError,
    CloacaException,
    WorkflowError,
    WorkflowValidationError,
    WorkflowInputError,
    WorkflowNotFoundError,
    WorkflowExecutionError,
    WorkflowTimeoutError,
    TaskError,
    TaskValidationError,
    TaskInputError,
    TaskExecutionError,
    TaskTimeoutError,
    ContextError,
    ConfigurationError,
    DatabaseError,
    ConnectionError,
    MigrationError,
    ScheduleError,
    RunnerClosedError,
    ForkedProcessError,
]
for _public in _PUBLIC:
    _public.__module__ = "cloaca"

#: The class for each error code of the engine and of Python.
CLASS_BY_CODE: dict[str, type[CloacaException]] = {
    "workflow_invalid": WorkflowValidationError,
    "workflow_input_invalid": WorkflowInputError,
    "workflow_not_found": WorkflowNotFoundError,
    "task_invalid": TaskValidationError,
    "task_input_invalid": TaskInputError,
    "context_invalid": ContextError,
    "configuration": ConfigurationError,
    "url_invalid": ConfigurationError,
    "connection": ConnectionError,
    "database": DatabaseError,
    "migration": MigrationError,
    "execution_not_found": WorkflowNotFoundError,
    "execution_state": WorkflowError,
    "claim_lost": TaskExecutionError,
    "step_limit": ContextError,
    "deadlock": WorkflowError,
    "wait_timeout": WaitTimeoutError,
    "already_decided": AlreadyDecidedError,
    "child_failed": ChildFailedError,
    "runner_closed": RunnerClosedError,
    "forked": ForkedProcessError,
    "workflow_failed": WorkflowExecutionError,
    "workflow_cancelled": WorkflowExecutionError,
    "workflow_timeout": WorkflowTimeoutError,
    "task_failed": TaskExecutionError,
    "task_timeout": TaskTimeoutError,
    "schedule_invalid": ScheduleError,
    "schedule_not_found": ScheduleError,
}

# The codes of errors after which a task has no further attempt.
_FINAL_CODES = frozenset({"deadlock", "step_limit"})


def is_final(error: object) -> bool:
    """Returns whether an error ends its task without a further attempt, whatever the retry policy.

    Another attempt would have the same deadlock, the same number of steps, or the same values.

    Args:
        error: The exception, or its type.
    """
    kind = error if isinstance(error, type) else type(error)
    if getattr(kind, "_is_always_final", False):
        return True
    if not isinstance(error, CloacaException):
        return False
    return error._is_final or error.code in _FINAL_CODES
