"""Groups of tasks (semantics U1)."""

import pytest

import cloaca
from cloaca.testing import VirtualRunner


def nothing():
    pass


def define(name):
    cloaca.task(id=name)(lambda: None)


def dependencies(builder):
    return builder.build().dependencies


def test_u1_tasks_get_the_prefix_and_follow_the_dependencies():
    with cloaca.WorkflowBuilder("groups", output="section.total") as builder:
        define("before")
        with cloaca.group("section", dependencies=["before"]) as section:

            @cloaca.task
            def rows() -> list[int]:
                return [1, 2]

            @cloaca.task
            def total(rows: list[int]) -> int:
                return sum(rows)

            @cloaca.task(dependencies=["rows"])
            def other(context):
                context["n"] = len(context["section.rows"])

        cloaca.task(id="after", dependencies=[section])(nothing)
        cloaca.task(id="named", dependencies=["section"])(nothing)

        @cloaca.task
        def report(total: int = cloaca.result(total)) -> str:
            return f"total {total}"

    assert section.name == "section"
    assert dependencies(builder) == {
        "before": [],
        "section.rows": ["before"],
        "section.total": ["section.rows"],
        "section.other": ["section.rows"],
        "after": ["section.total", "section.other"],
        "named": ["section.total", "section.other"],
        "report": ["section.total"],
    }
    with VirtualRunner() as runner:
        result = runner.execute("groups")
    assert result.status == "Completed", result.error_message
    assert (result.output, result.of(report), result.of("section.rows")) == (3, "total 3", [1, 2])
    assert result.final_context["n"] == 2


def test_u1_groups_nest():
    with cloaca.WorkflowBuilder("groups") as builder:
        define("a")
        with cloaca.group("outer", dependencies=["a"]) as outer:
            define("b")
            with cloaca.group("inner", ["b"]) as inner:
                define("c")
                define("d")
            cloaca.task(id="e", dependencies=[inner])(nothing)
            with cloaca.group("other"):
                cloaca.task(id="f", dependencies=["inner"])(nothing)
        cloaca.task(id="g", dependencies=[outer])(nothing)
    assert (outer.name, inner.name, inner.prefix) == ("outer", "outer.inner", "outer.inner.")
    assert dependencies(builder) == {
        "a": [],
        "outer.b": ["a"],
        "outer.inner.c": ["outer.b"],
        "outer.inner.d": ["outer.b"],
        "outer.e": ["outer.inner.c", "outer.inner.d"],
        "outer.other.f": ["outer.inner.c", "outer.inner.d"],
        "g": ["outer.e", "outer.other.f"],
    }


def test_u1_groups_depend_on_groups_and_external_tasks_join_them():
    with cloaca.WorkflowBuilder("groups") as builder:
        with cloaca.group("first") as first:
            assert cloaca.external_task("a") == "first.a"
            define("b")
        with cloaca.group("second", dependencies=[first]):
            define("c")
    assert dependencies(builder)["second.c"] == ["first.a", "first.b"]


def test_u1_nearest_task_is_meant_inside_of_a_group():
    with cloaca.WorkflowBuilder("groups", input={"n": int}) as builder:
        define("load")
        with cloaca.group("g"):

            @cloaca.task
            def load() -> int:
                return 2

            @cloaca.task
            def use(load: int, n: int) -> int:
                return load + n

        @cloaca.task
        def outside(load: None) -> None: ...

    assert dependencies(builder)["g.use"] == ["g.load"]
    assert dependencies(builder)["outside"] == ["load"]


def test_u1_group_outside_of_a_workflow_is_refused():
    with pytest.raises(cloaca.WorkflowValidationError, match="group 'g' is outside"):
        cloaca.group("g").__enter__()


@pytest.mark.parametrize("name", ["", "a.b", 3])
def test_u1_name_without_dots_is_needed(name):
    with pytest.raises(cloaca.TaskValidationError, match="the name of a group"):
        cloaca.group(name)


def test_u1_empty_group_has_nothing_to_wait_for():
    def build():
        with cloaca.WorkflowBuilder("groups"):
            with cloaca.group("g") as g:
                pass
            cloaca.task(id="after", dependencies=[g])(nothing)

    with pytest.raises(cloaca.WorkflowValidationError, match="group 'g' has no tasks"):
        build()


def test_u1_two_groups_of_one_name_are_refused():
    def build():
        with cloaca.WorkflowBuilder("groups"):
            with cloaca.group("g"):
                define("a")
            with cloaca.group("g"):
                define("b")

    with pytest.raises(cloaca.WorkflowValidationError, match="two groups or tasks"):
        build()


def test_u1_group_that_needs_itself_is_a_cycle():
    def build():
        with cloaca.WorkflowBuilder("groups"), cloaca.group("g") as g:
            define("a")
            cloaca.task(id="b", dependencies=[g])(nothing)

    with pytest.raises(cloaca.WorkflowValidationError, match=r"cycle|itself"):
        build()


def test_u1_workflow_without_groups_has_the_version_of_before():
    def version(with_group):
        with cloaca.WorkflowBuilder("groups") as builder:
            if with_group:
                with cloaca.group("g"):
                    define("a")
            else:
                define("g.a")
        return builder.build().version

    assert version(True) == version(False)
