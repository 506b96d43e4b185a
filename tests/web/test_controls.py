"""Each action of the page works by mouse, and by keyboard alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import cloaca
from processes import until

from .conftest import RELEASE, Open, World, violations
from .test_actions import wait_for_status
from .test_flow import wait_for_waits

#: Maximum number of times that Tab is pressed to reach an element of the page.
MAX_TABS = 120


class Hands:
    """Uses the elements of a page by mouse, or by keyboard alone."""

    def __init__(self, page: Any, by: str) -> None:
        self.page, self.by = page, by
        page.evaluate("addEventListener('pointerdown', () => { window.clicked = true; })")

    def reach(self, target: Any) -> None:
        """Presses Tab until an element has the focus."""
        target.wait_for()
        for _ in range(MAX_TABS):
            if target.evaluate("one => one === document.activeElement"):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"Tab does not reach {target}")

    def press(self, target: Any) -> None:
        """Presses a button or follows a link."""
        if self.by == "mouse":
            target.click()
        else:
            self.reach(target)
            self.page.keyboard.press("Enter")

    def fill(self, field: Any, text: str) -> None:
        """Replaces the text of a field."""
        if self.by == "mouse":
            field.click()
        else:
            self.reach(field)
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(text)

    def confirm(self, name: str) -> None:
        """Checks the open dialog with axe, presses its button, and waits until it is closed."""
        dialog = self.page.get_by_role("dialog")
        dialog.wait_for()
        assert violations(self.page) == []
        self.press(dialog.get_by_role("button", name=name, exact=True))
        dialog.wait_for(state="detached")

    def done(self) -> None:
        """Asserts that no mouse was used if the keyboard alone was to be used."""
        assert self.by == "mouse" or self.page.evaluate("window.clicked") is None


BY = pytest.mark.parametrize("by", ["mouse", "keyboard"])


def actions(page: Any) -> Any:
    """Returns the toolbar with the actions of the page."""
    return page.get_by_role("toolbar", name="Actions")


def menu(hands: Hands) -> Any:
    """Opens the menu with more actions, and returns it."""
    hands.press(hands.page.locator("summary[aria-label='More actions']"))
    return hands.page.locator(".menu-body:visible")


@BY
def test_execution_is_paused_resumed_and_cancelled(world: World, open_page: Open, by: str) -> None:
    RELEASE.clear()
    handle = world.runner.submit("slow")
    page = open_page(world.link, f"executions/{handle.id}")
    hands = Hands(page, by)
    for action, status in (("Pause", "Paused"), ("Resume", "Running"), ("Cancel", "Cancelled")):
        hands.press(actions(page).get_by_role("button", name=f"{action}…"))
        hands.confirm(action)
        wait_for_status(handle, status)
        page.locator(f"h1 .state:has-text('{status}')").wait_for()
    RELEASE.set()
    hands.done()


@BY
def test_failed_execution_is_retried(world: World, open_page: Open, by: str) -> None:
    handle = world.runner.submit("orders", {"missing": 5})
    assert handle.result(timeout=60).status == "Failed"
    page = open_page(world.link, f"executions/{handle.id}")
    hands = Hands(page, by)
    hands.press(actions(page).get_by_role("button", name="Retry failed tasks…"))
    hands.confirm("Retry failed tasks")
    page.get_by_role("link", name="History").wait_for()
    assert handle.result(timeout=60).status == "Failed"
    assert "retried" in {event.type for event in handle.events()}
    hands.done()


@BY
def test_all_matching_failed_executions_are_retried(world: World, open_page: Open, by: str) -> None:
    label = f"retry-{by}"
    entry = {"workflow": "orders", "context": {"missing": 5}, "labels": {"wave": label}}
    handles = world.runner.submit_many([entry] * 3)
    other = world.runner.submit("orders", {"missing": 5}, labels={"wave": "other"})
    for handle in (*handles, other):
        assert handle.result(timeout=60).status == "Failed"
    page = open_page(world.link, f"executions?label.wave={label}&status=Failed")
    hands = Hands(page, by)
    hands.press(page.get_by_role("button", name="Retry failed tasks: all that match"))
    page.get_by_role("dialog").get_by_text("3 of 3 will be retried").wait_for()
    hands.confirm("Retry failed tasks (3)")
    page.get_by_text("3 executions were retried.").wait_for()
    for handle in handles:
        assert handle.result(timeout=60).status == "Failed"
        assert "retried" in {event.type for event in handle.events()}
    assert "retried" not in {event.type for event in other.events()}
    hands.done()


@BY
def test_task_runs_again_from_its_panel(world: World, open_page: Open, by: str) -> None:
    handle = world.runner.submit("orders", {"day": "2026-03-07"})
    assert handle.result(timeout=60).status == "Completed"
    page = open_page(world.link, f"executions/{handle.id}#task=validate")
    hands = Hands(page, by)
    hands.press(page.locator(".panel").get_by_role("button", name="Run again from here…"))
    hands.confirm("Run again")
    page.locator("h1 .state:has-text('Completed')").wait_for()
    assert handle.result(timeout=60).tasks["extract"].attempts == 1
    assert "retried" in {event.type for event in handle.events()}
    hands.done()


@BY
def test_signal_is_sent(world: World, open_page: Open, by: str) -> None:
    handle = world.runner.submit("payment", {"order_id": f"by-{by}"})
    wait_for_waits(world, "payment")
    page = open_page(world.link, f"executions/{handle.id}")
    hands = Hands(page, by)
    waits = page.get_by_role("list", name="Open signals and approvals")
    hands.press(waits.get_by_role("button", name="Send…"))
    hands.fill(page.get_by_role("dialog").get_by_label("Data"), '{"amount": 3}')
    hands.confirm("Send")
    page.locator("h1 .state:has-text('Completed')").wait_for()
    hands.done()


@BY
def test_execution_is_deleted(world: World, open_page: Open, by: str) -> None:
    handle = world.runner.submit("orders", {"day": "2026-03-08"})
    handle.result(timeout=60)
    page = open_page(world.link, f"executions/{handle.id}")
    hands = Hands(page, by)
    hands.press(menu(hands).get_by_role("button", name="Delete it…"))
    hands.press(page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True))
    page.wait_for_url("**/executions")
    with pytest.raises(cloaca.WorkflowNotFoundError):
        world.runner.get_execution(handle.id)
    hands.done()


@BY
@pytest.mark.parametrize("name", ["Export as JSON", "Export as an HTML file"])
def test_execution_is_exported(
    world: World, open_page: Open, by: str, name: str, tmp_path: Path
) -> None:
    page = open_page(world.link, f"executions/{world.completed.id}")
    hands = Hands(page, by)
    link = menu(hands).get_by_role("link", name=name)
    with page.expect_download() as download:
        hands.press(link)
    download.value.save_as(tmp_path / "exported")
    exported = (tmp_path / "exported").read_text()
    if name == "Export as JSON":
        assert json.loads(exported)["execution"]["id"] == world.completed.id
    else:
        assert exported.startswith("<!doctype html>")
        assert world.completed.id in exported
    hands.done()


@BY
def test_terminal_command_is_copied(world: World, open_page: Open, by: str) -> None:
    page = open_page(world.link, f"executions/{world.completed.id}")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    hands = Hands(page, by)
    hands.press(menu(hands).get_by_role("button", name="Copy the terminal command"))
    page.get_by_text(f"Copied: cloaca show {world.completed.id}").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == f"cloaca show {world.completed.id}"
    hands.done()


@BY
def test_execution_is_compared_with_the_last_success(
    world: World, open_page: Open, by: str
) -> None:
    page = open_page(world.link, f"executions/{world.failed.id}")
    hands = Hands(page, by)
    hands.press(page.get_by_role("link", name="Compare with the last success").first)
    page.get_by_role("heading", name="First difference").wait_for()
    first = page.locator("section[aria-labelledby=first]")
    assert "validate" in first.inner_text()
    assert "missing" in page.locator("section[aria-labelledby=inputs]").inner_text()
    hands.press(page.get_by_role("button", name="Swap A and B"))
    page.wait_for_url(lambda url: f"a={world.failed.id}" in url)
    hands.done()


@BY
def test_schedule_is_disabled_enabled_and_deleted(world: World, open_page: Open, by: str) -> None:
    id = world.runner.register_cron_workflow(
        "wide", "0 4 1 1 *", "UTC", instance_name=f"yearly-{by}"
    )
    page = open_page(world.link, f"schedules/{id}")
    hands = Hands(page, by)
    hands.press(actions(page).get_by_role("button", name="Disable"))
    page.get_by_text("The schedule is disabled.").wait_for()
    assert not world.runner.get_cron_schedule(id)["enabled"]
    hands.press(actions(page).get_by_role("button", name="Enable"))
    page.get_by_text("The schedule is enabled.").wait_for()
    assert world.runner.get_cron_schedule(id)["enabled"]
    hands.press(actions(page).get_by_role("button", name="Delete…"))
    hands.press(page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True))
    page.wait_for_url("**/schedules")
    assert id not in {schedule["id"] for schedule in world.runner.list_cron_schedules()}
    hands.done()


def test_schedule_is_created_run_and_backfilled_by_keyboard(world: World, open_page: Open) -> None:
    page = open_page(world.link, "schedules")
    hands = Hands(page, "keyboard")
    hands.press(page.get_by_role("button", name="New schedule…"))
    dialog = page.get_by_role("dialog", name="New schedule")
    hands.reach(dialog.locator("#schedule-workflow"))
    page.keyboard.type("agent")
    hands.fill(dialog.locator("#schedule-cron"), "30 5 * * 6")
    dialog.get_by_role("list", name="Next times").get_by_text("05:30:00").first.wait_for()
    hands.press(dialog.get_by_role("button", name="Create"))
    page.wait_for_url("**/schedules/*")
    page.get_by_role("heading", name="agent").wait_for()
    hands.press(actions(page).get_by_role("button", name="Backfill…"))
    dialog = page.get_by_role("dialog", name="Backfill agent")
    hands.fill(dialog.locator("#backfill-from"), "2026-01-01")
    hands.fill(dialog.locator("#backfill-to"), "2026-01-20")
    hands.press(dialog.get_by_role("button", name="Show what would start"))
    dialog.get_by_text("3 of 3 due times").wait_for()
    hands.confirm("Start 3")
    page.get_by_role("cell", name="backfill").first.wait_for()
    hands.press(actions(page).get_by_role("button", name="Run now…"))
    hands.press(page.get_by_role("dialog").get_by_role("button", name="Run now", exact=True))
    page.wait_for_url("**/executions/*")
    page.locator("h1 .state:has-text('Completed')").wait_for()
    hands.done()


@BY
def test_old_executions_are_deleted(world: World, open_page: Open, by: str) -> None:
    page = open_page(world.link, "database")
    hands = Hands(page, by)
    hands.press(page.get_by_role("button", name="Delete old executions…"))
    hands.fill(page.get_by_label("Ended more than this many days ago"), "10000")
    hands.confirm("Delete")
    page.get_by_text("0 executions were deleted.").wait_for()
    hands.done()


@BY
def test_theme_is_chosen(world: World, open_page: Open, by: str) -> None:
    page = open_page(world.link)
    hands = Hands(page, by)

    def background() -> str:
        shown: str = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        return shown

    light = background()
    hands.press(page.locator("summary[aria-label=Settings]"))
    hands.press(page.get_by_role("group", name="Theme").get_by_role("button", name="Dark"))
    until("the page is dark", lambda: background() != light)
    page.reload()
    page.locator("main h1").first.wait_for()
    assert background() != light
    Hands(page, by).press(page.locator("summary[aria-label=Settings]"))
    hands.press(page.get_by_role("group", name="Theme").get_by_role("button", name="System"))
    until("the page is light", lambda: background() == light)
    hands.done()
