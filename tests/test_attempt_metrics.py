"""Metrics of attempts that time out, and metrics and logs of map items (semantics D4, E9, K12)."""

from __future__ import annotations

import asyncio
import logging

import cloaca
from waiting_support import wait_until


def counters(runner: cloaca.DefaultRunner, task: str) -> dict[str, float]:
    """Returns the metrics of a task by their names without the prefix `cloaca_`."""
    found = {}
    for line in runner.metrics().splitlines():
        name, _, value = line.rpartition(" ")
        if f'task="{task}"' in name:
            found[name.partition("{")[0].removeprefix("cloaca_")] = float(value)
    return found


def test_k12_items_are_counted_by_their_outcomes(runner):
    with cloaca.WorkflowBuilder("counted"):

        @cloaca.task(over="xs", retry_attempts=2, retry_delay_ms=1)
        def item(x: int, handle) -> int:
            if x == 3 and handle.attempt == 1:
                raise ConnectionError("three")
            return x

    runner.execute("counted", {"xs": [1, 2, 3]})
    found = counters(runner, "item")
    assert found["tasks_started_total"] == 4
    assert found["tasks_completed_total"] == 3
    assert found["tasks_retried_total"] == 1
    assert found["tasks_failed_total"] == 0


def test_d4_attempts_that_time_out_are_counted(runner):
    with cloaca.WorkflowBuilder("slow"):

        @cloaca.task(retry_attempts=2, retry_delay_ms=1, timeout=0.1)
        async def sleeper(context):
            await asyncio.sleep(60)

    with cloaca.WorkflowBuilder("slow-items"):

        @cloaca.task(over="xs", retry_attempts=1, timeout=0.1)
        async def sleeping_item(x: int) -> None:
            await asyncio.sleep(60)

    assert runner.execute("slow").status == "Failed"
    found = counters(runner, "sleeper")
    assert (found["tasks_failed_total"], found["tasks_retried_total"]) == (1, 1)
    assert found["task_duration_seconds_count"] == 2
    assert found["task_wait_seconds_count"] == 1
    assert runner.execute("slow-items", {"xs": [1, 2]}).status == "Failed"
    assert counters(runner, "sleeping_item")["tasks_failed_total"] == 2


def test_e9_items_that_are_retried_are_logged_as_warnings(runner, caplog):
    with cloaca.WorkflowBuilder("logged"):

        @cloaca.task(over="xs", retry_attempts=2, retry_delay_ms=1)
        def item(x: int, handle) -> int:
            if x == 3 and handle.attempt == 1:
                raise ConnectionError("three")
            return x

    def warnings():
        return [record for record in caplog.records if record.levelno == logging.WARNING]

    with caplog.at_level(logging.DEBUG, "cloaca"):
        runner.execute("logged", {"xs": [1, 2, 3]})
        # The engine passes its log records to Python's logging on another thread.
        wait_until(warnings)
    [warning] = warnings()
    assert "item 'item[2]' of workflow 'logged' failed (attempt 1 of 2)" in warning.getMessage()
    assert "ConnectionError: three" in warning.getMessage()
    assert any("item 'item[0]' of workflow 'logged' starts" in text for text in caplog.messages)
