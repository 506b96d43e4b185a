"""The events of executions, and pages of executions."""

from __future__ import annotations

from cloaca._values.duration import us_to_instant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from typing import Any

    from cloaca import _core
    from cloaca._executions.result import WorkflowResult


class Event:
    """One event of an execution's history.

    Attributes:
        type: The kind of event, e.g. `submitted`, `task_started`, `task_retrying`, `completed`.
        execution_id: The id of the execution.
        task_id: The task that the event concerns, if any.
        attempt: The attempt that the event concerns, if any.
        runner_id: The runner that caused the event, if known.
        data: Further data, depending on the type, such as an error, a delay or a reason.

    Example:
        >>> [event.type for event in handle.events()]
        ['submitted', 'started', 'task_started', 'task_completed', 'completed']

    Since 1.0.
    """

    __slots__ = ("_time_us", "attempt", "data", "execution_id", "runner_id", "task_id", "type")

    def __init__(self, record: _core.EventRecord) -> None:
        """Private: `DefaultRunner.events` creates these objects."""
        self._time_us = record.time_us
        self.type = record.type
        self.execution_id = record.execution_id
        self.task_id = record.task_id
        self.attempt = record.attempt
        self.runner_id = record.runner_id
        self.data: dict[str, Any] = {}
        if record.data:
            import json

            self.data = json.loads(record.data)

    @property
    def time(self) -> datetime:
        """The time of the event. Since 1.0."""
        return us_to_instant(self._time_us)

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same event."""
        if not isinstance(other, Event):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in Event.__slots__)

    def __hash__(self) -> int:
        """Return the hash of the event."""
        return hash((self.execution_id, self._time_us, self.type, self.task_id, self.attempt))

    def __repr__(self) -> str:
        """Return the event's time, type and task."""
        more = "" if self.task_id is None else f" task={self.task_id!r}"
        more += "" if self.attempt is None else f" attempt={self.attempt}"
        return f"<Event {self.time.isoformat()} {self.type}{more}>"


class Page:
    """A page of a listing of executions, newest first. Iterate over it, or read `items`.

    Attributes:
        items: The executions of this page.
        next_cursor: The `cursor` with which `list_executions` returns the next page; `None` on
            the last page.
        prev_cursor: The `cursor` with which `list_executions` returns the previous page; `None`
            on the first page.

    Example:
        >>> page = runner.list_executions(status="Failed")
        >>> while page.next_cursor:
        ...     page = runner.list_executions(status="Failed", cursor=page.next_cursor)

    Since 1.0.
    """

    __slots__ = ("_scanned_until_us", "items", "next_cursor", "prev_cursor")

    def __init__(
        self,
        items: list[WorkflowResult],
        next_cursor: str | None,
        prev_cursor: str | None = None,
        scanned_until_us: int | None = None,
    ) -> None:
        """Private: `DefaultRunner.list_executions` creates these objects."""
        self.items = items
        self.next_cursor = next_cursor
        self.prev_cursor = prev_cursor
        self._scanned_until_us = scanned_until_us

    @property
    def scanned_until(self) -> datetime | None:
        """The submission time of the last examined execution; `None` if the page is complete.

        A search ends after 20,000 executions that do not match, or after 100 ms, even if the page
        is not full. `next_cursor` continues the search. Since 1.0.
        """
        us = self._scanned_until_us
        return None if us is None else us_to_instant(us)

    def __iter__(self) -> Iterator[WorkflowResult]:
        """Return the executions."""
        return iter(self.items)

    def __len__(self) -> int:
        """Return the number of executions in this page."""
        return len(self.items)

    def __getitem__(self, index: int) -> WorkflowResult:
        """Return the execution at an index."""
        return self.items[index]

    def _repr_html_(self) -> str:
        """Return the executions as a table, for notebooks."""
        from cloaca._values.html import MAX_ROWS, escape, seconds_text, status_text, table

        rows = [
            [
                f"<code>{result.execution_id}</code>",
                escape(result.workflow_name),
                status_text(result.status),
                escape(result.created_at.isoformat(timespec="seconds")),
                seconds_text(result.duration),
                escape(result.error_message or ""),
            ]
            for result in self.items[:MAX_ROWS]
        ]
        head = ["execution", "workflow", "status", "submitted", "duration", "error"]
        more = "<br>there are more" if self.next_cursor or len(self) > MAX_ROWS else ""
        return f"<div>{table(head, rows)}{more}</div>"

    def __repr__(self) -> str:
        """Return the number of executions, and the cursor."""
        return f"<Page items={len(self.items)} next_cursor={self.next_cursor!r}>"
