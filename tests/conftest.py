"""Fixtures that the tests share."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import uuid
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import cloaca
from cli_support import bare, schedule, screen, shell  # noqa: F401
from cloaca._workflows import registry as workflow_registry
from web_support import filled, web  # noqa: F401

# A test run under `nohup` or in the background of a shell ignores Ctrl-C, and its child processes
# inherit this setting. Tests send Ctrl-C to their child processes, which need the default handler.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SERVER_SCRIPT = Path(__file__).parent.parent / "scripts" / "private_postgres.sh"
# Without fsync, data may be lost if the machine crashes. Tests need no data after such a crash.
SERVER_OPTIONS = "-c fsync=off -c full_page_writes=off -c max_connections=300"


_TESTS = str(Path(__file__).parent)
_warn_of_replacement = workflow_registry._warn_of_replacement


def _warn_unless_both_are_tests(name: str, before: str, after: str) -> None:
    """Warns that a workflow is replaced, unless both files are tests, which may reuse names."""
    if not (before.startswith(_TESTS) and after.startswith(_TESTS)):
        _warn_of_replacement(name, before, after)


workflow_registry._warn_of_replacement = _warn_unless_both_are_tests


WEB_TESTS = Path(__file__).parent / "web"


@cache
def find_browser() -> str | None:
    """Returns the path of the Chromium that runs the tests of the page.

    Returns `None` if Chromium is missing or Playwright cannot be imported. Then these tests do not
    run.
    """
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return None
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Says that the tests of the page did not run, if they were to run but need what is missing."""
    selected = [Path(argument.partition("::")[0]).resolve() for argument in config.args]
    is_selected = any(path == WEB_TESTS or path in WEB_TESTS.parents for path in selected)
    if is_selected and find_browser() is None:
        terminalreporter.write_line(
            "tests/web: not run, because Playwright or Chromium is missing; hint: make test-web",
            yellow=True,
        )


class Server:
    """A private PostgreSQL server."""

    def __init__(self, folder: Path | None = None) -> None:
        # The server runs as another user, who must be able to enter the folder.
        self.folder = folder or Path(tempfile.mkdtemp(prefix="cloaca-postgres-"))
        self.folder.chmod(0o755)
        self.url = self.start()

    def start(self) -> str:
        """Starts the server and returns its URL. A server that starts again keeps its port."""
        command = [str(SERVER_SCRIPT), "start", str(self.folder)]
        environment = {**os.environ, "POSTGRES_OPTIONS": SERVER_OPTIONS}
        started = subprocess.run(
            command, check=True, env=environment, stdout=subprocess.PIPE, text=True
        )
        return started.stdout.strip()

    def stop(self, mode: str) -> None:
        """Stops the server and waits until it has stopped."""
        subprocess.run([str(SERVER_SCRIPT), "stop", str(self.folder), mode], check=True)

    def stop_in_background(self, mode: str) -> subprocess.Popen[str]:
        """Asks the server to stop, and returns without waiting until it has stopped."""
        return subprocess.Popen([str(SERVER_SCRIPT), "stop", str(self.folder), mode], text=True)

    def sql(self, text: str, database: str = "postgres") -> str:
        """Runs SQL as the superuser and returns the rows, one per line."""
        url = f"{self.url.rpartition('/')[0]}/{database}"
        command = ["psql", "--quiet", "--no-psqlrc", "--tuples-only", "--no-align"]
        command += ["--set", "ON_ERROR_STOP=1", url, "--command", text]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return answer.stdout.strip()

    def close(self) -> None:
        """Stops the server and removes its folder."""
        self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A PostgreSQL server for this test run."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def private_server() -> Iterator[Server]:
    """A PostgreSQL server for a single test. The test can stop and restart the server."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def fresh_postgres(server: Server) -> Callable[[], str]:
    """Returns a function that creates a fresh PostgreSQL database and returns its URL."""

    def make() -> str:
        name = f"t{uuid.uuid4().hex}"
        server.sql(f"CREATE DATABASE {name}")
        return f"{server.url.rpartition('/')[0]}/{name}"

    return make


@pytest.fixture
def postgres(fresh_postgres: Callable[[], str]) -> str:
    """The URL of a fresh database on PostgreSQL."""
    return fresh_postgres()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a fresh database, on SQLite and on PostgreSQL in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    url: str = request.getfixturevalue("postgres")
    return url


@pytest.fixture
def runner(database: str) -> Iterator[cloaca.DefaultRunner]:
    """A runner on a fresh database."""
    with cloaca.DefaultRunner(database) as running:
        yield running


Script = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Script]:
    """A function that starts Python code in a new process, in the test's temporary folder."""
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
