"""A process that only submits uses a constant amount of memory."""

from __future__ import annotations

import subprocess
from pathlib import Path

from conftest import Script

#: The number of submissions during the measurement. The guarantee is for a million submissions.
SUBMISSIONS = 100_000

PROGRAM = """
import sys
import cloaca

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

with cloaca.WorkflowBuilder("elsewhere"):
    cloaca.external_task("work")

with cloaca.DefaultRunner(sys.argv[1]) as runner:
    inputs = [("elsewhere", {"text": "x" * 200})] * 1_000
    def submit(count):
        for _ in range(count // len(inputs)):
            runner.submit_many(inputs)
    submit(int(sys.argv[2]) // 4)
    before = resident()
    submit(int(sys.argv[2]))
    print(resident() - before)
"""


def test_memory_stays_flat_while_a_process_only_submits(
    database: str, script: Script, tmp_path: Path
) -> None:
    program: subprocess.Popen[str] = script(PROGRAM, database, str(SUBMISSIONS))
    out, errors = program.communicate(timeout=100)
    assert program.returncode == 0, errors
    grown = int(out)
    # If the process kept the executions in memory, it would grow by at least 36 MB.
    assert grown < 16_000_000, f"{grown / 1e6:.1f} MB for {SUBMISSIONS} submissions"
