"""A full disk: a clear error, no corruption, and on it goes when there is room."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import cloaca

SIZE = 6 * 1024 * 1024


@pytest.fixture
def small_disk(tmp_path):
    """A file system of six megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    with filler.open("wb") as file:
        try:
            while True:
                file.write(b"x" * 65536)
                file.flush()
        except OSError:
            pass
    return filler


def integrity(path: Path) -> str:
    """Asked by another process: this one's engine has the file open."""
    code = """
import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("PRAGMA integrity_check").fetchone()[0])
"""
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def test_e6_a_full_disk_is_told_harms_nothing_and_passes(small_disk):
    with cloaca.WorkflowBuilder("quick"):

        @cloaca.task()
        def work(context):
            context["length"] = len(context["data"])

    path = small_disk / "work.db"
    with cloaca.DefaultRunner(
        f"sqlite:///{path}", cloaca.DefaultRunnerConfig(db_timeout=1)
    ) as runner:
        before = runner.execute("quick", {"data": "x"})
        filler = fill(small_disk)
        acknowledged = []

        def submit_many():
            for _ in range(1000):
                acknowledged.append(runner.submit("quick", {"data": "x" * 20_000}))

        with pytest.raises(cloaca.DatabaseError, match="full") as caught:
            submit_many()
        assert caught.value.code
        filler.unlink()
        # What was acknowledged comes to its end, and new work is taken.
        for handle in acknowledged:
            assert handle.result(timeout=60).status == "Completed"
        assert runner.execute("quick", {"data": "xyz"}).final_context["length"] == 3
        assert runner.get_execution(before.execution_id).final_context == before.final_context
    assert integrity(path) == "ok"


def test_a_task_that_ends_on_a_full_disk_is_recorded_when_there_is_room(small_disk):
    filled = []
    with cloaca.WorkflowBuilder("fills"):

        @cloaca.task()
        def work(context):
            if not filled:
                filled.append(fill(small_disk))
            context["data"] = "x" * 200_000

    with cloaca.DefaultRunner(f"sqlite:///{small_disk / 'work.db'}") as runner:
        handle = runner.submit("fills")
        with pytest.raises(TimeoutError):
            handle.result(timeout=0.5)
        filled[0].unlink()
        result = handle.result(timeout=60)
        assert (result.status, result.tasks["work"].attempts) == ("Completed", 1)
