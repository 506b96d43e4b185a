"""A map that runs again over a changed list does not mix old and new items (K10)."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import cloaca


@contextlib.contextmanager
def two_runners(database: str) -> Iterator[cloaca.DefaultRunner]:
    """Starts two runners on a database, and yields the first runner."""
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=8)
    with cloaca.DefaultRunner(database, config) as one, cloaca.DefaultRunner(database, config):
        yield one


def rerun(runner: cloaca.DefaultRunner, id: str, task: str) -> cloaca.WorkflowResult:
    """Runs an execution again from a task, and returns its result."""
    runner.retry_execution(id, from_task=task)
    return runner.get_handle(id).result(timeout=60)


def values(runner: cloaca.DefaultRunner, id: str, task: str) -> list[Any]:
    """Returns the values of all items of a map."""
    return [item.value for item in runner.items(id, task)]


@pytest.mark.parametrize("length", [3, 8])
def test_k10_late_result_of_an_old_item_changes_no_new_item(database, length):
    rows = [["old", index] for index in range(5)]
    late, finished = threading.Event(), threading.Event()
    new_runs, go = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("late_generation"):

        @cloaca.task
        def listed() -> list[list[Any]]:
            return rows

        @cloaca.task(over=listed, timeout=0.5, retry_attempts=1)
        def work(row: list[Any], handle: cloaca.TaskHandle) -> list[Any]:
            if row == ["old", 2]:
                # The attempt times out, but its function continues and returns a value afterwards.
                with contextlib.suppress(cloaca.TaskTimeoutError):
                    late.wait(60)
                finished.set()
            if row == ["new", 2]:
                new_runs.set()
                go.wait(60)
            return [*row, handle.index]

        @cloaca.task
        def joined(work: list[list[Any]]) -> list[list[Any]]:
            return work

    with two_runners(database) as runner:
        failed = runner.execute("late_generation")
        assert failed.status == "Failed"
        assert "did not end within its timeout" in failed.error.message
        rows = [["new", index] for index in range(length)]
        runner.retry_execution(failed.execution_id, from_task="listed")
        assert new_runs.wait(60)
        late.set()
        assert finished.wait(60)
        go.set()
        result = runner.get_handle(failed.execution_id).result(timeout=60)
        wanted = [["new", index, index] for index in range(length)]
        assert result.status == "Completed", result.error
        assert result.of("joined") == result.of("work") == wanted
        assert values(runner, failed.execution_id, "work") == wanted


def test_k10_new_items_do_not_get_the_steps_of_old_items(database):
    rows = ["a", "b", "c"]
    made: list[str] = []
    with cloaca.WorkflowBuilder("steps_of_generations"):

        @cloaca.task
        def listed() -> list[str]:
            return rows

        @cloaca.task(over=listed)
        def work(row: str, handle: cloaca.TaskHandle) -> str:
            def make(row: str) -> str:
                made.append(row)
                return row * 2

            return handle.step("make", make, row)

    with two_runners(database) as runner:
        first = runner.execute("steps_of_generations")
        assert first.of("work") == ["aa", "bb", "cc"]
        rows = ["x", "b"]
        made.clear()
        assert rerun(runner, first.execution_id, "listed").of("work") == ["xx", "bb"]
        assert sorted(made) == ["b", "x"]


def test_k10_aligned_map_and_readers_use_the_new_list(database):
    """The map `second` is aligned with `first`: `second` runs over the results of `first`."""
    rows = list(range(6))
    with cloaca.WorkflowBuilder("aligned_generations"):

        @cloaca.task
        def listed() -> list[int]:
            return rows

        @cloaca.task(over=listed, tolerate=1.0, retry_attempts=1)
        def first(row: int) -> int:
            if row == 1:
                raise ValueError("one")
            return row * 10

        @cloaca.task(over=first)
        def second(first: int) -> int:
            return first + 1

        @cloaca.task
        def joined(second: cloaca.MapResult[int]) -> list[str | int]:
            return [item.value if item.value else str(item.status) for item in second]

    with two_runners(database) as runner:
        result = runner.execute("aligned_generations")
        assert result.of("joined") == [1, "Skipped", 21, 31, 41, 51]
        id = result.execution_id
        for rows, wanted in (
            ([7, 8], [71, 81]),
            ([1, 5, 1], ["Skipped", 51, "Skipped"]),
            ([], []),
            (list(range(2, 11)), [row * 10 + 1 for row in range(2, 11)]),
        ):
            assert rerun(runner, id, "listed").of("joined") == wanted
            assert len(runner.items(id, "second")) == len(rows)


def test_k10_many_reruns_over_changed_lists_never_mix_items(database):
    generation, length = 0, 30
    calls: list[tuple[int, int]] = []
    with cloaca.WorkflowBuilder("many_generations"):

        @cloaca.task
        def listed() -> list[list[int]]:
            return [[generation, index] for index in range(length)]

        @cloaca.task(over=listed, parallel=6, retry_attempts=2, retry_delay_ms=1)
        def work(row: list[int], handle: cloaca.TaskHandle) -> list[int]:
            assert row[1] == handle.index
            if handle.index == generation and handle.attempt % 2:
                raise ConnectionError("again")
            calls.append((row[0], row[1]))
            return row

        @cloaca.task
        def joined(work: list[list[int]]) -> list[list[int]]:
            return work

    with two_runners(database) as runner:
        result = runner.execute("many_generations")
        id = result.execution_id
        for generation, length in enumerate([5, 40, 1, 23, 64, 2], start=1):
            calls.clear()
            result = rerun(runner, id, "listed")
            wanted = [[generation, index] for index in range(length)]
            assert result.of("joined") == wanted
            assert values(runner, id, "work") == wanted
            assert sorted(calls) == [(generation, index) for index in range(length)]
