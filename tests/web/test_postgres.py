"""The web page on PostgreSQL: live changes, tenants, and every tab of an execution."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cloaca
import cloaca.web

from .conftest import RELEASE, TOKEN, Open, check_looks, define_workflows, settle, violations


@pytest.fixture(scope="module")
def served(server: Any) -> Iterator[tuple[cloaca.DefaultRunner, Any]]:
    """A runner on a PostgreSQL database that also has a tenant, and a server of the page."""
    server.sql("CREATE DATABASE web_page")
    url = f"{server.url.rpartition('/')[0]}/web_page"
    cloaca.DatabaseAdmin(url).create_tenant(cloaca.TenantConfig("acme_page", "acme_page_user"))
    define_workflows()
    config = cloaca.DefaultRunnerConfig(capture_logs=True)
    with (
        cloaca.DefaultRunner.with_config(url, config) as runner,
        cloaca.DefaultRunner.with_schema(url, "acme_page") as tenant,
        cloaca.web.serve(url, token=TOKEN) as web,
    ):
        tenant.execute("wide")
        runner.execute("orders", {"day": "2026-03-02"})
        yield runner, web


def test_open_page_shows_changes_of_a_sole_runner_on_postgres(
    served: tuple[cloaca.DefaultRunner, Any], open_page: Open
) -> None:
    runner, web = served
    RELEASE.clear()
    handle = runner.submit("slow")
    page = open_page(web.link, f"executions/{handle.id}")
    page.locator("h1 .state:has-text('Running')").wait_for()
    RELEASE.set()
    page.locator("h1 .state:has-text('Completed')").wait_for(timeout=15_000)
    page = open_page(web.link, "executions")
    page.locator("tbody tr").first.wait_for()
    new = runner.execute("orders", {"day": "new"}).execution_id
    page.get_by_role("button", name="1 new").click(timeout=15_000)
    page.locator(f"tbody tr:first-child a[href*='{new}']").wait_for()


def test_tenants_page_is_accessible_and_fits_narrow_windows(
    served: tuple[cloaca.DefaultRunner, Any], open_page: Open
) -> None:
    _, web = served
    page = open_page(web.link, "tenants")
    page.get_by_role("cell", name="acme_page", exact=True).wait_for()
    check_looks(page, "tenants")


def test_tenants_are_listed_and_picked(
    served: tuple[cloaca.DefaultRunner, Any], open_page: Open
) -> None:
    _, web = served
    page = open_page(web.link, "tenants")
    page.get_by_role("cell", name="acme_page", exact=True).get_by_role("link").click()
    page.wait_for_url("**tenant=acme_page**")
    page.get_by_role("link", name="Executions", exact=True).click()
    page.wait_for_url("**/executions?tenant=acme_page")
    page.locator("tbody tr").first.wait_for()
    assert page.locator("tbody tr").count() == 1
    page.locator("tbody tr", has_text="wide").locator("a.mono").click()
    page.wait_for_url("**/executions/*tenant=acme_page**")
    page.locator("h1 .state:has-text('Completed')").wait_for()
    # The links to the exported files and to a task keep the tenant.
    page.locator("summary[aria-label='More actions']").click()
    for name in ("Export as JSON", "Export as an HTML file"):
        with page.expect_download() as download:
            page.get_by_role("link", name=name).click()
        assert "wide" in Path(download.value.path()).read_text()
    page.keyboard.press("Escape")
    page.locator(".task-row a").first.click()
    page.locator(".panel").get_by_text("Attempt 1").wait_for()
    assert "tenant=acme_page#task=" in page.url
    page.get_by_label("tenant").select_option("")
    page.wait_for_url(lambda url: "tenant" not in url)
    page.get_by_role("heading", name="Attention").wait_for()


def test_every_tab_of_an_execution_is_shown_on_postgres(
    served: tuple[cloaca.DefaultRunner, Any], open_page: Open
) -> None:
    runner, web = served
    failed = runner.execute("orders", {"missing": 7, "password": "x1"}).execution_id
    page = open_page(web.link)
    parts = {
        "": "canvas[data-draw-ms]",
        "/timeline": ".lane .bar",
        "/logs": ".empty:has-text(\"No line belongs to task 'validate'\")",
        "/context": ".json",
        "/history": ".event:has-text('7 rows have no customer')",
        "/steps": "main .empty",
        "/children": "main .empty",
    }
    for tab, shown in parts.items():
        page.goto(f"{web.url}executions/{failed}{tab}#task=validate")
        page.locator(shown).first.wait_for()
        page.locator(".panel").get_by_text("Attempt 2").wait_for()
    settle(page)
    assert violations(page) == []
    page.goto(f"{web.url}database")
    page.get_by_text("The check found no problem.").wait_for()
    assert page.get_by_text("postgres", exact=True).count() == 1
