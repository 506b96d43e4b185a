"""A map runs on four processes, and two are killed: each result is recorded once (K4, K6)."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import textwrap
import time

import cloaca
from processes import IS_STRICT, PREAMBLE, Ledger

ITEMS = 10_000 if IS_STRICT else 600
PARALLEL = 8
#: Long enough that the kills come while the map runs, because a long ledger is slow to read.
ITEM_SECONDS = 0.02 if IS_STRICT else 0.002
PATIENCE = 600 if IS_STRICT else 60

WORKER = PREAMBLE + textwrap.dedent(
    """
    database, name, count, seconds = *sys.argv[1:3], int(sys.argv[3]), float(sys.argv[4])

    with cloaca.WorkflowBuilder("squares", input={"rows": list[int]}):
        @cloaca.task(over="rows", parallel=8)
        def square(row: int, handle: cloaca.TaskHandle) -> list[int]:
            note("start", os.getpid(), handle.index)
            time.sleep(seconds)
            note("end", os.getpid(), handle.index)
            return [row * row, os.getpid()]

        @cloaca.task
        def total(square: list[list[int]]) -> int:
            note("total", len(square))
            return sum(value for value, _ in square)

    with cloaca.DefaultRunner(database) as runner:
        note("ready", name)
        wait_for("go")
        runner.submit("squares", {"rows": list(range(count))}, key="only")
        wait_for("stop")
    """
)


def open_items(ledger: Ledger, pid: int) -> set[str]:
    """The items that a process has begun and not ended."""
    started = {item for of, item in ledger.lines("start") if int(of) == pid}
    return started - {item for of, item in ledger.lines("end") if int(of) == pid}


def kill_with_items(workers: list[subprocess.Popen[str]], ledger: Ledger) -> subprocess.Popen[str]:
    """Kill a process while it runs items; note the kill before others take the items over."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        for worker in workers:
            if not open_items(ledger, worker.pid):
                continue
            worker.send_signal(signal.SIGSTOP)
            os.waitpid(worker.pid, os.WUNTRACED)
            if open_items(ledger, worker.pid):
                with ledger.path.open("a") as file:
                    file.write(f"killed {worker.pid}\n")
                worker.send_signal(signal.SIGKILL)
                worker.wait(timeout=60)
                return worker
            worker.send_signal(signal.SIGCONT)
    raise AssertionError("no process runs items")


def most_at_once(ledger: Ledger) -> int:
    """The largest number of items that ran at one time, according to the ledger."""
    running: set[tuple[str, str]] = set()
    most = 0
    for line in ledger.path.read_text().splitlines():
        match line.split(" "):
            case ["start", pid, item]:
                running.add((pid, item))
            case ["end", pid, item]:
                running.discard((pid, item))
            case ["killed", pid]:
                running = {(of, item) for of, item in running if of != pid}
        most = max(most, len(running))
    return most


def test_k6_map_over_four_processes_survives_two_kills(database, script, tmp_path):
    ledger = Ledger(tmp_path)
    numbers = (str(ITEMS), str(ITEM_SECONDS))
    workers = [script(WORKER, database, str(number), *numbers) for number in range(4)]
    ledger.wait("ready", 4)
    (tmp_path / "go").touch()
    killed: set[str] = set()
    for share in (ITEMS // 4, ITEMS // 2):
        ledger.wait("end", share, PATIENCE)
        victim = kill_with_items(workers, ledger)
        workers.remove(victim)
        killed.add(str(victim.pid))
    ledger.wait("total", 1, PATIENCE)
    (tmp_path / "stop").touch()
    for worker in workers:
        assert worker.communicate(timeout=60) == ("", "")
    with cloaca.DefaultRunner(database) as runner:
        runner.wait_until_idle(timeout=60)
        (only,) = runner.list_executions().items
        assert only.status == "Completed"
        assert only.final_context["total"] == sum(row * row for row in range(ITEMS))
        items, cursor = [], None
        while True:
            page = runner.items(only.execution_id, "square", cursor=cursor)
            items += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
    assert [item.index for item in items] == list(range(ITEMS))
    ends = collections.defaultdict(list)
    for pid, item in ledger.lines("end"):
        ends[int(item)].append(pid)
    for item in items:
        square, pid = item.value
        assert item.status == "Completed"
        assert square == item.index**2
        assert str(pid) in ends[item.index]
        # An item runs again if its process was killed before the end of the item was stored.
        again = [of for of in ends[item.index] if of != str(pid)]
        assert set(again) <= killed
        assert len(again) < item.attempts
    assert [int(count) for (count,) in ledger.lines("total")] == [ITEMS]
    assert 1 < most_at_once(ledger) <= PARALLEL
