"""Methods of a runner that read executions and control them."""

from __future__ import annotations

from cloaca._executions.handle import WorkflowHandle, check_id
from cloaca._executions.result import WorkflowResult
from cloaca._executions.status import WorkflowStatus
from cloaca._tasks.references import task_id
from cloaca._values.arguments import check_optional_strings, check_string
from cloaca._values.duration import wait_to_us
from cloaca._values.exceptions import WaitTimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime, timedelta
    from typing import Any

    from cloaca import _core
    from cloaca._executions.history import Event, Page
    from cloaca._workflows.workflow import Workflow

# Maximum number of executions that one read of `wait_until_idle` returns.
_BATCH = 1000


class ControlMethods:
    """The part of `DefaultRunner` that reads executions and controls them. Private."""

    _core: _core.Runner

    def get_execution_status(self, execution_id: str) -> WorkflowStatus:
        """Return the state of an execution.

        Args:
            execution_id: The id of the execution.

        Returns:
            The state, e.g. `Running`.

        Raises:
            WorkflowNotFoundError: No execution has this id.

        Example:
            >>> runner.get_execution_status(handle.id)
            <WorkflowStatus.RUNNING: 'Running'>

        Since 1.0.
        """
        return WorkflowStatus(self._core.reads.status(check_id(execution_id)))

    def get_execution(self, execution_id: str) -> WorkflowResult:
        """Return the current state of an execution, whether it has ended or not.

        Args:
            execution_id: The id of the execution.

        Returns:
            The execution with its current results. `status` shows whether the execution has ended.

        Raises:
            WorkflowNotFoundError: No execution has this id.

        Example:
            >>> runner.get_execution(handle.id).tasks["load"].attempts
            2

        Since 1.0.
        """
        return WorkflowResult(self._core.reads.execution(check_id(execution_id)))

    def children(self, execution_id: str) -> list[WorkflowResult]:
        """Return the children of an execution: executions that its nodes and functions started.

        The executions of its final tasks are included.

        Args:
            execution_id: The id of the parent.

        Returns:
            The current states of the children, in the order in which they were started. The list
            includes children that a retry has replaced. Executions that `TaskHandle.start` started
            are not children.

        Raises:
            WorkflowNotFoundError: No execution has this id.
            DatabaseError: The database does not answer.

        Example:
            >>> [child.status for child in runner.children(handle.id)]

        Since 1.0.
        """
        from cloaca._executions.children import children_of

        found = children_of(self._core.reads, check_id(execution_id))
        return [child for _, child in found]

    def list_executions(
        self,
        workflow: str | Workflow | Iterable[str | Workflow] | None = None,
        status: str | Iterable[str] | None = None,
        since: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
        key: str | Iterable[str] | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        not_status: str | Iterable[str] | None = None,
        version: str | Iterable[str] | None = None,
        id_prefix: str | None = None,
        error: str | None = None,
        input: Mapping[str, Any] | None = None,
        until: datetime | None = None,
        schedule: str | None = None,
        runner: str | None = None,
        children: bool = False,
    ) -> Page:
        """List executions, newest first, page by page.

        Indexes find executions by key, label, schedule, runner, workflow and every state except
        `Completed`. The other conditions are checked on each execution that the index yields. The
        search ends after 20,000 executions that do not match, or after 100 ms. The page's
        `scanned_until` is then the submission time of the last examined execution, and
        `next_cursor` continues the search.

        Args:
            workflow: Only executions of this workflow, or of one of these workflows; objects or
                names.
            status: Only executions in this state, or in one of these states.
            since: Only executions submitted at or after this time; a datetime with a time zone.
            tags: Only executions of workflows with all these tags.
            limit: Maximum number of executions in the page, at least 1.
            cursor: `next_cursor` or `prev_cursor` of another page of the same listing.
            key: Only executions that were submitted with this key, or with one of these keys.
            labels: Only executions that were submitted with all these labels.
            not_status: Leave out executions in this state, or in one of these states.
            version: Only executions of the version whose hash begins with this text, or with one
                of these texts.
            id_prefix: Only executions whose id begins with this text.
            error: Only executions whose error has this text in its type or its message; case is
                ignored.
            input: Only executions whose input has these values. Each is given by its key, or by the
                keys of nested objects joined with dots, like `{"user.id": 123}`.
            until: Only executions submitted before this time; a datetime with a time zone.
            schedule: Only executions that the schedule or trigger with this id has started.
            runner: Only executions with tasks that the runner with this id is running.
            children: Whether to include the children of executions: see the method `children`.

        Returns:
            A page to iterate. Its `next_cursor` leads to the next page; `None` on the last page.

        Raises:
            ConfigurationError: An argument is not valid. The error is a `ValueError`.

        Example:
            >>> [result.execution_id for result in runner.list_executions("etl", "Failed")]
            >>> done = {result.key for result in runner.list_executions("etl", key=days)}
            >>> of_order = runner.list_executions(labels={"order": "4711"})

        Since 1.0.
        """
        from cloaca._executions.listing import check_limit, list_filter, list_page

        check_limit(limit)
        wanted = list_filter(
            workflow=workflow,
            status=status,
            since=since,
            tags=tags,
            key=key,
            labels=labels,
            not_status=not_status,
            version=version,
            id_prefix=id_prefix,
            error=error,
            input=input,
            until=until,
            schedule=schedule,
            runner=runner,
            children=children,
        )
        return list_page(self._core.reads, wanted, limit, cursor)

    def find(self, workflow: str | Workflow, key: str) -> WorkflowHandle | None:
        """Find a workflow's execution by its key, no matter which program submitted it.

        Args:
            workflow: The workflow, or its name.
            key: The key.

        Returns:
            A handle of the execution; `None` if no execution of the workflow has the key.

        Raises:
            ConfigurationError: An argument is not a string. The error is a `ValueError`.
            DatabaseError: The database does not answer.

        Example:
            >>> handle = runner.find("etl", key="2026-01-01")
            >>> if handle is not None and handle.done():
            ...     print(handle.result().final_context)

        Since 1.0.
        """
        name: Any = getattr(workflow, "name", workflow)
        for what, value in (("workflow", name), ("key", key)):
            check_string(what, value)
        found = self._core.reads.find(name, key)
        runner: Any = self
        return None if found is None else WorkflowHandle(runner, found, key=key)

    def events(self, execution_id: str) -> list[Event]:
        """Return the history of an execution, oldest first.

        Args:
            execution_id: The id of the execution.

        Returns:
            The events. Each has a time, a type and, if the event concerns a task, the task.

        Raises:
            WorkflowNotFoundError: No execution has this id.

        Example:
            >>> for event in runner.events(handle.id):
            ...     print(event.time, event.type, event.task_id)

        Since 1.0.
        """
        from cloaca._executions.history import Event

        return [Event(record) for record in self._core.reads.events(check_id(execution_id))]

    def cancel_execution(self, execution_id: str) -> bool:
        """Cancel an execution. No more of its tasks start; running coroutines are cancelled.

        A running function is not interrupted: it can check `handle.is_cancelled()`, and its return
        value is dropped.

        Args:
            execution_id: The id of the execution.

        Returns:
            `True` if this call cancelled the execution durably; `False` if the execution had
            already completed, failed or been cancelled.

        Raises:
            WorkflowNotFoundError: No execution has this id.

        Example:
            >>> runner.cancel_execution(handle.id)
            True
            >>> runner.cancel_execution(handle.id)
            False

        Since 1.0.
        """
        return self._core.cancel(check_id(execution_id))

    def pause_execution(self, execution_id: str) -> WorkflowStatus:
        """Pause an execution: no new tasks start, and running tasks may finish.

        The pause also stops delays and the timeouts of waits, but not timers that are due at an
        absolute time.

        Args:
            execution_id: The id of the execution.

        Returns:
            The new state, which is durable.

        Raises:
            WorkflowNotFoundError: No execution has this id.
            WorkflowError: The execution has ended.

        Example:
            >>> runner.pause_execution(handle.id)
            <WorkflowStatus.PAUSED: 'Paused'>

        Since 1.0.
        """
        return WorkflowStatus(self._core.control(check_id(execution_id), "pause"))

    def resume_execution(self, execution_id: str) -> WorkflowStatus:
        """Resume a paused execution. If the execution is not paused, nothing changes.

        Args:
            execution_id: The id of the execution.

        Returns:
            The new state, which is durable.

        Raises:
            WorkflowNotFoundError: No execution has this id.
            WorkflowError: The execution has ended.

        Example:
            >>> runner.resume_execution(handle.id)
            <WorkflowStatus.RUNNING: 'Running'>

        Since 1.0.
        """
        return WorkflowStatus(self._core.control(check_id(execution_id), "resume"))

    def retry_execution(
        self,
        execution_id: str,
        from_task: str | Callable[..., object] | None = None,
        from_step: str | None = None,
    ) -> WorkflowStatus:
        """Run an ended execution's failed tasks again, and the tasks skipped because of them.

        Completed tasks keep their results. Failed tasks keep their recorded steps.

        Args:
            execution_id: The id of the execution.
            from_task: A task, by id or by function, to run again with all its descendants, even if
                they completed. Their recorded steps are deleted.
            from_step: The key of a recorded step. The task of this step runs again with all its
                descendants. This step and the steps recorded after it are deleted; earlier steps
                are kept. If several tasks have recorded this key, `from_task` names the task.

        Returns:
            The new state, which is durable.

        Raises:
            WorkflowNotFoundError: No execution has this id.
            WorkflowError: The execution has not ended, was cancelled, has no recorded step
                `from_step`, or has completed and `from_task` and `from_step` are omitted.
            WorkflowValidationError: The execution has no task `from_task`. The error is a
                `WorkflowError`.
            TaskValidationError: `from_task` is neither an id nor the function of a task.

        Example:
            >>> runner.retry_execution(handle.id)
            >>> runner.retry_execution(handle.id, from_task="load")

        Since 1.0.
        """
        id = check_id(execution_id)
        task = None if from_task is None else task_id("from_task", from_task)
        check_optional_strings(from_step=from_step)
        return WorkflowStatus(self._core.control(id, "retry", task, from_step))

    def wait_until_idle(self, timeout: float | timedelta | str | None = None) -> None:
        """Wait until no execution of the database is pending or running.

        Paused executions may remain.

        Args:
            timeout: Maximum time to wait: seconds, a timedelta, or a string such as `"90s"`.
                `None` and `math.inf` mean no limit.

        Raises:
            TimeoutError: The timeout has passed; the hint names an execution that is open.
            ConfigurationError: The timeout is not a duration, or is negative. The error is a
                `ValueError`.
            WorkflowError: The caller is a coroutine of a runner, or a task of this runner. (A task
                that waits keeps its own execution open.)

        Example:
            >>> handles = runner.submit_many(("resize", {"file": name}) for name in names)
            >>> runner.wait_until_idle(timeout="10m")

        Since 1.0.
        """
        from cloaca._executions.listing import list_filter
        from cloaca._workers.blocking import check_blocking, refuse_idle_wait

        refuse_idle_wait(self._core)
        check_blocking("wait_until_idle()", "`await asyncio.to_thread(runner.wait_until_idle)`")
        timeout_us = wait_to_us(timeout)
        until = None if timeout_us is None else _core_now() + timeout_us
        # Includes children: executions of final tasks, and children whose parents have ended.
        open_ones = list_filter(
            status=(WorkflowStatus.PENDING, WorkflowStatus.RUNNING), children=True
        )
        while True:
            page = self._core.reads.executions(open_ones, _BATCH)
            if not page.executions:
                return
            # Waits for the newest execution first: by its end, most older executions have ended.
            for execution in page.executions:
                left = None if until is None else max(until - _core_now(), 0)
                if self._core.wait(execution.execution_id, left) is None:
                    raise WaitTimeoutError(
                        f"the database was not idle within {(timeout_us or 0) / 1_000_000:g} s",
                        hint=f"execution {execution.execution_id} of workflow "
                        f"'{execution.workflow_name}' is still open; wait longer, or cancel it",
                    )


def _core_now() -> int:
    from cloaca._core import now_us

    return now_us()
