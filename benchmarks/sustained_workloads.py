"""Long workloads: a full database, coroutines, latency under load, fairness, memory growth."""

from __future__ import annotations

import asyncio
import gc
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import databases

import cloaca

Figures = dict[str, Any]

#: Number of executions in one run of W2.
BURST = 2_000
#: Seconds between two submissions of the load that runs beside W1.
BURST_INTERVAL = 0.005


def define() -> None:
    """Defines the workflows that these workloads use."""

    def nothing(context: cloaca.Context) -> None:
        pass

    def note(context: cloaca.Context) -> None:
        context["at"] = time.time()

    async def wait(context: cloaca.Context) -> None:
        await asyncio.sleep(0.1)

    with cloaca.WorkflowBuilder("single"):
        cloaca.task(id="only")(nothing)
    with cloaca.WorkflowBuilder("noted"):
        cloaca.task(id="only")(note)
    with cloaca.WorkflowBuilder("chain"):
        for name, dependencies in [("one", []), ("two", ["one"]), ("three", ["two"])]:
            cloaca.task(id=name, dependencies=dependencies)(nothing)
    with cloaca.WorkflowBuilder("sleep"):
        cloaca.task(id="only")(wait)
    with cloaca.WorkflowBuilder("sleeps"):
        for number in range(1000):
            cloaca.task(id=f"t{number}")(wait)
    with cloaca.WorkflowBuilder("wide"):
        cloaca.task(id="first")(nothing)
        middle = [f"middle{index}" for index in range(10_000)]
        for name in middle:
            cloaca.task(id=name, dependencies=["first"])(nothing)
        cloaca.task(id="last", dependencies=middle)(nothing)
    with cloaca.WorkflowBuilder("mapped", input={"count": int}):

        @cloaca.task
        def numbers(count: int) -> list[int]:
            return list(range(count))

        @cloaca.task(over=numbers)
        def item(numbers: int) -> None:
            pass

        @cloaca.task
        def length(item: list[None]) -> int:
            return len(item)


def burst(runner: cloaca.DefaultRunner, count: int = BURST) -> float:
    """Runs W2, and returns executions per second until the last result."""
    start = time.perf_counter()
    for handle in runner.submit_many(("single", None) for _ in range(count)):
        handle.result()
    return count / (time.perf_counter() - start)


def memory_mb(name: str = "VmRSS") -> float:
    """Returns the process's resident memory in megabytes: now, or at its peak (`VmHWM`)."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name)) / 1024


def full(where: str, *, quick: bool) -> Figures:
    """W6: W2 on a database with 0, 100,000 and 1,000,000 ended executions."""
    sizes = [0, 1_000, 2_000] if quick else [0, 100_000, 1_000_000]
    count, rounds = (100, 1) if quick else (BURST, 9)
    figures: Figures = {}
    done = 0
    url = databases.fresh(where, "W6")
    with cloaca.DefaultRunner(url) as runner:
        burst(runner, 50)
        for size in sizes:
            while done < size:
                done += 5_000
                burst(runner, 5_000)
            databases.settle(url)
            figures[f"at_{size}_per_s"] = statistics.median(
                burst(runner, count) for _ in range(rounds)
            )
            figures[f"at_{size}_mb"] = memory_mb()
    empty, last = (figures[f"at_{size}_per_s"] for size in (sizes[0], sizes[-1]))
    return {"of_empty": last / empty, **figures}


def coroutines(where: str, *, quick: bool) -> Figures:
    """W7: 1,000 coroutines of 100 ms each, in 1,000 executions and in one execution."""
    count = 50 if quick else 1000
    with cloaca.DefaultRunner(databases.fresh(where, "W7")) as runner:
        runner.execute("sleep")
        many = []
        for _ in range(1 if quick else 5):
            start = time.perf_counter()
            for handle in runner.submit_many(("sleep", None) for _ in range(count)):
                assert handle.result().status == "Completed"
            many.append(time.perf_counter() - start)
        start = time.perf_counter()
        assert runner.execute("sleeps").status == "Completed"
        one = time.perf_counter() - start
    return {"in_many_s": statistics.median(many), "in_one_s": one}


@contextmanager
def background(step: Callable[[], None]) -> Iterator[None]:
    """Calls `step` repeatedly on another thread while the `with` block runs."""
    over = threading.Event()

    def loop() -> None:
        while not over.is_set():
            step()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def chains(runner: cloaca.DefaultRunner, seconds: float, workflow: str = "chain") -> list[float]:
    """Runs a workflow for some seconds, one execution at a time.

    Returns the durations of the executions in milliseconds, in ascending order. At least one
    execution runs.
    """
    times = []
    end = time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        start = time.perf_counter()
        runner.execute(workflow)
        times.append((time.perf_counter() - start) * 1e3)
    return sorted(times)


def loaded(where: str, *, quick: bool) -> Figures:
    """W1 while W2 runs at half its maximum rate."""
    seconds = 0.2 if quick else 8.0
    with cloaca.DefaultRunner(databases.fresh(where, "load")) as runner:
        burst(runner, 200)
        capacity = statistics.median(burst(runner, 200 if quick else BURST) for _ in range(5))
        idle = chains(runner, seconds / 4)
        begin, sent = time.perf_counter(), 0

        def submit() -> None:
            nonlocal sent
            due = int((time.perf_counter() - begin) * capacity / 2) - sent
            if due > 0:
                runner.submit_many(("single", None) for _ in range(due))
                sent += due
            time.sleep(BURST_INTERVAL)

        with background(submit):
            under = chains(runner, seconds)
            rate = sent / (time.perf_counter() - begin)
    p50, p99 = statistics.median(idle), under[len(under) * 99 // 100]
    return {
        "p99_of_idle_p50": p99 / p50,
        "idle_p50_ms": p50,
        "p50_ms": statistics.median(under),
        "p99_ms": p99,
        "executions_per_s_beside": rate,
    }


def fair(where: str, *, quick: bool) -> Figures:
    """Delays of an urgent execution, a tick and a heartbeat during a flood of short tasks."""
    seconds = 1.2 if quick else 10.0
    config = cloaca.DefaultRunnerConfig(heartbeat_interval=0.5, lease_ttl=5)
    with cloaca.DefaultRunner(databases.fresh(where, "fair"), config) as runner:
        burst(runner, 200)
        schedule = runner.register_cron_workflow("noted", "* * * * * *")
        urgent: list[float] = []
        beats: list[int] = []
        with background(lambda: burst(runner) and None):
            end = time.perf_counter() + seconds
            while time.perf_counter() < end:
                before = time.time()
                at = runner.execute("noted", priority=1000).final_context["at"]
                urgent.append((at - before) * 1e3)
                beat = runner._core.reads.runners()[0].heartbeat_at_us
                if not beats or beats[-1] != beat:
                    beats.append(beat)
                time.sleep(0.02)
        ticks = [
            (seconds_of(tick["claimed_at"]) - seconds_of(tick["scheduled_time"])) * 1e3
            for tick in runner.get_cron_execution_history(schedule)
        ]
    gaps = [(after - before) / 1e3 - 500 for before, after in pairwise(beats)]
    urgent.sort()
    ticks.sort()
    return {
        "urgent_p99_ms": urgent[len(urgent) * 99 // 100],
        "urgent_p50_ms": statistics.median(urgent),
        "tick_max_ms": ticks[-1],
        "heartbeat_late_max_ms": max(gaps, default=0.0),
    }


def seconds_of(text: str) -> float:
    """Converts an ISO date and time to seconds since the epoch."""
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def memory(where: str, *, quick: bool) -> Figures:
    """Measures the memory of a wide fan-out, and the memory growth while W2 runs in a loop."""
    seconds = 0.5 if quick else 60.0
    return leak(where, seconds=seconds, wide=not quick)


def leak(where: str, *, seconds: float, wide: bool = True) -> Figures:
    """Measures the memory growth while W2 runs in a loop; with `wide`, after a wide fan-out."""
    with cloaca.DefaultRunner(databases.fresh(where, "memory")) as runner:
        if wide:
            assert runner.execute("wide").status == "Completed"
        peak = memory_mb("VmHWM")
        samples: list[float] = []
        begin, done = time.perf_counter(), 0
        while time.perf_counter() < begin + seconds:
            burst(runner)
            done += BURST
            samples.append(memory_mb())
        gc.collect()
    # Skip the first fifth of the samples, in which caches fill.
    settled = samples[len(samples) // 5 :]
    third = max(len(settled) // 3, 1)
    first, last = statistics.mean(settled[:third]), statistics.mean(settled[-third:])
    return {
        "memory_mb": memory_mb("VmHWM"),
        "after_fan_out_mb": peak,
        "grown_mb": last - first,
        "executions": done,
    }


WORKLOADS: dict[str, Callable[..., Figures]] = {
    "W6": full,
    "W7": coroutines,
    "load": loaded,
    "fair": fair,
    "memory": memory,
    # Runs only by hand: `python benchmarks/workloads.py leak PLACE` (ten minutes).
    "leak": lambda where, quick: leak(where, seconds=1.0 if quick else 600.0, wide=False),
}
