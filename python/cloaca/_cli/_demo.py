"""The demo of `cloaca ui --demo`: a database with various executions, and a runner for them."""

from __future__ import annotations

import logging
import random
import shutil
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from cloaca._core import Context
from cloaca._runner.config import DefaultRunnerConfig
from cloaca._runner.runner import DefaultRunner
from cloaca._values.exceptions import CloacaException
from cloaca._workers.task_handle import TaskHandle
from cloaca._workflows.builder import WorkflowBuilder
from cloaca._workflows.child import child
from cloaca._workflows.nodes import approval
from cloaca._workflows.task import external_task, task

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("shop")

# Seconds between two submissions while the demo runs.
_PAUSE = 6.0
# Number of parallel tasks of the workflow `thumbnails`.
_SHARDS = 120
_DAYS = ("2026-03-02", "2026-03-03", "2026-03-04", "2026-03-05")


def _work(low: float, high: float) -> None:
    """Sleeps for a random time in seconds, so that the timeline shows bars of different lengths."""
    time.sleep(random.uniform(low, high))


def _define_orders() -> None:
    with WorkflowBuilder("orders") as builder:
        builder.description("Loads the orders of a day into the warehouse")
        builder.tag("team", "data")

        @task()
        def extract_orders(context: Context) -> None:
            log.info("reading the orders of %s", context["day"])
            _work(0.05, 0.3)
            context["orders"] = 1200 + len(context["day"])

        @task()
        def extract_customers(context: Context) -> None:
            _work(0.05, 0.4)
            context["customers"] = 310

        @task(retry_attempts=4, retry_delay_ms=200)
        def extract_rates(context: Context, handle: TaskHandle) -> None:
            if handle.attempt < 3 and context["day"] == _DAYS[1]:
                log.warning("the exchange answered 503")
                raise ConnectionError("https://rates.example.com/daily answered 503")
            context["rates"] = {"EUR": 1, "USD": "1.0842", "JPY": "162.91"}

        @task(dependencies=["extract_orders"])
        def clean_orders(context: Context, handle: TaskHandle) -> None:
            for step in range(5):
                handle.set_progress(step + 1, 5, "files")
                _work(0.02, 0.1)
            context["clean_orders"] = context["orders"] - 3

        @task(dependencies=["clean_orders", "extract_customers"])
        def join(context: Context) -> None:
            _work(0.05, 0.2)
            context["rows"] = context["clean_orders"]

        @task(dependencies=["join", "extract_rates"])
        def convert(context: Context) -> None:
            context["currency"] = "EUR"

        @task(dependencies=["convert"])
        def validate(context: Context) -> None:
            missing = context.get("missing", 0)
            if missing:
                log.error("%d rows have no customer", missing)
                raise ValueError(f"{missing} of {context['rows']} rows have no customer id")

        @task(dependencies=["validate"])
        def load_warehouse(context: Context) -> None:
            _work(0.1, 0.5)
            context["loaded"] = context["rows"]

        @task(dependencies=["load_warehouse"])
        def report(context: Context) -> None:
            context["report"] = f"https://reports.example.com/{context['day']}"


def _define_invoice() -> None:
    with WorkflowBuilder("invoice") as builder:
        builder.description("Renders and sends the invoice of an order")
        builder.tag("team", "billing")

        @task()
        def draft(context: Context) -> None:
            context["total"] = context["amount"] * 119 / 100

        @task(dependencies=["draft"])
        def render_pdf(context: Context) -> None:
            _work(0.1, 0.4)
            context["pages"] = 2

        @task(dependencies=["render_pdf"], retry_attempts=2, retry_delay_ms=300)
        def send(context: Context) -> None:
            if context["mail"].endswith(".invalid"):
                raise ConnectionError(f"no mail server for {context['mail']}")
            context["sent"] = True


def _define_other_workflows() -> None:
    with WorkflowBuilder("thumbnails") as builder:
        builder.description("Scales the pictures of a catalogue, one task for each part")
        names = []
        for number in range(_SHARDS):

            @task(id=f"scale_{number:03}")
            def scale(context: Context) -> None:
                _work(0.01, 0.12)

            names.append(f"scale_{number:03}")

        @task(dependencies=names)
        def publish(context: Context) -> None:
            context["published"] = _SHARDS

    with WorkflowBuilder("archive") as builder:
        builder.description("Packs a year of invoices; another program runs the task pack")

        @task()
        def collect(context: Context) -> None:
            context["files"] = 4213

        external_task("pack", dependencies=["collect"])

    with WorkflowBuilder("cleanup") as builder:
        builder.description("Removes old files, one folder at a time")

        @task()
        def sweep(context: Context, handle: TaskHandle) -> None:
            for folder in range(60):
                handle.set_progress(folder + 1, 60, "folders")
                _work(1, 5)

        @task(dependencies=["sweep"])
        def summary(context: Context) -> None:
            context["removed"] = 60

    with WorkflowBuilder("refund") as builder:
        builder.description("Refunds an order if a person approves it")
        builder.tag("team", "billing")

        @task()
        def assess(context: Context, handle: TaskHandle) -> None:
            handle.step("history", lambda: {"orders": 14, "refunds": 1})
            context["risk"] = handle.step("score", lambda: 0.12)

        approval(
            "allow",
            dependencies=["assess"],
            data={"amount": float, "reason": str},
            title="Refund this order?",
            to="billing",
        )

        @task(dependencies=["allow"])
        def pay_back(context: Context) -> None:
            _work(0.1, 0.3)

    with WorkflowBuilder("checkout") as builder:
        builder.description("Takes an order; the invoice is an execution of its own")

        @task()
        def reserve(context: Context) -> None:
            context["mail"] = "customer@example.com"
            context["amount"] = 120

        child(
            "bill",
            workflow="invoice",
            dependencies=["reserve"],
            input={"amount": "amount", "mail": "mail"},
        )


def _seed(runner: DefaultRunner) -> None:
    """Submits executions that complete, fail, wait or are paused, and registers two schedules."""
    handles = [runner.submit("orders", {"day": day}) for day in _DAYS]
    handles += [runner.submit("orders", {"day": _DAYS[-1], "missing": n}) for n in (12, 7)]
    for number in range(8):
        mail = f"customer{number}@example.{'invalid' if number % 4 == 3 else 'com'}"
        input = {
            "order": 4711 + number,
            "amount": 100 + number,
            "mail": mail,
            "token": "s3cr3t-key",
        }
        handles.append(runner.submit("invoice", input, key=f"invoice-{4711 + number}"))
    handles.append(runner.submit("thumbnails", {"catalogue": "spring"}))
    for handle in handles:
        handle.result(timeout=60)
    runner.submit("archive", {"year": 2025})
    runner.submit("invoice", {"order": 5000, "amount": 80, "mail": "later@example.com"}, delay=3600)
    runner.submit("cleanup", {"folder": "/var/shop"})
    runner.submit("cleanup", {"folder": "/var/mail"}).pause()
    runner.submit("refund", {"order": 4711}, labels={"order": "4711"})
    runner.submit("checkout", {"order": 4719}, labels={"order": "4719"})
    runner.register_cron_workflow("orders", "0 2 * * *", "Europe/Berlin", input={"day": "today"})
    runner.register_cron_workflow("cleanup", "*/30 8-18 * * 1-5", input={"folder": "/tmp/shop"})


def _submit_regularly(runner: DefaultRunner, ended: threading.Event) -> None:
    number = 0
    while not ended.wait(_PAUSE):
        number += 1
        try:
            if number % 3 == 0:
                runner.submit("orders", {"day": _DAYS[number % 4], "missing": 5 * (number % 2)})
            else:
                mail = f"customer{number}@example.com"
                runner.submit("invoice", {"order": 6000 + number, "amount": 40, "mail": mail})
        except CloacaException:
            return


@contextmanager
def demo() -> Iterator[str]:
    """Fill a database in a temporary folder, and run its workflows inside the block.

    Yields:
        The URL of the database. The database is removed at the end of the block.
    """
    folder = Path(tempfile.mkdtemp(prefix="cloaca-demo-"))
    ended = threading.Event()
    # Keeps the tasks' log lines off the terminal, so that the link stays visible. The page shows
    # the log lines.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        _define_orders()
        _define_invoice()
        _define_other_workflows()
        url = f"sqlite:///{folder}/demo.db"
        config = DefaultRunnerConfig(capture_logs=True, max_concurrent_tasks=4)
        with DefaultRunner.with_config(url, config) as runner:
            _seed(runner)
            submitter = threading.Thread(
                target=_submit_regularly, args=(runner, ended), daemon=True
            )
            submitter.start()
            try:
                yield url
            finally:
                ended.set()
                submitter.join()
                runner.shutdown(timeout=0)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
