"""Parents learn how each child ended, although runners are killed with SIGKILL (M2, M3)."""

from __future__ import annotations

import signal
import subprocess
import textwrap

import pytest

import cloaca
from children_support import (
    ENVIRONMENT,
    KINDS,
    define_parents,
    events_of,
    input_of,
    ordinary_children,
)
from processes import PREAMBLE, Ledger

PARENTS = 30

#: A process that runs parents and children. If its `life` is `doomed`, its children do not end, and
#: the test kills the process.
TOGETHER = PREAMBLE + textwrap.dedent(
    """
    import logging
    from children_support import define_parents

    database, name, life, rescues = sys.argv[1:]
    logging.getLogger("cloaca").setLevel(logging.CRITICAL)

    def body(n):
        note("child", life, n)
        if life == "doomed":
            time.sleep(300)

    define_parents(name, body, note)
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=40, max_rescues=int(rescues))
    with cloaca.DefaultRunner(database, config) as runner:
        note("ready", life)
        wait_for("stop")
    """
)


def kill(process: subprocess.Popen[str]) -> None:
    """Kills a process and waits for its end."""
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)


def submit_all(client: cloaca.DefaultRunner, name: str) -> list[cloaca.WorkflowHandle]:
    """Submits parents of all kinds."""
    return [client.submit(f"{name}-{KINDS[n % 3]}", input_of(n)) for n in range(PARENTS)]


def value_of(result: cloaca.WorkflowResult) -> object:
    """Returns the value that the parent received from its child."""
    if result.workflow_name.endswith("-map"):
        (value,) = result.of("inner")
        return value
    return result.final_context["inner"]


@pytest.mark.parametrize(("heir", "rescues"), [("before", 3), ("after", 0)])
def test_m3_parents_and_children_of_a_killed_runner_end(database, script, tmp_path, heir, rescues):
    """If no rescue is allowed, the interrupted children fail, and so do their parents.

    The second runner process, the heir, starts before or after the test kills the first one.
    """
    ledger, name = Ledger(tmp_path), "killed-together"
    define_parents(name)
    doomed = script(TOGETHER, database, name, "doomed", str(rescues), **ENVIRONMENT)
    ledger.wait("ready", 1)
    config = cloaca.DefaultRunnerConfig(max_rescues=rescues)
    with cloaca.DefaultRunner(database, config, start=False) as client:
        handles = submit_all(client, name)
        ledger.wait("child", PARENTS)
        followers = []
        if heir == "before":
            followers.append(script(TOGETHER, database, name, "heir", str(rescues), **ENVIRONMENT))
            ledger.wait("ready", 2)
        kill(doomed)
        if heir == "after":
            followers.append(script(TOGETHER, database, name, "heir", str(rescues), **ENVIRONMENT))
        status = "Completed" if rescues else "Failed"
        for n, handle in enumerate(handles):
            result = handle.result(timeout=60)
            (child,) = ordinary_children(client, handle.id)
            assert (result.status, child.status) == (status, status)
            assert child.tasks["square"].attempts == (2 if rescues else 1)
            assert len(events_of(client, child.execution_id, "task_rescued")) == 1
            if rescues:
                assert value_of(result) == n * n
            else:
                error = result.tasks["inner"].error
                assert error is not None
                assert error.type == "ChildFailedError"
                assert "max_rescues is 0" in error.message
    (tmp_path / "stop").touch()
    assert followers[0].communicate(timeout=60) == ("", "")
    assert sorted(int(n) for life, n in ledger.lines("child") if life == "doomed") == list(
        range(PARENTS)
    )
    finish = [(int(n), error) for n, error in ledger.lines("finish")]
    assert sorted(n for n, _ in finish) == list(range(PARENTS))
    assert {error for _, error in finish} == {"None" if rescues else "ChildFailedError"}


#: Besides its child, a parent has a task `hold`. The process whose `life` is `doomed` runs only one
#: kind of task: the child's task if `victim` is `child`, otherwise `hold`. The test kills this
#: process later. The other processes start later and run all tasks.
APART = PREAMBLE + textwrap.dedent(
    """
    database, life, victim = sys.argv[1:]

    def run(role, context):
        note(role, life, context["n"])
        if life == "doomed":
            time.sleep(300)
        if role != victim:
            wait_for("release")
            time.sleep(context["n"] * 0.02)

    def task(id, role, function):
        if life != "doomed" or role == victim:
            cloaca.task(id=id)(function)
        else:
            cloaca.external_task(id)

    def square(context):
        run("child", context)
        context["square"] = context["n"] ** 2

    def hold(context):
        run("parent", context)

    with cloaca.WorkflowBuilder("apart-inner", input={"n": int}, output="square"):
        task("square", "child", square)

    with cloaca.WorkflowBuilder("apart-outer"):
        cloaca.child("inner", workflow="apart-inner", input={"n": "n"})
        task("hold", "parent", hold)

        @cloaca.task(dependencies=["inner", "hold"])
        def after(context):
            note("after", context["n"], context["inner"])

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=2 * 30)
    with cloaca.DefaultRunner(database, config) as runner:
        note("ready", life)
        wait_for("stop")
    """
)


def define_apart() -> None:
    """Defines the workflows of `APART` for a client that runs no tasks."""
    with cloaca.WorkflowBuilder("apart-inner", input={"n": int}, output="square"):
        cloaca.external_task("square")
    with cloaca.WorkflowBuilder("apart-outer"):
        cloaca.child("inner", workflow="apart-inner", input={"n": "n"})
        cloaca.external_task("hold")
        cloaca.external_task("after", dependencies=["inner", "hold"])


@pytest.mark.parametrize("victim", ["parent", "child"])
def test_m3_parent_completes_after_a_task_is_rescued(database, script, tmp_path, victim):
    ledger = Ledger(tmp_path)
    define_apart()
    doomed = script(APART, database, "doomed", victim)
    ledger.wait("ready", 1)
    with cloaca.DefaultRunner(database, start=False) as client:
        handles = [client.submit("apart-outer", {"n": n}) for n in range(PARENTS)]
        ledger.wait(victim, PARENTS)
        heirs = [script(APART, database, life, victim) for life in ("second", "third")]
        other = "child" if victim == "parent" else "parent"
        ledger.wait(other, PARENTS)
        (tmp_path / "release").touch()
        kill(doomed)
        early = 0
        for n, handle in enumerate(handles):
            result = handle.result(timeout=60)
            assert result.status == "Completed"
            assert result.final_context["inner"] == n * n
            (child,) = client.children(handle.id)
            family = {"parent": handle.id, "child": child.execution_id}
            (rescue,) = events_of(client, family[victim], "task_rescued")
            (end,) = events_of(client, handle.id, "child_ended")
            (hold,) = events_of(client, handle.id, "task_completed", "hold")
            early += (end if victim == "parent" else hold).time < rescue.time
        print(f"{early} of {PARENTS} {other} tasks ended before the rescue of the {victim} task")
    (tmp_path / "stop").touch()
    for heir in heirs:
        assert heir.communicate(timeout=60) == ("", "")
    assert sorted(int(n) for life, n in ledger.lines(victim)) == sorted(2 * list(range(PARENTS)))
    assert sorted(int(n) for life, n in ledger.lines(other)) == list(range(PARENTS))
    assert sorted(int(n) for n, _ in ledger.lines("after")) == list(range(PARENTS))
