"""Counts, activity, failures by cause, and reruns, in Python and on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

import cloaca
from cloaca._core import Inspector


@pytest.fixture
def filled(runner: cloaca.DefaultRunner) -> cloaca.DefaultRunner:
    """A runner with one completed execution and two that failed for the same cause."""
    with cloaca.WorkflowBuilder("etl"):

        @cloaca.task(retry_attempts=1)
        def load(context):
            if rows := context.get("missing"):
                raise ValueError(f"{rows} rows are missing")
            context["done"] = context.get("day")

    runner.execute("etl", {"day": 1})
    for rows in (7, 8):
        runner.execute("etl", {"missing": rows})
    return runner


def test_executions_are_counted_by_status(filled):
    counts = filled.counts()
    assert counts["Failed"] == filled.counts()["Failed"]
    assert (counts["Failed"].value, counts["Failed"].is_exact) == (2, True)
    assert counts["Completed"].value == 1
    assert str(counts["Failed"]) == "2"
    assert repr(counts["Failed"]) == "Count(value=2, is_exact=True)"
    assert counts["Failed"] != counts["Completed"]
    assert len({counts["Failed"], filled.counts()["Failed"]}) == 1


def test_activity_is_counted_in_buckets(filled):
    now = datetime.now(UTC)
    buckets = filled.activity(now - timedelta(hours=1), now + timedelta(hours=1), buckets=2)
    assert [bucket.submitted.value for bucket in buckets] in ([3, 0], [0, 3], [1, 2], [2, 1])
    assert sum(bucket.failed.value for bucket in buckets) == 2
    assert buckets[0].until == buckets[1].since
    assert "submitted=" in repr(buckets[0])
    assert len(filled.activity(now - timedelta(days=1))) == 24
    with pytest.raises(cloaca.ConfigurationError):
        filled.activity(now, now)
    with pytest.raises(cloaca.ConfigurationError):
        filled.activity(now - timedelta(days=1), buckets=201)


def test_failures_are_grouped_by_cause(filled):
    (group,) = filled.failures()
    assert (group.workflow, group.task_id, group.type, group.count) == (
        "etl",
        "load",
        "ValueError",
        2,
    )
    assert group.message == "8 rows are missing"
    assert group.first < group.last
    assert len(group.execution_ids) == 2
    assert "etl.load" in repr(group)
    assert filled.failures(datetime.now(UTC) + timedelta(hours=1)) == []


def cli(database: str, *arguments: str) -> str:
    """Runs a command, which must succeed, and returns its output."""
    command = [sys.executable, "-m", "cloaca", *arguments, "-c", database]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands_print_counts_failures_and_activity(filled, database):
    assert json.loads(cli(database, "counts", "--json"))["Failed"] == {
        "value": 2,
        "is_exact": True,
    }
    assert "Failed" in cli(database, "counts")
    (group,) = json.loads(cli(database, "failures", "--json"))
    assert (group["workflow_name"], group["count"]) == ("etl", 2)
    assert "ValueError: 8 rows are missing" in cli(database, "failures", "--since", "1h")
    buckets = json.loads(cli(database, "activity", "--since", "1h", "--buckets", "2", "--json"))
    assert sum(bucket["submitted"]["value"] for bucket in buckets) == 3
    assert len(cli(database, "activity", "--buckets", "3").splitlines()) == 4


def test_rerun_command_runs_a_failed_execution_again(filled, database):
    failed = filled.failures()[0].execution_ids[0]
    new = cli(database, "rerun", failed, '{"day": 5}', "--note", "after the fix").strip()
    assert filled.get_handle(new).result(timeout=30).final_context == {"day": 5, "done": 5}
    event = next(event for event in filled.events(new) if event.type == "rerun_of")
    assert (event.data["execution_id"], event.data["note"]) == (failed, "after the fix")
    document = json.loads(cli(database, "rerun", failed, "--latest", "--json"))
    assert document["rerun_of"] == failed
    again = filled.get_handle(document["execution_id"]).result(timeout=30)
    assert again.error_message is not None


def test_runner_reruns_an_execution_with_edited_input(filled):
    failed = filled.failures()[0].execution_ids[0]
    earlier = filled.get_execution(failed)
    new = filled.rerun(failed, {"day": 5}, note="after the fix")
    assert (new.created, new.key) == (True, None)
    assert new.result(timeout=30).final_context == {"day": 5, "done": 5}
    event = next(event for event in filled.events(new.id) if event.type == "rerun_of")
    assert event.data == {"execution_id": failed, "note": "after the fix"}
    again = filled.rerun(new, version="latest", labels={"wave": "two"})
    assert again.result(timeout=30).final_context == {"day": 5, "done": 5}
    assert again.result().labels == {"wave": "two"}
    assert filled.get_execution(failed).status == earlier.status


def test_rerun_refuses_wrong_arguments(filled):
    failed = filled.failures()[0].execution_ids[0]
    with pytest.raises(cloaca.ConfigurationError, match="'original' or 'latest'"):
        filled.rerun(failed, version="newest")
    with pytest.raises(cloaca.ConfigurationError, match="an id or a handle"):
        filled.rerun(7)
    with pytest.raises(cloaca.WorkflowNotFoundError):
        filled.rerun("0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41")
    with pytest.raises(TypeError):
        filled.rerun(failed, {"day": object()})


CHANGES: list[Callable[[Inspector, str], object]] = [
    lambda inspector, id: inspector.control(id, "retry"),
    lambda inspector, id: inspector.rerun(id),
    lambda inspector, id: inspector.send("paid", "1"),
    lambda inspector, id: inspector.decide(id, "load", True, "null"),
    lambda inspector, id: inspector.reschedule(id, "load"),
    lambda inspector, id: inspector.prune(0, 10),
]


def test_read_only_inspector_refuses_changes(filled, database):
    inspector = Inspector(database, None, False, True)
    failed = filled.failures()[0].execution_ids[0]
    assert inspector.reads.status(failed) == "Failed"
    for change in CHANGES:
        with pytest.raises(cloaca.CloacaException):
            change(inspector, failed)
    assert filled.counts()["Failed"].value == 2
