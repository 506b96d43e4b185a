"""Every dialog is accessible in both themes, and fits a phone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import RELEASE, Open, World, check_looks, settle
from .test_flow import wait_for_waits


def key(pressed: str) -> Callable[[Any], None]:
    """Returns a function that presses a key on a page."""
    return lambda page: page.keyboard.press(pressed)


def button(*names: str) -> Callable[[Any], None]:
    """Returns a function that presses buttons of a page, one after the other."""

    def press(page: Any) -> None:
        for name in names:
            page.locator("main").get_by_role("button", name=name, exact=True).first.click()

    return press


def entry(name: str) -> Callable[[Any], None]:
    """Returns a function that opens the menu with more actions, and presses an entry."""

    def press(page: Any) -> None:
        page.locator("summary[aria-label='More actions']").click()
        page.get_by_role("button", name=name).click()

    return press


def act_on_all_rows(page: Any) -> None:
    """Selects all rows of the list, and presses the button that cancels them."""
    page.get_by_label("Select all rows").check()
    page.get_by_role("toolbar").get_by_role("button", name="Cancel…").click()


def backfill(page: Any) -> None:
    """Opens the dialog that backfills a schedule, and shows what would start."""
    button("Backfill…")(page)
    page.locator("#backfill-from").fill("2026-01-05")
    page.locator("#backfill-to").fill("2026-01-08")
    page.get_by_role("button", name="Show what would start").click()
    page.get_by_text("due times").wait_for()


def reject(page: Any) -> None:
    """Opens the dialog that decides an approval, and chooses to reject it."""
    button("Decide…")(page)
    page.get_by_role("button", name="Reject", exact=True).first.click()
    page.get_by_label("Reason").wait_for()


#: The dialogs: the path of a page, and the function that opens the dialog on it.
DIALOGS: dict[str, tuple[str, Callable[[Any], None]]] = {
    "Search": ("", key("Control+k")),
    "Keys": ("", key("?")),
    "Pause": ("executions/{slow}", button("Pause…")),
    "Cancel": ("executions/{slow}", button("Cancel…")),
    "Retry failed tasks": ("executions/{failed}", button("Retry failed tasks…")),
    "Run again from": ("executions/{failed}#task=validate", button("Run again from here…")),
    "Cancel: .* executions": ("executions?workflow=orders", act_on_all_rows),
    "Cancel: all that match": ("executions", button("Cancel: all that match")),
    "Send a signal": ("executions/{paying}", button("Send…")),
    "Send a signal to": ("executions/{slow}", entry("Send a signal to it…")),
    "Release the payment": ("executions/{asking}", button("Decide…")),
    "Release the payment, rejected": ("executions/{asking}", reject),
    "Delete the execution": ("executions/{completed}", entry("Delete it…")),
    "New schedule": ("schedules", button("New schedule…")),
    "Backfill": ("schedules/{schedule}", backfill),
    "Run orders now": ("schedules/{schedule}", button("Run now…")),
    "Delete the schedule": ("schedules/{schedule}", button("Delete…")),
    "Delete ended executions": ("database", button("Delete old executions…")),
}
#: The dialogs that other tests open and check.
ELSEWHERE = {"Items at once"}
#: The dialogs whose title the page computes: the expression in the sources, and names in `DIALOGS`.
COMPUTED = {
    "fromTask ? `Run again from ${fromTask}` : isOne ? title : `${title}: ${items.length} executions`": {  # noqa: E501
        "Pause",
        "Cancel",
        "Retry failed tasks",
        "Run again from",
        "Cancel: .* executions",
    },
    "`${title}: all that match`": {"Cancel: all that match"},
    "wait.title ?? wait.name": {"Release the payment", "Release the payment, rejected"},
    "`Run ${data.workflow} now`": {"Run orders now"},
    "`Backfill ${schedule.workflow}`": {"Backfill"},
}
SOURCES = Path(__file__).parents[2] / "crates" / "cloacina-web" / "ui" / "src"
TITLE = re.compile(r'<Dialog title=(?:"([^"]*)"|\{(.*?)\}) close=')


def test_every_dialog_of_the_page_is_checked() -> None:
    sources = [path.read_text() for path in SOURCES.rglob("*.tsx")]
    titles = [title for source in sources for title in TITLE.findall(source)]
    assert len(titles) == sum(source.count("<Dialog ") for source in sources)
    fixed = {text for text, _ in titles if text}
    assert {expression for _, expression in titles if expression} == COMPUTED.keys()
    wanted = (fixed - ELSEWHERE).union(*COMPUTED.values())
    assert {name.removesuffix(" to") for name in DIALOGS} == wanted


@pytest.mark.parametrize("name", DIALOGS)
def test_dialog_is_accessible_in_both_themes_and_fits_a_phone(
    world: World, open_page: Open, name: str
) -> None:
    path, opens = DIALOGS[name]
    RELEASE.clear()
    slow = world.runner.submit("slow")
    asking = world.runner.submit("release")
    wait_for_waits(world, "release")
    ids = {
        "slow": slow.id,
        "asking": asking.id,
        "paying": world.paying.id,
        "failed": world.failed.id,
        "completed": world.completed.id,
        "schedule": world.schedule,
    }
    try:
        page = open_page(world.link, path.format(**ids))
        settle(page)
        opens(page)
        dialog = page.get_by_role("dialog")
        dialog.wait_for()
        dialog.locator(".loading").first.wait_for(state="detached")
        wanted = re.split(r",| to$", name)[0]
        assert re.match(wanted, str(dialog.get_attribute("aria-label")))
        check_looks(page, f"dialog-{name}")
    finally:
        RELEASE.set()
        asking.cancel()
