"""The workloads, each run by `run.py` in a process of its own.

    python benchmarks/workloads.py W1 PLACE [--quick]

PLACE is a folder for SQLite files, or the URL of a PostgreSQL server. Prints one JSON object. Tasks
do nothing, so that only the engine is measured. Every counted result is durable.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import databases
import process_workloads
import sustained_workloads

import cloaca

Figures = dict[str, Any]


def nothing(context: cloaca.Context) -> None:
    """The function of most tasks: it does nothing."""


def define() -> None:
    """The workflows that the workloads use."""
    with cloaca.WorkflowBuilder("single"):
        cloaca.task(id="only")(nothing)

    with cloaca.WorkflowBuilder("chain"):
        for name, dependencies in [("one", []), ("two", ["one"]), ("three", ["two"])]:
            cloaca.task(id=name, dependencies=dependencies)(nothing)

    with cloaca.WorkflowBuilder("large"):
        # 100 KB of JSON.
        payload = [{"name": f"item {number}", "value": number} for number in range(2700)]

        @cloaca.task(id="write")
        def write(context: cloaca.Context) -> None:
            context["payload"] = payload

        cloaca.task(id="pass", dependencies=["write"])(nothing)

        @cloaca.task(id="read", dependencies=["pass"])
        def read(context: cloaca.Context) -> None:
            assert len(context["payload"]) == len(payload)

    for name, width in [("fan", 8), ("wide", 10_000), ("wide-quick", 300)]:
        with cloaca.WorkflowBuilder(name):
            middle = [f"middle{index}" for index in range(width)]
            cloaca.task(id="first")(nothing)
            for task in middle:
                cloaca.task(id=task, dependencies=["first"])(nothing)
            cloaca.task(id="last", dependencies=middle)(nothing)


def one_by_one(runner: cloaca.DefaultRunner, workflow: str, count: int) -> list[float]:
    """Run executions one at a time, and return the microseconds from submit to result."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        result = runner.execute(workflow)
        times.append((time.perf_counter() - start) * 1e6)
        assert result.status == "Completed"
    return sorted(times)


def all_at_once(runner: cloaca.DefaultRunner, workflow: str, count: int) -> float:
    """Submit `count` executions at once, and return executions per second until the last result."""
    start = time.perf_counter()
    for handle in runner.submit_many((workflow, None) for _ in range(count)):
        assert handle.result().status == "Completed"
    return count / (time.perf_counter() - start)


def chain(runner: cloaca.DefaultRunner, *, quick: bool) -> Figures:
    """W1: a chain of three, one execution at a time, from submit to result."""
    times = one_by_one(runner, "chain", 20 if quick else 500)
    return {"p50_us": statistics.median(times), "p99_us": times[len(times) * 99 // 100]}


def single(runner: cloaca.DefaultRunner, *, quick: bool) -> Figures:
    """W2: many one-task executions submitted at once, to the last result."""
    return {"executions_per_s": all_at_once(runner, "single", 100 if quick else 2000)}


def single_threads(runner: cloaca.DefaultRunner, *, quick: bool) -> Figures:
    """W2 again, submitted one by one from eight threads."""
    each = 10 if quick else 250
    handles: list[cloaca.WorkflowHandle] = []

    def submit() -> None:
        handles.extend([runner.submit("single") for _ in range(each)])

    threads = [threading.Thread(target=submit) for _ in range(8)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for handle in handles:
        assert handle.result().status == "Completed"
    return {"executions_per_s": 8 * each / (time.perf_counter() - start)}


def fan(runner: cloaca.DefaultRunner, *, quick: bool) -> Figures:
    """W3: executions of ten tasks: one, then eight in parallel, then one."""
    return {"tasks_per_s": 10 * all_at_once(runner, "fan", 10 if quick else 300)}


def large(runner: cloaca.DefaultRunner, *, quick: bool) -> Figures:
    """W4: chains of three with 100 KB of JSON: one at a time (compared to W1), and 200 at once."""
    count = 3 if quick else 100
    alone = statistics.median(one_by_one(runner, "large", count))
    small = statistics.median(one_by_one(runner, "chain", count))
    rate = all_at_once(runner, "large", 5 if quick else 200)
    return {"p50_us": alone, "more_than_w1_us": alone - small, "executions_per_s": rate}


def wide(runner: cloaca.DefaultRunner, *, quick: bool) -> Figures:
    """W11: one execution with a fan-out of 10,000 tasks into one."""
    workflow, tasks = ("wide-quick", 302) if quick else ("wide", 10_002)
    rate = tasks * all_at_once(runner, workflow, 1)
    with Path("/proc/self/status").open() as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {"tasks_per_s": rate, "peak_memory_mb": peak / 1024}


WORKLOADS: dict[str, Callable[..., Figures]] = {
    "W1": chain,
    "W2": single,
    "W2-threads": single_threads,
    "W3": fan,
    "W4": large,
    "W11": wide,
}


def main() -> None:
    """Run the workload that is named on the command line, and print its median round."""
    name, where, quick = sys.argv[1], sys.argv[2], "--quick" in sys.argv
    if name in process_workloads.WORKLOADS:
        print(json.dumps(process_workloads.WORKLOADS[name](where, quick=quick)))
        return
    if name in sustained_workloads.WORKLOADS:
        sustained_workloads.define()
        print(json.dumps(sustained_workloads.WORKLOADS[name](where, quick=quick)))
        return
    define()
    rounds = []
    for _ in range(1 if quick else 5):
        with cloaca.DefaultRunner(databases.fresh(where, name)) as runner:
            # A round that is not measured starts the threads and warms the caches.
            WORKLOADS[name](runner, quick=True)
            rounds.append(WORKLOADS[name](runner, quick=quick))
    rounds.sort(key=lambda figures: next(iter(figures.values())))
    print(json.dumps(rounds[len(rounds) // 2]))


if __name__ == "__main__":
    main()
