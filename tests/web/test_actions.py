"""Actions on the page, by mouse and by keyboard alone, change the database."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cloaca

from .conftest import RELEASE, Open, World, zone_of_midday


def wait_for_status(handle: cloaca.WorkflowHandle, status: str) -> None:
    """Waits until an execution has the given status."""
    import time

    deadline = time.monotonic() + 20
    while handle.status() != status:
        assert time.monotonic() < deadline, f"{handle.status()} after 20 s, not {status}"
        time.sleep(0.05)


def test_execution_is_paused_resumed_and_cancelled_by_mouse(world: World, open_page: Open) -> None:
    RELEASE.clear()
    handle = world.runner.submit("slow")
    page = open_page(world.link, f"executions/{handle.id}")
    for action, status in (("Pause", "Paused"), ("Resume", "Running"), ("Cancel", "Cancelled")):
        page.get_by_role("toolbar", name="Actions").get_by_role("button", name=f"{action}…").click()
        page.get_by_role("dialog").get_by_role("button", name=action, exact=True).click()
        page.get_by_role("dialog").wait_for(state="detached")
        wait_for_status(handle, status)
        page.locator(f"h1 .state:has-text('{status}')").wait_for()
    RELEASE.set()


def test_failed_execution_runs_again_with_one_value_changed_by_keyboard(
    world: World, open_page: Open
) -> None:
    page = open_page(world.link)
    # Opens the workflow's failed executions with the command palette, and selects the first row.
    page.keyboard.press("Control+k")
    page.keyboard.type("failed executions of orders")
    page.get_by_role("option", name="Failed executions of orders").wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/executions?**")
    page.locator("tbody tr").first.wait_for()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/executions/{world.failed.id}")
    page.locator("h1 .state").wait_for()
    # Runs the execution again with another value.
    page.keyboard.press("r")
    page.wait_for_url("**/start?**")
    box = page.get_by_label("Input, as a JSON object")
    box.focus()
    input = json.loads(box.input_value())
    assert input["password"] == "•••"
    input["missing"] = 0
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(json.dumps(input))
    page.get_by_text("Changed: missing").wait_for()
    page.get_by_role("button", name="Start").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/executions/*")
    page.locator("h1 .state:has-text('Completed')").wait_for()
    new = page.url.split("/executions/")[1]
    assert new != world.failed.id
    assert world.runner.get_handle(new).result().final_context["password"] == "x1"


def test_selected_executions_are_cancelled_and_refusals_are_reported(
    world: World, open_page: Open
) -> None:
    handles = [world.runner.submit("orders", {"bulk": n}, delay=3600) for n in range(3)]
    page = open_page(world.link, "executions?status=Pending&workflow=orders")
    page.get_by_label("Select all rows").check()
    page.get_by_role("toolbar").get_by_role("button", name="Resume…").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("stay as they are").wait_for()
    assert dialog.get_by_role("button", name="Resume (0)").is_disabled()
    page.keyboard.press("Escape")
    page.get_by_label("Select all rows").uncheck()
    for handle in handles:
        page.locator(f"tr:has(a[href*='{handle.id}']) input").click()
    page.get_by_role("toolbar").get_by_role("button", name="Cancel…").click()
    dialog.get_by_role("button", name="Cancel (3)").click()
    dialog.wait_for(state="detached")
    for handle in handles:
        wait_for_status(handle, "Cancelled")


def test_action_on_all_matching_executions_has_no_limit(world: World, open_page: Open) -> None:
    steps = 210
    asked: list[bool] = []
    held: list[Callable[[], None]] = []

    def answer(route: Any) -> None:
        body = json.loads(route.request.post_data)
        asked.append(body["dry_run"])
        step = int(body.get("cursor", 0)) + 1
        following = None if step == steps else str(step)
        answered = {"matched": 500, "done": 500, "refused": [], "next": following}
        if body["dry_run"] or step != 3:
            route.fulfill(json=answered)
        else:
            held.append(lambda: route.fulfill(json=answered))

    page = open_page(world.link, "executions?status=Pending&workflow=orders")
    page.locator("tbody tr").first.wait_for()
    page.route("**/executions/bulk*", answer)
    page.get_by_role("button", name="Pause: all that match").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name=f"Pause ({steps * 500})").click()
    dialog.get_by_role("button", name="Stop").click()
    held[0]()
    dialog.get_by_text("Stopped: 1500 paused, 0 refused").wait_for()
    assert asked == [True] * steps + [False] * 3
    dialog.get_by_role("button", name="Continue").click()
    dialog.wait_for(state="detached", timeout=60_000)
    assert asked == [True] * steps + [False] * steps


def test_list_counts_new_rows_and_shows_them_on_request(world: World, open_page: Open) -> None:
    page = open_page(world.link, "executions")
    page.locator("tbody tr").first.wait_for()
    first = page.locator("tbody tr a").first.inner_text()
    handle = world.runner.submit("orders", {"day": "new"})
    page.get_by_role("button", name="1 new").wait_for(timeout=15_000)
    assert page.locator("tbody tr a").first.inner_text() == first
    page.get_by_role("button", name="1 new").click()
    page.locator(f"tbody tr:first-child a[href*='{handle.id}']").wait_for()


def test_filters_are_in_the_url(world: World, open_page: Open) -> None:
    page = open_page(world.link, "executions")
    page.get_by_role("group", name="States").get_by_role("button", name="Failed").click()
    page.wait_for_url("**/executions?status=Failed")
    page.get_by_label("Workflow").select_option("wide")
    page.get_by_text("No execution matches").wait_for()
    page.get_by_role("button", name="Drop it").last.wait_for()
    page.go_back()
    page.wait_for_url("**/executions?status=Failed")


def test_run_now_starts_an_execution_of_a_schedule(world: World, open_page: Open) -> None:
    page = open_page(world.link, "schedules")
    page.get_by_role("link", name="0 2 * * * Europe/Berlin").click()
    page.get_by_role("button", name="Run now…").click()
    page.get_by_role("dialog").get_by_role("button", name="Run now").click()
    page.wait_for_url("**/executions/*")
    page.locator("h1 .state:has-text('Completed')").wait_for()


def test_arrow_keys_select_tasks_in_the_graph(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.completed.id}")
    page.locator("canvas[data-draw-ms]").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_url("**#task=extract")
    page.locator("canvas").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_url("**#task=validate")
    page.keyboard.press("Escape")
    page.locator(".panel").wait_for(state="detached")


def test_day_of_submission_is_chosen_by_name_and_by_date(world: World, open_page: Open) -> None:
    zone, offset = zone_of_midday()
    page = open_page(world.link, "executions", timezone_id=zone)
    rows = page.locator("tbody tr")
    rows.first.wait_for()
    submitted = page.get_by_label("Submitted")
    submitted.select_option("today")
    chips = page.get_by_role("list", name="Active filters")
    today = str(chips.inner_text()).removeprefix("submitted on ").split("\n")[0]
    # The day begins at midnight in the page's time zone.
    midnight = f"T{-offset % 24:02}:00:00.000Z"
    assert parse_qs(urlsplit(page.url).query)["since"][0].endswith(midnight)
    rows.first.wait_for()
    submitted.select_option("on a day…")
    day = page.get_by_label("Day", exact=True)
    assert day.input_value() == today
    day.fill("1999-12-31")
    page.get_by_text("Without submitted on 1999-12-31").wait_for()
    page.reload()
    assert day.input_value() == "1999-12-31"
    page.get_by_role("button", name="Drop it").click()
    rows.first.wait_for()
    assert submitted.input_value() == ""
    assert "until" not in page.url


def test_choice_of_a_day_ends_when_its_chip_is_removed(world: World, open_page: Open) -> None:
    page = open_page(world.link, "executions?workflow=orders")
    rows = page.locator("tbody tr")
    rows.first.wait_for()
    submitted = page.get_by_label("Submitted")
    day = page.get_by_label("Day", exact=True)
    submitted.select_option("last hour")
    page.wait_for_url("**since=1h**")
    submitted.select_option("on a day…")
    day.wait_for()
    assert parse_qs(urlsplit(page.url).query) == {"workflow": ["orders"]}
    # Another filter does not end the choice.
    page.get_by_label("Workflow").select_option("wide")
    page.wait_for_url("**workflow=wide**")
    assert submitted.input_value() == "day"
    day.fill("1999-12-31")
    page.get_by_text("Without submitted on 1999-12-31").wait_for()
    chips = page.get_by_role("list", name="Active filters")
    chips.get_by_role("button", name="submitted on").click()
    rows.first.wait_for()
    day.wait_for(state="detached")
    assert submitted.input_value() == ""


def test_page_follows_a_running_execution(world: World, open_page: Open) -> None:
    RELEASE.clear()
    handle = world.runner.submit("slow")
    page = open_page(world.link, f"executions/{handle.id}")
    page.locator("h1 .state:has-text('Running')").wait_for()
    RELEASE.set()
    page.locator("h1 .state:has-text('Completed')").wait_for(timeout=15_000)


def test_keyboard_shortcuts_are_listed_and_can_be_disabled(world: World, open_page: Open) -> None:
    page = open_page(world.link)
    page.keyboard.press("?")
    page.get_by_role("dialog").get_by_text("Copy the id").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("g")
    page.keyboard.press("w")
    page.wait_for_url("**/workflows")
    page.locator("summary[aria-label=Settings]").click()
    page.get_by_role("button", name="Keys off").click()
    page.locator("main").focus()
    page.keyboard.press("g")
    page.keyboard.press("e")
    page.wait_for_timeout(200)
    assert page.url.endswith("/workflows")


def test_unknown_execution_is_explained(world: World, open_page: Open) -> None:
    page: Any = open_page(world.link, "executions", allows="404 (Not Found)")
    page.evaluate("""
        history.pushState(null, "", "executions/0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41");
        dispatchEvent(new PopStateEvent("popstate"));
    """)
    page.get_by_text("There is no such execution").wait_for()
