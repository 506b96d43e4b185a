"""Methods of a runner for operators: explanations, logs, metrics, pruning."""

from __future__ import annotations

from cloaca._executions.handle import check_id
from cloaca._values.duration import duration_to_us
from cloaca._values.exceptions import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Any

    from cloaca import _core
    from cloaca._executions.log_line import LogLine
    from cloaca._executions.overview import ActivityBucket, Count, FailureGroup
    from cloaca._observe.metrics_server import MetricsServer
    from cloaca._observe.tracing import Tracing
    from cloaca._runner.config import DefaultRunnerConfig

# Maximum number of executions that one transaction deletes. Longer transactions would delay others.
_PRUNE_BATCH = 500


class InspectionMethods:
    """The part of `DefaultRunner` that explains, counts and deletes executions. Private."""

    _core: _core.Runner
    _config: DefaultRunnerConfig
    _worker_host: Any
    _tracing: Tracing
    _metrics_server: MetricsServer | None = None

    def explain(self, execution_id: str) -> list[str]:
        """Explain the state of an execution: what it waits for, and which runner runs it.

        Args:
            execution_id: The execution's id, or the id of a schedule or a trigger. For a schedule
                or a trigger, the sentences explain why it does not fire, or when it fires next.

        Returns:
            Plain sentences: one for each reason, or the outcome of an ended execution.

        Raises:
            WorkflowNotFoundError: No execution, schedule or trigger has this id.

        Example:
            >>> runner.explain(handle.id)
            ["Task 'load' is ready, but no live runner has a handler for task 'load' ..."]

        Since 1.0.
        """
        return self._core.reads.explain(check_id(execution_id))

    def counts(self) -> dict[str, Count]:
        """Count the executions in each state.

        Each state is counted up to 10,000. Only the newest 20,000 executions are searched for
        completed ones.

        Returns:
            The counts by the states' names.

        Example:
            >>> runner.counts()["Failed"]
            Count(value=3, is_exact=True)

        Since 1.0.
        """
        from cloaca._executions.overview import counts_of

        return counts_of(self._core.reads)

    def activity(
        self, since: datetime, until: datetime | None = None, buckets: int = 24
    ) -> list[ActivityBucket]:
        """Count the executions submitted in each interval, and how many of these have failed.

        Args:
            since: The start of the first interval, with a time zone.
            until: The end of the last interval; now if omitted.
            buckets: The number of intervals of the same length, from 1 to 200. At most 1,000
                executions are counted in each.

        Returns:
            The intervals, oldest first.

        Raises:
            ConfigurationError: The range is empty, a time has no time zone, or the number of
                buckets is out of range. The error is a `ValueError`.

        Example:
            >>> day = runner.activity(datetime.now(UTC) - timedelta(days=1))
            >>> sum(hour.submitted.value for hour in day)
            120

        Since 1.0.
        """
        from cloaca._executions.overview import activity_of
        from cloaca._values.duration import instant_to_us

        since_us = instant_to_us("since", since)
        until_us = self._core.clock_us if until is None else instant_to_us("until", until)
        return activity_of(self._core.reads, since_us, until_us, buckets)

    def failures(self, since: datetime | None = None) -> list[FailureGroup]:
        """Group the newest 1,000 failed executions by their causes. Children are left out.

        Failures have the same cause if their workflow, task, type of error and the first line of
        the message are the same. Numbers and ids in the message are ignored.

        Args:
            since: Leave out executions submitted before this time; a datetime with a time zone.

        Returns:
            The groups, in the order of their newest failures, the newest first.

        Raises:
            ConfigurationError: `since` is not a datetime with a time zone. The error is a
                `ValueError`.

        Example:
            >>> for group in runner.failures():
            ...     print(group.count, group.workflow, group.task_id, group.cause)
            2 etl load no rows for <n>

        Since 1.0.
        """
        from cloaca._executions.overview import failures_of
        from cloaca._values.duration import instant_to_us

        return failures_of(
            self._core.reads, None if since is None else instant_to_us("since", since)
        )

    def logs(self, execution_id: str) -> list[LogLine]:
        """Return the log lines of an execution's tasks, captured by runners with `capture_logs`.

        The lines are log records and printed text of the tasks. Printed text has the logger
        `stdout` or `stderr`. The lines of a running attempt can be read within a quarter of a
        second.

        Args:
            execution_id: The execution's id.

        Returns:
            The lines, in the order in which they were logged.

        Raises:
            WorkflowNotFoundError: No execution has this id.

        Example:
            >>> for line in runner.logs(handle.id):
            ...     print(line)

        Since 1.0.
        """
        from cloaca._executions.log_line import LogLine

        return [LogLine(record) for record in self._core.reads.logs(check_id(execution_id))]

    def metrics(self) -> str:
        """Return the counters and histograms of this runner, in the text format of Prometheus.

        The metrics count attempts that started, completed, failed and were retried, by workflow and
        task, with durations and waiting times. They also show the queue depth, the backlog of the
        database, the sizes of commits, and rescues. With the setting `metrics_port`, the runner
        also serves the metrics over HTTP.

        Example:
            >>> print(runner.metrics())

        Since 1.0.
        """
        return self._core.metrics()

    @property
    def metrics_url(self) -> str | None:
        """The URL of `/metrics`; `None` without the setting `metrics_port`. Since 1.0."""
        return None if self._metrics_server is None else self._metrics_server.url

    def prune(self, older_than: float | timedelta | str | None = None) -> int:
        """Delete ended executions now, with all their data, in small batches.

        A runner also does this in the background: see the setting `retention_days`. Children are
        deleted after their parents. A version of a workflow is also deleted if it was stored that
        long ago, is not the newest version of the workflow, and no execution uses it.

        Args:
            older_than: Minimum time since the executions' end: seconds, a timedelta, or text such
                as `"30d"`; `retention_days` if omitted.

        Returns:
            The number of deleted executions, including children.

        Raises:
            ConfigurationError: `older_than` is not a duration, or is omitted while `retention_days`
                is `None`. The error is a `ValueError`.

        Example:
            >>> runner.prune(older_than="90d")
            1204

        Since 1.0.
        """
        if older_than is None:
            days = self._config.retention_days
            if days is None:
                raise ConfigurationError(
                    "there is no age to prune by, because retention_days is None",
                    hint="give one: runner.prune(older_than=timedelta(days=30))",
                )
            older_than = days * 86_400
        age_us = duration_to_us("older_than", older_than, zero=True)
        return prune_all(self._core, age_us)

    def _serve_metrics(self) -> None:
        port = self._config.metrics_port
        # A tenant's runner has the settings of its parent, which already serves the port.
        if port is not None and not self._worker_host.is_shared:
            from cloaca._observe.metrics_server import MetricsServer

            config = self._config
            self._metrics_server = MetricsServer(
                self._core.metrics,
                config.metrics_host,
                port,
                config.metrics_allowed_hosts.split(","),
            )

    def _close_insight(self) -> None:
        if self._metrics_server is not None:
            self._metrics_server.close()


def prune_all(database: _core.Runner | _core.Inspector, age_us: int) -> int:
    """Deletes executions that ended at least `age_us` ago. Private.

    Returns:
        The number that `DefaultRunner.prune` returns.
    """
    total = 0
    while deleted := database.prune(age_us, _PRUNE_BATCH):
        total += deleted
        if deleted < _PRUNE_BATCH:
            break
    return total
