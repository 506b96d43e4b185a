"""Creates the databases of tests/corpus with the current schema.

Each database contains executions in every state. The runner of these executions was killed.

Run this script once with each release that changes the schema, and keep the files:

    .venv/bin/python scripts/make_corpus.py POSTGRES_SERVER_URL

The URL must give superuser access, like the URL that scripts/private_postgres.sh prints.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus"
# The number of the last migration of this release.
SCHEMA = max(
    int(path.name.split("_")[0]) for path in (ROOT / "crates/cloacina/migrations/sqlite").iterdir()
)

CHILD = """
import os, signal, sys, threading
sys.path.insert(0, sys.argv[2])
import cloaca
from corpus_workflows import define

running = threading.Semaphore(0)

def hold():
    running.release()
    threading.Event().wait()

define(hold)
runner = cloaca.DefaultRunner(sys.argv[1], cloaca.DefaultRunnerConfig(max_concurrent_tasks=8))
runner.submit("corpus", {"number": 1}, key="completed").result(timeout=60)
runner.submit("corpus", {"number": 2, "broken": True}, key="failed").result(timeout=60)
paused = runner.submit("corpus", {"number": 3}, key="paused", delay=3600)
paused.pause()
cancelled = runner.submit("corpus", {"number": 4}, key="cancelled", delay=3600)
cancelled.cancel()
runner.submit("corpus", {"number": 5}, key="delayed", delay=5)
runner.submit("corpus", {"number": 6, "hold": True}, key="running", priority=3)
# The timeout of 31 years must not elapse before a later release migrates the database.
runner.submit("corpus", {"number": 7, "hold": True, "flaky": True}, key="retrying", timeout=1e9)
for _ in range(2):
    running.acquire()
def is_retrying():
    ids = [item.execution_id for item in runner.list_executions()]
    return any(event.type == "task_retrying" for id in ids for event in runner.events(id))
while not is_retrying():
    pass
os.kill(os.getpid(), signal.SIGKILL)
"""


def fill(url: str) -> None:
    """Fills a database in a child process, which then kills itself."""
    child = subprocess.run([sys.executable, "-c", CHILD, url, str(ROOT / "tests")], timeout=120)
    assert child.returncode == -signal.SIGKILL, child.returncode


def make_sqlite() -> Path:
    """Creates the SQLite file and returns its path.

    The file has no WAL, and contains neither the name nor the paths of this machine.
    """
    path = CORPUS / f"schema_{SCHEMA}.db"
    path.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "corpus.db"
        fill(f"sqlite:///{database}")
        with sqlite3.connect(database) as connection:
            connection.execute("UPDATE cloacina_runners SET host = 'elsewhere', pid = 1")
            # Tracebacks contain paths of this machine.
            for update in (
                "UPDATE cloacina_executions SET error = replace(error, ?, '')",
                "UPDATE cloacina_tasks SET error = replace(error, ?, '')",
            ):
                connection.execute(update, (f"{ROOT}/",))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")
        connection.close()
        path.write_bytes(database.read_bytes())
    return path


def make_postgres(server: str) -> Path:
    """Creates the file with the dump of the PostgreSQL database, and returns its path."""
    name = f"corpus{uuid.uuid4().hex}"
    psql = ["psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1"]
    subprocess.run([*psql, server, "--command", f"CREATE DATABASE {name}"], check=True)
    url = f"{server.rpartition('/')[0]}/{name}"
    fill(url)
    update = "UPDATE cloacina_runners SET host = 'elsewhere', pid = 1"
    subprocess.run([*psql, url, "--command", update], check=True)
    path = CORPUS / f"schema_{SCHEMA}.sql"
    command = ["pg_dump", "--no-owner", "--no-privileges", "--inserts", url]
    dumped = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    dumped = dumped.replace(f"{ROOT}/", "")
    # Omits commands that other versions of psql may not know, and settings that other servers may
    # lack.
    lines = [line for line in dumped.splitlines() if not line.startswith(("\\", "SET "))]
    path.write_text("\n".join(lines) + "\n")
    return path


if __name__ == "__main__":
    CORPUS.mkdir(exist_ok=True)
    start = time.monotonic()
    for made in (make_sqlite(), make_postgres(sys.argv[1])):
        print(made.relative_to(ROOT), made.stat().st_size, "bytes")
    print(f"{time.monotonic() - start:.1f} s")
