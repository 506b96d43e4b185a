"""The first page shows what needs a person's attention, however many executions are open."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cloaca
import cloaca.web

from .conftest import TOKEN, Open, define_flow


@pytest.fixture
def own(tmp_path: Path) -> Iterator[tuple[cloaca.DefaultRunner, str]]:
    """A runner with its own database, and the link of a server of the page."""
    define_flow()
    with cloaca.WorkflowBuilder("elsewhere"):
        cloaca.external_task("pack")

    with cloaca.WorkflowBuilder("later"):

        @cloaca.task
        def work(context: cloaca.Context) -> None:
            pass

    with (
        cloaca.DefaultRunner(f"sqlite:///{tmp_path / 'own.db'}") as runner,
        cloaca.web.serve(runner, token=TOKEN) as server,
    ):
        yield runner, server.link


def wait_for(holds: Callable[[], bool]) -> None:
    """Waits until a condition holds."""
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_stuck_execution_is_shown_despite_many_delayed_ones(
    own: tuple[cloaca.DefaultRunner, str], open_page: Open
) -> None:
    runner, link = own
    stuck = runner.submit("elsewhere")
    for _ in range(120):
        runner.submit("later", delay=3600)
    page = open_page(link)
    section = page.locator("section[aria-labelledby=stuck]")
    section.locator(f"a[href*='{stuck.id}']").wait_for()
    section.get_by_text("101 of 121 open executions were examined").wait_for()
    assert page.get_by_text("All quiet").count() == 0
    stuck.cancel()
    page.get_by_text("Nothing found that needs attention").wait_for()
    page.get_by_text("100 of 120 open executions were examined").wait_for()
    assert page.get_by_text("All quiet").count() == 0


def test_page_says_all_quiet_if_all_open_executions_were_examined(
    own: tuple[cloaca.DefaultRunner, str], open_page: Open
) -> None:
    runner, link = own
    runner.execute("later")
    runner.submit("later", delay=3600)
    page = open_page(link)
    page.get_by_text("All quiet").wait_for()
    assert page.get_by_text("were examined").count() == 0


def test_approval_is_listed_despite_many_waits_for_signals(
    own: tuple[cloaca.DefaultRunner, str], open_page: Open
) -> None:
    runner, link = own
    for number in range(205):
        runner.submit("payment", {"order_id": str(number)})
    wait_for(lambda: len(runner.waits(limit=500).items) == 205)
    asking = runner.submit("release")
    wait_for(lambda: bool(runner.waits(kind="approval").items))
    page = open_page(link)
    approvals = page.get_by_role("list", name="Open approvals")
    approvals.locator(f".item:has(a[href*='{asking.id}'])").wait_for()
    assert page.get_by_text("All quiet").count() == 0
    page = open_page(link, "waiting")
    row = page.get_by_role("list", name="Open approvals").locator(".item")
    row.get_by_role("button", name="Decide…").wait_for()
    signals = page.get_by_role("list", name="Open signals").locator(".item")
    signals.nth(199).wait_for()
    assert signals.count() == 200
