"""Workflows in two languages: typed values (semantics J4), maps (K11) and children (M1, M3, M4)."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

import cloaca

ROOT = Path(__file__).resolve().parent.parent
#: Maximum time for each wait, in seconds.
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
    """The path of the Rust example `orders_worker`, which is built once."""
    if shutil.which("cargo") is None:
        os.environ["PATH"] += os.pathsep + str(Path.home() / ".cargo" / "bin")
    command = ["cargo", "build", "--quiet", "--package", "cloacina", "--example", "orders_worker"]
    subprocess.run(command, check=True, cwd=ROOT)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    return target / "debug" / "examples" / "orders_worker"


@pytest.fixture
def worker(database: str, worker_program: Path) -> Iterator[subprocess.Popen[str]]:
    """The process of the Rust program, which works on the test's database."""
    process = subprocess.Popen([str(worker_program), database], stdin=subprocess.PIPE, text=True)
    yield process
    assert process.stdin is not None
    process.stdin.close()
    process.wait(timeout=PATIENCE)


def define(input):
    with cloaca.WorkflowBuilder("order_in_two", input=input, output="mail"):

        @cloaca.task
        def rows(urls: list[str]) -> list[Row]:
            return [Row(url, 100 + index) for index, url in enumerate(urls)]

        cloaca.external_task("total", dependencies=[rows])

        @cloaca.task
        def mail(total: Total, rows: list[Row]) -> str:
            return f"{total.order_id}: {total.sum} for {len(rows)}, attempt {total.attempt}"


@pytest.mark.timeout(600)
def test_j4_values_pass_from_python_to_rust_and_back(database, worker):
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
        # If the Rust task cannot decode a value, it fails and is not retried.
        define({"order_id": str, "urls": list[str], "discount": str})
        wrong = cloaca.Context({"order_id": "o-3", "urls": ["a"], "discount": "much"})
        failed = runner.submit("order_in_two", wrong).result(timeout=PATIENCE)
        assert failed.error is not None
        assert failed.error.type == "TaskInputError"
        assert "parameter 'discount' of task 'total'" in failed.error.message
        assert failed.tasks["total"].attempts == 1


@pytest.mark.timeout(600)
def test_k11_programs_of_two_languages_share_the_items_of_a_map(database, worker_program):
    begun, gate = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("weights", input={"parcels": list[int]}, output="all_weights"):

        @cloaca.task(over="parcels", parallel=4)
        def weigh(number: int) -> str:
            begun.set()
            gate.wait(PATIENCE)
            return f"python {number}"

        @cloaca.task
        def all_weights(weigh: list[str]) -> list[str]:
            return weigh

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        handle = runner.submit("weights", {"parcels": list(range(40))})
        assert begun.wait(PATIENCE)
        command = [str(worker_program), database]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as worker:
            end = time.monotonic() + PATIENCE
            while len(runner.items(handle, weigh, status="Completed")) < 5:
                assert time.monotonic() < end
                time.sleep(0.01)
            gate.set()
            result = handle.result(timeout=PATIENCE).raise_for_status()
            worker.stdin.close()
    languages = [text.split(" ") for text in result.output]
    assert [int(number) for _, number in languages] == list(range(40))
    assert {language for language, _ in languages} == {"rust", "python"}


class Order(BaseModel):
    """The input of the workflow `order_in_two`."""

    order_id: str
    urls: list[str]


class Mailer:
    """A resource that records the mails that it sends."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


@pytest.mark.timeout(600)
def test_j4_typed_order_runs_with_a_task_in_rust(database, worker):
    mailers: list[Mailer] = []

    def open_mailer() -> Mailer:
        mailers.append(Mailer())
        return mailers[-1]

    with cloaca.WorkflowBuilder("order_in_two", input=Order, output="total") as builder:

        @cloaca.task
        def rows(urls: list[str]) -> list[Row]:
            return [Row(url, 100 + index) for index, url in enumerate(urls)]

        cloaca.external_task("total", dependencies=[rows])

        @cloaca.task
        def mail(
            total: Total = cloaca.result("total"), mailer: Mailer = cloaca.resource(open_mailer)
        ) -> str:
            mailer.sent.append(total.order_id)
            return f"the total of {total.order_id} is {total.sum}"

    assert builder.build().dependencies == {"rows": [], "total": ["rows"], "mail": ["total"]}
    with cloaca.DefaultRunner(database) as runner:
        for order_id in ("o-1", "o-2"):
            given = Order(order_id=order_id, urls=["a", "b"])
            result = runner.execute("order_in_two", given, timeout=PATIENCE)
            assert result.error is None
            assert result.output == {"order_id": order_id, "sum": 201, "attempt": 1}
            assert result.of(rows) == [Row("a", 100), Row("b", 101)]
            assert result.of(mail) == f"the total of {order_id} is 201"
        wrong = Order.model_construct(order_id="o-3", urls=[7])
        with pytest.raises(cloaca.WorkflowInputError, match=r"`urls\[0\]`"):
            runner.submit("order_in_two", wrong)
        assert len(runner.list_executions(workflow="order_in_two").items) == 2
        (mailer,) = mailers
        assert (mailer.sent, mailer.is_open) == (["o-1", "o-2"], True)
    assert not mailer.is_open
    assert mail(Total("o-4", 1, 1), Mailer()) == "the total of o-4 is 1"
    assert rows(["a"]) == [Row("a", 100)]


def define_label(label, **options):
    with cloaca.WorkflowBuilder("label", output="label"):
        cloaca.task(id="label", **options)(label)


@pytest.mark.timeout(600)
def test_m1_python_runs_a_rust_child_that_runs_a_python_child(database, worker):
    attempts = []

    def label(order_id: str) -> str:
        attempts.append(order_id)
        if len(attempts) == 1:
            raise ConnectionError("printer")
        return f"label of {order_id}"

    define_label(label, retry_delay_ms=10)

    @cloaca.workflow(output="two_languages")
    def two_languages(order_id: str, handle: cloaca.TaskHandle) -> str:
        return f"{handle.run('ship', 'ship', {'order_id': order_id})}, sent"

    with cloaca.DefaultRunner(database) as runner:
        handle = runner.submit("two_languages", {"order_id": "o-7"})
        result = handle.result(timeout=PATIENCE).raise_for_status()
        assert result.output == "parcel with label of o-7, sent"
        assert attempts == ["o-7", "o-7"]
        (ship,) = runner.children(handle.id)
        (printed,) = runner.children(ship.execution_id)
        assert [ship.workflow_name, printed.workflow_name] == ["ship", "label"]
        printed_result = runner.get_handle(printed.execution_id).result(timeout=PATIENCE)
        assert printed_result.tasks["label"].attempts == 2


@pytest.mark.timeout(600)
@pytest.mark.parametrize("end", ["fails", "is cancelled"])
def test_m3_m4_failure_and_cancel_pass_between_the_languages(database, worker, end):
    reached = threading.Event()

    def label(handle: cloaca.TaskHandle) -> str:
        reached.set()
        if end == "fails":
            raise cloaca.Abort("no paper")
        return handle.wait("paper", cloaca.signal("paper"))

    define_label(label)

    @cloaca.workflow
    def in_vain(order_id: str, handle: cloaca.TaskHandle) -> None:
        handle.run("ship", "ship", {"order_id": order_id})

    with cloaca.DefaultRunner(database) as runner:
        handle = runner.submit("in_vain", {"order_id": "o-8"})
        assert reached.wait(PATIENCE)
        if end == "is cancelled":
            handle.cancel()
        result = handle.result(timeout=PATIENCE)
        (ship,) = runner.children(handle.id)
        (printed,) = runner.children(ship.execution_id)
        ends = [runner.get_handle(e.execution_id).result(timeout=PATIENCE) for e in (ship, printed)]
        ended = {"fails": "Failed", "is cancelled": "Cancelled"}[end]
        assert [each.status for each in [result, *ends]] == [ended] * 3
        if end == "fails":
            assert result.error.type == "ChildFailedError"
            assert "no paper" in result.error.message
