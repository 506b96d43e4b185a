"""W12: a map of 100,000 items and its reduction, beside small executions, in one or four processes.

The command `python benchmarks/map_workloads.py URL` starts a helper process. The helper runs tasks
that other processes submit, until it reads a line from standard input.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import databases
from sustained_workloads import background, chains, define, memory_mb

import cloaca

Figures = dict[str, Any]

#: Seconds between two executions of the small workflow that runs beside the map.
INTERVAL = 0.02


def measured(url: str, *, quick: bool) -> Figures:
    """Runs the map several times, and W11 (a wide fan-out) after each run.

    With `quick`, runs a small map once, and then a chain instead of W11.

    Returns:
        The rates, the peak memory of this process, and the delay of small executions: how much
        longer they took beside the map than alone.
    """
    count, rounds, workflow, tasks = (1_000, 1, "chain", 3)
    if not quick:
        count, rounds, workflow, tasks = (100_000, 5, "wide", 10_002)
    rates, ratios, late = [], [], []
    with cloaca.DefaultRunner(url) as runner:
        runner.execute("mapped", {"count": 10})
        for _ in range(rounds):
            idle = statistics.median(chains(runner, 0.2 if quick else 1.0, "single"))
            times: list[float] = []

            def neighbour(times: list[float] = times) -> None:
                time.sleep(INTERVAL)
                times.extend(chains(runner, 0.0, "single"))

            with background(neighbour):
                start = time.perf_counter()
                result = runner.execute("mapped", {"count": count})
                rates.append(count / (time.perf_counter() - start))
            assert result.final_context["length"] == count
            late += [each - idle for each in times]
            start = time.perf_counter()
            assert runner.execute(workflow).status == "Completed"
            ratios.append(rates[-1] / (tasks / (time.perf_counter() - start)))
    late.sort()
    return {
        "items_per_s": statistics.median(rates),
        "of_w11": statistics.median(ratios),
        "memory_mb": memory_mb("VmHWM"),
        "late_p50_ms": statistics.median(late),
        "late_p99_ms": late[len(late) * 99 // 100],
        "neighbours": len(late),
    }


def mapped(where: str, *, quick: bool) -> Figures:
    """W12: one process runs the map, the small executions beside the map, and W11."""
    return measured(databases.fresh(where, "W12"), quick=quick)


@contextmanager
def helpers(url: str, count: int) -> Iterator[list[float]]:
    """Starts processes that run tasks while the `with` block runs.

    When they have ended, the yielded list contains their peak memory in megabytes.
    """
    peaks: list[float] = []
    command = [sys.executable, str(Path(__file__).resolve()), url]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen(command, **pipes) for _ in range(count)]
    for process in started:
        assert process.stdout is not None
        if not process.stdout.readline():
            raise RuntimeError("a process ended before it was ready; hint: see its error above")
    yield peaks
    for process in started:
        output, _ = process.communicate("\n")
        peaks.append(json.loads(output))


def mapped_by_four(where: str, *, quick: bool) -> Figures:
    """W12 with four processes on one database. `memory_mb` is the highest peak of all processes."""
    url = databases.fresh(where, "W12-processes")
    with helpers(url, 3) as peaks:
        figures = measured(url, quick=quick)
    return {**figures, "memory_mb": max(figures["memory_mb"], *peaks)}


WORKLOADS: dict[str, Callable[..., Figures]] = {"W12": mapped, "W12-processes": mapped_by_four}


if __name__ == "__main__":
    define()
    with cloaca.DefaultRunner(sys.argv[1]):
        print("ready", flush=True)
        sys.stdin.readline()
    print(memory_mb("VmHWM"))
