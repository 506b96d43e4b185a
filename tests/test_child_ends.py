"""A parent learns that its child has ended, whatever the outcome (semantics M1 to M8, Q4)."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

import cloaca
import cloaca.web
from children_support import KINDS, ordinary_children, run_sql
from processes import until
from web_support import TOKEN, call


def define_family(name: str, **options: object) -> None:
    """Defines a child that waits for a signal, and a parent of each kind in `KINDS`."""
    with cloaca.WorkflowBuilder(f"{name}-inner", output="came"):
        cloaca.wait("came", wait_for=cloaca.signal("come"))
    with cloaca.WorkflowBuilder(f"{name}-node"):
        cloaca.child("inner", workflow=f"{name}-inner", **options)  # type: ignore[arg-type]
    with cloaca.WorkflowBuilder(f"{name}-map"):
        cloaca.child("inner", workflow=f"{name}-inner", over="rows", **options)  # type: ignore[arg-type]
    with cloaca.WorkflowBuilder(f"{name}-code"):

        @cloaca.task(id="inner", retry_attempts=1)
        def inner(context: cloaca.Context, handle: cloaca.TaskHandle) -> None:
            context["inner"] = handle.run("inner", f"{name}-inner", **options)  # type: ignore[arg-type]


def submit_family(runner: cloaca.DefaultRunner, name: str) -> dict[str, cloaca.WorkflowHandle]:
    """Submits a parent of each kind, and waits until their children wait for the signal."""
    handles = {kind: runner.submit(f"{name}-{kind}", {"rows": [1]}) for kind in KINDS}
    for handle in handles.values():
        until("the child waits", lambda handle=handle: is_waiting(runner, handle))
    return handles


def is_waiting(runner: cloaca.DefaultRunner, handle: cloaca.WorkflowHandle) -> bool:
    children = ordinary_children(runner, handle.id)
    return any(
        wait.execution_id == child.execution_id for child in children for wait in runner.waits()
    )


def only_child(runner: cloaca.DefaultRunner, handle: cloaca.WorkflowHandle) -> str:
    """Returns the id of a parent's only child."""
    (child,) = ordinary_children(runner, handle.id)
    return child.execution_id


def check_failed(handle: cloaca.WorkflowHandle, text: str) -> None:
    """Checks that a parent failed because of its child."""
    result = handle.result(timeout=60)
    assert result.status == "Failed"
    error = result.tasks["inner"].error
    assert error is not None
    assert error.type == "ChildFailedError"
    assert text in error.message


def run_cli(*arguments: str) -> None:
    """Runs a `cloaca` command in a separate process, which has no runner."""
    command = [sys.executable, "-m", "cloaca", *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def test_m3_parent_learns_of_a_child_cancelled_without_a_runner(database):
    name = "cancelled-alone"
    define_family(name)
    with cloaca.DefaultRunner(database) as runner:
        handles = submit_family(runner, name)
        children = [only_child(runner, handle) for handle in handles.values()]
    for child in children:
        run_cli("cancel", child, "-c", database)
    with cloaca.DefaultRunner(database) as runner:
        for handle in handles.values():
            check_failed(runner.get_handle(handle.id), "was cancelled")


def test_m3_parent_learns_of_a_child_that_timed_out(runner):
    name = "timed-out"
    define_family(name, timeout=0.3)
    handles = [runner.submit(f"{name}-{kind}", {"rows": [1]}) for kind in KINDS]
    for handle in handles:
        check_failed(handle, "did not end within its timeout of 0.3 s")


def test_m3_paused_parent_learns_of_a_cancelled_child_when_resumed(runner):
    name = "paused-family"
    define_family(name)
    handles = submit_family(runner, name)
    for kind, handle in handles.items():
        child = only_child(runner, handle)
        handle.pause()
        runner.cancel_execution(child)
        until("the child ends", lambda c=child: runner.get_execution_status(c) == "Cancelled")
        # A running map can end during a pause, like a running task. A node or a function that waits
        # for its child continues only after the pause.
        if kind != "map":
            assert handle.status() == "Paused"
            handle.resume()
        check_failed(handle, "was cancelled")


def test_m8_child_cannot_be_deleted_before_its_parent(runner, database):
    name = "not-deleted"
    define_family(name)
    handles = submit_family(runner, name)
    with cloaca.web.serve(database, token=TOKEN) as server:

        def delete(id: str) -> tuple[int, str]:
            answer = call(f"{server.url}api/v1/executions/{id}", "DELETE")
            return answer.status, answer.json()["code"]

        children = [only_child(runner, handle) for handle in handles.values()]
        for child in children:
            assert delete(child) == (409, "execution_state")
        runner.cancel_execution(children[0])
        until("the child ends", lambda: runner.get_execution_status(children[0]) == "Cancelled")
        assert delete(children[0]) == (409, "execution_state")
        # If the parent has already ended, it is deleted together with its child.
        assert runner.prune(older_than=0) in {0, 2}
        runner.send("come", 5)
        check_failed(handles[KINDS[0]], "was cancelled")
        for kind in KINDS[1:]:
            assert handles[kind].result(timeout=60).status == "Completed"


def test_m6_parent_learns_that_its_failed_child_was_deleted(runner, database):
    name = "failed-and-gone"
    define_family(name, timeout=0.1)
    handles = [runner.submit(f"{name}-{kind}", {"rows": [1]}) for kind in KINDS]
    for handle in handles:
        assert handle.result(timeout=60).status == "Failed"
    remove(database, [only_child(runner, handle) for handle in handles])
    for handle in handles:
        handle.retry()
        check_failed(handle, "it is not stored any more")


def remove(database: str, ids: list[str]) -> None:
    """Deletes the rows of executions, as an administrator might do by mistake."""
    statements = []
    for id in ids:
        key = f"x'{id.replace('-', '')}'" if database.startswith("sqlite") else f"'{id}'"
        for table in ("events", "tasks", "inputs", "waits", "steps"):
            statements.append(f"DELETE FROM cloacina_{table} WHERE execution_id = {key}")
        statements.append(f"DELETE FROM cloacina_children WHERE child_id = {key}")
        statements.append(f"DELETE FROM cloacina_executions WHERE id = {key}")
    run_sql(database, ";".join(statements))


def test_m4_default_timeout_counts_from_the_start_of_the_child(database):
    with cloaca.WorkflowBuilder("late-child"):
        cloaca.wait("never", wait_for=cloaca.signal("never-sent"))
    with cloaca.WorkflowBuilder("late-parent"):
        cloaca.wait("later", wait_for=cloaca.delay(1))
        cloaca.child("child", workflow="late-child", dependencies=["later"])

    config = cloaca.DefaultRunnerConfig(workflow_timeout_seconds=0.6)
    with cloaca.DefaultRunner(database, config) as runner:
        handle = runner.submit("late-parent", timeout=60)
        result = handle.result(timeout=60)
        error = result.tasks["child"].error
        assert error is not None
        assert "within its timeout of 0.6 s" in error.message
        (child,) = runner.children(handle.id)
        assert child.ended_at is not None
        assert (child.ended_at - child.created_at).total_seconds() >= 0.6


@pytest.mark.parametrize("is_async", [False, True])
def test_m1_four_parents_of_each_kind_complete_with_one_worker(database, is_async):
    name = f"one-worker-{is_async}"
    running, most = [], []
    with cloaca.WorkflowBuilder(f"{name}-inner", output="value"):
        if is_async:

            @cloaca.task
            async def value(context: cloaca.Context) -> None:
                context["value"] = 1

        else:

            @cloaca.task(id="value")
            def work(context: cloaca.Context) -> None:
                running.append(1)
                most.append(len(running))
                context["value"] = 1
                running.pop()

    for kind in KINDS:
        with cloaca.WorkflowBuilder(f"{name}-{kind}"):
            if kind != "code":
                over = {"over": "rows"} if kind == "map" else {}
                cloaca.child("inner", workflow=f"{name}-inner", **over)
            elif is_async:

                @cloaca.task(id="inner")
                async def run_async(handle: cloaca.TaskHandle) -> object:
                    return await handle.run_many("all", f"{name}-inner", [{}, {}])

            else:

                @cloaca.task(id="inner")
                def run(handle: cloaca.TaskHandle) -> object:
                    return handle.run_many("all", f"{name}-inner", [{}, {}])

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1, max_concurrent_async_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        handles = runner.submit_many(
            (f"{name}-{kind}", {"rows": [1, 2]}) for kind in KINDS for _ in range(4)
        )
        assert {handle.result(timeout=60).status for handle in handles} == {"Completed"}
    assert is_async or set(most) == {1}


def test_m1_waiting_parents_hold_no_worker_and_survive_a_restart(database):
    name = "restarted-family"
    define_family(name)
    with cloaca.WorkflowBuilder("beside-parents"):

        @cloaca.task
        def beside(context): ...

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        handles = submit_family(runner, name)
        assert runner.execute("beside-parents").status == "Completed"
        for kind, handle in handles.items():
            task = runner.get_execution(handle.id).tasks["inner"]
            assert task.status == ("Running" if kind == "map" else "Waiting")
    with cloaca.DefaultRunner(database, config) as runner:
        runner.send("come", 7)
        for handle in handles.values():
            again = runner.get_handle(handle.id)
            assert again.result(timeout=60).status == "Completed"
            assert len(ordinary_children(runner, handle.id)) == 1


def test_q4_neither_cancel_nor_timeout_of_a_parent_reaches_final_tasks(runner):
    ran: list[str] = []
    go, used = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("q4-inner"):

        @cloaca.task(retry_attempts=1)
        def use(handle: cloaca.TaskHandle) -> None:
            used.set()
            while not handle.is_cancelled():
                time.sleep(0.01)

        @cloaca.task(final="always", retry_attempts=1)
        def clean(error: cloaca.ErrorInfo) -> None:
            assert go.wait(60)
            ran.append(error.type)

    with cloaca.WorkflowBuilder("q4-outer"):
        cloaca.child("inner", workflow="q4-inner")

        @cloaca.task(final="always", retry_attempts=1)
        def close(error: cloaca.ErrorInfo) -> None:
            assert go.wait(60)
            ran.append(error.type)

    handles = {"Cancelled": runner.submit("q4-outer")}
    assert used.wait(60)
    handles["Cancelled"].cancel()
    handles["Failed"] = runner.submit("q4-outer", timeout=0.3)
    for status, handle in handles.items():
        result = handle.result(timeout=60, wait_final=False)
        assert result.status == status
        assert result.final is not None
        assert not handle.cancel()
    time.sleep(0.4)  # Sleeps longer than the timeout, which must not end the final tasks.
    go.set()
    runner.wait_until_idle(timeout=60)
    for status, handle in handles.items():
        result = handle.result(timeout=60)
        assert (result.status, result.final.status) == (status, "Completed")
        (child,) = ordinary_children(runner, handle.id)
        assert child.final is not None
        assert child.final.status == "Completed"
    # A child has the deadline of its parent. The child either times out at the same time, or is
    # cancelled by its parent.
    assert sorted(ran)[:2] == ["Cancelled"] * 2
    assert sorted(ran)[3] == "WorkflowTimeoutError"
