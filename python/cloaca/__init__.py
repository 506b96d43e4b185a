"""cloaca: a durable workflow engine that lives inside your process.

Write functions, join them into a workflow, run it. What was acknowledged is on disk, and a crash
loses nothing.

    >>> import cloaca
    >>> with cloaca.WorkflowBuilder("hello"):
    ...     @cloaca.task
    ...     def greet(context):
    ...         context["greeting"] = f"Hello {context['name']}"
    >>> with cloaca.DefaultRunner("sqlite:///hello.db") as runner:
    ...     print(runner.execute("hello", {"name": "world"}).final_context["greeting"])
    Hello world
"""

from cloaca import _connection as _connection
from cloaca._builder import WorkflowBuilder, register_workflow_constructor
from cloaca._config import DefaultRunnerConfig
from cloaca._control import Abort, Retry, Snooze
from cloaca._core import Context, __version__
from cloaca._exceptions import (
    CloacaException,
    ConfigurationError,
    ConnectionError,
    ContextError,
    DatabaseError,
    ForkedProcessError,
    MigrationError,
    RunnerClosedError,
    ScheduleError,
    TaskError,
    TaskExecutionError,
    TaskTimeoutError,
    TaskValidationError,
    WorkflowError,
    WorkflowExecutionError,
    WorkflowNotFoundError,
    WorkflowTimeoutError,
    WorkflowValidationError,
)
from cloaca._handle import WorkflowHandle
from cloaca._history import Event, Page
from cloaca._insight_methods import LogLine
from cloaca._namespace import TaskNamespace, WorkflowContext
from cloaca._progress import ExecutionProgress, TaskProgress
from cloaca._result import ErrorInfo, TaskResult, WorkflowResult
from cloaca._retry import RetryPolicy, RetryPolicyBuilder
from cloaca._retry_values import BackoffStrategy, RetryCondition
from cloaca._rules import (
    all_of,
    always,
    any_of,
    context_value,
    none_of,
    task_failed,
    task_skipped,
    task_success,
)
from cloaca._runner import DefaultRunner
from cloaca._schedule import CronSchedule, cron_preview
from cloaca._status import TaskStatus, WorkflowStatus
from cloaca._task import external_task, task
from cloaca._task_handle import TaskHandle
from cloaca._tenants import DatabaseAdmin, Tenant, TenantConfig, TenantCredentials
from cloaca._trigger import TriggerResult, trigger
from cloaca._vars import get_backend, var, var_or
from cloaca._workflow import Workflow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca import testing as testing
else:

    def __getattr__(name):
        """Import `cloaca.testing` when it is asked for: programs that run need none of it."""
        import sys

        if name == "testing":
            from importlib import import_module

            return import_module("cloaca.testing")
        module = sys.modules[__name__]
        raise AttributeError(f"module 'cloaca' has no attribute {name!r}", name=name, obj=module)


#: The names of earlier releases.
PipelineResult = WorkflowResult
PipelineStatus = WorkflowStatus

del TYPE_CHECKING

__all__ = [
    "Abort",
    "BackoffStrategy",
    "CloacaException",
    "ConfigurationError",
    "ConnectionError",
    "Context",
    "ContextError",
    "CronSchedule",
    "DatabaseAdmin",
    "DatabaseError",
    "DefaultRunner",
    "DefaultRunnerConfig",
    "ErrorInfo",
    "Event",
    "ExecutionProgress",
    "ForkedProcessError",
    "LogLine",
    "MigrationError",
    "Page",
    "PipelineResult",
    "PipelineStatus",
    "Retry",
    "RetryCondition",
    "RetryPolicy",
    "RetryPolicyBuilder",
    "RunnerClosedError",
    "ScheduleError",
    "Snooze",
    "TaskError",
    "TaskExecutionError",
    "TaskHandle",
    "TaskNamespace",
    "TaskProgress",
    "TaskResult",
    "TaskStatus",
    "TaskTimeoutError",
    "TaskValidationError",
    "Tenant",
    "TenantConfig",
    "TenantCredentials",
    "TriggerResult",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowContext",
    "WorkflowError",
    "WorkflowExecutionError",
    "WorkflowHandle",
    "WorkflowNotFoundError",
    "WorkflowResult",
    "WorkflowStatus",
    "WorkflowTimeoutError",
    "WorkflowValidationError",
    "__version__",
    "all_of",
    "always",
    "any_of",
    "context_value",
    "cron_preview",
    "external_task",
    "get_backend",
    "none_of",
    "register_workflow_constructor",
    "task",
    "task_failed",
    "task_skipped",
    "task_success",
    "trigger",
    "var",
    "var_or",
]
