"""A map's annotations must match its list and its readers; numbers keep all digits (J4, J6, K)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any

import pydantic
import pytest

import cloaca


@dataclasses.dataclass
class Page:
    urls: list[str]
    size: int
    sizes: list[int] | None = None


class Model(pydantic.BaseModel):
    urls: list[str]
    size: int
    parts: list[pydantic.Json[int]] = []
    lengths: Annotated[str, pydantic.PlainSerializer(lambda text: [len(text)])] = ""


class Sized(pydantic.BaseModel):
    size: int


def function(name: str, taken: dict[str, Any], made: Any = None) -> Callable[..., Any]:
    """Returns a function with the annotated parameters `taken` and the result type `made`."""
    scope: dict[str, Any] = {}
    exec(f"def {name}({', '.join(taken)}):\n    return None", scope)
    found: Callable[..., Any] = scope[name]
    found.__annotations__.update({**taken, "return": made})
    return found


def built(tasks: list[tuple[Callable[..., Any], dict[str, Any]]], input: Any = None) -> None:
    """Builds a workflow of functions, each with its task options."""
    builder = cloaca.WorkflowBuilder("kinds_around_maps", input=input)
    for each, options in tasks:
        cloaca.task(**options)(each)
        builder.add_task(each)
    builder.build()


def over_input(listed: Any, taken: Any, **options: Any) -> None:
    """Builds a map over an input field of type `listed`. An element is passed as type `taken`."""
    work = function("work", {"row": taken})
    built([(work, {"over": "rows", **options})], {"rows": listed})


def reduced(made: Any, taken: Any) -> None:
    """Builds a map whose items return type `made`, and a task that takes the results as `taken`."""
    work = function("work", {"row": Any}, made)
    built([(work, {"over": "rows"}), (function("total", {"work": taken}), {})], {"rows": list})


@pytest.mark.parametrize("listed", [int, str, dict[str, int], Page, Decimal | None])
def test_j6_field_that_cannot_be_an_array_cannot_be_mapped(listed):
    with pytest.raises(cloaca.TaskValidationError, match="task 'work' runs over 'rows', which"):
        over_input(listed, Any)


@pytest.mark.parametrize("listed", [list, set[int], tuple[int, ...], list[int] | None, Any])
def test_j6_field_that_may_be_an_array_can_be_mapped(listed):
    over_input(listed, int)


def test_j6_error_for_a_refused_list_names_its_type():
    with pytest.raises(cloaca.TaskValidationError) as caught:
        over_input(int, int)
    assert "task 'work' runs over 'rows', which is a number, not an array" in str(caught.value)
    assert "the field 'rows' of the input is int" in str(caught.value)
    assert "such as list[int]" in caught.value.hint


@pytest.mark.parametrize(
    ("listed", "taken"),
    [
        (list[int], str),
        (list[Page], str),
        (list[Decimal], float),
        (tuple[int, int], str),
        (list[int | None], list[int]),
        (list[str], Page),
        (list[Sized], int),
    ],
)
def test_j6_element_that_does_not_fit_its_parameter_is_refused(listed, taken):
    with pytest.raises(cloaca.TaskValidationError) as caught:
        over_input(listed, taken)
    assert "parameter 'row' takes " in str(caught.value)
    assert "an element of 'rows' is " in str(caught.value)
    assert "the field 'rows' of the input is " in str(caught.value)


@pytest.mark.parametrize(
    ("listed", "taken"),
    [
        (list[int], int | str),
        (list[Page], Page),
        (list[Page], dict[str, Any]),
        (list[float], Decimal),
        (tuple[int, str], str),
        (list[str], Any),
        (list, Page),
        (list[Any], int),
        (list[Sized], dict[str, int]),
        (list[Annotated[int, pydantic.PlainSerializer(str)]], str),
        (list[list[int] | str], str),
    ],
)
def test_j6_element_that_can_fit_its_parameter_is_allowed(listed, taken):
    over_input(listed, taken)


@pytest.mark.parametrize(
    ("listed", "taken", "message"),
    [
        (list[int], int, "an item of a map with batch=500 is an array of up to 500 elements"),
        (list, Page, "an item of a map with batch=500 is an array"),
        (list[int], list[str], "an element of parameter 'row' is a string"),
        (set[Page], list[int], "an element of 'rows' is an object"),
    ],
)
def test_j6_batch_that_does_not_fit_its_parameter_is_refused(listed, taken, message):
    with pytest.raises(cloaca.TaskValidationError, match=message):
        over_input(listed, taken, batch=500)


@pytest.mark.parametrize("taken", [list[int], tuple[int, ...], list, Any, list[int | str] | None])
def test_j6_batch_that_can_fit_its_parameter_is_allowed(taken):
    over_input(list[int], taken, batch=500)


def test_j6_each_zipped_list_must_fit_its_own_parameter():
    input = {"names": list[str], "sizes": list[int]}
    options = {"over": {"name": "names", "size": "sizes"}}
    built([(function("work", {"name": str, "size": int}), options)], input)
    with pytest.raises(cloaca.TaskValidationError, match="parameter 'size' takes a string"):
        built([(function("work", {"name": str, "size": str}), options)], input)


@pytest.mark.parametrize("kind", [Page, Model])
def test_j6_path_to_a_list_is_resolved_in_the_declared_type(kind):
    for input, first in (({"one": kind}, []), (None, [(function("one", {}, kind), {})])):
        work = function("work", {"row": str})
        built([*first, (work, {"over": "one.urls"})], input)
        with pytest.raises(cloaca.TaskValidationError, match=r"'one\.size', which is a number"):
            built([*first, (work, {"over": "one.size"})], input)
        other = function("work", {"row": int})
        with pytest.raises(cloaca.TaskValidationError, match=r"element of 'one\.urls' is a string"):
            built([*first, (other, {"over": "one.urls"})], input)


@pytest.mark.parametrize("path", ["lengths", "parts", "unknown"])
def test_j6_path_to_a_value_of_unknown_kind_is_not_checked(path):
    work = function("work", {"row": str})
    built([(work, {"over": f"one.{path}"})], {"one": Model})
    built([(function("one", {}), {}), (work, {"over": f"one.{path}"})])


def test_j6_map_over_a_task_must_match_the_tasks_result():
    work = function("work", {"row": int})
    built([(function("rows", {}, list[int]), {}), (work, {"over": "rows"})])
    with pytest.raises(cloaca.TaskValidationError, match="the result of task 'rows' is int"):
        built([(function("rows", {}, int), {}), (work, {"over": "rows"})])
    # A task that takes the context stores its result itself, so its return annotation is not
    # checked.
    stored = function("rows", {"context": cloaca.Context}, int)
    built([(stored, {}), (work, {"over": "rows"})])


def test_j6_map_over_a_map_must_match_the_item_results():
    first = (function("first", {"row": Any}, str), {"over": "rows"})
    built([first, (function("second", {"first": str}), {"over": "first"})])
    with pytest.raises(cloaca.TaskValidationError, match="an item of map 'first' is a string"):
        built([first, (function("second", {"first": int}), {"over": "first"})])
    with pytest.raises(cloaca.TaskValidationError, match="which has no 'urls'") as caught:
        built([first, (function("second", {"row": Any}), {"over": "first.urls"})])
    assert "run over 'first'" in caught.value.hint


@pytest.mark.parametrize(
    ("made", "taken", "message"),
    [
        (int, int, "takes a number (int), but task 'work' is a map, whose result is an array"),
        (int, Page, "takes an object (Page), but task 'work' is a map"),
        (int, list[str], "requires each item to be a string (list[str]), but an item of map"),
        (Page, cloaca.MapResult[int], "requires each item to be a number (cloaca.MapResult[int])"),
        (None, list[int], "an item of map 'work' is null (None)"),
        (Decimal, list[float], "an item of map 'work' is a string"),
        (Sized, cloaca.MapResult[str], "an item of map 'work' is an object (Sized)"),
    ],
)
def test_j6_reader_that_cannot_take_the_results_is_refused(made, taken, message):
    with pytest.raises(cloaca.TaskValidationError) as caught:
        reduced(made, taken)
    assert message in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("made", "taken"),
    [
        (int, list[int]),
        (int, list[int | None]),
        (int, list[int] | None),
        (int, list[float]),
        (int, set[int]),
        (Page, cloaca.MapResult[Page]),
        (Page, cloaca.MapResult),
        (Sized, cloaca.MapResult[dict[str, int]]),
        (Any, list[str]),
        (None, list[None]),
        (Decimal, list[Decimal]),
        (Annotated[int, pydantic.PlainSerializer(str)], list[str]),
    ],
)
def test_j6_reader_that_can_take_the_results_is_allowed(made, taken):
    reduced(made, taken)


@pytest.mark.parametrize("role", [{"final": "always"}, {"undo": True}])
def test_j6_parameter_of_a_final_task_must_match_map_results(role):
    def build(taken: Any) -> None:
        work = function("work", {"row": Any}, int)
        reader = function("reader", {"work": taken})
        if "undo" in role:
            built([(work, {"over": "rows", "compensate": reader})])
        else:
            built([(work, {"over": "rows"}), (reader, role)])

    build(list[int] | None)
    build(cloaca.MapResult[int])
    for taken in (int, list[str], cloaca.MapResult[str]):
        with pytest.raises(cloaca.TaskValidationError, match=r"'work' (takes|requires)"):
            build(taken)


def test_j6_map_result_annotation_for_an_ordinary_task_is_refused():
    readers = ({}, {"final": "always"})
    for options in readers:
        reader = function("reader", {"work": cloaca.MapResult[int]})
        with pytest.raises(cloaca.TaskValidationError, match="is a MapResult, but task 'work' is"):
            built([(function("work", {}, int), {}), (reader, options)])


def test_j6_list_of_a_child_map_must_be_an_array():
    with (
        pytest.raises(cloaca.TaskValidationError, match="task 'images' runs over 'pages', which"),
        cloaca.WorkflowBuilder("kinds_of_children", input={"pages": int}),
    ):
        cloaca.child("images", workflow="render", over="pages")


def test_j6_results_of_a_child_map_are_an_array():
    reader = function("reader", {"bound": str})
    cloaca.task(reader)
    builder = cloaca.WorkflowBuilder("kinds_of_children", input={"pages": list[int]})
    builder.add_task(reader)
    with pytest.raises(cloaca.TaskValidationError, match="'bound' takes a string"), builder:
        cloaca.child("bound", workflow="render", over="pages")


def test_j4_map_result_keeps_every_digit_of_a_number(runner):
    with cloaca.WorkflowBuilder("exact_price", input={"price": Any}, output="price"):

        @cloaca.task
        def checked(price: Any) -> None: ...

    with cloaca.WorkflowBuilder("exact_prices"):
        cloaca.child("prices", workflow="exact_price", over="rows", input={"price": "item"})

        @cloaca.task
        def report(prices: cloaca.MapResult[Decimal]) -> list[str]:
            return [str(price) for price in prices.values()]

        @cloaca.task
        def listed(prices: list[Decimal]) -> list[str]:
            return [str(price) for price in prices]

    digits = ["0.12345678901234567890123", "123456789012345678901234567890", "1E+400", "-0.10"]
    rows = cloaca.Context.from_json(f'{{"rows": [{",".join(digits)}]}}')
    result = runner.execute("exact_prices", rows)
    assert result.of("report") == digits
    assert result.of("listed") == digits


def test_j4_map_result_has_typed_values_of_completed_items_only(runner):
    with cloaca.WorkflowBuilder("typed_items", input={"rows": list[int]}):

        @cloaca.task(over="rows", tolerate=1, retry_attempts=1)
        def work(row: int) -> Page:
            if row == 0:
                raise ValueError("empty")
            return Page(["a" * row], 10**30 + row)

        @cloaca.task
        def report(work: cloaca.MapResult[Page]) -> list[Any]:
            assert all(isinstance(page, Page) for page in work.values())
            assert work[1].value is None
            assert "empty" in work.errors()[0].error.message
            return [page.size for page in work.values()]

    result = runner.execute("typed_items", {"rows": [1, 0, 2]})
    assert result.of(report) == [10**30 + 1, 10**30 + 2]
    assert json.loads(result.final_context.to_json())["report"] == result.of(report)


def test_k1_map_runs_over_the_result_of_a_node(runner):
    with cloaca.WorkflowBuilder("three", output="three"):

        @cloaca.task
        def three() -> list[int]:
            return [1, 2, 3]

    with cloaca.WorkflowBuilder("successor", output="following"):

        @cloaca.task
        def following(number: int) -> int:
            return number + 1

    with cloaca.WorkflowBuilder("over_nodes"):
        cloaca.child("of_child", workflow="three")
        cloaca.wait("of_wait", wait_for=cloaca.signal("numbers"))
        cloaca.approval("of_approval")
        cloaca.external_task("of_rust")
        cloaca.child("children", workflow="successor", over={"number": "of_child"})

        @cloaca.task(over="of_child")
        def doubled(of_child: int) -> int:
            return of_child * 2

        @cloaca.task(over={"number": "of_wait.items"})
        def halved(number: int) -> float:
            return number / 2

        @cloaca.task(over="of_approval.data")
        def approved(number: Any) -> None: ...

        @cloaca.task(over="of_rust")
        def rust(of_rust: str) -> None: ...

    with cloaca.WorkflowBuilder("over_children"):
        cloaca.child("of_child", workflow="three")
        cloaca.wait("of_wait", wait_for=cloaca.signal("more_numbers"))
        cloaca.child("children", workflow="successor", over={"number": "of_child"})

        @cloaca.task(over={"number": "of_wait.items"})
        def quartered(number: int) -> float:
            return number / 4

        @cloaca.task
        def report(children: list[int], quartered: list[float]) -> list[Any]:
            return [children, quartered]

    handle = runner.submit("over_children")
    runner.send("more_numbers", {"items": [4, 8]})
    assert handle.result(timeout=30).of("report") == [[2, 3, 4], [1.0, 2.0]]
