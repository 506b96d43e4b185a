"""A page that stays open survives a server restart and many executions, and does not grow."""

from __future__ import annotations

import os
import re
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from wsgiref import simple_server

import pytest

import cloaca
import cloaca.web

from .conftest import TOKEN, Open

#: The number of executions that run while the page is open.
MANY = 20_000
#: Time for which a page is left open, in seconds. In `make long`, it is ten minutes.
OPEN = int(os.environ.get("CLOACA_TEST_OPEN", "10"))
#: Maximum growth of a page's heap while the page is left open, in bytes.
MAX_GROWTH = 3_000_000
#: Maximum time between two frames while executions run, in milliseconds, on a busy machine.
MAX_FRAME = 2000.0


@pytest.fixture
def busy(tmp_path: Path) -> Iterator[cloaca.DefaultRunner]:
    """A runner with its own database."""
    with cloaca.WorkflowBuilder("tick"):

        @cloaca.task()
        def tick(context: cloaca.Context) -> None:
            pass

    # After a heartbeat, an open page loads its list again. With this interval, heartbeats do not
    # disturb a test that counts requests.
    config = cloaca.DefaultRunnerConfig(heartbeat_interval=60, lease_ttl=180)
    with cloaca.DefaultRunner(f"sqlite:///{tmp_path / 'busy.db'}", config) as runner:
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


def serve_in_a_process(url: str, port: int) -> tuple[subprocess.Popen[str], str]:
    """Starts `cloaca ui`, and returns the process and the page's address."""
    command = [sys.executable, "-m", "cloaca", "ui", "-c", url, "--port", str(port), "--no-open"]
    process = subprocess.Popen(
        command,
        env={**os.environ, "CLOACA_UI_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_page_survives_the_death_of_its_server(
    busy: cloaca.DefaultRunner, tmp_path: Path, open_page: Open
) -> None:
    url = f"sqlite:///{tmp_path / 'busy.db'}"
    server, link = serve_in_a_process(url, 0)
    try:
        page = open_page(link, "executions", allows="net::ERR_")
        page.locator(".live.live").wait_for()
        server.kill()
        server.communicate(timeout=30)
        page.locator(".live.offline").wait_for(timeout=30_000)
        server, _ = serve_in_a_process(url, urlsplit(link).port or 0)
        page.locator(".live.live").wait_for(timeout=30_000)
        busy.execute("tick")
        page.get_by_role("button", name="1 new").wait_for(timeout=15_000)
    finally:
        server.kill()
        server.communicate(timeout=30)


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


class ThreadingServer(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    """A WSGI server with a thread for each request."""

    daemon_threads = True


class QuietHandler(simple_server.WSGIRequestHandler):
    """A request handler that logs nothing."""

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


def test_page_polls_for_changes_under_wsgi(
    busy: cloaca.DefaultRunner, tmp_path: Path, open_page: Open
) -> None:
    url = f"sqlite:///{tmp_path / 'busy.db'}"
    app = cloaca.web.wsgi(url, authorize=lambda _: cloaca.web.Access("ann"))
    server = simple_server.make_server(
        "127.0.0.1", 0, app, server_class=ThreadingServer, handler_class=QuietHandler
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        asked: list[str] = []
        page = open_page(f"http://127.0.0.1:{server.server_port}/", "executions")
        page.on("request", lambda request: asked.append(request.url))
        page.reload()
        page.locator(".live.polling").wait_for()
        busy.execute("tick")
        page.get_by_role("button", name="1 new").wait_for(timeout=15_000)
        assert any("/changes" in url for url in asked)
        assert not any("/stream" in url for url in asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


#: JavaScript that delays each request for a list of executions by 0.8 s, and counts the requests.
SLOW = """() => {
    const ask = window.fetch;
    window.asked = 0;
    window.fetch = async (target, init) => {
        if (String(target).includes("/executions?")) {
            window.asked++;
            await new Promise((resolve) => setTimeout(resolve, 800));
            init?.signal?.throwIfAborted();
        }
        return ask(target, init);
    };
}"""


def test_slow_list_is_shown_while_the_database_changes(
    busy: cloaca.DefaultRunner, open_page: Open
) -> None:
    ended = threading.Event()
    submitted: list[str] = []

    def work() -> None:
        while not ended.wait(0.1):
            submitted.append(busy.submit("tick").id)

    thread = threading.Thread(target=work)
    with cloaca.web.serve(busy, token=TOKEN) as server:
        page = open_page(server.link, "workflows", allows="net::ERR_")
        page.locator(".live.live").wait_for()
        page.evaluate(SLOW)
        thread.start()
        try:
            page.get_by_role("link", name="Executions").first.click()
            page.locator("tbody tr").first.wait_for(timeout=6_000)
            page.wait_for_timeout(1000)
        finally:
            ended.set()
            thread.join()
        # The page loads the list once more after the last change.
        busy.wait_until_idle(timeout=30)
        page.wait_for_timeout(2500)
        page.get_by_role("button", name=" new").click()
        page.locator(f"a[href$='{submitted[-1]}']").first.wait_for()
        asked = page.evaluate("window.asked")
        page.wait_for_timeout(2000)
        assert page.evaluate("window.asked") == asked


def test_open_page_does_not_grow(database: str, open_page: Open) -> None:
    ended = threading.Event()

    with cloaca.WorkflowBuilder("tick"):

        @cloaca.task()
        def tick(context: cloaca.Context) -> None:
            pass

    with cloaca.WorkflowBuilder("watched"):

        @cloaca.task(timeout=2 * OPEN + 300)
        def count(task: cloaca.TaskHandle) -> None:
            number = 0
            while not ended.wait(0.3):
                number += 1
                task.set_progress(number % 100, 100, f"step {number}")

        @cloaca.task(dependencies=[count])
        def end(context: cloaca.Context) -> None:
            pass

    def work() -> None:
        while not ended.wait(0.3):
            runner.submit("tick")

    thread = threading.Thread(target=work)
    with (
        cloaca.DefaultRunner(database) as runner,
        cloaca.web.serve(runner, token=TOKEN) as server,
    ):
        watched = f"executions/{runner.submit('watched').id}"
        paths = ("", "executions", "workflows", watched, f"{watched}#task=count")
        pages = [open_page(server.link, path, allows="net::ERR_") for path in paths]
        thread.start()
        try:
            time.sleep(5)
            before = [size(page) for page in pages]
            time.sleep(OPEN)
            after = [size(page) for page in pages]
            shown = pages[-1].locator(".panel").get_by_text(re.compile(r"step \d+$")).inner_text()
        finally:
            ended.set()
            thread.join()
            # The pages would request data from the server while it stops.
            for page in pages:
                page.close()
    # The pages have followed the changes: about three steps per second.
    assert int(shown.rpartition(" ")[2]) > OPEN, shown
    print("bytes of heap and elements, before and after:", before, after)
    for (heap, nodes), (later_heap, later_nodes) in zip(before, after, strict=True):
        assert later_heap - heap < MAX_GROWTH, (before, after)
        # A list can grow until its first page is full.
        assert later_nodes - nodes < 2000, (before, after)


def size(page: Any) -> tuple[int, int]:
    """Returns the heap's size in bytes after a garbage collection, and the number of elements."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    return int(heap), page.locator("*").count()
