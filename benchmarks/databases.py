"""Creates new, empty databases: SQLite files in a folder, or databases on a PostgreSQL server."""

from __future__ import annotations

import itertools
import os
import subprocess
import time

_NUMBERS = itertools.count()


def is_postgres(location: str) -> bool:
    """Returns whether a location is the URL of a server. Otherwise, the location is a folder."""
    return "://" in location


def fresh(location: str, name: str) -> str:
    """Creates a database on a server, and returns its URL.

    For SQLite, returns the URL of a new file in the folder. Opening it creates the file.
    """
    unique = f"{name}_{os.getpid()}_{next(_NUMBERS)}".lower().replace("-", "_")
    if not is_postgres(location):
        return f"sqlite:///{location}/{unique}.db"
    sql(location, f"CREATE DATABASE {unique}")
    return f"{location.rpartition('/')[0]}/{unique}"


def sql(url: str, text: str) -> str:
    """Runs SQL with psql and returns the rows, one per line."""
    command = ["psql", "--quiet", "--no-psqlrc", "--tuples-only", "--no-align", url]
    answer = subprocess.run([*command, "--command", text], check=True, stdout=subprocess.PIPE)
    return answer.stdout.decode().strip()


def settle(url: str, patience: float = 180) -> None:
    """Vacuums a database, and then waits until autovacuum is idle.

    Otherwise a measurement would depend on whether autovacuum, which begins once a minute, has
    already cleaned up. Waits at most `patience` seconds. On SQLite, does nothing.
    """
    if url.startswith("sqlite:"):
        return
    sql(url, "VACUUM (ANALYZE)")
    cleaning = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker'"
    end, quiet = time.monotonic() + patience, 0
    while quiet < 4 and time.monotonic() < end:
        quiet = 0 if sql(url, cleaning) != "0" else quiet + 1
        time.sleep(0.5)
