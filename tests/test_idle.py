"""An idle runner sends only a few statements to PostgreSQL, and an open page sends none."""

from __future__ import annotations

import http.client
import textwrap
import time
from urllib.parse import urlsplit

import cloaca
import cloaca.web
from processes import PREAMBLE, Ledger, seconds
from web_support import TOKEN

IDLER = PREAMBLE + textwrap.dedent(
    """
    with cloaca.WorkflowBuilder("w"):
        @cloaca.task
        def work(context):
            pass

    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        assert runner.execute("w").status == "Completed"
        note("ready")
        wait_for("stop")
    """
)


def statements(server):
    """Returns the number of statements in the server's log."""
    log = (server.folder / "server.log").read_text()
    return log.count("LOG:  execute ") + log.count("LOG:  statement: ")


def test_idle_runners_send_a_statement_at_most_every_two_seconds(
    server, postgres, script, tmp_path
):
    ledger = Ledger(tmp_path)
    name = postgres.rpartition("/")[2]
    server.sql(f"ALTER DATABASE {name} SET log_statement = 'all'")
    runners = [script(IDLER, postgres) for _ in range(2)]
    ledger.wait("ready", 2)
    time.sleep(seconds(5))  # Skips the statements that a runner sends after its start.
    before, start = statements(server), time.monotonic()
    time.sleep(seconds(15))
    asked, passed = statements(server) - before, time.monotonic() - start
    # Two more statements are allowed, because each runner may send an extra heartbeat at the start
    # or the end of the period.
    assert asked <= len(runners) * passed / 2 + 2, f"{asked} statements in {passed:.1f} s"
    (tmp_path / "stop").touch()
    for runner in runners:
        assert runner.communicate(timeout=60) == ("", "")


def test_open_page_sends_no_statement_to_an_idle_database(server, postgres):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def work(context):
            pass

    name = postgres.rpartition("/")[2]
    with cloaca.DefaultRunner(postgres) as runner:
        runner.execute("w")
    server.sql(f"ALTER DATABASE {name} SET log_statement = 'all'")
    with cloaca.web.serve(postgres, token=TOKEN) as web:
        stream = http.client.HTTPConnection(urlsplit(web.url).netloc, timeout=60)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        stream.request("GET", "/api/v1/stream", headers=headers)
        events = stream.getresponse()
        assert events.status == 200
        assert events.readline()
        time.sleep(seconds(5))  # Skips the statements with which the server starts to watch.
        before = statements(server)
        assert before > 0
        time.sleep(seconds(10))
        assert statements(server) == before
        stream.close()
