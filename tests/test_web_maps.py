"""The HTTP API: the items of maps, their counts, and changes of a running map."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest

import cloaca
import cloaca.web
from web_support import TOKEN, call


@dataclass
class Mapped:
    """A server, and an execution in its database whose map is blocked at item 3."""

    api: str
    path: str
    handle: cloaca.WorkflowHandle
    gate: threading.Event
    url: str


@pytest.fixture
def mapped(runner: cloaca.DefaultRunner, database: str) -> Iterator[Mapped]:
    gate = threading.Event()
    with cloaca.WorkflowBuilder("web_map", input={"urls": list[str], "password": str}):

        @cloaca.task(over="urls", parallel=1, retry_attempts=1)
        def fetch(url: str, password: str) -> dict[str, object]:
            if url == "slow":
                gate.wait(60)
            if url.startswith("bad"):
                raise ValueError(f"cannot fetch {url} with {password}")
            return {"length": len(url), "api_key": "sk-live-12345"}

        cloaca.task(id="after", dependencies=["fetch"])(lambda context: None)

    urls = ["a", "bad 1", "b", "slow", *("bad" for _ in range(8)), "c"]
    handle = runner.submit("web_map", {"urls": urls, "password": "hunter2-long"})
    end = time.monotonic() + 60
    while [item.index for item in runner.items(handle, "fetch", status="Running")] != [3]:
        assert time.monotonic() < end
    with cloaca.web.serve(database, token=TOKEN) as server:
        api = f"{server.url}api/v1"
        yield Mapped(api, f"{api}/executions/{handle.id}/tasks/fetch", handle, gate, database)
    gate.set()
    handle.result(timeout=60)


def indexes(page: dict[str, list[dict[str, int]]]) -> list[int]:
    """Returns the indexes of the items on a page."""
    return [item["index"] for item in page["items"]]


def test_items_are_paged_both_ways(mapped: Mapped) -> None:
    first = call(f"{mapped.path}/items?limit=5").json()
    assert (indexes(first), first["prev"]) == ([0, 1, 2, 3, 4], None)
    second = call(f"{mapped.path}/items?limit=5&cursor={quote(first['next'])}").json()
    assert indexes(second) == [5, 6, 7, 8, 9]
    last = call(f"{mapped.path}/items?limit=5&cursor={quote(second['next'])}").json()
    assert (indexes(last), last["next"]) == ([10, 11, 12], None)
    back = call(f"{mapped.path}/items?limit=5&cursor={quote(last['prev'])}").json()
    assert back == second
    back = call(f"{mapped.path}/items?limit=5&cursor={quote(second['prev'])}").json()
    assert back == first


def test_items_are_filtered_by_their_status(mapped: Mapped) -> None:
    failed = call(f"{mapped.path}/items?status=Failed").json()
    assert indexes(failed) == [1]
    (item,) = failed["items"]
    assert item["error"]["type"] == "ValueError"
    assert "cannot fetch bad 1 with •••" in item["error"]["message"]
    assert "hunter2" not in str(failed)
    pending = call(f"{mapped.path}/items?status=Pending&limit=3").json()
    assert indexes(pending) == [4, 5, 6]
    more = call(
        f"{mapped.path}/items?status=Pending&limit=3&cursor={quote(pending['next'])}"
    ).json()
    assert indexes(more) == [7, 8, 9]
    back = call(f"{mapped.path}/items?status=Pending&limit=3&cursor={quote(more['prev'])}").json()
    assert back == pending
    mapped.gate.set()
    mapped.handle.result(timeout=60)
    failed = call(f"{mapped.path}/items?status=Failed&limit=4").json()
    more = call(f"{mapped.path}/items?status=Failed&limit=4&cursor={quote(failed['next'])}").json()
    assert indexes(failed) + indexes(more) == [1, 4, 5, 6, 7, 8, 9, 10]
    back = call(f"{mapped.path}/items?status=Failed&limit=4&cursor={quote(more['prev'])}").json()
    assert back == failed
    assert call(f"{mapped.path}/items?status=Waiting").status == 422
    assert call(f"{mapped.path}/items?state=Failed").json()["code"] == "unknown_parameter"


def test_values_of_items_need_a_permission_and_are_redacted(mapped: Mapped) -> None:
    shown = call(f"{mapped.path}/items?limit=1").json()["items"][0]
    assert shown["value"] == {"length": 1, "api_key": "•••"}
    assert shown["value_bytes"] == len('{"length":1,"api_key":"sk-live-12345"}')
    with cloaca.web.serve(mapped.url, token=TOKEN, hide_payloads=True) as server:
        path = mapped.path.replace(mapped.api, f"{server.url}api/v1")
        hidden = call(f"{path}/items?limit=1").json()["items"][0]
    assert hidden["value"] is None
    assert hidden["value_bytes"] == shown["value_bytes"]


def test_task_shows_the_counts_of_its_items(mapped: Mapped) -> None:
    counts = {
        "total": 13,
        "states": {"Completed": 2, "Failed": 1, "Running": 1, "Pending": 9},
        "parallel": 1,
        "max_failed": None,
    }
    assert call(mapped.path).json()["map"] == counts
    tasks = call(mapped.path.rpartition("/")[0]).json()["items"]
    assert [task["map"] for task in tasks] == [counts, None]
    reasons = call(f"{mapped.api}/executions/{mapped.handle.id}/explain").json()["items"]
    assert (reasons[0]["code"], reasons[0]["task"]) == ("map", "fetch")
    assert "2 of 13 items done, 1 failed, 1 running (limit 1)" in reasons[0]["sentence"]


def test_parallel_of_a_running_map_can_be_changed(mapped: Mapped) -> None:
    answer = call(f"{mapped.path}/map", "PATCH", {"parallel": 7})
    assert (answer.status, answer.json()["parallel"]) == (200, 7)
    answer = call(f"{mapped.path}/map", "PATCH", {"parallel": None})
    assert (answer.status, answer.json()["parallel"]) == (200, None)
    for body in ({}, {"parallel": 0}, {"parallel": "2"}, {"parallel": 1, "tolerate": 2}):
        assert call(f"{mapped.path}/map", "PATCH", body).status in (400, 422), body
    other = f"{mapped.path.rpartition('/')[0]}/after"
    assert call(f"{other}/map", "PATCH", {"parallel": 2}).json()["code"] == "task_invalid"
    assert call(f"{other}/items").status in (409, 422)
    mapped.gate.set()
    mapped.handle.result(timeout=60)
    answer = call(f"{mapped.path}/map", "PATCH", {"parallel": 2})
    assert (answer.status, answer.json()["current"]) == (409, "Failed")
