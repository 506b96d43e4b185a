# ruff: noqa
# fmt: off
"""Workflows whose versions are stored in `tests/golden/workflows.json`. Do not change them."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from typing import TypedDict

import cloaca


@dataclasses.dataclass
class Row:
    """The type of a result. Annotations do not affect the version."""

    price: float


class Order(TypedDict):
    order_id: str
    urls: list[str]


def plain():
    """Tasks that take the context."""
    @cloaca.task
    def extract(context):
        context["rows"] = [1, 2, 3]

    @cloaca.task(dependencies=[extract])
    def total(context, factor=2, *, handle):
        context["total"] = sum(context["rows"]) * factor + handle.attempt

    cloaca.task(id="report", dependencies=["total"])(lambda context: {"done": True})


def options():
    """Options that are part of the version, and options that are not."""
    cloaca.task(id="a", timeout=30, priority=3, max_context_bytes=1000)(lambda context: None)
    cloaca.task(id="b", timeout="10m", retry_attempts=5, retry_backoff="linear", retry_delay_ms=20,
                retry_max_delay_ms=500, retry_jitter=False, retry_on=(ConnectionError,))(lambda context: None)
    cloaca.task(id="c", retry_policy={"max_attempts": 2, "backoff": "fixed"}, never_on=["builtins.KeyError"],
                on_success=print, on_failure=print)(lambda context: None)
    cloaca.task(id="d", retry=cloaca.RetryPolicy(max_attempts=4, initial_delay=0.5, condition=cloaca.RetryCondition.transient_only()))(lambda context: None)


def rules():
    """Trigger rules."""
    for id in ("a", "b"):
        cloaca.task(id=id)(lambda context: None)
    cloaca.task(id="c", dependencies=["a", "b"], trigger_rule="one_failed")(lambda context: None)
    cloaca.task(id="d", dependencies=["a"], trigger_rules=cloaca.context_value("order.total", ">", 80))(lambda context: None)
    cloaca.task(id="e", dependencies=["a", "b"], trigger_rules=cloaca.all_of(cloaca.task_success("a"), cloaca.none_of(cloaca.task_skipped("b"))))(lambda context: None)


def loop():
    """Tasks that a loop makes, with values in defaults and in closures."""
    def make(region):
        def load(context):
            return {region: 1}
        return load

    for region in ("north", "south"):
        cloaca.task(id=f"load_{region}")(make(region))
        cloaca.task(id=f"sum_{region}", dependencies=[f"load_{region}"])(lambda context, region=region: {"sum": context[region]})


class Job:
    def run(self, context):
        return None

    def __call__(self, context):
        return {"called": 1}


def callables():
    """Methods, callable objects and partials."""
    cloaca.task(id="method")(Job().run)
    cloaca.task(id="object")(Job())
    cloaca.task(id="partial")(functools.partial(Job.run, Job()))

    @cloaca.task
    async def coroutine(context, handle):
        await handle.heartbeat()


def external():
    """A task that another program runs."""
    @cloaca.task
    def rows(context): ...

    cloaca.external_task("total", dependencies=[rows], timeout=60, retry_attempts=2)


def untyped_values():
    """Values without annotations."""
    @cloaca.task
    def rows():
        return [1, 2]

    @cloaca.task
    def total(rows):
        return sum(rows)


def typed_values():
    """Values by name, by marker and from a resource; results under other names."""
    @cloaca.task
    def rows(urls: list[str]) -> list[Row]:
        return [Row(len(url)) for url in urls]

    @cloaca.task(output="sum")
    def total(rows: list[Row], order_id: str, tax: float = 0.19) -> float | None:
        return sum(row.price for row in rows) * (1 + tax)

    @cloaca.task
    def mail(total: float = cloaca.result(total), smtp: object = cloaca.resource(open), *, handle: cloaca.TaskHandle) -> str:
        return f"{total} {handle.attempt}"

    @cloaca.task
    def report(context, mail: str, urls=None) -> None:
        context["report"] = mail


def groups():
    """Two groups, one inside the other."""
    @cloaca.task
    def rows() -> list[int]:
        return [1]

    with cloaca.group("section", dependencies=[rows]) as section:
        @cloaca.task
        def first(rows: list[int]) -> int:
            return rows[0]

        with cloaca.group("inner"):
            @cloaca.task
            def second(first: int) -> int:
                return first

    cloaca.task(id="end", dependencies=[section])(lambda context: None)


def maps():
    """Maps over a list, over a map, in batches and over several lists, and a map of children."""
    @cloaca.task(over="urls", parallel=8, tolerate=0.05)
    async def fetch(url: str, handle) -> str:
        return url

    @cloaca.task(over="fetch")
    def parse(fetch: str) -> int:
        return len(fetch)

    @cloaca.task(over="urls", batch=500)
    def load(some: list[str]) -> int:
        return len(some)

    @cloaca.task(over={"a": "urls", "b": "urls"})
    def pair(a: str, b: str) -> str:
        return a + b

    cloaca.child("made", workflow="render", over="urls", input={"page": "item"}, parallel=2)

    @cloaca.task
    def total(parse: list[int], load: cloaca.MapResult[int]) -> int:
        return sum(parse)


def waits():
    """Signals, approvals and timers. The test adds a signal that cancels the workflow."""
    cloaca.wait("cool_down", wait_for=cloaca.any_of(cloaca.delay("1h"), cloaca.signal("go")))
    cloaca.approval("approve", dependencies=["cool_down"], timeout="48h", on_timeout="skip", title="Release {order_id}?", to="finance")
    cloaca.wait("due", wait_for=cloaca.until(datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)), on_timeout="continue", timeout=5)
    cloaca.wait("path", wait_for=cloaca.until("due_at"))

    @cloaca.task(dependencies=["approve"], wait_for=cloaca.signal("paid", key="order_id", since="ever"), wait_timeout="30d", on_timeout="fail")
    def book(paid: dict) -> str:
        return paid["id"]


def children():
    """Children."""
    cloaca.child("invoice", workflow="invoice", input={"order": "order_id"}, timeout="1h")
    cloaca.child("audit", workflow="audit", dependencies=["invoice"], on_parent_end="abandon", retry_attempts=2)

    @cloaca.task
    def book(invoice: dict) -> None: ...


def refund(charge, error):
    return None


def finals():
    """Final tasks and compensations."""
    @cloaca.task(compensate=refund)
    def charge(order_id: str) -> str:
        return order_id

    @cloaca.task(final="failure", undoes=[charge])
    def alarm(error, charge: str | None) -> None: ...

    @cloaca.task(final="always", dependencies=["alarm"])
    def clean(context): ...


def close(error):
    return None


final_task = cloaca.task(id="close", final="always")(close)


@cloaca.workflow
def bare(question: str, handle: cloaca.TaskHandle) -> str:
    """A workflow of one function."""
    plan = handle.step("plan", sorted, question)
    handle.sleep("cool down", "1h")
    decision = handle.wait("approval", cloaca.signal("approve", key=question), timeout="48h")
    return f"{plan} {decision}"


@cloaca.workflow
def of_context(context, handle):
    context["n"] = handle.attempt


@cloaca.workflow()
def without_parameters():
    return 1


@cloaca.workflow(input={"n": int}, output="double", timeout="1h", retry_attempts=2, retry_delay_ms=10, priority=1)
async def with_options(n: int, factor: int = 2) -> int:
    return factor * n


@cloaca.workflow(input=Order, compensate=refund, finals=[final_task])
def with_finals(order_id: str, handle: cloaca.TaskHandle) -> str:
    for page in handle.run_many("pages", "render", [{"page": 1}], parallel=2):
        handle.start("audit", {"page": page})
    return order_id


#: The functions that each define the tasks of a workflow.
DEFINED = (plain, options, rules, loop, callables, external, untyped_values, typed_values, groups, maps, waits, children, finals)
#: The functions that are themselves workflows.
FUNCTIONS = (bare, of_context, without_parameters, with_options, with_finals)
#: The declared inputs, by the function that defines the workflow. They do not affect the version.
INPUTS = {typed_values: Order, maps: {"urls": list[str]}, finals: {"order_id": str}}
