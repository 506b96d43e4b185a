"""The metrics of a runner in the Prometheus format."""

from __future__ import annotations

import http.client
import json
import re
import threading
import urllib.error
import urllib.request
from datetime import timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import cloaca

#: Timeout of requests and of waits for results, in seconds.
PATIENCE = 30
DASHBOARD = Path(__file__).parent.parent / "docs" / "how-to" / "grafana-dashboard.json"


def families(text):
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(found, name, **labels):
    for family in found.values():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    raise AssertionError(f"the metrics do not contain {name}{labels}")


def run_some(runner):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id='a"\\')(lambda context: None)

        @cloaca.task(id="b", retry_attempts=2, retry_delay_ms=1, dependencies=['a"\\'])
        def b(context, handle):
            if handle.attempt == 1:
                raise ValueError

    with cloaca.WorkflowBuilder("bad"):

        @cloaca.task(id="boom", retry_attempts=1)
        def boom(context):
            raise ValueError

    for _ in range(3):
        assert runner.execute("w").status == "Completed"
    assert runner.execute("bad").status == "Failed"
    cancelled = runner.submit("w", delay=3600)
    cancelled.cancel()


def test_metrics_count_executions_tasks_and_commits(runner):
    run_some(runner)
    found = families(runner.metrics())

    assert value(found, "cloaca_runner_up") == 1
    assert value(found, "cloaca_database_up") == 1
    assert value(found, "cloaca_executions_submitted_total", workflow="w") == 4
    ended = "cloaca_executions_ended_total"
    assert value(found, ended, workflow="w", status="Completed") == 3
    assert value(found, ended, workflow="w", status="Cancelled") == 1
    assert value(found, ended, workflow="bad", status="Failed") == 1
    b = {"workflow": "w", "task": "b"}
    assert value(found, "cloaca_tasks_started_total", **b) == 6
    assert value(found, "cloaca_tasks_completed_total", **b) == 3
    assert value(found, "cloaca_tasks_retried_total", **b) == 3
    assert value(found, "cloaca_tasks_failed_total", workflow="bad", task="boom") == 1
    assert value(found, "cloaca_task_duration_seconds_count", **b) == 6
    assert value(found, "cloaca_task_wait_seconds_count", **b) == 3
    a = {"workflow": "w", "task": 'a"\\'}
    assert value(found, "cloaca_tasks_completed_total", **a) == 3
    assert value(found, "cloaca_commit_batch_size_count") >= 10
    assert value(found, "cloaca_commit_duration_seconds_sum") > 0
    assert value(found, "cloaca_queue_depth", executor="threads") == 0
    assert value(found, "cloaca_backlog_tasks") == 0
    assert value(found, "cloaca_open_waits", kind="signal") == 0
    assert value(found, "cloaca_tasks_rescued_total") == 0


def test_names_follow_the_conventions_and_histograms_are_cumulative(runner):
    run_some(runner)
    for name, family in families(runner.metrics()).items():
        assert re.fullmatch(r"cloaca_[a-z_]+", name)
        assert family.documentation.endswith(".")
        assert family.type in {"counter", "gauge", "histogram"}
        if "duration" in name or "_wait_" in name or "time" in name:
            assert name.endswith("_seconds")
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        if family.type == "histogram":
            buckets = [sample for sample in family.samples if sample.name.endswith("_bucket")]
            assert buckets[-1].labels["le"] == "+Inf"
            series: dict[tuple[tuple[str, str], ...], list[float]] = {}
            for sample in buckets:
                labels = {key: value for key, value in sample.labels.items() if key != "le"}
                series.setdefault(tuple(labels.items()), []).append(sample.value)
            assert all(values == sorted(values) for values in series.values())


def test_tasks_of_a_large_workflow_share_one_label(runner):
    with cloaca.WorkflowBuilder("large"):
        for number in range(501):
            cloaca.task(id=f"t{number}")(lambda context: None)
    runner.execute("large")
    found = families(runner.metrics())
    assert value(found, "cloaca_tasks_completed_total", workflow="large", task="*") == 501


def test_endpoint_serves_metrics_until_the_runner_stops(database):
    config = cloaca.DefaultRunnerConfig(metrics_port=0)
    with cloaca.DefaultRunner(database, config) as runner:
        run_some(runner)
        url = runner.metrics_url
        assert url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            found = families(answer.read().decode())
        assert value(found, "cloaca_executions_submitted_total", workflow="w") == 4
        with pytest.raises(urllib.error.HTTPError, match="404") as wrong:
            urllib.request.urlopen(url.replace("metrics", "secrets"), timeout=PATIENCE)
        wrong.value.close()
        port = int(url.split(":")[2].partition("/")[0])
        taken = cloaca.DefaultRunnerConfig(metrics_port=port)
        with pytest.raises(cloaca.ConfigurationError, match="metrics cannot be served"):
            cloaca.DefaultRunner(database, taken)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=PATIENCE)


def test_the_runner_has_no_endpoint_by_default(runner):
    assert runner.metrics_url is None


def test_the_dashboard_uses_existing_metrics(runner):
    run_some(runner)
    gate = threading.Event()
    with cloaca.WorkflowBuilder("mapped", input={"rows": list[int]}):
        cloaca.task(id="mapped", over="rows")(lambda row: gate.wait(PATIENCE))
    open_map = runner.submit("mapped", {"rows": [1]})
    while "cloaca_map_items{" not in (text := runner.metrics()):
        pass
    gate.set()
    open_map.result(PATIENCE)
    there = set()
    for family in families(text).values():
        there |= {sample.name for sample in family.samples}
    dashboard = json.loads(DASHBOARD.read_text())
    asked = set(re.findall(r"cloaca_[a-z_]+", json.dumps(dashboard["panels"])))
    assert asked
    assert asked <= there


def test_prune_deletes_ended_executions_older_than_an_age(runner):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(lambda context: None)
    handles = runner.submit_many(("w", None) for _ in range(1200))
    for handle in handles:
        handle.result(PATIENCE)
    waiting = runner.submit("w", delay=3600)
    assert runner.prune() == 0
    assert runner.prune(older_than=timedelta(hours=1)) == 0
    assert runner.prune(older_than=0) == 1200
    assert [result.execution_id for result in runner.list_executions()] == [waiting.id]

    with (
        cloaca.DefaultRunner(":memory:", cloaca.DefaultRunnerConfig(retention_days=None)) as keeps,
        pytest.raises(cloaca.ConfigurationError, match="no age"),
    ):
        keeps.prune()


def status(url, host):
    """Returns the status of a request whose `Host` header is `host`; `None` sends no header."""
    address = url.split("/")[2]
    connection = http.client.HTTPConnection(address, timeout=PATIENCE)
    try:
        connection.putrequest("GET", "/metrics", skip_host=True)
        if host is not None:
            connection.putheader("Host", host)
        connection.endheaders()
        return connection.getresponse().status
    finally:
        connection.close()


def test_endpoint_answers_only_requests_for_allowed_hosts():
    config = cloaca.DefaultRunnerConfig(metrics_port=0, metrics_allowed_hosts="shop.test, other")
    with cloaca.DefaultRunner(":memory:", config) as runner:
        url = runner.metrics_url
        for host in (None, "localhost", "LOCALHOST:80", "127.0.0.1:9464", "[::1]:80", "other:1"):
            assert status(url, host) == 200, host
        for host in ("evil.test", "evil.test:80", "localhost.evil.test", "", "a:b:c", "[::1"):
            assert status(url, host) == 421, host
    with cloaca.DefaultRunner(
        ":memory:", cloaca.DefaultRunnerConfig(metrics_port=0, metrics_allowed_hosts="*")
    ) as runner:
        assert status(runner.metrics_url, "evil.test") == 200


def test_endpoint_can_have_an_ipv6_address():
    config = cloaca.DefaultRunnerConfig(metrics_port=0, metrics_host="::1")
    try:
        runner = cloaca.DefaultRunner(":memory:", config)
    except cloaca.ConfigurationError as error:
        # Not every machine has IPv6.
        assert "Cannot assign requested address" in str(error)  # noqa: PT017
        return
    with runner, urllib.request.urlopen(runner.metrics_url, timeout=PATIENCE) as answer:
        assert runner.metrics_url.startswith("http://[::1]:")
        assert answer.status == 200


def test_sent_signals_are_counted(database):
    with cloaca.DefaultRunner(database) as runner:
        runner.send("counted")
        runner.send("counted", key="a")
        assert "cloaca_signals_sent_total 2" in runner.metrics()
