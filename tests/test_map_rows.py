"""The stored rows, the order, the retries and the timeouts of a running map (semantics K)."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from typing import Any

import pytest

import cloaca
from waiting_support import wait_until

#: Code that reads a number in a separate process. Except on Linux, Python's copy of SQLite must not
#: open a file that the engine has open in the same process.
READ = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])"


def number_in(database: str, query: str) -> int:
    """Runs a query on the engine's tables in another process, and returns the resulting number."""
    if database.startswith("sqlite"):
        command = [sys.executable, "-c", READ, database.removeprefix("sqlite:///"), query]
    else:
        command = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", database, "-c", query]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60)
    return int(done.stdout)


def test_k2_wide_map_has_rows_for_started_items_only(database):
    gate = threading.Event()
    begun: list[int] = []
    with cloaca.WorkflowBuilder("wide_rows", input={"rows": list[int]}):

        @cloaca.task(over="rows", parallel=4)
        def work(row: int) -> int:
            begun.append(row)
            gate.wait(60)
            return row

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=4)
    with cloaca.DefaultRunner(database, config) as runner:
        handle = runner.submit("wide_rows", {"rows": list(range(100_000))})
        wait_until(lambda: len(begun) == 4)
        assert number_in(database, "SELECT count(*) FROM cloacina_maps") == 1
        assert number_in(database, "SELECT count(*) FROM cloacina_items") == 4
        assert handle.progress().tasks["work"].total == 100_000
        handle.cancel()
        gate.set()
        assert handle.result(timeout=60).status == "Cancelled"
        assert number_in(database, "SELECT count(*) FROM cloacina_items") <= 4


def test_k6_revision_does_not_change_while_items_end(database):
    gates = {row: threading.Event() for row in range(40)}
    with cloaca.WorkflowBuilder("map_revision", input={"rows": list[int]}):

        @cloaca.task(over="rows", parallel=2)
        def work(row: int) -> int:
            gates[row].wait(60)
            return row

    def revision() -> int:
        return number_in(database, "SELECT max(revision) FROM cloacina_executions")

    with cloaca.DefaultRunner(database) as runner:
        handle = runner.submit("map_revision", {"rows": list(gates)})
        found = []
        for last in (10, 20, 30):
            for row in range(last):
                gates[row].set()
            wait_until(lambda: handle.progress().tasks["work"].done == last)  # noqa: B023
            found.append(revision())
        assert found == found[:1] * 3
        for gate in gates.values():
            gate.set()
        assert handle.result(timeout=60).of(work) == list(gates)
        assert revision() > found[0]


def test_k9_items_start_in_the_order_of_the_list(runner):
    begun: list[int] = []
    with cloaca.WorkflowBuilder("map_order", input={"rows": list[int]}):

        @cloaca.task(over="rows", parallel=1)
        def work(row: int) -> None:
            begun.append(row)

    rows = [(7 * index) % 200 for index in range(200)]
    runner.execute("map_order", {"rows": rows})
    assert begun == rows


def test_k5_item_waiting_for_a_retry_does_not_count_towards_parallel(runner):
    ended: list[int] = []
    with cloaca.WorkflowBuilder("map_of_retries", input={"rows": list[int]}):

        @cloaca.task(
            over="rows", parallel=1, retry_attempts=2, retry_delay_ms=600_000, retry_jitter=False
        )
        def work(row: int) -> None:
            if row < 2:
                raise ConnectionError("later")
            ended.append(row)

    handle = runner.submit("map_of_retries", {"rows": list(range(6))})
    wait_until(lambda: ended == [2, 3, 4, 5])
    wait_until(lambda: handle.progress().tasks["work"].done == 4)
    assert not handle.done()
    handle.cancel()


def test_k7_timeout_of_the_execution_ends_its_map(runner):
    begun: list[int] = []
    with cloaca.WorkflowBuilder("map_with_timeout", input={"rows": list[int]}):

        @cloaca.task(over="rows", parallel=2)
        def work(row: int, handle: cloaca.TaskHandle) -> None:
            begun.append(row)
            while not handle.is_cancelled():
                time.sleep(0.005)

    handle = runner.submit("map_with_timeout", {"rows": list(range(50))}, timeout=1.0)
    result = handle.result(timeout=60)
    assert result.status == "Failed"
    assert result.error.type == "WorkflowTimeoutError"
    assert result.tasks["work"].status == "Cancelled"
    states = {str(item.status) for item in runner.items(handle, work)}
    assert states == {"Cancelled"}
    # A later execution, whose list is empty, completes. Meanwhile no further item of the first map
    # starts.
    count = len(begun)
    assert count <= 2
    assert runner.submit("map_with_timeout", {"rows": []}).result(timeout=60).of(work) == []
    assert len(begun) == count


@pytest.mark.parametrize("tolerate", [0, 1, 0.2])
def test_k8_running_items_of_a_stopped_map_complete_and_keep_results(database, tolerate):
    bad = {0} if tolerate == 0 else {0, 1}
    gate, failed = threading.Event(), threading.Event()
    # No item fails before each of the three workers has started an item.
    first_three = threading.Barrier(3, timeout=60)
    calls: list[int] = []
    with cloaca.WorkflowBuilder("map_that_stops", input={"rows": list[int]}):

        @cloaca.task(over="rows", parallel=3, tolerate=tolerate, retry_attempts=1)
        def work(row: int) -> int:
            calls.append(row)
            if row < 3 and not failed.is_set():
                first_three.wait()
            if row in bad and not failed.is_set():
                raise ValueError("bad")
            gate.wait(60)
            return row * 10

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=3)
    with cloaca.DefaultRunner(database, config) as runner:
        rows = list(range(8))
        handle = runner.submit("map_that_stops", {"rows": rows})

        def counts(state: str) -> int:
            items: dict[Any, int] = handle.progress().tasks["work"].items or {}
            return items.get(cloaca.TaskStatus(state), 0)

        wait_until(lambda: counts("Failed") == len(bad))
        assert not handle.done()
        failed.set()
        gate.set()
        result = handle.result(timeout=60)
        assert result.status == "Failed"
        states = [str(item.status) for item in runner.items(handle, work)]
        ended = [row for row in rows if states[row] == "Completed"]
        assert [row for row in rows if states[row] == "Failed"] == sorted(bad)
        assert 2 in ended
        assert states[-1] == "Cancelled"
        calls.clear()
        runner.retry_execution(handle.id)
        result = handle.result(timeout=60)
        assert result.of(work) == [row * 10 for row in rows]
        assert sorted(calls) == [row for row in rows if row not in ended]
