"""Methods of a runner that read executions and control them."""

from __future__ import annotations

from cloaca._executions.handle import WorkflowHandle
from cloaca._executions.history import Event, Page
from cloaca._executions.result import WorkflowResult
from cloaca._executions.status import WorkflowStatus
from cloaca._values.duration import instant_to_us, seconds_to_us
from cloaca._values.exceptions import ConfigurationError, WaitTimeoutError
from cloaca._values.suggestion import suggestion

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta
    from typing import Any

    from cloaca import _core
    from cloaca._workflows.workflow import Workflow

# Maximum number of executions read at once; larger pages are assembled from several reads.
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
        """An execution as it is now, ended or not.

        Args:
            execution_id: Its id.

        Returns:
            The result as far as there is one; `status` says whether it has ended.

        Raises:
            WorkflowNotFoundError: No execution has this id.

        Since 1.0.
        """
        return WorkflowResult(self._core.reads.execution(execution_id))

    def list_executions(
        self,
        workflow: str | Workflow | None = None,
        status: str | Iterable[str] | None = None,
        since: datetime | None = None,
        tags: Mapping[str, str] | None = None,
        limit: int = 50,
        cursor: str | None = None,
        key: str | Iterable[str] | None = None,
    ) -> Page:
        """List executions, newest first, page by page.

        Args:
            workflow: Only executions of this workflow, given as an object or by name.
            status: Only executions in this state, or in one of these states.
            since: Only executions submitted at or after this time; a datetime with a time zone.
            tags: Only executions of workflows with all these tags.
            limit: Maximum number of executions in the page, at least 1.
            cursor: `next_cursor` of the previous page.
            key: Only the executions that were submitted with this key, or with one of these keys.

        Returns:
            A page to iterate; `next_cursor` leads to the next one, and is `None` on the last.

        Raises:
            ConfigurationError: An argument is not valid. It is a `ValueError`.

        Example:
            >>> [result.execution_id for result in runner.list_executions("etl", "Failed")]
            >>> done = {result.key for result in runner.list_executions("etl", key=days)}

        Since 1.0.
        """
        _check_limit(limit)
        name: Any = getattr(workflow, "name", workflow)
        return list_page(
            self._core.reads,
            name,
            _statuses(status),
            None if tags is None else dict(tags),
            None if since is None else instant_to_us("since", since),
            limit,
            cursor,
            _keys(key),
        )

    def find(self, workflow: str | Workflow, key: str) -> WorkflowHandle | None:
        """The execution of a workflow that was submitted with a key, by any program.

        Args:
            workflow: The workflow, or its name.
            key: The key.

        Returns:
            A handle of the execution; `None` if no execution of the workflow has the key.

        Raises:
            ConfigurationError: An argument is not a string. It is a `ValueError`.
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
            `True` if this cancelled the execution, which is durable; `False` if it had ended
            already, whether completed, failed or cancelled.

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
            The state, durable.

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
            The state, durable.

        Raises:
            WorkflowNotFoundError: No execution has this id.
            WorkflowError: The execution is not paused.

        Since 1.0.
        """
        return WorkflowStatus(self._core.control(execution_id, "resume"))

    def retry_execution(self, execution_id: str, from_task: str | None = None) -> WorkflowStatus:
        """Run the failed tasks of an ended execution again, and those skipped because of them.

        Completed tasks keep their results.

        Args:
            execution_id: Its id.
            from_task: A task to run again with all its descendants, even if they completed.

        Returns:
            The state, durable.

        Raises:
            WorkflowNotFoundError: No execution has this id.
            WorkflowError: The execution has not ended, was cancelled, or has completed and
                `from_task` is omitted.
            WorkflowValidationError: It has no task `from_task`. It is a `WorkflowError`.

        Since 1.0.
        """
        return WorkflowStatus(self._core.control(execution_id, "retry", from_task))

    def wait_until_idle(self, timeout: float | timedelta | None = None) -> None:
        """Wait until no execution of the database is pending or running. Paused ones do not count.

        Args:
            timeout: Maximum time to wait, in seconds.

        Raises:
            TimeoutError: The timeout has passed; the hint names an execution that is open.
            WorkflowError: A task of this runner calls it, whose own execution is open.

        Since 1.0.
        """
        from cloaca._workers.blocking import refuse_idle_wait

        refuse_idle_wait(self._core)
        timeout_us = None if timeout is None else seconds_to_us("timeout", timeout, zero=True)
        until = None if timeout_us is None else _core_now() + timeout_us
        open_states = [WorkflowStatus.PENDING.value, WorkflowStatus.RUNNING.value]
        while True:
            page = self._core.reads.executions(None, open_states, None, None, _BATCH, None)
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


def list_page(
    reads: _core.Reads,
    workflow: str | None,
    statuses: list[str],
    tags: dict[str, str] | None,
    since_us: int | None,
    limit: int,
    cursor: str | None,
    keys: list[str] | None = None,
) -> Page:
    """A page of any length, newest first."""
    found: list[_core.Execution] = []
    while True:
        left = min(limit - len(found), _BATCH)
        page = reads.executions(workflow, statuses, tags, since_us, left, cursor, keys)
        found += page.executions
        cursor = page.next_cursor
        if cursor is None or len(found) >= limit:
            return Page([WorkflowResult(execution) for execution in found], cursor)


def _core_now() -> int:
    from cloaca._core import now_us

    return now_us()


def _check_limit(limit: object) -> None:
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigurationError(f"limit must be a whole number from 1, not {limit!r}")


def _keys(key: str | Iterable[str] | None) -> list[str] | None:
    if key is None:
        return None
    try:
        keys = [key] if isinstance(key, str) else list(key)
    except TypeError:
        keys = [key]  # type: ignore[list-item]
    for value in keys:
        if not isinstance(value, str):
            raise ConfigurationError(f"key must be a string, not {type(value).__name__}")
    return keys


def _statuses(status: str | Iterable[str] | None) -> list[str]:
    if status is None:
        return []
    given = [status] if isinstance(status, str) else list(status)
    known = [state.value for state in WorkflowStatus]
    for state in given:
        if state not in known:
            raise ConfigurationError(
                f"unknown status {state!r}", hint=suggestion(state, known, listing=True)
            )
    return [str(WorkflowStatus(state)) for state in given]
