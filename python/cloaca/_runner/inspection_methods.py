"""Methods of a runner for operators: explanations, logs, metrics, pruning."""

from __future__ import annotations

from cloaca._executions.log_line import LogLine
from cloaca._values.duration import seconds_to_us
from cloaca._values.exceptions import ConfigurationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from typing import Any

    from cloaca import _core
    from cloaca._core import SubmitRequest
    from cloaca._executions.overview import ActivityBucket, Count, FailureGroup
    from cloaca._observe.metrics_server import MetricsServer
    from cloaca._observe.tracing import ExecutionSpan, Tracing
    from cloaca._runner.config import DefaultRunnerConfig

# Executions deleted in one transaction: few enough not to delay other transactions.
_PRUNE_BATCH = 500


class InspectionMethods:
    """The part of `DefaultRunner` that explains, counts and cleans up. Private."""

    _core: _core.Runner
    _config: DefaultRunnerConfig
    _worker_host: Any
    _tracing: Tracing
    _metrics_server: MetricsServer | None = None

    def explain(self, execution_id: str) -> list[str]:
        """Explain the state of an execution: what it waits for, and which runner runs it.

        Args:
            execution_id: Its id. For the id of a schedule or a trigger, the sentences say why it
                does not fire, or when it fires next.

        Returns:
            Plain sentences, one for each reason, or the outcome of an ended execution.

        Raises:
            WorkflowNotFoundError: Neither an execution nor a schedule has this id.

        Example:
            >>> runner.explain(handle.id)
            ["Task 'load' is ready, but no live runner has task 'load' of workflow 'etl' ..."]

        Since 1.0.
        """
        return self._core.reads.explain(execution_id)

    def counts(self) -> dict[str, Count]:
        """Count the executions in each state.

        Each state is counted up to 10,000, and completed executions among the newest 20,000.

        Returns:
            The counts by the name of the state.

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
        """Count the executions that were submitted over time, and the failed ones among them.

        Args:
            since: The start of the time range, with a time zone.
            until: Its end; now if omitted.
            buckets: The number of spans of the same length, from 1 to 200. Each is counted up to
                1,000.

        Returns:
            The spans, oldest first.

        Raises:
            ConfigurationError: The range is empty, or the number of buckets is out of range.

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
        """Group the newest 1,000 failed executions by their causes.

        Failures with the same workflow, task, type of error and message, apart from numbers and
        ids, have one cause.

        Args:
            since: Leave out executions submitted before this time, which has a time zone.

        Returns:
            The groups, in the order of their newest failures, the newest first.

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
        """The log lines of an execution's tasks, from the runners where `capture_logs` is on.

        They are what the tasks logged, and what they printed (the loggers `stdout` and `stderr`).
        The lines of a running attempt can be read within a quarter of a second.

        Args:
            execution_id: Its id.

        Returns:
            The lines, in the order in which they were logged.

        Raises:
            WorkflowNotFoundError: No execution has this id.

        Since 1.0.
        """
        return [LogLine(record) for record in self._core.reads.logs(execution_id)]

    def metrics(self) -> str:
        """Counters and histograms of this runner, in the text format of Prometheus.

        By workflow and task: attempts started, completed, failed and retried, their durations and
        waits. Also: queue depth, backlog of the database, commit batch sizes, rescues. The
        setting `metrics_port` serves the same over HTTP.

        Since 1.0.
        """
        return self._core.metrics()

    @property
    def metrics_url(self) -> str | None:
        """The URL of `/metrics`; `None` without the setting `metrics_port`. Since 1.0."""
        return None if self._metrics_server is None else self._metrics_server.url

    def prune(self, older_than: float | timedelta | None = None) -> int:
        """Delete ended executions now, with all that belongs to them, in small batches.

        A runner also does this in the background: see the setting `retention_days`.

        Args:
            older_than: Seconds since their end; `retention_days` if omitted.

        Returns:
            The number of deleted executions.

        Raises:
            ConfigurationError: `older_than` is omitted, and `retention_days` is `None`.

        Since 1.0.
        """
        if older_than is None:
            days = self._config.retention_days
            if days is None:
                raise ConfigurationError(
                    "there is no age to prune by, since retention_days is None",
                    hint="give one: runner.prune(older_than=timedelta(days=30))",
                )
            older_than = days * 86_400
        age_us = seconds_to_us("older_than", older_than, zero=True)
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

    def _begin_trace(self, request: SubmitRequest) -> ExecutionSpan | None:
        return self._tracing.begin(request)

    def _close_insight(self) -> None:
        if self._metrics_server is not None:
            self._metrics_server.close()


def prune_all(database: _core.Runner | _core.Inspector, age_us: int) -> int:
    """Deletes older ended executions in batches; returns their number. Private."""
    total = 0
    while deleted := database.prune(age_us, _PRUNE_BATCH):
        total += deleted
        if deleted < _PRUNE_BATCH:
            break
    return total
