"""Restarts of PostgreSQL neither lose acknowledged work nor record it twice (semantics E6)."""

from __future__ import annotations

import textwrap
import time

import cloaca
from processes import PREAMBLE, Ledger, seconds

RUNNERS = 4

LOADER = PREAMBLE + textwrap.dedent(
    """
    import logging

    class Notes(logging.Handler):
        def emit(self, record):
            note("log", os.getpid(), record.levelname, record.getMessage())

    logging.getLogger("cloaca").addHandler(Notes())

    with cloaca.WorkflowBuilder("two"):
        @cloaca.task
        def one(context):
            pass

        @cloaca.task(dependencies=[one])
        def two(context):
            context["done"] = True

    config = cloaca.DefaultRunnerConfig(db_timeout=10)
    with cloaca.DefaultRunner(sys.argv[1], config) as runner:
        note("ready", os.getpid())
        while not os.path.exists("enough"):
            try:
                handles = runner.submit_many(("two", None) for _ in range(5))
                note("taken", *[handle.id for handle in handles])
                for handle in handles:
                    assert handle.result(timeout=60).status == "Completed"
            except cloaca.DatabaseError as error:
                note("refused", error)
        wait_for("stop")
    """
)


def all_executions(runner):
    """Yields all executions, reading the list page by page."""
    cursor = None
    while True:
        page = runner.list_executions(limit=1000, cursor=cursor)
        yield from page
        cursor = page.next_cursor
        if cursor is None:
            return


def test_e6_acknowledged_work_survives_restarts_of_the_server(private_server, script, tmp_path):
    ledger = Ledger(tmp_path)
    database = f"{private_server.url}?connect_timeout=5"
    loaders = [script(LOADER, database) for _ in range(RUNNERS)]
    ledger.wait("ready", RUNNERS)
    end = time.monotonic() + seconds(9)
    outages = 0
    while time.monotonic() < end:
        # The load runs for two seconds between outages.
        time.sleep(2)
        private_server.stop(["fast", "immediate"][outages % 2])
        private_server.start()
        outages += 1
        # The runners must accept and complete further submissions.
        ledger.wait("taken", len(ledger.lines("taken")) + 10 * RUNNERS)
    (tmp_path / "enough").touch()
    with cloaca.DefaultRunner(database) as runner:
        runner.wait_until_idle(timeout=60)
        (tmp_path / "stop").touch()
        for loader in loaders:
            assert loader.communicate(timeout=60) == ("", "")
        taken = [id for ids in ledger.lines("taken") for id in ids]
        assert len(taken) == len(set(taken))
        found = {result.execution_id: result for result in all_executions(runner)}
        assert set(taken) <= set(found)
        for result in found.values():
            assert result.status == "Completed"
            assert result.final_context["done"] is True
        for id in taken[:: len(taken) // 100 + 1]:
            types = [(event.type, event.task_id) for event in runner.events(id)]
            for what in [("task_completed", "one"), ("task_completed", "two"), ("completed", None)]:
                assert types.count(what) == 1, types
    lines = [(pid, " ".join(words)) for pid, _, *words in ledger.lines("log")]
    for loader in loaders:
        mine = [line for pid, line in lines if pid == str(loader.pid)]
        gone = [line for line in mine if "does not take writes" in line]
        back = [line for line in mine if "takes writes again" in line]
        assert len(mine) == len(gone) + len(back), mine
        assert 1 <= len(gone) <= outages, f"{len(gone)} lines for {outages} outages: {gone}"
        assert len(back) == len(gone)
