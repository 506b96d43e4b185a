"""Counts of executions, their activity over time, and the causes of failures."""

from __future__ import annotations

from cloaca._values.duration import us_to_instant

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from cloaca._core import Reads


class Count:
    """A number of executions.

    Attributes:
        value: The number.
        is_exact: Whether the number is exact. If not, there may be more executions.

    Example:
        >>> str(runner.counts()["Completed"])
        '10000+'

    Since 1.0.
    """

    __slots__ = ("is_exact", "value")

    def __init__(self, value: int, is_exact: bool) -> None:
        """Private: `DefaultRunner.counts` and `activity` create these objects."""
        self.value = value
        self.is_exact = is_exact

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same number with the same precision."""
        if not isinstance(other, Count):
            return NotImplemented
        return (self.value, self.is_exact) == (other.value, other.is_exact)

    def __hash__(self) -> int:
        """Return the hash of the number."""
        return hash((self.value, self.is_exact))

    def __repr__(self) -> str:
        """Return the number and its precision."""
        return f"Count(value={self.value}, is_exact={self.is_exact})"

    def __str__(self) -> str:
        """Return the number, with a plus sign if there may be more."""
        return f"{self.value}" if self.is_exact else f"{self.value}+"


class ActivityBucket:
    """The numbers of executions that were submitted in an interval of time.

    Attributes:
        since: The start of the interval.
        until: The end of the interval.
        submitted: The number of executions submitted in the interval.
        failed: The number of these executions that have failed.

    Example:
        >>> for hour in runner.activity(datetime.now(UTC) - timedelta(days=1)):
        ...     print(hour.since, hour.submitted, hour.failed)

    Since 1.0.
    """

    __slots__ = ("failed", "since", "submitted", "until")

    def __init__(self, since: datetime, until: datetime, submitted: Count, failed: Count) -> None:
        """Private: `DefaultRunner.activity` creates these objects."""
        self.since = since
        self.until = until
        self.submitted = submitted
        self.failed = failed

    def __repr__(self) -> str:
        """Return the start of the interval, and the numbers."""
        since = self.since.isoformat()
        return f"<ActivityBucket {since} submitted={self.submitted} failed={self.failed}>"


class FailureGroup:
    """Failed executions with the same cause.

    Attributes:
        workflow: The name of the workflow.
        task_id: The task that failed; `None` if the execution itself failed, e.g. at its timeout.
        type: The type of the error.
        cause: The first line of the error's message, with `<n>` for numbers and `<id>` for ids.
        message: The message of the newest failure, at most 300 characters.
        count: The number of executions.
        first: The time at which the oldest execution was submitted.
        last: The time at which the newest execution was submitted.
        execution_ids: The ids of the newest executions, at most 100, newest first.

    Example:
        >>> for group in runner.failures():
        ...     print(group.count, group.workflow, group.type, group.message)

    Since 1.0.
    """

    __slots__ = (
        "cause",
        "count",
        "execution_ids",
        "first",
        "last",
        "message",
        "task_id",
        "type",
        "workflow",
    )

    def __init__(self, group: dict[str, Any]) -> None:
        """Private: `DefaultRunner.failures` creates these objects."""
        self.workflow: str = group["workflow"]
        self.task_id: str | None = group["task_id"]
        self.type: str = group["type"]
        self.cause: str = group["cause"]
        self.message: str = group["message"]
        self.count: int = group["count"]
        self.first: datetime = us_to_instant(group["first_us"])
        self.last: datetime = us_to_instant(group["last_us"])
        self.execution_ids: list[str] = group["execution_ids"]

    def __repr__(self) -> str:
        """Return the workflow, the task, and the number of executions."""
        return f"<FailureGroup {self.workflow}.{self.task_id} {self.type} count={self.count}>"


def counts_of(reads: Reads) -> dict[str, Count]:
    """Returns the number of executions in each state, by the state's name."""
    return {status: Count(value, is_exact) for status, value, is_exact in reads.counts()}


def activity_of(reads: Reads, since_us: int, until_us: int, buckets: int) -> list[ActivityBucket]:
    """Returns intervals of the same length with their executions, oldest interval first."""
    return [
        ActivityBucket(
            us_to_instant(since), us_to_instant(until), Count(*submitted), Count(*failed)
        )
        for since, until, submitted, failed in reads.activity(since_us, until_us, buckets)
    ]


def failures_of(reads: Reads, since_us: int | None) -> list[FailureGroup]:
    """Returns the failed executions grouped by cause, the newest failure first."""
    return [FailureGroup(group) for group in reads.failures(since_us)]
