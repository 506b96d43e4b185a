"""Programs that failed in trials. The number in a test's name is the number of the trial."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time

import cloaca
from cloaca.testing import VirtualRunner

WEEK = 7 * 86_400


def test_r05_week_of_waiting_leaves_few_events():
    """A task that polls with `Snooze` stores an event each time; a wait does not."""
    with cloaca.WorkflowBuilder("release"):
        cloaca.approval("approve", title="Release?")

    @cloaca.workflow
    def reminded(handle):
        return handle.wait("answer", cloaca.signal("week_answer"), timeout="30d")

    with VirtualRunner() as runner:
        asked, waiting = runner.submit("release"), runner.submit("reminded")
        runner.advance(WEEK)
        assert (asked.status(), waiting.status()) == ("Running", "Running")
        runner.approve(asked, "approve", by="ann")
        runner.send("week_answer", 1)
        assert (asked.result().status, waiting.result().output) == ("Completed", 1)
        assert max(len(asked.events()), len(waiting.events())) < 15


def test_r18_task_whose_keyed_child_failed_is_not_retried(runner):
    """Another attempt would find the same failed child, because its key is taken."""
    runs = []

    with cloaca.WorkflowBuilder("child"):

        @cloaca.task(retry_attempts=1)
        def fail(context):
            runs.append(1)
            raise ValueError("no")

    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task
        async def wait(context, handle):
            (await runner.submit("child", key=handle.execution_id)).raise_for_status()

    result = runner.execute("parent")
    assert (result.status, result.tasks["wait"].attempts, len(runs)) == ("Failed", 1, 1)
    assert result.error.type == "WorkflowExecutionError"


def test_r18_task_whose_child_without_a_key_failed_is_retried(runner):
    runs = []

    with cloaca.WorkflowBuilder("child"):

        @cloaca.task(retry_attempts=1)
        def fail_once(context):
            runs.append(1)
            if len(runs) == 1:
                raise ValueError("no")

    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task(retry_delay_ms=1)
        async def wait(context):
            (await runner.submit("child")).raise_for_status()

    result = runner.execute("parent")
    assert (result.status, result.tasks["wait"].attempts, len(runs)) == ("Completed", 2, 2)


def test_r10_one_definition_serves_requests_of_any_width(tmp_path):
    """A graph per request would store a definition each; a map gets its width from its input."""
    with cloaca.WorkflowBuilder("request", input={"parts": list[int]}, output="end"):

        @cloaca.task(over="parts")
        def part(part: int) -> int:
            return part * 2

        @cloaca.task
        def end(part: list[int]) -> int:
            return sum(part)

    database = tmp_path / "r10.db"
    with cloaca.DefaultRunner(f"sqlite:///{database}") as runner:
        for width in range(30):
            assert runner.execute("request", {"parts": list(range(width))}).output == width * (
                width - 1
            )
        runner.prune(older_than=0.0)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        of_requests = "definitions WHERE workflow = 'request'"
        tables = (of_requests, "executions", "tasks", "maps", "items")
        rows = [
            connection.execute(f"SELECT count(*) FROM cloacina_{table}").fetchone()[0]
            for table in tables
        ]
    assert rows == [1, 0, 0, 0, 0]


def test_r12_children_of_a_task_end_with_their_parent(runner):
    """Executions that a task submits are independent; executions that it runs are its children."""
    with cloaca.WorkflowBuilder("slow_child"):

        @cloaca.task
        async def nap(context):
            await asyncio.sleep(60)

    @cloaca.workflow
    async def parent_of_three(handle):
        await handle.run_many("children", "slow_child", [{}] * 3)

    handle = runner.submit("parent_of_three")
    while len(children := runner.children(handle.id)) < 3:
        time.sleep(0.01)
    assert {child.workflow_name for child in children} == {"slow_child"}
    handle.cancel()
    for child in children:
        ended = runner.get_handle(child.execution_id).result(timeout=60)
        assert ended.status == "Cancelled"


def test_r16_task_continues_after_its_sleep():
    """`Snooze` repeats the whole task; after `handle.sleep`, recorded steps are not repeated."""
    mails = []

    @cloaca.workflow
    def reminder(handle):
        handle.step("first", lambda: mails.append("first"))
        handle.sleep("pause", 60)
        handle.step("second", lambda: mails.append("second"))

    with VirtualRunner() as runner:
        handle = runner.submit("reminder")
        runner.advance(3600)
        assert (handle.status(), mails) == ("Completed", ["first", "second"])
