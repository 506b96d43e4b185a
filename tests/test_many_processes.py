"""With several processes on one database, no task runs twice, and no process starves or fails.

The test with `w9` in its name runs workload W9 of the benchmarks.
"""

from __future__ import annotations

import collections
import textwrap

import pytest

import cloaca
from processes import IS_STRICT, PREAMBLE, Ledger, seconds

RACER = PREAMBLE + textwrap.dedent(
    """
    import mmap

    database, side, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with open("meet", "r+b") as file:
        meet = mmap.mmap(file.fileno(), 0)

    def parent(context):
        # Each process runs one of the two parents. Both parents return at the same instant.
        flag = 2 * context["n"] + (side == "right")
        meet[flag] = 1
        while not meet[flag ^ 1]:
            time.sleep(0)

    with cloaca.WorkflowBuilder("join"):
        for name in ("left", "right"):
            if name == side:
                cloaca.task(id=name)(parent)
            else:
                cloaca.external_task(name)

        @cloaca.task(dependencies=["left", "right"])
        def child(context):
            note("child", context["n"], side)

    with cloaca.DefaultRunner(database) as runner:
        note("ready", side)
        if side == "left":
            wait_for("go")
            # Opens at most one execution per worker of a process. With more executions, all
            # workers could wait for parents that get no worker in the other process.
            for first in range(0, count, 4):
                wave = range(first, min(first + 4, count))
                for handle in runner.submit_many(("join", {"n": n}) for n in wave):
                    result = handle.result(timeout=100)
                    note("result", result.status, result.tasks["child"].attempts)
        wait_for("stop")
    """
)


def test_child_of_two_parents_in_two_processes_starts_once(database, script, tmp_path):
    count = 1000 if IS_STRICT else 250
    ledger = Ledger(tmp_path)
    (tmp_path / "meet").write_bytes(bytes(2 * count))
    processes = [script(RACER, database, side, str(count)) for side in ("left", "right")]
    ledger.wait("ready", 2)
    (tmp_path / "go").touch()
    results = ledger.wait("result", count, patience=100)
    (tmp_path / "stop").touch()
    for process in processes:
        assert process.communicate(timeout=60) == ("", "")
    assert results == [["Completed", "1"]] * count
    children = collections.Counter(int(n) for n, _ in ledger.lines("child"))
    assert children == dict.fromkeys(range(count), 1)


OPENER = PREAMBLE + textwrap.dedent(
    """
    with cloaca.WorkflowBuilder("w"):
        @cloaca.task
        def work(context):
            pass

    note("ready")
    wait_for("go")
    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        print(runner.execute("w").status)
    """
)


def test_i1_eight_processes_open_one_fresh_database_at_once(database, script, tmp_path):
    processes = [script(OPENER, database) for _ in range(8)]
    Ledger(tmp_path).wait("ready", 8)
    (tmp_path / "go").touch()
    for process in processes:
        assert process.communicate(timeout=100) == ("Completed\n", "")


NEWER = """
    import sqlite3, sys
    connection = sqlite3.connect(sys.argv[1])
    connection.execute("INSERT INTO cloacina_migrations VALUES ('99990101000000', 0)")
    connection.commit()
    connection.close()
"""


def test_i1_a_newer_schema_is_refused(database, script, request):
    cloaca.DefaultRunner(database).shutdown()
    if database.startswith("sqlite"):
        # Another process writes, because two copies of SQLite in one process can damage the file
        # (except on Linux).
        assert script(NEWER, database.removeprefix("sqlite:///")).communicate(timeout=60) == (
            "",
            "",
        )
    else:
        server = request.getfixturevalue("server")
        sql = "INSERT INTO cloacina_migrations VALUES ('99990101000000', 0)"
        server.sql(sql, database.rpartition("/")[2])
    with pytest.raises(cloaca.MigrationError, match="newer than this program knows") as caught:
        cloaca.DefaultRunner(database)
    assert "99990101000000" in str(caught.value)


BUSY = PREAMBLE + textwrap.dedent(
    """
    import logging

    class Notes(logging.Handler):
        def emit(self, record):
            note("log", record.levelname, record.getMessage())

    logging.getLogger("cloaca").addHandler(Notes())

    with cloaca.WorkflowBuilder("pair"):
        @cloaca.task
        def one(context):
            pass

        @cloaca.task(dependencies=[one])
        def two(context):
            pass

    end = time.monotonic() + float(sys.argv[2])
    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        note("ready")
        done = 0
        while time.monotonic() < end:
            if done % 2:
                handles = runner.submit_many(("pair", None) for _ in range(10))
            else:
                handles = [runner.submit("pair") for _ in range(10)]
            for handle in handles:
                assert handle.result(timeout=60).status == "Completed"
            done += 1
        note("done", done)
    """
)


def test_w9_four_processes_on_one_database_see_no_error(database, script, tmp_path):
    ledger = Ledger(tmp_path)
    processes = [script(BUSY, database, str(seconds(4))) for _ in range(4)]
    for process in processes:
        assert process.communicate(timeout=seconds(4) + 100) == ("", "")
        assert process.returncode == 0
    assert ledger.lines("log") == []
    done = [int(count) for (count,) in ledger.lines("done")]
    assert len(done) == 4
    assert min(done) > 0
    with cloaca.DefaultRunner(database) as runner:
        assert not runner.list_executions(status=["Pending", "Running", "Failed"]).items


WORKER = PREAMBLE + textwrap.dedent(
    """
    with cloaca.WorkflowBuilder("w"):
        @cloaca.task
        def work(context):
            note("work", os.getpid())
            time.sleep(0.02)

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=2)
    with cloaca.DefaultRunner(sys.argv[1], config) as runner:
        note("ready")
        wait_for("stop")
    """
)

SUBMITTER = PREAMBLE + textwrap.dedent(
    """
    with cloaca.WorkflowBuilder("w"):
        cloaca.external_task("work")

    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        handles = runner.submit_many(("w", None) for _ in range(400))
        print({handle.result(timeout=100).status for handle in handles})
    """
)


def test_work_of_a_fifth_process_is_shared_by_four_runners(database, script, tmp_path):
    ledger = Ledger(tmp_path)
    workers = [script(WORKER, database) for _ in range(4)]
    ledger.wait("ready", 4)
    submitter = script(SUBMITTER, database)
    out, err = submitter.communicate(timeout=110)
    assert (out, err) == ("{<WorkflowStatus.COMPLETED: 'Completed'>}\n", "")
    (tmp_path / "stop").touch()
    for worker in workers:
        assert worker.communicate(timeout=60) == ("", "")
    shares = collections.Counter(int(pid) for (pid,) in ledger.lines("work"))
    assert sum(shares.values()) == 400
    assert set(shares) == {worker.pid for worker in workers}
    assert min(shares.values()) >= 20, "a runner got less than its share"
