"""Fresh databases: files in a folder, or databases of a PostgreSQL server."""

from __future__ import annotations

import itertools
import os
import subprocess
import time

_NUMBERS = itertools.count()


def is_postgres(place: str) -> bool:
    """Whether a place is the URL of a server and not a folder."""
    return "://" in place


def fresh(place: str, name: str) -> str:
    """The URL of a new database in `place`: the URL of a server, or a folder for SQLite."""
    unique = f"{name}_{os.getpid()}_{next(_NUMBERS)}".lower().replace("-", "_")
    if not is_postgres(place):
        return f"sqlite:///{place}/{unique}.db"
    sql(place, f"CREATE DATABASE {unique}")
    return f"{place.rpartition('/')[0]}/{unique}"


def sql(url: str, text: str) -> str:
    """Run SQL; what it answers, a line for a row."""
    command = ["psql", "--quiet", "--no-psqlrc", "--tuples-only", "--no-align", url]
    answer = subprocess.run([*command, "--command", text], check=True, stdout=subprocess.PIPE)
    return answer.stdout.decode().strip()


def settle(place: str, patience: float = 180) -> None:
    """Wait until a server has cleaned up behind what was written: it takes a processor for that."""
    if not is_postgres(place):
        return
    cleaning = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
    end, quiet = time.monotonic() + patience, 0
    while quiet < 4 and time.monotonic() < end:
        quiet = 0 if sql(place, cleaning) != "0" else quiet + 1
        time.sleep(0.5)
