"""A PostgreSQL server that requires passwords from tenants."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parent.parent / "scripts" / "private_postgres.sh"
OPTIONS = (
    "-c fsync=off -c full_page_writes=off -c max_connections=300 "
    "-c log_min_error_statement=debug1 -c log_statement="
)
# The superuser needs no password, so that tests can inspect the database. All other users need one.
RULES = """\
local all postgres trust
host all postgres 127.0.0.1/32 trust
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""


class TenantServer:
    """A PostgreSQL server for one test module, in its own folder."""

    def __init__(self, folder: Path, *, log: str = "all") -> None:
        self.folder = folder
        environment = {**os.environ, "POSTGRES_OPTIONS": OPTIONS + log}
        started = subprocess.run(
            [str(SCRIPT), "start", str(folder)],
            check=True,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = started.stdout.strip()
        Path(self.sql("SHOW hba_file")).write_text(RULES)
        self.sql("SELECT pg_reload_conf()")

    def stop(self) -> None:
        """Stops the server without removing its folder."""
        subprocess.run([str(SCRIPT), "stop", str(self.folder), "immediate"], check=True)

    def sql(self, statement: str, url: str | None = None) -> str:
        """Runs SQL at `url`, by default as the superuser; returns the output of `psql`."""
        return psql(url or self.url, statement)

    def database(self, name: str) -> str:
        """Creates a database and returns its URL for the superuser."""
        self.sql(f'CREATE DATABASE "{name}"')
        return f"{self.url.rpartition('/')[0]}/{name}"

    def log(self) -> str:
        """The contents of the server's log."""
        return (self.folder / "server.log").read_text(errors="replace")


def psql(url: str, statement: str) -> str:
    """Runs SQL and returns the output of `psql`. Raises `PermissionError` for any failure."""
    command = ["psql", "--no-psqlrc", "-qAt", "-v", "ON_ERROR_STOP=1", url, "-c", statement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError(done.stderr)
    return done.stdout.strip()
