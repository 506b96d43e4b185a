"""Tests of `cloaca.testing`: a virtual clock, an in-memory database, a crash at every commit."""

from __future__ import annotations

import asyncio
import gc
import itertools
import time
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import pytest

import cloaca
from cloaca._workflows.registry import registry
from cloaca.testing import VirtualRunner, crash_everywhere, run_task


@pytest.fixture
def quick():
    """Asserts that a test in which at least a virtual minute passes takes less than 20 s.

    If such a test runs alone, it takes a few hundredths of a second. The limit is higher, because
    threads and garbage of earlier tests, and other pytest processes, can slow the test down.
    """
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 20


def test_an_hour_of_back_off_takes_no_real_time(quick, cloaca_runner):
    with cloaca.WorkflowBuilder("flaky"):

        @cloaca.task(retry_attempts=3, retry_delay_ms=3_600_000, retry_max_delay_ms=7_200_000)
        def work(context, handle):
            if handle.attempt < 3:
                raise ConnectionError("not yet")

    result = cloaca_runner.execute("flaky")
    assert result.status == "Completed"
    assert result.tasks["work"].attempts == 3
    assert result.duration.total_seconds() > 3600


def test_advance_runs_the_tasks_that_become_due(quick, cloaca_runner):
    ran = []
    with cloaca.WorkflowBuilder("later"):

        @cloaca.task()
        def work(context):
            ran.append(1)

    handle = cloaca_runner.submit("later", delay=3600)
    cloaca_runner.advance(3599)
    assert (handle.status(), ran) == ("Pending", [])
    cloaca_runner.advance(1)
    assert (handle.status(), ran) == ("Completed", [1])


def test_a_day_passes_in_no_real_time(quick, cloaca_runner):
    before = cloaca_runner.now()
    cloaca_runner.advance(86_400)
    assert cloaca_runner.now() - before == pytest.approx(86_400, abs=1e-3)


def test_a_day_of_cron_takes_no_real_time(quick, cloaca_runner):
    ran = []
    with cloaca.WorkflowBuilder("hourly"):

        @cloaca.task(retry_delay_ms=600_000, retry_attempts=2, retry_jitter=False)
        def report(context, handle):
            if handle.attempt == 1 and len(ran) == 3:
                raise ConnectionError("once")
            ran.append(context["scheduled_time"])

    schedule = cloaca_runner.register_cron_workflow("hourly", "0 * * * *")
    cloaca_runner.advance(86_400)
    rows = cloaca_runner.get_cron_execution_history(schedule)
    assert len(rows) == 24
    assert {row["outcome"] for row in rows} == {"fired"}
    assert sorted(ran) == [row["scheduled_time"] for row in reversed(rows)]
    times = [datetime.fromisoformat(text) for text in ran]
    assert {(time.minute, time.second) for time in times} == {(0, 0)}
    statuses = [item.status for item in cloaca_runner.list_executions(workflow="hourly")]
    assert statuses == ["Completed"] * 24


def test_back_off_cron_and_timeout_take_no_real_time(quick, cloaca_runner):
    """A test as users write it. `quick` also measures the start and the shutdown of the runner."""
    with cloaca.WorkflowBuilder("flaky"):

        @cloaca.task(
            retry_attempts=2,
            retry_delay_ms=3_600_000,
            retry_max_delay_ms=3_600_000,
            retry_jitter=False,
        )
        def unsteady(context, handle):
            if handle.attempt == 1:
                raise ConnectionError("not yet")

        @cloaca.task(timeout=60, retry_attempts=1, dependencies=[unsteady])
        def slow(context):
            time.sleep(3600)

    reports = []
    with cloaca.WorkflowBuilder("hourly"):

        @cloaca.task()
        def report(context):
            reports.append(context["scheduled_time"])

    with cloaca.WorkflowBuilder("bad"):

        @cloaca.task()
        def charge(context):
            reports.append("charged")
            context["charged"] = len(reports)

    result = cloaca_runner.execute("flaky")
    assert (result.status, result.error.type) == ("Failed", "TaskTimeoutError")
    assert result.tasks["unsteady"].attempts == 2
    assert result.duration.total_seconds() == pytest.approx(3660, abs=1)
    cloaca_runner.register_cron_workflow("hourly", "0 * * * *")
    cloaca_runner.advance(86_400)
    assert len(set(reports)) == len(reports) == 24
    with pytest.raises(AssertionError, match="Not idempotent: 'charge'"):
        crash_everywhere("bad", setup=reports.clear)


def test_a_sleep_takes_no_real_time(quick, cloaca_runner):
    with cloaca.WorkflowBuilder("sleepy"):

        @cloaca.task(timeout=10_000)
        def nap(context):
            time.sleep(7200)

        @cloaca.task(timeout=10_000)
        async def doze(context):
            await asyncio.sleep(5400)

    result = cloaca_runner.execute("sleepy")
    assert result.status == "Completed"
    assert result.duration.total_seconds() == pytest.approx(7200, abs=1)


@pytest.mark.parametrize("kind", ["function", "coroutine"])
def test_a_timeout_takes_no_real_time(quick, cloaca_runner, kind):
    with cloaca.WorkflowBuilder("slow"):
        if kind == "function":

            @cloaca.task(id="work", timeout=60, retry_attempts=1)
            def work(context):
                time.sleep(3600)
        else:

            @cloaca.task(id="work", timeout=60, retry_attempts=1)
            async def work_async(context):
                await asyncio.sleep(3600)

    result = cloaca_runner.execute("slow")
    assert (result.status, result.error.type) == ("Failed", "TaskTimeoutError")
    assert result.duration.total_seconds() == pytest.approx(60, abs=1)


def test_timeout_of_a_waiting_caller_uses_the_virtual_clock(quick, cloaca_runner):
    with cloaca.WorkflowBuilder("later"):

        @cloaca.task()
        def work(context):
            pass

    handle = cloaca_runner.submit("later", delay=3600)
    with pytest.raises(TimeoutError):
        handle.result(timeout=1800)
    assert handle.result(timeout=1801).status == "Completed"


def test_awaiting_a_handle_advances_the_virtual_time(quick, cloaca_runner):
    with cloaca.WorkflowBuilder("later"):

        @cloaca.task()
        def work(context):
            pass

    async def main():
        return await cloaca_runner.submit("later", delay=3600)

    assert asyncio.run(main()).status == "Completed"


def test_runner_that_is_not_virtual_keeps_the_real_time(cloaca_runner, tmp_path):
    with cloaca.WorkflowBuilder("nap"):

        @cloaca.task()
        def work(context):
            before = time.monotonic()
            time.sleep(0.05)
            context["slept"] = time.monotonic() - before

    with cloaca.DefaultRunner(f"sqlite:///{tmp_path / 'real.db'}") as real:
        assert real.execute("nap").final_context["slept"] >= 0.05
    assert cloaca_runner.execute("nap").final_context["slept"] < 0.05


def test_crash_everywhere_polls_no_triggers(monkeypatch):
    monkeypatch.setattr(registry, "_triggers", [])
    monkeypatch.setattr(registry, "_trigger_revisions", {})
    polls: list[int] = []
    with cloaca.WorkflowBuilder("crashes"):
        cloaca.task(id="only")(lambda context: None)

    @cloaca.trigger(on="crashes", poll_interval="10ms")
    def look():
        polls.append(1)
        return cloaca.TriggerResult.fire()

    assert len(crash_everywhere("crashes").points) == 4
    assert not polls
    with VirtualRunner() as runner:
        runner.advance(0.1)
    assert polls


def test_run_task_runs_a_function_as_a_worker_does():
    def total(context, handle):
        context["total"] = sum(context["rows"])
        return {"attempt": handle.attempt}

    async def later(context):
        context.set("later", True)

    def tells(context, handle):
        handle.heartbeat(0.5)
        handle.set_progress(1, 2, "half")
        answers = iter([False, handle.is_cancelled(), True])
        handle.defer_until(lambda: next(answers), poll_interval_ms=1)
        context["held"] = handle.is_slot_held()

    assert run_task(tells)["held"] is True
    assert run_task(total, {"rows": [1, 2]}).to_dict() == {"rows": [1, 2], "total": 3, "attempt": 1}
    assert run_task(later)["later"] is True
    given = cloaca.Context({"a": 1})
    assert run_task(lambda context: None, given) is given


def test_run_task_raises_errors_of_the_function_and_its_signature():
    def wrong(context):
        return 3

    def retries(context):
        raise cloaca.Retry(after=3)

    def odd(first, second):
        pass

    with pytest.raises(TypeError, match="returned a value of type 'int'"):
        run_task(wrong)
    with pytest.raises(cloaca.Retry):
        run_task(retries)
    with pytest.raises(cloaca.TaskError):
        run_task(odd)


def test_run_task_runs_coroutines_while_an_event_loop_runs():
    number: ContextVar[int] = ContextVar("number")
    closed = []

    class Session:
        async def aclose(self) -> None:
            closed.append(asyncio.get_running_loop())

    async def session() -> Session:
        return Session()

    async def later(n: int, it: Session = cloaca.resource(session)) -> int:
        await asyncio.sleep(0)
        return n + number.get()

    def plain(it: Session = cloaca.resource(session)) -> bool:
        return isinstance(it, Session)

    async def fails(context) -> None:
        raise KeyError("n")

    async def main() -> None:
        number.set(40)
        assert run_task(later, n=2)["later"] == 42
        assert run_task(plain)["plain"] is True
        with pytest.raises(KeyError):
            run_task(fails)
        assert asyncio.get_running_loop() not in closed

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        asyncio.run(main())
        gc.collect()
    assert len(closed) == 2


def test_run_task_gives_the_handle_the_id_of_the_task():
    @cloaca.task(id="mine")
    def named(handle) -> list[Any]:
        return [handle.task_id, handle.index]

    with cloaca.WorkflowBuilder("ids_of_tasks", input={"rows": list[int]}):
        with cloaca.group("g"):

            @cloaca.task
            def inner(handle) -> list[Any]:
                return [handle.task_id, handle.index]

        @cloaca.task(over="rows")
        def each(row: int, handle) -> list[Any]:
            return [handle.task_id, handle.index, row]

    def loose(handle) -> list[Any]:
        return [handle.task_id, handle.index]

    assert run_task(named)["mine"] == ["mine", None]
    assert run_task(inner)["g.inner"] == ["g.inner", None]
    assert run_task(each, row=7)["each"] == ["each[0]", 0, 7]
    assert run_task(loose)["loose"] == ["loose", None]


def define_total(annotation: Any, in_workflow: bool, default: Any = ...) -> Callable[..., Any]:
    """Returns a task that returns a map's values, its failed indexes and its number of items."""

    def total(work):
        if work is None:
            return None
        return [work.values(), [item.index for item in work.errors()], len(work)]

    total.__annotations__ = {"work": annotation, "return": Any}
    if default is not ...:
        total.__defaults__ = (default,)
    if in_workflow:
        with cloaca.WorkflowBuilder("totals", input={"rows": list[int]}):

            @cloaca.task(over="rows")
            def work(row: int) -> Any:
                return row

            cloaca.task(total)
    return total


def some_items() -> cloaca.MapResult[Any]:
    """Returns the items of a map. The second of the three items failed."""
    with cloaca.WorkflowBuilder("some_items", input={"rows": list[int]}):

        @cloaca.task(over="rows", tolerate=1, retry_attempts=1)
        def pages(row: int) -> int:
            if row < 0:
                raise ValueError("negative")
            return row

        @cloaca.task
        def keep(pages: cloaca.MapResult[int]) -> None:
            kept.append(pages)

    kept: list[cloaca.MapResult[Any]] = []
    with VirtualRunner() as runner:
        runner.execute("some_items", {"rows": [1, -1, 3]})
    return kept[0]


@pytest.mark.parametrize("in_workflow", [False, True])
@pytest.mark.parametrize("annotation", [cloaca.MapResult[int], cloaca.MapResult])
def test_run_task_takes_the_items_of_a_map(annotation, in_workflow):
    total = define_total(annotation, in_workflow)
    assert run_task(total, work=[1, 2])["total"] == [[1, 2], [], 2]
    assert run_task(total, {"work": (1, 2)})["total"] == [[1, 2], [], 2]
    assert run_task(total, cloaca.Context({"work": []}))["total"] == [[], [], 0]
    items = some_items()
    assert run_task(total, work=items)["total"] == [[1, 3], [1], 3]
    assert run_task(total, {"work": items})["total"] == [[1, 3], [1], 3]


@pytest.mark.parametrize("in_workflow", [False, True])
@pytest.mark.parametrize(
    ("annotation", "wrong"),
    [
        (cloaca.MapResult[int], ["a"]),
        *itertools.product(
            (cloaca.MapResult[int], cloaca.MapResult), (5, "abc", {"values": [1]}, None)
        ),
    ],
)
def test_run_task_refuses_wrong_items_of_a_map(annotation, wrong, in_workflow):
    with pytest.raises(cloaca.TaskInputError, match="work"):
        run_task(define_total(annotation, in_workflow), work=wrong)


@pytest.mark.parametrize("in_workflow", [False, True])
def test_j7_run_task_passes_default_or_none_for_a_missing_map(in_workflow):
    optional = define_total(cloaca.MapResult[int] | None, in_workflow)
    assert run_task(optional, work=None)["total"] is None
    assert run_task(optional, work=[1])["total"] == [[1], [], 1]
    assert run_task(define_total(cloaca.MapResult[int], in_workflow, None))["total"] is None
    assert run_task(optional)["total"] is None
    for annotation in (cloaca.MapResult[int], cloaca.MapResult):
        with pytest.raises(cloaca.TaskInputError, match="work"):
            run_task(define_total(annotation, in_workflow))


def test_crash_everywhere_accepts_an_idempotent_workflow():
    with cloaca.WorkflowBuilder("good"):

        @cloaca.task()
        def first(context):
            context["first"] = 1

        @cloaca.task(dependencies=[first])
        async def second(context):
            await asyncio.sleep(60)
            context["second"] = context["first"] + 1

    report = crash_everywhere("good", {"day": 1})
    # Each of the three commits has two crash points, one before it and one after it. The commits
    # are the submission with the first claim, and the completion of each of the two tasks.
    assert len(report.points) >= 6
    assert {"first", "second"} <= set(report.ran_twice)
    assert "'first' ran again" in str(report)


def test_crash_everywhere_names_the_task_that_is_not_idempotent():
    ledger = []
    with cloaca.WorkflowBuilder("bad"):

        @cloaca.task()
        def prepare(context):
            context["amount"] = 5

        @cloaca.task(dependencies=[prepare])
        def charge(context):
            ledger.append(context["amount"])
            context["charged"] = sum(ledger)

        @cloaca.task(dependencies=[charge])
        def receipt(context):
            context["receipt"] = f"paid {context['charged']}"

    with pytest.raises(AssertionError, match="Not idempotent: 'charge'") as caught:
        crash_everywhere("bad", {}, setup=ledger.clear)
    assert "context['charged'] is 10 instead of 5" in str(caught.value)
    with pytest.raises(AssertionError, match="'charge'"):
        crash_everywhere("bad", {})


def test_crash_everywhere_takes_no_real_time_for_long_waits(quick):
    with cloaca.WorkflowBuilder("patient"):

        @cloaca.task(id="flaky", retry_attempts=2, retry_delay_ms=7_200_000, retry_jitter=True)
        def flaky(context, handle):
            if handle.attempt == 1:
                raise ConnectionError("not yet")

        cloaca.wait("ten_days", wait_for=cloaca.delay("10d"), dependencies=["flaky"])

        @cloaca.task(id="answer", dependencies=["ten_days"])
        def answer(handle: cloaca.TaskHandle) -> str | None:
            handle.sleep("an hour", "1h")
            try:
                return handle.wait("answer", cloaca.signal("never"), timeout="1d")
            except cloaca.WaitTimeoutError:
                return None

    report = crash_everywhere("patient")
    assert len(report.points) >= 10
    assert {"flaky", "answer"} <= set(report.ran_twice)


def test_crash_everywhere_keeps_the_order_of_events(quick):
    """The signal is sent an hour before the wait for it times out, wherever the crash occurs."""
    with cloaca.WorkflowBuilder("ordered"):
        cloaca.wait("one_day", wait_for=cloaca.delay("1d"))

        @cloaca.task(id="sender", dependencies=["one_day"])
        def sender(handle: cloaca.TaskHandle) -> None:
            mine = handle.execution_id
            handle.runner.send("news", 1, to=mine, id=f"news-{mine}")

        cloaca.wait("reader", wait_for=cloaca.signal("news"), timeout="25h")

    assert crash_everywhere("ordered").points


def test_crash_everywhere_compares_what_observe_returns():
    sent = []
    with cloaca.WorkflowBuilder("mail"):

        @cloaca.task()
        def send(context):
            sent.append("mail")

    with pytest.raises(AssertionError, match=r"observe\(\) returns 2 instead of 1.*'send'"):
        crash_everywhere("mail", setup=sent.clear, observe=lambda: len(sent))


def test_crash_everywhere_refuses_an_unknown_workflow():
    with pytest.raises(cloaca.WorkflowNotFoundError):
        crash_everywhere("never defined")
