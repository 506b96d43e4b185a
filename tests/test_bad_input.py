"""The API refuses bad input with the right exception class, and a refused call has no effect."""

from __future__ import annotations

import asyncio
import textwrap

import pytest

import cloaca
import cloaca.web
from processes import DROP_RIGHTS


def nothing(context):
    pass


@pytest.mark.parametrize(
    ("url", "error", "text"),
    [
        ("mysql://root@localhost/db", cloaca.ConfigurationError, "mysql"),
        ("sqlite:///x.db?speed=fast", cloaca.ConfigurationError, "speed"),
        ("sqlite:///x.db?synchronous=never", cloaca.ConfigurationError, "never"),
        ("", cloaca.ConfigurationError, "URL"),
    ],
)
def test_an_invalid_database_url_is_refused(url, error, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=text):
        cloaca.DefaultRunner(url)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(cloaca.DatabaseError, match="missing"):
        cloaca.DefaultRunner(f"sqlite:///{tmp_path}/missing/x.db")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_as_database_is_refused(tmp_path):
    with pytest.raises(cloaca.DatabaseError, match=str(tmp_path)):
        cloaca.DefaultRunner(f"sqlite:///{tmp_path}")
    assert list(tmp_path.iterdir()) == []


def test_a_corrupt_file_is_refused_and_left_as_it_was(tmp_path):
    path = tmp_path / "corrupt.db"
    path.write_bytes(b"this is not a database " * 500)
    before = path.read_bytes()
    with pytest.raises(cloaca.DatabaseError, match=r"corrupt\.db"):
        cloaca.DefaultRunner(f"sqlite:///{path}")
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["corrupt.db"]


def test_a_folder_without_write_permission_is_refused(tmp_path, script):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    code = DROP_RIGHTS + textwrap.dedent(
        """
        import sys, cloaca
        try:
            cloaca.DefaultRunner(f"sqlite:///{sys.argv[1]}/x.db")
        except cloaca.DatabaseError as error:
            print(sys.argv[1] in str(error))
        """
    )
    assert script(code, str(closed)).communicate(timeout=60) == ("True\n", "")
    assert list(closed.iterdir()) == []


def test_a_file_that_cannot_be_created_is_refused():
    with pytest.raises(cloaca.DatabaseError, match="/proc"):
        cloaca.DefaultRunner("sqlite:////proc/x.db")


def test_an_unknown_workflow_is_refused_with_the_nearest_name(runner):
    with cloaca.WorkflowBuilder("nightly_report"):
        cloaca.task(id="a")(nothing)
    with pytest.raises(cloaca.WorkflowNotFoundError) as caught:
        runner.execute("nigthly_report")
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, KeyError)
    assert "nightly_report" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (object(), TypeError),
        (b"bytes", TypeError),
        ({1: 2}, TypeError),
        (float("nan"), ValueError),
        ([float("inf")], ValueError),
        ("\ud800", ValueError),
    ],
)
def test_b1_error_for_a_non_json_value_names_its_key(value, error):
    context = cloaca.Context()
    with pytest.raises(error, match="price"):
        context["price"] = value
    assert "price" not in context


def builder_with(*tasks):
    with cloaca.WorkflowBuilder("broken-definition"):
        for id, dependencies in tasks:
            cloaca.task(id=id, dependencies=dependencies)(nothing)


@pytest.mark.parametrize(
    ("tasks", "text"),
    [
        ([], "Workflow cannot be empty"),
        ([("a", []), ("a", [])], "'a'"),
        ([("extract", []), ("b", ["exract"])], "did you mean 'extract'"),
        ([("a", ["b"]), ("b", ["a"])], "a -> b -> a"),
        ([("a", ["a"])], "a -> a"),
    ],
)
def test_a2_a_broken_definition_is_refused_and_not_registered(runner, tasks, text):
    with pytest.raises(cloaca.WorkflowValidationError, match=text) as caught:
        builder_with(*tasks)
    assert isinstance(caught.value, ValueError)
    with pytest.raises(cloaca.WorkflowNotFoundError):
        runner.execute("broken-definition")


def test_a2_function_with_a_wrong_signature_is_refused():
    with pytest.raises(ValueError, match="too_many"), cloaca.WorkflowBuilder("signature"):

        @cloaca.task()
        def too_many(context, first, second):
            pass


def test_a3_with_block_passes_on_the_exception_of_its_body(runner):
    def define():
        with cloaca.WorkflowBuilder("half-defined"):
            cloaca.task(id="a")(nothing)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        define()
    with pytest.raises(cloaca.WorkflowNotFoundError):
        runner.execute("half-defined")


def test_a_closed_runner_refuses_work(database):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(nothing)
    runner = cloaca.DefaultRunner(database)
    handle = runner.submit("w")
    handle.result(timeout=10)
    runner.shutdown()
    runner.shutdown()
    with pytest.raises(cloaca.RunnerClosedError):
        runner.execute("w")


def test_a_refused_batch_starts_nothing(runner):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(nothing)
    with pytest.raises(cloaca.WorkflowNotFoundError):
        runner.submit_many([("w", None), ("unknown", None)])
    assert runner.list_executions().items == []


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda runner: runner.set_cron_schedule_enabled("an id", "false"), "enabled"),
        (lambda runner: runner.set_trigger_enabled("a name", "false"), "enabled"),
        (lambda runner: runner.list_cron_schedules(enabled_only="no"), "enabled_only"),
        (lambda runner: runner.list_trigger_schedules(enabled_only="no"), "enabled_only"),
        (lambda runner: runner.list_executions(children="no"), "children"),
        (lambda runner: runner.execute("w", check="no"), "check"),
        (lambda runner: runner.execute("w", progress="no"), "progress"),
        (lambda runner: asyncio.run(runner.execute_async("w", check="no")), "check"),
        (lambda runner: runner.submit("w").result(wait_final="no"), "wait_final"),
        (lambda runner: cloaca.CronSchedule("w", "@hourly", enabled="no"), "enabled"),
        (
            lambda runner: cloaca.DatabaseAdmin("postgresql://x").remove_tenant("a", "a", force=1),
            "force",
        ),
        (lambda runner: cloaca.web.serve(runner, no_token="no"), "no_token"),
        (lambda runner: cloaca.web.serve(runner, read_only="no"), "read_only"),
        (lambda runner: cloaca.web.wsgi(runner, authorize=print, trust_proxy=1), "trust_proxy"),
    ],
)
def test_error_for_a_non_boolean_flag_names_the_flag(call, name, runner):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(nothing)
    with pytest.raises(ValueError, match=f"{name} must be True or False, not ('|1)") as caught:
        call(runner)
    assert isinstance(caught.value, (cloaca.ConfigurationError, cloaca.ScheduleError))


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("get_execution", ()),
        ("get_execution_status", ()),
        ("events", ()),
        ("children", ()),
        ("explain", ()),
        ("logs", ()),
        ("cancel_execution", ()),
        ("pause_execution", ()),
        ("resume_execution", ()),
        ("retry_execution", ()),
        ("items", ("a",)),
        ("approve", ("a",)),
        ("reject", ("a",)),
    ],
)
def test_error_for_an_execution_id_of_a_wrong_type_names_it(method, arguments, cloaca_runner):
    with pytest.raises(cloaca.ConfigurationError, match=r"execution_id must be .*, not NoneType"):
        getattr(cloaca_runner, method)(None, *arguments)


def test_handle_as_an_id_is_refused_with_a_hint(cloaca_runner):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(nothing)
    with pytest.raises(cloaca.ConfigurationError, match=r"hint: pass handle\.id"):
        cloaca_runner.events(cloaca_runner.submit("w"))


@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ({"tags": "x"}, "tags must be a mapping, not str"),
        ({"tags": {"a": 1}}, "tags must be strings: tag 'a' has the value 1"),
        ({"input": "x"}, "input must be a mapping, not str"),
        ({"workflow": 3}, "workflow must be a string, not int"),
        ({"status": 3}, "unknown status 3"),
        ({"cursor": 3}, "cursor must be a string, not int"),
        ({"schedule": 3}, "schedule must be a string, not int"),
        ({"runner": 3}, "runner must be a string, not int"),
    ],
)
def test_error_for_a_filter_of_a_wrong_type_names_it(filters, text, cloaca_runner):
    with pytest.raises(cloaca.ConfigurationError, match=text):
        cloaca_runner.list_executions(**filters)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda runner: runner.waits(kind=3), "kind must be a string, not int"),
        (lambda runner: runner.send("paid", to=3), "to must be an id or a handle, not int"),
        (lambda runner: runner.approve("x", 3), "task_id must be a string, not int"),
        (lambda runner: runner.reject("x", "a", by=3), "by must be a string, not int"),
        (lambda runner: runner.retry_execution("x", 3), "from_task must be the id or the function"),
        (lambda runner: runner.retry_execution("x", None, 3), "from_step must be a string"),
        (lambda runner: runner.add_cron_schedule("x"), "schedule must be a CronSchedule, not str"),
    ],
)
def test_error_for_an_argument_of_a_wrong_type_names_it(call, text, cloaca_runner):
    with pytest.raises(ValueError, match=text):
        call(cloaca_runner)


def test_progress_that_is_not_a_number_is_refused(cloaca_runner):
    errors = []

    def report(context, handle):
        for call in (lambda: handle.heartbeat("x"), lambda: handle.set_progress("a", 2)):
            with pytest.raises(cloaca.TaskValidationError) as caught:
                call()
            errors.append(caught.value.message)

    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(report)
    cloaca_runner.execute("w", check=True)
    assert errors == [
        "task 'a': progress must be a number, not 'x'",
        "task 'a': progress must be 0 <= done <= total, not 'a' of 2",
    ]
