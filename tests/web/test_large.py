"""The page responds quickly with a large database, on SQLite and on PostgreSQL.

The database has 60,000 executions; in `make long`, it has a million.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

import cloaca.web
from large_database import EVERY_LABELLED, Large, fill

from .conftest import TOKEN, Open

#: The number of executions.
MANY = int(os.environ.get("CLOACA_TEST_EXECUTIONS", "60000"))
#: Maximum time until a page shows its data, in milliseconds. An idle machine takes under 500 ms.
SHOWN = 10_000
#: Maximum number of elements of a page. The number must not depend on the number of executions.
ELEMENTS = 3_000
#: Maximum total size of the responses that a page loads, in bytes.
LOADED = 400_000


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def large(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Large, Any]]:
    """A large database and a server, on SQLite and on PostgreSQL in turn."""
    server = None
    url = f"sqlite:///{tmp_path_factory.mktemp('large') / 'large.db'}"
    if request.param == "postgres":
        server = request.getfixturevalue("server")
        server.sql("CREATE DATABASE web_large")
        url = f"{server.url.rpartition('/')[0]}/web_large"
    filled = fill(url, MANY, server)
    with cloaca.web.serve(url, token=TOKEN) as web:
        yield filled, web


#: The paths of pages, each with a selector of an element that shows data of the page.
PAGES = {
    "": "#failed",
    "executions": "tbody tr:nth-child(50)",
    "executions?status=Failed": "tbody tr:nth-child(50)",
    "executions?workflow=large-3&status=Completed&since=7d": "tbody tr:nth-child(50)",
    "executions?input.number=-1": ".scanned",
    f"executions?key=order-{EVERY_LABELLED * 7}": "tbody tr",
    f"executions?label.order={EVERY_LABELLED * 7}": "tbody tr",
    "executions/{failed}": "canvas[data-draw-ms]",
    "executions/{failed}/timeline": ".lane",
    "executions/{failed}/history": ".event",
    "compare?a=last-success&b={failed}": "main h2",
    "workflows": ".workflow-list tbody tr .runs rect:nth-child(20)",
    "workflows/large-1": "#runs ~ ul li:nth-child(15)",
    "workflows/large-1/start?from={failed}": "textarea",
    "schedules": ".schedule-list tbody tr",
    "schedules/{schedule}": "#ticks ~ .scroll tbody tr:nth-child(50)",
    "waiting": "main h2",
    "runners": ".empty, .item",
    "database": "dl.facts",
}


def test_every_page_of_a_large_database_shows_its_data(
    large: tuple[Large, Any], open_page: Open
) -> None:
    filled, web = large
    page = open_page(web.link)
    loaded: list[int] = []
    page.on("response", lambda one: loaded.append(int(one.headers.get("content-length", 0))))
    for path, shown in PAGES.items():
        path = path.format(failed=filled.failed, schedule=filled.schedule)
        page.goto("about:blank")
        loaded.clear()
        page.goto(web.url + path)
        page.locator(shown).first.wait_for(timeout=SHOWN)
        page.locator(".loading").first.wait_for(state="detached", timeout=SHOWN)
        assert page.locator(".box.bad").count() == 0, (path, page.locator("main").inner_text())
        assert page.locator("*").count() < ELEMENTS, path
        assert sum(loaded) < LOADED, (path, loaded)


def test_counts_of_a_large_database_are_shown_as_minimums(
    large: tuple[Large, Any], open_page: Open
) -> None:
    _, web = large
    page = open_page(web.link, "executions")
    states = page.get_by_role("group", name="States")
    minimum = states.get_by_text("≥ 10,000").first
    minimum.wait_for()
    # The counts cover all executions, so they are hidden if a filter other than `status` is set.
    page.get_by_label("Workflow").select_option("large-2")
    page.wait_for_url("**workflow=large-2")
    minimum.wait_for(state="detached")
    page.get_by_role("button", name="Completed").wait_for()


def test_large_list_is_paged_to_older_rows_and_back(
    large: tuple[Large, Any], open_page: Open
) -> None:
    _, web = large
    page = open_page(web.link, "executions?status=Completed&until=10d")
    links = page.locator("tbody tr:first-child a.mono")
    links.first.wait_for()
    firsts = [links.first.get_attribute("title")]
    for _ in range(4):
        page.get_by_role("button", name="Older").click()
        page.locator(f"a[title='{firsts[-1]}']").wait_for(state="detached")
        firsts.append(links.first.get_attribute("title"))
    assert firsts == sorted(firsts, key=str, reverse=True)
    for first in reversed(firsts[:-1]):
        page.get_by_role("button", name="Newer").click()
        page.locator(f"tbody tr:first-child a[title='{first}']").wait_for()


def test_search_of_a_large_database_continues_by_click(
    large: tuple[Large, Any], open_page: Open
) -> None:
    _, web = large
    page = open_page(web.link, "executions?input.number=-1")
    page.get_by_text("Nothing found so far").wait_for()
    first = page.locator(".scanned time").get_attribute("datetime")
    page.get_by_role("button", name="Search further back").click()
    page.locator(f".scanned time:not([datetime='{first}'])").wait_for()
    assert str(page.locator(".scanned time").get_attribute("datetime")) < str(first)
