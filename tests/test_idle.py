"""A runner that has nothing to do leaves PostgreSQL alone."""

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

#: Every transaction counts, the one that asks included.
COUNT = "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{}'"


def transactions(server, database):
    """How many there were, once the server's own books are up to date."""
    server.sql("SELECT pg_stat_clear_snapshot()")
    return int(server.sql(COUNT.format(database)))


def test_two_idle_runners_ask_less_than_every_two_seconds(server, postgres, script, tmp_path):
    ledger = Ledger(tmp_path)
    name = postgres.rpartition("/")[2]
    runners = [script(IDLER, postgres) for _ in range(2)]
    ledger.wait("ready", 2)
    # Greetings, and what the sessions have not reported yet: the server gathers figures slowly.
    time.sleep(8)
    before, start = transactions(server, name), time.monotonic()
    time.sleep(seconds(10))
    asked, passed = transactions(server, name) - before, time.monotonic() - start
    (tmp_path / "stop").touch()
    for runner in runners:
        assert runner.communicate(timeout=60) == ("", "")
    # Two more, for heartbeats of either that fall into the span by chance.
    assert asked <= 2 * passed / 2 + 2, f"{asked} transactions in {passed:.1f} s"
