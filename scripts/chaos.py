"""Tests the engine with real faults under a real load. Writes docs/explanation/chaos-report.md.

    make chaos

Each trial runs workflows during a fault, ends the fault, and checks that every acknowledged
execution completes with the results of all its tasks. The trial also measures how long the
executions take to complete after the fault, and counts the tasks that ran twice. If the machine
lacks something that a trial needs (the right to mount a file system, a C compiler), the report says
so.

    python scripts/chaos.py disk        runs only trials with "disk" in their names; no report
    CHAOS_SECONDS=60 make chaos         runs longer trials
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path

import cloaca

ROOT = Path(__file__).resolve().parent.parent
SERVER = ROOT / "scripts" / "private_postgres.sh"
REPORT = ROOT / "docs" / "explanation" / "chaos-report.md"
SLOW_DISK = ROOT / "scripts" / "slow_disk.c"
# Approximate duration of a trial without the wait for the last executions, in seconds.
SECONDS = float(os.environ.get("CHAOS_SECONDS", "12"))
# Delay that is added to each fsync of a slow disk, in milliseconds.
SYNC_MS = 250


class CannotRun(Exception):
    """The machine lacks something that a trial needs."""


class Proxy:
    """A TCP proxy that can cut, stall and slow down its connections."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open = threading.Event()
        self._open.set()
        self.refuses = False
        self.delay = 0.0
        self._sockets: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if self.refuses:
                client.close()
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                client.close()
                continue
            self._sockets |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                self._open.wait()
                if self.delay:
                    time.sleep(self.delay)
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            self._sockets.discard(end)
            end.close()

    def cut(self) -> None:
        """Breaks all connections, and refuses new ones."""
        self.refuses = True
        for end in list(self._sockets):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def stall(self) -> None:
        """Stops forwarding data. Neither side gets an error."""
        self._open.clear()

    def heal(self) -> None:
        """Ends the fault: data is forwarded at full speed again."""
        self.refuses, self.delay = False, 0.0
        self._open.set()


class Server:
    """A PostgreSQL server for one trial."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def start(self, environment: dict[str, str] | None = None) -> str:
        started = subprocess.run(
            [str(SERVER), "start", str(self._folder)],
            check=True,
            env={**os.environ, **(environment or {})},
            stdout=subprocess.PIPE,
            text=True,
        )
        return started.stdout.strip()

    def stop(self, mode: str) -> None:
        subprocess.run([str(SERVER), "stop", str(self._folder), mode], check=True)


@contextmanager
def server(folder: Path | None = None):
    """Yields a server that is not started yet. At the end, stops it and deletes its folder."""
    own = Path(tempfile.mkdtemp(prefix="cloaca-chaos-")) if folder is None else folder
    own.chmod(0o755)
    running = Server(own)
    try:
        yield running
    finally:
        running.stop("immediate")
        shutil.rmtree(own, ignore_errors=True)


@contextmanager
def small_disk(size: str):
    """Mounts a file system of the given size, and yields its folder."""
    folder = Path(tempfile.mkdtemp(prefix="cloaca-chaos-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        folder.rmdir()
        raise CannotRun("this machine does not permit mounting a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def fill(folder: Path) -> Path:
    """Fills the disk of a folder, and returns the file that must be deleted to free the space."""
    filler = folder / "filler"
    # Unbuffered, because closing a buffered file would try to flush the buffer again and fail.
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 65536)
    return filler


def _plain(message: str) -> str:
    """Returns the first line of a message, without the location of the trial's database."""
    line = re.sub(
        r"the database \S+://\S+|the disk of the database \S+",
        "the database",
        message.splitlines()[0],
    )
    return textwrap.shorten(line, 90, placeholder=" …")


class Load:
    """Submits chains of three tasks, and records their outcomes."""

    def __init__(self) -> None:
        self.runs: dict[str, int] = {}
        self.lock = threading.Lock()
        self.acknowledged: list[cloaca.WorkflowHandle] = []
        self.refused: dict[str, int] = {}
        with cloaca.WorkflowBuilder("chaos"):
            previous: list[str] = []
            for name in ("a", "b", "c"):

                def body(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
                    with self.lock:
                        task = f"{handle.execution_id}/{handle.task_id}"
                        self.runs[task] = self.runs.get(task, 0) + 1
                    context[handle.task_id] = handle.attempt

                cloaca.task(id=name, dependencies=previous)(body)
                previous = [name]

    def submit_until(self, runner: cloaca.DefaultRunner, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self.acknowledged.append(runner.submit("chaos", {"data": "x" * 500}))
            except cloaca.CloacaException as error:
                kind = f"{type(error).__name__}: {_plain(str(error))}"
                self.refused[kind] = self.refused.get(kind, 0) + 1
                stop.wait(0.2)
            stop.wait(0.004)


def trial(url: str, fault) -> dict[str, object]:
    """Runs the load before, during and after a fault, and returns the observations.

    `fault` is a function that begins the fault, waits, and ends it.
    """
    load, stop = Load(), threading.Event()
    config = cloaca.DefaultRunnerConfig(db_timeout=2)
    with cloaca.DefaultRunner(url, config) as runner:
        submitter = threading.Thread(target=load.submit_until, args=(runner, stop))
        submitter.start()
        time.sleep(SECONDS / 4)  # the load runs before the fault
        fault()
        healed = time.monotonic()
        time.sleep(SECONDS / 4)
        stop.set()
        submitter.join()
        states: dict[str, int] = {}
        for handle in load.acknowledged:
            status = str(handle.result(timeout=120).status)
            states[status] = states.get(status, 0) + 1
        settled = time.monotonic() - healed
        wrong = [
            h.id
            for h in load.acknowledged
            if set(h.result().final_context) != {"data", "a", "b", "c"}
        ]
    return {
        "acknowledged": len(load.acknowledged),
        "states": states,
        "refused": load.refused,
        "twice": sum(1 for count in load.runs.values() if count > 1),
        "wrong": wrong,
        "settled": settled,
    }


def postgres_restarts(mode: str):
    """Returns a trial in which the server stops in a mode of pg_ctl, and starts again."""

    def run() -> dict[str, object]:
        with server() as running:
            url = running.start()

            def fault() -> None:
                running.stop(mode)
                time.sleep(SECONDS / 4)  # the database is down for this long
                running.start()

            return trial(url, fault)

    return run


def network(what: str):
    """Returns a trial with a network fault: cut, stall or slow."""

    def run() -> dict[str, object]:
        with server() as running:
            url = running.start()
            head, _, tail = url.rpartition("@")
            address, _, database = tail.partition("/")
            proxy = Proxy(int(address.rpartition(":")[2]))
            through = f"{head}@127.0.0.1:{proxy.port}/{database}"

            def fault() -> None:
                if what == "slow":
                    proxy.delay = 0.05
                else:
                    getattr(proxy, what)()
                time.sleep(SECONDS / 2)  # the fault lasts this long
                proxy.heal()

            return trial(through, fault)

    return run


def full_disk_sqlite() -> dict[str, object]:
    with small_disk("16m") as folder:
        path = folder / f"{uuid.uuid4().hex}.db"

        def fault() -> None:
            filler = fill(folder)
            time.sleep(SECONDS / 2)  # the disk is full for this long
            filler.unlink()

        seen = trial(f"sqlite:///{path}", fault)
        code = (
            "import sqlite3, sys; database = sqlite3.connect(sys.argv[1]); "
            "print(database.execute('PRAGMA integrity_check').fetchone()[0])"
        )
        checked = subprocess.run(
            [sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True
        )
        return {**seen, "integrity": checked.stdout.strip()}


def full_disk_postgres() -> dict[str, object]:
    with small_disk("160m") as folder:
        data = folder / "server"
        data.mkdir(mode=0o755)
        folder.chmod(0o755)
        with server(data) as running:
            url = running.start()

            def fault() -> None:
                filler = fill(folder)
                time.sleep(SECONDS / 2)  # the disk is full for this long
                filler.unlink()
                # The server may have stopped because it could not write its log.
                running.start()

            return trial(url, fault)


class SlowDisk:
    """A disk that slow_disk.c can slow down for selected programs."""

    def __init__(self, folder: Path) -> None:
        # The server's user must be able to read the switch file and to write to the counter file.
        folder.chmod(0o755)
        library = folder / "slow_disk.so"
        self._switch = folder / "slow"
        self._counter = folder / "slow.count"
        self._counter.touch()
        self._counter.chmod(0o666)
        compiler = shutil.which("cc")
        if compiler is None:
            raise CannotRun("this machine has no C compiler")
        command = [compiler, "-shared", "-fPIC", "-o", str(library), str(SLOW_DISK)]
        subprocess.run(command, check=True)
        self.environment = {"LD_PRELOAD": str(library), "SLOW_DISK": str(self._switch)}

    def fault(self) -> None:
        """Makes the disk slow for `SECONDS / 2`."""
        self._switch.write_text(str(SYNC_MS))
        self._switch.chmod(0o644)
        time.sleep(SECONDS / 2)
        self._switch.unlink()

    def check(self, seen: dict[str, object]) -> dict[str, object]:
        """Returns the observations of a trial, and checks that the disk was slow."""
        syncs = self._counter.stat().st_size
        if not syncs:
            raise AssertionError("no fsync was slow, so the trial tested nothing")
        return {**seen, "slow syncs": syncs}


@contextmanager
def slow_disk():
    with tempfile.TemporaryDirectory(prefix="cloaca-chaos-slow-") as folder:
        yield SlowDisk(Path(folder))


def slow_disk_postgres() -> dict[str, object]:
    with slow_disk() as disk, server() as running:
        # The cluster is created and the database migrated before the disk becomes slow.
        return disk.check(trial(running.start(disk.environment), disk.fault))


def slow_disk_sqlite() -> dict[str, object]:
    """Runs the load in a child process, so that only that process has a slow disk."""
    with slow_disk() as disk, tempfile.TemporaryDirectory(prefix="cloaca-chaos-") as folder:
        child = subprocess.Popen(
            [sys.executable, __file__, "--sqlite", f"{folder}/{uuid.uuid4().hex}.db"],
            env={**os.environ, **disk.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        # The child prints a line when the fault must begin, and then waits until the fault is over.
        if child.stdout.readline() != "fault\n":
            raise AssertionError(f"the child ended early, with exit status {child.wait()}")
        disk.fault()
        answer, _ = child.communicate("over\n")
        if child.returncode:
            raise AssertionError(f"the child ended with exit status {child.returncode}")
        return disk.check(json.loads(answer))


def sqlite_child(path: str) -> int:
    """Runs the load on an SQLite file. The parent process causes the fault."""

    def fault() -> None:
        print("fault", flush=True)
        sys.stdin.readline()

    print(json.dumps(trial(f"sqlite:///{path}", fault)), flush=True)
    return 0


TRIALS = {
    "PostgreSQL restarts (fast)": postgres_restarts("fast"),
    "PostgreSQL is killed and restarted": postgres_restarts("immediate"),
    "the network is cut": network("cut"),
    "the network stalls": network("stall"),
    "the network is slow (50 ms per packet)": network("slow"),
    f"the disk is slow ({SYNC_MS} ms per fsync; SQLite)": slow_disk_sqlite,
    f"the disk is slow ({SYNC_MS} ms per fsync; PostgreSQL)": slow_disk_postgres,
    "the disk is full (SQLite)": full_disk_sqlite,
    "the disk is full (PostgreSQL)": full_disk_postgres,
}


def main() -> int:
    if sys.argv[1:2] == ["--sqlite"]:
        return sqlite_child(sys.argv[2])
    rows, failed = [], 0
    for name, run in TRIALS.items():
        if len(sys.argv) > 1 and sys.argv[1] not in name:
            continue
        print(f"{name} …", flush=True)
        try:
            seen = run()
        except CannotRun as error:
            rows.append(f"| {name} | not run: {error} | | | | |")
            continue
        except Exception as error:
            failed += 1
            rows.append(f"| {name} | FAILED: {type(error).__name__}: {error} | | | | |")
            print(f"  FAILED: {error!r}", flush=True)
            continue
        good = seen["states"] == {"Completed": seen["acknowledged"]} and not seen["wrong"]
        good = good and seen.get("integrity", "ok") == "ok"
        failed += not good
        print(f"  {'ok' if good else 'FAILED'} {seen}", flush=True)
        refused = "; ".join(f"{count} x {kind}" for kind, count in seen["refused"].items())
        rows.append(
            f"| {name} | {'ok' if good else 'FAILED'} | {seen['acknowledged']} | {seen['twice']} "
            f"| {seen['settled']:.1f} s | {refused or 'none'} |"
        )
    text = f"""# The last run of `make chaos`

Written by `scripts/chaos.py` on {time.strftime("%Y-%m-%d")}. Each trial takes about {SECONDS:g} s:
one thread continuously submits chains of three tasks, and one runner runs them. Every
*acknowledged* execution must complete with the results of all three tasks. Tasks run at least
once, so a task can run twice, but only one of its results is recorded.

| fault | outcome | acknowledged | tasks that ran twice \
| time from the end of the fault until all were done | refused submissions |
|---|---|---|---|---|---|
{chr(10).join(rows)}
"""
    if len(sys.argv) == 1:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(text)
    print(text)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
