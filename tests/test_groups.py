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


def test_u1_tasks_of_a_group_get_its_prefix_and_its_dependencies():
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


def test_u1_groups_can_be_nested():
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


def test_u1_dependency_on_a_group_includes_its_external_tasks():
    with cloaca.WorkflowBuilder("groups") as builder:
        with cloaca.group("first") as first:
            assert cloaca.external_task("a") == "first.a"
            define("b")
        with cloaca.group("second", dependencies=[first]):
            define("c")
    assert dependencies(builder)["second.c"] == ["first.a", "first.b"]


def test_u1_name_inside_a_group_means_the_nearest_task():
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


def rule_of(builder, task):
    """Returns a task's rule in the form in which the engine receives it."""
    return builder.build()._definitions[task].to_definition()["rule"]


def test_u1_trigger_rule_names_tasks_without_the_prefix():
    with cloaca.WorkflowBuilder("rules_in_group") as builder:
        define("rows")
        with cloaca.group("section"):
            cloaca.task(id="rows", retry_attempts=1)(broken)
            define("b")
            with cloaca.group("inner"):
                rule = cloaca.all_of(
                    cloaca.any_of(cloaca.task_failed("rows"), "all_done"),
                    cloaca.none_of(cloaca.task_skipped("public::embedded::rules_in_group::rows")),
                )
                cloaca.task(id="repair", trigger_rule=rule)(nothing)
        with cloaca.group("other", dependencies=["section"]):
            cloaca.task(id="last", trigger_rule=cloaca.task_success("rows"))(nothing)
    assert rule_of(builder, "section.inner.repair") == {
        "all_of": {
            "conditions": [
                {"any_of": {"conditions": [{"task_failed": {"task": "section.rows"}}, "all_done"]}},
                {"none_of": {"conditions": [{"task_skipped": {"task": "rows"}}]}},
            ]
        }
    }
    found = {task: sorted(befores) for task, befores in dependencies(builder).items()}
    assert found == {
        "rows": [],
        "section.rows": [],
        "section.b": [],
        "section.inner.repair": ["rows", "section.rows"],
        "other.last": ["rows", "section.b", "section.inner.repair"],
    }
    with VirtualRunner() as runner:
        result = runner.execute("rules_in_group").raise_for_status()
    assert result.tasks["section.inner.repair"].status == "Completed"


def broken():
    raise ValueError("x")


def unwanted(name):
    cloaca.task(id=name, trigger_rule=cloaca.context_value("wanted", "exists"))(nothing)


@pytest.mark.parametrize(
    ("ends", "rules"),
    [
        (["completed", "completed"], ["task_success"]),
        (["completed", "failed"], ["task_failed"]),
        (["completed", "skipped"], []),
        (["skipped", "skipped"], ["task_skipped"]),
    ],
)
def test_u1_trigger_rule_can_name_a_group(ends, rules):
    makers = {
        "completed": define,
        "failed": lambda name: cloaca.task(id=name, retry_attempts=1)(broken),
        "skipped": unwanted,
    }
    with cloaca.WorkflowBuilder("rules_of_group"):
        with cloaca.group("section") as section:
            for index, end in enumerate(ends):
                makers[end](f"t{index}")
        for name in ("task_success", "task_failed", "task_skipped"):
            rule = getattr(cloaca, name)(section if name == "task_success" else "section")
            cloaca.task(id=name, trigger_rule=rule)(nothing)
    with VirtualRunner() as runner:
        tasks = runner.execute("rules_of_group").tasks
    held = [name for name in tasks if name.startswith("task_") and tasks[name].status != "Skipped"]
    assert held == rules


def test_u1_rule_that_names_a_group_member_adds_a_dependency():
    with cloaca.WorkflowBuilder("rule_inside") as builder:
        define("before")
        with cloaca.group("g", dependencies=["before"]) as g:
            define("a")
            cloaca.task(id="b", trigger_rule=cloaca.task_success("a"))(nothing)
        cloaca.task(id="after", dependencies=[g])(nothing)
    assert dependencies(builder) == {
        "before": [],
        "g.a": ["before"],
        "g.b": ["g.a"],
        "after": ["g.b"],
    }


def test_u1_map_inside_a_group_depends_on_its_list_task():
    with cloaca.WorkflowBuilder("map_inside") as builder:
        with cloaca.group("g") as g:

            @cloaca.task
            def urls() -> list[str]:
                return ["a"]

            @cloaca.task(over="urls")
            def got(url: str) -> int:
                return len(url)

        cloaca.task(id="after", dependencies=[g])(nothing)
    assert dependencies(builder) == {
        "g.urls": [],
        "g.got": ["g.urls"],
        "after": ["g.got"],
    }


@pytest.mark.parametrize("reference", ["function", "urls", "g.urls"])
def test_u1_parameter_with_the_name_inside_the_group_receives_the_element(reference):
    with cloaca.WorkflowBuilder("element_inside") as builder, cloaca.group("g"):

        @cloaca.task
        def urls() -> list[str]:
            return ["a"]

        @cloaca.task(over=urls if reference == "function" else reference)
        def got(urls: str) -> int:
            return len(urls)

    assert dependencies(builder) == {"g.urls": [], "g.got": ["g.urls"]}


def test_u1_final_tasks_name_tasks_without_the_prefix():
    with cloaca.WorkflowBuilder("finals_in_group") as builder:
        with cloaca.group("g") as g:
            cloaca.task(id="one", final="always")(nothing)
            cloaca.task(id="two", final="always", dependencies=["one"])(nothing)
            rule = cloaca.task_success("two")
            cloaca.task(id="three", final="always", trigger_rule=rule)(nothing)
            define("a")
        cloaca.task(id="four", final="always", dependencies=[g])(nothing)
    finals = builder.build()._finals
    roles = {name: final.to_definition() for name, final in finals.items()}
    assert roles["g.two"]["dependencies"] == ["g.one"]
    assert roles["g.three"]["rule"] == {"task_success": {"task": "g.two"}}
    assert roles["four"]["dependencies"] == ["g.one", "g.two", "g.three"]
    with VirtualRunner() as runner:
        result = runner.execute("finals_in_group").raise_for_status()
    assert result.final is not None
    assert {str(task.status) for task in result.final.tasks.values()} == {"Completed"}


@pytest.mark.parametrize("of_group", [False, True])
def test_u1_final_task_undoes_a_task_or_a_whole_group(of_group):
    ran = []

    def note(name):
        cloaca.task(id=name)(lambda: ran.append(name))

    with cloaca.WorkflowBuilder("undone_in_group"):
        note("a")
        with cloaca.group("g") as g:
            cloaca.task(id="a")(lambda: ran.append("g.a"))
            note("b")
            undoes = [g] if of_group else ["a"]
            cloaca.task(id="undo", final="failure", undoes=undoes)(lambda: ran.append("undo"))
        cloaca.task(id="fail", retry_attempts=1, dependencies=[g, "a"])(broken)
    with VirtualRunner() as runner:
        handle = runner.submit("undone_in_group")
        assert handle.result().status == "Failed"
        assert sorted(ran) == ["a", "b", "g.a", "undo"]
        ran.clear()
        runner.retry_execution(handle.id)
        assert handle.result().status == "Failed"
    assert sorted(ran) == (["b", "g.a", "undo"] if of_group else ["g.a", "undo"])


def test_u1_final_task_cannot_depend_on_a_group_without_final_tasks():
    def build():
        with cloaca.WorkflowBuilder("final_after_group"):
            with cloaca.group("g") as g:
                define("a")
            cloaca.task(id="end", final="always", dependencies=[g])(nothing)

    with pytest.raises(cloaca.WorkflowValidationError, match="group 'g' has no final tasks"):
        build()


def test_u1_group_outside_of_a_workflow_is_refused():
    with pytest.raises(cloaca.WorkflowValidationError, match="group 'g' is outside"):
        cloaca.group("g").__enter__()


@pytest.mark.parametrize("name", ["", "a.b", 3])
def test_u1_group_name_must_be_a_string_without_dots(name):
    with pytest.raises(cloaca.TaskValidationError, match="the name of a group"):
        cloaca.group(name)


def test_u1_dependency_on_an_empty_group_is_refused():
    def build():
        with cloaca.WorkflowBuilder("groups"):
            with cloaca.group("g") as g:
                pass
            cloaca.task(id="after", dependencies=[g])(nothing)

    with pytest.raises(cloaca.WorkflowValidationError, match="group 'g' has no tasks"):
        build()


def test_u1_two_groups_with_the_same_name_are_refused():
    def build():
        with cloaca.WorkflowBuilder("groups"):
            with cloaca.group("g"):
                define("a")
            with cloaca.group("g"):
                define("b")

    with pytest.raises(cloaca.WorkflowValidationError, match="two groups or tasks"):
        build()


def test_u1_group_that_depends_on_itself_is_refused():
    def build():
        with cloaca.WorkflowBuilder("groups"), cloaca.group("g") as g:
            define("a")
            cloaca.task(id="b", dependencies=[g])(nothing)

    with pytest.raises(cloaca.WorkflowValidationError, match=r"cycle|itself"):
        build()


def test_u1_group_gives_the_same_version_as_full_task_names():
    def version(with_group):
        with cloaca.WorkflowBuilder("groups") as builder:
            if with_group:
                with cloaca.group("g"):
                    define("a")
            else:
                define("g.a")
        return builder.build().version

    assert version(True) == version(False)
