"""Bad input is refused at the API, with the right exception class, and has no partial effect."""

from __future__ import annotations

import textwrap

import pytest

import cloaca
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
def test_a_url_that_cannot_be_read_is_refused(url, error, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=text):
        cloaca.DefaultRunner(url)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(cloaca.DatabaseError, match="missing"):
        cloaca.DefaultRunner(f"sqlite:///{tmp_path}/missing/x.db")
    assert list(tmp_path.iterdir()) == []


def test_a_directory_as_database_is_refused(tmp_path):
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


def test_an_unwritable_path_is_refused(tmp_path, script):
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


def test_a_path_without_write_permission_is_refused():
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
def test_b1_a_value_that_is_not_json_names_its_key(value, error):
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
