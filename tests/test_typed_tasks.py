"""Typed tasks: the values of parameters, and refused definitions (semantics J1, J2 and J6)."""

from __future__ import annotations

import functools

import pytest

import cloaca
from cloaca.testing import crash_everywhere, run_task
from typed_support import SMTP, Order, Row, Total, build, build_order, failure, made, open_smtp, run


def test_j_typed_order_runs_and_its_functions_can_be_called(runner):
    made.clear()
    tasks = build_order()
    result = runner.execute("order", Order(order_id="o-1", urls=["a", "bcd"]))
    assert result.status == "Completed", result.error_message
    assert result.output == Total(6.0)
    assert result.of(tasks["rows"]) == [Row(1.0), Row(3.0)]
    assert result.of("mail") == "the total is 6.0"
    assert tasks["total"]([Row(1)], "o-1") == Total(1.5)
    assert result.final_context.to_dict() == {
        "order_id": "o-1",
        "urls": ["a", "bcd"],
        "rows": [{"price": 1.0}, {"price": 3.0}],
        "total": {"sum": 6.0},
        "mail": "the total is 6.0",
    }
    assert len(made) == 1
    assert tasks["builder"].build().dependencies == {
        "rows": [],
        "total": ["rows"],
        "mail": ["total"],
    }


# The sources of parameters (J1)


def test_j1_handle_is_found_by_its_annotation():
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task
        def one(attempt: cloaca.TaskHandle, n: int = 2) -> str:
            return f"{attempt.task_id} {attempt.attempt} {n}"

    assert run().of(one) == "one 1 2"


def test_j1_marker_takes_precedence_over_the_parameter_name():
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task
        def a() -> int:
            return 1

        @cloaca.task
        def b() -> int:
            return 2

        @cloaca.task
        def c(a: int = cloaca.result("b")) -> int:
            return a

    result = run()
    assert result.of(c) == 2
    assert registered_dependencies("typed")["c"] == ["b"]


def registered_dependencies(name):
    from cloaca._workflows.registry import registry

    return registry.workflow(name).dependencies


def test_j1_task_takes_precedence_over_a_field_of_the_input():
    with cloaca.WorkflowBuilder("typed", input={"a": int}):

        @cloaca.task
        def b(a: int) -> int:
            return a + 1

        @cloaca.task(id="a")
        def first() -> int:
            return 10

    assert run({"a": 1}).of(b) == 11


def test_j1_parameter_reads_a_context_key_if_no_input_is_declared():
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task
        def double(n: int, by: int = 2) -> int:
            return n * by

    assert run({"n": 3}).of(double) == 6
    assert run({"n": 3, "by": 5}).of(double) == 15
    error = failure({"m": 3})
    assert error.type == "TaskInputError"
    assert "'n'" in error.message
    assert "did you mean 'm'?" in error.message


def test_j1_default_is_used_for_an_undeclared_key():
    with cloaca.WorkflowBuilder("typed", input={"n": int}):

        @cloaca.task
        def double(n: int, by: int = 2) -> int:
            return n * by

    # The workflow does not declare a field `by`, so the parameter keeps its default.
    assert run({"n": 3, "by": 5}).of(double) == 6


def test_j1_unknown_name_is_refused_with_a_suggestion():
    def define():
        @cloaca.task
        def rows() -> list[int]:
            return []

        @cloaca.task
        def total(rwos: list[int]) -> int:
            return 1

    with pytest.raises(cloaca.TaskValidationError, match=r"'total'.*'rwos'") as caught:
        build(define, input={"order_id": str})

    assert "did you mean 'rows'?" in str(caught.value)


def test_j1_marker_of_an_unknown_task_is_refused():
    def define():
        @cloaca.task
        def rows() -> list[int]:
            return []

        @cloaca.task
        def total(found: list[int] = cloaca.result("rwos")) -> int:
            return 1

    with pytest.raises(cloaca.TaskValidationError, match="'rwos'") as caught:
        build(define)

    assert "did you mean 'rows'?" in str(caught.value)


def test_j1_edge_can_be_both_declared_and_inferred():
    with cloaca.WorkflowBuilder("typed") as builder:

        @cloaca.task
        def a() -> int:
            return 1

        @cloaca.task
        def b() -> int:
            return 2

        @cloaca.task(dependencies=[b, "public::embedded::typed::a"])
        def c(a: int, b: int) -> int:
            return a + b

    assert builder.build().dependencies["c"] == ["b", "a"]
    assert run().of(c) == 3


def test_j1_one_function_can_be_a_task_of_two_workflows():
    @cloaca.task(id="shared")
    def shared(n: int) -> int:
        return n + 1

    with cloaca.WorkflowBuilder("typed") as first:

        @cloaca.task
        def n() -> int:
            return 1

        first.add_task(shared)
    with cloaca.WorkflowBuilder("typed2", input={"n": int}) as second:
        second.add_task(shared)
    assert first.build().dependencies["shared"] == ["n"]
    assert second.build().dependencies["shared"] == []
    assert run().of(shared) == 2
    assert run({"n": 5}, name="typed2").of(shared) == 6


# Functions that take the context (J2)


@pytest.mark.parametrize(
    "annotation", [cloaca.Context, "cloaca.Context", "Context", "cloaca.Context | None"]
)
def test_j2_parameter_annotated_as_context_may_have_any_name(annotation):
    with cloaca.WorkflowBuilder("typed"):

        def a(state):
            state["x"] = 1

        a.__annotations__["state"] = annotation
        cloaca.task(a)

    assert run().final_context.to_dict() == {"x": 1}


def test_j2_first_unannotated_parameter_is_the_context_or_a_task():
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task
        def rows():
            return [1, 2]

        @cloaca.task
        def total(rows):
            return sum(rows)

        @cloaca.task(dependencies=[total])
        def report(data, limit=3):
            data["seen"] = [data["total"], limit]

    assert run({"limit": 7}).final_context.to_dict() == {
        "limit": 7,
        "rows": [1, 2],
        "total": 3,
        "seen": [3, 3],
    }


def test_j2_unannotated_parameter_named_like_its_own_task_is_the_context():
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task(id="data")
        def load(data):
            data["x"] = 1

    assert run().final_context.to_dict() == {"x": 1}


def annotated(order_id, context: cloaca.Context):
    context["out"] = order_id


def named(order_id, context):
    context["out"] = order_id


def by_keyword(order_id, *, context):
    context["out"] = order_id


@pytest.mark.parametrize("function", [annotated, named, by_keyword])
def test_j2_first_parameter_before_a_context_is_a_value(function):
    with pytest.raises(cloaca.TaskValidationError) as raised, cloaca.WorkflowBuilder("refused"):
        cloaca.task(function)
    assert "needs a parameter 'order_id', for which a task receives no value" in str(raised.value)
    assert "context['order_id']" in str(raised.value)

    with cloaca.WorkflowBuilder("typed", input={"order_id": int}):
        cloaca.task(function)
    assert run({"order_id": 3}).final_context["out"] == 3


def test_j2_first_parameter_is_the_context_before_an_optional_one():
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task
        def first(data, ctx=None):
            data["x"] = ctx

    assert run().final_context.to_dict() == {"x": None}


def test_j2_context_function_also_gets_results_and_declared_fields():
    with cloaca.WorkflowBuilder("typed", input={"limit": int}):

        @cloaca.task
        def rows() -> list[int]:
            return [1, 2]

        @cloaca.task
        def total(context, rows: list[int], limit=3, other=4, *, handle):
            context["out"] = [rows, limit, other, handle.task_id]

    assert run({"limit": 7, "other": 8}).final_context["out"] == [[1, 2], 7, 4, "total"]


# Checks when the workflow is built (J6)


def test_j6_two_tasks_with_the_same_output_are_refused():
    def define():
        @cloaca.task(output="x")
        def a() -> int:
            return 1

        @cloaca.task(output="x")
        def b() -> int:
            return 1

    with pytest.raises(cloaca.WorkflowValidationError, match=r"'a' and 'b'.*'x'"):
        build(define)


@pytest.mark.parametrize("first", ["a", "b"])
def test_j6_output_named_like_another_task_is_refused(first):
    def define_one(id, output):
        @cloaca.task(id=id, output=output)
        def function() -> int:
            return 1

    def define():
        pairs = [("a", "b"), ("b", None)]
        for id, output in pairs if first == "a" else pairs[::-1]:
            define_one(id, output)

    with pytest.raises(cloaca.WorkflowValidationError, match="both have the result 'b'"):
        build(define)


def test_j6_inferred_cycle_is_refused():
    def define():
        @cloaca.task
        def a(b: int) -> int:
            return b

        @cloaca.task
        def b(a: int) -> int:
            return a

    with pytest.raises(cloaca.WorkflowValidationError, match="cycle"):
        build(define)


def test_j6_parameter_that_does_not_fit_its_result_is_refused():
    def define():
        @cloaca.task
        def rows() -> list[int]:
            return []

        @cloaca.task
        def total(rows: int) -> int:
            return rows

    with pytest.raises(
        cloaca.TaskValidationError,
        match=r"'total'.*'rows' takes a number.*result of task 'rows' is an array",
    ):
        build(define)


def test_j6_kinds_of_a_field_and_a_parameter_are_compared():
    def define():
        @cloaca.task
        def total(n: int) -> int:
            return n

    with pytest.raises(cloaca.TaskValidationError, match="field 'n' of the input is a string"):
        build(define, input={"n": str})


def test_j6_types_with_the_same_kind_of_json_match():
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task
        def a() -> Total:
            return Total(1)

        @cloaca.task
        def b(a: Row | None) -> object:
            return "2026-01-01"

        @cloaca.task
        def c(b: str) -> float | None:
            return 2.0

        @cloaca.task
        def d(c: int | str) -> None: ...


def test_j6_unknown_output_is_refused():
    def define():
        @cloaca.task
        def total() -> int:
            return 1

    with pytest.raises(cloaca.WorkflowValidationError, match="output='totl'") as caught:
        build(define, output="totl")

    assert "did you mean 'total'?" in str(caught.value)


# Markers in direct calls, callables that are not functions, and `run_task`


def test_marker_used_as_a_value_raises_an_error_with_a_hint():
    @cloaca.task
    def one() -> Total:
        return Total(1)

    def mail(total: Total = cloaca.result(one), smtp: SMTP = cloaca.resource(open_smtp)) -> str:
        return f"{total.sum}"

    with pytest.raises(cloaca.TaskError, match=r"cloaca\.result\('one'\) is the default") as caught:
        mail()
    assert "call the function with a value" in str(caught.value)
    with pytest.raises(cloaca.TaskError, match=r"cloaca\.resource\(open_smtp\)"):
        list(cloaca.resource(open_smtp))


@pytest.mark.parametrize("wrong", [3, None, lambda: None])
def test_result_marker_refuses_anything_but_a_task_or_an_id(wrong):
    with pytest.raises(cloaca.TaskValidationError):
        cloaca.result(wrong)


class Job:
    def run(self, n: int) -> int:
        return n + 1

    def __call__(self, n: int) -> int:
        return n + 2


@functools.wraps(Job.run)
def wrapper(*args, **kwargs):
    return Job.run(*args, **kwargs)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (Job().run, 2),
        (Job(), 3),
        (functools.partial(Job.run, Job()), 2),
        (functools.partial(lambda a, b, n: a + b + n, 1, b=2), 4),
    ],
)
def test_methods_partials_and_callable_objects_take_values(function, expected):
    with cloaca.WorkflowBuilder("typed", input={"n": int}):
        cloaca.task(id="job")(function)
    assert run({"n": 1}).of("job") == expected


def test_run_task_takes_values_by_name_or_by_key():
    tasks = build_order()
    assert run_task(tasks["total"], rows=[Row(2)], order_id="o-1")["total"] == {"sum": 3.0}
    assert run_task(tasks["total"], {"rows": [{"price": 2}], "order_id": "o-1"})["total"] == {
        "sum": 3.0
    }
    smtp = SMTP()
    assert run_task(tasks["mail"], total=Total(1), smtp=smtp)["mail"] == "the total is 1.0"
    with pytest.raises(cloaca.TaskValidationError, match="takes no value 'row'"):
        run_task(tasks["total"], row=1)
    with pytest.raises(cloaca.TaskInputError, match=r"rows\[0\]\.price"):
        run_task(tasks["total"], rows=[{"price": "x"}], order_id="o-1")


def test_run_task_makes_and_closes_resources():
    made.clear()
    run_task(build_order()["mail"], total=Total(1))
    assert [smtp.is_open for smtp in made] == [False]


def test_j_crash_does_not_change_how_the_typed_order_ends():
    build_order()
    report = crash_everywhere("order", {"order_id": "o-1", "urls": ["a", "bcd"]})
    assert report.points
