"""W19: the speed of the HTTP API with a million executions, and the cost of an open page."""

from __future__ import annotations

import http.client
import json
import logging
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import databases

import cloaca
import cloaca.web

Figures = dict[str, Any]

TOKEN = "benchmark-token-of-w19"
BATCH = 5_000
BURST = 2_000
#: One in 97 executions fails, and one in 1,009 has a label and a key.
EVERY_FAILED = 97
EVERY_LABELLED = 1_009
WORKFLOWS = 10

#: The requests of the Attention page (`HOME`), and of the list of executions (`LIST`).
HOME = ["/attention?since=24h", "/executions?status=Completed&since=24h&limit=200"]
HOME += ["/executions?limit=1", "/waits?kind=approval&limit=200", "/executions?limit=8"]
LIST = ["/executions?limit=50", "/counts", "/workflows"]

#: A program that behaves like an open page in a browser: it follows the stream of changes, and
#: repeats its requests at most once in 500 ms. It prints a line when the stream has started.
PAGE = """
import http.client, json, sys, time
address, token, shown = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
headers = {"Authorization": "Bearer " + token}
stream = http.client.HTTPConnection(address)
stream.request("GET", "/api/v1/stream", headers=headers)
answer = stream.getresponse()
assert answer.status == 200, answer.status
print("follows", flush=True)
asking = http.client.HTTPConnection(address)
last = 0.0
while line := answer.readline():
    if not line.startswith(b"event: changed"):
        continue
    time.sleep(max(0.0, last + 0.5 - time.monotonic()))
    last = time.monotonic()
    for path in shown:
        asking.request("GET", "/api/v1" + path, headers=headers)
        asking.getresponse().read()
"""


def define() -> None:
    """Defines the workflows of this workload."""
    for number in range(WORKFLOWS):
        builder = cloaca.WorkflowBuilder(f"job-{number}")
        builder.tag("team", f"team-{number % 3}")
        with builder:

            @cloaca.task(id="only", retry_attempts=1)
            def only(context: cloaca.Context) -> None:
                if context.get("fails"):
                    raise ValueError(f"order {context['number']} is not known")

    for name, width in [("wide", 10_000), ("wide-quick", 100)]:
        with cloaca.WorkflowBuilder(name):
            middle = [f"middle{index}" for index in range(width)]
            for task in ["first", *middle]:
                cloaca.task(id=task, dependencies=[] if task == "first" else ["first"])(nothing)


def nothing(context: cloaca.Context) -> None:
    """Does nothing."""


def submission(number: int) -> dict[str, Any]:
    """Returns a submission: one in EVERY_FAILED fails, one in EVERY_LABELLED has key and label."""
    entry: dict[str, Any] = {"workflow": f"job-{number % WORKFLOWS}"}
    if number % EVERY_FAILED == 0:
        entry["context"] = {"number": number, "fails": True}
    if number % EVERY_LABELLED == 0:
        entry["labels"] = {"order": str(number)}
        entry["key"] = f"order-{number}"
    return entry


def fill(runner: cloaca.DefaultRunner, count: int) -> None:
    """Runs `count` executions."""
    for begin in range(0, count, BATCH):
        numbers = range(begin, min(count, begin + BATCH))
        for handle in runner.submit_many(submission(number) for number in numbers):
            handle.result()


class Client:
    """A connection to the API."""

    def __init__(self, url: str) -> None:
        self.address = url.partition("://")[2].partition("/")[0]
        self._connection = http.client.HTTPConnection(self.address)

    def get(self, path: str) -> Any:
        """Returns the answer to one request."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        self._connection.request("GET", f"/api/v1{path}", headers=headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"GET {path} answered {answer.status}: {body.decode()}")
        return json.loads(body)

    def times(self, paths: list[str], rounds: int) -> list[float]:
        """Requests all paths one after the other, in several rounds.

        Returns the duration of each round in milliseconds, in ascending order.
        """
        times = []
        for _ in range(rounds):
            start = time.perf_counter()
            for path in paths:
                self.get(path)
            times.append((time.perf_counter() - start) * 1e3)
        return sorted(times)


def p95(times: list[float]) -> float:
    """Returns the 95th percentile of sorted times."""
    return times[len(times) * 95 // 100]


def filters(client: Client) -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the filters that an index covers, each with a name."""
    newest = client.get("/executions?limit=1")["items"][0]
    middle = client.get("/executions?workflow=job-3&limit=200")["items"][-1]
    yield "none", {}
    yield "status", {"status": "Failed"}
    yield "open", {"status": "Running"}
    yield "not-status", {"-status": "Completed"}
    yield "workflow", {"workflow": "job-3"}
    yield "workflow and status", {"workflow": "job-3", "status": "Failed"}
    yield "version", {"version": newest["version"]}
    yield "tag", {"tag.team": "team-1"}
    yield "label", {"label.order": str(EVERY_LABELLED * 3)}
    yield "key", {"key": f"order-{EVERY_LABELLED * 2}"}
    yield "id", {"id": middle["id"][:13]}
    yield "since", {"since": middle["created_at"]}
    yield "until", {"until": middle["created_at"]}
    yield "runner", {"runner": client.get("/runners")["items"][0]["id"]}
    yield "parent", {"parent": newest["id"]}


def scans() -> Iterator[tuple[str, dict[str, str]]]:
    """Yields the filters that no index covers: a request reads a limited number of executions."""
    yield "error", {"error": "no execution has this text"}
    yield "error that exists", {"error": "is not known"}
    yield "input", {"input.number": "-1"}


def pages(client: Client, name: str, query: dict[str, str], rounds: int) -> tuple[str, float]:
    """Returns a filter's name, and the 95th percentile of its pages' durations in milliseconds.

    The pages are the first one, the next one, and the first one again as the previous page.
    """
    first = f"/executions?{urlencode({**query, 'limit': '50'})}"
    times = client.times([first], rounds)
    cursor = client.get(first)["next"]
    if cursor is not None:
        following = f"{first}&cursor={quote(cursor)}"
        times += client.times([following], rounds)
        back = client.get(following)["prev"]
        if back is not None:
            times += client.times([f"{first}&cursor={quote(back)}"], rounds)
    return name, p95(sorted(times))


def burst(runner: cloaca.DefaultRunner, seconds: float) -> float:
    """Runs W2 repeatedly for `seconds`, and returns executions per second."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() < start + seconds:
        for handle in runner.submit_many(("job-1", None) for _ in range(BURST)):
            handle.result()
        count += BURST
    return count / (time.perf_counter() - start)


def page_cost(runner: cloaca.DefaultRunner, client: Client, *, quick: bool) -> float:
    """Returns W2's rate beside an open page, divided by its rate alone.

    Measures the two rates alternately, and returns the median of the ratios.
    """
    rounds, seconds = (1, 0.2) if quick else (6, 4.0)
    ratios = []
    for number in range(rounds):
        rates: dict[bool, float] = {}
        # The order changes, because the database grows with every burst.
        for opened in (number % 2 == 0, number % 2 == 1):
            if not opened:
                rates[opened] = burst(runner, seconds)
                continue
            command = [sys.executable, "-c", PAGE, client.address, TOKEN, json.dumps(LIST)]
            page = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            try:
                assert page.stdout is not None
                assert page.stdout.readline() == "follows\n"
                rates[opened] = burst(runner, seconds)
            finally:
                page.kill()
                page.wait()
        ratios.append(rates[True] / rates[False])
    return statistics.median(ratios)


def web(where: str, *, quick: bool) -> Figures:
    """W19: the API with a million executions.

    Measures lists, scans, the Attention page, the page of a large execution, and an open page's
    effect on W2.
    """
    define()
    # Some executions fail on purpose, so their failures are not logged.
    logging.getLogger("cloaca").setLevel(logging.CRITICAL)
    count, rounds = (500, 3) if quick else (1_000_000, 40)
    url = databases.fresh(where, "W19")
    with cloaca.DefaultRunner(url) as runner:
        fill(runner, count)
        wide = runner.execute("wide-quick" if quick else "wide")
        databases.settle(url)
        with cloaca.web.serve(url, token=TOKEN) as server:
            client = Client(server.link)
            indexed = [pages(client, *each, rounds) for each in filters(client)]
            scanned = [pages(client, *each, rounds) for each in scans()]
            home = p95(client.times(HOME, rounds))
            run = [f"/executions/{wide.execution_id}", f"/executions/{wide.execution_id}/states"]
            run.append(f"/executions/{wide.execution_id}/tasks?limit=200")
            version = quote(client.get(run[0])["version"])
            run.append(f"/workflows/{wide.workflow_name}/versions/{version}/graph")
            large = p95(client.times(run, rounds))
            cost = page_cost(runner, client, quick=quick)
    return {
        "list_p95_ms": max(each for _, each in indexed),
        "scan_p95_ms": max(each for _, each in scanned),
        "home_p95_ms": home,
        "run_of_10000_p95_ms": large,
        "w2_beside_page": cost,
        "lists_ms": {name: round(each, 2) for name, each in indexed + scanned},
    }
