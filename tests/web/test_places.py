"""The pages of runners, workflows and the database show what their readers look for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import cloaca
import cloaca.web
from web_support import call

from .conftest import TOKEN, Open, check_looks, settle

# The servers of these tests end before the pages, whose streams then end with an error.

#: A program whose runner claims a task, and does not end by itself.
CRASHING = """
import sys, time
import cloaca

with cloaca.WorkflowBuilder("endless"):

    @cloaca.task(id="dig")
    def dig(context):
        print("digging", flush=True)
        time.sleep(600)

cloaca.DefaultRunner(sys.argv[1]).execute("endless")
"""


def test_runner_that_crashed_is_shown_with_what_it_holds(tmp_path: Path, open_page: Open) -> None:
    url = f"sqlite:///{tmp_path / 'crashed.db'}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", CRASHING, url]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as crashing:
        assert crashing.stdout is not None
        assert crashing.stdout.readline() == "digging\n"
        with cloaca.web.serve(url, token=TOKEN) as server:
            page = open_page(server.link, "runners", allows="net::ERR_")
            row = page.locator(".item", has_text=f"pid {crashing.pid} · alive")
            row.get_by_role("link", name="dig").wait_for()
            # A live runner renews its lease, so the end of the lease says nothing about the task.
            assert row.get_by_text("until").count() == 0
            crashing.send_signal(signal.SIGKILL)
            crashing.wait(30)
            page.reload()
            row = page.locator(".item", has_text=f"pid {crashing.pid} · gone")
            row.get_by_text("last heartbeat").wait_for()
            row.get_by_text("until").wait_for()
            row.get_by_text("another runner rescues these tasks").wait_for()
            settle(page)
            check_looks(page, "runner-gone")
            row.get_by_role("link", name="dig").click()
            page.get_by_role("complementary", name="Task dig").wait_for()


def define_shape(*tasks: str) -> None:
    """Defines the workflow `shape` with tasks of these names."""
    with cloaca.WorkflowBuilder("shape"):
        for name in tasks:

            @cloaca.task(id=name)
            def work(context: cloaca.Context) -> None:
                pass


def test_page_of_a_workflow_shows_its_versions_and_durations(
    tmp_path: Path, open_page: Open
) -> None:
    url = f"sqlite:///{tmp_path / 'versions.db'}"
    for tasks in (("round",), ("round", "square")):
        define_shape(*tasks)
        with cloaca.DefaultRunner(url) as runner:
            assert runner.execute("shape").status == "Completed"
    with cloaca.web.serve(url, token=TOKEN) as server:
        page = open_page(server.link, "workflows/shape", allows="net::ERR_")
        page.get_by_text("Of the last 2 completed: median").wait_for()
        versions = page.get_by_label("Version")
        assert versions.locator("option").count() == 2
        assert "(newest)" in versions.locator("option").first.inner_text()
        tasks_shown = page.locator("section[aria-labelledby=defined] tbody tr")
        tasks_shown.nth(1).wait_for()
        versions.select_option(index=1)
        tasks_shown.nth(1).wait_for(state="detached")
        assert tasks_shown.locator("td").first.inner_text() == "round"
        assert "version=" in page.url


def test_page_of_the_database_shows_schema_and_retention(tmp_path: Path, open_page: Open) -> None:
    url = f"sqlite:///{tmp_path / 'schema.db'}"
    define_shape("round")
    with cloaca.DefaultRunner(url) as runner:
        runner.execute("shape")
    with cloaca.web.serve(url, token=TOKEN) as server:
        answer = call(f"{server.url}api/v1/database", token=TOKEN).json()
        migrations = Path(__file__).parents[2] / "crates" / "cloacina" / "migrations" / "sqlite"
        newest = max(folder.name.partition("_")[0] for folder in migrations.iterdir())
        assert answer["schema_version"] == newest
        page = open_page(server.link, "database", allows="net::ERR_")
        facts = page.locator(".facts > div", has_text="Schema")
        facts.get_by_text(f"version {int(newest)}", exact=True).wait_for()
        page.get_by_text("30 days unless the program changes it").wait_for()
