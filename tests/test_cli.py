"""The command line, end to end: each command in a process of its own, for people and as JSON."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import resource
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import click
import pytest

import cloaca
from cloaca._cli._commands import COMMANDS, help_text
from cloaca._cli._root import cli
from cloaca._cli._tree import draw

PATIENCE = 60
WIDTH = 80
UNKNOWN = "0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"

PIPELINE = """
import cloaca

with cloaca.WorkflowBuilder("etl") as builder:
    builder.description("Load the daily file")
    builder.tag("team", "data")

    @cloaca.task(id="extract")
    def extract(context):
        context["rows"] = [1, 2, int(context.get("last", 3))]

    @cloaca.task(id="total", dependencies=["extract"])
    def total(context):
        context["total"] = sum(context["rows"])

with cloaca.WorkflowBuilder("bad"):
    @cloaca.task(id="boom", retry_attempts=1)
    def boom(context):
        raise ValueError("no way")

with cloaca.WorkflowBuilder("unhurried") as unhurried:
    @cloaca.task(id="wait")
    def wait(context, handle):
        print("waiting", flush=True)
        handle.set_progress(1, 4, "first quarter")
        handle.defer_until(lambda: False, poll_interval_ms=50)

not_a_workflow = 3
"""


class Shell:
    """Runs `cloaca` in a folder that has a module `pipeline`."""

    def __init__(self, folder: Path, database: str | None) -> None:
        self.folder = folder
        self.environment = {
            name: value for name, value in os.environ.items() if name != "CLOACA_DATABASE_URL"
        }
        # Compiled modules are kept, as in an installed wheel.
        self.environment.pop("PYTHONDONTWRITEBYTECODE", None)
        if database is not None:
            self.environment["CLOACA_DATABASE_URL"] = database
        self.started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "cloaca", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, *arguments: str, status: int = 0) -> tuple[str, str]:
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == status, (arguments, output, errors)
        assert "Traceback" not in errors
        return output, errors

    def json(self, *arguments: str, status: int = 0):
        output, errors = self.run(*arguments, "--json", status=status)
        if status == 0:
            assert errors == ""
        return json.loads(output)


@pytest.fixture
def shell(tmp_path, database):
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    running = Shell(tmp_path, database)
    yield running
    for process in running.started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def bare(tmp_path):
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return Shell(tmp_path, None)


def test_run_shows_the_tasks_and_the_context(shell):
    output, errors = shell.run("run", "pipeline:etl")
    assert errors == ""
    first, *lines = output.splitlines()
    assert first.startswith("etl  ")
    assert first.endswith("  Completed")
    assert any(line.split()[:3] == ["total", "Completed", "1"] for line in lines)
    assert "  total = 6" in lines


def test_task_output_is_not_mixed_into_the_json(shell):
    (shell.folder / "noisy.py").write_text(
        """
import os, subprocess, sys
import cloaca

print("of the module")
with cloaca.WorkflowBuilder("noisy"):
    @cloaca.task
    def speak(context):
        print("of the task")
        os.write(1, b"of the system call\\n")
        subprocess.run(["echo", "of the child"], check=True)
        sys.stdout.write("without an end")
"""
    )
    said = ["of the module", "of the task", "of the system call", "of the child", "without an end"]
    output, errors = shell.run("run", "noisy:noisy", "--json")
    assert json.loads(output)["status"] == "Completed"
    assert all(word in errors and word not in output for word in said)
    output, _ = shell.run("run", "noisy:noisy")
    assert all(word in output for word in said)


def test_run_as_json_with_a_context(shell):
    document = shell.json("run", "pipeline:etl", "--context", '{"last": 10}')
    assert document["status"] == "Completed"
    assert document["final_context"] == {"last": 10, "rows": [1, 2, 10], "total": 13}
    assert [task["task_id"] for task in document["tasks"]] == ["extract", "total"]

    (shell.folder / "input.json").write_text('{"last": 0}')
    document = shell.json("run", "pipeline.py:builder", "--context", "@input.json")
    assert document["final_context"]["total"] == 3


def test_run_of_a_failing_workflow_exits_1_and_names_the_task(shell):
    output, errors = shell.run("run", "pipeline:bad", status=1)
    assert "Failed" in output
    assert errors.startswith("error: execution ")
    assert "of workflow 'bad' failed: task 'boom' failed: ValueError: no way" in errors
    document = shell.json("run", "pipeline:bad", status=1)
    assert document["error"]["type"] == "ValueError"
    assert document["error"]["task_id"] == "boom"


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["run", "pipeline"], 2, "name the workflow too"),
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
    _, errors = bare.run(*arguments[:1], *arguments[1:], "-c", url, status=status)
    assert told.format(folder=bare.folder) in errors
    assert "Traceback" not in errors
    if arguments[0] == "show":
        assert not (bare.folder / "test.db").exists()


def test_error_without_a_database_has_a_hint(bare):
    _, errors = bare.run("list", status=2)
    assert "-c/--database" in errors
    assert "CLOACA_DATABASE_URL" in errors
    _, errors = bare.run("list", "-c", "mysql://u:secret@h/db", status=1)
    assert "secret" not in errors


def test_list(shell):
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


def test_keys_are_shown_and_listed(shell):
    ids = [
        shell.json("run", "pipeline:etl", "--key", key)["execution_id"] for key in ("one", "two")
    ]
    output, _ = shell.run("show", ids[0])
    assert "\nkey one\n" in output
    assert shell.json("show", ids[0])["key"] == "one"
    items = shell.json("list", "--key", "two", "--key", "three")["items"]
    assert [(item["execution_id"], item["key"]) for item in items] == [(ids[1], "two")]


def test_show_events_explain_and_logs(shell):
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
    assert output.startswith("The execution has ended already: Completed at ")
    assert shell.json("explain", id)["reasons"][0].startswith("The execution has ended already")
    assert shell.json("logs", id) == []
    output, errors = shell.run("logs", id)
    assert output == ""
    assert "set capture_logs=True or CLOACA_CAPTURE_LOGS=true" in errors


@pytest.mark.parametrize(
    "command", ["show", "events", "explain", "logs", "watch", "cancel", "pause", "resume", "retry"]
)
def test_an_unknown_execution_is_named(shell, command):
    shell.run("db", "migrate")
    id = "0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"
    output, errors = shell.run(command, id, status=1)
    assert output == ""
    assert errors.startswith(f"error: there is no execution {id}\nhint: ")
    output, errors = shell.run(command, "nonsense", "--json", status=1)
    assert output == ""
    assert errors.startswith("error: 'nonsense' is not an execution id")


def test_a_worker_is_controlled_from_outside(shell):
    """`worker`, `runners`, `watch`, `pause`, `resume`, `cancel`: each a process of its own."""
    worker = shell.start("worker", "pipeline", "--json")
    started = ""
    while not started.endswith("}\n"):
        started += worker.stdout.readline()
    told = json.loads(started)
    assert told["workflows"] == ["bad", "etl", "unhurried"]

    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        id = runner.submit("unhurried").id
        other = runner.submit("etl", delay=3600).id
    assert worker.stderr.readline() == "waiting\n"

    runners = shell.json("runners")
    assert [row["pid"] for row in runners if row["alive"]] == [worker.pid]
    assert runners[0]["runner_id"] == told["runner_id"]
    output, _ = shell.run("runners")
    assert "alive" in output

    assert f"pid {worker.pid}" in shell.json("explain", id)["reasons"][0]

    assert shell.json("pause", other)["status"] == "Paused"
    output, _ = shell.run("resume", other)
    assert output == f"{other}  resumed: Pending\n"
    assert shell.json("cancel", other)["status"] == "Cancelled"
    _, errors = shell.run("pause", other, status=1)
    assert errors.startswith("error: ")

    watching = shell.start("watch", id)
    assert watching.stdout.readline() == "wait  Running\n"
    output, _ = shell.run("cancel", id)
    assert output == f"{id}  cancelled: Cancelled\n"
    output, errors = watching.communicate(timeout=PATIENCE)
    assert watching.returncode == 1
    assert output.splitlines()[-1] == f"unhurried  {id}  Cancelled"
    assert errors == f"error: execution {id} of workflow 'unhurried' was cancelled\n"
    document = shell.json("watch", id, status=1)
    assert document["status"] == "Cancelled"

    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0
    assert shell.json("runners") == []


def test_control_prints_text_or_json(shell):
    shell.run("run", "pipeline:etl")
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        id = runner.submit("etl", delay=3600).id
    assert shell.run("pause", id)[0] == f"{id}  paused: Paused\n"
    assert shell.json("resume", id)["status"] == "Pending"
    assert shell.run("cancel", id)[0] == f"{id}  cancelled: Cancelled\n"
    output, errors = shell.run("watch", id, status=1)
    assert output.splitlines()[-1] == f"etl  {id}  Cancelled"
    assert "was cancelled" in errors


def test_a_worker_prints_its_workflows(shell):
    worker = shell.start("worker", "pipeline")
    first = worker.stderr.readline()
    worker.send_signal(signal.SIGTERM)
    output, errors = worker.communicate(timeout=PATIENCE)
    told = first + errors
    assert all(name in told for name in ("bad", "etl", "unhurried")), told
    assert (worker.returncode, output) == (0, "")


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


@pytest.mark.parametrize(
    "arguments",
    [["list"], ["runners"], ["workflows", "show", "wide"], ["schedules", "list"], ["events", "ID"]],
    ids=lambda arguments: arguments[0],
)
def test_closed_output_pipe_is_not_an_error(shell, arguments):
    id = shell.json("run", "pipeline:etl")["execution_id"]
    arguments = ["etl" if word == "wide" else id if word == "ID" else word for word in arguments]
    process = shell.start(*arguments)
    process.stdout.close()
    assert process.wait(PATIENCE) == 0
    errors = process.stderr.read()
    assert "rror" not in errors
    assert "Traceback" not in errors


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
def test_missing_database_is_named_and_not_created(bare, arguments):
    output, errors = bare.run(*arguments, "-c", "sqlite:///absent.db", status=1)
    assert output == "" or arguments == ["db", "status"]
    assert errors.startswith("error: ")
    assert not (bare.folder / "absent.db").exists()


def test_retry(shell):
    id = shell.json("run", "pipeline:bad", status=1)["execution_id"]
    output, _ = shell.run("retry", id)
    assert output == f"{id}  runs again: Running\n"
    shell.run("cancel", id)
    done = shell.json("run", "pipeline:etl")["execution_id"]
    assert shell.json("retry", done, "--from-task", "total")["action"] == "retry"
    _, errors = shell.run("retry", id, "--from-task", "bom", status=1)
    assert "has no task 'bom'\nhint: did you mean 'boom'?" in errors


def test_workflows(shell):
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


def test_db(shell):
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
    assert "no problem was found" in shell.run("db", "check")[0]
    assert shell.json("db", "prune") == {"deleted": 0, "older_than_days": 30}
    output, _ = shell.run("db", "prune", "--older-than", "0")
    assert output == "deleted 1 executions that ended more than 0 days ago\n"
    assert shell.json("list")["items"] == []


def test_bench(shell):
    document = shell.json("bench", "--executions", "20")
    assert document["chain_of_3_p50_ms"] > 0
    assert document["executions_per_second"] > 0
    output, _ = shell.run("bench", "--executions", "20")
    assert "20 one-task executions at once" in output


def test_a_closed_pipe_is_quiet(shell):
    shell.run("bench", "--executions", "500")
    process = shell.start("list", "--limit", "1000")
    process.stdout.close()  # before anything was written
    assert process.wait(PATIENCE) == 0
    assert process.stderr.read() == ""


@pytest.mark.parametrize("command", ["run", "watch"])
def test_ctrl_c_says_what_happens_to_the_execution(shell, command):
    process = shell.start("run", "pipeline:unhurried")
    assert process.stdout.readline() == "waiting\n"
    if command == "watch":
        (item,) = shell.json("list")["items"]
        process = shell.start("watch", item["execution_id"])
        assert process.stdout.readline() == "wait  Running\n"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert output == ""
    if command == "watch":
        assert errors == ""
        return
    (item,) = shell.json("list")["items"]
    told = f"execution {item['execution_id']} is Running: it goes on with the next runner"
    assert told in errors
    assert "`cloaca worker pipeline`" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_its_options(name):
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    summary = COMMANDS[name][1]
    assert summary.endswith(".")
    for part in command.commands.values() if isinstance(command, click.Group) else [command]:
        assert part.help
        options = {option for parameter in part.params for option in parameter.opts}
        if name != "completion":
            assert {"-c", "--database", "--json"} <= options


def test_the_help_equals_that_of_click():
    assert help_text() == cli.get_help(
        click.Context(cli, info_name="cloaca", terminal_width=80, **cli.context_settings)
    )


def test_the_reference_page_is_current():
    script = Path(__file__).parent.parent / "scripts" / "cli_reference.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_help_and_version(bare):
    assert bare.run("--help")[0] == help_text() + "\n"
    assert "Commands:" in bare.run(status=2)[1]
    assert bare.run("--version")[0] == f"cloaca {cloaca.__version__}\n"
    assert "Usage: cloaca run [OPTIONS] MODULE:WORKFLOW" in bare.run("run", "--help")[0]


def test_help_takes_at_most_100_ms_of_a_processor(bare):
    def processor_seconds():
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        bare.run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime

    # The best of many rounds, because a busy machine only makes them slower.
    times = [processor_seconds()]
    while min(times) > 0.1 and len(times) < 30:
        times.append(processor_seconds())
    assert min(times) <= 0.1


def test_help_loads_neither_click_nor_rich(bare):
    code = "import sys; from cloaca._cli import main; main(['--help']); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not {"click", "rich"} & set(loaded)


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_completion(bare, shell_name):
    output, _ = bare.run("completion", shell_name)
    assert "_CLOACA_COMPLETE" in output
    bare.environment |= {
        "_CLOACA_COMPLETE": f"{shell_name}_complete",
        "COMP_WORDS": "cloaca wor",
        "COMP_CWORD": "wor" if shell_name == "fish" else "1",
    }
    output, _ = bare.run()
    assert "worker" in output


def test_a_tree_names_every_task_once():
    dependencies = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"], "e": []}
    assert draw(list(dependencies), dependencies) == ("a\n├─ b\n└─ c\n   └─ d  (and after b)\ne")
    chain = [f"t{number}" for number in range(2000)]
    links = {task: chain[max(index - 1, 0) : index] for index, task in enumerate(chain)}
    assert len(draw(chain, links, is_unicode=False).splitlines()) == 2000


@pytest.fixture
def schedule(shell):
    """A schedule of `etl`, which is never due while a test runs."""
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        shell.run("run", "pipeline:etl")
        return runner.register_cron_workflow("etl", "30 2 1 1 *", "Europe/Berlin")


def test_a_group_without_a_command_lists(shell, schedule):
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


def test_a_schedule_is_previewed_and_so_is_an_expression(shell, bare, schedule):
    of_schedule = shell.json("schedules", "preview", schedule, "-n", "2")
    assert [time[4:] for time in of_schedule] == ["-01-01T02:30:00+01:00"] * 2
    same = bare.json("schedules", "preview", "30 2 1 1 *", "--timezone", "Europe/Berlin", "-n", "2")
    assert same == of_schedule
    assert bare.run("schedules", "preview", "@hourly", "-n", "1")[0].endswith(":00:00+00:00\n")
    _, errors = bare.run("schedules", "preview", "61 * * * *", status=1)
    assert "61" in errors
    bare.run("schedules", "preview", schedule, "--timezone", "UTC", status=2)


def test_a_schedule_is_switched_run_and_deleted(shell, schedule):
    assert shell.run("schedules", "disable", schedule)[0] == f"{schedule}  disabled\n"
    assert shell.json("schedules", "list", "--enabled") == []
    told = shell.run("explain", schedule)[0]
    assert told.startswith(f"Schedule {schedule} is disabled: it starts no execution of workflow")
    execution = shell.json("schedules", "run-now", schedule)["execution_id"]
    assert shell.json("show", execution)["status"] == "Pending"
    off = f"Schedule {schedule}, which started it, is disabled: it starts no more executions."
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
def test_an_unknown_schedule_is_named(shell, command):
    shell.run("db", "migrate")
    unknown = "0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"
    _, errors = shell.run("schedules", command, unknown, status=1)
    assert f"there is no schedule {unknown}" in errors


def test_tenants(shell):
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


class Screen:
    """Runs `cloaca` on a terminal of 80 columns."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def start(self, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, WIDTH, 0, 0))
        environment = {**self._shell.environment, "TERM": "xterm"}
        environment.pop("COLUMNS", None)
        process = subprocess.Popen(
            [sys.executable, "-m", "cloaca", *arguments],
            cwd=self._shell.folder,
            env=environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        self._shell.started.append(process)  # type: ignore[arg-type]
        return process, controller

    def run(self, *arguments: str, status: int = 0, typed: bytes = b"") -> list[str]:
        """The lines, without colours."""
        process, controller = self.start(*arguments)
        if typed:
            os.write(controller, typed)
        shown = b""
        try:
            while part := os.read(controller, 65536):
                shown += part
        except OSError:
            pass  # Linux reports the end of the terminal's other side like this.
        os.close(controller)
        assert process.wait(PATIENCE) == status, shown
        return [line.rstrip() for line in _plain(shown).splitlines()]


def _plain(shown: bytes) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r", "")


@pytest.fixture
def screen(shell):
    return Screen(shell)


def short(id: str) -> str:
    return f"{id[:8]}-{id[-6:]}"


def test_tables_take_one_line_a_row_at_80_columns(shell, screen, schedule):
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
    ]
    for arguments in tables:
        lines = screen.run(*arguments)
        assert max(map(len, lines)) <= WIDTH, (arguments, lines)
    (row,) = [line for line in screen.run("schedules") if "etl" in line]
    assert "30 2 1 1 * Europe/Berlin" in row
    assert row.split()[0] == short(schedule)
    assert id in "".join(screen.run("list", "-v"))
    shown = screen.run("show", id)
    (row,) = [line for line in shown if line.startswith("boom")]
    assert len(row) <= WIDTH
    assert "task 'boom' failed in attempt 1:" in shown
    assert any("long.py" in line and "in boom" in line for line in shown)


def test_short_ids_and_last_are_taken_everywhere(shell, schedule):
    first, second = (shell.json("run", "pipeline:etl")["execution_id"] for _ in range(2))
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        id = runner.submit("etl", delay=3600).id

    def answer(*arguments):
        # Without the time until the start, which passes meanwhile.
        return re.sub(r" \(in [^)]*\)", "", shell.run(*arguments)[0])

    for command in ("show", "events", "explain", "logs"):
        assert answer(command, short(id)) == answer(command, id)
        assert answer(command, "--last") == answer(command, id)
    assert shell.json("show", second[:35])["execution_id"] == second
    _, errors = shell.run("show", id[:4], status=1)
    assert errors.startswith(f"error: '{id[:4]}' means several executions:\n")
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


def test_submit_needs_no_module_and_says_that_no_runner_has_it(shell):
    shell.run("run", "pipeline:etl")
    output, errors = shell.run("submit", "etl", '{"last": 7}', "--key", "once")
    id = output.strip()
    assert "no live runner has workflow 'etl'" in errors
    document = shell.json("submit", "etl", "--key", "once")
    assert document == {
        "execution_id": id,
        "workflow_name": "etl",
        "status": "Pending",
        "is_new": False,
        "live_runners": 0,
    }
    assert "has the key 'once'" in shell.run("submit", "etl", "--key", "once")[1]
    later = shell.json("submit", "etl", "--delay", "2h", "--priority", "3")["execution_id"]
    assert "is delayed" in shell.run("explain", later)[0]
    at = shell.run("submit", "etl", "--at", "2999-01-01")[0].strip()
    assert "to start at 2999-01-01" in shell.run("explain", at)[0]
    worker = shell.start("worker", "pipeline")
    assert shell.json("watch", id)["final_context"]["total"] == 10
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=PATIENCE)
    _, errors = shell.run("submit", "elt", status=1)
    assert "workflow 'elt' is not known" in errors
    assert "hint: did you mean 'etl'?" in errors
    shell.run("submit", "etl", "--delay", "soon", status=2)
    shell.run("submit", "etl", "[1]", status=2)


def test_many_executions_are_controlled_by_a_filter(shell):
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
    assert errors == "2 executions changed, 0 failed\n"
    document = shell.json("resume", "--all", "--yes")
    assert {item["execution_id"] for item in document["items"]} == set(ids[:2])
    assert [item["error"] for item in document["items"]] == [None, None]
    output, _ = shell.run("cancel", "-w", "etl", "--yes")
    assert output.count("cancelled: Cancelled") == 3
    output, errors = shell.run("pause", *ids, status=1)
    assert output == ""
    assert errors.count("error: ") == 3
    assert "0 executions changed, 3 failed" in errors
    assert shell.run("cancel", "--all") == ("", "no execution to cancel\n")
    assert shell.run("retry", "--all", "--yes")[0].count("runs again") == 1
    shell.run("cancel", status=2)
    shell.run("cancel", ids[0], "--all", status=2)


def test_many_executions_are_controlled_after_a_question(shell, screen):
    shell.run("run", "pipeline:etl")
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        id = runner.submit("etl", delay=3600).id
    screen.run("cancel", "--all", typed=b"n\n", status=1)
    assert shell.json("show", id)["status"] == "Pending"
    lines = screen.run("cancel", "--all", typed=b"y\n")
    assert any("cancel 1 execution?" in line for line in lines)
    assert shell.json("show", id)["status"] == "Cancelled"


def test_a_worker_takes_several_modules(shell):
    (shell.folder / "second.py").write_text(
        """
import cloaca

with cloaca.WorkflowBuilder("other"):
    @cloaca.task
    def speak(context):
        context["said"] = True
"""
    )
    worker = shell.start("worker", "pipeline", "second.py", "-v")
    while not (line := worker.stderr.readline()).startswith("works on "):
        assert line
    assert line.endswith(": bad, etl, other, unhurried\n")
    id = shell.run("submit", "other")[0].strip()
    assert shell.json("watch", id)["final_context"] == {"said": True}
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=PATIENCE)


def test_a_worker_starts_again_when_a_source_file_changes(shell):
    module = shell.folder / "fresh.py"
    module.write_text(PIPELINE)
    worker = shell.start("worker", "fresh", "--reload")

    def read_until(text: str) -> str:
        while text not in (line := worker.stderr.readline()):
            assert line, "the worker has ended"
        return line

    read_until("works on ")
    read_until("starts again when")
    os.utime(module, (1, 1))
    module.write_text("not python")
    read_until("has changed: starting again")
    read_until("cannot be imported")
    read_until("waiting for a change")
    module.write_text(PIPELINE.replace('"etl"', '"renamed"'))
    assert "renamed" in read_until("works on ")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0


def test_triggers_are_listed_shown_and_switched(shell):
    (shell.folder / "polls.py").write_text(
        PIPELINE
        + """
@cloaca.trigger(name="new_file", on="etl", poll_interval="1h")
def new_file():
    return cloaca.TriggerResult.skip()
"""
    )
    worker = shell.start("worker", "polls")
    while "works on" not in worker.stderr.readline():
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


def test_empty_tables_say_why(shell):
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
