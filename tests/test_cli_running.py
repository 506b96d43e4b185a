"""The command line: `run`, `watch`, `worker`, `submit`, `bench`, and failed writes of output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import weakref
from pathlib import Path

import pytest

import cloaca
from cli_support import PATIENCE, PIPELINE
from cloaca._cli._interrupt import deferred_interrupt
from processes import second_ctrl_c


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


def test_run_takes_a_context_and_prints_json(shell):
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
    last = errors.splitlines()[-1]
    assert last.startswith("error: execution ")
    assert last.endswith(" of workflow 'bad' failed: task 'boom' failed: ValueError: no way")
    document = shell.json("run", "pipeline:bad", status=1)
    assert document["error"]["type"] == "ValueError"
    assert document["error"]["task_id"] == "boom"


def test_run_prints_failures_of_callbacks_and_of_other_executions(shell):
    (shell.folder / "two.py").write_text(
        """
import threading, cloaca

def complain(task_id, context):
    raise RuntimeError("the callback failed")

failed = threading.Event()

with cloaca.WorkflowBuilder("other"):
    @cloaca.task(retry_attempts=1, on_failure=lambda *given: failed.set())
    def breaks(context):
        raise ValueError("the other workflow failed")

with cloaca.WorkflowBuilder("own"):
    @cloaca.task(on_success=complain)
    def works(context):
        pass

    @cloaca.task(retry_attempts=1, dependencies=[works])
    def fails(context):
        failed.wait(60)
        raise ValueError("the own workflow failed")
"""
    )
    with cloaca.DefaultRunner(shell.environment["CLOACA_DATABASE_URL"]) as runner:
        with cloaca.WorkflowBuilder("other"):

            @cloaca.task(retry_attempts=1)
            def breaks(context):
                raise ValueError("the other workflow failed")

        runner.submit("other", delay=0.5)
    process = shell.start("run", "two:own")
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert errors.count("the callback failed") >= 1
    assert "ValueError: the other workflow failed" in errors
    assert errors.count("\nValueError: the own workflow failed\n") == 1, errors


FAILING = """
import cloaca

with cloaca.WorkflowBuilder("two"):
    @cloaca.task(retry_attempts=1)
    def first(context):
        raise ValueError("one")

    @cloaca.task(retry_attempts=1)
    def second(context):
        raise ValueError("two")

    @cloaca.task(dependencies=[first, second], trigger_rule="one_failed")
    def cleanup(context):
        pass

with cloaca.WorkflowBuilder("handled"):
    @cloaca.task(retry_attempts=1)
    def breaks(context):
        raise ValueError("one")

    @cloaca.task(dependencies=[breaks], trigger_rule="one_failed")
    def repair(context):
        pass
"""


@pytest.mark.parametrize(
    ("workflow", "status", "causes"), [("two", None, ["one", "two"]), ("handled", 0, ["one"])]
)
@pytest.mark.parametrize("options", [[], ["--json"]], ids=["text", "json"])
def test_e9_run_prints_each_failure_once_on_stderr(shell, workflow, status, causes, options):
    (shell.folder / "failing.py").write_text(FAILING)
    output, errors = shell.run("run", f"failing:{workflow}", *options, status=status)
    assert errors.count("Traceback (most recent call last)") == len(causes)
    for cause in causes:
        lines = [
            line
            for line in errors.splitlines()
            if line.endswith(f"ValueError: {cause}") and not line.startswith("error: execution ")
        ]
        assert lines == [f"ValueError: {cause}"], "the traceback is not printed exactly once"
        assert errors.count(f" failed (attempt 1 of 1): ValueError: {cause} [execution ") == 1
    if not options:
        assert "Traceback" not in output


def test_run_prints_tracebacks_that_were_not_logged(shell):
    shell.environment["CLOACA_LOG_LEVEL"] = "CRITICAL"
    output, errors = shell.run("run", "pipeline:bad", status=1)
    assert output.count("\n  Traceback (most recent call last):\n") == 1
    assert errors.startswith("error: execution ")
    assert errors.endswith(" of workflow 'bad' failed: task 'boom' failed: ValueError: no way\n")


def test_worker_is_watched_and_controlled_by_other_processes(shell):
    """The other processes run `runners`, `explain`, `pause`, `resume`, `cancel` and `watch`."""
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


def test_a_worker_prints_its_workflows(shell):
    worker = shell.start("worker", "pipeline")
    first = worker.stderr.readline()
    worker.send_signal(signal.SIGTERM)
    output, errors = worker.communicate(timeout=PATIENCE)
    told = first + errors
    assert all(name in told for name in ("bad", "etl", "unhurried")), told
    assert (worker.returncode, output) == (0, "")


SLOW = """
import time, cloaca
with cloaca.WorkflowBuilder("slow"):
    @cloaca.task
    def work(context):
        print("begun", flush=True)
        time.sleep(60)
"""


def test_worker_reports_its_running_tasks_after_ctrl_c(shell):
    (shell.folder / "slow.py").write_text(SLOW)
    worker = shell.start("worker", "slow.py")
    assert worker.stderr.readline().startswith("serving ")
    id = shell.run("submit", "slow")[0].strip()
    assert worker.stdout.readline() == "begun\n"
    worker.send_signal(signal.SIGINT)
    told = worker.stderr.readline()
    assert told.startswith(
        "interrupted: waiting up to 30 s for 1 running task (press Ctrl-C again "
    )
    assert f"execution {id} continues with the next runner" in told
    second_ctrl_c(worker)
    assert worker.returncode == 130


def test_second_ctrl_c_ends_run_at_once(shell):
    (shell.folder / "slow.py").write_text(SLOW)
    run = shell.start("run", "slow.py:slow")
    assert run.stdout.readline() == "begun\n"
    run.send_signal(signal.SIGINT)
    assert run.stderr.readline().startswith("interrupted: waiting up to 30 s for task 'work' ")
    output, errors = second_ctrl_c(run)
    assert (run.returncode, output) == (130, "")
    assert ": it continues with the next runner" in errors
    (item,) = shell.json("list")["items"]
    (task,) = shell.json("show", item["execution_id"])["tasks"]
    assert (task["status"], task["attempts"]) == ("Ready", 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["list"],
        ["runners"],
        ["workflows", "show", "WORKFLOW"],
        ["schedules", "list"],
        ["events", "ID"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_output_to_a_closed_pipe_is_not_an_error(shell, arguments):
    id = shell.json("run", "pipeline:etl")["execution_id"]
    names = {"WORKFLOW": "etl", "ID": id}
    arguments = [names.get(word, word) for word in arguments]
    process = shell.start(*arguments)
    process.stdout.close()
    assert process.wait(PATIENCE) == 0
    errors = process.stderr.read()
    assert "rror" not in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["list", "--help"],
        ["list"],
        ["list", "--json"],
        ["events", "--last"],
        ["events", "--last", "--json"],
        ["run", "pipeline:etl"],
        ["run", "pipeline:etl", "--json"],
        ["db", "status"],
    ],
    ids=" ".join,
)
def test_output_to_a_full_disk_is_an_error_without_a_traceback(shell, arguments):
    shell.run("run", "pipeline:etl")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "cloaca", *arguments],
            cwd=shell.folder,
            env=shell.environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
        )
    assert done.stderr == "error: cannot write to stdout: No space left on device\n"
    assert done.returncode == 1


def test_bench_prints_its_measurements(shell):
    document = shell.json("bench", "--executions", "20")
    assert document["chain_of_3_p50_ms"] > 0
    assert document["executions_per_second"] > 0
    output, _ = shell.run("bench", "--executions", "20")
    assert "20 one-task executions at once" in output


def test_long_output_to_a_closed_pipe_prints_no_error(shell):
    shell.run("bench", "--executions", "500")
    process = shell.start("list", "--limit", "1000")
    process.stdout.close()  # The pipe closes before the command writes anything.
    assert process.wait(PATIENCE) == 0
    assert process.stderr.read() == ""


@pytest.mark.parametrize("command", ["run", "watch"])
def test_ctrl_c_ends_run_and_watch_with_an_explanation(shell, command):
    # A deferred task counts as running, so the shutdown waits for it.
    shell.environment["CLOACA_SHUTDOWN_TIMEOUT"] = "0.2"
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
    (item,) = shell.json("list")["items"]
    if command == "watch":
        hint = f"end it with `cloaca cancel {item['execution_id']}`"
        assert errors == f"execution {item['execution_id']} goes on\nhint: {hint}\n"
        return
    told = f"execution {item['execution_id']} is Running: it continues with the next runner"
    assert told in errors
    assert "`cloaca worker pipeline`" in errors
    assert "Traceback" not in errors


def test_ctrl_c_during_an_import_is_not_lost():
    # Imports call such callbacks, and Python ignores the exceptions that they raise.
    class Referenced:
        pass

    referenced = Referenced()
    reference = weakref.ref(referenced, lambda _: signal.raise_signal(signal.SIGINT))
    with deferred_interrupt() as raise_interrupt:
        raise_interrupt()
        del referenced
        assert reference() is None
        with pytest.raises(KeyboardInterrupt):
            raise_interrupt()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)  # the second one is not deferred


def test_submit_needs_no_module_and_warns_without_a_live_runner(shell):
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
    named = shell.json("submit", "etl", "--input", '{"last": 8}')["execution_id"]
    assert shell.json("show", named)["final_context"] == {"last": 8}
    twice = shell.run("submit", "etl", "{}", "--input", "{}", status=2)[1]
    assert "the input is given twice" in twice
    later = shell.json("submit", "etl", "--delay", "2h", "--priority", "3")["execution_id"]
    assert "is delayed" in shell.run("explain", later)[0]
    at = shell.run("submit", "etl", "--at", "2999-01-01")[0].strip()
    assert "with the start time 2999-01-01" in shell.run("explain", at)[0]
    worker = shell.start("worker", "pipeline")
    assert shell.json("watch", id)["final_context"]["total"] == 10
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=PATIENCE)
    _, errors = shell.run("submit", "elt", status=1)
    assert "workflow 'elt' is not known" in errors
    assert "hint: did you mean 'etl'?" in errors
    shell.run("submit", "etl", "--delay", "soon", status=2)
    shell.run("submit", "etl", "[1]", status=2)


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
    while not (line := worker.stderr.readline()).startswith("serving workflows of "):
        assert line
    assert line.endswith(": bad, etl, other, unhurried\n")
    id = shell.run("submit", "other")[0].strip()
    assert shell.json("watch", id)["final_context"] == {"said": True}
    worker.send_signal(signal.SIGTERM)
    worker.communicate(timeout=PATIENCE)


def test_worker_reloads_when_a_source_file_changes(shell):
    module = shell.folder / "fresh.py"
    module.write_text(PIPELINE)
    worker = shell.start("worker", "fresh", "--reload")

    def read_until(text: str) -> str:
        while text not in (line := worker.stderr.readline()):
            assert line, "the worker has ended"
        return line

    read_until("serving workflows of ")
    read_until("the worker restarts when")
    os.utime(module, (1, 1))
    module.write_text("not python")
    read_until("has changed: starting again")
    read_until("cannot be imported")
    read_until("waiting for a source file to change")
    module.write_text(PIPELINE.replace('"etl"', '"renamed"'))
    assert "renamed" in read_until("serving workflows of ")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE) == 0


DEFINING = """
import cloaca

@cloaca.workflow
def nightly(day="today"):
    print("called", flush=True)

alias = nightly
with cloaca.WorkflowBuilder("etl") as builder:
    @cloaca.task
    def load():
        print("called", flush=True)

with cloaca.WorkflowBuilder("load"):
    cloaca.task(id="other")(lambda context: None)

def define():
    with cloaca.WorkflowBuilder("late"):
        cloaca.task(id="one")(lambda context: None)

@cloaca.task
def loose():
    print("called", flush=True)

number = 3
"""


@pytest.mark.parametrize("name", ["nightly", "alias", "etl", "builder", "load", "define"])
def test_worker_resolves_attributes_as_run_does(bare, name):
    (bare.folder / "dw.py").write_text(DEFINING)
    worker = bare.start("worker", f"dw:{name}", "-c", f"sqlite:///{bare.folder / 'test.db'}")
    first = worker.stderr.readline()
    worker.send_signal(signal.SIGTERM)
    output, errors = worker.communicate(timeout=PATIENCE)
    assert (worker.returncode, output) == (0, ""), first + errors
    late = ["late"] if name == "define" else []
    assert first.rstrip().endswith(": " + ", ".join(["etl", *late, "load", "nightly"]))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("loose", "'loose' of module 'dw' is a task, not a workflow\nhint: "),
        ("number", "'number' of module 'dw' is neither a workflow nor a function that defines"),
        ("other", "module 'dw' defines no workflow 'other' and has no attribute 'other'"),
    ],
)
def test_worker_refuses_attributes_that_define_no_workflow(bare, name, told):
    (bare.folder / "dw.py").write_text(DEFINING)
    url = f"sqlite:///{bare.folder / 'test.db'}"
    output, errors = bare.run("worker", f"dw:{name}", "-c", url, status=1)
    assert output == ""
    assert told in errors


def test_run_takes_a_variable_with_a_workflow_function(bare):
    (bare.folder / "dw.py").write_text(DEFINING)
    output, _ = bare.run("run", "dw:alias", "-c", f"sqlite:///{bare.folder / 'test.db'}")
    assert "nightly" in output


def test_json_of_run_show_and_watch_has_the_final_tasks(shell):
    (shell.folder / "ending.py").write_text(
        """
import cloaca

with cloaca.WorkflowBuilder("ending"):
    @cloaca.task
    def work(context):
        pass

    @cloaca.task(final="always")
    def clean(context):
        context["cleaned"] = True
"""
    )
    document = shell.json("run", "ending:ending")
    assert document["final"]["status"] == "Completed"
    assert document["final"]["final_context"]["cleaned"] is True
    assert [task["task_id"] for task in document["final"]["tasks"]] == ["clean"]
    assert "final" not in document["final"]
    for command in ("show", "watch"):
        assert shell.json(command, document["execution_id"])["final"] == document["final"]
    assert "final" not in shell.json("run", "pipeline:etl")
