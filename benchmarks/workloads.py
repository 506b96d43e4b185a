"""The workloads, each run by `run.py` in a process of its own.

    python benchmarks/workloads.py W1 DIRECTORY [--quick]

Prints one JSON object. Tasks do nothing, so that what is measured is the engine. Every result
counted is durable.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloaca


def define() -> None:
    """The three workflows that the workloads use."""
    with cloaca.WorkflowBuilder("single"):

        @cloaca.task(id="only")
        def only(context: cloaca.Context) -> None:
            pass

    with cloaca.WorkflowBuilder("chain"):

        @cloaca.task(id="one")
        def one(context: cloaca.Context) -> None:
            pass

        @cloaca.task(id="two", dependencies=["one"])
        def two(context: cloaca.Context) -> None:
            pass

        @cloaca.task(id="three", dependencies=["two"])
        def three(context: cloaca.Context) -> None:
            pass

    with cloaca.WorkflowBuilder("fan") as builder:

        def nothing(context: cloaca.Context) -> None:
            pass

        builder.add_task(cloaca.task(id="first")(nothing))
        middle = [f"middle{index}" for index in range(8)]
        for name in middle:

            def work(context: cloaca.Context) -> None:
                pass

            builder.add_task(cloaca.task(id=name, dependencies=["first"])(work))

        def end(context: cloaca.Context) -> None:
            pass

        builder.add_task(cloaca.task(id="last", dependencies=middle)(end))


def chain(runner: cloaca.DefaultRunner, *, quick: bool) -> dict[str, Any]:
    """W1: a chain of three, one execution at a time, from submit to result."""
    times = []
    for _ in range(50 if quick else 500):
        start = time.perf_counter()
        result = runner.execute("chain")
        times.append((time.perf_counter() - start) * 1e6)
        assert result.status == "Completed"
    return {"p50_us": statistics.median(times), "p99_us": sorted(times)[len(times) * 99 // 100]}


def single(runner: cloaca.DefaultRunner, *, quick: bool) -> dict[str, Any]:
    """W2: many one-task executions submitted at once, to the last result."""
    count = 200 if quick else 2000
    start = time.perf_counter()
    handles = runner.submit_many(("single", None) for _ in range(count))
    for handle in handles:
        assert handle.result().status == "Completed"
    return {"executions_per_s": count / (time.perf_counter() - start)}


def single_threads(runner: cloaca.DefaultRunner, *, quick: bool) -> dict[str, Any]:
    """W2 again, submitted one by one from eight threads."""
    each = 25 if quick else 250
    handles: list[Any] = []

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


def fan(runner: cloaca.DefaultRunner, *, quick: bool) -> dict[str, Any]:
    """W3: executions of ten tasks, one into eight into one."""
    count = 30 if quick else 300
    start = time.perf_counter()
    for handle in runner.submit_many(("fan", None) for _ in range(count)):
        assert handle.result().status == "Completed"
    return {"tasks_per_s": 10 * count / (time.perf_counter() - start)}


COLD = """
import cloaca
with cloaca.WorkflowBuilder("w"):
    @cloaca.task(id="only")
    def only(context):
        context["done"] = True
with cloaca.DefaultRunner("sqlite:///" + {path!r}) as runner:
    assert runner.execute("w").final_context["done"]
"""

IDLE = """
import os, time, cloaca
with cloaca.WorkflowBuilder("w"):
    @cloaca.task(id="only")
    def only(context):
        pass
with cloaca.DefaultRunner("sqlite:///" + {path!r}) as runner:
    runner.execute("w")
    before, start = os.times(), time.monotonic()
    time.sleep({seconds})
    after, end = os.times(), time.monotonic()
    used = after.user + after.system - before.user - before.system
    with open("/proc/self/status") as status:
        memory = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    print(100 * used / (end - start), memory / 1024)
"""


def cold(directory: Path, *, quick: bool) -> dict[str, Any]:
    """W5: from nothing to the first result; import; memory and processor time of an idle runner."""

    def timed(code: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        return (time.perf_counter() - start) * 1e3

    def fresh() -> str:
        return tempfile.mktemp(suffix=".db", dir=directory)

    rounds = 3 if quick else 15
    bare = statistics.median(timed("pass") for _ in range(rounds))
    imported = statistics.median(timed("import cloaca") for _ in range(rounds))
    first = statistics.median(timed(COLD.format(path=fresh())) for _ in range(rounds))
    code = IDLE.format(path=fresh(), seconds=2 if quick else 20)
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    cpu, memory = map(float, answer.stdout.split())
    return {
        "first_result_ms": first,
        "import_ms": imported - bare,
        "idle_cpu_percent": cpu,
        "memory_mb": memory,
    }


WORKLOADS: dict[str, Callable[..., dict[str, Any]]] = {
    "W1": chain,
    "W2": single,
    "W2-threads": single_threads,
    "W3": fan,
}


def main() -> None:
    """Run the workload of the command line; three rounds, the median by its first figure."""
    name, directory, quick = sys.argv[1], Path(sys.argv[2]), "--quick" in sys.argv
    if name == "W5":
        print(json.dumps(cold(directory, quick=quick)))
        return
    define()
    rounds = []
    for number in range(1 if quick else 5):
        path = directory / f"{name}-{os.getpid()}-{number}.db"
        with cloaca.DefaultRunner(f"sqlite:///{path}") as runner:
            # Once before it counts: threads are started, code and caches are warm.
            WORKLOADS[name](runner, quick=True)
            rounds.append(WORKLOADS[name](runner, quick=quick))
    rounds.sort(key=lambda figures: next(iter(figures.values())))
    print(json.dumps(rounds[len(rounds) // 2]))


if __name__ == "__main__":
    main()
