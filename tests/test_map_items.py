"""Items of maps: refused calls, final tasks, fairness, deployments, crashes (K, Q2, E2)."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import cloaca
from conftest import Script
from processes import PREAMBLE, Ledger
from waiting_support import wait_until

#: Calls that a task can make, but an item of a map cannot.
WHOLE_CALLS: dict[str, Any] = {
    "sleep": lambda handle: handle.sleep("key", "1h"),
    "wait": lambda handle: handle.wait("key", cloaca.signal("go")),
    "run": lambda handle: handle.run("key", "other", {}),
    "run_many": lambda handle: handle.run_many("key", "other", [{}]),
    "start": lambda handle: handle.start("key", "other", {}),
}


@pytest.mark.parametrize("call", WHOLE_CALLS)
def test_k3_item_cannot_wait_or_start_executions(runner, call):
    caught = []
    with cloaca.WorkflowBuilder("whole", input={"rows": list[int]}):

        @cloaca.task(over="rows", tolerate=1, retry_delay_ms=1)
        def work(row: int, handle: cloaca.TaskHandle) -> int:
            try:
                WHOLE_CALLS[call](handle)
            except cloaca.TaskValidationError as error:
                caught.append(error)
                raise
            return row

    result = runner.execute("whole", {"rows": [1]})
    assert result.status == "Completed"
    [item] = runner.items(result.execution_id, work)
    assert (item.status, item.attempts) == ("Failed", 1)
    assert f"item 'work[0]' calls handle.{call}('key')" in item.error.message
    assert "cloaca.child(..., over=...)" in caught[0].hint


def test_k3_coroutine_item_cannot_sleep(runner):
    with cloaca.WorkflowBuilder("whole", input={"rows": list[int]}):

        @cloaca.task(over="rows", tolerate=1)
        async def work(row: int, handle: cloaca.TaskHandle) -> int:
            await handle.sleep("key", "1h")
            return row

    result = runner.execute("whole", {"rows": [1]})
    [item] = runner.items(result.execution_id, work)
    assert "item 'work[0]' calls handle.sleep('key')" in item.error.message


def test_k3_recorded_steps_of_an_item_survive_its_retry(runner):
    made: list[tuple[str, int]] = []
    with cloaca.WorkflowBuilder("steps", input={"rows": list[int]}):

        @cloaca.task(over="rows", retry_attempts=3, retry_delay_ms=1, retry_jitter=False)
        async def work(row: int, handle: cloaca.TaskHandle) -> int:
            async def make(kind: str) -> int:
                made.append((kind, row))
                await asyncio.sleep(0)
                return row * 10

            first = await handle.step("first", make, "first")
            if handle.attempt == 1:
                raise ConnectionError("again")
            second = await handle.step("second", make, "second")
            if handle.attempt == 2:
                raise ConnectionError("again")
            return first + second

    result = runner.execute("steps", {"rows": [1, 2, 3, 4]})
    assert result.of(work) == [20, 40, 60, 80]
    assert sorted(made) == [(kind, row) for kind in ("first", "second") for row in range(1, 5)]


@pytest.mark.parametrize("runners", [1, 2])
def test_q2_final_tasks_wait_for_the_last_running_item(database, runners):
    gate = threading.Event()
    order: list[str] = []
    with cloaca.WorkflowBuilder("ends", input={"rows": list[int]}):

        @cloaca.task(over="rows")
        def work(row: int) -> int:
            order.append("begin")
            gate.wait(60)
            order.append("end")
            return row

        @cloaca.task(final="always")
        def teardown(error: cloaca.ErrorInfo | None) -> None:
            order.append("final")

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=2)
    others = [cloaca.DefaultRunner(database, config) for _ in range(runners - 1)]
    try:
        with cloaca.DefaultRunner(database, config) as runner:
            handle = runner.submit("ends", {"rows": list(range(20))})
            wait_until(lambda: order.count("begin") == 2 * runners)
            assert handle.cancel()
            time.sleep(0.5)
            assert "final" not in order
            gate.set()
            result = handle.result(timeout=60)
            assert result.status == "Cancelled"
            assert result.final.status == "Completed"
    finally:
        for other in others:
            other.shutdown()
    assert order.count("begin") == order.count("end") == 2 * runners
    assert order[-1] == "final"


def test_q2_compensation_of_a_task_waits_for_the_last_running_item(runner):
    gate, begun = threading.Event(), threading.Event()
    order: list[str] = []
    with cloaca.WorkflowBuilder("undone", input={"rows": list[int]}):

        def refund() -> None:
            order.append("refund")

        @cloaca.task(compensate=refund)
        def charge() -> int:
            return 1

        @cloaca.task(over="rows", dependencies=[charge])
        def work(row: int) -> int:
            begun.set()
            gate.wait(60)
            order.append("item")
            return row

    handle = runner.submit("undone", {"rows": [1]})
    assert begun.wait(20)
    assert handle.cancel()
    time.sleep(0.3)
    assert order == []
    gate.set()
    handle.result(timeout=60)
    assert order == ["item", "refund"]


def test_k2_map_of_many_items_does_not_delay_another_task(database):
    done: list[int] = []
    begun = threading.Event()
    with cloaca.WorkflowBuilder("many", input={"rows": list[int]}):

        @cloaca.task(over="rows")
        def work(row: int) -> int:
            begun.set()
            time.sleep(0.002)
            done.append(row)
            return row

    with cloaca.WorkflowBuilder("single", output="one"):

        @cloaca.task
        def one() -> int:
            return len(done)

    count = 3_000
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=2)
    with cloaca.DefaultRunner(database, config) as runner:
        handle = runner.submit("many", {"rows": list(range(count))})
        assert begun.wait(20)
        before = len(done)
        items_before = [runner.execute("single").output - before]
        for _ in range(4):
            before = len(done)
            items_before.append(runner.execute("single").output - before)
        assert not handle.done()
        # Only items that the runner has already prefetched can run before the other task.
        assert max(items_before) < count / 4, items_before
        assert handle.result(timeout=120).of(work) == list(range(count))


def test_k11_newer_code_runs_the_remaining_items_after_a_deploy(database):
    gate = threading.Event()
    begun: list[int] = []

    def define(version: int, gate: threading.Event) -> None:
        with cloaca.WorkflowBuilder("deployed", input={"rows": list[int]}, output="total"):
            if version == 1:

                @cloaca.task(over="rows", parallel=2)
                def work(row: int) -> str:
                    begun.append(row)
                    gate.wait(60)
                    return f"old-{row}"
            else:

                @cloaca.task(over="rows", parallel=2)
                def work(row: int) -> str:
                    begun.append(row)
                    return f"new-{row}"

            @cloaca.task
            def total(work: list[str]) -> list[str]:
                return work

    define(1, gate)
    with cloaca.DefaultRunner(database) as old:
        handle = old.submit("deployed", {"rows": [0, 1, 2, 3, 4]})
        wait_until(lambda: len(begun) == 2)
        stopped = threading.Thread(target=old.shutdown)
        stopped.start()
        time.sleep(0.2)
        gate.set()
        stopped.join(60)
    define(2, gate)
    with cloaca.DefaultRunner(database) as new:
        wait_until(lambda: new.get_execution_status(handle.id).is_final)
        result = new.get_execution(handle.id)
    assert result.of("total") == ["old-0", "old-1", "new-2", "new-3", "new-4"]
    assert sorted(begun) == [0, 1, 2, 3, 4]


LATER = (
    PREAMBLE
    + """
with cloaca.WorkflowBuilder("shared", input={"rows": list[int]}, output="total"):

    @cloaca.task(over="rows")
    def work(row: int) -> str:
        note("later", row)
        return f"later-{row}"

    @cloaca.task
    def total(work: list[str]) -> list[str]:
        return work

with cloaca.DefaultRunner(sys.argv[1]) as runner:
    wait_for("stop")
"""
)


def test_k11_later_runner_with_newer_code_shares_a_map(
    database: str, script: Script, tmp_path: Path
) -> None:
    gate = threading.Event()
    begun: list[int] = []
    with cloaca.WorkflowBuilder("shared", input={"rows": list[int]}, output="total"):

        @cloaca.task(over="rows", parallel=4)
        def work(row: int) -> str:
            begun.append(row)
            gate.wait(60)
            return f"first-{row}"

        @cloaca.task
        def total(work: list[str]) -> list[str]:
            return work

    count = 40
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        handle = runner.submit("shared", {"rows": list(range(count))})
        wait_until(lambda: len(begun) == 1)
        program = script(LATER, database)
        ledger = Ledger(tmp_path)
        wait_until(lambda: len(ledger.lines("later")) >= 5, 60)
        gate.set()
        result = handle.result(timeout=60)
        (tmp_path / "stop").touch()
        out, errors = program.communicate(timeout=60)
        assert program.returncode == 0, out + errors
    made = result.of("total")
    assert [text.partition("-")[2] for text in made] == [str(row) for row in range(count)]
    assert {text.partition("-")[0] for text in made} == {"first", "later"}
    assert len(begun) + len(ledger.lines("later")) == count


POISON = (
    PREAMBLE
    + """
import signal

with cloaca.WorkflowBuilder("poison", input={"rows": list[int]}):

    @cloaca.task(over="rows", tolerate=1, retry_attempts=1)
    def work(row: int) -> int:
        time.sleep(0.02)
        if row == 7:
            note("died")
            os.kill(os.getpid(), signal.SIGKILL)
        return row

config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=4)
with cloaca.DefaultRunner(sys.argv[1], config=config) as runner:
    handle = runner.submit("poison", {"rows": list(range(60))}, key="poison")
    result = handle.result(timeout=120)
    for item in runner.items(handle.id, "work", limit=100):
        note("item", item.index, item.status, "" if item.error is None else item.error.message)
    note("status", result.status)
"""
)


def test_e2_poison_item_fails_alone(database: str, script: Script, tmp_path: Path) -> None:
    """Item 7 kills its process at each attempt. The other items complete."""
    ledger = Ledger(tmp_path)
    for _ in range(10):
        program = script(POISON, database)
        out, errors = program.communicate(timeout=120)
        if program.returncode == 0:
            break
        assert program.returncode == -signal.SIGKILL, out + errors
    assert ledger.lines("status") == [["Completed"]]
    items = ledger.lines("item")
    failed = [item for item in items if item[1] != "Completed"]
    assert [(item[0], item[1]) for item in failed] == [("7", "Failed")]
    assert "max_rescues" in " ".join(failed[0])
    assert len(items) == 60
    assert len(ledger.lines("died")) == 4
