"""Harmless tasks complete although a poison task kills their process after each restart."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from conftest import Script
from processes import PREAMBLE, Ledger

#: Number of executions of the workflow `harmless`.
HARMLESS = 300

PROGRAM = (
    PREAMBLE
    + """
import asyncio, signal

def end_the_process():
    note("died")
    os.kill(os.getpid(), signal.SIGKILL)

with cloaca.WorkflowBuilder("poison"):
    if sys.argv[2] == "coroutines":
        @cloaca.task(retry_attempts=1)
        async def poison(context):
            await asyncio.sleep(0.02)
            end_the_process()
    else:
        @cloaca.task(retry_attempts=1)
        def poison(context):
            time.sleep(0.02)
            end_the_process()

with cloaca.WorkflowBuilder("harmless"):
    if sys.argv[2] == "coroutines":
        @cloaca.task(retry_attempts=1)
        async def harmless(context):
            await asyncio.sleep(0.03)
    else:
        @cloaca.task(retry_attempts=1)
        def harmless(context):
            time.sleep(0.03)

config = cloaca.DefaultRunnerConfig(max_concurrent_async_tasks=1000)
with cloaca.DefaultRunner(sys.argv[1], config=config) as runner:
    if sys.argv[3] == "first":
        runner.submit("poison", priority=10, key="poison")
        for number in range(int(sys.argv[4])):
            runner.submit("harmless", key=f"harmless {number}")
    poison = runner.submit("poison", key="poison")
    error = poison.result(timeout=120).error_message
    handles = [runner.submit("harmless", key=f"harmless {n}") for n in range(int(sys.argv[4]))]
    for handle in handles:
        note("harmless", handle.result(timeout=120).status)
    note("poison", error)
"""
)


@pytest.mark.parametrize("kind", ["coroutines", "functions"])
def test_e2_poison_task_fails_alone(
    database: str, kind: str, script: Script, tmp_path: Path
) -> None:
    ledger = Ledger(tmp_path)
    life, logged = "first", ""
    for _ in range(10):
        program = script(PROGRAM, database, kind, life, str(HARMLESS))
        life = "next"
        out, errors = program.communicate(timeout=120)
        logged += errors
        if program.returncode == 0:
            break
        assert program.returncode == -signal.SIGKILL, out + errors
    assert ledger.lines("harmless") == [["Completed"]] * HARMLESS
    (error,) = ledger.lines("poison")
    assert "max_rescues" in error, error
    assert len(ledger.lines("died")) == 4
    assert "task 'poison' of workflow 'poison' has lost its runner before" in logged
    assert "task 'poison' of workflow 'poison' failed: " in logged
    assert "attempt 0" not in logged
