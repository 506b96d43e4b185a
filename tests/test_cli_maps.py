"""The command line: commands about maps and their items."""

from __future__ import annotations

import json
import time

import pytest

MAPPED = """
import time
from pathlib import Path

import cloaca

with cloaca.WorkflowBuilder("pages", input={"urls": list[str], "gate": str}):

    @cloaca.task(over="urls", parallel=1, retry_attempts=1)
    def fetch(url: str, gate: str) -> dict:
        while url == "slow" and not Path(gate).exists():
            time.sleep(0.01)
        if url.startswith("bad"):
            raise ValueError(f"cannot fetch {url}")
        return {"length": len(url)}

    cloaca.task(id="after", dependencies=["fetch"])(lambda context: None)
"""


@pytest.fixture
def running(shell):
    """The id of an execution whose map is blocked at its third item, and the path of a file.

    The item ends once the file exists.
    """
    (shell.folder / "mapped.py").write_text(MAPPED)
    worker = shell.start("worker", "mapped")
    assert worker.stderr.readline()
    gate = shell.folder / "gate"
    urls = ["a", "bad 1", "slow", *(f"bad {number}" for number in range(2, 9))]
    input = json.dumps({"urls": urls, "gate": str(gate)})
    id = shell.json("submit", "pages", input)["execution_id"]
    while not shell.json("items", id, "fetch", "--status", "failed")["items"]:
        pass
    return id, gate


def ended(shell, id):
    end = time.monotonic() + 60
    while (document := shell.json("show", id))["status"] not in ("Completed", "Failed"):
        assert time.monotonic() < end
    return document


def test_items_are_listed_page_by_page(shell, running):
    id, gate = running
    page = shell.json("items", id, "fetch", "--limit", "2")
    first, second = page["items"]
    assert (first["index"], first["status"], first["value"]) == (0, "Completed", {"length": 1})
    assert (second["status"], second["error"]["message"]) == ("Failed", "cannot fetch bad 1")
    assert "ValueError" in second["error"]["traceback"]
    more = shell.json("items", id, "fetch", "--limit", "2", "--cursor", page["next_cursor"])
    assert [item["index"] for item in more["items"]] == [2, 3]
    pending = shell.json("items", id, "fetch", "--status", "pending")["items"]
    assert [item["index"] for item in pending] == list(range(3, 10))
    output, errors = shell.run("items", id, "fetch", "--status", "Failed", "--limit", "1")
    assert "ITEM  STATUS  ATTEMPTS" in output
    assert "ValueError: cannot fetch bad 1" in output
    assert errors == ""
    gate.touch()
    ended(shell, id)


def test_show_has_the_counts_and_the_first_failed_items(shell, running):
    id, gate = running
    output, _ = shell.run("show", id)
    (line,) = [line for line in output.splitlines() if line.startswith("fetch ")]
    assert line.endswith("1/10 done, 1 failed, 1 running, parallel 1")
    assert "fetch[1]  ValueError: cannot fetch bad 1" in output
    gate.touch()
    tasks = {task["task_id"]: task for task in ended(shell, id)["tasks"]}
    assert tasks["fetch"]["map"]["total"] == 10
    assert tasks["fetch"]["map"]["states"]["Failed"] == 8
    assert tasks["fetch"]["map"]["parallel"] == 1
    assert "map" not in tasks["after"]
    output, errors = shell.run("show", id)
    assert "2/10 done, 8 failed, parallel 1; ValueError: 8 of 10 items" in output
    assert "fetch[6]  ValueError: cannot fetch bad 5" in output
    assert "fetch[7]" not in output
    assert f"3 more: cloaca items {id} fetch --status failed" in errors


def test_set_map_changes_a_running_map(shell, running):
    id, gate = running
    assert shell.json("set-map", id, "fetch", "--parallel", "2") == {
        "execution_id": id,
        "task_id": "fetch",
        "parallel": 2,
    }
    output, _ = shell.run("show", id)
    assert "parallel 2" in output
    output, _ = shell.run("set-map", id, "fetch", "--no-limit")
    assert output.strip() == f"{id} fetch without a limit"
    _, errors = shell.run("set-map", id, "fetch", status=2)
    assert "give either --parallel or --no-limit" in errors
    _, errors = shell.run("set-map", id, "after", "--parallel", "2", status=1)
    assert "is not a map" in errors
    gate.touch()
    ended(shell, id)
    _, errors = shell.run("set-map", id, "fetch", "--parallel", "2", status=1)
    assert "is not running" in errors
    _, errors = shell.run("items", id, "after", status=1)
    assert "is not a map" in errors
