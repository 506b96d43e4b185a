"""Several programs run the tasks of one workflow."""

from __future__ import annotations

import time

import pytest

import cloaca
from cloaca._workflows.registry import registry

OWNER = """
    import sys
    import cloaca

    with cloaca.WorkflowBuilder("shared"):

        @cloaca.task
        def load(context):
            context["n"] = 20

        double = cloaca.external_task("double", dependencies=[load], retry_attempts=4, timeout=60)

        @cloaca.task(dependencies=[double])
        def report(context):
            context["report"] = f"n is {context['n']}"

    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        handle = runner.submit("shared")
        print(handle.id, flush=True)
        print(handle.result(timeout=60).final_context.to_json(), flush=True)
"""


@pytest.fixture(autouse=True)
def forget_served_tasks():
    """Removes a test's handlers after the test, so that runners of later tests do not use them."""
    yield
    registry._served.clear()


def refused_workflow(runner: cloaca.DefaultRunner) -> str:
    """Registers a workflow that has an external task, and returns the workflow's name."""
    with cloaca.WorkflowBuilder("refused"):
        cloaca.external_task("double", timeout=60)
        cloaca.task(id="own")(lambda context: None)
    runner._catch_up()
    return "refused"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_task_of_another_programs_workflow_runs_in_this_program(database, script, kind):
    ran_here = []
    if kind == "sync":

        @cloaca.task(workflow="shared")
        def double(context, handle):
            ran_here.append(handle.execution_id)
            context["n"] *= 2

    else:

        @cloaca.task(workflow="shared", id="double", dependencies=["load"])
        async def other(context, handle):
            ran_here.append(handle.execution_id)
            context["n"] *= 2

    with cloaca.DefaultRunner(database) as runner:
        owner = script(OWNER, database)
        execution_id = owner.stdout.readline().strip()
        out, err = owner.communicate(timeout=60)
        assert (out, err) == ('{"n":40,"report":"n is 40"}\n', "")
        assert ran_here == [execution_id]
        # This program can also submit the workflow, but has no handlers for the other tasks.
        handle = runner.submit("shared")
        with pytest.raises(TimeoutError):
            handle.result(timeout=0.1)
        handle.cancel()


def test_program_that_also_defines_the_workflow_runs_the_external_task(database, script):
    worker = script(
        """
        import sys
        import cloaca

        with cloaca.WorkflowBuilder("shared"):

            @cloaca.task
            def double(context):
                context["n"] *= 2

        with cloaca.DefaultRunner(sys.argv[1]) as runner:
            print("ready", flush=True)
            runner.run_forever()
        """,
        database,
    )
    assert worker.stdout.readline() == "ready\n"
    owner = script(OWNER, database)
    out, err = owner.communicate(timeout=60)
    assert (out.splitlines()[1], err) == ('{"n":40,"report":"n is 40"}', "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"id": "dobule"}, "has no external task 'dobule'"),
        ({"id": "own"}, "'own' of workflow 'refused' is not an external task"),
        ({"id": "double", "timeout": 5}, "has timeout .us. 60000000 .* declared with 5000000"),
        ({"id": "double", "dependencies": ["own"]}, "has dependencies .* declared with .own."),
        ({"id": "double", "retry_attempts": 9}, "has retry policy .* declared with"),
        ({"id": "double", "priority": 3}, "has priority none .* declared with 3"),
        ({"id": "double", "trigger_rule": "always"}, "has trigger rule .* declared with .always"),
    ],
)
def test_a_task_that_contradicts_the_definition_is_refused(database, options, message):
    with cloaca.DefaultRunner(database) as runner:
        workflow = refused_workflow(runner)
        cloaca.task(workflow=workflow, **options)(lambda context: None)
        with pytest.raises(cloaca.TaskValidationError, match=message) as caught:
            runner.submit(workflow)
        assert caught.value.code == "task_invalid"
        assert caught.value.hint
        with pytest.raises(cloaca.TaskValidationError, match=message):
            cloaca.DefaultRunner(database)


def test_task_with_the_declared_options_is_accepted(database):
    with cloaca.DefaultRunner(database) as runner:
        workflow = refused_workflow(runner)

        @cloaca.task(workflow=workflow, timeout=60)
        def double(context):
            context["n"] = 2

        assert runner.execute(workflow).final_context == {"n": 2}


def test_task_is_not_run_if_a_later_definition_contradicts_it(database, script, caplog):
    @cloaca.task(workflow="shared", id="double", timeout=5)
    def double(context):
        raise AssertionError("it must not run")

    with cloaca.DefaultRunner(database) as runner:
        owner = script(OWNER.replace("timeout=60).final", "timeout=1).final"), database)
        execution_id = owner.stdout.readline().strip()
        _, err = owner.communicate(timeout=60)
        assert "WaitTimeoutError" in err
        status = runner.get_execution(execution_id).tasks["double"].status
        assert status == "Ready"
        # Waits for the log record, because a separate thread logs it.
        until = time.monotonic() + 20
        warning = "this runner does not run a task"
        while not any(warning in record.getMessage() for record in caplog.records):
            assert time.monotonic() < until, caplog.text
            time.sleep(0.01)


@pytest.mark.parametrize("option", ["on_success", "on_failure"])
def test_hint_for_a_callback_names_the_program_that_calls_it(option):
    with pytest.raises(TypeError, match=rf"{option}.*\nhint: .*only that program can call"):
        cloaca.external_task("resize", **{option: print})


def test_workflow_option_of_a_task_must_be_a_name():
    for name in (3, "", "a b", "nul \0"):
        with pytest.raises(
            cloaca.TaskValidationError, match="workflow must be the name of a workflow"
        ):
            cloaca.task(id="x", workflow=name)(lambda context: None)
    with (
        pytest.raises(cloaca.TaskValidationError, match="is in the block of 'here'"),
        cloaca.WorkflowBuilder("here"),
    ):
        cloaca.task(id="x", workflow="there")(lambda context: None)
    with cloaca.WorkflowBuilder("here") as builder:
        cloaca.task(id="x", workflow="here")(lambda context: None)
    assert builder.build().tasks == ["x"]
