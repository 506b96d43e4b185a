"""Parents do not wait forever when runners are killed and children fail (semantics M, Q).

`make long` runs this test with 10,000 parents.
"""

from __future__ import annotations

import collections
import contextlib
import os
import random
import signal
import subprocess
import textwrap
import time

import cloaca
from children_fleet import define_fleet
from children_support import ENVIRONMENT, count_rows
from conftest import Script
from processes import PREAMBLE, Ledger, until

#: The number of parents.
PARENTS = int(os.environ.get("CLOACA_TEST_PARENTS", "300"))
#: The number of parents that are submitted between two kills.
WAVE = max(30, min(100, PARENTS // 10))
#: Maximum time in seconds until all parents have ended.
PATIENCE = 90 + PARENTS * 0.3
OPEN = ["Pending", "Running", "Paused"]

RUNNER = PREAMBLE + textwrap.dedent(
    """
    import logging
    from children_fleet import define_fleet

    logging.getLogger("cloaca").setLevel(logging.CRITICAL)
    define_fleet(note)
    config = cloaca.DefaultRunnerConfig(max_rescues=1000, max_concurrent_tasks=8)
    with cloaca.DefaultRunner(sys.argv[1], config) as runner:
        note("ready", os.getpid())
        wait_for("stop")
    """
)


class Fleet:
    """Three runner processes. A test kills and replaces random processes."""

    def __init__(self, script: Script, database: str, dice: random.Random) -> None:
        self.dice = dice
        self.kills = 0
        self._start = lambda: script(RUNNER, database, **ENVIRONMENT)
        self.processes: list[subprocess.Popen[str]] = [self._start() for _ in range(3)]

    def kill_one(self) -> None:
        """Kills a random process at a random time, and starts another one."""
        time.sleep(self.dice.uniform(0.05, 0.5))
        victim = self.processes.pop(self.dice.randrange(3))
        victim.send_signal(signal.SIGKILL)
        victim.communicate(timeout=60)
        self.kills += 1
        self.processes.append(self._start())


def disturb(
    client: cloaca.DefaultRunner, handles: list[cloaca.WorkflowHandle], dice: random.Random
) -> None:
    """Cancels, or pauses and resumes, some of the parents `handles` or their children."""
    for handle in dice.sample(handles, max(1, len(handles) // 10)):
        with contextlib.suppress(cloaca.WorkflowError):  # An ended execution cannot be paused.
            match dice.randrange(4):
                case 0:
                    handle.cancel()
                case 1:
                    for child in client.children(handle.id)[:1]:
                        if not child.workflow_name.endswith("~final"):
                            client.cancel_execution(child.execution_id)
                case 2:
                    handle.pause()
                    handle.resume()
                case _:
                    for child in client.children(handle.id)[:1]:
                        client.pause_execution(child.execution_id)
                        client.resume_execution(child.execution_id)


def still_open(
    client: cloaca.DefaultRunner, handles: list[cloaca.WorkflowHandle]
) -> list[cloaca.WorkflowHandle]:
    """Returns the handles whose executions have not ended."""
    return [one for one in handles if not client.get_execution_status(one.id).is_final]


def wait_for_all(client: cloaca.DefaultRunner, end: float) -> None:
    """Waits until no execution is open. The error message explains the stuck executions."""
    while client.list_executions(status=OPEN, children=True, limit=1).items:
        if time.monotonic() > end:
            stuck = client.list_executions(status=OPEN, children=True, limit=20).items
            told = [f"{one.workflow_name} {client.explain(one.execution_id)}" for one in stuck]
            raise AssertionError("\n".join(told))
        time.sleep(0.1)


def check(client: cloaca.DefaultRunner, id: str, ends: int, told: list[str]) -> str:
    """Checks the outcome of a parent, and returns the parent's status.

    The outcome must follow from the states of the parent's tasks. Each time the parent ended, its
    final tasks must have run.

    Args:
        client: A runner on the database.
        id: The parent's id.
        ends: The number of times that the parent has ended: 2 if it was retried, otherwise 1.
        told: The errors that the final task `finish` received.
    """
    result = client.get_execution(id)
    statuses = {str(task.status) for task in result.tasks.values()}
    assert not statuses & {"Pending", "Ready", "Running", "Waiting"}
    assert (statuses == {"Completed"}) == (result.status == "Completed")
    children = client.children(id)
    finals = [child for child in children if child.workflow_name == "fleet-parent~final"]
    assert [final.status for final in finals] == ["Completed"] * ends
    assert result.final is not None
    assert result.final.execution_id == finals[-1].execution_id
    # The function of `finish` runs again if its process is killed before its result is stored.
    attempts = sum(final.tasks["finish"].attempts for final in finals)
    assert ends <= len(told) <= attempts
    match str(result.status):
        case "Completed":
            assert told[-1] == "None"
        case "Cancelled":
            assert told[-1] == "Cancelled"
        case _:
            assert result.error is not None
            assert told[-1] == result.error.type
    for child in children:
        assert str(child.status) in {"Completed", "Failed", "Cancelled"}
    return str(result.status)


def test_m3_no_parent_is_stuck_after_kills_failures_and_cancels(database, script, tmp_path):
    seed = int(os.environ.get("CLOACA_TEST_SEED", random.randrange(1_000_000)))
    dice, begun = random.Random(seed), time.monotonic()
    define_fleet()
    with cloaca.DefaultRunner(database, start=False) as client:
        fleet = Fleet(script, database, dice)
        handles: list[cloaca.WorkflowHandle] = []
        recent: list[cloaca.WorkflowHandle] = []
        while len(handles) < PARENTS:
            numbers = range(len(handles), min(len(handles) + WAVE, PARENTS))
            wave = [
                client.submit(
                    "fleet-parent",
                    {"n": n, "rows": [n, n, n]},
                    timeout=None if n % 20 else dice.uniform(0.02, 2),
                )
                for n in numbers
            ]
            handles += wave
            disturb(client, [*recent, *wave], dice)
            fleet.kill_one()
            disturb(client, wave, dice)
            recent = still_open(client, [*recent, *wave])
            while len(recent) > 3 * WAVE:
                assert time.monotonic() < begun + PATIENCE, f"{len(recent)} parents are open"
                time.sleep(0.1)
                recent = still_open(client, recent)
        fleet.kill_one()
        wait_for_all(client, begun + PATIENCE)
        failed = [h for h in handles if client.get_execution_status(h.id) == "Failed"]
        for handle in failed:
            handle.retry()
        fleet.kill_one()
        wait_for_all(client, begun + PATIENCE)
        for table in ("cloacina_inbox", "cloacina_waits"):
            until(f"{table} is empty", lambda table=table: count_rows(database, table) == 0)
        (tmp_path / "stop").touch()
        for process in fleet.processes:
            assert process.communicate(timeout=60) == ("", "")
        took = time.monotonic() - begun
        told: dict[int, list[str]] = collections.defaultdict(list)
        for n, error in Ledger(tmp_path).lines("finish"):
            told[int(n)].append(error)
        retried = {handle.id for handle in failed}
        counts = collections.Counter(
            check(client, handle.id, 1 + (handle.id in retried), told[n])
            for n, handle in enumerate(handles)
        )
    total = count_rows(database, "cloacina_executions")
    print(f"seed {seed}: {dict(counts)}, {len(failed)} retried; {total} executions")
    print(f"{fleet.kills} kills in {took:.0f} s")
    assert sum(counts.values()) == PARENTS
    assert fleet.kills >= 5
