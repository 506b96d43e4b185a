"""Fixtures: a browser, a database with executions of all kinds, and a server of the web page.

The tests need the packages of `requirements/web.txt` and Chromium; `make test-web` installs both.
If `find_browser` finds none, pytest does not collect the tests.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import cloaca
import cloaca.web
from cloaca._core import Inspector
from conftest import find_browser

CHROMIUM = find_browser()
collect_ignore_glob = [] if CHROMIUM else ["test_*.py"]

TOKEN = "a-token-of-the-tests-0123456789"
#: The number of tasks of the workflow `wide`.
SHARDS = 40
#: The event for which the task of the workflow `slow` waits.
RELEASE = threading.Event()


def define_workflows() -> None:
    """Defines the workflows of the tests.

    They are a pipeline that fails on some inputs, a workflow with many tasks, one with an external
    task, one that waits for `RELEASE`, and those of `define_flow`.
    """
    with cloaca.WorkflowBuilder("orders") as builder:
        builder.description("Loads the orders of a day")
        builder.tag("team", "data")

        @cloaca.task()
        def extract(context: cloaca.Context) -> None:
            print("reading", context.get("day"))
            context["rows"] = 12

        @cloaca.task(dependencies=["extract"], retry_attempts=2, retry_delay_ms=10)
        def validate(context: cloaca.Context) -> None:
            if context.get("missing"):
                raise ValueError(f"{context['missing']} rows have no customer")
            context["rows"] = 11
            context["checked"] = True

        @cloaca.task(dependencies=["validate"])
        def load(context: cloaca.Context) -> None:
            context["loaded"] = context["rows"]

    with cloaca.WorkflowBuilder("wide") as builder:
        builder.description("Many tasks side by side")
        for number in range(SHARDS):

            @cloaca.task(id=f"shard_{number:02}")
            def shard(context: cloaca.Context) -> None:
                pass

    with cloaca.WorkflowBuilder("elsewhere"):
        cloaca.external_task("pack")

    with cloaca.WorkflowBuilder("slow"):

        @cloaca.task()
        def wait_for_release(context: cloaca.Context) -> None:
            RELEASE.wait(60)

    define_flow()


def define_flow() -> None:
    """Defines workflows with an approval, a wait, children, steps and a declared input."""
    with cloaca.WorkflowBuilder("release"):
        cloaca.approval(
            "approve",
            data={"limit": int, "note": str},
            title="Release the payment?",
            to="finance",
        )

        @cloaca.task
        def ship(approve: dict) -> str:
            return f"{approve['by']} allows {approve['data']['limit']}"

    with cloaca.WorkflowBuilder("payment"):

        @cloaca.task(wait_for=cloaca.signal("paid", key="order_id"))
        def book(context: cloaca.Context) -> None:
            context["booked"] = True

    with cloaca.WorkflowBuilder("invoice", input={"order": int}, output="number"):

        @cloaca.task(retry_attempts=1)
        def number(order: int) -> str:
            return f"invoice-{order}"

    with cloaca.WorkflowBuilder("shop"):

        @cloaca.task
        def cart(context: cloaca.Context) -> None:
            context["cart"] = {"id": 7}

        cloaca.child("bill", workflow="invoice", dependencies=[cart], input={"order": "cart.id"})

    with cloaca.WorkflowBuilder("agent"):

        @cloaca.task
        def think(context: cloaca.Context, task: cloaca.TaskHandle) -> None:
            task.step("plan", lambda: {"items": [1, 2, 3], "big": 2**70})
            task.step("answer", lambda: "42")


class World:
    """The executions, the runner and the server of the database that the tests share."""

    def __init__(self, runner: cloaca.DefaultRunner, url: str, link: str) -> None:
        self.runner = runner
        self.url = url
        self.link = link
        self.completed = runner.submit("orders", {"day": "2026-03-02", "big": 2**70})
        self.failed = runner.submit("orders", {"day": "2026-03-03", "missing": 7, "password": "x1"})
        self.keyed = runner.submit("orders", {"day": "2026-03-04"}, key="order-4711")
        self.wide = runner.submit("wide")
        self.parent = runner.submit("shop")
        self.stepped = runner.submit("agent")
        self.asking = runner.submit("release")
        self.paying = runner.submit("payment", {"order_id": "o-7"})
        ended = (self.completed, self.failed, self.keyed, self.wide, self.parent, self.stepped)
        for handle in ended:
            handle.result(timeout=60)
        self.elsewhere = runner.submit("elsewhere")
        self.delayed = runner.submit("orders", {"day": "2026-03-05"}, delay=3600)
        cron = runner.register_cron_workflow("orders", "0 2 * * *", "Europe/Berlin")
        self.schedule = str(cron)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The database that the tests share, with its runner and its server."""
    define_workflows()
    path = tmp_path_factory.mktemp("web") / "web.db"
    url = f"sqlite:///{path}"
    config = cloaca.DefaultRunnerConfig(capture_logs=True, max_concurrent_tasks=4)
    runner = cloaca.DefaultRunner.with_config(url, config)
    with runner, cloaca.web.serve(url, token=TOKEN) as server:
        yield World(runner, server.url, server.link)
        RELEASE.set()


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The link of a server whose database is empty."""
    url = f"sqlite:///{tmp_path_factory.mktemp('empty') / 'empty.db'}"
    # An inspector creates the schema, because a runner would also store definitions of other tests.
    Inspector(url, None, True)
    with cloaca.web.serve(url, token=TOKEN) as server:
        yield server.link


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    from playwright import sync_api as playwright

    with playwright.sync_playwright() as tools:
        # Without this option, Chromium does not start for the root user of a container.
        opened = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


Open = Callable[..., Any]


def zone_of_midday() -> tuple[str, int]:
    """Returns a time zone in which it is now about noon, and its offset from UTC in hours.

    Tests of "today" and "yesterday" use it, because in a fixed zone they would fail near midnight.
    """
    hour = time.gmtime().tm_hour
    offset = 12 - hour or 2
    # The sign in these names is that of POSIX: Etc/GMT-9 is nine hours ahead of UTC.
    return f"Etc/GMT{-offset:+d}", offset


def serve_assets(context: Any) -> None:
    """If `CLOACA_ASSETS` names a folder, loads the page's files from there, not from the server.

    A change of the page then needs no Rust build.
    """
    folder = os.environ.get("CLOACA_ASSETS")
    if folder is None:
        return

    def answer(route: Any) -> None:
        route.fulfill(path=Path(folder) / route.request.url.rpartition("/")[2])

    context.route(re.compile(r"/assets/app\.(js|css)$"), answer)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """A function that logs in, opens a page and returns it.

    The test fails if the page requests another host, or logs an error or a warning. If the argument
    `allows` is given, log messages that contain it are permitted. Further arguments are options of
    the browser context.
    """
    problems: list[str] = []
    contexts = []

    def open_at(
        link: str,
        path: str = "",
        theme: str = "light",
        width: int = 1400,
        allows: str = "",
        **options: Any,
    ) -> Any:
        size = {"width": width, "height": 900}
        options = {"timezone_id": "Asia/Tokyo", **options}
        context = browser.new_context(viewport=size, color_scheme=theme, **options)
        contexts.append(context)
        serve_assets(context)
        page = context.new_page()
        own = link.split("?")[0]

        def check_request(request: Any) -> None:
            if not request.url.startswith(own):
                problems.append(f"a request to another host: {request.url}")

        def check_message(message: Any) -> None:
            if message.type in ("error", "warning") and not (allows and allows in message.text):
                problems.append(f"console: {message.text}")

        # The listeners are attached before the first load, and to all pages that the page opens.
        context.on("request", check_request)
        context.on("weberror", lambda error: problems.append(f"error: {error.error}"))
        context.on("console", check_message)
        page.goto(link)
        if path:
            page.goto(own + path)
        page.locator("main h1").first.wait_for()
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert not problems, problems


#: JavaScript that returns the controls, headings and list terms that extend beyond the left or
#: right edge of the page, and are not in a box that scrolls sideways.
CUT_OFF = """() => {
    const scrolls = (one) => {
        for (let box = one.parentElement; box; box = box.parentElement) {
            if (/auto|scroll/.test(getComputedStyle(box).overflowX)) return true;
        }
        return false;
    };
    return [...document.querySelectorAll("a, button, input, select, textarea, h1, h2, dt, dd")]
        .filter((one) => {
            const { left, right, width } = one.getBoundingClientRect();
            const isHidden = one.closest(".hidden, .skip, details:not([open])");
            return width > 0 && !isHidden && (left < 0 || right > innerWidth) && !scrolls(one);
        })
        .map((one) => one.outerHTML.slice(0, 120));
}"""


#: JavaScript that returns the texts of the header's parts that reach into the next part.
OVERLAPS = """() => {
    const all = [...document.querySelectorAll(".top > *")];
    const parts = all.filter((one) => one.getClientRects().length);
    return parts.slice(0, -1).filter((one, index) => {
        const range = document.createRange();
        range.selectNodeContents(one);
        const next = parts[index + 1].getBoundingClientRect();
        return range.getBoundingClientRect().right > next.left + 1;
    }).map((one) => one.innerText);
}"""


def settle(page: Any) -> None:
    """Waits until the page has loaded its data."""
    page.wait_for_timeout(250)
    page.locator(".loading").first.wait_for(state="detached")
    page.wait_for_timeout(250)


def violations(page: Any) -> list[str]:
    """Returns the violations of WCAG 2.2 AA and of axe's best practices on a page."""
    from axe_playwright_python.sync_playwright import Axe

    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    options = {"runOnly": {"type": "tag", "values": tags}}
    found = Axe().run(page, options=options).response["violations"]
    return [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in found]


def check_looks(page: Any, name: str) -> None:
    """Asserts that a page is accessible and fits the window: in both themes, at three widths."""
    for width, theme in product((1400, 720, 390), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)
        assert violations(page) == [], (width, theme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(CUT_OFF) == [], width
        assert page.evaluate(OVERLAPS) == [], width
        if folder := screenshots():
            page.screenshot(path=folder / f"{name.replace('/', '-')}-{theme}-{width}.png")


def screenshots() -> Path | None:
    """Returns the folder for screenshots; `None` if `CLOACA_SCREENSHOTS` is not set."""
    folder = os.environ.get("CLOACA_SCREENSHOTS")
    return Path(folder) if folder else None
