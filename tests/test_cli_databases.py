"""The command line: commands about databases, tenants and workflows, and error messages."""

from __future__ import annotations

import contextlib
import os
import sqlite3

import pytest

from cli_support import UNKNOWN


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["run", "pipeline"], 2, "the workflow is missing in 'pipeline'\nhint: give pipeline:"),
        (["run", "pipeline:etl", "--context", "[1]"], 2, "not a JSON object"),
        (["run", "pipeline:etl", "--context", "@missing.json"], 2, "cannot be read"),
        (["run", "missing:etl"], 1, "no module 'missing'"),
        (["run", "pipeline:elt"], 1, "defines no workflow 'elt'\nhint: did you mean 'etl'?"),
        (["run", "pipeline:not_a_workflow"], 1, "defines no workflow"),
        (["run", "broken:etl"], 1, "ZeroDivisionError: division by zero"),
        (["run", "leaves:etl"], 1, "module 'leaves' cannot be imported: SystemExit: 7"),
        (["run", "wrong:etl"], 1, "on unknown task 'b' ({folder}/wrong.py:5)\nhint: "),
        (["worker", "pipeline:missing"], 1, "has no attribute 'missing'"),
        (["worker", "setup:fail"], 1, "'fail' of module 'setup' failed: ValueError: no way ("),
        (["show", "0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"], 1, "does not exist"),
        (["shwo", "x"], 2, "Did you mean 'show'?"),
        (["list", "--limit", "0"], 2, "--limit"),
        (["list", "--since", "yesterday"], 2, "neither a time nor a span"),
        (["run", ":etl"], 2, "the module's name is missing in ':etl'\nhint: give MODULE:etl\n"),
        (["worker", ":etl"], 2, "the module's name is missing"),
        (["check", ":etl"], 2, "the module's name is missing"),
        (["run", "pipeline:"], 2, "missing in 'pipeline:'\nhint: give pipeline:WORKFLOW\n"),
        (["run", "pipeline:etl", "--priority", "99999"], 2, "-32768<=x<=32767"),
        (["run", "pipeline:etl", "--timeout", "0"], 2, "'0' is not greater than zero"),
        (["run", "pipeline:etl", "--key", ""], 2, "key must have 1 to 512 characters"),
        (["submit", "etl", "--priority", "-32769"], 2, "-32768<=x<=32767"),
        (["submit", "etl", "--timeout", "0s"], 2, "'0s' is not greater than zero"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_are_shown_without_a_traceback(bare, arguments, status, told):
    (bare.folder / "broken.py").write_text("1 / 0")
    (bare.folder / "leaves.py").write_text("raise SystemExit(7)")
    (bare.folder / "setup.py").write_text("def fail():\n    raise ValueError('no way')")
    (bare.folder / "wrong.py").write_text(
        """
import cloaca


with cloaca.WorkflowBuilder("etl"):
    cloaca.task(id="a", dependencies=["b"])(lambda context: None)
"""
    )
    url = f"sqlite:///{bare.folder / 'test.db'}"
    _, errors = bare.run(*arguments, "-c", url, status=status)
    assert told.format(folder=bare.folder) in errors
    assert "Traceback" not in errors
    if arguments[0] == "show":
        assert not (bare.folder / "test.db").exists()


def test_database_url_errors_give_a_hint_and_hide_the_password(bare):
    _, errors = bare.run("list", status=2)
    assert "-c/--database" in errors
    assert "CLOACA_DATABASE_URL" in errors
    _, errors = bare.run("list", "-c", "mysql://u:secret@h/db", status=1)
    assert "secret" not in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", UNKNOWN],
        ["workflows", "list"],
        ["runners"],
        ["schedules", "list"],
        ["db", "status"],
        ["db", "check"],
        ["db", "prune"],
        ["cancel", UNKNOWN],
    ],
    ids=lambda arguments: "-".join(arguments[:2]),
)
def test_missing_database_is_an_error_and_is_not_created(bare, arguments):
    output, errors = bare.run(*arguments, "-c", "sqlite:///absent.db", status=1)
    assert output == "" or arguments == ["db", "status"]
    assert errors.startswith("error: ")
    assert not (bare.folder / "absent.db").exists()


def test_workflows_are_listed_and_shown(shell):
    shell.run("run", "pipeline:etl")
    known = {workflow["name"]: workflow for workflow in shell.json("workflows", "list")}
    assert known["etl"]["tags"] == {"team": "data"}
    output, _ = shell.run("workflows", "list")
    assert "Load the daily file" in output

    output, _ = shell.run("workflows", "show", "etl")
    assert "extract\n└─ total\n" in output
    assert "flowchart TD" in output
    document = shell.json("workflows", "show", "etl")
    assert document["dependencies"]["total"] == ["extract"]
    assert document["mermaid"].startswith("flowchart TD")
    _, errors = shell.run("workflows", "show", "elt", status=1)
    assert errors.startswith("error: there is no workflow 'elt'\nhint: did you mean 'etl'?")


def test_workflows_of_a_module_need_no_database(bare):
    output, _ = bare.run("workflows", "show", "etl", "--module", "pipeline", "--format", "dot")
    assert output.startswith('digraph "etl" {')
    assert len(bare.json("workflows", "list", "--module", "pipeline")) == 3


def test_db_commands_migrate_check_and_prune(shell):
    _, errors = shell.run("list", status=1)
    assert "cloaca db migrate" in errors
    if "sqlite" in shell.environment["CLOACA_DATABASE_URL"]:
        shell.run("db", "status", status=1)
    else:
        assert shell.json("db", "status", status=1)["pending"]
    version = shell.json("db", "migrate")["version"]
    assert shell.json("db", "status") == {"version": version, "pending": [], "up_to_date": True}
    output, _ = shell.run("db", "status")
    assert output == f"schema version {version}, up to date\n"
    assert shell.run("db", "migrate")[0].endswith(f"has the schema version {version}\n")

    shell.run("run", "pipeline:etl")
    checked = shell.json("db", "check")
    assert checked["sound"]
    assert checked["size_bytes"] > 0
    assert checked["schema_version"] == version
    assert "no problem was found" in shell.run("db", "check")[0]
    assert shell.json("db", "prune") == {"deleted": 0, "older_than_days": 30}
    output, _ = shell.run("db", "prune", "--older-than", "0")
    assert output == "deleted 1 execution that ended more than 0 days ago\n"
    assert shell.json("list")["items"] == []


def test_db_status_refuses_the_schema_of_a_newer_program(bare):
    path = bare.folder / "test.db"
    url = f"sqlite:///{path}"
    bare.run("db", "migrate", "-c", url)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("INSERT INTO cloacina_migrations VALUES ('99990101000000', 1)")
    output, errors = bare.run("db", "status", "-c", url, status=1)
    assert output == ""
    assert "the schema version 99990101000000, which is newer than this program knows" in errors
    document = bare.json("db", "status", "-c", url, status=1)
    assert document == {"version": "99990101000000", "pending": [], "up_to_date": False}


@pytest.mark.parametrize("command", [["check", "pipeline"], ["completion", "bash"]])
def test_commands_that_need_no_database_accept_the_database_option(bare, command):
    output, _ = bare.run(*command)
    url = f"sqlite:///{bare.folder / 'missing.db'}"
    assert bare.run(*command, "-c", url) == (output, "")
    assert not (bare.folder / "missing.db").exists()


def test_tenants_are_created_listed_and_removed(shell):
    url = shell.environment["CLOACA_DATABASE_URL"]
    if url.startswith("sqlite"):
        _, errors = shell.run("tenants", "list", status=1)
        assert "SQLite" in errors
        return
    name = f"acme_{os.getpid()}"
    made = shell.json("tenants", "create", name)
    assert made["schema_name"] == made["username"] == name
    listed = {"schema_name": name, "username": name}
    assert listed in shell.json("tenants", "list")
    assert name in shell.run("tenants", "list")[0]
    tenant = ("-c", made["connection_string"], "--schema", name)
    assert shell.json("run", "pipeline:etl", *tenant)["status"] == "Completed"
    assert shell.run("tenants", "remove", name)[0] == f"removed {name}\n"
    told = shell.run("tenants", "create", name)[0]
    assert f"schema_name  {name}\n" in told
    assert "password  " in told
    assert shell.json("tenants", "remove", name) == {"removed": name}
    assert listed not in shell.json("tenants", "list")
    _, errors = shell.run("tenants", "create", "a-b", status=1)
    assert "a-b" in errors
