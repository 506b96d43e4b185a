"""Maps whose items are child executions, one for each element of a list (semantics M and K)."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Any

import pytest

import cloaca
from cloaca._cli._family import family_text
from waiting_support import wait_until


class Render:
    """Defines a workflow `render`.

    A test can block the workflow's task, or make the task fail for some pages.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()
        self.running = self.most = 0
        self.calls: list[int] = []
        self.bad: set[int] = set()
        with cloaca.WorkflowBuilder("render", input={"page": int}, output="image"):

            @cloaca.task(retry_attempts=1)
            def image(page: int) -> str:
                with self.lock:
                    self.calls.append(page)
                    self.running += 1
                    self.most = max(self.most, self.running)
                try:
                    assert self.gate.wait(60)
                    if page in self.bad:
                        raise ValueError(f"no ink for {page}")
                finally:
                    with self.lock:
                        self.running -= 1
                return f"image-{page}"


def define_book(**options: Any) -> None:
    """Defines a workflow `book`: a child for each page, and a task that takes all results."""
    given: dict[str, Any] = {
        "workflow": "render",
        "over": "pages",
        "input": {"page": "item"},
        **options,
    }
    with cloaca.WorkflowBuilder("book", input={"pages": list[int]}):
        cloaca.child("images", **given)

        @cloaca.task
        def bound(images: list[str]) -> list[str]:
            return images


def children(runner: cloaca.DefaultRunner, status: str | None = None) -> list[str]:
    """Returns the ids of all `render` executions, or of those in `status`, oldest first."""
    listed = runner.list_executions(children=True, limit=1000)
    found = [execution for execution in listed if execution.workflow_name == "render"]
    return sorted(child.execution_id for child in found if status in (None, child.status))


def retried(
    runner: cloaca.DefaultRunner, result: cloaca.WorkflowResult, **options: Any
) -> cloaca.WorkflowResult:
    """Retries an execution and returns its new result."""
    runner.retry_execution(result.execution_id, **options)
    wait_until(lambda: runner.get_execution_status(result.execution_id).is_final)
    return runner.get_execution(result.execution_id)


def test_k4_outputs_are_in_the_order_of_the_elements(runner):
    Render()
    define_book(parallel=3)
    pages = [7, 1, 5, 3, 2, 6]
    result = runner.execute("book", {"pages": pages})
    assert result.status == "Completed"
    assert result.of("images") == [f"image-{page}" for page in pages]
    assert result.of("bound") == result.of("images")
    assert "images" not in result.final_context
    items = runner.items(result.execution_id, "images")
    assert [item.attempts for item in items] == [1] * 6
    assert all(item.started_at <= item.ended_at for item in items)
    assert len(children(runner)) == 6
    # Lists show only the root of a tree of executions (M8).
    assert [execution.workflow_name for execution in runner.list_executions()] == ["book"]


def test_k6_execution_has_the_same_events_for_any_number_of_items(runner):
    Render()
    define_book()
    kinds = []
    for width in (2, 40):
        result = runner.execute("book", {"pages": list(range(width))})
        kinds.append([event.type for event in runner.events(result.execution_id)])
    assert kinds[0] == kinds[1]


def test_k1_empty_list_starts_no_child(runner):
    Render()
    define_book()
    result = runner.execute("book", {"pages": []})
    assert result.of("bound") == []
    assert children(runner) == []


def test_k5_parallel_bounds_the_open_children_of_two_runners(database):
    render = Render()
    define_book(parallel=3)
    with cloaca.DefaultRunner(database) as first, cloaca.DefaultRunner(database) as _two:
        result = first.execute("book", {"pages": list(range(30))})
        assert result.of("images") == [f"image-{page}" for page in range(30)]
        assert len(children(first)) == 30
    assert render.most <= 3
    assert sorted(render.calls) == list(range(30))


def test_k5_parallel_of_running_children_can_be_changed(runner):
    render = Render()
    render.gate.clear()
    define_book(parallel=1)
    handle = runner.submit("book", {"pages": [1, 2, 3]})
    wait_until(lambda: render.running == 1)
    time.sleep(0.1)
    assert len(children(runner)) == 1
    runner.set_map(handle.id, "images", parallel=2)
    wait_until(lambda: render.running == 2)
    assert len(children(runner)) == 2
    render.gate.set()
    assert handle.result(timeout=30).of("images") == ["image-1", "image-2", "image-3"]


def test_m0_input_paths_read_the_element_and_the_context(runner):
    with cloaca.WorkflowBuilder("label", input={"name": str, "shop": str}, output="text"):

        @cloaca.task
        def text(name: str, shop: str) -> str:
            return f"{name}@{shop}"

    with cloaca.WorkflowBuilder("labels"):

        @cloaca.task
        def people(shop: str) -> list[dict[str, Any]]:
            return [{"name": {"first": name}} for name in ("ann", "bob")]

        cloaca.child(
            "made", workflow="label", over=people, input={"name": "item.name.first", "shop": "shop"}
        )

    result = runner.execute("labels", {"shop": "north"})
    assert result.of("made") == ["ann@north", "bob@north"]


def test_m0_child_without_input_option_gets_the_declared_fields(runner):
    with cloaca.WorkflowBuilder("double", input={"item": int}, output="twice"):

        @cloaca.task
        def twice(item: int) -> int:
            return item * 2

    with cloaca.WorkflowBuilder("doubles", input={"numbers": list[int], "secret": int}):
        cloaca.child("made", workflow="double", over="numbers")

    result = runner.execute("doubles", {"numbers": [1, 2, 3], "secret": 4})
    assert result.of("made") == [2, 4, 6]


def test_k_children_can_get_zipped_elements_or_batches(runner):
    with cloaca.WorkflowBuilder("pair", input={"name": str, "size": int}, output="text"):

        @cloaca.task
        def text(name: str, size: int) -> str:
            return name * size

    with cloaca.WorkflowBuilder("load", input={"rows": list[int]}, output="total"):

        @cloaca.task
        def total(rows: list[int]) -> int:
            return sum(rows)

    with cloaca.WorkflowBuilder("lists", input={"names": list[str], "sizes": list[int]}):
        cloaca.child("pairs", workflow="pair", over={"name": "names", "size": "sizes"})
        cloaca.child("loads", workflow="load", over="sizes", batch=2, input={"rows": "item"})

    result = runner.execute("lists", {"names": ["a", "b", "c"], "sizes": [1, 2, 3]})
    assert result.of("pairs") == ["a", "bb", "ccc"]
    assert result.of("loads") == [3, 3]


def test_m0_missing_path_fails_the_item_and_starts_no_child(runner):
    Render()
    with cloaca.WorkflowBuilder("book", input={"pages": list[dict[str, int]]}):
        cloaca.child(
            "images", workflow="render", over="pages", input={"page": "item.number"}, tolerate=1
        )

        @cloaca.task
        def bound(images: cloaca.MapResult[str]) -> list[Any]:
            return [images.values(), [item.error.message for item in images.errors()]]

    result = runner.execute("book", {"pages": [{"number": 1}, {"count": 2}]})
    values, errors = result.of("bound")
    assert values == ["image-1"]
    assert "from the path 'item.number'" in errors[0]
    assert len(children(runner)) == 1


def test_m5_failed_child_fails_its_item(runner):
    render = Render()
    render.bad = {2}
    define_book()
    result = runner.execute("book", {"pages": [1, 2, 3]})
    assert result.status == "Failed"
    assert result.tasks["bound"].status == cloaca.TaskStatus.SKIPPED
    error = result.tasks["images"].error
    assert error.type == "ChildFailedError"
    assert error.message.startswith("1 of 3 items of 'images' failed; the first is item 1: child ")
    assert "no ink for 2" in error.message
    states = [item.status for item in runner.items(result.execution_id, "images")]
    assert states == ["Completed", "Failed", "Completed"]


def test_k8_zero_tolerance_starts_no_item_after_a_failure(runner):
    render = Render()
    render.bad = {2}
    define_book(tolerate=0, parallel=1)
    result = runner.execute("book", {"pages": [1, 2, 3, 4]})
    assert result.status == "Failed"
    assert render.calls == [1, 2]
    states = [item.status for item in runner.items(result.execution_id, "images")]
    assert states == ["Completed", "Failed", "Cancelled", "Cancelled"]


def test_m6_retry_runs_failed_children_in_place(runner):
    render = Render()
    render.bad = {2, 4}
    define_book()
    result = runner.execute("book", {"pages": [1, 2, 3, 4]})
    assert result.status == "Failed"
    before = children(runner)
    render.bad = {4}
    render.calls.clear()
    result = retried(runner, result)
    assert result.status == "Failed"
    assert sorted(render.calls) == [2, 4]
    render.bad = set()
    result = retried(runner, result)
    assert result.of("bound") == ["image-1", "image-2", "image-3", "image-4"]
    assert children(runner) == before


def test_m6_retry_from_the_map_starts_new_children(runner):
    render = Render()
    define_book()
    result = runner.execute("book", {"pages": [1, 2]})
    before = set(children(runner))
    render.calls.clear()
    result = retried(runner, result, from_task="images")
    assert result.of("bound") == ["image-1", "image-2"]
    assert sorted(render.calls) == [1, 2]
    assert len(set(children(runner)) - before) == 2


def test_m6_cancelled_child_is_replaced_by_a_retry(runner):
    render = Render()
    render.gate.clear()
    define_book()
    handle = runner.submit("book", {"pages": [1, 2]})
    wait_until(lambda: render.running == 2)
    first = children(runner)[0]
    runner.cancel_execution(first)
    render.gate.set()
    result = handle.result(timeout=30)
    assert result.status == "Failed"
    assert "was cancelled" in result.tasks["images"].error.message
    result = retried(runner, result)
    assert result.of("bound") == ["image-1", "image-2"]
    assert len(children(runner)) == 3


def test_m5_each_attempt_of_an_item_is_a_new_child(runner):
    render = Render()
    render.bad = {2}
    define_book(retry_attempts=3, retry_delay_ms=1, retry_jitter=False)
    result = runner.execute("book", {"pages": [1, 2]})
    assert result.status == "Failed"
    assert [item.attempts for item in runner.items(result.execution_id, "images")] == [1, 3]
    assert len(children(runner)) == 4


def test_m4_cancel_reaches_the_children(runner):
    render = Render()
    render.gate.clear()
    define_book(parallel=2)
    handle = runner.submit("book", {"pages": [1, 2, 3, 4]})
    wait_until(lambda: render.running == 2)
    assert handle.cancel()
    wait_until(lambda: len(children(runner, "Cancelled")) == 2)
    render.gate.set()
    time.sleep(0.2)
    assert len(children(runner)) == 2
    assert {item.status for item in runner.items(handle.id, "images")} == {"Cancelled"}


def test_m4_abandoned_children_continue(runner):
    render = Render()
    render.gate.clear()
    define_book(parallel=2, on_parent_end="abandon")
    handle = runner.submit("book", {"pages": [1, 2, 3, 4]})
    wait_until(lambda: render.running == 2)
    assert handle.cancel()
    time.sleep(0.1)
    render.gate.set()
    wait_until(lambda: len(children(runner, "Completed")) == 2)
    assert len(children(runner)) == 2


def test_m4_pause_and_resume_reach_the_children(runner):
    render = Render()
    render.gate.clear()
    define_book(parallel=2)
    handle = runner.submit("book", {"pages": [1, 2, 3, 4]})
    wait_until(lambda: render.running == 2)
    runner.pause_execution(handle.id)
    wait_until(lambda: len(children(runner, "Paused")) == 2)
    render.gate.set()
    time.sleep(0.2)
    assert len(children(runner)) == 2
    assert handle.status() == "Paused"
    runner.resume_execution(handle.id)
    assert handle.result(timeout=30).of("images") == [f"image-{page}" for page in (1, 2, 3, 4)]


def test_m4_timeout_of_the_node_applies_to_each_child(runner):
    render = Render()
    render.gate.clear()
    define_book(timeout="0.2s", tolerate=1)
    handle = runner.submit("book", {"pages": [1]})
    wait_until(lambda: len(children(runner, "Failed")) == 1)
    render.gate.set()
    result = handle.result(timeout=30)
    [item] = runner.items(result.execution_id, "images")
    assert item.status == "Failed"
    assert "WorkflowTimeoutError" in item.error.message


def test_m7_map_waits_until_a_program_defines_the_child_workflow(runner):
    name = f"render-{uuid.uuid4().hex}"
    define_book(workflow=name)
    handle = runner.submit("book", {"pages": [1, 2]})
    time.sleep(0.2)
    assert not handle.done()
    assert f"workflow '{name}'" in str(runner.explain(handle.id))
    with cloaca.WorkflowBuilder(name, input={"page": int}, output="image"):

        @cloaca.task
        def image(page: int) -> str:
            return f"late-{page}"

    assert handle.result(timeout=60).of("images") == ["late-1", "late-2"]


def test_k_children_can_start_children(runner):
    Render()
    define_book()
    with cloaca.WorkflowBuilder("shelf", input={"books": list[list[int]]}):
        cloaca.child("bound", workflow="book", over="books", input={"pages": "item"})

    result = runner.execute("shelf", {"books": [[1, 2], [], [3]]})
    bound = [output["bound"] for output in result.of("bound")]
    assert bound == [["image-1", "image-2"], [], ["image-3"]]


def test_k_map_can_run_over_the_outputs_of_children(runner):
    Render()
    with cloaca.WorkflowBuilder("book", input={"pages": list[int]}):
        cloaca.child("images", workflow="render", over="pages", input={"page": "item"})

        @cloaca.task(over="images")
        def sized(image: str) -> int:
            return len(image)

    assert runner.execute("book", {"pages": [1, 22]}).of("sized") == [7, 8]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parallel": 2}, "parallel is given without over="),
        ({"over": "pages", "parallel": 0}, "parallel must be a whole number"),
        ({"over": "pages", "tolerate": 2.0}, "tolerate must be"),
        ({"over": {}}, "over must map"),
    ],
)
def test_m0_invalid_option_is_refused(options, message):
    with (
        pytest.raises(cloaca.TaskValidationError, match=message),
        cloaca.WorkflowBuilder("book"),
    ):
        cloaca.child("images", workflow="render", **options)


def test_m0_unknown_list_is_refused():
    with (
        pytest.raises(cloaca.TaskValidationError, match="runs over 'page'"),
        cloaca.WorkflowBuilder("book", input={"pages": list[int]}),
    ):
        cloaca.child("images", workflow="render", over="page")


def test_m8_children_lists_the_child_of_each_item(runner):
    Render()
    define_book()
    book = runner.submit("book", {"pages": [1, 2, 3]})
    assert book.result().status == "Completed"
    children = runner.children(book.id)
    assert [child.workflow_name for child in children] == ["render"] * 3
    assert [child.final_context["image"] for child in children] == [
        f"image-{page}" for page in (1, 2, 3)
    ]
    tree = family_text(runner._core.reads, book.result(), verbose=True)
    assert [f"images[{item}]: render" in tree for item in range(3)] == [True] * 3


def test_k1_map_of_children_can_be_named_like_its_list(runner):
    """Lesson: such a map read its own results, which are empty, instead of its list."""
    with cloaca.WorkflowBuilder("render"):

        @cloaca.task
        def draw(context: cloaca.Context) -> None:
            context["png"] = f"png-{context['page']}"

    with cloaca.WorkflowBuilder("book"):
        cloaca.child(
            "pages",
            workflow="render",
            over="pages",
            input={"page": "item"},
            parallel=20,
            tolerate=0.1,
        )
    result = runner.execute("book", {"pages": ["x", "y"]}, check=True)
    assert [page["png"] for page in result.of("pages")] == ["png-x", "png-y"]
