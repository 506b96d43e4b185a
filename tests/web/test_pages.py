"""Every page shows what the database has, in both themes, wide and narrow, and is accessible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from .conftest import Open, World

PAGES = {
    "attention": "",
    "executions": "executions",
    "failed": "executions/{failed}",
    "task": "executions/{failed}#task=validate",
    "open": "executions/{elsewhere}",
    "timeline": "executions/{failed}/timeline",
    "logs": "executions/{failed}/logs",
    "context": "executions/{failed}/context",
    "history": "executions/{failed}/history",
    "workflows": "workflows",
    "workflow": "workflows/orders",
    "start": "workflows/orders/start?from={completed}",
    "schedules": "schedules",
    "waiting": "waiting",
    "runners": "runners",
    "database": "database",
    "compare": "compare?a=last-success&b={failed}",
}


def path_of(world: World, page: str) -> str:
    """The path of a page, with the ids of the world's executions."""
    ids = {name: getattr(world, name).id for name in ("failed", "elsewhere", "completed")}
    return PAGES[page].format(**ids)


def settle(page: Any) -> None:
    """Wait until the page has loaded its data."""
    page.wait_for_timeout(250)
    page.locator(".loading").first.wait_for(state="detached")
    page.wait_for_timeout(250)


def violations(page: Any) -> list[str]:
    """The violations of WCAG 2.2 AA."""
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    options = {"runOnly": {"type": "tag", "values": tags}}
    found = Axe().run(page, options=options).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found]


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_has_no_accessibility_violation(
    world: World, open_page: Open, name: str, theme: str
) -> None:
    page = open_page(world.link, path_of(world, name), theme)
    settle(page)
    assert violations(page) == []


@pytest.mark.parametrize("name", PAGES)
def test_page_fits_a_phone(world: World, open_page: Open, name: str) -> None:
    page = open_page(world.link, path_of(world, name), width=390)
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("path", ["", "executions", "workflows", "schedules", "waiting"])
def test_page_without_data_shows_an_explanation(empty: str, open_page: Open, path: str) -> None:
    page = open_page(empty, path)
    settle(page)
    assert page.locator(".empty").count() == 1
    assert violations(page) == []


def test_approval_needs_attention(world: World, open_page: Open) -> None:
    page = open_page(world.link)
    page.locator("#approvals").wait_for()
    assert "Release the payment?" in page.locator("main").inner_text()


def test_unknown_page_links_to_the_attention_page(world: World, open_page: Open) -> None:
    page = open_page(world.link, allows="404 (Not Found)")
    page.goto(f"{world.url}nothing/here")
    page.get_by_role("link", name="Attention").click()
    page.get_by_role("heading", name="Attention").wait_for()


def test_all_assets_are_at_most_400_kilobytes() -> None:
    folder = Path(__file__).parents[2] / "crates" / "cloacina-web" / "assets"
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 400_000


def test_first_load_is_at_most_80_kilobytes(world: World, open_page: Open) -> None:
    import gzip

    page = open_page(world.link)
    texts = page.evaluate(
        """Promise.all(['assets/app.js', 'assets/app.css'].map(
            url => fetch(url).then(answer => answer.text())))"""
    )
    assert sum(len(gzip.compress(text.encode())) for text in texts) <= 80_000


def test_unchanged_asset_is_not_sent_again(world: World, open_page: Open) -> None:
    page = open_page(world.link)
    statuses = page.evaluate("""async () => {
        const first = await fetch('assets/app.js', {cache: 'no-store'});
        const headers = {'If-None-Match': first.headers.get('etag')};
        const again = await fetch('assets/app.js', {headers, cache: 'no-store'});
        return [first.status, again.status];
    }""")
    assert statuses == [200, 304]


def test_failed_execution_shows_its_traceback(world: World, open_page: Open) -> None:
    page = open_page(world.link, path_of(world, "failed"))
    page.get_by_text("7 rows have no customer").first.wait_for()
    page.get_by_text("Traceback").first.click()
    assert "raise ValueError" in page.locator(".why pre").inner_text()


def test_task_panel_shows_attempts_and_difference(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.completed.id}#task=validate")
    panel = page.locator(".panel")
    panel.get_by_text("Attempt 1").wait_for()
    panel.get_by_role("button", name="What it wrote").click()
    panel.get_by_text("checked").wait_for()
    assert panel.locator(".diff .changed code").inner_text() == "rows"
    page.goto(f"{world.url}executions/{world.failed.id}#task=validate")
    panel.get_by_text("Attempt 2").wait_for()


def test_number_keeps_its_digits(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.completed.id}/context")
    page.get_by_text(str(2**70)).first.wait_for()


def test_secret_is_hidden(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.failed.id}/context")
    page.get_by_text("•••").first.wait_for()
    assert "x1" not in page.locator("main").inner_text()


def test_why_box_names_the_missing_worker(world: World, open_page: Open) -> None:
    page = open_page(world.link, f"executions/{world.elsewhere.id}")
    page.locator(".why li").first.wait_for()
    assert "pack" in page.locator(".why").inner_text()
    assert "cloaca worker" in page.locator(".why").inner_text()


def test_time_zone_is_shown(world: World, open_page: Open) -> None:
    page = open_page(world.link)
    assert "GMT+9" in page.locator(".clock").inner_text()
    page.locator("summary[aria-label=Settings]").click()
    page.get_by_role("button", name="UTC").click()
    page.get_by_text("UTC").first.wait_for()
    assert page.locator(".clock").inner_text().endswith("UTC")
