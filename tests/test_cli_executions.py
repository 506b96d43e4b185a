"""The command line: commands that list, show and control executions."""

from __future__ import annotations

import re
import subprocess
import sys
import time

import pytest

import cloaca
from cli_support import PATIENCE, WIDTH, short


def test_list_filters_executions_and_returns_pages(shell):
    ids = [shell.json("run", "pipeline:etl")["execution_id"] for _ in range(2)]
    failed = shell.json("run", "pipeline:bad", status=1)["execution_id"]

    document = shell.json("list")
    assert [item["execution_id"] for item in document["items"]] == [failed, *reversed(ids)]
    assert document["next_cursor"] is None
    output, _ = shell.run("list", "--status", "failed")
    head, line = output.splitlines()
    assert head.split() == ["EXECUTION", "WORKFLOW", "STATUS", "SUBMITTED", "DURATION", "ERROR"]
    assert line.startswith(f"{failed}  bad")
    page = shell.json("list", "-w", "etl", "-n", "1", "--since", "1h", "--tag", "team=data")
    assert [item["execution_id"] for item in page["items"]] == [ids[1]]
    page = shell.json("list", "-w", "etl", "--cursor", page["next_cursor"])
    assert [item["execution_id"] for item in page["items"]] == [ids[0]]
    assert shell.json("list", "--tag", "team=none")["items"] == []


def test_keys_are_shown_and_select_executions(shell):
    ids = [
        shell.json("run", "pipeline:etl", "--key", key)["execution_id"] for key in ("one", "two")
    ]
    output, _ = shell.run("show", ids[0])
    assert "\nkey one\n" in output
    assert shell.json("show", ids[0])["key"] == "one"
    items = shell.json("list", "--key", "two", "--key", "three")["items"]
    assert [(item["execution_id"], item["key"]) for item in items] == [(ids[1], "two")]
    assert "no execution matches" in shell.run("list", "--key", "three")[1]
    planned = shell.json("retry", "--key", "one", "--status", "completed", "--dry-run")["items"]
    assert [item["execution_id"] for item in planned] == [ids[0]]
    assert shell.json("cancel", "--key", "one", "--yes")["items"] == []


@pytest.mark.parametrize("since", ["inf", "1e400h", "nand", "1e300h", "0001-01-01"])
def test_time_option_out_of_range_causes_no_traceback(bare, since):
    bare.environment["TZ"] = "Europe/Berlin"
    _, errors = bare.run("list", "--since", since, "--database", ":memory:", status=2)
    assert f"'{since}' is" in errors
    url = f"sqlite:///{bare.folder / 'at.db'}"
    bare.run("db", "migrate", "--database", url)
    option = "--at" if "-" in since else "--delay"
    bare.run("submit", "w", option, since, "--database", url, status=None)


def test_show_events_explain_and_logs_describe_an_execution(shell):
    id = shell.json("run", "pipeline:etl")["execution_id"]
    output, _ = shell.run("show", id)
    assert "  total = 6" in output
    assert shell.json("show", id)["status"] == "Completed"

    types = [event["type"] for event in shell.json("events", id)]
    assert types[:2] == ["submitted", "started"]
    assert types[-1] == "completed"
    output, _ = shell.run("events", id)
    assert len(output.splitlines()) == len(types) + 1

    output, _ = shell.run("explain", id)
    assert output.startswith("The execution has already ended: Completed at ")
    assert shell.json("explain", id)["reasons"][0].startswith("The execution has already ended")
    assert shell.json("logs", id) == []
    output, errors = shell.run("logs", id)
    assert output == ""
    assert "set capture_logs=True or CLOACA_CAPTURE_LOGS=true" in errors


@pytest.mark.parametrize(
    "command", ["show", "events", "explain", "logs", "watch", "cancel", "pause", "resume", "retry"]
)
def test_error_names_the_unknown_execution(shell, command):
    shell.run("db", "migrate")
    id = "0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"
    output, errors = shell.run(command, id, status=1)
    assert output == ""
    assert errors.startswith(f"error: there is no execution {id}\nhint: ")
    output, errors = shell.run(command, "nonsense", "--json", status=1)
    assert output == ""
    assert errors.startswith("error: 'nonsense' is not an execution id")


def test_control_commands_print_text_or_json(shell):
    shell.run("run", "pipeline:etl")
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        id = runner.submit("etl", delay=3600).id
    assert shell.run("pause", id)[0] == f"{id}  paused: Paused\n"
    assert shell.json("resume", id)["status"] == "Pending"
    assert shell.run("cancel", id)[0] == f"{id}  cancelled: Cancelled\n"
    output, errors = shell.run("watch", id, status=1)
    assert output.splitlines()[-1] == f"etl  {id}  Cancelled"
    assert "was cancelled" in errors


def test_d6_cancel_of_an_ended_execution_is_an_error(shell):
    completed = shell.json("run", "pipeline:etl")["execution_id"]
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        cancelled = runner.submit("etl", delay=3600).id
    shell.run("cancel", cancelled)
    for id, status in ((completed, "Completed"), (cancelled, "Cancelled")):
        told = f"error: execution {id} of workflow 'etl' has ended as {status}; there is nothing"
        output, errors = shell.run("cancel", id, status=1)
        assert (output, errors) == ("", f"{told} to cancel\n")
    output, errors = shell.run("cancel", "--status", "cancelled", "--yes", status=1)
    assert (output, errors.count("there is nothing to cancel")) == ("", 1)


@pytest.mark.parametrize("action", ["cancel", "pause", "resume", "retry"])
def test_control_command_that_matches_no_execution_succeeds(shell, action):
    shell.run("run", "pipeline:etl")
    assert shell.run(action, "--all") == ("", f"no execution to {action}\n")
    assert shell.json(action, "--all") == {"action": action, "dry_run": False, "items": []}


def test_log_lines_of_tasks_are_shown(shell):
    code = f"""
import logging, cloaca
with cloaca.WorkflowBuilder("talks"):
    @cloaca.task
    def talk(context):
        logging.getLogger("talker").warning("seven")
config = cloaca.DefaultRunnerConfig(capture_logs=True)
with cloaca.DefaultRunner({shell.environment["CLOACA_DATABASE_URL"]!r}, config) as runner:
    print(runner.execute("talks").execution_id)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    id = done.stdout.strip()
    (line,) = shell.json("logs", id)
    assert (line["logger"], line["message"], line["task_id"]) == ("talker", "seven", "talk")
    assert shell.run("logs", id)[0].rstrip().endswith("talk[1] talker: seven")


def test_logs_of_another_process_are_followed_to_the_end(shell, tmp_path):
    go = tmp_path / "go"
    code = f"""
import pathlib, sys, time, cloaca
with cloaca.WorkflowBuilder("talks"):
    @cloaca.task
    def talk(context):
        print("first")
        while not pathlib.Path({str(go)!r}).exists():
            time.sleep(0.01)
        print("last")
config = cloaca.DefaultRunnerConfig(capture_logs=True)
with cloaca.DefaultRunner({shell.environment["CLOACA_DATABASE_URL"]!r}, config) as runner:
    handle = runner.submit("talks")
    print(handle.id, file=sys.__stderr__, flush=True)
    handle.result()
"""
    command = [sys.executable, "-c", code]
    program = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert program.stderr is not None
    id = program.stderr.readline().strip()
    follower = shell.start("logs", "--follow", id)
    assert follower.stdout.readline().rstrip().endswith("talk[1] stdout: first")
    assert program.poll() is None
    go.touch()
    assert follower.stdout.readline().rstrip().endswith("talk[1] stdout: last")
    assert follower.wait(PATIENCE) == 0
    assert follower.stdout.read() == ""
    assert program.wait(PATIENCE) == 0
    program.stderr.close()


def test_retry_runs_an_execution_again(shell):
    id = shell.json("run", "pipeline:bad", status=1)["execution_id"]
    output, _ = shell.run("retry", id)
    assert output == f"{id}  runs again: Running\n"
    shell.run("cancel", id)
    done = shell.json("run", "pipeline:etl")["execution_id"]
    assert shell.json("retry", done, "--from-task", "total")["action"] == "retry"
    _, errors = shell.run("retry", id, "--from-task", "bom", status=1)
    assert "has no task 'bom'\nhint: did you mean 'boom'?" in errors


def test_each_table_row_fits_one_line_of_80_columns(shell, screen, schedule):
    (shell.folder / "long.py").write_text(
        """
import cloaca

with cloaca.WorkflowBuilder("a_workflow_with_quite_a_long_name") as builder:
    builder.description("A description that is much too long for a narrow column of a table")

    @cloaca.task(retry_attempts=1)
    def boom(context):
        raise ValueError("a message that is " + "much " * 40 + "too long")
"""
    )
    failed = shell.json("run", "long:a_workflow_with_quite_a_long_name", status=1)
    id = failed["execution_id"]
    lines = screen.run("list")
    rows = [line for line in lines if "Failed" in line]
    assert len(rows) == 1
    assert rows[0].split()[0] == short(id)
    assert " ago " in rows[0]
    tables = [
        ["list"],
        ["events", id],
        ["schedules"],
        ["schedules", "show", schedule],
        ["workflows"],
        ["explain", id],
        ["explain", schedule],
        ["failures"],
        ["waits"],
    ]
    with cloaca.WorkflowBuilder("asks_for_a_decision_with_a_long_name"):
        cloaca.approval("a_decision_that_takes_its_time", title="Release " * 20, timeout="2d")
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        waiting = runner.submit("asks_for_a_decision_with_a_long_name").id
        while not runner.waits(execution_id=waiting).items:
            time.sleep(0.01)
    for arguments in tables:
        lines = screen.run(*arguments)
        assert max(map(len, lines)) <= WIDTH, (arguments, lines)
    (row,) = [line for line in screen.run("waits") if "approval" in line]
    assert row.split()[0] == short(waiting)
    assert "in 1 d" in row
    (row,) = [line for line in screen.run("failures") if "a_work" in line]
    assert short(id) in row
    (row,) = [line for line in screen.run("schedules") if "etl" in line]
    assert "30 2 1 1 * Europe/Berlin" in row
    assert row.split()[0] == short(schedule)
    assert id in "".join(screen.run("list", "-v"))
    shown = screen.run("show", id)
    (row,) = [line for line in shown if line.startswith("boom")]
    assert len(row) <= WIDTH
    assert "task 'boom' failed in attempt 1:" in shown
    assert any("long.py" in line and "in boom" in line for line in shown)


def test_commands_accept_short_ids_and_the_last_option(shell, schedule):
    first, second = (shell.json("run", "pipeline:etl")["execution_id"] for _ in range(2))
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        id = runner.submit("etl", delay=3600).id

    def answer(*arguments):
        # Removes the time left until the start, which differs between two calls.
        return re.sub(r" \(in [^)]*\)", "", shell.run(*arguments)[0])

    for command in ("show", "events", "explain", "logs"):
        assert answer(command, short(id)) == answer(command, id)
        assert answer(command, "--last") == answer(command, id)
    assert shell.json("show", second[:35])["execution_id"] == second
    _, errors = shell.run("show", id[:4], status=1)
    assert errors.startswith(f"error: '{id[:4]}' matches several executions:\n")
    assert all(one in errors for one in (first, second, id))
    _, errors = shell.run("show", "ffff", status=1)
    assert "there is no execution 'ffff'" in errors
    shell.run("show", status=2)
    shell.run("show", id, "--last", status=2)
    assert shell.run("pause", short(id))[0] == f"{id}  paused: Paused\n"
    assert shell.run("resume", "--last")[0] == f"{id}  resumed: Pending\n"
    assert shell.run("cancel", "--last")[0] == f"{id}  cancelled: Cancelled\n"
    for reference in (short(schedule), schedule[:18], "etl"):
        assert shell.json("schedules", "show", reference)["id"] == schedule


def test_tracebacks_of_failed_tasks_are_shown(shell):
    id = shell.json("run", "pipeline:bad", status=1)["execution_id"]
    for arguments in (["show", id], ["logs", id]):
        output, _ = shell.run(*arguments)
        assert "task 'boom' failed in attempt 1:\n  Traceback (most recent call last):" in output
        assert "pipeline.py" in output
        assert "  ValueError: no way\n" in output
    output, errors = shell.run("run", "pipeline:bad", status=1)
    assert (output + errors).count("raise ValueError") == 1


def test_commands_with_a_filter_control_many_executions(shell):
    shell.run("run", "pipeline:etl")
    shell.run("run", "pipeline:bad", status=1)
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        ids = [runner.submit("etl", delay=3600).id for _ in range(3)]
    plan = shell.json("pause", "-w", "etl", "--dry-run")
    assert [item["execution_id"] for item in plan["items"]] == ids[::-1]
    output, errors = shell.run("cancel", "--all", "--dry-run")
    assert all(id in output for id in ids)
    assert errors == "would cancel 3 executions\n"
    _, errors = shell.run("cancel", "--all", status=2)
    assert "this would cancel 3 executions: confirm it with --yes" in errors
    output, errors = shell.run("pause", ids[0], ids[1])
    assert output == "".join(f"{id}  paused: Paused\n" for id in ids[:2])
    assert errors == "changed 2 of 2 executions\n"
    document = shell.json("resume", "--all", "--yes")
    assert {item["execution_id"] for item in document["items"]} == set(ids[:2])
    assert [item["error"] for item in document["items"]] == [None, None]
    output, _ = shell.run("cancel", "-w", "etl", "--yes")
    assert output.count("cancelled: Cancelled") == 3
    output, errors = shell.run("pause", *ids, status=1)
    assert output == ""
    assert errors.count("error: ") == 3
    assert "changed 0 of 3 executions" in errors
    assert shell.run("cancel", "--all") == ("", "no execution to cancel\n")
    assert shell.run("retry", "--all", "--yes")[0].count("runs again") == 1
    shell.run("cancel", status=2)
    shell.run("cancel", ids[0], "--all", status=2)


def test_control_of_many_executions_asks_for_confirmation(shell, screen):
    shell.run("run", "pipeline:etl")
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        id = runner.submit("etl", delay=3600).id
    screen.run("cancel", "--all", typed=b"n\n", status=1)
    assert shell.json("show", id)["status"] == "Pending"
    lines = screen.run("cancel", "--all", typed=b"y\n")
    assert any("cancel 1 execution?" in line for line in lines)
    assert shell.json("show", id)["status"] == "Cancelled"


def test_message_explains_why_a_table_is_empty(shell):
    shell.run("db", "migrate")
    for command, told in {
        "list": "there are no executions yet",
        "runners": "start one with `cloaca worker MODULE`",
        "schedules": "there are no schedules and no triggers",
        "workflows": "has no workflows",
    }.items():
        output, errors = shell.run(command)
        assert output == ""
        assert told in errors
    assert "no execution matches" in shell.run("list", "--status", "failed")[1]
