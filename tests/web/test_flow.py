"""Approvals, signals, children, steps, schema forms, schedules and bulk actions on the page."""

from __future__ import annotations

import time
from typing import Any

import pytest

import cloaca

from .conftest import Open, World, settle, violations
from .test_actions import wait_for_status


def wait_for_waits(world: World, workflow: str) -> None:
    """Waits until an execution of a workflow has an open wait."""
    deadline = time.monotonic() + 20
    while not world.runner.waits(workflow=workflow).items:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_approval_is_given_with_data_by_mouse(world: World, open_page: Open) -> None:
    handle = world.runner.submit("release")
    wait_for_waits(world, "release")
    page = open_page(world.link, f"executions/{handle.id}")
    waits = page.get_by_role("list", name="Open signals and approvals")
    waits.get_by_text("Release the payment?").wait_for()
    waits.get_by_role("button", name="Decide…").click()
    dialog = page.get_by_role("dialog", name="Release the payment?")
    dialog.get_by_text("asked finance").wait_for()
    assert dialog.get_by_role("button", name="Approve").last.is_disabled()
    dialog.get_by_label("limit").fill("500")
    dialog.get_by_label("note").fill("fine")
    assert violations(page) == []
    dialog.get_by_role("button", name="Approve").last.click()
    dialog.wait_for(state="detached")
    page.locator("h1 .state:has-text('Completed')").wait_for()
    assert "allows 500" in handle.result().final_context["ship"]


def test_approval_is_rejected_by_keyboard_from_the_list(world: World, open_page: Open) -> None:
    handle = world.runner.submit("release")
    wait_for_waits(world, "release")
    page = open_page(world.link, "")
    page.keyboard.press("g")
    page.keyboard.press("q")
    page.wait_for_url("**/waiting")
    row = page.locator(f".item:has(a[href*='{handle.id}'])")
    row.get_by_role("button", name="Decide…").focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("group", name="Decision").get_by_role("button", name="Reject").focus()
    page.keyboard.press("Enter")
    dialog.get_by_label("Reason").focus()
    page.keyboard.type("too expensive")
    page.keyboard.press("Enter")
    dialog.wait_for(state="detached")
    wait_for_status(handle, "Failed")
    assert "too expensive" in str(handle.result().error_message)


def test_signal_is_sent_to_the_waits_for_its_key(world: World, open_page: Open) -> None:
    handle = world.runner.submit("payment", {"order_id": "o-9"})
    wait_for_waits(world, "payment")
    page = open_page(world.link, f"executions/{handle.id}")
    waits = page.get_by_role("list", name="Open signals and approvals")
    waits.get_by_text("o-9").wait_for()
    waits.get_by_role("button", name="Send…").click()
    dialog = page.get_by_role("dialog", name="Send a signal")
    assert dialog.get_by_label("Name").input_value() == "paid"
    assert dialog.get_by_label("Key").input_value() == "o-9"
    dialog.get_by_label("Data").fill('{"amount":')
    dialog.get_by_text("This is not JSON").wait_for()
    assert dialog.get_by_role("button", name="Send").is_disabled()
    dialog.get_by_label("Data").fill('{"amount": 3}')
    dialog.get_by_role("button", name="Send").click()
    page.get_by_text("It woke 1 task").wait_for()
    page.locator("h1 .state:has-text('Completed')").wait_for()


def test_children_and_parents_link_to_each_other(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.parent.id}")
    page.get_by_role("link", name="Children").click()
    page.get_by_role("list", name="Children").get_by_text("invoice").first.wait_for()
    page.get_by_text("It has no children.").wait_for()
    page.get_by_role("list", name="Children").get_by_role("link", name="invoice").click()
    page.get_by_text("Child of").wait_for()
    page.locator("dd a", has_text="…").first.click()
    page.wait_for_url(f"**/executions/{world.parent.id}")


def test_steps_of_a_task_show_their_results(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.stepped.id}/steps")
    page.get_by_role("button", name="Show the result").first.click()
    page.locator(".json").get_by_text(str(2**70)).wait_for()
    page = open_page(world.link, f"executions/{world.stepped.id}#task=think")
    panel = page.get_by_role("complementary", name="Task think")
    panel.get_by_role("button", name="Steps").click()
    panel.get_by_text("answer").wait_for()


def test_start_form_comes_from_the_schema_of_the_input(world: World, open_page: Open) -> None:
    page = open_page(world.link, "workflows/invoice/start")
    page.get_by_text("Missing: order").wait_for()
    assert page.get_by_role("button", name="Start", exact=True).is_disabled()
    page.locator("#input-order").fill("12")
    page.get_by_role("button", name="Start", exact=True).click()
    page.wait_for_url("**/executions/*")
    page.locator("h1 .state:has-text('Completed')").wait_for()


def test_execution_is_rerun_with_the_form_of_its_schema(world: World, open_page: Open) -> None:
    handle = world.runner.submit("invoice", {"order": 5})
    handle.result(timeout=60)
    page = open_page(world.link, f"executions/{handle.id}")
    page.get_by_role("toolbar", name="Actions").get_by_role("button", name="Run again…").click()
    field = page.locator("#input-order")
    field.wait_for()
    assert field.input_value() == "5"
    field.fill("6")
    page.get_by_text("Changed: order").wait_for()
    page.get_by_role("button", name="The original version").click()
    assert field.input_value() == "6"
    page.get_by_role("button", name="Start", exact=True).click()
    page.locator("h1 .state:has-text('Completed')").wait_for()
    new = page.url.split("/executions/")[1]
    assert world.runner.get_handle(new).result().final_context["number"] == "invoice-6"


def test_any_filter_can_be_typed_into_one_box(world: World, open_page: Open) -> None:
    handle = world.runner.submit("agent", labels={"wave": "three"})
    handle.result(timeout=60)
    page = open_page(world.link, "executions")
    box = page.get_by_label("Error, id, or name = value")
    box.fill("label.wave = three")
    box.press("Enter")
    page.wait_for_url("**/executions?label.wave=three")
    page.locator(f"tbody a[href$='{handle.id}']").wait_for()
    # Until the new list has arrived, the page shows the earlier list, which also has this row.
    page.locator("tbody tr").nth(1).wait_for(state="detached")
    assert page.locator("tbody tr").count() == 1
    page.get_by_role("list", name="Active filters").get_by_role("button").click()
    box.fill("have no customer")
    box.press("Enter")
    page.wait_for_url("**error=have+no+customer")
    page.locator(f"tbody a[href$='{world.failed.id}']").wait_for()


def test_schedule_is_created_and_backfilled(world: World, open_page: Open) -> None:
    page = open_page(world.link, "schedules")
    page.get_by_role("button", name="New schedule…").click()
    dialog = page.get_by_role("dialog", name="New schedule")
    dialog.locator("#schedule-workflow").select_option("agent")
    dialog.locator("#schedule-cron").fill("0 6 * * 1-5")
    dialog.locator("#schedule-zone").fill("Europe/Berlin")
    dialog.get_by_role("list", name="Next times").get_by_text("06:00:00").first.wait_for()
    assert violations(page) == []
    dialog.get_by_role("button", name="Create").click()
    page.wait_for_url("**/schedules/*")
    page.get_by_role("button", name="Backfill…").click()
    dialog = page.get_by_role("dialog", name="Backfill agent")
    dialog.locator("#backfill-from").fill("2026-01-05")
    dialog.locator("#backfill-to").fill("2026-01-08")
    dialog.get_by_role("button", name="Show what would start").click()
    dialog.get_by_text("3 of 3 due times").wait_for()
    dialog.get_by_role("button", name="Start 3").click()
    dialog.wait_for(state="detached")
    page.get_by_role("cell", name="backfill").first.wait_for()


def test_all_matching_executions_are_cancelled_after_a_dry_run(
    world: World, open_page: Open
) -> None:
    handles = [world.runner.submit("agent", delay=3600, labels={"wave": "one"}) for _ in range(120)]
    other = world.runner.submit("agent", delay=3600)
    page = open_page(world.link, "executions?workflow=agent&label.wave=one")
    page.get_by_role("button", name="Cancel: all that match").click()
    dialog = page.get_by_role("dialog", name="Cancel: all that match")
    dialog.get_by_text("120 of 120 will be cancelled").wait_for()
    dialog.get_by_role("button", name="Cancel (120)").click()
    dialog.wait_for(state="detached")
    assert {str(handle.status()) for handle in handles} == {"Cancelled"}
    assert other.status() == "Pending"
    other.cancel()


def test_ended_execution_can_be_deleted(world: World, open_page: Open) -> None:
    handle = world.runner.submit("agent")
    handle.result(timeout=60)
    page = open_page(world.link, f"executions/{handle.id}", allows="404 (Not Found)")
    page.locator("summary[aria-label='More actions']").click()
    page.get_by_role("button", name="Delete it…").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    page.wait_for_url("**/executions")
    with pytest.raises(cloaca.WorkflowNotFoundError):
        world.runner.get_execution(handle.id)


FLOW_PAGES = ["waiting", "children", "steps", "decide", "schedule"]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", FLOW_PAGES)
def test_flow_page_is_accessible_and_fits_a_phone(
    world: World, open_page: Open, name: str, theme: str
) -> None:
    wait_for_waits(world, "release")
    paths = {
        "waiting": "waiting",
        "children": f"executions/{world.parent.id}/children",
        "steps": f"executions/{world.stepped.id}/steps",
        "decide": f"executions/{world.asking.id}",
        "schedule": "schedules",
    }
    for width in (1400, 390):
        page: Any = open_page(world.link, paths[name], theme, width)
        settle(page)
        if name == "decide":
            page.get_by_role("button", name="Decide…").first.click()
        if name == "schedule":
            page.get_by_role("button", name="New schedule…").click()
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert violations(page) == []
        from .conftest import screenshots

        if folder := screenshots():
            page.screenshot(path=folder / f"flow-{name}-{theme}-{width}.png")
