"""SQLite databases whose files other programs open, lock or delete."""

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

import cloaca

COUNT = """
import cloaca, sys
with cloaca.DefaultRunner(sys.argv[1]) as runner:
    print(len(runner.list_executions(limit=10_000).items))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.db"


@pytest.fixture(autouse=True)
def workflow():
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def work(context):
            pass


def url(file: Path) -> str:
    return f"sqlite:///{file}"


def run_executions(runner: cloaca.DefaultRunner, count: int) -> int:
    """Runs executions of `w` to their ends, and returns `count`, their number."""
    for handle in runner.submit_many([("w", {})] * count):
        handle.result(timeout=30)
    return count


def count_by_a_runner(file: Path) -> int:
    """Returns the number of executions that a runner in another process finds in the file."""
    found = subprocess.run(
        [sys.executable, "-c", COUNT, url(file)], capture_output=True, text=True, check=True
    )
    return int(found.stdout)


def count_by_sqlite3(file: Path) -> int:
    """Checks the file with `sqlite3` in another process, and returns the number of executions."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "assert c.execute('PRAGMA integrity_check').fetchall() == [('ok',)]; "
        "print(c.execute('SELECT count(*) FROM cloacina_executions').fetchone()[0]); c.close()"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
    )
    return int(found.stdout)


def open_and_close(file: Path) -> None:
    for name in (file, f"{file}-wal", f"{file}-shm"):
        Path(name).open("rb").close()


def use_sqlite3(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("SELECT count(*) FROM cloacina_executions").fetchall()
    connection.close()


@pytest.mark.parametrize("touch", [open_and_close, use_sqlite3])
def test_program_can_open_and_close_the_engines_file(file, touch):
    runner = cloaca.DefaultRunner(url(file))
    acknowledged = run_executions(runner, 20)
    for count in (count_by_sqlite3, count_by_a_runner, count_by_sqlite3):
        touch(file)
        acknowledged += run_executions(runner, 20)
        assert count(file) == acknowledged
    touch(file)
    acknowledged += run_executions(runner, 20)
    runner.shutdown()
    assert count_by_sqlite3(file) == acknowledged


def test_sqlite3_transaction_in_this_process_blocks_the_engine(file):
    config = cloaca.DefaultRunnerConfig(db_timeout=1)
    with cloaca.DefaultRunner(url(file) + "?busy_timeout=200", config) as runner:
        run_executions(runner, 1)
        connection = sqlite3.connect(file, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE other (x)")
        with pytest.raises(cloaca.CloacaException, match="busy_timeout"):
            run_executions(runner, 1)
        connection.execute("COMMIT")
        connection.close()
        run_executions(runner, 1)
    assert count_by_sqlite3(file) == 2


FORK = """
import os, sys, time, warnings
import cloaca
warnings.simplefilter("ignore")
with cloaca.WorkflowBuilder("w"):
    @cloaca.task
    def work(context):
        pass
url = sys.argv[1]
runner = cloaca.DefaultRunner(url)
runner.execute("w")
"""


def test_forked_child_cannot_open_the_file_of_its_parent(file, script):
    process = script(
        FORK
        + """
if os.fork() == 0:
    try:
        cloaca.DefaultRunner(url)
    except cloaca.ForkedProcessError as error:
        assert "spawn" in error.hint and "before the fork" in error.hint, error.hint
    else:
        os._exit(1)
    with cloaca.DefaultRunner(url.replace("x.db", "child.db")) as own:
        own.execute("w")
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
for _ in range(20):
    runner.execute("w")
runner.shutdown()
""",
        url(file),
    )
    assert process.communicate(timeout=60) == ("", "")
    assert count_by_sqlite3(file) == 21


def test_child_forked_after_shutdown_can_use_the_same_file(file, script):
    process = script(
        FORK
        + """
runner.shutdown()
if os.fork() == 0:
    own = cloaca.DefaultRunner(url)
    for _ in range(20):
        own.execute("w")
    print("acknowledged", flush=True)
    while not os.path.exists("go"):
        time.sleep(0.01)
    for _ in range(20):
        own.execute("w")
    own.shutdown()
    os._exit(7)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
""",
        url(file),
    )
    assert process.stdout.readline() == "acknowledged\n"
    assert count_by_sqlite3(file) == 21
    assert count_by_a_runner(file) == 21
    (file.parent / "go").touch()
    assert process.communicate(timeout=60) == ("", "")
    assert count_by_sqlite3(file) == 41


def test_child_keeps_no_lock_of_its_killed_parent(file, script):
    process = script(
        FORK
        + """
import signal
child = os.fork()
if child == 0:
    os.setsid()
    signal.pause()
print(child, flush=True)
signal.pause()
""",
        url(file),
    )
    child = int(process.stdout.readline())
    process.kill()
    try:
        process.wait(timeout=30)
        with cloaca.DefaultRunner(url(file)) as runner:
            run_executions(runner, 5)
        assert not Path(f"{file}-wal").exists()
        assert count_by_sqlite3(file) == 6
    finally:
        os.kill(child, 9)


def open_files(folder: Path) -> list[Path]:
    links = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    return [link for link in links if folder in link.parents]


def test_results_are_readable_after_shutdown_closed_all_files(file):
    runner = cloaca.DefaultRunner(url(file))
    handle = runner.submit("w", {"given": 1})
    handle.result(timeout=30)
    (listed,) = runner.list_executions().items
    runner.shutdown()
    assert open_files(file.parent) == []
    assert list(file.parent.iterdir()) == [file]
    assert listed.final_context["given"] == 1
    assert handle.status() == "Completed"
    assert open_files(file.parent) == []


def test_lock_of_another_process_blocks_no_longer_than_db_timeout(file, script):
    config = cloaca.DefaultRunnerConfig(db_timeout=1)
    with cloaca.DefaultRunner(url(file), config) as runner:
        process = script(
            """
            import sqlite3, sys, time
            connection = sqlite3.connect(sys.argv[1], isolation_level=None)
            connection.execute("BEGIN IMMEDIATE")
            print("locked", flush=True)
            time.sleep(60)
            """,
            str(file),
        )
        assert process.stdout.readline() == "locked\n"
        started = time.monotonic()
        with pytest.raises(cloaca.DatabaseError, match="held by another process"):
            runner.submit("w")
        assert time.monotonic() - started < 4
        process.kill()
        process.wait(timeout=30)
        run_executions(runner, 1)


def test_runner_reports_a_deleted_file_and_stops_acknowledging(file):
    runner = cloaca.DefaultRunner(url(file))
    run_executions(runner, 1)
    file.unlink()

    def submit_until_it_is_noticed() -> None:
        for _ in range(10_000):
            runner.submit("w")

    with pytest.raises(cloaca.DatabaseError, match=r"x\.db .* was deleted or replaced"):
        submit_until_it_is_noticed()
    with pytest.raises(cloaca.DatabaseError, match="deleted or replaced"):
        runner.submit("w")
    runner.shutdown(timeout=0)
