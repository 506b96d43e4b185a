"""The protocol shared by the programs of all peers, including cloaca's.

    python NAME_peer.py WORKLOAD URL [--count N] [--seconds S]

Prints one JSON object: `{"figures": {…}, "count": N, "settings": "…"}`, or `{"cannot": "reason"}`.
A peer that is too slow for N executions within S seconds runs fewer, and `count` is the actual
number. This module runs in the peer's environment, so it imports only the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, ClassVar

#: The number of tasks that cloaca, FlexiQ, Huey and Procrastinate run at once: cloaca's default.
WORKERS = 4

#: Default number of executions of each workload; for W12, of items.
COUNTS = {"W1": 500, "W2": 2000, "W2-jobs": 2000, "W3": 300, "W4": 200, "W12": 100_000}

#: A value of 100 KB as JSON.
PAYLOAD = [{"name": f"item {number}", "value": number} for number in range(2700)]


class Peer:
    """A library that uses one database. The constructor starts the library."""

    #: Reasons why the library cannot express a workload, by the name of the workload.
    cannot: ClassVar[dict[str, str]] = {}
    #: The databases that the library supports.
    databases: ClassVar[tuple[str, ...]] = ("sqlite", "postgres")
    #: The settings that make the library's results durable, by database.
    settings: ClassVar[dict[str, str]] = {}

    def __init__(self, url: str, workload: str) -> None:
        raise NotImplementedError

    def chain(self) -> None:
        """Run a chain of three tasks and wait for its result."""
        raise NotImplementedError

    def singles(self, count: int) -> None:
        """Submit one-task executions at once, and wait for all results."""
        raise NotImplementedError

    def jobs(self, count: int) -> None:
        """Submit bare jobs (outside of any workflow) at once, and wait for all results.
        Only peers that also have workflows implement this method.
        """
        raise NotImplementedError

    def fans(self, count: int) -> None:
        """Submit executions at once, each with a fan-out of eight, and wait for all results."""
        raise NotImplementedError

    def large(self) -> None:
        """Run a chain of three tasks in which the first task passes `PAYLOAD` to the last."""
        raise NotImplementedError

    def larges(self, count: int) -> None:
        """Submit the chains of `large` at once, and wait for all results."""
        raise NotImplementedError

    def mapped(self, count: int) -> None:
        """Run a task that makes a list, one task per element, and a task that reads all results."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop the library."""


def timed(work: Callable[..., None], *arguments: int) -> float:
    """Run the work, and return its duration in seconds."""
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def alone(work: Callable[[], None], count: int, seconds: float) -> tuple[float, int]:
    """Run executions one at a time; return their median time in microseconds, and the count."""
    end = time.monotonic() + seconds
    for _ in range(5):
        work()
    times: list[float] = []
    while len(times) < count and (len(times) < 5 or time.monotonic() < end):
        times.append(timed(work) * 1e6)
    return statistics.median(times), len(times)


def at_once(work: Callable[[int], None], count: int, seconds: float) -> tuple[float, int]:
    """Return the rate per second (the median of three rounds, or of one), and a round's size.

    The unit is an execution; for W12, an item.
    """
    trial = max(1, min(count, 10))
    # The trial is measured twice, because the first run creates threads and connections.
    estimate = min(timed(work, trial) for _ in range(2)) / trial
    if trial * 10 < count and 20 * trial * estimate < seconds:
        # Fixed delays dominate a short trial, so a longer one gives a better estimate.
        estimate = timed(work, 10 * trial) / (10 * trial)
    size = max(trial, min(count, int(seconds / estimate)))
    rounds = 3 if 3 * size * estimate < seconds else 1
    return size / statistics.median(timed(work, size) for _ in range(rounds)), size


def measure(peer: Peer, workload: str, count: int, seconds: float) -> tuple[dict[str, float], int]:
    """Measure a workload; return its figures and the number of executions."""
    if workload == "W1":
        median, size = alone(peer.chain, count, seconds)
        return {"p50_us": median}, size
    if workload == "W3":
        rate, size = at_once(peer.fans, count, seconds)
        return {"tasks_per_s": 10 * rate}, size
    if workload == "W4":
        median, _ = alone(peer.large, max(1, count // 2), seconds / 2)
        rate, size = at_once(peer.larges, count, seconds / 2)
        return {"p50_us": median, "executions_per_s": rate}, size
    if workload == "W12":
        rate, size = at_once(peer.mapped, count, seconds)
        return {"items_per_s": rate}, size
    rate, size = at_once(peer.jobs if workload == "W2-jobs" else peer.singles, count, seconds)
    return {"executions_per_s": rate}, size


def main(peer_class: type[Peer]) -> None:
    """Run the workload that is named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=COUNTS)
    parser.add_argument("url", help="a new database: sqlite:////absolute/path or postgresql://…")
    parser.add_argument("--count", type=int, help="number of executions")
    parser.add_argument("--seconds", type=float, default=30, help="approximate duration")
    options = parser.parse_args()
    # Keeps the output of the libraries apart from the result.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def report(result: dict[str, Any]) -> None:
        answer.write(json.dumps(result) + "\n")
        answer.flush()

    database = options.url.partition(":")[0].replace("postgresql", "postgres")
    if database not in peer_class.databases:
        report({"cannot": f"it does not support {database}"})
        return
    if options.workload in peer_class.cannot:
        report({"cannot": peer_class.cannot[options.workload]})
        return
    peer = peer_class(options.url, options.workload)
    try:
        count = options.count or COUNTS[options.workload]
        figures, size = measure(peer, options.workload, count, options.seconds)
        report({"figures": figures, "count": size, "settings": peer_class.settings[database]})
    except Exception as error:
        # The last line on stderr may come from another thread of the library.
        traceback.print_exc()
        report({"cannot": f"it failed: {type(error).__name__}: {error}"})
    finally:
        # Some libraries leave threads behind that keep the process alive, and some never finish
        # closing. Therefore the process waits for at most 10 s, and then exits at once.
        closing = threading.Thread(target=peer.close, daemon=True)
        closing.start()
        closing.join(10)
        if sys.exc_info()[0] is None:
            os._exit(0)
