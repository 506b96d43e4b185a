"""Final tasks and compensations of maps (semantics K, Q2, Q3)."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import cloaca


def define_fetch(seen: dict[str, Any]) -> None:
    """Defines a workflow with a final task and two compensated maps. One map runs children."""

    def undo(fetch: cloaca.MapResult[int]) -> None:
        seen["undo"] = (fetch.values(), [item.error.message for item in fetch.errors()])

    def undo_pages(pages: cloaca.MapResult[dict]) -> None:
        seen["undo_pages"] = ([page["made"] for page in pages.values()], len(pages.errors()))

    with cloaca.WorkflowBuilder("page"):

        @cloaca.task(retry_attempts=1)
        def make(context):
            if context.get("page") == 99:
                raise ValueError("no page")
            context.set("made", context.get("page") * 10)

    with cloaca.WorkflowBuilder("crawl"):

        @cloaca.task(over="urls", compensate=undo, compensate_failed=True, retry_attempts=1)
        def fetch(url: int) -> int:
            if url == 99:
                raise RuntimeError("no answer")
            return url * 2

        cloaca.child(
            "pages",
            workflow="page",
            over="numbers",
            input={"page": "item"},
            compensate=undo_pages,
            compensate_failed=True,
        )

        @cloaca.task(dependencies=["fetch", "pages"], retry_attempts=1)
        def last(context):
            raise ValueError("no disk")

        @cloaca.task(final="always")
        def report(fetch: list[int] | None, pages: cloaca.MapResult[dict]) -> None:
            seen["report"] = (fetch, len(pages))


@pytest.mark.parametrize(
    ("urls", "numbers", "expected"),
    [
        (
            [1, 2],
            [1, 2, 3],
            {"undo": ([2, 4], []), "undo_pages": ([10, 20, 30], 0), "report": ([2, 4], 3)},
        ),
        (
            [1, 99],
            [99, 4],
            {"undo": ([2], ["no answer"]), "undo_pages": ([40], 1), "report": (None, 2)},
        ),
        ([], [], {"undo": ([], []), "undo_pages": ([], 0), "report": ([], 0)}),
    ],
)
def test_q3_compensation_and_final_task_get_the_items_of_maps(runner, urls, numbers, expected):
    seen: dict[str, Any] = {}
    define_fetch(seen)
    result = runner.execute("crawl", {"urls": urls, "numbers": numbers})
    assert result.status == "Failed"
    assert result.final.status == "Completed"
    assert seen == expected


def test_q3_failed_map_is_compensated_only_with_compensate_failed(runner):
    undone: list[str] = []

    def undo() -> None:
        undone.append("fetch")

    with cloaca.WorkflowBuilder("strict"):

        @cloaca.task(over="urls", compensate=undo, retry_attempts=1)
        def fetch(url: int) -> None:
            raise RuntimeError("no answer")

    result = runner.execute("strict", {"urls": [1]})
    assert result.status == "Failed"
    assert undone == []
    assert result.final is None


def test_q2_final_tasks_do_not_wait_for_an_unstarted_runner(database):
    """Final tasks do not wait for a runner with `start=False`, because it runs no items."""
    begun = threading.Event()
    with cloaca.WorkflowBuilder("open_map"):

        @cloaca.task(over="urls")
        def fetch(url: int, handle: cloaca.TaskHandle) -> None:
            begun.set()
            while not handle.is_cancelled():
                threading.Event().wait(0.01)

        @cloaca.task(final="always")
        def clean() -> None:
            pass

    with (
        cloaca.DefaultRunner(database, start=False) as web,
        cloaca.DefaultRunner(database),
    ):
        handle = web.submit("open_map", {"urls": [1, 2]})
        assert begun.wait(30)
        handle.cancel()
        result = handle.result(timeout=30)
        assert result.status == "Cancelled"
        assert result.final.status == "Completed"


def test_k10_retried_map_uses_the_new_list_of_a_compensated_task(runner):
    lists = [[1, 2, 3], [4, 5]]
    broken = [True]
    undone: list[list[int]] = []

    def undo(reserve: list[int]) -> None:
        undone.append(reserve)

    with cloaca.WorkflowBuilder("relisted"):

        @cloaca.task(compensate=undo)
        def reserve() -> list[int]:
            return lists.pop(0)

        @cloaca.task(over=reserve, retry_attempts=1)
        def use(reserve: int) -> int:
            if broken and reserve == 2:
                raise ValueError("broken")
            return reserve * 10

    failed = runner.execute("relisted")
    assert failed.status == "Failed"
    assert undone == [[1, 2, 3]]
    broken.clear()
    runner.retry_execution(failed.execution_id)
    result = runner.get_handle(failed.execution_id).result(timeout=30).raise_for_status()
    assert list(result.of("use")) == [40, 50]
