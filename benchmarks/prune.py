"""Measures how much background pruning slows down other work: W2 with and without it.

    python benchmarks/prune.py [--url URL] [--old 100000] [--rounds 5]

It fills a database with ended executions, then runs W2 (2,000 one-task executions at once)
alternately with and without a second process that prunes the old ones as a runner does, in batches
of 200 every 100 ms. Prints the medians and their ratio as JSON. The target is at least 0.9 with a
million old executions. Each process needs a processor, so the ratio is lower on a busy machine.
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

EXECUTIONS = 2_000
BATCH = 200
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
    """Fills a database with ended executions."""
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
    """Returns the medians without and with pruning, and their ratio."""
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
                pruner.stdout.readline()  # the first deletion shows that it works
                busy.append(w2(runner))
                is_busy = pruner.poll() is None
                pruner.terminate()
                pruned += sum(BATCH for _ in pruner.stdout) + BATCH
            if not is_busy:
                raise SystemExit(
                    "there were too few old executions for the pruner; hint: raise --old"
                )
    return {
        "old_executions": old,
        "pruned": pruned,
        "w2_quiet_per_s": round(statistics.median(quiet)),
        "w2_pruning_per_s": round(statistics.median(busy)),
        "ratio": round(statistics.median(busy) / statistics.median(quiet), 3),
    }


def main() -> None:
    """Measures and prints."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--url", help="a fresh database; an SQLite file if omitted")
    arguments.add_argument(
        "--old", type=int, default=100_000, help="number of ended executions to begin with"
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
