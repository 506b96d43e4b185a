"""Helpers for tests of the command line: each `cloaca` command runs in its own process."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import cloaca

#: Maximum time for a command, in seconds.
PATIENCE = 60


#: The width of the terminal of `Screen`, in columns.
WIDTH = 80


#: An id that no execution and no schedule has.
UNKNOWN = "0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"


PIPELINE = """
import cloaca

with cloaca.WorkflowBuilder("etl") as builder:
    builder.description("Load the daily file")
    builder.tag("team", "data")

    @cloaca.task(id="extract")
    def extract(context):
        context["rows"] = [1, 2, int(context.get("last", 3))]

    @cloaca.task(id="total", dependencies=["extract"])
    def total(context):
        context["total"] = sum(context["rows"])

with cloaca.WorkflowBuilder("bad"):
    @cloaca.task(id="boom", retry_attempts=1)
    def boom(context):
        raise ValueError("no way")

with cloaca.WorkflowBuilder("unhurried") as unhurried:
    @cloaca.task(id="wait")
    def wait(context, handle):
        print("waiting", flush=True)
        handle.set_progress(1, 4, "first quarter")
        handle.defer_until(lambda: False, poll_interval_ms=50)

not_a_workflow = 3
"""


class Shell:
    """Runs `cloaca` in a folder that has a module `pipeline`."""

    def __init__(self, folder: Path, database: str | None) -> None:
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if name != "CLOACA_DATABASE_URL"
        }
        # Python may write bytecode files, as it does for an installed wheel.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if database is not None:
            self.environment["CLOACA_DATABASE_URL"] = database
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "cloaca", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, status: int | None = 0) -> tuple[str, str]:
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=PATIENCE)
        assert status in (None, process.returncode), (arguments, output, errors)
        assert "cloaca/_cli" not in errors, "the command has raised an exception"
        return output, errors

    def json(self, *arguments: str, status: int = 0):
        output, errors = self.run(*arguments, "--json", status=status)
        if status == 0:
            assert errors == ""
        return json.loads(output)


@pytest.fixture
def shell(tmp_path, database):
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    running = Shell(tmp_path, database)
    yield running
    for process in running.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def bare(tmp_path):
    """A shell whose environment names no database."""
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return Shell(tmp_path, None)


@pytest.fixture
def schedule(shell):
    """The id of a schedule of `etl` that fires once a year, at 02:30 on 1 January."""
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        shell.run("run", "pipeline:etl")
        return runner.register_cron_workflow("etl", "30 2 1 1 *", "Europe/Berlin")


class Screen:
    """Runs `cloaca` on a terminal of 80 columns."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def start(self, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
        environment = {**self._shell.environment, "TERM": "xterm"}
        environment.pop("COLUMNS", None)
        process = subprocess.Popen(
            [sys.executable, "-m", "cloaca", *arguments],
            cwd=self._shell.folder,
            env=environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        self._shell.started.append(process)  # type: ignore[arg-type]
        return process, controller

    def run(self, *arguments: str, status: int = 0, typed: bytes = b"") -> list[str]:
        """Runs a command with the input `typed`, and returns its output lines without colours."""
        process, controller = self.start(*arguments)
        if typed:
            os.write(controller, typed)
        shown = b""
        try:
            while part := os.read(controller, 65536):
                shown += part
        except OSError:
            pass  # On Linux, reading fails once the process has closed the terminal.
        os.close(controller)
        assert process.wait(PATIENCE) == status, shown
        return [line.rstrip() for line in _plain(shown).splitlines()]


def _plain(shown: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r", "")


@pytest.fixture
def screen(shell):
    return Screen(shell)


def short(id: str) -> str:
    """Returns the short form in which tables on a terminal show an id."""
    return f"{id[:8]}-{id[-6:]}"
