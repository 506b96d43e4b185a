"""A page that stays open: its server restarts, many executions run, and it does not grow."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import cloaca
import cloaca.web

from .conftest import TOKEN, Open

#: Executions that run while the page is open.
MANY = 20_000
#: Seconds for which a page is left open.
OPEN = 15 * int(os.environ.get("CLOACINA_FUZZ", "1"))
#: Maximum number of bytes by which the heap of a page may grow in that time.
MAX_GROWTH = 3_000_000
#: Maximum milliseconds between two frames while executions run; test machines may be busy.
MAX_FRAME = 2000.0


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[cloaca.DefaultRunner]:
    """A runner with a database of its own."""
    with cloaca.WorkflowBuilder("tick"):

        @cloaca.task()
        def tick(context: cloaca.Context) -> None:
            pass

    with cloaca.DefaultRunner(f"sqlite:///{tmp_path / 'busy.db'}") as runner:
        runner.execute("tick")
        yield runner


def test_page_survives_a_restart_of_its_server(busy: cloaca.DefaultRunner, open_page: Open) -> None:
    with cloaca.web.serve(busy, token=TOKEN) as server:
        page = open_page(server.link, "executions", allows="net::ERR_")
        page.locator(".live.live").wait_for()
        port = server.port
    page.locator(".live.offline").wait_for(timeout=30_000)
    with cloaca.web.serve(busy, token=TOKEN, port=port):
        page.locator(".live.live").wait_for(timeout=30_000)
        busy.execute("tick")
        page.get_by_role("button", name="1 new").wait_for(timeout=15_000)


def test_page_stays_usable_while_20000_executions_run(
    busy: cloaca.DefaultRunner, open_page: Open
) -> None:
    with cloaca.web.serve(busy, token=TOKEN) as server:
        page = open_page(server.link, "executions", allows="net::ERR_")
        page.locator("tbody tr").first.wait_for()
        page.evaluate("""() => {
            let last = performance.now();
            window.longest = 0;
            const next = () => {
                const now = performance.now();
                window.longest = Math.max(window.longest, now - last);
                last = now;
                requestAnimationFrame(next);
            };
            requestAnimationFrame(next);
        }""")
        handles = busy.submit_many([("tick", {"number": number}) for number in range(MANY)])
        page.get_by_role("button", name=" new").wait_for(timeout=60_000)
        busy.wait_until_idle(timeout=120)
        chip = page.get_by_role("group", name="States").get_by_role("button", name="Completed")
        chip.get_by_text("≥").wait_for(timeout=30_000)
        assert page.evaluate("window.longest") < MAX_FRAME
        page.get_by_role("button", name=" new").click()
        newest = max(handle.id for handle in handles)
        page.locator(f"a[href$='{newest}']").first.wait_for()


def test_open_page_does_not_grow(busy: cloaca.DefaultRunner, open_page: Open) -> None:
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.3):
            busy.submit("tick")

    thread = threading.Thread(target=work)
    with cloaca.web.serve(busy, token=TOKEN) as server:
        pages = [
            open_page(server.link, path, allows="net::ERR_")
            for path in ("", "executions", "workflows")
        ]
        thread.start()
        try:
            time.sleep(5)
            before = [size(page) for page in pages]
            time.sleep(OPEN)
            after = [size(page) for page in pages]
        finally:
            ended.set()
            thread.join()
    for (heap, nodes), (later_heap, later_nodes) in zip(before, after, strict=True):
        assert later_heap - heap < MAX_GROWTH, (before, after)
        # A list may grow until its first page is full.
        assert later_nodes - nodes < 2000, (before, after)


def size(page: Any) -> tuple[int, int]:
    """The bytes of the heap after a collection, and the number of elements."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return int(heap), page.locator("*").count()
