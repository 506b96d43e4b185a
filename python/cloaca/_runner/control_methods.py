"""Methods of a runner that read executions and control them."""

from __future__ import annotations

from cloaca._executions.handle import WorkflowHandle
from cloaca._executions.history import Event, Page
from cloaca._executions.listing import check_limit, list_filter, list_page
from cloaca._executions.result import WorkflowResult
from cloaca._executions.status import WorkflowStatus
from cloaca._values.duration import seconds_to_us
from cloaca._values.exceptions import ConfigurationError, WaitTimeoutError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta
    from typing import Any

    from cloaca import _core
    from cloaca._workflows.workflow import Workflow

# Maximum number of executions that are waited for at once.
_BATCH = 1000


class ControlMethods:
    """The part of `DefaultRunner` that reads executions and controls them. Private."""

    _core: _core.Runner

    def get_execution_status(self, execution_id: str) -> WorkflowStatus:
        """The state of an execution.

        Args:
            execution_id: Its id.

        Returns:
            The state, e.g. `Running`.

        Raises:
            WorkflowNotFoundError: No execution has this id.

        Since 1.0.
        """
        return WorkflowStatus(self._core.reads.status(execution_id))

    def get_execution(self, execution_id: str) -> WorkflowResult:
        """The current state of an execution, whether it has ended or not.

        Args:
            execution_id: Its id.

        Returns:
            The execution with the results so far; `status` says whether it has ended.

        Raises:
            WorkflowNotFoundError: No execution has this id.

        Since 1.0.
        """
        return WorkflowResult(self._core.reads.execution(execution_id))

    def children(self, execution_id: str) -> list[WorkflowResult]:
        """The children that nodes and functions of an execution started, and its final tasks.

        Args:
            execution_id: The id of the parent.

        Returns:
            The current states of the children, in the order in which they were started. The list
            includes children that a retry has replaced, but no execution that `TaskHandle.start`
            started.

        Raises:
            WorkflowNotFoundError: No execution has this id.
            DatabaseError: The database does not answer.

        Example:
            >>> [child.status for child in runner.children(handle.id)]

        Since 1.0.
        """
        from cloaca._executions.children import children_of

        found = children_of(self._core.reads, execution_id)
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

        Keys, labels, a schedule, a runner, states other than `Completed`, and workflows are found
        by an index. The other conditions are checked on the executions that the index yields. The
        search ends after 20,000 executions that do not match, or after 100 ms. The page's
        `scanned_until` then says how far back it has searched, and `next_cursor` continues there.

        Args:
            workflow: Only executions of this workflow, or of these workflows, as objects or names.
            status: Only executions in this state, or in one of these states.
            since: Only executions submitted at or after this time; a datetime with a time zone.
            tags: Only executions of workflows with all these tags.
            limit: Maximum number of executions in the page, at least 1.
            cursor: `next_cursor` or `prev_cursor` of another page of the same listing.
            key: Only the executions that were submitted with this key, or with one of these keys.
            labels: Only executions that were submitted with all these labels.
            not_status: Only executions that are not in this state, or in none of these states.
            version: Only executions of the version whose hash begins with this text, or with one
                of these texts.
            id_prefix: Only executions whose id begins with this text.
            error: Only executions whose error has this text in its type or its message; upper and
                lower case are equal.
            input: Only executions whose input has these values: by key, or by several keys joined
                with dots, like `{"user.id": 123}`.
            until: Only executions submitted before this time; a datetime with a time zone.
            schedule: Only executions that the schedule or trigger with this id has started.
            runner: Only executions with tasks that the runner with this id is running.
            children: Whether to include children, which nodes of other executions have started.

        Returns:
            A page to iterate; `next_cursor` leads to the next page, and is `None` on the last one.

        Raises:
            ConfigurationError: An argument is not valid. The error is a `ValueError`.

        Example:
            >>> [result.execution_id for result in runner.list_executions("etl", "Failed")]
            >>> done = {result.key for result in runner.list_executions("etl", key=days)}
            >>> of_order = runner.list_executions(labels={"order": "4711"})

        Since 1.0.
        """
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
        """The execution of a workflow that was submitted with a key, by any program.

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
            if not isinstance(value, str):
                raise ConfigurationError(f"{what} must be a string, not {type(value).__name__}")
        found = self._core.reads.find(name, key)
        runner: Any = self
        return None if found is None else WorkflowHandle(runner, found, key=key)

    def events(self, execution_id: str) -> list[Event]:
        """The history of an execution, oldest first.

        Args:
            execution_id: Its id.

        Returns:
            The events, each with its time, its type and its task, if any.

        Raises:
            WorkflowNotFoundError: No execution has this id.

        Since 1.0.
        """
        return [Event(record) for record in self._core.reads.events(execution_id)]

    def cancel_execution(self, execution_id: str) -> bool:
        """Cancel an execution. No more of its tasks start; running coroutines are cancelled.

        A running function is not interrupted: it can check `handle.is_cancelled()`, and its return
        value is dropped.

        Args:
            execution_id: Its id.

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
        return self._core.cancel(execution_id)

    def pause_execution(self, execution_id: str) -> WorkflowStatus:
        """Pause an execution: no new tasks start, running ones finish, timers stop.

        Args:
            execution_id: Its id.

        Returns:
            The new state. It is durable.

        Raises:
            WorkflowNotFoundError: No execution has this id.
            WorkflowError: The execution has ended.

        Since 1.0.
        """
        return WorkflowStatus(self._core.control(execution_id, "pause"))

    def resume_execution(self, execution_id: str) -> WorkflowStatus:
        """Resume a paused execution.

        Args:
            execution_id: Its id.

        Returns:
            The new state. It is durable.

        Raises:
            WorkflowNotFoundError: No execution has this id.
            WorkflowError: The execution is not paused.

        Since 1.0.
        """
        return WorkflowStatus(self._core.control(execution_id, "resume"))

    def retry_execution(
        self,
        execution_id: str,
        from_task: str | None = None,
        from_step: str | None = None,
    ) -> WorkflowStatus:
        """Run the failed tasks of an ended execution again, and those skipped because of them.

        Completed tasks keep their results, and failed tasks their recorded steps.

        Args:
            execution_id: Its id.
            from_task: A task to run again with all its descendants, even if they completed. Their
                recorded steps are forgotten.
            from_step: The key of a recorded step. Its task runs again with all its descendants;
                this step and all recorded after it are forgotten, those before it are kept.
                `from_task` names the task if several have such a step.

        Returns:
            The new state. It is durable.

        Raises:
            WorkflowNotFoundError: No execution has this id.
            WorkflowError: The execution has not ended, was cancelled, has no recorded step
                `from_step`, or has completed and `from_task` and `from_step` are omitted.
            WorkflowValidationError: It has no task `from_task`. It is a `WorkflowError`.

        Since 1.0.
        """
        return WorkflowStatus(self._core.control(execution_id, "retry", from_task, from_step))

    def wait_until_idle(self, timeout: float | timedelta | None = None) -> None:
        """Wait until no execution of the database is pending or running. Paused ones do not count.

        Args:
            timeout: Maximum time to wait, in seconds.

        Raises:
            TimeoutError: The timeout has passed; the hint names an execution that is open.
            WorkflowError: The caller is a task of this runner, whose own execution would keep the
                database from being idle, or a coroutine of another runner.

        Since 1.0.
        """
        from cloaca._workers.blocking import check_blocking, refuse_idle_wait

        refuse_idle_wait(self._core)
        check_blocking("wait_until_idle()", "`await asyncio.to_thread(runner.wait_until_idle)`")
        timeout_us = None if timeout is None else seconds_to_us("timeout", timeout, zero=True)
        until = None if timeout_us is None else _core_now() + timeout_us
        # Executions of final tasks, and children of ended parents, are listed as children.
        open_ones = list_filter(
            status=(WorkflowStatus.PENDING, WorkflowStatus.RUNNING), children=True
        )
        while True:
            page = self._core.reads.executions(open_ones, _BATCH)
            if not page.executions:
                return
            # Wait for the newest first: most of the others have ended by then.
            for execution in page.executions:
                left = None if until is None else max(until - _core_now(), 0)
                if self._core.wait(execution.execution_id, left) is None:
                    raise WaitTimeoutError(
                        f"the database is not idle within {(timeout_us or 0) / 1_000_000:g} s",
                        hint=f"execution {execution.execution_id} of workflow "
                        f"'{execution.workflow_name}' is open",
                    )


def _core_now() -> int:
    from cloaca._core import now_us

    return now_us()
