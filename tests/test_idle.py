"""An idle runner sends only a few statements to PostgreSQL."""

from __future__ import annotations

import textwrap
import time

from processes import PREAMBLE, Ledger, seconds

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
