"""The command line: commands about schedules and triggers."""

from __future__ import annotations

import signal

import pytest

import cloaca
from cli_support import PATIENCE, PIPELINE, short


def test_schedules_and_workflows_list_by_default(shell, schedule):
    for group in ("schedules", "workflows"):
        assert shell.run(group) == shell.run(group, "list")
        assert shell.json(group) == shell.json(group, "list") != []
    assert shell.json("schedules", "--enabled")[0]["id"] == schedule
    assert "Commands:" in shell.run("schedules", "--help")[0]


def test_schedules_are_listed_and_shown(shell, schedule):
    head, row = shell.run("schedules", "list")[0].splitlines()
    assert head.split() == ["ID", "WORKFLOW", "EXPRESSION", "TIMEZONE", "STATE", "NEXT", "LAST"]
    assert row.startswith(f"{schedule}  etl")
    (listed,) = shell.json("schedules", "list")
    assert listed["id"] == schedule
    assert listed["cron_expression"] == "30 2 1 1 *"
    shown = shell.json("schedules", "show", schedule)
    assert shown == {**listed, "history": []}
    lines = shell.run("schedules", "show", schedule)[0].splitlines()
    assert "timezone  Europe/Berlin" in lines


def test_schedules_and_expressions_are_previewed(shell, bare, schedule):
    of_schedule = shell.json("schedules", "preview", schedule, "-n", "2")
    assert [time[4:] for time in of_schedule] == ["-01-01T02:30:00+01:00"] * 2
    same = bare.json("schedules", "preview", "30 2 1 1 *", "--timezone", "Europe/Berlin", "-n", "2")
    assert same == of_schedule
    assert bare.run("schedules", "preview", "@hourly", "-n", "1")[0].endswith(":00:00+00:00\n")
    _, errors = bare.run("schedules", "preview", "61 * * * *", status=1)
    assert "61" in errors
    bare.run("schedules", "preview", schedule, "--timezone", "UTC", status=2)


def test_preview_finds_a_schedule_whose_instance_name_has_spaces(shell, bare, schedule):
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        runner.register_cron_workflow("etl", "15 3 2 1 *", instance_name="every night @ home")
    shown = shell.json("schedules", "show", "every night @ home")
    assert shown["instance_name"] == "every night @ home"
    (time,) = shell.json("schedules", "preview", "every night @ home", "-n", "1")
    assert time[4:] == "-01-02T03:15:00+00:00"
    _, errors = shell.run("schedules", "preview", "every day @ home", status=1)
    assert "every day @ home" in errors
    missing = f"sqlite:///{bare.folder / 'missing.db'}"
    _, errors = bare.run("schedules", "preview", "61 * * * *", "-c", missing, status=1)
    assert "61" in errors
    assert "missing.db" not in errors


def test_schedule_is_disabled_enabled_run_and_deleted(shell, schedule):
    assert shell.run("schedules", "disable", schedule)[0] == f"{schedule}  disabled\n"
    assert shell.json("schedules", "list", "--enabled") == []
    told = shell.run("explain", schedule)[0]
    assert told.startswith(f"Schedule {schedule} is disabled: it starts no execution of workflow")
    execution = shell.json("schedules", "run-now", schedule)["execution_id"]
    assert shell.json("show", execution)["status"] == "Pending"
    off = (
        f"Schedule {schedule}, which started this execution, is disabled: "
        "it starts no more executions."
    )
    assert off in shell.json("explain", execution)["reasons"]
    assert shell.json("schedules", "enable", schedule)["enabled"]
    assert not shell.json("schedules", "disable", schedule)["enabled"]
    enabled, _ = shell.run("schedules", "enable", schedule)
    assert enabled.startswith(f"{schedule}  enabled, next at ")
    assert "starts workflow 'etl' at its next time" in shell.run("explain", schedule)[0]
    assert shell.json("explain", schedule)["schedule_id"] == schedule

    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        assert runner.get_execution(execution).workflow_name == "etl"
    worker = shell.start("worker", "pipeline.py")
    assert shell.json("watch", execution)["status"] == "Completed"
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=PATIENCE)
    context = shell.json("show", execution)["final_context"]
    assert context["schedule_id"] == schedule
    assert context["total"] == 6

    (run,) = shell.json("schedules", "show", schedule)["history"]
    assert (run["outcome"], run["workflow_execution_id"]) == ("fired", execution)
    assert execution in shell.run("schedules", "show", schedule)[0]
    assert shell.run("schedules", "delete", schedule)[0] == f"{schedule}  deleted\n"
    assert shell.json("schedules", "list") == []
    assert "there are no schedules" in shell.run("schedules", "list")[1]
    assert "was deleted at" in shell.run("explain", schedule)[0]
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        other = runner.register_cron_workflow("etl", "0 0 2 2 *")
    by_hand = shell.run("schedules", "run-now", other)[0].strip()
    assert shell.json("show", by_hand)["workflow_name"] == "etl"
    assert shell.json("schedules", "delete", other) == {"deleted": other}


@pytest.mark.parametrize("command", ["show", "preview", "enable", "disable", "run-now", "delete"])
def test_error_names_the_unknown_schedule(shell, command):
    shell.run("db", "migrate")
    unknown = "0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"
    _, errors = shell.run("schedules", command, unknown, status=1)
    assert f"there is no schedule {unknown}" in errors


def test_triggers_are_listed_shown_disabled_and_enabled(shell):
    (shell.folder / "polls.py").write_text(
        PIPELINE
        + """
@cloaca.trigger(name="new_file", on="etl", poll_interval="1h")
def new_file():
    return cloaca.TriggerResult.skip()
"""
    )
    worker = shell.start("worker", "polls")
    while "serving workflows of" not in worker.stderr.readline():
        pass
    (listed,) = shell.json("schedules")
    assert (listed["kind"], listed["name"]) == ("trigger", "new_file")
    assert "every 3600 s" in shell.run("schedules")[0]
    for reference in ("new_file", listed["id"], short(listed["id"])):
        assert shell.json("schedules", "show", reference)["id"] == listed["id"]
        assert "new_file" in shell.run("explain", reference)[0]
    assert shell.run("schedules", "disable", "new_file")[0] == f"{listed['id']}  disabled\n"
    assert not shell.json("schedules", "show", "new_file")["enabled"]
    assert shell.json("schedules", "--enabled") == []
    assert shell.json("schedules", "enable", listed["id"])["enabled"]
    _, errors = shell.run("schedules", "delete", "new_file", status=1)
    assert "'new_file' is a trigger: it cannot be deleted" in errors
    _, errors = shell.run("schedules", "show", "nothing", status=1)
    assert "there is no schedule or trigger 'nothing'" in errors
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=PATIENCE)
