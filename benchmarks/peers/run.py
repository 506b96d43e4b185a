"""Measures other libraries and cloaca with the same workloads: `make bench-peers`.

    python benchmarks/peers/run.py [--peers dbos,huey,…] [--only W1,W2,…] [--on sqlite,postgres]
        [--seconds S] [--quick] [--json FILE]

Each peer is installed in its own environment, with the versions of `requirements/`. Each workload
runs in a separate process, on a new database on the same disk. A slow peer runs fewer executions.
cloaca is taken from the environment that runs this program, and is measured right before the peers.
See README.md for how each peer is used.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from table import table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
SERVER = ROOT / "scripts" / "private_postgres.sh"
VENVS = HERE / ".venvs"
REQUIREMENTS = HERE / "requirements"

PEERS = sorted(path.stem for path in REQUIREMENTS.glob("*.txt"))
#: The workloads, each with its number of executions (W12: items) in a full run and a smoke test.
COUNTS = {
    "W1": (500, 20),
    "W2": (2000, 50),
    "W2-jobs": (2000, 50),
    "W3": (300, 10),
    "W4": (200, 10),
    "W12": (100_000, 200),
}
#: For each workload that cloaca does not have, the workload of cloaca that it is compared with.
SAME_AS = {"W2-jobs": "W2"}

Report = dict[str, Any]
#: A function that returns a context manager, which creates a database and yields its URL.
Database = Callable[[], contextlib.AbstractContextManager[str]]


class CannotInstallError(Exception):
    """The environment of a peer cannot be created. The message contains the reason."""


def last_line(text: str) -> str:
    """Returns the last line of a failed program's output, or says that the output was empty."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else "it printed nothing"


def install(name: str) -> Path:
    """Returns the interpreter of a peer's environment.

    Creates the environment if it does not exist or its requirements have changed.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    if not requirements.exists():
        raise CannotInstallError(f"the file {requirements.relative_to(ROOT)} is missing")
    folder = VENVS / name
    python, stamp = folder / "bin" / "python", folder / "installed"
    checksum = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text() == checksum:
        return python
    print(f"installing {name}", file=sys.stderr, flush=True)
    venv.create(folder, clear=True, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "--requirement", str(requirements)], capture_output=True, text=True
    )
    if "No matching distribution found" in done.stderr:
        raise CannotInstallError("the package index does not have it: " + last_line(done.stderr))
    if done.returncode != 0:
        raise CannotInstallError("it cannot be installed: " + last_line(done.stderr))
    stamp.write_text(checksum)
    return python


def run(
    name: str, python: Path, workload: str, url: str, *, count: int, seconds: float
) -> dict[str, Any]:
    """Returns the JSON object that a peer prints, or `{"why": …}` if it has measured nothing."""
    command = [str(python), str(HERE / f"{name}_peer.py"), workload, url]
    process = subprocess.Popen(
        [*command, "--count", str(count), "--seconds", str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    # The limit includes time to start the peer, create tables and warm up.
    limit = 2 * seconds + 60
    try:
        output, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        return {"why": f"not done within {limit:.0f} s"}
    finally:
        # Also kills the workers of the peer.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    if not output:
        return {"why": f"it failed: {last_line(errors)}"}
    answer: dict[str, Any] = json.loads(output)
    return {"why": answer["cannot"]} if "cannot" in answer else answer


@contextlib.contextmanager
def sqlite() -> Iterator[Database]:
    """Yields a function that creates SQLite files on the disk of the checkout."""
    with tempfile.TemporaryDirectory(prefix="peers-", dir=TARGET) as folder:

        @contextlib.contextmanager
        def database() -> Iterator[str]:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                yield f"sqlite:///{place}/peer.db"

        yield database


@contextlib.contextmanager
def postgres() -> Iterator[Database]:
    """Yields a function that creates databases on a private server on the same disk."""
    folder = TARGET / f"peers-postgres-{os.getpid()}"
    try:
        started = subprocess.run(
            [str(SERVER), "start", str(folder)], check=True, stdout=subprocess.PIPE, text=True
        )
        server = started.stdout.strip()

        def statement(text: str) -> None:
            subprocess.run(["psql", "--quiet", "--command", text, server], check=True)

        @contextlib.contextmanager
        def database() -> Iterator[str]:
            name = f"peer{time.monotonic_ns()}"
            statement(f"CREATE DATABASE {name}")
            try:
                yield server.rpartition("/")[0] + f"/{name}"
            finally:
                statement(f"DROP DATABASE {name} WITH (FORCE)")

        yield database
    finally:
        subprocess.run([str(SERVER), "stop", str(folder), "immediate"], check=True)
        shutil.rmtree(folder, ignore_errors=True)


def rows(
    answer: dict[str, Any], cloaca: dict[str, float], asked: int, **where: str
) -> Iterator[dict[str, Any]]:
    """Yields one row for each figure of the peer, with cloaca's figure.

    If the peer has measured nothing, yields one row with the reason.
    """
    if "why" in answer:
        yield {**where, "why": answer["why"]}
        return
    for figure, value in answer["figures"].items():
        own = cloaca.get(figure)
        ratio = None if own is None else value / own if figure.endswith("_us") else own / value
        yield {
            **where,
            "figure": figure,
            "value": value,
            "cloaca": own,
            "ratio": None if ratio is None else round(ratio, 2),
            "count": answer["count"],
            "asked": asked,
            "settings": answer["settings"],
        }


def main() -> None:
    """Installs the peers, measures them, prints one table and writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--peers", default=",".join(PEERS), help="names of peers")
    parser.add_argument("--only", default=",".join(COUNTS), help="names of workloads")
    parser.add_argument("--on", default="sqlite,postgres", help="kinds of databases")
    parser.add_argument("--seconds", type=float, default=20, help="approximate limit per workload")
    parser.add_argument("--quick", action="store_true", help="few executions, for a smoke test")
    parser.add_argument(
        "--json", type=Path, default=HERE.parent / "peers.json", help="figures file"
    )
    options = parser.parse_args()
    seconds = min(options.seconds, 5) if options.quick else options.seconds
    report: Report = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        "seconds": seconds,
        "versions": {},
        "cloaca": [],
        "rows": [],
    }
    pythons: dict[str, Path] = {}
    for name in options.peers.split(","):
        try:
            pythons[name] = install(name)
        except CannotInstallError as error:
            report["rows"].append(
                {"workload": "all", "database": "all", "peer": name, "why": str(error)}
            )
            continue
        pins = dict(
            line.split("==") for line in (REQUIREMENTS / f"{name}.txt").read_text().splitlines()
        )
        report["versions"][name] = pins[name]
    TARGET.mkdir(exist_ok=True)
    with contextlib.ExitStack() as stack:
        databases = {
            name: stack.enter_context({"sqlite": sqlite, "postgres": postgres}[name]())
            for name in options.on.split(",")
        }
        for database, new in databases.items():
            own: dict[str, dict[str, float]] = {}
            for workload in options.only.split(","):
                count = COUNTS[workload][options.quick]
                # cloaca is measured right before the peers, so that the machine's speed is the same
                # for all of them.
                own.setdefault(SAME_AS.get(workload, workload), {})
                for name, python in {"cloaca": Path(sys.executable), **pythons}.items():
                    if name == "cloaca" and own[SAME_AS.get(workload, workload)]:
                        continue
                    measured = SAME_AS.get(workload, workload) if name == "cloaca" else workload
                    print(f"{database} {workload} {name}", file=sys.stderr, flush=True)
                    with new() as url:
                        answer = run(name, python, measured, url, count=count, seconds=seconds)
                    where = {"workload": measured, "database": database}
                    if name == "cloaca":
                        own[measured] = answer.get("figures", {})
                        report["cloaca"].append({**where, **answer})
                        if "why" in answer:
                            print(f"cloaca: {answer['why']}", file=sys.stderr, flush=True)
                        continue
                    # Only FlexiQ has this workload, so the table does not list the other peers.
                    if workload == "W2-jobs" and "why" in answer:
                        continue
                    cloaca = own[SAME_AS.get(workload, workload)]
                    report["rows"] += rows(answer, cloaca, count, **where, peer=name)
    options.json.write_text(json.dumps(report, indent=2) + "\n")
    print(table(report))


if __name__ == "__main__":
    main()
