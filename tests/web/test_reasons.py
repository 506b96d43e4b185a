"""The page of a schedule says why it did not fire, and the list of schedules shows the reason."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import cloaca.web

from .conftest import TOKEN, Open, settle, violations

#: A program with schedules that do not fire, each for another reason. It prints their ids.
SCHEDULES = """
import json, sys, threading, time
import cloaca

gate = threading.Event()

with cloaca.WorkflowBuilder("slow_tick"):

    @cloaca.task
    def wait(context):
        gate.wait(30)

with cloaca.WorkflowBuilder("quick_tick"):

    @cloaca.task
    def work(context):
        pass

@cloaca.trigger(on="quick_tick", poll_interval="200ms")
def broken_inbox():
    raise ValueError("no inbox")

def wait_for(id, outcome):
    deadline = time.monotonic() + 60
    while outcome not in {row["outcome"] for row in runner.get_cron_execution_history(id)}:
        assert time.monotonic() < deadline, outcome
        time.sleep(0.05)

EACH_SECOND = "* * * * * *"
with cloaca.DefaultRunner(sys.argv[1]) as runner:
    register = runner.register_cron_workflow
    ids = {
        "overlapped": register("slow_tick", EACH_SECOND, overlap="skip"),
        "queued": register("slow_tick", EACH_SECOND, overlap="queue", instance_name="queue"),
        "skipped": register("nowhere", EACH_SECOND),
        "missed": register("quick_tick", EACH_SECOND, catchup="skip"),
        "disabled": register("quick_tick", "0 0 1 1 *", enabled=False),
    }
    for outcome in ("overlapped", "queued", "skipped"):
        wait_for(ids[outcome], outcome)
    for outcome in ("overlapped", "queued"):
        runner.set_cron_schedule_enabled(ids[outcome], False)
    gate.set()
# No runner is live for some ticks.
time.sleep(3)
with cloaca.DefaultRunner(sys.argv[1]) as runner:
    wait_for(ids["missed"], "missed")
print(json.dumps(ids))
"""


@pytest.fixture(scope="module")
def silent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, str]]]:
    """A server of a database without a live runner, and the ids of schedules that do not fire."""
    url = f"sqlite:///{tmp_path_factory.mktemp('silent') / 'silent.db'}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    ended = subprocess.run(
        [sys.executable, "-c", SCHEDULES, url],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=180,
    )
    with cloaca.web.serve(url, token=TOKEN) as server:
        yield server, json.loads(ended.stdout.splitlines()[-1])


#: The reasons: the outcome of a tick, and a part of what the table of ticks says about it.
OUTCOMES = {
    "overlapped": "an earlier execution of the schedule had not ended",
    "missed": "no runner was live when it was due",
    "skipped": "nowhere",
}


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_tick_that_started_nothing_has_a_reason(
    silent: tuple[Any, dict[str, str]], open_page: Open, outcome: str
) -> None:
    server, ids = silent
    page = open_page(server.link, f"schedules/{ids[outcome]}")
    rows = page.locator("section[aria-labelledby=ticks] tbody tr")
    row = rows.filter(has=page.get_by_role("cell", name=outcome, exact=True)).first
    row.get_by_text(OUTCOMES[outcome]).wait_for()
    settle(page)
    assert violations(page) == []


def test_page_of_a_schedule_says_why_it_does_not_fire(
    silent: tuple[Any, dict[str, str]], open_page: Open
) -> None:
    server, ids = silent
    page = open_page(server.link, f"schedules/{ids['disabled']}")
    why = page.locator(".why")
    why.get_by_text("is disabled").wait_for()
    why.get_by_text("To resolve it: enable the schedule.").wait_for()
    page = open_page(server.link, f"schedules/{ids['skipped']}")
    why = page.locator(".why")
    why.get_by_text("no program has stored a definition of it").wait_for()
    why.get_by_text("To resolve it: start a runner.").wait_for()
    why.get_by_text("started nothing").wait_for()


def test_list_of_schedules_shows_why_one_does_not_fire(
    silent: tuple[Any, dict[str, str]], open_page: Open
) -> None:
    server, ids = silent
    page = open_page(server.link, "schedules")
    row = page.locator(f"tr:has(a[href$='{ids['skipped']}'])")
    row.get_by_text("no program has stored a definition of it").wait_for()
    page.locator(f"tr:has(a[href$='{ids['disabled']}'])").get_by_text("disabled").wait_for()
    settle(page)
    assert violations(page) == []
    page.locator("tr", has_text="broken_inbox").get_by_role("link").first.click()
    page.get_by_text("The last poll failed").wait_for()
    page.locator(".box.bad").get_by_text("no inbox").wait_for()
