"""Lines that must type-check. No test executes them.

`make check` checks them with mypy, and `tests/test_type_checkers.py` with pyright.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypedDict, assert_type

import cloaca


@cloaca.task
def bare(context: cloaca.Context) -> None: ...


@cloaca.task(id="other", dependencies=[bare, "third"], retry_on=(OSError,), timeout=1.5)
def with_options(context: cloaca.Context, handle: cloaca.TaskHandle) -> dict[str, int]:
    handle.defer_until(lambda: True)
    return {"a": 1}


@cloaca.task(
    retry_policy={"max_attempts": 3},
    on_success=lambda task_id, context: print(task_id, len(context)),
    on_failure=lambda task_id, error, context: None,
    trigger_rule=cloaca.all_of("one_failed", cloaca.task_failed(bare)),
)
async def coroutine(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
    await handle.defer_until(lambda: True)


assert_type(bare(cloaca.Context()), None)
plain: Callable[[cloaca.Context], None] = bare
full: Callable[[cloaca.Context, cloaca.TaskHandle], dict[str, int]] = with_options

with cloaca.WorkflowBuilder("w") as builder:
    assert_type(builder, cloaca.WorkflowBuilder)
    builder.description("text").tag("a", "b").add_task("third").add_task(bare)
    assert_type(cloaca.external_task("rust", dependencies=[bare]), str)
assert_type(builder.build(), cloaca.Workflow)
cloaca.register_workflow_constructor("w", builder.build)

context = cloaca.Context({"a": 1})
context["b"] = [1]
context.update("b", 2)
context.update({"c": 3})
value: Any = context.get("a", 5)

config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=2, retention_days=None)
config.lease_ttl = 20
limit: float | None = config.workflow_timeout_seconds


def use(runner: cloaca.DefaultRunner) -> None:
    result = runner.execute("w", {"a": 1}, timeout=datetime.timedelta(minutes=1))
    assert_type(result, cloaca.WorkflowResult)
    assert_type(result.raise_for_status(), cloaca.WorkflowResult)
    assert_type(result.status, cloaca.WorkflowStatus)
    assert_type(result.tasks["a"].error, cloaca.ErrorInfo | None)
    assert_type(result.final_context, cloaca.Context)
    handle = runner.submit("w", context, key="k", priority=5, delay=1)
    assert_type(handle.result(timeout=5), cloaca.WorkflowResult)
    assert_type(handle.cancel(), bool)
    many = runner.submit_many([("w", None), {"workflow": "w", "priority": 3}])
    assert_type(many, list[cloaca.WorkflowHandle])
    page = runner.list_executions(status=["Failed", cloaca.WorkflowStatus.CANCELLED])
    assert_type([entry.execution_id for entry in page], list[str])
    assert_type(page.next_cursor, str | None)
    assert_type(runner.events(handle.id), list[cloaca.Event])


async def use_async() -> cloaca.WorkflowResult:
    async with cloaca.DefaultRunner("sqlite:///x.db", config) as runner:
        assert_type(await runner.execute_async("w"), cloaca.WorkflowResult)
        return await runner.submit("w")


assert_type(cloaca.var_or("A", 1), str | int)
policy: cloaca.RetryPolicy = (
    cloaca.RetryPolicy.builder()
    .max_attempts(3)
    .initial_delay(0.5)
    .backoff_strategy(cloaca.BackoffStrategy.linear(2))
    .retry_condition(cloaca.RetryCondition.error_pattern(["x"]))
    .with_jitter(False)
    .build()
)


# Typed tasks


class Row(TypedDict):
    price: float


@dataclasses.dataclass
class Total:
    sum: float


class SMTP:
    def __enter__(self) -> SMTP:
        return self

    def __exit__(self, *error: object) -> None: ...


def open_smtp() -> SMTP:
    return SMTP()


def connection() -> Iterator[int]:
    yield 1


async def pages() -> AsyncIterator[str]:
    yield "a"


async def client() -> bytes:
    return b""


with cloaca.WorkflowBuilder("order", input=Total, output=("total", "rows")) as typed:

    @cloaca.task
    def rows(urls: list[str]) -> list[Row]:
        return [{"price": 1} for _ in urls]

    @cloaca.task(output="sum")
    def total(rows: list[Row], order_id: str, tax: float = 0.19) -> Total:
        return Total(len(rows))

    @cloaca.task
    async def fetch(total: Total = cloaca.result(total)) -> int:
        return 1

    with cloaca.group("section", dependencies=[rows, "total"]) as section:

        @cloaca.task(dependencies=[section])
        def mail(
            context: cloaca.Context,
            total: Total = cloaca.result(total),
            fetched: int = cloaca.result(fetch),
            anything: str = cloaca.result("rows"),
            smtp: SMTP = cloaca.resource(open_smtp),
            number: int = cloaca.resource(connection),
            page: str = cloaca.resource(pages),
            data: bytes = cloaca.resource(client),
            *,
            handle: cloaca.TaskHandle,
        ) -> None: ...


cloaca.WorkflowBuilder("names", input={"order_id": str, "urls": list[str]}, output="total")
assert_type(total([{"price": 1}], "o-1"), Total)
assert_type(cloaca.result(total), Total)
assert_type(cloaca.result(fetch), int)
assert_type(section, cloaca.TaskGroup)
assert_type(section.name, str)


def use_typed(runner: cloaca.DefaultRunner) -> None:
    result = runner.execute("order", Total(1))
    assert_type(result.of(rows), list[Row])
    assert_type(result.of(total), Total)
    assert_type(result.of(fetch), int)
    runner.submit("order", Total(1))
    runner.submit_many([("order", Total(1)), {"workflow": "order", "context": Total(1)}])
    runner.register_cron_workflow("order", "@hourly", input=Total(1))
    cloaca.TriggerResult.fire(Total(1))
    error = cloaca.TaskInputError("x")
    assert_type((error.parameter, error.producer, error.path), tuple[str, str | None, str])


async def fetch_page(page: int) -> list[str]:
    return [str(page)]


@cloaca.workflow
def durable(question: str, handle: cloaca.TaskHandle) -> int:
    total: int = handle.step("total", int, question, retry=cloaca.RetryPolicy())
    rows = handle.step("rows", lambda: [1], type=list[int])
    handle.sleep("a moment", "1s")
    return total + len(rows)


@cloaca.workflow(output="pages", retry_attempts=1)
async def durable_async(handle: cloaca.TaskHandle) -> list[str]:
    await handle.sleep("a moment", 1)
    found: list[str] = await handle.step("pages", fetch_page, 7)
    return found
