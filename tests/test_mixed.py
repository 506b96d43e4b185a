"""Workflows in two languages: `examples/mixed` completes even if its programs are killed."""

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
#: Number of log lines that the example's pipeline processes.
LINES = 160_000
#: Maximum time for each wait, in seconds.
PATIENCE = 120


def load(name: str) -> ModuleType:
    """Imports a module of the example."""
    spec = importlib.util.spec_from_file_location(f"mixed_{name}", EXAMPLE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def example() -> ModuleType:
    """The example's module `run`, whose functions start the Python program and the Rust program."""
    return load("run")


@pytest.fixture(scope="session")
def worker_program(example: ModuleType) -> Path:
    """The path of the Rust program, which is built once."""
    if shutil.which("cargo") is None:
        os.environ["PATH"] += os.pathsep + str(Path.home() / ".cargo" / "bin")
    program: Path = example.build_worker("dev")
    return program


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """A list for the processes that a test starts. The fixture kills them after the test."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def wait_for(what: str, is_true: Callable[[], bool]) -> None:
    """Waits until other processes have made a condition true."""
    until = time.monotonic() + PATIENCE
    while not is_true():
        assert time.monotonic() < until, f"did not happen in {PATIENCE} s: {what}"
        time.sleep(0.002)


@pytest.mark.timeout(300)
def test_execution_completes_although_both_programs_are_killed(
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
    # A finished task does not run again, no matter which program was killed later.
    assert journal().count(["fetch", "1 of 8 files"]) == fetched
    with cloaca.DefaultRunner(database) as runner:
        (result,) = runner.list_executions()
        assert result.status == "Completed"
    worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0


@pytest.mark.timeout(300)
def test_one_command_runs_both_programs(tmp_path, worker_program, monkeypatch, capsys, example):
    monkeypatch.setattr(example, "OUTPUT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py", "--lines", "8000", "--profile", "dev"])
    assert example.main() == 0
    assert "8,000 requests" in capsys.readouterr().out


LABELLER = """
    import sys
    import cloaca

    @cloaca.task(workflow="images")
    def label(context):
        context["label"] = f"a picture called {context['path']}"

    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        print("ready", flush=True)
        runner.run_forever()
"""


@pytest.mark.timeout(300)
def test_python_runs_a_task_of_a_workflow_defined_in_rust(
    database, script, worker_program, processes
):
    root = EXAMPLE.parent.parent
    build = ["cargo", "build", "--quiet", "--package", "cloacina", "--example", "images"]
    subprocess.run(build, check=True, cwd=root)
    program = worker_program.parent / "examples" / "images"

    def define() -> subprocess.Popen[str]:
        process = subprocess.Popen([str(program), database], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return process

    first = define()
    reads = None

    def fetched() -> bool:
        nonlocal reads
        try:
            reads = reads or cloaca._core.Inspector(database).reads
            page = reads.executions(cloaca._core.ListFilter(workflows=["images"]), 1)
        except cloaca.CloacaException:
            return False  # The database does not exist yet.
        results = [cloaca.WorkflowResult(execution) for execution in page.executions]
        return any(result.tasks["fetch"].status == "Completed" for result in results)

    wait_for("the task `fetch` completed", fetched)
    # No runner knows the task `label` yet. The Rust program is killed and restarted. Then the
    # Python program starts, which knows the task.
    first.kill()
    first.wait()
    second = define()
    labeller = script(LABELLER, database)
    output, _ = second.communicate(timeout=PATIENCE)
    assert output == (
        'Completed {"path":"cat.png","label":"a picture called cat.png",'
        '"title":"cat.png: a picture called cat.png"}\n'
    )
    labeller.send_signal(signal.SIGTERM)
    assert labeller.communicate(timeout=PATIENCE) == ("ready\n", "")
