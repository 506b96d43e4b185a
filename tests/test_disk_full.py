"""A full disk causes a clear error but no damage, and work continues once space is free.

The tests run on SQLite and on PostgreSQL.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import cloaca
from conftest import Server

MEGABYTE = 1024 * 1024


class Disk:
    """A small file system."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def fill(self) -> None:
        """Fills the file system."""
        # Unbuffered, because closing a buffered file would try to flush the buffer again and fail.
        with self._filler.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(b"x" * 65536)

    def free(self) -> None:
        """Frees the space that `fill` used."""
        self._filler.unlink()


class SqliteOnDisk(Disk):
    """An SQLite file on a small disk."""

    SIZE = 6 * MEGABYTE

    @contextmanager
    def ready(self) -> Iterator[None]:
        self.path = self.folder / "work.db"
        self.url = f"sqlite:///{self.path}"
        yield

    def damage(self) -> str:
        """Returns the faults that SQLite finds in the file.

        Another process checks the file, because two copies of SQLite in one process must not share
        a file.
        """
        code = """
import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute("PRAGMA integrity_check"):
    if row[0] != "ok":
        print(row[0])
"""
        command = [sys.executable, "-c", code, str(self.path)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class PostgresOnDisk(Disk):
    """A PostgreSQL server whose data and log are on a small disk."""

    SIZE = 160 * MEGABYTE

    @contextmanager
    def ready(self) -> Iterator[None]:
        self.server = Server(self.folder / "server")
        try:
            self.server.sql("CREATE DATABASE work")
            self.url = f"{self.server.url.rpartition('/')[0]}/work"
            yield
        finally:
            self.server.stop("immediate")

    def free(self) -> None:
        super().free()
        # The server may have stopped because it could not write its log.
        self.server.start()

    def damage(self) -> str:
        """Returns the faults that `amcheck` finds in tables. Raises an error for a faulty index."""
        self.server.sql("CREATE EXTENSION amcheck", "work")
        tables = """
            SELECT relation.oid::regclass, problem.msg
            FROM pg_class AS relation, verify_heapam(relation.oid::regclass) AS problem
            WHERE relation.relkind IN ('r', 't')"""
        indexes = """
            SELECT bt_index_parent_check(index.indexrelid::regclass, true) FROM pg_index AS index
            JOIN pg_class AS relation ON relation.oid = index.indexrelid
            JOIN pg_am AS method ON method.oid = relation.relam AND method.amname = 'btree'"""
        self.server.sql(indexes, "work")
        return self.server.sql(tables, "work")


@pytest.fixture(params=[SqliteOnDisk, PostgresOnDisk], ids=["sqlite", "postgres"])
def small_disk(request: pytest.FixtureRequest) -> Iterator[SqliteOnDisk | PostgresOnDisk]:
    """A database on a small file system."""
    kind = request.param
    # The server's user cannot enter pytest's temporary folders, so this fixture creates a separate
    # folder.
    folder = Path(tempfile.mkdtemp(prefix="cloaca-small-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={kind.SIZE},mode=755", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        folder.rmdir()
        pytest.skip("mounting a small file system is not permitted here: it requires root")
    try:
        disk = kind(folder)
        (folder / "server").mkdir()
        with disk.ready():
            yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def text(length: int) -> str:
    """Returns text that databases cannot compress."""
    return os.urandom(length // 2).hex()


def test_e6_full_disk_is_reported_and_survived(small_disk):
    with cloaca.WorkflowBuilder("quick"):

        @cloaca.task()
        def work(context):
            context["length"] = len(context["data"])

    config = cloaca.DefaultRunnerConfig(db_timeout=1)
    with cloaca.DefaultRunner(small_disk.url, config) as runner:
        before = runner.execute("quick", {"data": "x"})
        small_disk.fill()
        acknowledged = []

        def submit_many():
            for _ in range(1000):
                acknowledged.append(runner.submit("quick", {"data": text(20_000)}))

        with pytest.raises(cloaca.DatabaseError, match="free some space") as caught:
            submit_many()
        assert caught.value.code
        small_disk.free()
        # Acknowledged executions complete, and new ones are accepted.
        for handle in acknowledged:
            assert handle.result(timeout=60).final_context["length"] == 20_000
        assert runner.execute("quick", {"data": "xyz"}).final_context["length"] == 3
        assert runner.get_execution(before.execution_id).final_context == before.final_context
    assert small_disk.damage() == ""


def test_result_on_a_full_disk_is_recorded_once_space_is_free(small_disk):
    filled = []
    with cloaca.WorkflowBuilder("fills"):

        @cloaca.task(retry_attempts=1)
        def work(context):
            if not filled:
                small_disk.fill()
                filled.append(1)
            context["data"] = text(200_000)

    with cloaca.DefaultRunner(small_disk.url) as runner:
        handle = runner.submit("fills")
        with pytest.raises(TimeoutError):
            handle.result(timeout=0.5)
        small_disk.free()
        result = handle.result(timeout=60)
        assert (result.status, result.tasks["work"].attempts) == ("Completed", 1)
    assert small_disk.damage() == ""
