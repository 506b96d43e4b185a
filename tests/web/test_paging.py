"""The web page loads long lists in parts, with cursors, and shows all their rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import cloaca
import cloaca.web
from web_support import call

from .conftest import TOKEN, Open

#: The number of tasks of the execution.
TASKS = 450
#: The number of log lines, which five tasks print. A runner keeps at most 500 lines of an attempt.
LINES = 2_300
LINES_OF_TASK = LINES // 5
#: The number of schedules.
SCHEDULES = 230
#: The number of executions of one schedule, one for each day of the period that is backfilled.
BACKFILLED = 70


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, str, str]]:
    """A server and the ids of an execution and a schedule, whose lists have several pages."""
    with cloaca.WorkflowBuilder("web_paged"):
        for number in range(TASKS):

            @cloaca.task(id=f"task_{number:03}")
            def work(context: cloaca.Context, number: int = number) -> None:
                for line in range(LINES_OF_TASK if number < 5 else 0):
                    print(f"line {line:04}")

    with cloaca.WorkflowBuilder("web_paged_cron"):

        @cloaca.task()
        def tick(context: cloaca.Context) -> None:
            pass

    url = f"sqlite:///{tmp_path_factory.mktemp('paged') / 'paged.db'}"
    config = cloaca.DefaultRunnerConfig(capture_logs=True)
    with cloaca.DefaultRunner.with_config(url, config) as runner:
        execution = runner.submit("web_paged")
        execution.result(timeout=120)
        for number in range(SCHEDULES):
            runner.register_cron_workflow(
                "web_paged_cron", "0 0 * * *", instance_name=f"s{number:03}", enabled=False
            )
        (schedule, *_) = runner.list_cron_schedules()
        with cloaca.web.serve(url, token=TOKEN) as server:
            days = {"from": "2026-01-01T12:00:00Z", "to": "2026-03-12T12:00:00Z"}
            path = f"{server.url}api/v1/schedules/{schedule['id']}/backfill"
            started = call(path, "POST", days, token=TOKEN)
            assert started.status == 200, started.body
            runner.wait_until_idle(timeout=60)
            yield server, execution.id, str(schedule["id"])


def follow(page: Any) -> list[dict[str, list[str]]]:
    """Returns a list that receives the query of each later list request of the page."""
    asked: list[dict[str, list[str]]] = []

    def note(request: Any) -> None:
        if re.search(r"/(tasks|events|logs|schedules|ticks)\?", request.url):
            asked.append(parse_qs(urlsplit(request.url).query))

    page.on("request", note)
    return asked


def check_queries(asked: list[dict[str, list[str]]], pages: int) -> None:
    """Asserts that all pages after the first were requested with a cursor."""
    assert len([query for query in asked if "cursor" in query]) >= pages - 1
    assert not [query for query in asked if "after" in query or "offset" in query]


@pytest.mark.parametrize(
    ("tab", "label", "count", "pages"),
    [
        ("", "Tasks", TASKS, 3),
        ("/timeline", "Timeline by task", TASKS, 3),
        ("/history", "Events", 2 * TASKS, 5),
        ("/logs", "Log lines", LINES, 3),
    ],
)
def test_list_of_an_execution_has_the_rows_of_all_pages(
    long: tuple[Any, str, str], open_page: Open, tab: str, label: str, count: int, pages: int
) -> None:
    server, id, _ = long
    page = open_page(server.link)
    asked = follow(page)
    page.goto(f"{server.url}executions/{id}{tab}")
    rows = page.get_by_role("list", name=label, exact=True)
    rows.locator(f"[role=listitem][aria-setsize='{count}'], [aria-setsize]").first.wait_for()
    size = int(rows.get_by_role("listitem").first.get_attribute("aria-setsize") or 0)
    assert size >= count
    # Only the visible rows are in the document. The last row appears after scrolling to the end.
    assert rows.get_by_role("listitem").count() < 120
    rows.evaluate("box => { box.scrollTop = box.scrollHeight; }")
    rows.locator(f"[aria-posinset='{size}']").wait_for()
    check_queries(asked, pages)


def test_all_schedules_are_listed(long: tuple[Any, str, str], open_page: Open) -> None:
    server, _, _ = long
    page = open_page(server.link)
    asked = follow(page)
    page.goto(f"{server.url}schedules")
    page.locator(".schedule-list tbody tr").nth(SCHEDULES - 1).wait_for()
    assert page.locator(".schedule-list tbody tr").count() == SCHEDULES
    check_queries(asked, 2)


def test_ticks_are_paged_both_ways(long: tuple[Any, str, str], open_page: Open) -> None:
    server, _, schedule = long
    page = open_page(server.link)
    asked = follow(page)
    page.goto(f"{server.url}schedules/{schedule}")
    rows = page.locator("section[aria-labelledby=ticks] tbody tr")
    rows.nth(49).wait_for()
    first = rows.first.inner_text()
    pager = page.get_by_role("navigation", name="Pages of the ticks")
    assert pager.get_by_role("button", name="Newer").count() == 0
    pager.get_by_role("button", name="Older").click()
    pager.get_by_role("button", name="Newer").wait_for()
    assert rows.count() == BACKFILLED - 50
    pager.get_by_role("button", name="Newer").click()
    rows.nth(49).wait_for()
    assert rows.first.inner_text() == first
    check_queries(asked, 2)


def test_executions_are_paged_both_ways_and_by_url(
    long: tuple[Any, str, str], open_page: Open
) -> None:
    server, _, _ = long
    page = open_page(server.link, "executions?workflow=web_paged_cron")
    rows = page.locator(".runs-list tbody tr")
    rows.nth(49).wait_for()
    first = page.locator(".runs-list tbody a.mono").first.get_attribute("title")
    page.get_by_role("button", name="Older").click()
    page.wait_for_url("**cursor=**")
    page.locator(f"a[title='{first}']").wait_for(state="detached")
    assert rows.count() == BACKFILLED - 50
    # The URL leads to the same page, for example after a reload.
    page.reload()
    rows.nth(BACKFILLED - 51).wait_for()
    assert rows.count() == BACKFILLED - 50
    page.get_by_role("button", name="Newer").click()
    page.locator(f"a[title='{first}']").wait_for()
    assert rows.count() == 50
