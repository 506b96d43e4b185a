"""Measures how much background pruning slows down W2.

    python benchmarks/prune.py [--url URL] [--old 100000] [--rounds 5]

The program fills a database with ended executions. Then it runs W2 (2,000 one-task executions at
once) alternately alone and beside a second process, which prunes ended executions as a runner does:
200 every 100 ms. It prints the medians and their ratio as JSON. The target is a ratio of at least
0.9 with a million ended executions. Each process needs a CPU core, so the ratio is lower on a busy
machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import cloaca

#: Number of executions in one run of W2.
EXECUTIONS = 2_000
#: Maximum number of executions that the pruner deletes at once.
BATCH = 200
#: Seconds between two deletions of the pruner.
PAUSE = 0.1

PRUNER = f"""
import sys, time
from cloaca._core import Inspector
inspector = Inspector(sys.argv[1])
age_us = int(sys.argv[2])
print("ready", flush=True)
total = 0
while deleted := inspector.prune(age_us + int((time.time() - float(sys.argv[3])) * 1e6), {BATCH}):
    total += deleted
    print(total, flush=True)
    time.sleep({PAUSE})
"""


def fill(runner: cloaca.DefaultRunner, count: int) -> None:
    """Fills a database with `count` ended executions."""
    for begin in range(0, count, 10_000):
        size = min(10_000, count - begin)
        for handle in runner.submit_many(("single", None) for _ in range(size)):
            handle.result()


def w2(runner: cloaca.DefaultRunner) -> float:
    """Runs W2, and returns executions per second until the last result."""
    begin = time.perf_counter()
    for handle in runner.submit_many(("single", None) for _ in range(EXECUTIONS)):
        handle.result()
    return EXECUTIONS / (time.perf_counter() - begin)


def measure(url: str, old: int, rounds: int) -> dict[str, Any]:
    """Returns the medians of W2's rates without and with pruning, and their ratio."""
    with cloaca.WorkflowBuilder("single"):
        cloaca.task(id="only")(lambda context: None)
    quiet, busy, pruned = [], [], 0
    config = cloaca.DefaultRunnerConfig(retention_days=None)
    with cloaca.DefaultRunner(url, config) as runner:
        fill(runner, old)
        filled = time.time()
        for _ in range(rounds):
            quiet.append(w2(runner))
            command = [sys.executable, "-c", PRUNER, url, "0", str(filled)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as pruner:
                assert pruner.stdout is not None
                pruner.stdout.readline()
                pruner.stdout.readline()  # wait for the first deletion
                busy.append(w2(runner))
                is_busy = pruner.poll() is None
                pruner.terminate()
                pruned += sum(BATCH for _ in pruner.stdout) + BATCH
            if not is_busy:
                raise SystemExit(
                    "the pruner ran out of old executions during a round; hint: raise --old"
                )
    return {
        "old_executions": old,
        "pruned": pruned,
        "w2_quiet_per_s": round(statistics.median(quiet)),
        "w2_pruning_per_s": round(statistics.median(busy)),
        "ratio": round(statistics.median(busy) / statistics.median(quiet), 3),
    }


def main() -> None:
    """Measures the workload, and prints the result."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--url", help="an empty database (default: a new SQLite file)")
    arguments.add_argument(
        "--old", type=int, default=100_000, help="number of ended executions at the start"
    )
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    if given.url is not None:
        print(json.dumps(measure(given.url, given.old, given.rounds)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(f"sqlite:///{folder}/prune.db", given.old, given.rounds)))


if __name__ == "__main__":
    main()
