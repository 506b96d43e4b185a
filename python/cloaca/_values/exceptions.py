"""The exceptions of the package: one class tree, with stable codes and hints."""

from __future__ import annotations

import builtins

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar


class CloacaException(Exception):
    """The base of every error that cloaca raises.

    Attributes:
        code: A stable name of the kind of error, for programs.
        hint: The recommended next step, or `None`.

    Since 1.0.
    """

    _default_code: ClassVar[str] = "cloaca"
    _default_message: ClassVar[str] = "cloaca failed"
    code: str
    hint: str | None
    # Whether a task that raises the error is not tried again.
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
        """The message, and the hint on a line of its own."""
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class WorkflowError(CloacaException):
    """Something is wrong with a workflow or one of its executions. Since 1.0."""

    _default_code = "workflow"
    _default_message = "the workflow failed"


class WorkflowValidationError(WorkflowError, ValueError):
    """A workflow's definition breaks a rule. Since 1.0."""

    _default_code = "workflow_invalid"
    _default_message = "the workflow is not valid"


class WorkflowInputError(WorkflowValidationError):
    """The input of an execution does not match the `input=` of its workflow. Nothing was stored.

    Attributes:
        path: The part of the input that does not match, such as `urls[0]`; empty for the whole.

    Since 1.0.
    """

    _default_code = "workflow_input_invalid"
    _default_message = "the input does not match the workflow's model"
    path: str = ""


class WorkflowNotFoundError(WorkflowError, ValueError, KeyError):
    """No workflow has this name, or no execution has this id. Since 1.0."""

    _default_code = "workflow_not_found"
    _default_message = "the workflow is not known"


class WorkflowExecutionError(WorkflowError):
    """An execution failed or was cancelled.

    Raised by `WorkflowResult.raise_for_status`.

    Since 1.0.
    """

    _default_code = "workflow_failed"
    _default_message = "the execution failed"


class WorkflowTimeoutError(WorkflowError, TimeoutError):
    """An execution overran its own timeout. Since 1.0."""

    _default_code = "workflow_timeout"
    _default_message = "the execution overran its timeout"


class TaskError(CloacaException):
    """Something is wrong with a task. Since 1.0."""

    _default_code = "task"
    _default_message = "the task failed"


class TaskValidationError(TaskError, ValueError):
    """A task's definition breaks a rule. Since 1.0."""

    _default_code = "task_invalid"
    _default_message = "the task is not valid"


class TaskInputError(TaskError, TypeError):
    """A parameter of a task has no value, or one that does not match its annotation.

    The task fails and is not retried, because another attempt would get the same value.

    Attributes:
        parameter: The parameter's name.
        producer: The task whose result it is; `None` for a value of the input or the context.
        path: The part of the value that does not match, such as `rows[3].price`.

    Since 1.0.
    """

    _default_code = "task_input_invalid"
    _default_message = "a parameter of the task has no valid value"
    parameter: str = ""
    producer: str | None = None
    path: str = ""


class CaughtParkError(TaskValidationError):
    """A function caught the exception by which it leaves to wait. Catch its base. Private."""


class WholeTaskError(TaskValidationError):
    """An item of a map made a call that only whole tasks may make. Catch its base. Private."""


class TaskExecutionError(TaskError):
    """The execution of a task failed. Since 1.0."""

    _default_code = "task_failed"
    _default_message = "the task failed"


class TaskTimeoutError(TaskError, TimeoutError):
    """An attempt overran its timeout.

    Raised inside the task's function, as far as that is possible.

    Since 1.0.
    """

    _default_code = "task_timeout"
    _default_message = "the attempt overran its timeout"


class ContextError(CloacaException):
    """A context lacks a key, is too large, or holds a value that is not JSON. Since 1.0."""

    _default_code = "context_invalid"
    _default_message = "the context is not valid"


class ConfigurationError(CloacaException, ValueError):
    """A setting, an argument or a database URL is not valid. Since 1.0."""

    _default_code = "configuration"
    _default_message = "the configuration is not valid"


class VariableNotSetError(ConfigurationError, KeyError):
    """A variable of the environment is not set. Catch it as `KeyError`. Private."""


class DatabaseError(CloacaException):
    """The database refused or failed an operation. Since 1.0."""

    _default_code = "database"
    _default_message = "the database failed"


class ConnectionError(DatabaseError, builtins.ConnectionError):
    """The database cannot be opened or does not answer. Since 1.0."""

    _default_code = "connection"
    _default_message = "the database does not answer"


class MigrationError(DatabaseError):
    """The database's schema is newer than this program, or cannot be brought up to date.

    Since 1.0.
    """

    _default_code = "migration"
    _default_message = "the database cannot be migrated"


class ScheduleError(CloacaException, ValueError):
    """A schedule is not valid or not known. Since 1.0."""

    _default_code = "schedule_invalid"
    _default_message = "the schedule is not valid"


class RunnerClosedError(CloacaException, RuntimeError):
    """The runner was shut down. Since 1.0."""

    _default_code = "runner_closed"
    _default_message = "the runner is shut down"


class ForkedProcessError(CloacaException, RuntimeError):
    """The process was forked after the runner had started. Since 1.0."""

    _default_code = "forked"
    _default_message = "the process was forked after the runner had started"


class WaitTimeoutError(CloacaException, TimeoutError):
    """A wait of a caller or of a task timed out. It is a `TimeoutError`.

    `result(timeout=...)` raises it; the execution continues. The failure of a task whose
    `wait_timeout` is over has this type.

    Since 1.0.
    """

    _default_code = "wait_timeout"
    _default_message = "the time to wait is over"


class AlreadyDecidedError(WorkflowError):
    """An approval was decided before. The message says who decided, and when.

    Since 1.0.
    """

    _default_code = "already_decided"
    _default_message = "the approval was decided before"


class ChildFailedError(TaskError):
    """A child failed, timed out or was cancelled. The message names it, and its error.

    The failure of a node that runs another workflow has this type, and `TaskHandle.run` raises it.

    Attributes:
        child_id: The id of the child's execution; `None` if it was not raised by a handle.
        status: The final status of the child, such as `"Failed"`.
        error_type: The type of the child's error; `None` if it was cancelled.
        error_message: The message of the child's error.

    Since 1.0.
    """

    _default_code = "child_failed"
    _default_message = "a child did not complete"

    child_id: str | None = None
    status: str | None = None
    error_type: str | None = None
    error_message: str | None = None


# Public classes have the public module's name in tracebacks and in stored failures.
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

#: The class of every error code, the engine's and Python's own.
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
