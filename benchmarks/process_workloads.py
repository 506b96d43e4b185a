"""Workloads that start processes: cold start, idling, kills, several processes on a database."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import IO, Any

import databases

Figures = dict[str, Any]

#: The beginning of every script below. Its functions report figures and wait for the benchmark.
SCRIPT = """
import json, os, statistics, sys, time
import cloaca

url, arguments = sys.argv[1], json.loads(sys.argv[2])

def say(**figures):
    # One write, because several threads can report at once.
    os.write(1, (json.dumps(figures) + "\\n").encode())

def listen():
    return sys.stdin.readline()

with cloaca.WorkflowBuilder("single"):
    @cloaca.task(id="only")
    def only(context):
        if "hang" in arguments:
            say(started=time.time())
            time.sleep(arguments["hang"])
        context["at"] = time.time()

if "waits" in arguments:
    with cloaca.WorkflowBuilder("listener"):
        @cloaca.task(id="only", wait_for=cloaca.signal("go", key="key"))
        def hear(context):
            context["at"] = time.time()

    with cloaca.WorkflowBuilder("sleeper"):
        cloaca.wait("sleep", wait_for=cloaca.delay("365d"))
"""

RUNNER = """
with cloaca.DefaultRunner(url) as runner:
    for handle in runner.submit_many(("single", None) for _ in range(20)):
        handle.result()
    say(ready=True)
    listen()
    start = time.time()
    handles = runner.submit_many(("single", None) for _ in range(arguments.get("count", 0)))
    for handle in handles:
        assert handle.result().status == "Completed"
    say(start=start, end=time.time())
    listen()
"""

WORKER = """
with cloaca.DefaultRunner(url) as runner:
    say(ready=True)
    listen()
"""

SUBMITTER = """
with cloaca.WorkflowBuilder("single"):
    cloaca.external_task("only")
with cloaca.DefaultRunner(url) as runner:
    waits = []
    for _ in range(arguments["alone"]):
        before = time.time()
        waits.append(runner.execute("single").final_context["at"] - before)
    rates = []
    for _ in range(arguments["rounds"]):
        start = time.time()
        handles = runner.submit_many(("single", None) for _ in range(arguments["count"]))
        for handle in handles:
            assert handle.result().status == "Completed"
        rates.append(len(handles) / (time.time() - start))
    say(waits=waits, rate=statistics.median(rates))
"""

KILLED = """
config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=50)
with cloaca.DefaultRunner(url, config) as runner:
    if arguments["submit"]:
        runner.submit_many(("single", None) for _ in range(50))
    runner.wait_until_idle(timeout=120)
    results = runner.list_executions(limit=100).items
    assert [result.status for result in results] == ["Completed"] * 50
    say(end=time.time(), attempts=max(result.tasks["only"].attempts for result in results))
"""

LISTENER = """
with cloaca.DefaultRunner(url) as runner:
    for number in range(arguments["waits"]):
        handle = runner.submit("listener", {"key": str(number)})
        before = time.time()
        if arguments["sends"]:
            runner.send("go", key=str(number))
        else:
            say(waits=number)
        at = handle.result().final_context["at"]
        if arguments["sends"]:
            say(before=before)
        say(at=at)
"""

SENDER = """
with cloaca.DefaultRunner(url) as runner:
    say(ready=True)
    for number in range(arguments["waits"]):
        listen()
        before = time.time()
        runner.send("go", key=str(number))
        say(before=before)
"""

COLD = """
with cloaca.DefaultRunner(url) as runner:
    assert runner.execute("single").status == "Completed"
"""

IDLE = """
with cloaca.DefaultRunner(url) as runner:
    runner.execute("single")
    for _ in range(arguments.get("waits", 0) // 500):
        runner.submit_many([("sleeper", None)] * 500)
    say(ready=True)
    listen()
    before, start = os.times(), time.monotonic()
    time.sleep(arguments["seconds"])
    after, end = os.times(), time.monotonic()
    used = after.user + after.system - before.user - before.system
    with open("/proc/self/status") as status:
        memory = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
    say(cpu=100 * used / (end - start), memory=memory / 1024)
    listen()
"""


class Process:
    """A script that runs in a new process."""

    def __init__(self, code: str, url: str, **arguments: Any) -> None:
        command = [sys.executable, "-c", SCRIPT + code, url, json.dumps(arguments)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def receive(self) -> Figures:
        """Returns the next figures that the process reports."""
        line = stream(self.process.stdout).readline()
        if not line:
            raise RuntimeError("a process ended before it reported; hint: see its error above")
        figures: Figures = json.loads(line)
        return figures

    def resume(self) -> None:
        """Lets the process continue."""
        stream(self.process.stdin).write("\n")
        stream(self.process.stdin).flush()

    def finish(self) -> None:
        """Lets the process continue, and waits until it has ended."""
        self.process.communicate("\n")
        if self.process.returncode:
            raise RuntimeError("a process failed; hint: see its error above")


def stream(pipe: IO[str] | None) -> IO[str]:
    """Returns the pipe, which is never `None` for the processes that this module starts."""
    assert pipe is not None
    return pipe


def cold(where: str, *, quick: bool) -> Figures:
    """W5: the time from a cold start to the first result, import time, and the cost of idling."""
    rounds = 1 if quick else 15

    def timed(*command: str) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
        return (time.perf_counter() - start) * 1e3

    urls = [databases.fresh(where, "W5") for _ in range(rounds)]
    with tempfile.NamedTemporaryFile("w", suffix=".py") as script:
        script.write(SCRIPT + COLD)
        script.flush()
        first = statistics.median(timed(script.name, url, "{}") for url in urls)
    bare = statistics.median(timed("-c", "pass") for _ in range(rounds))
    imported = statistics.median(timed("-c", "import cloaca") for _ in range(rounds))
    figures = {"first_result_ms": first, "import_ms": imported - bare}
    return figures | idle(databases.fresh(where, "W5"), quick=quick)


def idle(url: str, *, quick: bool, sleepers: int = 0) -> Figures:
    """Returns the CPU use and memory of an idle runner, and on PostgreSQL its queries per second.

    `sleepers` executions of the runner wait until a time that is a year away.
    """
    seconds = 1 if quick else 20
    waits = {"waits": sleepers} if sleepers else {}
    runner = Process(IDLE, url, seconds=seconds, **waits)
    runner.receive()
    on_postgres = url.startswith("postgres")
    count = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{}'"
    database = url.rpartition("/")[2]
    server = f"{url.rpartition('/')[0]}/postgres"
    if on_postgres and not quick:
        # The server can take ten seconds to update its counters.
        time.sleep(12)
    before = int(databases.sql(server, count.format(database))) if on_postgres else 0
    runner.resume()
    figures = runner.receive()
    after = int(databases.sql(server, count.format(database))) if on_postgres else 0
    runner.finish()
    queries = {"idle_queries_per_s": (after - before) / seconds} if on_postgres else {}
    return {"idle_cpu_percent": figures["cpu"], "memory_mb": figures["memory"]} | queries


def killed(where: str, *, quick: bool) -> Figures:
    """W8: `kill -9` with 50 running executions, then a restart."""
    url = databases.fresh(where, "W8")
    victim = Process(KILLED, url, submit=True, hang=600)
    for _ in range(50):
        victim.receive()
    victim.process.kill()
    victim.process.wait()
    start = time.time()
    successor = Process(KILLED, url, submit=False, hang=0)
    resumed = successor.receive()["started"] - start
    for _ in range(49):
        successor.receive()
    last = successor.receive()
    successor.finish()
    assert last["attempts"] == 2
    return {"resumed_after_s": resumed, "all_done_after_s": last["end"] - start}


def process_rate(url: str, processes: int, count: int) -> float:
    """Returns the total rate of processes that each submit and run `count` executions.

    The rate is in executions per second, from the first start to the last end.
    """
    started = [Process(RUNNER, url, count=count) for _ in range(processes)]
    for process in started:
        process.receive()
    for process in started:
        process.resume()
    spans = [process.receive() for process in started]
    for process in started:
        process.finish()
    span = max(figures["end"] for figures in spans) - min(figures["start"] for figures in spans)
    return processes * count / span


def together(where: str, *, quick: bool) -> Figures:
    """W9: four processes submit and run executions on one database, compared to one process."""
    count = 50 if quick else 2000
    one = process_rate(databases.fresh(where, "W9"), 1, count)
    four = process_rate(databases.fresh(where, "W9"), 4, count)
    return {"executions_per_s": four, "one_process_per_s": one, "of_one_process": four / one}


def apart(where: str, *, quick: bool) -> Figures:
    """W10: one process submits executions; one or four other processes run the executions."""
    figures = {}
    for runners in (1, 4):
        url = databases.fresh(where, "W10")
        workers = [Process(WORKER, url) for _ in range(runners)]
        for worker in workers:
            worker.receive()
        counts = (
            {"alone": 5, "count": 50, "rounds": 1}
            if quick
            else {"alone": 200, "count": 20_000, "rounds": 3}
        )
        submitter = Process(SUBMITTER, url, **counts)
        figures[runners] = submitter.receive()
        submitter.finish()
        for worker in workers:
            worker.finish()
    one, four = figures[1]["rate"], figures[4]["rate"]
    waits = [wait * 1e3 for wait in figures[4]["waits"]]
    return {
        "start_elsewhere_p50_ms": statistics.median(waits),
        "executions_per_s": four,
        "one_process_per_s": one,
        "of_one_process": four / one,
    }


def signals(where: str, *, quick: bool) -> Figures:
    """W14: the time from `send` to the start of the waiting task, and the cost of idling.

    The idle runner has many executions that wait until a time that is a year away.
    """
    count = 10 if quick else 300
    url = databases.fresh(where, "W14")
    listener = Process(LISTENER, url, waits=count, sends=True)
    here = []
    for _ in range(count):
        before = listener.receive()["before"]
        here.append((listener.receive()["at"] - before) * 1e6)
    listener.finish()
    url = databases.fresh(where, "W14")
    sender = Process(SENDER, url, waits=count)
    sender.receive()
    listener = Process(LISTENER, url, waits=count, sends=False)
    elsewhere = []
    for _ in range(count):
        listener.receive()
        sender.resume()
        before = sender.receive()["before"]
        elsewhere.append((listener.receive()["at"] - before) * 1e3)
    listener.finish()
    sender.finish()
    figures = {
        "send_p50_us": statistics.median(here),
        "send_elsewhere_p50_ms": statistics.median(elsewhere),
    }
    sleepers = 1_000 if quick else 100_000
    return figures | idle(databases.fresh(where, "W14"), quick=quick, sleepers=sleepers)


WORKLOADS: dict[str, Callable[..., Figures]] = {
    "W5": cold,
    "W8": killed,
    "W9": together,
    "W10": apart,
    "W14": signals,
}
