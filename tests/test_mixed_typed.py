"""A typed workflow in two languages: Python, Rust and Python again (semantics J11)."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import cloaca

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 120


@dataclasses.dataclass
class Row:
    """A line of an order."""

    url: str
    price: int


@dataclasses.dataclass
class Total:
    """The total that the Rust task computes."""

    order_id: str
    sum: int
    attempt: int


@pytest.fixture(scope="session")
def worker_program() -> Path:
    """The Rust side, the example `orders_worker`, built once."""
    if shutil.which("cargo") is None:
        os.environ["PATH"] += os.pathsep + str(Path.home() / ".cargo" / "bin")
    command = ["cargo", "build", "--quiet", "--package", "cloacina", "--example", "orders_worker"]
    subprocess.run(command, check=True, cwd=ROOT)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "debug" / "examples" / "orders_worker"


@pytest.fixture
def worker(database: str, worker_program: Path) -> Iterator[subprocess.Popen[str]]:
    """The Rust program, running on the test's database."""
    process = subprocess.Popen([str(worker_program), database], stdin=subprocess.PIPE, text=True)
    yield process
    assert process.stdin is not None
    process.stdin.close()
    process.wait(timeout=PATIENCE)


@pytest.mark.timeout(600)
def define(input):
    with cloaca.WorkflowBuilder("order_in_two", input=input, output="mail"):

        @cloaca.task
        def rows(urls: list[str]) -> list[Row]:
            return [Row(url, 100 + index) for index, url in enumerate(urls)]

        cloaca.external_task("total", dependencies=[rows])

        @cloaca.task
        def mail(total: Total, rows: list[Row]) -> str:
            return f"{total.order_id}: {total.sum} for {len(rows)}, attempt {total.attempt}"


def test_j11_values_pass_from_python_to_rust_and_back(database, worker):
    define({"order_id": str, "urls": list[str]})
    with cloaca.DefaultRunner(database) as runner:
        handle = runner.submit("order_in_two", {"order_id": "o-1", "urls": ["a", "b"]})
        result = handle.result(timeout=PATIENCE)
        assert result.error is None
        assert result.output == "o-1: 201 for 2, attempt 1"
        assert result.of("rows") == [Row("a", 100), Row("b", 101)]
        assert result.final_context["total"]["sum"] == 201
        with pytest.raises(cloaca.WorkflowInputError):
            runner.submit("order_in_two", {"order_id": "o-2", "urls": [7]})
        # A value that the Rust task cannot decode fails it for good.
        define({"order_id": str, "urls": list[str], "discount": str})
        wrong = cloaca.Context({"order_id": "o-3", "urls": ["a"], "discount": "much"})
        failed = runner.submit("order_in_two", wrong).result(timeout=PATIENCE)
        assert failed.error is not None
        assert failed.error.type == "TaskInputError"
        assert "parameter 'discount' of task 'total'" in failed.error.message
        assert failed.tasks["total"].attempts == 1
