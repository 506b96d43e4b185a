"""What the tests share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cloaca

SERVER_SCRIPT = Path(__file__).parent.parent / "scripts" / "private_postgres.sh"
# Tests lose nothing that they would miss after a crash of the machine.
SERVER_OPTIONS = "-c fsync=off -c full_page_writes=off -c max_connections=300"


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL server of this test run's own."""
    # Its user is not ours: the folder must be one that everybody may enter.
    folder = Path(tempfile.mkdtemp(prefix="cloaca-postgres-"))
    folder.chmod(0o755)
    environment = {**os.environ, "POSTGRES_OPTIONS": SERVER_OPTIONS}
    command = [str(SERVER_SCRIPT), "start", str(folder)]
    started = subprocess.run(
        command, check=True, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        yield started.stdout.strip()
    finally:
        subprocess.run([str(SERVER_SCRIPT), "stop", str(folder), "immediate"], check=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def fresh_postgres(postgres: str) -> Callable[[], str]:
    """Makes a fresh PostgreSQL database on every call, and gives its URL."""

    def make() -> str:
        name = f"t{uuid.uuid4().hex}"
        create = ["psql", "--quiet", "--no-psqlrc", postgres, "--command", f"CREATE DATABASE {name}"]
        subprocess.run(create, check=True)
        return f"{postgres.rpartition('/')[0]}/{name}"

    return make


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database, once on each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    fresh: Callable[[], str] = request.getfixturevalue("fresh_postgres")
    return fresh()


@pytest.fixture
def runner(database: str) -> Iterator[cloaca.DefaultRunner]:
    """A runner on a fresh database."""
    with cloaca.DefaultRunner(database) as running:
        yield running


Script = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """Starts Python code in a process of its own, in an empty folder."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        path = tmp_path / f"script{len(started)}.py"
        path.write_text(textwrap.dedent(code))
        process = subprocess.Popen(
            [sys.executable, str(path), *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
