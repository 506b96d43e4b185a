"""cloaca: a durable workflow engine that lives inside your process.

Write functions, join them into a workflow, and run it. Acknowledged work is on disk and survives a
crash.

    >>> import cloaca
    >>> with cloaca.WorkflowBuilder("hello"):
    ...     @cloaca.task
    ...     def greet(context):
    ...         context["greeting"] = f"Hello {context['name']}"
    >>> with cloaca.DefaultRunner("sqlite:///hello.db") as runner:
    ...     print(runner.execute("hello", {"name": "world"}).final_context["greeting"])
    Hello world
"""

from cloaca import _core_setup as _core_setup
from cloaca._core import Context, __version__
from cloaca._executions.handle import WorkflowHandle
from cloaca._executions.history import Event, Page
from cloaca._executions.log_line import LogLine
from cloaca._executions.progress import ExecutionProgress, TaskProgress
from cloaca._executions.result import ErrorInfo, TaskResult, WorkflowResult
from cloaca._executions.status import TaskStatus, WorkflowStatus
from cloaca._retry.conditions import BackoffStrategy, RetryCondition
from cloaca._retry.policy import RetryPolicy, RetryPolicyBuilder
from cloaca._runner.config import DefaultRunnerConfig
from cloaca._runner.database_admin import DatabaseAdmin, Tenant, TenantConfig, TenantCredentials
from cloaca._runner.runner import DefaultRunner
from cloaca._schedules.cron import CronSchedule, cron_preview
from cloaca._schedules.trigger import TriggerResult, trigger
from cloaca._tasks.control import Abort, Retry, Snooze
from cloaca._tasks.rules import (
    all_of,
    always,
    any_of,
    context_value,
    none_of,
    task_failed,
    task_skipped,
    task_success,
)
from cloaca._values.exceptions import (
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
from cloaca._values.variables import get_backend, var, var_or
from cloaca._workers.task_handle import TaskHandle
from cloaca._workflows.builder import WorkflowBuilder, register_workflow_constructor
from cloaca._workflows.namespace import TaskNamespace, WorkflowContext
from cloaca._workflows.task import external_task, task
from cloaca._workflows.workflow import Workflow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca import testing as testing
else:

    def __getattr__(name):
        """Import `cloaca.testing` on first access, because running programs do not need it."""
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
