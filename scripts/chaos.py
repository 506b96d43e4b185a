"""Chaos: real faults under a real load. Writes its report to docs/explanation/chaos-report.md.

    make chaos

Each trial runs workflows during a fault, ends the fault, and checks that every acknowledged
execution completed, that no completion was recorded twice, and how long it took. A trial reports
if the machine does not meet its requirements (the right to mount a file system, a C compiler).

    python scripts/chaos.py disk        only the trials with this in their name; no report
    CHAOS_SECONDS=60 make chaos         longer trials
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
SECONDS = float(os.environ.get("CHAOS_SECONDS", "12"))
# The delay added to each fsync of a slow disk, in milliseconds.
SYNC_MS = 250


class CannotRun(Exception):
    """The machine lacks something that a trial needs."""


class Proxy:
    """A TCP proxy that can cut, stall and slow down what goes through it."""

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
        """Stops forwarding data, without an error on either side."""
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
    folder = Path(tempfile.mkdtemp(prefix="cloaca-chaos-disk-"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        folder.rmdir()
        raise CannotRun("mounting a small file system is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def fill(folder: Path) -> Path:
    filler = folder / "filler"
    # Unbuffered: flushing a buffer would fail once more when the file is closed.
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 65536)
    return filler


def _plain(message: str) -> str:
    """The first line, without the location of the trial's database."""
    line = re.sub(
        r"the database \S+://\S+|the disk of the database \S+",
        "the database",
        message.splitlines()[0],
    )
    return textwrap.shorten(line, 90, placeholder=" …")


class Load:
    """A load of chains of three tasks, with the outcome of each."""

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
                        place = f"{handle.execution_id}/{handle.task_id}"
                        self.runs[place] = self.runs.get(place, 0) + 1
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


def trial(url: str, trouble) -> dict[str, object]:
    """Runs the load before, during and after a fault, and returns the observations."""
    load, stop = Load(), threading.Event()
    config = cloaca.DefaultRunnerConfig(db_timeout=2)
    with cloaca.DefaultRunner(url, config) as runner:
        submitter = threading.Thread(target=load.submit_until, args=(runner, stop))
        submitter.start()
        time.sleep(SECONDS / 4)  # the load runs before, during and after the fault
        trouble()
        healed = time.monotonic()
        time.sleep(SECONDS / 4)
        stop.set()
        submitter.join()
        states: dict[str, int] = {}
        for handle in load.acknowledged:
            status = str(handle.result(timeout=120).status)
            states[status] = states.get(status, 0) + 1
        settled = time.monotonic() - healed
        odd = [
            h.id
            for h in load.acknowledged
            if set(h.result().final_context) != {"data", "a", "b", "c"}
        ]
    return {
        "acknowledged": len(load.acknowledged),
        "states": states,
        "refused": load.refused,
        "twice": sum(1 for count in load.runs.values() if count > 1),
        "odd": odd,
        "settled": settled,
    }


def postgres_restarts(mode: str):
    def run() -> dict[str, object]:
        with server() as running:
            url = running.start()

            def trouble() -> None:
                running.stop(mode)
                time.sleep(SECONDS / 4)  # callers use a database that is down
                running.start()

            return trial(url, trouble)

    return run


def network(what: str):
    def run() -> dict[str, object]:
        with server() as running:
            url = running.start()
            head, _, tail = url.rpartition("@")
            address, _, database = tail.partition("/")
            proxy = Proxy(int(address.rpartition(":")[2]))
            through = f"{head}@127.0.0.1:{proxy.port}/{database}"

            def trouble() -> None:
                if what == "slow":
                    proxy.delay = 0.05
                else:
                    getattr(proxy, what)()
                time.sleep(SECONDS / 2)  # the fault lasts this long
                proxy.heal()

            return trial(through, trouble)

    return run


def full_disk_sqlite() -> dict[str, object]:
    with small_disk("16m") as folder:
        path = folder / f"{uuid.uuid4().hex}.db"

        def trouble() -> None:
            filler = fill(folder)
            time.sleep(SECONDS / 2)  # the disk is full for this long
            filler.unlink()

        seen = trial(f"sqlite:///{path}", trouble)
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

            def trouble() -> None:
                filler = fill(folder)
                time.sleep(SECONDS / 2)  # the disk is full for this long
                filler.unlink()
                # A server that could not write its log has stopped.
                running.start()

            return trial(url, trouble)


class SlowDisk:
    """Programs whose disk can be slowed down: see slow_disk.c."""

    def __init__(self, folder: Path) -> None:
        # The server's user must be able to read the switch and to write the counter.
        folder.chmod(0o755)
        library = folder / "slow_disk.so"
        self._switch = folder / "slow"
        self._counter = folder / "slow.count"
        self._counter.touch()
        self._counter.chmod(0o666)
        compiler = shutil.which("cc")
        if compiler is None:
            raise CannotRun("there is no C compiler here")
        command = [compiler, "-shared", "-fPIC", "-o", str(library), str(SLOW_DISK)]
        subprocess.run(command, check=True)
        self.environment = {"LD_PRELOAD": str(library), "SLOW_DISK": str(self._switch)}

    def trouble(self) -> None:
        """Slows down the disk for the duration of a fault."""
        self._switch.write_text(str(SYNC_MS))
        self._switch.chmod(0o644)
        time.sleep(SECONDS / 2)
        self._switch.unlink()

    def check(self, seen: dict[str, object]) -> dict[str, object]:
        """Returns the figures of a trial, after checking that the disk was slow."""
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
        # The cluster is made and the database migrated at full speed.
        return disk.check(trial(running.start(disk.environment), disk.trouble))


def slow_disk_sqlite() -> dict[str, object]:
    """In another process, because the disk must be slow for the engine that writes the file."""
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
        # The child reports when the fault should begin, and is informed of its end.
        if child.stdout.readline() != "trouble\n":
            raise AssertionError(f"the child ended with {child.wait()}")
        disk.trouble()
        answer, _ = child.communicate("over\n")
        if child.returncode:
            raise AssertionError(f"the child ended with {child.returncode}")
        return disk.check(json.loads(answer))


def sqlite_child(path: str) -> int:
    """The load on an SQLite file around a fault that the parent process causes."""

    def trouble() -> None:
        print("trouble", flush=True)
        sys.stdin.readline()

    print(json.dumps(trial(f"sqlite:///{path}", trouble)), flush=True)
    return 0


TRIALS = {
    "PostgreSQL restarts (fast)": postgres_restarts("fast"),
    "PostgreSQL is killed and started": postgres_restarts("immediate"),
    "the network is cut": network("cut"),
    "the network stalls": network("stall"),
    "the network is slow (50 ms a packet)": network("slow"),
    f"the disk is slow ({SYNC_MS} ms an fsync; SQLite)": slow_disk_sqlite,
    f"the disk is slow ({SYNC_MS} ms an fsync; PostgreSQL)": slow_disk_postgres,
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
        good = seen["states"] == {"Completed": seen["acknowledged"]} and not seen["odd"]
        good = good and seen.get("integrity", "ok") == "ok"
        failed += not good
        print(f"  {'ok' if good else 'FAILED'} {seen}", flush=True)
        refused = "; ".join(f"{count} of {kind}" for kind, count in seen["refused"].items())
        rows.append(
            f"| {name} | {'ok' if good else 'FAILED'} | {seen['acknowledged']} | {seen['twice']} "
            f"| {seen['settled']:.1f} s | {refused or 'none'} |"
        )
    text = f"""# The last run of `make chaos`

Written by `scripts/chaos.py` on {time.strftime("%Y-%m-%d")}: {SECONDS:g} s a trial, chains of
three tasks submitted all the time by one thread, one runner. *Acknowledged* executions must all
have completed with the writes of all three tasks.
A task may run twice (at least once is the promise); it is recorded once.

| trouble | outcome | acknowledged | tasks that ran twice | all done after | refused meanwhile |
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
