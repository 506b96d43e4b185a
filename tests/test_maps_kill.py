"""Each result of a map is recorded once, even if two of four processes are killed (K4, K6)."""

from __future__ import annotations

import collections
import os
import signal
import subprocess
import textwrap
import time

import cloaca
from processes import IS_STRICT, PREAMBLE, Ledger, until

ITEMS = 10_000 if IS_STRICT else 600
PARALLEL = 8
#: Run time of an item in seconds. Both kills must happen while the map runs. Before each kill, the
#: test reads the ledger, which takes longer if the ledger has more lines.
ITEM_SECONDS = 0.02 if IS_STRICT else 0.01
#: Upper bound for the number of items that processes have claimed after the last started item.
AHEAD = 64
#: Maximum time that the test waits for each part of the map, in seconds.
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
    """Returns the items that a process has started but not completed."""
    started = {item for of, item in ledger.lines("start") if int(of) == pid}
    return started - {item for of, item in ledger.lines("end") if int(of) == pid}


def ended_items(ledger: Ledger) -> set[int]:
    """Returns the items that have completed."""
    return {int(item) for _, item in ledger.lines("end")}


def kill_with_items(workers: list[subprocess.Popen[str]], ledger: Ledger) -> subprocess.Popen[str]:
    """Stops a process while it runs items, writes its kill to the ledger, and then kills it.

    So the ledger contains the kill before any peer runs the rescued items.
    """
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
    raise AssertionError("no process was running items when it was stopped")


def most_at_once(ledger: Ledger) -> int:
    """Returns the largest number of items that ran at the same time, according to the ledger."""
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
    ledger.wait("end", ITEMS // 4, PATIENCE)
    for _ in range(2):
        victim = kill_with_items(workers, ledger)
        workers.remove(victim)
        killed.add(str(victim.pid))
        if len(killed) == 2:
            break
        # No item may lose its runner twice, so the items of the victim must end before the next
        # kill. First, the test waits for all items that the victim may have claimed.
        claimed = max(int(item) for _, item in ledger.lines("start")) + AHEAD
        items = set(range(min(claimed, ITEMS)))
        until("the items have ended", lambda items=items: items <= ended_items(ledger), PATIENCE)
        # The victim may have finished items whose results were not stored. These items run again,
        # so the test waits for more ends.
        ledger.wait("end", len(ledger.lines("end")) + ITEMS // 8, PATIENCE)
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
        # An item runs again if its process was killed before the item's result was stored.
        again = [of for of in ends[item.index] if of != str(pid)]
        assert set(again) <= killed
        assert len(again) < item.attempts
    assert [int(count) for (count,) in ledger.lines("total")] == [ITEMS]
    assert 1 < most_at_once(ledger) <= PARALLEL


PAUSED = PREAMBLE + textwrap.dedent(
    """
    with cloaca.WorkflowBuilder("paused", input={"rows": list[int]}):
        @cloaca.task(over="rows")
        def work(row: int) -> int:
            note("work", time.monotonic())
            if sys.argv[2] == "hangs":
                time.sleep(60)
            return row

    config = cloaca.DefaultRunnerConfig(heartbeat_interval=0.25, lease_ttl=1)
    with cloaca.DefaultRunner(sys.argv[1], config) as runner:
        note("id", runner.submit("paused", {"rows": [7]}, key="only").id)
        wait_for("stop")
    """
)


def test_d7_item_rescued_during_a_pause_starts_when_resumed(database, script, tmp_path):
    ledger = Ledger(tmp_path)
    dying = script(PAUSED, database, "hangs")
    ((id,),) = ledger.wait("id", 1)
    ledger.wait("work", 1)
    with cloaca.DefaultRunner(database, start=False) as client:
        client.pause_execution(id)
        # The part of the pause before the rescue must not delay the item.
        time.sleep(1.5)
        dying.kill()
        script(PAUSED, database, "returns")

        def is_rescued() -> bool:
            return client.items(id, "work").items[0].status == "Ready"

        until("the rescue", is_rescued)
        client.resume_execution(id)
        resumed_at = time.monotonic()
        (_, (started_at,)) = ledger.wait("work", 2)
    assert float(started_at) - resumed_at < 1
    (tmp_path / "stop").touch()
