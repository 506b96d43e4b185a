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
from cloaca._executions.result import TaskResult, WorkflowResult
from cloaca._executions.status import TaskStatus, WorkflowStatus
from cloaca._retry.conditions import BackoffStrategy, RetryCondition
from cloaca._retry.policy import RetryPolicy, RetryPolicyBuilder
from cloaca._runner.config import DefaultRunnerConfig
from cloaca._tasks.control import Abort, Retry, Snooze
from cloaca._values.error_info import ErrorInfo
from cloaca._values.exceptions import (
    AlreadyDecidedError,
    ChildFailedError,
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
    TaskInputError,
    TaskTimeoutError,
    TaskValidationError,
    WaitTimeoutError,
    WorkflowError,
    WorkflowExecutionError,
    WorkflowInputError,
    WorkflowNotFoundError,
    WorkflowTimeoutError,
    WorkflowValidationError,
)
from cloaca._workflows.builder import WorkflowBuilder, register_workflow_constructor
from cloaca._workflows.namespace import TaskNamespace, WorkflowContext
from cloaca._workflows.task import external_task, task
from cloaca._workflows.workflow import Workflow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cloaca import testing as testing
    from cloaca import web as web
    from cloaca._executions.handle import WorkflowHandle
    from cloaca._executions.history import Event, Page
    from cloaca._executions.items import Item, ItemPage, MapResult
    from cloaca._executions.log_line import LogLine
    from cloaca._executions.overview import ActivityBucket, Count, FailureGroup
    from cloaca._executions.progress import ExecutionProgress, TaskProgress
    from cloaca._executions.wait import Wait, WaitPage
    from cloaca._runner.database_admin import (
        DatabaseAdmin,
        Tenant,
        TenantConfig,
        TenantCredentials,
    )
    from cloaca._runner.runner import DefaultRunner
    from cloaca._schedules.cron import CronSchedule, cron_preview
    from cloaca._schedules.trigger import TriggerResult, trigger
    from cloaca._tasks.conditions import delay, signal, until
    from cloaca._tasks.markers import resource, result
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
    from cloaca._values.variables import get_backend, var, var_or
    from cloaca._workers.task_handle import TaskHandle
    from cloaca._workflows.child import child
    from cloaca._workflows.function import workflow
    from cloaca._workflows.group import TaskGroup, group
    from cloaca._workflows.nodes import approval, wait
else:
    #: Maps each public name that many programs never use to the module that defines it. The module
    #: is imported when the name is first accessed.
    _LATER = {
        "ActivityBucket": "_executions.overview",
        "Count": "_executions.overview",
        "CronSchedule": "_schedules.cron",
        "DatabaseAdmin": "_runner.database_admin",
        "DefaultRunner": "_runner.runner",
        "Event": "_executions.history",
        "ExecutionProgress": "_executions.progress",
        "FailureGroup": "_executions.overview",
        "Item": "_executions.items",
        "ItemPage": "_executions.items",
        "LogLine": "_executions.log_line",
        "MapResult": "_executions.items",
        "Page": "_executions.history",
        "TaskGroup": "_workflows.group",
        "TaskHandle": "_workers.task_handle",
        "TaskProgress": "_executions.progress",
        "Tenant": "_runner.database_admin",
        "TenantConfig": "_runner.database_admin",
        "TenantCredentials": "_runner.database_admin",
        "TriggerResult": "_schedules.trigger",
        "Wait": "_executions.wait",
        "WaitPage": "_executions.wait",
        "WorkflowHandle": "_executions.handle",
        "all_of": "_tasks.rules",
        "always": "_tasks.rules",
        "any_of": "_tasks.rules",
        "approval": "_workflows.nodes",
        "child": "_workflows.child",
        "context_value": "_tasks.rules",
        "cron_preview": "_schedules.cron",
        "delay": "_tasks.conditions",
        "get_backend": "_values.variables",
        "group": "_workflows.group",
        "none_of": "_tasks.rules",
        "resource": "_tasks.markers",
        "result": "_tasks.markers",
        "signal": "_tasks.conditions",
        "task_failed": "_tasks.rules",
        "task_skipped": "_tasks.rules",
        "task_success": "_tasks.rules",
        "trigger": "_schedules.trigger",
        "until": "_tasks.conditions",
        "var": "_values.variables",
        "var_or": "_values.variables",
        "wait": "_workflows.nodes",
        "workflow": "_workflows.function",
    }

    def __getattr__(name):
        """Import a name of `_LATER` or a submodule on first access."""
        import sys

        if name in ("testing", "web"):
            from importlib import import_module

            return import_module(f"cloaca.{name}")
        if name in _LATER:
            from importlib import import_module

            found = getattr(import_module(f"cloaca.{_LATER[name]}"), name)
            globals()[name] = found
            return found
        from cloaca._values.foreign_names import hint_for

        module = sys.modules[__name__]
        message = f"module 'cloaca' has no attribute {name!r}"
        hint = hint_for(name)
        if hint is not None:
            # `from cloaca import name` also calls this function. Python would then replace an
            # `AttributeError` with an `ImportError` that has no hint.
            if sys._getframe(1).f_code.co_name == "_handle_fromlist":
                message = f"cannot import name {name!r} from 'cloaca'\nhint: {hint}"
                raise ImportError(message, name="cloaca", path=__file__)
            message += f"\nhint: {hint}"
        raise AttributeError(message, name=name, obj=module)

    def __dir__():
        """Return the names that are loaded and the names that are imported on first access."""
        return sorted({*globals(), *_LATER, "testing", "web"})


#: Names from earlier releases, kept for compatibility.
PipelineResult = WorkflowResult
PipelineStatus = WorkflowStatus

del TYPE_CHECKING

__all__ = [
    "Abort",
    "ActivityBucket",
    "AlreadyDecidedError",
    "BackoffStrategy",
    "ChildFailedError",
    "CloacaException",
    "ConfigurationError",
    "ConnectionError",
    "Context",
    "ContextError",
    "Count",
    "CronSchedule",
    "DatabaseAdmin",
    "DatabaseError",
    "DefaultRunner",
    "DefaultRunnerConfig",
    "ErrorInfo",
    "Event",
    "ExecutionProgress",
    "FailureGroup",
    "ForkedProcessError",
    "Item",
    "ItemPage",
    "LogLine",
    "MapResult",
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
    "TaskGroup",
    "TaskHandle",
    "TaskInputError",
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
    "Wait",
    "WaitPage",
    "WaitTimeoutError",
    "Workflow",
    "WorkflowBuilder",
    "WorkflowContext",
    "WorkflowError",
    "WorkflowExecutionError",
    "WorkflowHandle",
    "WorkflowInputError",
    "WorkflowNotFoundError",
    "WorkflowResult",
    "WorkflowStatus",
    "WorkflowTimeoutError",
    "WorkflowValidationError",
    "__version__",
    "all_of",
    "always",
    "any_of",
    "approval",
    "child",
    "context_value",
    "cron_preview",
    "delay",
    "external_task",
    "get_backend",
    "group",
    "none_of",
    "register_workflow_constructor",
    "resource",
    "result",
    "signal",
    "task",
    "task_failed",
    "task_skipped",
    "task_success",
    "trigger",
    "until",
    "var",
    "var_or",
    "wait",
    "workflow",
]
