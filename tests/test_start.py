"""A runner starts no task before its constructor returns, nor before `start()` if `start=False`."""

from __future__ import annotations

import gc
import subprocess
import threading
import time
import weakref

import pytest

import cloaca
from processes import PREAMBLE, until

PARENT = (
    PREAMBLE
    + """
import asyncio

runner = None

with cloaca.WorkflowBuilder("parent"):

    @cloaca.task(retry_attempts=1)
    async def spawn(context, handle):
        note("started", handle.attempt)
        runner.submit("child", key=handle.execution_id)
        if handle.attempt == 1:
            await asyncio.sleep(60)

with cloaca.WorkflowBuilder("child"):

    @cloaca.task
    async def work(context):
        pass

def make():
    return cloaca.DefaultRunner(sys.argv[1])

if sys.argv[2] == "assign":
    runner = cloaca.DefaultRunner(sys.argv[1])
elif sys.argv[2] == "function":
    runner = make()
elif sys.argv[2] == "subclass":
    class Mine(cloaca.DefaultRunner):
        def __init__(self, url):
            super().__init__(url)
            time.sleep(0.2)
    runner = Mine(sys.argv[1])
elif sys.argv[2] == "slow":
    class Holder:
        def __setattr__(self, name, value):
            object.__setattr__(self, name, value)
    holder = Holder()
    holder.runner = runner = cloaca.DefaultRunner(sys.argv[1])
if sys.argv[2] == "with":
    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        result = runner.submit("parent", key="one").result(timeout=60)
else:
    # In the second process, the runner resumes the killed process's work without a submission.
    if sys.argv[3] == "first":
        runner.submit("parent", key="one")
    while not (found := runner.list_executions("parent").items)[0].ended_at:
        time.sleep(0.01)
    result = found[0]
note("ended", result.status, result.error_message)
runner.shutdown(timeout=0)
"""
)


def test_recovered_task_runs_after_the_constructor_has_returned(database, script, tmp_path):
    ledger = tmp_path / "ledger.txt"

    def lines(first):
        return [line for line in ledger.read_text().splitlines() if line.startswith(first)]

    for construction in ("assign", "function", "subclass", "slow", "with"):
        ledger.write_text("")
        url = database if "postgres" in database else f"{database}.{construction}"
        first = script(PARENT.replace('"one"', f'"{construction}"'), url, construction, "first")
        until("the first attempt starts", lambda: lines("started"))
        first.kill()
        first.wait()
        second = script(PARENT.replace('"one"', f'"{construction}"'), url, construction, "second")
        _, errors = second.communicate(timeout=90)
        assert lines("ended") == ["ended Completed None"], (construction, lines(""), errors)


def test_unstarted_runner_takes_submissions_and_runs_nothing(database):
    calls = []
    entered = threading.Event()

    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def work(context):
            calls.append(threading.current_thread())
            entered.set()

    runner = cloaca.DefaultRunner(database, start=False)
    try:
        assert repr(runner).endswith(" not started>")
        handles = [runner.submit("w"), *runner.submit_many([("w", None)] * 2)]
        assert handles[2].cancel()
        for _ in range(20):
            runner.list_executions()
        assert not entered.wait(0.3)
        assert [handle.status() for handle in handles] == ["Pending", "Pending", "Cancelled"]
        runner.start()
        runner.start()
        assert "not started" not in repr(runner)
        assert [handle.result(timeout=30).status for handle in handles[:2]] == ["Completed"] * 2
        assert len(calls) == 2
    finally:
        runner.shutdown()


def test_wait_on_an_unstarted_runner_in_memory_is_refused():
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="work")(lambda context: None)
    with cloaca.DefaultRunner(":memory:", start=False) as runner:
        handle, cancelled = runner.submit_many([("w", None)] * 2)
        cancelled.cancel()
        assert cancelled.result(timeout=1).status == "Cancelled"
        for wait in (handle.result, lambda: handle.result(timeout=1), lambda: runner.execute("w")):
            with pytest.raises(cloaca.RunnerClosedError, match=r"not started: call start\(\)"):
                wait()
        assert len(runner.list_executions().items) == 2
        runner.start()
        assert handle.result(timeout=30).status == "Completed"
        assert runner.execute("w").status == "Completed"


def test_unstarted_runner_rescues_nothing(database, script):
    url = database
    code = """
        import os, sys, time
        import cloaca
        with cloaca.WorkflowBuilder("w"):
            @cloaca.task
            def work(context):
                os.write(1, b"started\\n")
                time.sleep(60 if len(sys.argv) > 2 else 0)
        runner = cloaca.DefaultRunner(sys.argv[1])
        os.write(1, f"{runner.submit('w').id}\\n".encode())
        time.sleep(60)
    """
    dead = script(code, url, "hangs")
    # The two lines can come in either order, because the task can start before the execution's id
    # is written. The lines are not mixed, because each line is a single write.
    lines = {dead.stdout.readline().strip() for _ in range(2)}
    (id,) = lines - {"started"}
    dead.kill()
    dead.wait()
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="work")(lambda context: None)
    runner = cloaca.DefaultRunner(url, start=False)
    try:
        assert not _ends(runner, id, 1.5)
        runner.start()
        assert _ends(runner, id, 60)
    finally:
        runner.shutdown()


def _ends(runner, id, seconds):
    """Returns whether an execution completes within `seconds` seconds."""
    try:
        return runner.get_handle(id).result(timeout=seconds).status == "Completed"
    except TimeoutError:
        return False


def test_run_forever_starts_an_unstarted_runner(script, database):
    code = """
        import sys
        import cloaca
        with cloaca.WorkflowBuilder("w"):
            @cloaca.task
            def work(context):
                print("ran", flush=True)
        runner = cloaca.DefaultRunner(sys.argv[1], start=False)
        runner.submit("w")
        print("open", flush=True)
        runner.run_forever()
    """
    process: subprocess.Popen[str] = script(code, database)
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(2)] == ["open\n", "ran\n"]
    process.terminate()
    assert process.wait(30) == 0


def test_started_runner_keeps_no_variable_of_its_caller(database):
    class Large:
        """Stands for a large value of the caller."""

    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="work")(lambda context: None)

    def caller():
        large = Large()
        runner = cloaca.DefaultRunner(database)
        runner.execute("w")
        return runner, weakref.ref(large)

    runner, large = caller()
    until("the caller's variables are gone", lambda: gc.collect() >= 0 and large() is None)
    runner.shutdown()


def test_runner_shut_down_at_once_keeps_no_variable_of_its_caller(database):
    class Large:
        """Stands for a large value of the caller."""

    def caller():
        large = Large()
        runner = cloaca.DefaultRunner(database)
        runner.shutdown()
        with runner:
            return runner, weakref.ref(large)

    runner, large = caller()
    assert runner._core.closed
    until("the caller's variables are gone", lambda: gc.collect() >= 0 and large() is None)


def test_tenant_starts_after_the_caller_has_received_the_tenant(postgres):
    seen = []

    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(retry_attempts=1)
        def work(context):
            seen.append(tenant._core.location)

    with cloaca.DefaultRunner(postgres, start=False) as runner:
        runner.tenant("acme").submit("w")
    with cloaca.DefaultRunner(postgres) as runner:
        tenant = runner.tenant("acme")
        until("the tenant has run the task", lambda: seen)


def test_tenant_of_an_unstarted_runner_starts_with_the_runner(postgres):
    calls = []

    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def work(context):
            calls.append(context["tenant"])

    with cloaca.DefaultRunner(postgres, start=False) as runner:
        acme, early = runner.tenant("acme"), runner.tenant("early")
        assert repr(acme).endswith(" not started>")
        handle = acme.submit("w", {"tenant": "acme"})
        first = early.submit("w", {"tenant": "early"})
        early.start()
        assert first.result(timeout=30).status == "Completed"
        time.sleep(0.2)
        assert calls == ["early"]
        runner.start()
        assert handle.result(timeout=30).status == "Completed"
        late = runner.tenant("late")
        assert late.submit("w", {"tenant": "late"}).result(timeout=30).status == "Completed"
    assert calls == ["early", "acme", "late"]


def test_runner_before_its_start_is_not_shown_as_a_worker(database):
    with cloaca.WorkflowBuilder("not-yet"):

        @cloaca.task(id="a")
        def a(context):
            pass

    with cloaca.DefaultRunner(database, start=False) as runner:
        handle = runner.submit("not-yet")
        time.sleep(0.2)
        assert "free worker" not in str(runner.explain(handle.id))
        assert [row.workflows for row in runner._core.reads.runners()] == [[]]
        runner.start()
        assert handle.result().status == "Completed"
