"""The five most frequent tasks of an operator, by keyboard alone and by mouse.

"Task" means here what the operator wants to do. The tests run on SQLite and on PostgreSQL. They
measure the time, but a loaded machine is slow, so they also count actions. A task that needs more
key presses or clicks than `MOST` has become harder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cloaca
import cloaca.web
from processes import build_wall_clock, set_clock

from .conftest import TOKEN, Open, define_workflows, zone_of_midday
from .test_actions import wait_for_status

#: Maximum time for a task, in seconds. On an idle machine, a task takes less than 5 s.
PATIENCE = 60
#: Maximum number of key presses and clicks for each task. Typing a text counts as one action.
MOST = {"traceback": 16, "rerun": 20, "why": 6, "cancel": 20, "approve": 20}
#: The number of executions that the operator cancels. The page cancels at most 500 of them with one
#: request, so this needs three requests.
MANY = 1_203


#: A program that runs a failing execution of each of two workflows, and prints the first one's id.
FAILING = """
import sys
import cloaca
from web.conftest import define_workflows

define_workflows()

with cloaca.WorkflowBuilder("refunds"):

    @cloaca.task(retry_attempts=1)
    def refund(context):
        raise ValueError("no refund")

with cloaca.DefaultRunner(sys.argv[1]) as runner:
    failed = runner.submit("orders", {"missing": int(sys.argv[2])})
    for handle in (failed, runner.submit("refunds")):
        handle.result(timeout=60)
    print(failed.id)
"""


def fail_earlier(url: str, folder: Path, days: int, missing: int) -> str:
    """Runs failing executions in a process whose clock is some days behind; returns an id."""
    clock = folder / f"clock-{days}"
    set_clock(clock, -86400.0 * days)
    tests = Path(__file__).resolve().parents[1]
    paths = [str(tests), *(path for path in sys.path if path)]
    library = folder / "wall_clock.so"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "LD_PRELOAD": str(library if library.exists() else build_wall_clock(folder)),
        "CLOCK_FILE": str(clock),
    }
    command = [sys.executable, "-c", FAILING, url, str(missing)]
    ended = subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=120
    )
    return ended.stdout.splitlines()[-1]


class Scenario:
    """A runner on a database with executions that need an operator, and the link of a server.

    One execution of `orders` failed yesterday. Others failed three days ago and today.
    """

    def __init__(self, link: str, runner: cloaca.DefaultRunner, days: dict[int, str]) -> None:
        self.link, self.runner = link, runner
        self.failed_yesterday = days[1]
        runner.execute("orders", {"day": "2026-03-02"})
        self.failed = runner.submit("orders", {"day": "2026-03-03", "missing": 7})
        self.failed.result(timeout=60)
        self.stuck = runner.submit("elsewhere")


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def scenario(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scenario]:
    """A scenario for an operator, on SQLite and on PostgreSQL in turn."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('scenario') / 'scenario.db'}"
    else:
        server = request.getfixturevalue("server")
        server.sql("CREATE DATABASE web_scenario")
        url = f"{server.url.rpartition('/')[0]}/web_scenario"
    folder = tmp_path_factory.mktemp("earlier")
    days = {days: fail_earlier(url, folder, days, missing=100 + days) for days in (3, 1)}
    define_workflows()
    with cloaca.DefaultRunner(url) as runner, cloaca.web.serve(url, token=TOKEN) as web:
        yield Scenario(web.link, runner, days)


class Operator:
    """Presses keys or clicks as an operator would, and counts both."""

    def __init__(self, page: Any, name: str) -> None:
        self.page, self.name, self.actions = page, name, 0
        self.began = time.monotonic()
        self.mouse = 0

    def press(self, *keys: str) -> None:
        """Presses keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)
            self.actions += 1

    def type(self, text: str) -> None:
        """Types a text into the focused field."""
        self.page.keyboard.type(text)
        self.actions += 1

    def tab_to(self, found: Callable[[], bool], key: str = "Tab") -> None:
        """Presses a key, Tab by default, until the wanted element has the focus."""
        while not found():
            assert self.actions < MOST[self.name], f"the focus is still on {self.focused()!r}"
            self.press(key)

    def tab_to_text(self, text: str, key: str = "Tab") -> None:
        """Presses a key until the focused element's text or label starts with `text`."""
        self.tab_to(lambda: self.focused().strip().startswith(text), key)

    def focused(self) -> str:
        """Returns the text and the labels of the focused element."""
        text: str = self.page.evaluate("""() => {
            const one = document.activeElement;
            const text = one.matches("select") ? "" : one.innerText;
            return [text, one.ariaLabel, one.labels?.[0]?.innerText].join(" ");
        }""")
        return text

    def click(self, target: Any) -> None:
        """Clicks an element."""
        target.click()
        self.actions += 1
        self.mouse += 1

    def done(self) -> None:
        """Asserts that the task took few actions and not too much time."""
        spent = time.monotonic() - self.began
        print(f"{self.name}: {self.actions} actions, {self.mouse} clicks, {spent:.1f} s")
        assert self.actions <= MOST[self.name]
        assert spent < PATIENCE


def operator(page: Any, name: str, by: str) -> Operator:
    """Returns the operator for a task. If `by` is `keyboard`, the page records clicks."""
    used = Operator(page, name)
    if by == "keyboard":
        page.evaluate("addEventListener('pointerdown', () => { window.clicked = true; })")
    return used


BY = pytest.mark.parametrize("by", ["keyboard", "mouse"])


@BY
def test_failed_execution_of_yesterday_and_its_traceback_are_found(
    scenario: Scenario, open_page: Open, by: str
) -> None:
    page = open_page(scenario.link, timezone_id=zone_of_midday()[0])
    use = operator(page, "traceback", by)
    rows = page.locator("tbody tr")
    if by == "keyboard":
        use.press("Control+k")
        use.type("failed executions of orders")
        page.get_by_role("option", name="Failed executions of orders").wait_for()
        use.press("Enter")
        page.wait_for_url("**/executions?**")
        page.locator("main:focus").wait_for()
        use.tab_to_text("Submitted")
        use.type("yesterday")
        page.get_by_role("list", name="Active filters").get_by_text("submitted on").wait_for()
        rows.nth(1).wait_for(state="detached")
        use.press("Escape", "j", "Enter")
        page.locator(".why summary").wait_for()
        use.press("e")
        use.tab_to_text("Traceback")
        use.press("Enter")
    else:
        use.click(page.get_by_role("link", name="Executions", exact=True))
        use.click(page.get_by_role("group", name="States").get_by_role("button", name="Failed"))
        page.wait_for_url("**status=Failed")
        page.get_by_label("Workflow").select_option("orders")
        page.wait_for_url("**workflow=orders")
        page.get_by_label("Submitted").select_option("yesterday")
        # The filter is shown above the list, which moves down.
        page.get_by_role("list", name="Active filters").get_by_text("submitted on").wait_for()
        rows.nth(1).wait_for(state="detached")
        use.click(rows.locator("a.mono"))
        use.click(page.locator(".why summary"))
    page.locator(".why pre.code", has_text="101 rows have no customer").wait_for()
    assert page.url.endswith(scenario.failed_yesterday)
    use.done()
    assert page.evaluate("window.clicked") is None or by == "mouse"


@BY
def test_failed_execution_starts_again_with_one_value_changed(
    scenario: Scenario, open_page: Open, by: str
) -> None:
    page = open_page(scenario.link, f"executions/{scenario.failed.id}")
    page.locator("h1 .state").wait_for()
    use = operator(page, "rerun", by)
    if by == "keyboard":
        use.press("r")
        page.locator("#field-missing").wait_for()
        use.tab_to(lambda: page.evaluate("document.activeElement.id") == "field-missing")
        use.press("Control+a")
        use.type("0")
        page.get_by_text("Changed: missing").wait_for()
        use.tab_to(lambda: use.focused().strip() == "Start")
        use.press("Enter")
    else:
        actions = page.get_by_role("toolbar", name="Actions")
        use.click(actions.get_by_role("button", name="Run again…"))
        page.locator("#field-missing").fill("0")
        page.get_by_text("Changed: missing").wait_for()
        use.click(page.get_by_role("button", name="Start", exact=True))
    page.wait_for_url("**/executions/*")
    page.locator("h1 .state:has-text('Completed')").wait_for()
    use.done()
    new = page.url.split("/executions/")[1]
    assert new != scenario.failed.id
    assert scenario.runner.get_handle(new).result().final_context["day"] == "2026-03-03"


@BY
def test_reason_why_an_execution_is_stuck_is_found(
    scenario: Scenario, open_page: Open, by: str
) -> None:
    page = open_page(scenario.link)
    use = operator(page, "why", by)
    if by == "keyboard":
        use.press("Control+k")
        # The dialog receives keys even if they are pressed before the browser has painted it.
        use.type(scenario.stuck.id)
        use.press("Enter")
        page.wait_for_url(f"**/executions/{scenario.stuck.id}")
        page.locator("#why").wait_for()
        use.press("e")
        page.locator(".why:focus").wait_for()
    else:
        section = page.locator("section[aria-labelledby=stuck]")
        use.click(section.locator(f"a[href*='{scenario.stuck.id}']"))
    page.locator(".why").get_by_text("no live runner").first.wait_for()
    page.locator(".why").get_by_text("start a runner").first.wait_for()
    use.done()


@BY
def test_1203_executions_are_cancelled_by_filter(
    scenario: Scenario, open_page: Open, by: str
) -> None:
    entry = {"workflow": "agent", "delay": 3600, "labels": {"wave": by}}
    handles = scenario.runner.submit_many([entry] * MANY)
    page = open_page(scenario.link, "executions")
    page.locator("tbody tr").first.wait_for()
    use = operator(page, "cancel", by)
    if by == "keyboard":
        use.press("/")
        use.type(f"label.wave = {by}")
        use.press("Enter")
        page.wait_for_url(f"**/executions?label.wave={by}")
        page.locator("tbody tr").nth(49).wait_for()
        use.press(".")
        use.tab_to_text("Cancel all…")
        use.press("Enter")
        page.get_by_role("dialog").get_by_role("button", name=f"Cancel ({MANY})").wait_for()
        use.tab_to_text(f"Cancel ({MANY})")
        use.press("Enter")
    else:
        page.get_by_label("Error, id, or name = value").fill(f"label.wave = {by}")
        page.get_by_label("Error, id, or name = value").press("Enter")
        page.wait_for_url(f"**/executions?label.wave={by}")
        use.click(page.get_by_role("button", name="Cancel: all that match"))
        use.click(page.get_by_role("dialog").get_by_role("button", name=f"Cancel ({MANY})"))
    page.get_by_role("dialog").wait_for(state="detached", timeout=PATIENCE * 1000)
    use.done()
    assert {str(handle.status()) for handle in handles} == {"Cancelled"}


@BY
def test_waiting_execution_is_approved(scenario: Scenario, open_page: Open, by: str) -> None:
    handle = scenario.runner.submit("release")
    deadline = time.monotonic() + 60
    while not scenario.runner.waits(workflow="release").items:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    page = open_page(scenario.link)
    row = page.locator(f".item:has(a[href*='{handle.id}'])")
    row.get_by_role("button", name="Decide…").wait_for()
    use = operator(page, "approve", by)
    dialog = page.get_by_role("dialog")
    if by == "keyboard":
        use.press("g", "q")
        page.wait_for_url("**/waiting")
        row.get_by_role("button", name="Decide…").wait_for()
        use.tab_to_text("Decide…")
        use.press("Enter")
        dialog.get_by_label("limit").wait_for()
        use.tab_to(lambda: use.focused().strip().startswith("limit"))
        use.type("5")
        use.press("Tab")
        use.type("ok")
        use.press("Enter")
    else:
        use.click(row.get_by_role("button", name="Decide…"))
        dialog.get_by_label("limit").fill("5")
        dialog.get_by_label("note").fill("ok")
        use.click(dialog.get_by_role("button", name="Approve").last)
    dialog.wait_for(state="detached")
    wait_for_status(handle, "Completed")
    use.done()
