"""Open waits of tasks, and pages of open waits."""

from __future__ import annotations

from cloaca._values.duration import us_to_instant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from typing import Any

    from cloaca import _core


class Wait:
    """An open wait of a task.

    Attributes:
        kind: `signal`, `approval`, `timer`, `child` or `cancel`.
        name: The name of the signal, or of the child's workflow. For an approval or a timer, the
            id of the task.
        key: The key of the signal, if it has one.
        execution_id: The id of the execution.
        workflow: The workflow's name.
        task_id: The id of the task; `None` for a signal that cancels the execution.
        since: The beginning of the wait.
        deadline: The time at which the wait times out or the timer is due; `None` if never.
        title: The title of the approval.
        to: The person or group who decides the approval.
        schema: The JSON schema of the data of the approval, as a dict.

    Example:
        >>> for wait in runner.waits(kind="approval"):
        ...     print(wait.title, wait.to, wait.deadline)

    Since 1.0.
    """

    __slots__ = (
        "deadline",
        "execution_id",
        "key",
        "kind",
        "name",
        "schema",
        "since",
        "task_id",
        "title",
        "to",
        "workflow",
    )

    def __init__(self, record: _core.WaitRecord) -> None:
        """Private: `DefaultRunner.waits` creates these objects."""
        self.kind = record.kind
        self.name = record.name
        self.key = record.key
        self.execution_id = record.execution_id
        self.workflow = record.workflow
        self.task_id = record.task_id
        self.since: datetime = us_to_instant(record.since_us)
        deadline = record.deadline_us
        self.deadline: datetime | None = None if deadline is None else us_to_instant(deadline)
        self.title = record.title
        self.to = record.to
        self.schema: dict[str, Any] | None = None
        if record.schema is not None:
            import json

            self.schema = json.loads(record.schema)

    def __repr__(self) -> str:
        """Return the kind, the name and the execution."""
        key = "" if self.key is None else f" key={self.key!r}"
        return f"<Wait {self.kind} {self.name!r}{key} execution={self.execution_id}>"


class WaitPage:
    """A page of open waits, oldest first. Iterate over it, or read `items`.

    Attributes:
        items: The waits of this page.
        next_cursor: The `cursor` with which `waits` returns the next page; `None` on the last page.

    Example:
        >>> page = runner.waits("paid")
        >>> while page.next_cursor:
        ...     page = runner.waits("paid", cursor=page.next_cursor)

    Since 1.0.
    """

    __slots__ = ("items", "next_cursor")

    def __init__(self, items: list[Wait], next_cursor: str | None) -> None:
        """Private: `DefaultRunner.waits` creates these objects."""
        self.items = items
        self.next_cursor = next_cursor

    def __iter__(self) -> Iterator[Wait]:
        """Return the waits."""
        return iter(self.items)

    def __len__(self) -> int:
        """Return the number of waits in this page."""
        return len(self.items)

    def __getitem__(self, index: int) -> Wait:
        """Return the wait at an index."""
        return self.items[index]

    def __repr__(self) -> str:
        """Return the number of waits, and the cursor."""
        return f"<WaitPage items={len(self.items)} next_cursor={self.next_cursor!r}>"
