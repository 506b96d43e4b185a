"""The example `examples/mixed`: a workflow in two languages survives the death of either side."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import cloaca

EXAMPLE = Path(__file__).parent.parent / "examples" / "mixed"
LINES = 160_000
PATIENCE = 120


def load(name: str) -> ModuleType:
    """A module of the example."""
    spec = importlib.util.spec_from_file_location(f"mixed_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def example() -> ModuleType:
    """How the example starts its two sides."""
    return load("run")


@pytest.fixture(scope="session")
def worker_program(example: ModuleType) -> Path:
    """The Rust side, built once."""
    if shutil.which("cargo") is None:
        os.environ["PATH"] += os.pathsep + str(Path.home() / ".cargo" / "bin")
    program: Path = example.build_worker("dev")
    return program


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """What a test started, ended with it."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def wait_for(what: str, fact: Callable[[], bool]) -> None:
    """Wait until another process has done something that it tells through a file."""
    until = time.monotonic() + PATIENCE
    while not fact():
        assert time.monotonic() < until, f"never: {what}"
        time.sleep(0.002)


@pytest.mark.timeout(300)
def test_either_side_is_killed_and_the_execution_completes(
    database, tmp_path, example, worker_program, processes
):
    output = tmp_path / "output"

    def journal() -> list[list[str]]:
        path = output / "journal.tsv"
        return (
            [line.split("\t")[2:] for line in path.read_text().splitlines()]
            if path.exists()
            else []
        )

    def noted(task: str, text: str = "") -> bool:
        return any(entry[0] == task and entry[1].startswith(text) for entry in journal())

    def start(side: str) -> subprocess.Popen[str]:
        if side == "Rust":
            process = example.start_worker(worker_program, database)
        else:
            process = example.start_pipeline(database, output, LINES)
        processes.append(process)
        return process

    def kill(process: subprocess.Popen[str]) -> None:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()

    pipeline, worker = start("Python"), start("Rust")
    wait_for("the first file was fetched", lambda: noted("fetch"))
    kill(pipeline)
    pipeline = start("Python")
    wait_for("the first file was read", lambda: noted("aggregate"))
    kill(worker)
    fetched = journal().count(["fetch", "1 of 8 files"])
    worker = start("Rust")
    wait_for("the report began", lambda: noted("report"))
    kill(pipeline)
    pipeline = start("Python")
    out, _ = pipeline.communicate(timeout=PATIENCE)
    assert pipeline.returncode == 0
    report = Path(out.strip()).read_text()
    assert f"{LINES:,} requests" in report
    # A finished task does not run again, whoever dies after it.
    assert journal().count(["fetch", "1 of 8 files"]) == fetched
    with cloaca.DefaultRunner(database) as runner:
        (result,) = runner.list_executions()
        assert result.status == "Completed"
    worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0


@pytest.mark.timeout(300)
def test_one_command_runs_both_sides(tmp_path, worker_program, monkeypatch, capsys, example):
    monkeypatch.setattr(example, "OUTPUT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", "--lines", "8000", "--profile", "dev"])
    assert example.main() == 0
    assert "8,000 requests" in capsys.readouterr().out
