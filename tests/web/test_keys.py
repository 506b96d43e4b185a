"""Every key that the list of keys names does what the list says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Open, World, settle

#: A function that checks the keys of one entry on a page.
Case = Callable[[World, Any], None]


def press(page: Any, *keys: str) -> None:
    """Presses keys, one after the other."""
    for key in keys:
        page.keyboard.press(key)


def show(world: World, page: Any, path: str) -> None:
    """Opens another page, and waits until it has loaded its data."""
    page.goto(world.url + path)
    settle(page)


def goes_to(key: str, heading: str) -> Case:
    """Returns a case: `g` and a key open the page with a heading."""

    def check(world: World, page: Any) -> None:
        show(world, page, "workflows" if heading != "Workflows" else "executions")
        press(page, "g", key)
        page.get_by_role("heading", name=heading, exact=True, level=1).wait_for()

    return check


def palette(world: World, page: Any) -> None:
    press(page, "Control+k")
    page.get_by_role("dialog", name="Search").wait_for()


def filter_list(world: World, page: Any) -> None:
    show(world, page, "executions")
    press(page, "/")
    page.locator("[data-filter]:focus").wait_for()


def move_rows(world: World, page: Any) -> None:
    show(world, page, "executions")
    for key, row in (("j", 0), ("j", 1), ("j", 2), ("k", 1)):
        press(page, key)
        page.locator(f"tr.at[data-row='{row}'] a:focus").wait_for()


def open_row(world: World, page: Any) -> None:
    show(world, page, "executions?status=Failed&workflow=orders")
    press(page, "j")
    row = page.locator("tr.at a.mono").get_attribute("title")
    press(page, "Enter")
    page.wait_for_url(f"**/executions/{row}")


def select_row(world: World, page: Any) -> None:
    show(world, page, "executions")
    press(page, "j", "x")
    page.get_by_text("1 selected").wait_for()
    assert page.locator("tr.at input").is_checked()
    press(page, "x")
    page.get_by_text("1 selected").wait_for(state="detached")


def select_rows(world: World, page: Any) -> None:
    show(world, page, "executions")
    press(page, "j", "x", "j", "j", "X")
    page.get_by_text("3 selected").wait_for()


def reach_actions(world: World, page: Any) -> None:
    for path, place in (("executions", ".bulk"), (f"executions/{world.failed.id}", ".actions")):
        show(world, page, path)
        press(page, ".")
        page.locator(f"{place} button:focus").wait_for()


def explain(world: World, page: Any) -> None:
    for id in (world.failed.id, world.elsewhere.id):
        show(world, page, f"executions/{id}")
        press(page, "e")
        page.locator(".why:focus").wait_for()


def show_tabs(world: World, page: Any) -> None:
    show(world, page, f"executions/{world.failed.id}")
    tabs = {"t": "Timeline", "l": "Logs", "h": "History", "d": "Graph and tasks"}
    for key, title in tabs.items():
        press(page, key)
        page.locator(".tabs [aria-current=page]", has_text=title).wait_for()


def run_again(world: World, page: Any) -> None:
    show(world, page, f"executions/{world.failed.id}")
    press(page, "r")
    page.wait_for_url(f"**/workflows/orders/start?from={world.failed.id}")


def neighbours(world: World, page: Any) -> None:
    show(world, page, "executions")
    links = page.locator("tbody a.mono")
    ids = [links.nth(row).get_attribute("title") for row in (1, 2)]
    show(world, page, f"executions/{ids[0]}")
    press(page, "]")
    page.wait_for_url(f"**/executions/{ids[1]}")
    settle(page)
    press(page, "[")
    page.wait_for_url(f"**/executions/{ids[0]}")


def copy_id(world: World, page: Any) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    show(world, page, f"executions/{world.failed.id}")
    press(page, "c")
    page.get_by_text(f"Copied: {world.failed.id}").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == world.failed.id


#: JavaScript that returns the picture of the graph after the next frames.
PICTURE = """async () => {
    for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
    return document.querySelector("canvas[data-draw-ms]").toDataURL();
}"""


def fit_graph(world: World, page: Any) -> None:
    show(world, page, f"executions/{world.wide.id}")
    fitted = page.evaluate(PICTURE)
    page.get_by_role("button", name="Zoom in").click()
    assert page.evaluate(PICTURE) != fitted
    press(page, "f")
    assert page.evaluate(PICTURE) == fitted


def zoom_graph(world: World, page: Any) -> None:
    show(world, page, f"executions/{world.wide.id}")
    page.locator("canvas").focus()
    fitted = page.evaluate(PICTURE)
    press(page, "+")
    larger = page.evaluate(PICTURE)
    press(page, "-", "-")
    assert len({fitted, larger, page.evaluate(PICTURE)}) == 3


def walk_graph(world: World, page: Any) -> None:
    show(world, page, f"executions/{world.completed.id}")
    steps = (("ArrowDown", "extract"), ("ArrowDown", "validate"), ("ArrowUp", "extract"))
    for key, task in steps:
        page.locator("canvas").focus()
        press(page, key)
        page.wait_for_url(f"**#task={task}")
    show(world, page, f"executions/{world.wide.id}#task=shard_20")
    for key in ("ArrowRight", "ArrowLeft"):
        before = page.url
        page.locator("canvas").focus()
        press(page, key)
        page.wait_for_url(lambda url, before=before: url != before)
    assert page.url.endswith("#task=shard_20")


def pause_updates(world: World, page: Any) -> None:
    for pressed in ("true", "false"):
        press(page, "p")
        page.locator(f"button.live[aria-pressed={pressed}]").wait_for()


def switch_theme(world: World, page: Any) -> None:
    for theme in ("dark", "light"):
        press(page, "T")
        page.locator(f"html[data-theme={theme}]").wait_for(state="attached")


def list_keys(world: World, page: Any) -> None:
    press(page, "?")
    page.get_by_role("dialog", name="Keys").wait_for()


def close_things(world: World, page: Any) -> None:
    list_keys(world, page)
    press(page, "Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    show(world, page, f"executions/{world.failed.id}#task=validate")
    page.locator(".panel").wait_for()
    press(page, "Escape")
    page.locator(".panel").wait_for(state="detached")


#: The entries of the list of keys, each with the function that checks its keys.
CASES: dict[str, Case] = {
    "Ctrl K": palette,
    "g h": goes_to("h", "Attention"),
    "g e": goes_to("e", "Executions"),
    "g w": goes_to("w", "Workflows"),
    "g s": goes_to("s", "Schedules"),
    "g q": goes_to("q", "Waiting"),
    "g r": goes_to("r", "Runners"),
    "g d": goes_to("d", "Database"),
    "/": filter_list,
    "j k": move_rows,
    "Enter": open_row,
    "x": select_row,
    "X": select_rows,
    ".": reach_actions,
    "e": explain,
    "d t l h": show_tabs,
    "r": run_again,
    "[ ]": neighbours,
    "c": copy_id,
    "f": fit_graph,
    "+ \N{MINUS SIGN}": zoom_graph,
    "← ↑ → ↓": walk_graph,
    "p": pause_updates,
    "T": switch_theme,
    "?": list_keys,
    "Esc": close_things,
}


@pytest.mark.parametrize("entry", CASES)
def test_key_does_what_the_list_of_keys_says(world: World, open_page: Open, entry: str) -> None:
    page = open_page(world.link)
    settle(page)
    CASES[entry](world, page)


def test_every_key_of_the_list_of_keys_has_a_case(world: World, open_page: Open) -> None:
    page = open_page(world.link)
    press(page, "?")
    page.get_by_role("dialog", name="Keys").wait_for()
    assert page.locator(".keys kbd").all_inner_texts() == [*CASES]


def test_documented_keys_are_in_the_list_of_keys() -> None:
    tour = Path(__file__).parents[2] / "docs" / "how-to" / "tour-of-the-page.md"
    part = tour.read_text().partition("## By keyboard")[2].partition("\n## ")[0]
    documented = re.findall(r"`([^`]+)`", part)
    known = {key for entry in CASES for key in (entry, *entry.split())} | {"Ctrl-K"}
    assert documented
    assert set(documented) <= known
