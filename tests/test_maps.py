"""Maps: tasks that run once for each element of a list (semantics K).

A map that runs over the results of another map is *aligned* with it. The other map is the *source*.
"""

from __future__ import annotations

import asyncio
import pickle
import threading
import time
from typing import Annotated, Any

import pytest

import cloaca
from cloaca._tasks.references import tasks_of
from cloaca.testing import VirtualRunner
from waiting_support import wait_until


def define_fetch(workflow: str = "pages", **options: Any) -> dict[str, list[int]]:
    """Defines a map over the field `urls`.

    Returns a dict. Its list `started` receives the index of each item that starts.
    """
    calls: dict[str, list[int]] = {"started": []}
    with cloaca.WorkflowBuilder(workflow, input={"urls": list[str]}):

        @cloaca.task(over="urls", **{"retry_attempts": 1, **options})
        def fetch(url: str, handle: cloaca.TaskHandle) -> int:
            calls["started"].append(handle.index or 0)
            if url.startswith("bad"):
                raise ValueError(f"cannot fetch {url}")
            return len(url)

        @cloaca.task
        def total(fetch: list[int]) -> int:
            return sum(fetch)

    return calls


def test_k4_results_are_in_the_order_of_the_elements(runner):
    with cloaca.WorkflowBuilder("order", input={"delays": list[float]}):

        @cloaca.task(over="delays")
        def wait(delay: float) -> float:
            time.sleep(delay)
            return delay

        @cloaca.task
        def joined(wait: list[float]) -> list[float]:
            return wait

    delays = [0.05, 0.0, 0.02, 0.01, 0.0]
    result = runner.execute("order", {"delays": delays})
    assert result.status == "Completed"
    assert result.of(joined) == delays
    assert result.of(wait) == delays
    assert pickle.loads(pickle.dumps(result)).of("wait") == delays
    assert "wait" not in result.final_context


def test_c5_map_of_coroutines_does_not_hold_up_functions(runner):
    released = threading.Event()
    started: list[int] = []
    with cloaca.WorkflowBuilder("coroutines", input={"numbers": list[int]}):

        @cloaca.task(over="numbers")
        async def rest(number: int) -> int:
            started.append(number)
            while not released.is_set():
                await asyncio.sleep(0.05)
            return number

    calls = define_fetch()
    handle = runner.submit("coroutines", {"numbers": list(range(900))})
    wait_until(lambda: len(started) >= 700)
    try:
        assert runner.submit("pages", {"urls": ["a", "bb"]}).result(30).of("total") == 3
        assert sorted(calls["started"]) == [0, 1]
    finally:
        released.set()
    assert handle.result(60).of("rest") == list(range(900))


def test_k1_empty_list_completes_with_no_results(runner):
    calls = define_fetch()
    result = runner.execute("pages", {"urls": []})
    assert result.status == "Completed"
    assert result.of("total") == 0
    assert result.of("fetch") == []
    assert calls["started"] == []


def test_k1_value_that_is_not_an_array_fails_the_map(runner):
    with cloaca.WorkflowBuilder("scalar"):

        @cloaca.task(over="rows")
        def work(row: int) -> int:
            return row

    result = runner.execute("scalar", {"rows": {"a": 1}})
    assert result.status == "Failed"
    assert result.tasks["work"].attempts == 1
    assert "'rows' is a JSON object, not an array" in result.error.message
    result = runner.execute("scalar", {"row": [1]})
    assert "has no 'rows'" in result.error.message


@pytest.mark.parametrize("kind", ["map", "child"])
def test_j7_error_of_a_map_or_child_names_the_skipped_task(runner, kind):
    @cloaca.workflow
    def started(context): ...

    with cloaca.WorkflowBuilder("unlisted"):

        @cloaca.task(trigger_rule=cloaca.context_value("go", "exists"))
        def urls() -> list[str]:
            return ["a"]

        if kind == "map":

            @cloaca.task(id="fetch", over=urls)
            def fetch(url: str) -> str:
                return url

        else:
            cloaca.child(
                "fetch", workflow="started", input={"first": "urls.0"}, dependencies=[urls]
            )

    error = runner.execute("unlisted", timeout=60).error
    assert error.task_id == "fetch"
    assert error.message.endswith("but task 'urls' has no result, because it was skipped")


def test_k1_list_above_max_map_items_fails_before_any_item(database):
    calls = define_fetch()
    config = cloaca.DefaultRunnerConfig(max_map_items=3)
    with cloaca.DefaultRunner(database, config) as runner:
        assert runner.execute("pages", {"urls": ["a"] * 3}).of("total") == 3
        calls["started"].clear()
        result = runner.execute("pages", {"urls": ["a"] * 4})
        assert result.status == "Failed"
        assert "a list of 4 items, more than max_map_items 3" in result.error.message
        assert calls["started"] == []
        assert runner.items(result.execution_id, "fetch").items == []


def test_k3_item_has_its_own_attempts_and_name(runner):
    seen = []
    with cloaca.WorkflowBuilder("retries", input={"rows": list[int]}):

        @cloaca.task(over="rows", retry_attempts=3, retry_delay_ms=1, retry_jitter=False)
        def work(row: int, handle: cloaca.TaskHandle) -> int:
            seen.append((handle.index, handle.task_id, handle.attempt))
            if row == 7 and handle.attempt < 3:
                raise ConnectionError("again")
            return row

    result = runner.execute("retries", {"rows": [5, 7, 9]})
    assert result.of(work) == [5, 7, 9]
    assert (1, "work[1]", 3) in seen
    assert len(seen) == 5
    items = runner.items(result.execution_id, work)
    assert [item.attempts for item in items] == [1, 3, 1]
    assert all(item.status == "Completed" and item.started_at <= item.ended_at for item in items)


def test_k8_every_item_runs_and_the_map_fails_if_any_failed(runner):
    calls = define_fetch()
    result = runner.execute("pages", {"urls": ["a", "bad1", "ccc", "bad3"]})
    assert result.status == "Failed"
    assert sorted(calls["started"]) == [0, 1, 2, 3]
    assert result.tasks["total"].status == cloaca.TaskStatus.SKIPPED
    error = result.tasks["fetch"].error
    assert error.type == "ValueError"
    assert error.message == "2 of 4 items of 'fetch' failed; the first is item 1: cannot fetch bad1"
    failed = runner.items(result.execution_id, "fetch", status="Failed")
    assert [item.index for item in failed] == [1, 3]
    assert failed[0].error.message == "cannot fetch bad1"


def test_k8_result_of_a_tolerated_failure_is_none(runner):
    with cloaca.WorkflowBuilder("holes", input={"rows": list[int]}):

        @cloaca.task(over="rows", tolerate=0.5, retry_attempts=1)
        def work(row: int) -> int:
            if row < 0:
                raise ValueError("negative")
            return row * 10

        @cloaca.task
        def with_holes(work: list[int | None]) -> list[int | None]:
            return work

        @cloaca.task
        def counted(work: cloaca.MapResult[int]) -> list[int]:
            assert [item.index for item in work] == [0, 1, 2, 3]
            assert work[1].error is not None
            assert work[1].value is None
            return [len(work), sum(work.values()), len(work.errors())]

        @cloaca.task(retry_attempts=1)
        def strict(work: list[int]) -> int:
            return sum(work)

    result = runner.execute("holes", {"rows": [1, -1, 3, 4]})
    assert result.of(with_holes) == [10, None, 30, 40]
    assert result.of(counted) == [4, 80, 1]
    error = result.tasks["strict"].error
    assert error.type.endswith("TaskInputError")
    assert "work[1]" in error.message


@pytest.mark.parametrize(
    "annotation",
    [
        cloaca.MapResult[int] | None,
        None | cloaca.MapResult,
        Annotated[cloaca.MapResult[int], "all pages"],
        Annotated[cloaca.MapResult[int] | None, "all pages"],
        "cloaca.MapResult[int] | None",
        "Annotated[cloaca.MapResult[int], 'all pages']",
    ],
)
@pytest.mark.parametrize("has_default", [False, True])
def test_k9_map_result_annotation_may_be_optional_or_have_metadata(annotation, has_default, runner):
    def counted(work=None):
        return [len(work), sum(work.values())]

    def required(work):
        return [len(work), sum(work.values())]

    function = counted if has_default else required
    function.__annotations__ = {"work": annotation}
    with cloaca.WorkflowBuilder("optional_items", input={"rows": list[int]}):

        @cloaca.task(over="rows")
        def work(row: int) -> int:
            return row * 10

        cloaca.task(id="counted")(function)

    result = runner.execute("optional_items", {"rows": [1, 2]})
    assert result.of("counted") == [2, 30], result.error_message


@pytest.mark.parametrize(
    ("annotation", "default", "expected"),
    [
        (cloaca.MapResult[int] | None, None, (True, None)),
        (cloaca.MapResult[int], (), (False, ())),
        (Annotated[cloaca.MapResult | None, "m"], (), (True, ())),
        (cloaca.MapResult, None, (False, None)),
    ],
)
def test_j7_map_result_parameter_can_accept_none_and_have_a_default(annotation, default, expected):
    def counted(work=default):
        return 0

    counted.__annotations__ = {"work": annotation}
    with cloaca.WorkflowBuilder("defaults_of_items", input={"rows": list[int]}):

        @cloaca.task(over="rows")
        def work(row: int) -> int:
            return row

        cloaca.task(counted)
    (task,) = [task for task in tasks_of(counted) if task.id == "counted"]
    (source,) = task.last_call.sources
    assert (source.accepts_none, source.default) == expected


def test_k8_zero_tolerance_starts_no_item_after_a_failure(runner):
    calls = define_fetch(tolerate=0, parallel=1)
    result = runner.execute("pages", {"urls": ["a", "bad", "c", "d"]})
    assert result.status == "Failed"
    assert calls["started"] == [0, 1]
    assert "more than the 0 that it tolerates" in result.error.message
    states = [item.status for item in runner.items(result.execution_id, "fetch")]
    assert states == ["Completed", "Failed", "Cancelled", "Cancelled"]


def test_k5_parallel_bounds_the_items_of_two_runners(database):
    lock = threading.Lock()
    running, most = 0, 0
    with cloaca.WorkflowBuilder("bounded", input={"rows": list[int]}):

        @cloaca.task(over="rows", parallel=3)
        def work(row: int) -> int:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            time.sleep(0.005)
            with lock:
                running -= 1
            return row

    with cloaca.DefaultRunner(database) as one, cloaca.DefaultRunner(database) as _two:
        result = one.execute("bounded", {"rows": list(range(60))})
        assert result.of(work) == list(range(60))
    assert most <= 3


def test_k5_parallel_of_a_running_map_can_be_changed(runner):
    gate = threading.Event()
    with cloaca.WorkflowBuilder("changed", input={"rows": list[int]}):

        @cloaca.task(over="rows", parallel=1)
        def work(row: int) -> int:
            gate.wait(60)
            return row

    handle = runner.submit("changed", {"rows": [1, 2, 3, 4]})
    wait_until(lambda: running_items(runner, handle) == 1)
    with pytest.raises(cloaca.ConfigurationError, match="from 1 to 4294967295, not 4294967296"):
        runner.set_map(handle.id, work, parallel=2**32)
    runner.set_map(handle.id, work, parallel=3)
    wait_until(lambda: running_items(runner, handle) == 3)
    gate.set()
    assert handle.result().of(work) == [1, 2, 3, 4]
    with pytest.raises(cloaca.WorkflowError):
        runner.set_map(handle.id, work, parallel=3)


def running_items(runner: cloaca.DefaultRunner, handle: cloaca.WorkflowHandle) -> int:
    return len(runner.items(handle.id, "work", status="Running"))


def test_k7_cancel_stops_a_map(runner):
    begun = threading.Event()
    calls = []
    with cloaca.WorkflowBuilder("cancelled", input={"rows": list[int]}):

        @cloaca.task(over="rows", parallel=2)
        def work(row: int, handle: cloaca.TaskHandle) -> int:
            calls.append(row)
            begun.set()
            while not handle.is_cancelled():
                time.sleep(0.005)
            return row

    handle = runner.submit("cancelled", {"rows": list(range(10))})
    assert begun.wait(20)
    assert handle.cancel()
    assert handle.result().status == "Cancelled"
    time.sleep(0.2)
    assert len(calls) <= 2
    states = {item.status for item in runner.items(handle.id, work)}
    assert states == {"Cancelled"}


def test_k7_no_item_is_claimed_between_pause_and_resume(runner):
    gate, begun = threading.Event(), threading.Event()
    calls = []
    with cloaca.WorkflowBuilder("paused", input={"rows": list[int]}):

        @cloaca.task(over="rows", parallel=1)
        def work(row: int) -> int:
            calls.append(row)
            begun.set()
            gate.wait(20)
            return row

    handle = runner.submit("paused", {"rows": [1, 2, 3]})
    assert begun.wait(20)
    runner.pause_execution(handle.id)
    gate.set()
    time.sleep(0.2)
    assert calls == [1]
    runner.resume_execution(handle.id)
    assert handle.result().of(work) == [1, 2, 3]


def test_d7_pause_suspends_the_retry_delay_of_an_item() -> None:
    attempts: list[int] = []
    with cloaca.WorkflowBuilder("held", input={"rows": list[int]}):
        policy = cloaca.RetryPolicy(initial_delay=3600, max_delay=3600, with_jitter=False)

        @cloaca.task(over="rows", retry=policy)
        def work(row: int) -> int:
            attempts.append(row)
            if len(attempts) == 1:
                raise ConnectionError("offline")
            return row

    with VirtualRunner() as runner:
        handle = runner.submit("held", {"rows": [7]})
        wait_until(lambda: any(item.error for item in runner.items(handle.id, work)))
        runner.advance(1800)
        handle.pause()
        runner.advance(36_000)
        handle.resume()
        runner.advance(1700)
        assert attempts == [7]
        runner.advance(200)
        assert handle.result(timeout=60).of(work) == [7]


def retried(
    runner: cloaca.DefaultRunner, result: cloaca.WorkflowResult, **options: Any
) -> cloaca.WorkflowResult:
    """Retries an execution and returns its new result."""
    runner.retry_execution(result.execution_id, **options)
    wait_until(lambda: runner.get_execution_status(result.execution_id).is_final)
    return runner.get_execution(result.execution_id)


def test_k10_retry_runs_only_the_failed_items(runner):
    calls = []
    broken = True
    with cloaca.WorkflowBuilder("again", input={"rows": list[int]}):

        @cloaca.task(over="rows", retry_attempts=1)
        def work(row: int) -> int:
            calls.append(row)
            if row == 2 and broken:
                raise ValueError("not yet")
            return row * 10

        @cloaca.task
        def total(work: list[int]) -> int:
            return sum(work)

    result = runner.execute("again", {"rows": [1, 2, 3]})
    assert result.status == "Failed"
    broken = False
    calls.clear()
    result = retried(runner, result)
    assert result.status == "Completed"
    assert result.of(total) == 60
    assert calls == [2]


def test_k10_retry_from_a_task_reads_the_list_again(runner):
    calls: list[int] = []
    length = 3
    with cloaca.WorkflowBuilder("reread"):

        @cloaca.task
        def rows(seed: int) -> list[int]:
            return [seed + length * 100 + index for index in range(length)]

        @cloaca.task(over=rows)
        def work(row: int) -> int:
            calls.append(row)
            return row

    result = runner.execute("reread", {"seed": 0})
    assert result.of(work) == [300, 301, 302]
    length = 2
    calls.clear()
    result = retried(runner, result, from_task="rows")
    assert result.of(work) == [200, 201]
    assert sorted(calls) == [200, 201]  # Sorted, because two threads append to the list.
    assert len(runner.items(result.execution_id, work)) == 2


def test_k_map_can_take_batches_or_zipped_lists(runner):
    with cloaca.WorkflowBuilder("lists", input={"names": list[str], "sizes": list[int]}):

        @cloaca.task(over="names", batch=2)
        def load(names: list[str]) -> str:
            return "+".join(names)

        @cloaca.task(over={"name": "names", "size": "sizes"})
        def pair(name: str, size: int) -> str:
            return name * size

    result = runner.execute("lists", {"names": ["a", "b", "c"], "sizes": [1, 2, 3]})
    assert result.of(load) == ["a+b", "c"]
    assert result.of(pair) == ["a", "bb", "ccc"]
    result = runner.execute("lists", {"names": ["a", "b"], "sizes": [1]})
    assert "lists of different lengths" in result.tasks["pair"].error.message
    assert "2 elements for 'name', and 1 for 'size'" in result.tasks["pair"].error.message


def test_k_map_can_run_over_the_results_of_a_map(runner):
    with cloaca.WorkflowBuilder("chained", input={"urls": list[str]}):

        @cloaca.task(over="urls")
        def fetch(url: str) -> int:
            return len(url)

        @cloaca.task(over="fetch")
        def parse(fetch: int) -> int:
            return fetch * 10

        @cloaca.task
        def total(parse: list[int]) -> int:
            return sum(parse)

    result = runner.execute("chained", {"urls": ["a", "bb"]})
    assert result.of(parse) == [10, 20]
    assert result.of(total) == 30


def test_k_aligned_item_starts_before_its_source_has_ended(runner):
    parsed = threading.Event()
    with cloaca.WorkflowBuilder("aligned", input={"urls": list[str]}):

        @cloaca.task(over="urls")
        def fetch(url: str) -> int:
            if url == "slow":
                assert parsed.wait(20), "the first item was not parsed"
            return len(url)

        @cloaca.task(over="fetch")
        def parse(fetch: int) -> int:
            parsed.set()
            return fetch * 10

        @cloaca.task
        def total(parse: list[int]) -> int:
            return sum(parse)

    result = runner.execute("aligned", {"urls": ["a", "slow", "bb"]})
    assert result.of(parse) == [10, 40, 20]
    assert result.of(total) == 70


def test_k_aligned_chain_runs_item_by_item(runner):
    seen = []
    with cloaca.WorkflowBuilder("aligned_chain", input={"rows": list[int]}):

        @cloaca.task(over="rows", parallel=1)
        def first(row: int) -> int:
            seen.append(("first", row))
            return row + 1

        @cloaca.task(over="first", parallel=1)
        def second(first: int) -> int:
            seen.append(("second", first))
            return first * 2

        @cloaca.task(over="second", parallel=1)
        def third(second: int, handle: cloaca.TaskHandle) -> tuple[int, int]:
            return handle.index, second

    result = runner.execute("aligned_chain", {"rows": list(range(20))})
    assert result.of(third) == [(row, (row + 1) * 2) for row in range(20)]
    assert seen.index(("second", 1)) < seen.index(("first", 19))


def test_k_aligned_item_is_skipped_if_its_element_failed(runner):
    with cloaca.WorkflowBuilder("aligned_holes", input={"rows": list[int]}):

        @cloaca.task(over="rows", tolerate=2, retry_attempts=1)
        def first(row: int) -> int:
            if row < 0:
                raise ValueError("negative")
            return row

        @cloaca.task(over="first")
        def second(first: int) -> int:
            return first * 2

        @cloaca.task
        def joined(second: list[int | None]) -> list[int | None]:
            return second

        @cloaca.task
        def counted(second: cloaca.MapResult[int]) -> list[str]:
            return [item.status for item in second]

    result = runner.execute("aligned_holes", {"rows": [1, -2, 3, -4]})
    assert result.status == "Completed"
    assert result.of(joined) == [2, None, 6, None]
    assert result.of(counted) == ["Completed", "Skipped", "Completed", "Skipped"]
    page = runner.items(result.execution_id, "second", status="Skipped")
    assert [item.index for item in page.items] == [1, 3]


def test_k_aligned_map_of_a_failed_source_is_skipped(runner):
    with cloaca.WorkflowBuilder("aligned_failure", input={"rows": list[int]}):

        @cloaca.task(over="rows", retry_attempts=1)
        def first(row: int) -> int:
            if row < 0:
                raise ValueError("negative")
            return row

        @cloaca.task(over="first")
        def second(first: int) -> int:
            return first * 2

    result = runner.execute("aligned_failure", {"rows": [1, -2, 3]})
    assert result.status == "Failed"
    assert result.tasks["first"].status == "Failed"
    assert result.tasks["second"].status == "Skipped"
    assert "'first' failed" in result.tasks["second"].skip_reason
    items = runner.items(result.execution_id, "second").items
    assert [(item.status, item.value) for item in items] == [
        ("Completed", 2),
        ("Skipped", None),
        ("Completed", 6),
    ]


def test_k_aligned_map_completes_if_every_element_failed(runner):
    with cloaca.WorkflowBuilder("aligned_nothing", input={"rows": list[int]}):

        @cloaca.task(over="rows", tolerate=1.0, retry_attempts=1)
        def first(row: int) -> int:
            raise ValueError("never")

        @cloaca.task(over="first")
        def second(first: int) -> int:
            return first

        @cloaca.task
        def after(second: list[int | None]) -> list[int | None]:
            return second

    result = runner.execute("aligned_nothing", {"rows": [1, 2]})
    assert result.status == "Completed"
    assert result.of(after) == [None, None]


def test_k_skips_pass_through_a_chain_of_aligned_maps(runner):
    with cloaca.WorkflowBuilder("aligned_skips", input={"rows": list[int]}):

        @cloaca.task(over="rows", tolerate=1.0, retry_attempts=1)
        def first(row: int) -> int:
            raise ValueError("never")

        @cloaca.task(over="first")
        def second(first: int) -> int:
            return first

        @cloaca.task(over="second", priority=5)
        def third(second: int) -> int:
            return second

        @cloaca.task
        def after(third: list[int | None]) -> list[int | None]:
            return third

    result = runner.execute("aligned_skips", {"rows": [1, 2]}, timeout=30)
    assert result.status == "Completed"
    assert result.of(after) == [None, None]


def test_k_aligned_map_of_a_skipped_source_is_empty(runner):
    with cloaca.WorkflowBuilder("aligned_skipped_source", input={"rows": list[int]}):

        @cloaca.task(over="rows", trigger_rule=cloaca.context_value("rows", "==", [0]))
        def first(row: int) -> int:
            return row

        @cloaca.task(over="first")
        def second(first: int) -> int:
            return first

    result = runner.execute("aligned_skipped_source", {"rows": [1, 2]}, timeout=30)
    assert result.status == "Completed"
    assert result.of(second) == []


def test_k10_retry_of_a_source_runs_missing_aligned_items(runner):
    calls: dict[str, list[int]] = {"first": [], "second": []}
    bad = {2}
    with cloaca.WorkflowBuilder("aligned_retry", input={"rows": list[int]}):

        @cloaca.task(over="rows", retry_attempts=1)
        def first(row: int) -> int:
            calls["first"].append(row)
            if row in bad:
                raise ValueError("bad")
            return row

        @cloaca.task(over="first")
        def second(first: int) -> int:
            calls["second"].append(first)
            return first * 10

    result = runner.execute("aligned_retry", {"rows": [1, 2, 3]})
    assert result.status == "Failed"
    bad.clear()
    runner.retry_execution(result.execution_id)
    handle = runner.get_handle(result.execution_id)
    assert handle.result(timeout=30).of(second) == [10, 20, 30]
    assert sorted(calls["first"]) == [1, 2, 2, 3]
    assert sorted(calls["second"]) == [1, 2, 3]


def test_k_aligned_map_waits_for_its_other_dependencies(runner):
    order = []
    with cloaca.WorkflowBuilder("aligned_gate", input={"rows": list[int]}):

        @cloaca.task(over="rows")
        def first(row: int) -> int:
            return row

        @cloaca.task
        def gate() -> None:
            time.sleep(0.3)
            order.append("gate")

        @cloaca.task(over="first", dependencies=["gate"])
        def second(first: int) -> int:
            order.append("second")
            return first

    result = runner.execute("aligned_gate", {"rows": [1, 2]})
    assert result.status == "Completed"
    assert order == ["gate", "second", "second"]


def test_k_aligned_children_start_item_by_item(runner):
    done = threading.Event()
    with cloaca.WorkflowBuilder("aligned_child", input={"page": int}, output="image"):

        @cloaca.task
        def image(page: int) -> int:
            done.set()
            return page * 2

    with cloaca.WorkflowBuilder("aligned_parent", input={"rows": list[int]}):

        @cloaca.task(over="rows")
        def pages(row: int) -> int:
            if row == 1:
                assert done.wait(20), "the child of the first item did not run"
            return row

        cloaca.child("images", workflow="aligned_child", over="pages", input={"page": "item"})

    result = runner.execute("aligned_parent", {"rows": [0, 1, 2]})
    assert result.of("images") == [0, 2, 4]


def test_k3_each_item_has_its_own_steps(runner):
    made = []
    with cloaca.WorkflowBuilder("steps", input={"rows": list[int]}):

        @cloaca.task(over="rows", retry_attempts=2, retry_delay_ms=1)
        def work(row: int, handle: cloaca.TaskHandle) -> int:
            def make(value: int) -> int:
                made.append(value)
                return value * 10

            value = handle.step("make", make, row)
            if handle.attempt == 1:
                raise ValueError("once")
            return value

    result = runner.execute("steps", {"rows": [1, 2, 3]})
    assert result.of(work) == [10, 20, 30]
    assert sorted(made) == [1, 2, 3]


def test_k3_timeout_applies_to_each_item(runner):
    with cloaca.WorkflowBuilder("slow", input={"rows": list[int]}):

        @cloaca.task(over="rows", timeout=0.2, retry_attempts=1)
        def work(row: int) -> int:
            if row == 2:
                time.sleep(1)
            return row

    result = runner.execute("slow", {"rows": [1, 2, 3]})
    items = runner.items(result.execution_id, work)
    assert [item.status for item in items] == ["Completed", "Failed", "Completed"]
    assert items[1].error.type == "TaskTimeoutError"
    assert "item 'work[1]' did not end within its timeout" in items[1].error.message


def test_k2_number_of_events_does_not_depend_on_the_item_count(runner):
    define_fetch()
    few = runner.execute("pages", {"urls": ["a"] * 2})
    many = runner.execute("pages", {"urls": ["a"] * 300})
    assert many.of("total") == 300
    kinds = [[event.type for event in runner.events(one.execution_id)] for one in (few, many)]
    assert kinds[0] == kinds[1]


def test_k4_items_are_paged(runner):
    define_fetch()
    result = runner.execute("pages", {"urls": ["a"] * 25})
    seen, cursor = [], None
    while True:
        page = runner.items(result.execution_id, "fetch", cursor=cursor, limit=10)
        seen.extend(item.index for item in page)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == list(range(25))
    with pytest.raises(cloaca.TaskValidationError, match="is not a map"):
        runner.items(result.execution_id, "total")
    with pytest.raises(cloaca.ConfigurationError, match="status must be one of"):
        runner.items(result.execution_id, "fetch", status="Gone")


def test_k12_callbacks_are_called_once_for_the_map(runner):
    calls = []
    with cloaca.WorkflowBuilder("callbacks", input={"rows": list[int]}):

        @cloaca.task(over="rows", on_success=lambda task_id, context: calls.append(task_id))
        def work(row: int) -> int:
            return row

    runner.execute("callbacks", {"rows": [1, 2, 3]})
    assert calls == ["work"]


@pytest.fixture
def half_done(runner):
    """An execution whose map has 1 completed, 1 failed, 2 running and 2 unstarted items."""
    gate = threading.Event()
    with cloaca.WorkflowBuilder("half", input={"urls": list[str]}):

        @cloaca.task(over="urls", parallel=2, tolerate=5, retry_attempts=1)
        def fetch(url: str) -> int:
            if url == "bad":
                raise ValueError("cannot fetch bad")
            if url == "slow":
                gate.wait(60)
            return len(url)

    handle = runner.submit("half", {"urls": ["a", "bad", "slow", "slow", "b", "c"]})
    wanted = {"Completed": 1, "Failed": 1, "Running": 2, "Pending": 2, "Ready": 0, "Cancelled": 0}
    end = time.monotonic() + 60
    while (handle.progress().tasks["fetch"].items or {}) != wanted:
        assert time.monotonic() < end
        time.sleep(0.01)
    yield handle
    gate.set()
    handle.result(timeout=60)


def test_k12_progress_counts_the_items(half_done):
    fetch = half_done.progress().tasks["fetch"]
    assert (fetch.done, fetch.total, fetch.parallel) == (2, 6, 2)
    assert fetch.items[cloaca.TaskStatus.RUNNING] == 2
    assert fetch.fraction == 2 / 6
    assert fetch.message == "1 of 6 items done, 1 failed, 2 running (limit 2)"


def test_k12_progress_of_an_ended_map_keeps_its_counts(runner):
    define_fetch(tolerate=1)
    runner.execute("pages", {"urls": ["a", "b", "c"]})
    handle = runner.submit("pages", {"urls": ["a", "b", "c"]})
    handle.result(timeout=60)
    fetch = handle.progress().tasks["fetch"]
    assert (fetch.done, fetch.total, fetch.fraction) == (3, 3, 1)
    assert fetch.items["Completed"] == 3
    assert handle.progress().tasks["total"].items is None


def test_k12_explain_counts_the_items(half_done):
    assert half_done.explain() == [
        "Map 'fetch': 1 of 6 items done, 1 failed, 2 running (limit 2); the first error is from "
        "item 1: ValueError: cannot fetch bad."
    ]


def test_k12_explain_counts_items_that_wait_for_their_retry(runner):
    with cloaca.WorkflowBuilder("again", input={"rows": list[int]}):

        @cloaca.task(over="rows", retry_attempts=2, retry_delay_ms=60_000, retry_jitter=False)
        def work(row: int) -> int:
            raise ConnectionError("later")

    handle = runner.submit("again", {"rows": [1, 2]})
    end = time.monotonic() + 60
    wanted = "Map 'work': 0 of 2 items done, 0 running, 2 waiting for a retry."
    while handle.explain() != [wanted]:
        assert time.monotonic() < end, handle.explain()
        time.sleep(0.01)
    handle.cancel()
    assert handle.progress().tasks["work"].items["Cancelled"] == 2


def test_k12_metrics_count_the_items_of_open_maps(runner, half_done):
    def samples(text: str) -> dict[str, str]:
        lines = [line for line in text.splitlines() if line.startswith("cloaca_map_items{")]
        return dict(line.rsplit(" ", 1) for line in lines)

    name = 'cloaca_map_items{workflow="half",task="fetch",state="%s"}'
    found = samples(runner.metrics())
    assert found[name % "Completed"] == found[name % "Failed"] == "1"
    assert found[name % "Running"] == found[name % "Pending"] == "2"
    half_done.cancel()
    half_done.result(timeout=60)
    assert samples(runner.metrics()) == {}


def test_k6_map_on_two_runners_ends_once(database):
    ends = []
    with cloaca.WorkflowBuilder("ends", input={"rows": list[int]}):

        @cloaca.task(over="rows", on_success=lambda task_id, context: ends.append(task_id))
        def work(row: int) -> int:
            return row

    with cloaca.DefaultRunner(database) as one, cloaca.DefaultRunner(database) as two:
        handles = [runner.submit("ends", {"rows": list(range(7))}) for runner in (one, two) * 20]
        for handle in handles:
            assert handle.result(timeout=60).of(work) == list(range(7))
    assert len(ends) == len(handles)


def test_mapped_function_that_takes_the_context_is_refused():
    with (
        pytest.raises(cloaca.TaskValidationError, match="takes the context, which an item"),
        cloaca.WorkflowBuilder("refused"),
    ):

        @cloaca.task(over="rows")
        def work(context, row: int) -> int:
            return row


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"over": "rows", "parallel": 0}, "parallel must be a whole number from 1"),
        ({"over": "rows", "batch": 0}, "batch must be a whole number from 1"),
        ({"over": "rows", "tolerate": 1.5}, "tolerate must be a number of items or a fraction"),
        ({"over": "rows", "tolerate": -1}, "tolerate must be a number of items from 0"),
        ({"over": "rows", "parallel": 2**40}, "parallel must be .* from 1 to 4294967295, not 1099"),
        ({"over": "rows", "batch": 2**32}, "batch must be .* from 1 to 4294967295, not 4294967296"),
        ({"over": "rows", "tolerate": 2**40}, "tolerate must be .* from 0 to 4294967295, not 1099"),
        ({"parallel": 3}, "parallel is given without over="),
        ({"over": {}}, "over must map parameters to lists"),
    ],
)
def test_invalid_options_of_a_map_are_refused(options, message):
    with pytest.raises(cloaca.TaskValidationError, match=message):
        cloaca.task(**options)(lambda row: row)


def test_map_with_ambiguous_element_parameter_is_refused():
    with (
        pytest.raises(cloaca.TaskValidationError, match="several parameters that could receive"),
        cloaca.WorkflowBuilder("unclear"),
    ):

        @cloaca.task(over="rows")
        def work(one: int, two: int) -> int:
            return one + two


def test_map_over_an_unknown_list_is_refused():
    with (
        pytest.raises(cloaca.TaskValidationError, match="runs over 'row', which is neither"),
        cloaca.WorkflowBuilder("unknown", input={"rows": list[int]}),
    ):

        @cloaca.task(over="row")
        def work(value: int) -> int:
            return value


def test_j8_map_cannot_be_the_output():
    with (
        pytest.raises(cloaca.WorkflowValidationError, match="output='fetch' is a map"),
        cloaca.WorkflowBuilder("mapped", input={"urls": list[str]}, output="fetch"),
    ):

        @cloaca.task(over="urls")
        def fetch(url: str) -> str:
            return url


@pytest.mark.parametrize("upstream", [False, True])
def test_k1_map_can_be_named_like_its_list(runner, upstream):
    with cloaca.WorkflowBuilder("w"):
        if upstream:

            @cloaca.task
            def read(context: cloaca.Context) -> None:
                context["pages"] = [1, 2, 3]

        @cloaca.task(over="pages", dependencies=["read"] if upstream else None, id="pages")
        def double(page: int) -> int:
            return 2 * page

        @cloaca.task
        def total(pages: list[int]) -> int:
            return sum(pages)

    result = runner.execute("w", None if upstream else {"pages": [1, 2, 3]}, check=True)
    assert result.of("total") == 12
    assert result.of("pages") == [2, 4, 6]
