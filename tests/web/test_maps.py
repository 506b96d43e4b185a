"""The panel of a map: counts, filtered items with their errors, and the limit of running items."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

import cloaca

from .conftest import Open, World, settle, violations


@pytest.fixture
def mapped(world: World) -> Iterator[cloaca.WorkflowHandle]:
    """An execution whose map has 60 completed items, 2 failed items, and a blocked last item."""
    gate = threading.Event()
    with cloaca.WorkflowBuilder("crawl", input={"urls": list[str]}):

        @cloaca.task(over="urls", parallel=3, tolerate=0.5, retry_attempts=1)
        def fetch(url: str) -> dict[str, int]:
            if url == "bad":
                raise ValueError("cannot fetch bad")
            if url == "slow":
                gate.wait(60)
            return {"length": len(url) + 2**70}

    urls = ["bad", *("page" for _ in range(60)), "bad", "slow"]
    handle = world.runner.submit("crawl", {"urls": urls})
    deadline = time.monotonic() + 60
    while handle.progress().tasks["fetch"].done != 62:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield handle
    gate.set()
    handle.result(timeout=60)


def test_items_are_counted_filtered_and_paged(
    mapped: cloaca.WorkflowHandle, world: World, open_page: Open
) -> None:
    page = open_page(world.link, f"executions/{mapped.id}#task=fetch")
    panel = page.get_by_role("complementary", name="Task fetch")
    counts = panel.get_by_role("list", name="Items by state")
    counts.get_by_text("Completed 60").wait_for()
    counts.get_by_text("63 items, at most 3 at once").wait_for()
    table = panel.get_by_role("region", name="Table of items")
    assert table.locator("tbody tr").count() == 50
    table.get_by_role("button", name="Show the result of item 1", exact=True).click()
    table.locator(".json").get_by_text(str(2**70 + 4)).wait_for()
    panel.get_by_role("button", name="Next").click()
    table.get_by_role("cell", name="62", exact=True).wait_for()
    assert table.locator("tbody tr").count() == 13
    panel.get_by_role("button", name="Previous").click()
    table.get_by_role("cell", name="49", exact=True).wait_for()
    panel.locator("#item-status").select_option("Failed")
    table.get_by_role("cell", name="61", exact=True).wait_for()
    assert table.locator("tbody tr").count() == 2
    table.get_by_role("button", name="Show the error of item 61").click()
    table.get_by_text("Traceback").wait_for()
    assert violations(page) == []


def test_parallel_of_a_map_is_changed_by_keyboard(
    mapped: cloaca.WorkflowHandle, world: World, open_page: Open
) -> None:
    page = open_page(world.link, f"executions/{mapped.id}#task=fetch")
    panel = page.get_by_role("complementary", name="Task fetch")
    panel.get_by_role("button", name="Items at once…").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="Items at once")
    field = dialog.locator("#map-parallel")
    assert field.input_value() == "3"
    field.fill("0")
    dialog.get_by_text("The limit must be a whole number of at least 1.").wait_for()
    field.fill("7")
    for theme in ("dark", "light"):
        page.emulate_media(color_scheme=theme)
        assert violations(page) == []
    page.keyboard.press("Enter")
    dialog.wait_for(state="detached")
    panel.get_by_text("at most 7 at once").wait_for()
    assert mapped.progress().tasks["fetch"].parallel == 7


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_panel_of_a_map_is_accessible_and_fits_a_phone(
    mapped: cloaca.WorkflowHandle, world: World, open_page: Open, theme: str
) -> None:
    for width in (1400, 390):
        page = open_page(world.link, f"executions/{mapped.id}#task=fetch", theme, width)
        settle(page)
        page.get_by_role("region", name="Table of items").wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert violations(page) == []
        from .conftest import screenshots

        if folder := screenshots():
            page.screenshot(path=folder / f"map-{theme}-{width}.png")
