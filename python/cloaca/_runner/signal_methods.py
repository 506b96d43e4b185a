"""Methods of a runner that send signals, list waits and decide approvals."""

from __future__ import annotations

from cloaca._executions.handle import id_of
from cloaca._executions.status import WorkflowStatus
from cloaca._values.arguments import check_optional_strings, check_string
from cloaca._values.duration import duration_to_us, instant_to_us
from cloaca._values.encoding import encode_as
from cloaca._values.exceptions import (
    ConfigurationError,
    WorkflowInputError,
    WorkflowNotFoundError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Any

    from cloaca import _core
    from cloaca._executions.handle import WorkflowHandle
    from cloaca._executions.wait import WaitPage
    from cloaca._workflows.workflow import Workflow


class SignalMethods:
    """The part of `DefaultRunner` that sends signals and decides approvals. Private."""

    _core: _core.Runner

    def send(
        self,
        name: str,
        data: object = None,
        *,
        key: str | None = None,
        to: str | WorkflowHandle | None = None,
        id: str | None = None,
        sender: str | None = None,
    ) -> int:
        """Send a signal to the tasks that wait for its name and key, now or later.

        Every waiting task receives the signal. The signal is durable when the method returns.

        Args:
            name: The signal's name.
            data: The signal's data: JSON, or a value that the context can hold.
            key: The key of the waits that receive the signal. If omitted, waits without a key
                receive the signal.
            to: The execution whose waits receive the signal, as a handle or an id; excludes `key`.
            id: An idempotency id. A second signal with the same id has no effect while the first
                signal is stored.
            sender: The name of the sender, for the history.

        Returns:
            The signal's sequence number; for a repeated `id`, the number of the first signal.

        Raises:
            ConfigurationError: An argument is not valid. The error is a `ValueError`.
            ContextError: The data takes more than 16 MiB.
            TypeError: A part of the data has no JSON form.
            ValueError: The data contains NaN or an infinity.
            WorkflowInputError: This process defines tasks that wait for the signal, and the data
                does not match the parameter of any of them. With `to=`, only the tasks of the
                execution's workflow count. The error is a `ValueError`. Signals that cancel
                executions of a workflow of this process may have any data.

        Example:
            >>> runner.send("paid", {"amount": 3}, key="order-42", id="stripe-evt-1")

        Since 1.0.
        """
        arguments = signal_arguments(name, data, key, to, id, sender)
        from cloaca._workflows.payloads import check_signal

        target = arguments[3]
        try:
            workflow_of = None if target is None else lambda: self._workflow_of(target)
            check_signal(name, arguments[1], workflow_of)
        except WorkflowInputError:
            if not _cancels(name):
                raise
        sent = self._core.send(*arguments)
        return sent.seq

    def _workflow_of(self, id: str) -> str | None:
        """Returns the name of an execution's workflow; `None` if the execution does not exist."""
        try:
            return self._core.reads.execution(id).workflow_name
        except WorkflowNotFoundError:
            return None

    def waits(
        self,
        name: str | None = None,
        workflow: str | Workflow | None = None,
        *,
        kind: str | None = None,
        execution_id: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> WaitPage:
        """List the open waits of tasks, oldest first, page by page.

        Args:
            name: Only waits with this name: see `Wait.name`.
            workflow: Only waits of this workflow, given as an object or by name.
            kind: `"signal"`, `"approval"`, `"timer"`, `"child"` or `"cancel"`; signals and
                approvals if omitted.
            execution_id: Only waits of this execution, ordered by task. The page contains all of
                them: `workflow`, `limit` and `cursor` have no effect.
            limit: Maximum number of waits in the page, at least 1.
            cursor: `next_cursor` of the previous page.

        Returns:
            A page to iterate.

        Raises:
            ConfigurationError: An argument is not valid. The error is a `ValueError`.

        Example:
            >>> for wait in runner.waits(kind="approval"):
            ...     print(wait.title, wait.execution_id, wait.task_id, wait.deadline)

        Since 1.0.
        """
        return wait_page(
            self._core.reads,
            name,
            workflow,
            kind=kind,
            execution_id=execution_id,
            limit=limit,
            cursor=cursor,
        )

    def approve(
        self,
        execution_id: str | WorkflowHandle,
        task_id: str,
        data: object = None,
        *,
        by: str | None = None,
    ) -> WorkflowStatus:
        """Approve an open approval.

        Args:
            execution_id: The execution, as a handle or an id.
            task_id: The id of the approval.
            data: Data that becomes part of the approval's result.
            by: The name of the person who approves, for the result and the history.

        Returns:
            The state of the execution, which is durable.

        Raises:
            AlreadyDecidedError: The approval is already decided; the message says who decided,
                and when.
            WorkflowError: The task does not wait for a decision, or the execution has no such task.
            WorkflowInputError: The data does not match `data=` of the approval. The error is a
                `ValueError`.
            ContextError: The data takes more than 16 MiB.
            WorkflowNotFoundError: No execution has this id.

        Example:
            >>> runner.approve(wait.execution_id, wait.task_id, {"limit": 5}, by="ann")

        Since 1.0.
        """
        from cloaca._workflows.payloads import check_approval

        check_string("task_id", task_id)
        check_optional_strings(by=by)
        text = encode_as(f"the data of approval {task_id!r}", data)
        execution = id_of(execution_id)
        reads = self._core.reads
        check_approval(task_id, data, lambda: reads.execution(execution).workflow_name)
        return WorkflowStatus(self._core.decide(execution, task_id, True, text, by=by))

    def reject(
        self,
        execution_id: str | WorkflowHandle,
        task_id: str,
        *,
        reason: str | None = None,
        by: str | None = None,
    ) -> WorkflowStatus:
        """Reject an open approval. The approval's `on_reject` defines the consequence.

        Args:
            execution_id: The execution, as a handle or an id.
            task_id: The id of the approval.
            reason: The reason for the rejection.
            by: The name of the person who rejects.

        Returns:
            The state of the execution, which is durable.

        Raises:
            AlreadyDecidedError: The approval is already decided; the message says who decided,
                and when.
            WorkflowError: The task does not wait for a decision, or the execution has no such task.
            WorkflowNotFoundError: No execution has this id.

        Example:
            >>> runner.reject(wait.execution_id, wait.task_id, reason="no budget", by="ann")

        Since 1.0.
        """
        check_string("task_id", task_id)
        check_optional_strings(by=by, reason=reason)
        execution = id_of(execution_id)
        answer = self._core.decide(execution, task_id, False, "null", by=by, reason=reason)
        return WorkflowStatus(answer)

    def reschedule(
        self,
        execution_id: str | WorkflowHandle,
        task_id: str,
        *,
        at: datetime | None = None,
        after: float | timedelta | str | None = None,
    ) -> WorkflowStatus:
        """Move the due time of an open timer, or of the delay before a retry.

        Args:
            execution_id: The execution, as a handle or an id.
            task_id: The id of the task.
            at: The new due time, a datetime with a time zone.
            after: The time from now, instead of `at`: seconds, a timedelta, or a string such as
                `"1h"`.

        Returns:
            The state of the execution, which is durable.

        Raises:
            ConfigurationError: Neither or both of `at` and `after` are given. The error is a
                `ValueError`.
            WorkflowError: The task has neither an open timer nor a retry delay, or the execution
                has no such task.
            WorkflowNotFoundError: No execution has this id.

        Example:
            >>> runner.reschedule(handle, "cool_down", after="10m")

        Since 1.0.
        """
        check_string("task_id", task_id)
        if (at is None) == (after is None):
            given = "neither" if at is None else "both"
            raise ConfigurationError(f"reschedule needs at= or after=, but {given} was given")
        due = None if at is None else instant_to_us("at", at)
        wait = 0 if after is None else duration_to_us("after", after, zero=True)
        return WorkflowStatus(self._core.reschedule(id_of(execution_id), task_id, due, wait))


def _cancels(name: str) -> bool:
    """Returns whether signals with this name cancel executions of a workflow of this process."""
    from cloaca._workflows.registry import registry

    return any(name in workflow._core.cancel_signals for workflow in registry.all_workflows())


def signal_arguments(
    name: str,
    data: object,
    key: str | None,
    to: object,
    id: str | None,
    sender: str | None,
) -> tuple[str, str, str | None, str | None, str | None, str | None]:
    """Returns the arguments of the engine's `send`.

    Raises:
        ConfigurationError: The name, the key or another argument is not a string.
    """
    for what, value in (("name", name), ("key", key), ("id", id), ("sender", sender)):
        if what == "name" or value is not None:
            check_string(f"the {what} of a signal", value)
    text = encode_as(f"the data of signal {name!r}", data)
    return name, text, key, None if to is None else id_of(to, "to"), id, sender


def wait_page(
    reads: _core.Reads,
    name: str | None,
    workflow: str | Workflow | None,
    *,
    kind: str | None = None,
    execution_id: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> WaitPage:
    """Returns a page of open waits.

    Raises:
        ConfigurationError: An argument is not valid.
    """
    from cloaca._executions.listing import check_limit

    check_limit(limit)
    workflow_name: Any = getattr(workflow, "name", workflow)
    check_optional_strings(
        name=name, workflow=workflow_name, kind=kind, execution_id=execution_id, cursor=cursor
    )
    page = reads.waits(name, workflow_name, execution_id, kind, limit, cursor)
    from cloaca._executions.wait import Wait, WaitPage

    return WaitPage([Wait(record) for record in page.items], page.next)
