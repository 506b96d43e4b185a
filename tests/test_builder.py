"""Tests of the workflow builder (semantics A)."""

from __future__ import annotations

import asyncio
import functools
import threading
import xml.dom.minidom

import pytest

import cloaca
from cloaca._workflows.registry import registry


def nothing(context):
    pass


def diamond(name="diamond", **keywords):
    builder = cloaca.WorkflowBuilder(name, **keywords)
    with builder:

        @cloaca.task
        def root(context):
            pass

        @cloaca.task(dependencies=[root])
        def left(context):
            pass

        @cloaca.task(dependencies=["root"])
        def right(context):
            pass

        @cloaca.task(dependencies=[left, "right"])
        def join(context):
            pass

    return builder


def test_a1_a_workflow_describes_its_tasks_and_graph():
    builder = diamond()
    assert builder.description("a diamond") is builder
    assert builder.tag("team", "data") is builder
    workflow = builder.build()
    assert (workflow.name, workflow.description, workflow.tags) == (
        "diamond",
        "a diamond",
        {"team": "data"},
    )
    assert len(workflow.version) == 16
    assert workflow.tasks == ["root", "left", "right", "join"]
    assert workflow.dependencies["join"] == ["left", "right"]
    assert workflow.topological_sort() == [
        f"public::embedded::diamond::{task}" for task in workflow.tasks
    ]
    assert [len(level) for level in workflow.get_execution_levels()] == [1, 2, 1]
    assert workflow.get_roots() == ["public::embedded::diamond::root"]
    assert workflow.get_leaves() == ["public::embedded::diamond::join"]
    assert workflow.can_run_parallel("left", "right")
    assert not workflow.can_run_parallel("root", "public::embedded::diamond::join")
    workflow.validate()
    assert "diamond" in repr(workflow)


def test_a1_tenant_and_package_are_parts_of_full_names():
    workflow = diamond("named", tenant="acme", package="jobs", workflow="named").build()
    assert workflow.get_roots() == ["acme::jobs::named::root"]


def test_a1_dependencies_and_rules_can_use_full_task_names():
    with cloaca.WorkflowBuilder("fully", tenant="acme") as builder:
        cloaca.task(id="first")(lambda context: None)
        failed = cloaca.any_of("always", cloaca.task_failed("acme::embedded::fully::first"))
        last = cloaca.task(
            id="last", dependencies=["acme::embedded::fully::first"], trigger_rule=failed
        )
        last(lambda context: None)
    assert builder.build().dependencies == {"first": [], "last": ["first"]}
    of_another = cloaca.task(id="last", dependencies=["acme::embedded::fully::first"])(
        lambda context: None
    )
    elsewhere = cloaca.WorkflowBuilder("fully").add_task(of_another)
    with pytest.raises(cloaca.WorkflowValidationError, match="'acme::embedded::fully::first'"):
        elsewhere.build()


@pytest.mark.parametrize("name", ["", "a b", "a::b", "x" * 256, "é", 3, None])
def test_a1_a_bad_name_is_refused(name):
    with pytest.raises(cloaca.WorkflowValidationError):
        cloaca.WorkflowBuilder(name).add_task(cloaca.task(nothing)).build()


def test_a1_invalid_tag_description_or_workflow_name_is_refused():
    builder = cloaca.WorkflowBuilder("w")
    with pytest.raises(cloaca.WorkflowValidationError, match="'team'"):
        builder.tag("team", 3)
    with pytest.raises(cloaca.WorkflowValidationError, match="int"):
        builder.description(3)
    with pytest.raises(cloaca.WorkflowValidationError, match="'other'"):
        cloaca.WorkflowBuilder("w", workflow="other")


def test_the_graph_is_drawn_for_notebooks():
    with cloaca.WorkflowBuilder("drawn") as builder:
        first = cloaca.external_task("a <&> b")
        cloaca.task(id="b" * 60, dependencies=[first])(nothing)
    html = builder.build()._repr_html_()
    svg = html[html.index("<svg") : html.index("</svg>") + 6]
    drawn = xml.dom.minidom.parseString(svg)
    assert len(drawn.getElementsByTagName("rect")) == 2
    assert len(drawn.getElementsByTagName("path")) == 2
    assert "a &lt;&amp;&gt; b" in svg
    assert "flowchart" in builder.build().to_mermaid()
    assert "digraph" in builder.build().to_dot()


def test_graph_too_large_to_draw_is_summarised():
    builder = cloaca.WorkflowBuilder("large")
    with builder:
        for number in range(300):
            cloaca.task(id=f"t{number}")(nothing)
    assert "300 tasks" in builder.build()._repr_html_()


def test_tasks_defined_outside_a_block_are_added_by_id_or_function():
    @cloaca.task(id="loose_one")
    def one(context):
        pass

    @cloaca.task(id="loose_two", dependencies=[one])
    def two(context):
        pass

    builder = cloaca.WorkflowBuilder("from_loose").add_task("loose_one").add_task(two)
    assert builder.build().dependencies["loose_two"] == ["loose_one"]


def test_a2_add_task_refuses_anything_but_a_task():
    builder = cloaca.WorkflowBuilder("refuses")
    cloaca.task(id="known_task")(nothing)
    with pytest.raises(ValueError, match="Task 'knwon_task' not found in registry") as caught:
        builder.add_task("knwon_task")
    assert "known_task" in caught.value.hint
    with pytest.raises(ValueError, match="Task 'print' not found in registry"):
        builder.add_task(print)
    with pytest.raises(ValueError, match="either a string task ID or a function object"):
        builder.add_task(3)


def test_a2_duplicate_task_id_is_refused_at_its_line():
    with cloaca.WorkflowBuilder("twice"):
        cloaca.task(id="a")(nothing)
        with pytest.raises(cloaca.WorkflowValidationError, match=r"'twice'.*'a'"):
            cloaca.task(id="a")(nothing)


def test_adding_a_task_of_the_block_again_changes_nothing():
    with cloaca.WorkflowBuilder("explicit") as builder:
        builder.add_task(cloaca.task(id="a")(nothing))
    assert builder.build().tasks == ["a"]


def test_a2_dependency_on_a_function_of_several_tasks_needs_an_id():
    with cloaca.WorkflowBuilder("several"):
        cloaca.task(id="a")(nothing)
        cloaca.task(id="b")(nothing)
        with pytest.raises(cloaca.TaskValidationError, match="several tasks: a, b"):
            cloaca.task(id="c", dependencies=[nothing])(nothing)


def test_function_as_dependency_means_its_task_of_the_same_workflow():
    def shared(context):
        pass

    with cloaca.WorkflowBuilder("first"):
        cloaca.task(id="one")(shared)
    with cloaca.WorkflowBuilder("second") as builder:
        cloaca.task(id="two")(shared)
        cloaca.task(id="end", dependencies=[shared])(nothing)
    with cloaca.WorkflowBuilder("third"):
        cloaca.task(id="three")(shared)
    assert builder.build().dependencies["end"] == ["two"]


def test_wrapper_and_wrapped_function_are_separate_tasks():
    def inner(context):
        pass

    with cloaca.WorkflowBuilder("wrapped") as builder:
        cloaca.task(id="inner")(inner)
        wrapper = functools.wraps(inner)(lambda context: inner(context))
        cloaca.task(id="wrapper", dependencies=[inner])(wrapper)
        cloaca.task(id="end", dependencies=[inner, wrapper])(nothing)
    assert builder.build().dependencies["end"] == ["inner", "wrapper"]


def test_a2_an_empty_workflow_is_refused():
    with pytest.raises(ValueError, match="Workflow cannot be empty"):
        cloaca.WorkflowBuilder("empty").build()


def test_a2_a_rule_that_names_an_unknown_task_is_refused():
    builder = cloaca.WorkflowBuilder("rule")
    builder.add_task(cloaca.task(id="load")(nothing))
    builder.add_task(cloaca.task(id="end", trigger_rule=cloaca.task_failed("lod"))(nothing))
    with pytest.raises(ValueError, match="'lod'") as caught:
        builder.build()
    assert "load" in caught.value.hint


def test_nested_blocks_keep_their_tasks_apart():
    with cloaca.WorkflowBuilder("outer") as outer:
        cloaca.task(id="before")(nothing)
        with cloaca.WorkflowBuilder("inner") as inner:
            cloaca.task(id="inside")(nothing)
        cloaca.task(id="after")(nothing)
    assert outer.build().tasks == ["before", "after"]
    assert inner.build().tasks == ["inside"]
    assert registry.current_builder() is None


def test_blocks_of_threads_and_coroutines_keep_their_tasks_apart():
    meet = threading.Barrier(4)
    builders = {}

    def define(name):
        with cloaca.WorkflowBuilder(name) as builders[name]:
            meet.wait(10)
            cloaca.task(id=name)(nothing)
            meet.wait(10)

    threads = [threading.Thread(target=define, args=(f"thread{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    async def define_async(name):
        with cloaca.WorkflowBuilder(name) as builders[name]:
            await asyncio.sleep(0)
            cloaca.task(id=name)(nothing)
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(*(define_async(f"coroutine{n}") for n in range(4)))

    asyncio.run(main())
    assert len(builders) == 8
    for name, builder in builders.items():
        assert builder.build().tasks == [name]


def names():
    return {workflow.name for workflow in registry.workflows_since(0)[1]}


def test_a3_a_block_that_raises_registers_nothing():
    def define():
        with cloaca.WorkflowBuilder("never_registered"):
            cloaca.task(id="a")(nothing)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        define()
    assert "never_registered" not in names()
    assert registry.current_builder() is None


def test_a3_build_alone_registers_nothing():
    cloaca.WorkflowBuilder("only_built").add_task(cloaca.task(nothing)).build()
    assert "only_built" not in names()


def test_a3_a_constructor_registers_its_workflow():
    def construct():
        return cloaca.WorkflowBuilder("constructed").add_task(cloaca.task(nothing)).build()

    cloaca.register_workflow_constructor("constructed", construct)
    assert "constructed" in names()
    with pytest.raises(ValueError, match=r"'other'.*'constructed'"):
        cloaca.register_workflow_constructor("other", construct)
    with pytest.raises(ValueError, match="NoneType"):
        cloaca.register_workflow_constructor("other", lambda: None)
    with pytest.raises(ValueError, match="function"):
        cloaca.register_workflow_constructor("other", 3)


def test_unknown_workflow_is_explained_while_builders_are_made():
    class Unknown(cloaca.WorkflowNotFoundError):
        """An error whose message, when read, notes a new builder, as another thread could do."""

        @property
        def message(self):
            registry.note_builder(f"made_{len(registry._unregistered)}")
            return "workflow 'never_registered' is not known"

        @message.setter
        def message(self, text):
            pass

    cloaca.WorkflowBuilder("never_registered")
    before = set(registry._unregistered)
    error = Unknown("")
    registry.explain_unknown(error)
    assert "WorkflowBuilder('never_registered') was made" in error.hint
    registry._unregistered &= before - {"never_registered"}


def test_warning_names_tasks_that_read_a_loop_variable(caplog):
    with cloaca.WorkflowBuilder("w"):
        for region in ("north", "south", "east"):

            @cloaca.task(id=f"load_{region}")
            def load(context):
                context[region] = 1  # noqa: B023

    (record,) = caplog.records
    assert "tasks 'load_north' and 'load_south' read the variable 'region'" in record.message
    assert "def load(context, region=region)" in record.message


def test_tasks_with_their_own_values_cause_no_warning(caplog):
    def make(region, shared):
        @cloaca.task(id=f"made_{region}")
        def load(context):
            context[region] = shared

    shared = ["x"]
    with cloaca.WorkflowBuilder("w"):
        for region in ("north", "south"):
            make(region, shared)

            @cloaca.task(id=f"bound_{region}")
            def load(context, region=region):
                context[region] = shared
                context.region = region

    assert caplog.records == []


def test_warning_names_tasks_that_read_a_loop_variable_of_a_module(tmp_path, caplog):
    code = """
import cloaca
with cloaca.WorkflowBuilder("w"):
    for get in (1, 2):
        cloaca.task(id=f"attribute_{get}")(lambda context: context.get("x"))
    for number in (1, 2):
        @cloaca.task(id=f"t{number}")
        def work(context):
            context["number"] = number
"""
    exec(compile(code, str(tmp_path / "module.py"), "exec"), {"__name__": "module"})
    (record,) = caplog.records
    assert "tasks 't1' and 't2' read the variable 'number'" in record.message
