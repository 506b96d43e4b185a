"""Runners in two processes, one with a wall clock that jumps forward and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Script
from processes import PREAMBLE, Ledger, build_wall_clock, set_clock, until

HOUR = 3600.0

PROGRAM = (
    PREAMBLE
    + """
import asyncio

with cloaca.WorkflowBuilder("sync"):
    @cloaca.task(retry_attempts=1, timeout_seconds=600)
    def sync(context):
        note("started", "sync")
        wait_for("end")

with cloaca.WorkflowBuilder("coroutine"):
    @cloaca.task(retry_attempts=1, timeout_seconds=600)
    async def coroutine(context):
        note("started", "coroutine")
        while not os.path.exists("end"):
            await asyncio.sleep(0.01)

with cloaca.WorkflowBuilder("ticking"):
    @cloaca.task(retry_attempts=1)
    def tick(context):
        note("tick", context["scheduled_time"])

with cloaca.WorkflowBuilder("quick"):
    @cloaca.task(retry_attempts=1)
    def quick(context):
        pass

config = cloaca.DefaultRunnerConfig(lease_ttl=2.0, heartbeat_interval=0.5, max_concurrent_tasks=6)
with cloaca.DefaultRunner(sys.argv[1], config=config) as runner:
    handles = [runner.submit(name, timeout=60) for name in ("sync", "coroutine") * 2]
    if sys.argv[2] == "jumping":
        runner.register_cron_workflow("ticking", "* * * * * *", "UTC")
    while not os.path.exists("end"):
        begin = time.monotonic()
        result = runner.execute("quick", timeout=30)
        note("quick", result.status, f"{time.monotonic() - begin:.3f}")
        time.sleep(0.05)
    for handle in handles:
        result = handle.result(timeout=30)
        attempts = [task.attempts for task in result.tasks.values()]
        kinds = sorted({event.type for event in handle.events()})
        note("ended", result.status, attempts, *kinds)
"""
)


@pytest.fixture(scope="module")
def wall_clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that shifts the wall clock of each process that preloads the library."""
    return build_wall_clock(tmp_path_factory.mktemp("clock"))


def test_e2_clock_jump_ends_no_lease_and_no_task_early(
    database: str, script: Script, tmp_path: Path, wall_clock: Path
) -> None:
    clock = tmp_path / "clock"
    set_clock(clock, 0.0)
    ledger = Ledger(tmp_path)
    moved = {"LD_PRELOAD": str(wall_clock), "CLOCK_FILE": str(clock)}
    programs = [
        script(PROGRAM, database, "jumping", **moved),
        script(PROGRAM, database, "steady"),
    ]
    ledger.wait("started", 8)
    for offset in (HOUR, 0.0, -HOUR, 0.0, HOUR, -HOUR, 0.0):
        set_clock(clock, offset)
        # Waits until 100 more executions have run, which takes longer than a lease.
        done = len(ledger.lines("quick"))
        until("work continues", lambda done=done: len(ledger.lines("quick")) >= done + 100)
    (tmp_path / "end").touch()
    for program in programs:
        out, errors = program.communicate(timeout=60)
        assert program.returncode == 0, out + errors
    ended = ledger.lines("ended")
    assert len(ended) == 8
    for line in ended:
        assert line[0] == "Completed", line
        assert line[1] == "[1]", line
        assert not {"task_rescued", "timed_out", "task_retrying"} & set(line), line
    assert all(line[0] == "Completed" for line in ledger.lines("quick"))
    ticks = [" ".join(line) for line in ledger.lines("tick")]
    assert ticks
    assert len(ticks) == len(set(ticks)), "a tick fired twice"
