"""The workloads. `run.py` runs each of them in a separate process.

    python benchmarks/workloads.py W1 PLACE [--quick]

PLACE is a folder for SQLite files, or the URL of a PostgreSQL server. The program prints one JSON
object. Most tasks do nothing, so that only the engine is measured. Every counted result is durable.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import databases
import map_workloads
import process_workloads
import sustained_workloads
import web_workloads

import cloaca

Figures = dict[str, Any]


def nothing(context: cloaca.Context) -> None:
    """Does nothing. Most tasks run this function."""


def no_value() -> None:
    """Does nothing. Steps run this function."""


def define() -> None:
    """Defines the workflows that the workloads use."""
    with cloaca.WorkflowBuilder("single"):
        cloaca.task(id="only")(nothing)

    with cloaca.WorkflowBuilder("chain"):
        for name, dependencies in [("one", []), ("two", ["one"]), ("three", ["two"])]:
            cloaca.task(id=name, dependencies=dependencies)(nothing)

    with cloaca.WorkflowBuilder("large"):
        # A value of 100 KB as JSON.
        payload = [{"name": f"item {number}", "value": number} for number in range(2700)]

        @cloaca.task(id="write")
        def write(context: cloaca.Context) -> None:
            context["payload"] = payload

        cloaca.task(id="pass", dependencies=["write"])(nothing)

        @cloaca.task(id="read", dependencies=["pass"])
        def read(context: cloaca.Context) -> None:
            assert len(context["payload"]) == len(payload)

    def take(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
        for number in range(context["count"]):
            handle.step(f"s{number}", no_value)

    async def take_async(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
        for number in range(context["count"]):
            await handle.step(f"s{number}", no_value)

    async def resume(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
        names = [f"s{number}" for number in range(context["count"])]
        # The first attempt makes all calls at once, because recording steps one by one is slow.
        if context["at_once"] or handle.attempt == 1:
            await asyncio.gather(*(handle.step(name, no_value) for name in names))
        else:
            for name in names:
                await handle.step(name, no_value)
        if handle.attempt == 1:
            raise ValueError("the first attempt fails, so that the next one reads the steps")

    for workflow, function in [
        ("steps", take),
        ("steps-async", take_async),
        ("steps-resumed", resume),
    ]:
        with cloaca.WorkflowBuilder(workflow):
            cloaca.task(id="only", retry_attempts=1)(function)

    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task(id="only", retry_attempts=1)
        def call(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            handle.run_many("children", "single", [{}] * context["count"])

    for name, width in [("fan", 8), ("wide", 10_000), ("wide-quick", 300)]:
        with cloaca.WorkflowBuilder(name):
            middle = [f"middle{index}" for index in range(width)]
            cloaca.task(id="first")(nothing)
            for task in middle:
                cloaca.task(id=task, dependencies=["first"])(nothing)
            cloaca.task(id="last", dependencies=middle)(nothing)

    for kind, value in [("record", Record()), ("list", list(range(1000)))]:
        define_typed(kind, value)


@dataclasses.dataclass
class Record:
    """A value of ten fields."""

    id: int = 7
    name: str = "article"
    price: float = 9.5
    count: int = 3
    is_open: bool = True
    city: str = "Berlin"
    street: str = "Unter den Linden"
    discount: float = 0.25
    code: str = "A-17"
    remark: str | None = None


def define_typed(kind: str, value: Any) -> None:
    """Defines W3 twice: with values in the context, and with values as parameters and results."""
    data = dataclasses.asdict(value) if isinstance(value, Record) else value
    names = [f"middle{index}" for index in range(8)]
    with cloaca.WorkflowBuilder(f"context-{kind}"):

        def begin(context: cloaca.Context) -> None:
            context["first"] = data

        def step(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            context[handle.task_id] = context["first"]

        def end(context: cloaca.Context) -> None:
            context["last"] = [len(context[name]) for name in names]

        cloaca.task(id="first")(begin)
        for name in names:
            cloaca.task(id=name, dependencies=["first"])(step)
        cloaca.task(id="last", dependencies=names)(end)

    with cloaca.WorkflowBuilder(f"typed-{kind}", output="last"):

        def first(handle: cloaca.TaskHandle) -> Any:
            return value

        def middle(first: Any) -> Any:
            return first

        parameters = ", ".join(f"{name}: Kind" for name in names)
        namespace: dict[str, Any] = {"Kind": type(value) if kind == "record" else list[int]}
        exec(f"def last({parameters}) -> list[int]: return [8]", namespace)  # eight parameters
        middle.__annotations__.update({"first": namespace["Kind"], "return": namespace["Kind"]})
        cloaca.task(first)
        for name in names:
            cloaca.task(id=name)(middle)
        cloaca.task(id="last")(namespace["last"])


def one_by_one(runner: cloaca.DefaultRunner, workflow: str, count: int) -> list[float]:
    """Runs executions one at a time, and returns the microseconds from submission to result."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        result = runner.execute(workflow)
        times.append((time.perf_counter() - start) * 1e6)
        assert result.status == "Completed"
    return sorted(times)


def all_at_once(runner: cloaca.DefaultRunner, workflow: str, count: int) -> float:
    """Submits `count` executions at once; returns executions per second until the last result."""
    start = time.perf_counter()
    for handle in runner.submit_many((workflow, None) for _ in range(count)):
        assert handle.result().status == "Completed"
    return count / (time.perf_counter() - start)


def chain(runner: cloaca.DefaultRunner, *, quick: bool) -> Figures:
    """W1: chains of three tasks, one execution at a time, from submission to result."""
    times = one_by_one(runner, "chain", 20 if quick else 500)
    return {"p50_us": statistics.median(times), "p99_us": times[len(times) * 99 // 100]}


def single(runner: cloaca.DefaultRunner, *, quick: bool) -> Figures:
    """W2: many one-task executions submitted at once, until the last result."""
    return {"executions_per_s": all_at_once(runner, "single", 100 if quick else 2000)}


def single_threads(runner: cloaca.DefaultRunner, *, quick: bool) -> Figures:
    """W2, with executions that eight threads submit one by one."""
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
    """W4: chains with 100 KB of JSON: one at a time (compared to W1), then 200 at once."""
    count = 3 if quick else 100
    alone = statistics.median(one_by_one(runner, "large", count))
    small = statistics.median(one_by_one(runner, "chain", count))
    rate = all_at_once(runner, "large", 5 if quick else 200)
    return {"p50_us": alone, "more_than_w1_us": alone - small, "executions_per_s": rate}


def wide(runner: cloaca.DefaultRunner, *, quick: bool) -> Figures:
    """W11: one execution that fans out to 10,000 tasks, which one task joins."""
    workflow, tasks = ("wide-quick", 302) if quick else ("wide", 10_002)
    rate = tasks * all_at_once(runner, workflow, 1)
    with Path("/proc/self/status").open() as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {"tasks_per_s": rate, "peak_memory_mb": peak / 1024}


def steps(runner: cloaca.DefaultRunner, *, quick: bool) -> Figures:
    """W13: 1,000 steps of one task; 200 tasks of 50 steps each; a retry that reads 10,000 steps."""
    alone, tasks, each, many = (50, 5, 5, 200) if quick else (1000, 200, 50, 10_000)
    start = time.perf_counter()
    result = runner.execute("steps", {"count": alone})
    step_us = (time.perf_counter() - start) * 1e6 / alone
    assert result.status == "Completed"
    start = time.perf_counter()
    for handle in runner.submit_many(("steps-async", {"count": each}) for _ in range(tasks)):
        assert handle.result().status == "Completed"
    rate = tasks * each / (time.perf_counter() - start)
    figures = {"step_us": step_us, "steps_per_s": rate}
    for name, at_once in [("resume_ms", False), ("resume_at_once_ms", True)]:
        recorded = runner.submit("steps-resumed", {"count": many, "at_once": at_once})
        assert recorded.result().status == "Failed"
        start = time.perf_counter()
        recorded.retry()
        assert recorded.result().status == "Completed"
        figures[name] = (time.perf_counter() - start) * 1e3
    return figures


def children(runner: cloaca.DefaultRunner, *, quick: bool) -> Figures:
    """W15: a parent with 10,000 one-task children, compared with W2 at 10,000 executions."""
    count = 100 if quick else 10_000
    alone = all_at_once(runner, "single", count)
    start = time.perf_counter()
    result = runner.execute("parent", {"count": count})
    rate = count / (time.perf_counter() - start)
    assert result.status == "Completed"
    return {"executions_per_s": rate, "of_w2": rate / alone}


def typed(runner: cloaca.DefaultRunner, *, quick: bool) -> Figures:
    """W18: W3 with typed values: dataclasses of ten fields, and lists of 1,000 numbers.

    Each kind of value is compared with a workflow that passes the same values through the context.
    The two workflows run alternately, because a machine's speed drifts. The figure is the median of
    the ratios.
    """
    count, rounds = (5, 1) if quick else (200, 5)
    figures: Figures = {}
    for kind in ("record", "list"):
        rates: dict[str, list[float]] = {"context": [], "typed": []}
        for _ in range(rounds):
            for style, found in rates.items():
                found.append(10 * all_at_once(runner, f"{style}-{kind}", count))
        pairs = zip(rates["typed"], rates["context"], strict=True)
        ratios = sorted(typed / context for typed, context in pairs)
        figures[f"{kind}_tasks_per_s"] = statistics.median(rates["typed"])
        figures[f"{kind}_of_context"] = ratios[len(ratios) // 2]
    return figures


WORKLOADS: dict[str, Callable[..., Figures]] = {
    "W1": chain,
    "W2": single,
    "W2-threads": single_threads,
    "W3": fan,
    "W4": large,
    "W11": wide,
    "W13": steps,
    "W15": children,
    "W18": typed,
}


def main() -> None:
    """Runs the workload that the command line names, and prints its figures.

    A workload of this module runs in rounds. The figures are those of the median round.
    """
    name, where, quick = sys.argv[1], sys.argv[2], "--quick" in sys.argv
    if name in process_workloads.WORKLOADS:
        print(json.dumps(process_workloads.WORKLOADS[name](where, quick=quick)))
        return
    for module in (map_workloads, sustained_workloads):
        if name not in module.WORKLOADS:
            continue
        sustained_workloads.define()
        print(json.dumps(module.WORKLOADS[name](where, quick=quick)))
        return
    if name == "W19":
        print(json.dumps(web_workloads.web(where, quick=quick)))
        return
    define()
    rounds = []
    for _ in range(1 if quick else 5):
        with cloaca.DefaultRunner(databases.fresh(where, name)) as runner:
            # An unmeasured round starts the threads and warms the caches.
            WORKLOADS[name](runner, quick=True)
            rounds.append(WORKLOADS[name](runner, quick=quick))
    rounds.sort(key=lambda figures: next(iter(figures.values())))
    print(json.dumps(rounds[len(rounds) // 2]))


if __name__ == "__main__":
    main()
