"""The task panel, menus and messages are accessible, and the graph marks what runs again."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Open, World, settle, violations
from .test_keys import PICTURE

THEMES = ("light", "dark")


def check_themes(page: Any) -> None:
    """Asserts that the page is accessible in both themes."""
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        assert violations(page) == [], theme


def check_toast(page: Any, selector: str) -> None:
    """Copies the id for each theme, and asserts that the page with the message is accessible.

    A message disappears after some seconds, so the message for one theme may not last until axe has
    checked the other.
    """
    toast = page.locator(selector)
    for theme in THEMES:
        page.emulate_media(color_scheme=theme)
        page.keyboard.press("c")
        toast.wait_for()
        assert toast.is_visible(), theme
        assert violations(page) == [], theme


@pytest.mark.parametrize(
    ("name", "task"), [("failed", "validate"), ("stepped", "think"), ("parent", "bill")]
)
def test_every_part_of_the_task_panel_is_accessible(
    world: World, open_page: Open, name: str, task: str
) -> None:
    page = open_page(world.link, f"executions/{getattr(world, name).id}#task={task}")
    panel = page.get_by_role("complementary", name=f"Task {task}")
    buttons = panel.get_by_role("group", name="Parts of the task").get_by_role("button")
    buttons.nth(4).wait_for()
    assert buttons.count() == 5
    for index in range(5):
        buttons.nth(index).click()
        settle(page)
        logs = panel.get_by_role("button", name="Show the log lines")
        for _ in range(logs.count()):
            logs.first.click()
        settle(page)
        check_themes(page)


def test_open_menus_are_accessible(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.failed.id}")
    for label in ("Settings", "More actions"):
        page.locator(f"summary[aria-label='{label}']").click()
        page.locator(".menu-body:visible").first.wait_for()
        check_themes(page)


def test_messages_are_accessible(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.failed.id}")
    settle(page)
    page.evaluate(
        "() => { navigator.clipboard.writeText = () => Promise.reject(new Error('refused')); }"
    )
    check_toast(page, ".toast.bad")
    page.get_by_role("button", name="Dismiss").click()
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.resolve(); }")
    check_toast(page, ".toast:not(.bad)")


def test_graph_marks_what_runs_again_while_that_is_offered(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.completed.id}#task=validate")
    canvas = page.locator("canvas[data-draw-ms]")
    canvas.wait_for()
    settle(page)
    before = page.evaluate(PICTURE)
    assert "Marked" not in str(canvas.get_attribute("aria-label"))
    page.get_by_role("button", name="Run again from here…").click()
    dialog = page.get_by_role("dialog", name="Run again from validate")
    dialog.wait_for()
    marked = "Marked: the 2 tasks that would run again."
    assert marked in str(canvas.get_attribute("aria-label"))
    assert page.evaluate(PICTURE) != before
    page.keyboard.press("Escape")
    dialog.wait_for(state="detached")
    page.locator("canvas:not([aria-label*=Marked])").wait_for()
    assert page.evaluate(PICTURE) == before
