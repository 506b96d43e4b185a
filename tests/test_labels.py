"""Labels of executions, and the filters and cursors of `list_executions`."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import cloaca
from cloaca._cli._root import cli


@pytest.fixture
def runner(tmp_path: Path) -> Any:
    with cloaca.WorkflowBuilder("orders") as builder:
        builder.tag("team", "shop")

        @cloaca.task(id="ship", retry_attempts=1)
        def ship(context: Any) -> None:
            if context.get("broken"):
                raise ValueError(f"order {context['n']} is broken")

    with cloaca.DefaultRunner(f"sqlite:///{tmp_path}/labels.db") as runner:
        yield runner


def ids(page: Any) -> list[str]:
    return [result.execution_id for result in page]


def test_every_kind_of_submission_takes_labels(runner: Any) -> None:
    labels = {"order": "4711"}
    results = [
        runner.execute("orders", labels=labels),
        runner.submit("orders", labels=labels).result(),
        runner.submit_many([{"workflow": "orders", "labels": labels}])[0].result(),
    ]

    async def submit() -> list[Any]:
        handle = await runner.submit_async("orders", labels=labels)
        (other,) = await runner.submit_many_async([{"workflow": "orders", "labels": labels}])
        return [await handle, await other, await runner.execute_async("orders", labels=labels)]

    results += asyncio.run(submit())
    runner.execute("orders")
    assert [result.labels for result in results] == [labels] * 6
    found = runner.list_executions(labels=labels)
    assert ids(found) == [result.execution_id for result in reversed(results)]
    assert [result.labels for result in found] == [labels] * 6
    assert runner.get_execution(results[0].execution_id).labels == labels


def test_the_submitted_event_has_the_labels(runner: Any) -> None:
    result = runner.execute("orders", labels={"a": "1", "b": "2"})
    assert runner.events(result.execution_id)[0].data == {"labels": {"a": "1", "b": "2"}}
    plain = runner.execute("orders")
    assert (plain.labels, runner.events(plain.execution_id)[0].data) == ({}, {})


def test_wrong_labels_are_refused(runner: Any) -> None:
    wrong: Any
    for wrong in (["order"], {"order": 4711}, {1: "a"}, {"": "a"}, {"a": "v" * 513}, {"a": "\0"}):
        with pytest.raises(cloaca.ConfigurationError):
            runner.submit("orders", labels=wrong)
    with pytest.raises(cloaca.ConfigurationError, match="32"):
        runner.submit("orders", labels={str(number): "" for number in range(33)})
    assert not runner.list_executions()


def test_pages_are_read_in_both_directions(runner: Any) -> None:
    handles = runner.submit_many(("orders", {"n": number}) for number in range(7))
    newest_first = [handle.id for handle in reversed(handles)]
    pages = [runner.list_executions(limit=3)]
    while pages[-1].next_cursor:
        pages.append(runner.list_executions(limit=3, cursor=pages[-1].next_cursor))
    assert [ids(page) for page in pages] == [
        newest_first[:3],
        newest_first[3:6],
        newest_first[6:],
    ]
    assert pages[0].prev_cursor is None
    back = runner.list_executions(limit=3, cursor=pages[2].prev_cursor)
    assert ids(back) == newest_first[3:6]
    first = runner.list_executions(limit=3, cursor=back.prev_cursor)
    assert ids(first) == newest_first[:3]
    assert first.prev_cursor is None
    assert first.scanned_until is None


def test_lists_are_filtered_by_input_error_status_and_version(runner: Any) -> None:
    good = runner.execute("orders", {"n": 1, "user": {"id": 7}})
    bad = runner.execute("orders", {"n": 2, "broken": True})

    def found(**conditions: Any) -> list[str]:
        return ids(runner.list_executions(**conditions))

    both = [bad.execution_id, good.execution_id]
    assert found(error="IS BROKEN") == found(not_status="Completed") == both[:1]
    assert found(error="valueerror", input={"n": 2}) == both[:1]
    assert found(input={"user.id": 7}) == found(not_status=["Failed"]) == both[1:]
    assert found(input={"user.id": 7, "n": 2}) == []
    assert found(workflow=["orders", "other"], tags={"team": "shop"}) == both
    assert found(id_prefix=bad.execution_id[:30]) in (both[:1], both)
    version = good._execution.workflow_version
    assert found(version=version[:6]) == both
    assert found(version="no such version") == []
    now = datetime.now(UTC)
    assert found(until=now + timedelta(hours=1)) == both
    assert found(until=now - timedelta(hours=1)) == []
    assert found(runner=runner._core.runner_id) == []
    with pytest.raises(cloaca.ConfigurationError):
        found(id_prefix="not hexadecimal")


def test_executions_of_a_schedule_are_listed(runner: Any) -> None:
    schedule = runner.register_cron_workflow("orders", "0 0 1 1 *")
    started = runner.run_cron_schedule_now(schedule)
    runner.execute("orders")
    assert ids(runner.list_executions(schedule=schedule)) == [started]


def test_the_command_line_sets_and_finds_labels(runner: Any, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/labels.db"

    def call(*arguments: str) -> Any:
        result = CliRunner().invoke(cli, [*arguments, "-c", url, "--json"])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    submitted = call("submit", "orders", "--label", "order=4711", "--label", "eu=yes")
    id = submitted["execution_id"]
    runner.submit("orders")
    listed = call("list", "--label", "order=4711")
    assert [item["execution_id"] for item in listed["items"]] == [id]
    assert listed["items"][0]["labels"] == {"eu": "yes", "order": "4711"}
    assert (listed["prev_cursor"], listed["scanned_until"]) == (None, None)
    assert call("list", "--label", "order=4711", "--label", "eu=no")["items"] == []
    assert call("show", id)["labels"] == {"eu": "yes", "order": "4711"}
    assert len(call("list", "--not-status", "Failed")["items"]) == 2
    assert call("list", "--id-prefix", id[:30])["items"]
