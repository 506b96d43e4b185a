"""Typed tasks: results, missing or wrong values, the version (semantics J3, J4, J7, J9, J11)."""

from __future__ import annotations

import asyncio
import dataclasses
import pickle
import threading

import msgspec
import pytest
from pydantic import BaseModel

import cloaca
from cloaca.testing import VirtualRunner, run_task
from typed_support import Order, Row, build, failure, run

# Results (J3)


def test_j3_result_is_stored_under_the_id_or_output():
    with cloaca.WorkflowBuilder("typed", output=("load", "sum")):

        @cloaca.task(output="data")
        def load() -> dict[str, int]:
            return {"a": 1}

        @cloaca.task(output="sum")
        def add(data: dict[str, int], load: dict[str, int]) -> int:
            return data["a"] + load["a"]

    result = run()
    assert result.final_context.to_dict() == {"data": {"a": 1}, "sum": 2}
    assert result.output == ({"a": 1}, 2)
    assert (result.of("data"), result.of("load"), result.of(add)) == ({"a": 1}, {"a": 1}, 2)


def test_j3_mapping_that_a_parameterless_function_returns_is_the_result():
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task
        def load():
            return {"a": 1}

    assert run().final_context.to_dict() == {"load": {"a": 1}}


def test_j3_none_is_stored_if_a_value_is_taken_or_declared():
    """A function declares a value if it has a return annotation other than `None`."""
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task
        def plain():
            pass

        @cloaca.task
        def with_handle(handle) -> None:
            pass

        @cloaca.task
        def maybe() -> int | None:
            return None

        @cloaca.task
        def takes(maybe: int | None) -> None:
            assert maybe is None

    result = run()
    assert result.final_context.to_dict() == {"maybe": None, "takes": None}
    assert result.of(plain) is None
    assert result.of(maybe) is None


def test_j3_result_of_an_async_function_can_be_a_parameter():
    with cloaca.WorkflowBuilder("typed", output="add"):

        @cloaca.task
        async def one() -> int:
            await asyncio.sleep(0)
            return 1

        @cloaca.task
        async def add(one: int, handle: cloaca.TaskHandle) -> list[int]:
            return [one, handle.attempt]

    assert run().output == [1, 1]


def test_j3_result_of_a_context_task_is_stored_under_its_id():
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task
        def rows(context):
            context["rows"] = [1, 2]

        @cloaca.task
        def total(rows: list[int]) -> int:
            return sum(rows)

    result = run()
    assert (result.of(rows), result.of(total)) == ([1, 2], 3)


def test_j3_result_without_a_json_form_fails_the_task():
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task
        def load(n: int = 1) -> object:
            return object()

    error = failure()
    assert error.type == "TypeError"
    assert error.message.startswith(
        "the returned value has no JSON form: a value of type 'object' is not JSON; store its data"
    )


def test_j3_changed_argument_does_not_change_the_stored_value():
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task
        def rows():
            return [1]

        @cloaca.task
        def total(rows):
            rows.append(2)
            return sum(rows)

    assert run().final_context.to_dict() == {"rows": [1], "total": 3}


def test_j3_output_option_of_a_context_function_is_refused():
    def define():
        @cloaca.task(output="x")
        def load(context):
            pass

    with pytest.raises(cloaca.TaskValidationError, match="takes the context"):
        build(define)


def test_j4_local_models_can_contain_other_models():
    @dataclasses.dataclass
    class Item:
        price: float

    class Basket(msgspec.Struct):
        items: list[Item]

    class Shop(BaseModel):
        items: list[Order]

    with cloaca.WorkflowBuilder("typed", input={"basket": Basket}, output="shop"):

        @cloaca.task
        def basket_price(basket: Basket) -> float:
            return sum(item.price for item in basket.items)

        @cloaca.task
        def shop(basket_price: float) -> Shop:
            return Shop(items=[Order(order_id=str(basket_price), urls=[])])

    assert run({"basket": {"items": [{"price": 2}]}}).output == Shop(
        items=[Order(order_id="2.0", urls=[])]
    )


# Missing results (J7)


def define_optional_parent(function):
    """Defines a task `parent`, and a task `child` that runs `function` after it.

    `parent` is skipped unless the context has the key `go`.
    """
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task(trigger_rule=cloaca.context_value("go", "exists"))
        def parent() -> int:
            return 1

        cloaca.task(id="child", trigger_rule="all_done", retry_attempts=3)(function)


def test_j7_default_replaces_the_result_of_a_skipped_dependency():
    def child(parent: int = 5) -> int:
        return parent

    define_optional_parent(child)
    assert run().of("child") == 5
    assert run({"go": 1}).of("child") == 1


def test_j7_none_replaces_the_result_of_a_skipped_dependency_if_allowed():
    def child(parent: int | None) -> bool:
        return parent is None

    define_optional_parent(child)
    assert run().of("child") is True
    assert run({"go": 1}).of("child") is False


def test_j7_skipped_dependency_without_a_default_fails_the_task():
    def child(parent: int) -> int:
        return parent

    define_optional_parent(child)
    error = failure()
    assert error.type == "TaskInputError"
    assert "parameter 'parent' has no value: task 'parent' has no result" in error.message
    with pytest.raises(cloaca.ContextError, match="'parent' has no result: its state is Skipped"):
        run(expect="Failed").of("parent")


def stores_nothing(context):
    context["other"] = 1


def returns_nothing():
    return None


def never(context):
    raise AssertionError


EITHER = "task 'parent' was skipped, failed, or"


@pytest.mark.parametrize(
    ("parent", "rule", "reason"),
    [
        (stores_nothing, None, "task 'parent' did not store 'parent'"),
        (stores_nothing, "all_success", "task 'parent' did not store 'parent'"),
        (stores_nothing, "all_done", "task 'parent' did not store 'parent'"),
        (returns_nothing, None, "task 'parent' returned None"),
        (returns_nothing, "always", "task 'parent' returned None"),
        (never, "all_done", "task 'parent' has no result, because it failed"),
    ],
)
def test_j7_error_names_the_reason_of_a_missing_result(parent, rule, reason):
    with cloaca.WorkflowBuilder("missing_results"):
        cloaca.task(id="parent", retry_attempts=1)(parent)

        @cloaca.task(trigger_rule=rule)
        def child(parent: int) -> int:
            return parent

    result = run(name="missing_results", expect="Failed")
    message = result.tasks["child"].error.message
    assert message.startswith(f"task 'child': parameter 'parent' has no value: {reason}\nhint: ")
    if parent is returns_nothing:
        assert "annotate the return type of task 'parent', such as -> int | None" in message
    elif parent is stores_nothing:
        assert "context['parent'] = ..." in message


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_j7_error_about_a_skipped_task_says_that_it_was_skipped(runner, kind):
    with cloaca.WorkflowBuilder("missing_branch"):

        @cloaca.task(trigger_rule=cloaca.context_value("go", "exists"))
        def parent() -> int | None: ...

        if kind == "sync":

            @cloaca.task
            def child(parent: int) -> int:
                return parent

        else:

            @cloaca.task
            async def child(parent: int) -> int:
                return parent

    result = runner.execute("missing_branch", timeout=60)
    assert result.tasks["child"].error.message == (
        "task 'child': parameter 'parent' has no value: task 'parent' has no result, because it "
        "was skipped\nhint: give the parameter a default, or a type that admits None"
    )


def test_j7_reason_is_not_read_on_the_event_loop(runner, monkeypatch):
    from cloaca._workers import arguments

    threads = []
    status_of = arguments._status_of

    def noting(task, work):
        threads.append(threading.current_thread().name)
        return status_of(task, work)

    monkeypatch.setattr(arguments, "_status_of", noting)
    with cloaca.WorkflowBuilder("missing_branch"):

        @cloaca.task(trigger_rule=cloaca.context_value("go", "exists"))
        def parent() -> int | None: ...

        @cloaca.task
        async def child(parent: int) -> int:
            return parent

    result = runner.execute("missing_branch", timeout=60)
    error = result.tasks["child"].error
    assert "because it was skipped" in error.message
    assert "During handling" not in error.traceback
    assert threads
    assert "cloaca-loop" not in threads


def test_j7_error_of_run_task_names_all_reasons(runner):
    with cloaca.WorkflowBuilder("alone"):

        @cloaca.task
        def parent(context): ...

        @cloaca.task(trigger_rule="all_done")
        def child(parent: int) -> int:
            return parent

    with pytest.raises(cloaca.TaskInputError, match=f"{EITHER} did not store 'parent'"):
        run_task(child)


def test_j7_error_of_a_final_task_names_all_reasons():
    with cloaca.WorkflowBuilder("missing_branch"):

        @cloaca.task(trigger_rule=cloaca.context_value("go", "exists"))
        def parent(context):
            pass

        @cloaca.task(final="always", retry_attempts=1)
        def last(parent: int) -> int:
            return parent

    result = run(name="missing_branch")
    reason = f"{EITHER} did not store 'parent'"
    assert reason in result.final.tasks["last"].error.message


# Values that do not match (J9)


def test_j9_value_that_does_not_decode_fails_the_task():
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task
        def rows():
            return [{"price": 1}, {"price": "much"}]

        @cloaca.task
        def total(rows: list[Row]) -> float:
            return sum(row.price for row in rows)

    error = failure()
    assert error.type == "TaskInputError"
    assert error.message.startswith(
        "task 'total': the result of task 'rows' does not match the annotation of parameter "
        "'rows': `rows[1].price`: Expected `float`, got `str`"
    )


def test_j9_error_has_attributes_and_can_be_pickled():
    def total(rows: list[Order]) -> int:
        return 1

    with pytest.raises(cloaca.TaskInputError) as caught:
        run_task(total, rows=[{"order_id": 1, "urls": []}])
    error = caught.value
    assert isinstance(error, cloaca.TaskError)
    assert isinstance(error, TypeError)
    assert (error.parameter, error.path, error.producer) == ("rows", "rows[0].order_id", None)
    twin = pickle.loads(pickle.dumps(error))
    assert (twin.path, str(twin)) == (error.path, str(error))


def test_j9_retry_from_a_task_reads_the_new_value(tmp_path):
    results = [[1, "x"], [1, 2]]
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task
        def rows():
            return results.pop(0)

        @cloaca.task
        def total(rows: list[int]) -> int:
            return sum(rows)

    with VirtualRunner() as runner:
        handle = runner.submit("typed")
        assert handle.result().status == "Failed"
        handle.retry(from_task="rows")
        assert handle.result().of(total) == 3


# The version (J11 and A4)


def version_of(define):
    builder = cloaca.WorkflowBuilder("version")
    with builder:
        define()
    return builder.build().version


def test_j11_version_depends_on_edges_but_not_on_annotations():
    def with_annotations():
        @cloaca.task
        def a() -> int:
            return 1

        @cloaca.task
        def b(a: int) -> int:
            return a

    def without():
        @cloaca.task
        def a():
            return 1

        @cloaca.task
        def b(a):
            return a

    def other_edge():
        @cloaca.task
        def a():
            return 1

        @cloaca.task
        def b(a=cloaca.result("c")):
            return a

        @cloaca.task
        def c():
            return 1

    assert version_of(with_annotations) == version_of(without)
    assert version_of(without) != version_of(other_edge)


def test_j11_fingerprint_treats_a_marker_as_the_id_of_its_task():
    from cloaca._tasks.fingerprint import fingerprint

    @cloaca.task(id="one")
    def one() -> int:
        return 1

    def by_function(x=cloaca.result(one)):
        return x

    def by_id(x=cloaca.result("one")):
        return x

    by_id.__code__ = by_function.__code__
    assert fingerprint(by_id) == fingerprint(by_function)
    by_id.__defaults__ = (cloaca.result("two"),)
    assert fingerprint(by_id) != fingerprint(by_function)


def test_run_task_resolves_parameters_as_the_workflow_does():
    with cloaca.WorkflowBuilder("run_in_workflow", input={"limit": int}):

        @cloaca.task(output="all_rows")
        def rows():
            return [1, 2]

        @cloaca.task
        def total(rows):
            return sum(rows)

        @cloaca.task(over="rows")
        def double(row: int, limit: int) -> int:
            return min(2 * row, limit)

        with cloaca.group("part"):

            @cloaca.task
            def first(rows):
                return rows[0]

            @cloaca.task
            def report(context, first: int, limit=3):
                context["seen"] = [first, limit]

        @cloaca.task(final="always")
        def last(total, error):
            return [total, error]

    assert run_task(total, rows=[1])["total"] == 1
    assert run_task(total, {"rows": [1, 2]})["total"] == 3
    assert run_task(total, {"all_rows": [1, 2, 3], "rows": [1]})["total"] == 6
    assert run_task(double, row=5, limit=7)["double"] == 7
    assert run_task(first, rows=[4])["part.first"] == 4
    assert run_task(report, {"part.first": 1, "limit": 7})["seen"] == [1, 7]
    assert run_task(report, {"first": 1})["seen"] == [1, 3]
    assert run_task(last, total=3, error=None)["last"] == [3, None]
    with pytest.raises(cloaca.TaskValidationError, match="takes no value 'row'"):
        run_task(total, row=1)
    with pytest.raises(cloaca.TaskInputError, match="parameter 'first' has no value"):
        run_task(report)
