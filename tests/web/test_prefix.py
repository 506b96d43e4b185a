"""The page works below a prefix of a FastAPI, Django or Flask application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from test_web_adapters import FRAMEWORKS, PREFIX
from web_support import Filled

from .conftest import Open, settle


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[Filled]:
    """A database with a completed and a failed execution, and a live runner."""
    filled = Filled(f"sqlite:///{tmp_path / 'prefix.db'}")
    yield filled
    filled.close()


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_page_below_a_prefix_shows_the_list_and_an_execution(
    filled: Filled, open_page: Open, framework: Callable[[Filled], Any]
) -> None:
    with framework(filled) as url:
        mount = f"{url}{PREFIX}/"
        page = open_page(mount, extra_http_headers={"X-User": "ann"})
        page.get_by_role("link", name="Executions", exact=True).click()
        page.wait_for_url(f"{mount}executions")
        page.locator(f"tbody a[href='{PREFIX}/executions/{filled.completed}']").wait_for()
        page.locator(f"tbody a[href='{PREFIX}/executions/{filled.failed}']").click()
        page.locator("h1 .state:has-text('Failed')").wait_for()
        page.locator("canvas[data-draw-ms]").wait_for()
        page.locator(".task-row a", has_text="load").click()
        page.get_by_role("complementary", name="Task load").get_by_text("Attempt 1").wait_for()
        assert page.url == f"{mount}executions/{filled.failed}#task=load"
        # A reload, and the address of a page below the prefix, lead to the same page.
        page.reload()
        page.get_by_role("complementary", name="Task load").wait_for()
        page.locator(".live.live, .live.polling").wait_for()
        new = filled.runner.execute("web_etl", {"day": "2026-01-03"}).execution_id
        page.goto(f"{mount}executions")
        page.locator(f"tbody a[href$='{new}']").wait_for()
        settle(page)
        # Closes the page's connections, for which the server would wait.
        page.goto("about:blank")
