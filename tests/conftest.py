"""What the tests share."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cloaca


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The URL of a fresh database."""
    return f"sqlite:///{tmp_path / 'test.db'}"


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
