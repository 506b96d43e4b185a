"""Final tasks and compensations run after their process is killed (semantics Q1, Q2)."""

from __future__ import annotations

import signal
import subprocess
import sys

import cloaca
from cloaca.testing import crash_everywhere
from final_support import Ran, define_trip


def test_q_compensations_run_after_a_kill_at_any_point():
    ran = Ran()
    define_trip(ran, "mail")

    def observe() -> set[str]:
        return {name.split()[1] for name in ran.names}

    report = crash_everywhere("trip", setup=ran.names.clear, observe=observe)
    assert len(report.points) > 10


DIES = """
    import os, signal, sys, threading, time
    import cloaca

    database, dies = sys.argv[1], sys.argv[2] == "die"
    started, go = threading.Event(), threading.Event()

    with cloaca.WorkflowBuilder("order"):
        @cloaca.task(retry_attempts=1, compensate=lambda work: print("undo", flush=True))
        def work() -> int:
            return 1

        @cloaca.task(retry_attempts=1, dependencies=[work])
        def breaks():
            started.set()
            go.wait(30)
            raise ValueError("no")

        @cloaca.task(final="always")
        def teardown(error):
            print("teardown", error.type, flush=True)

    with cloaca.WorkflowBuilder("blocker"):
        @cloaca.task
        def block(context):
            time.sleep(60 if dies else 0)

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        if dies:
            handle = runner.submit("order", key="k")
            started.wait(30)
            runner.submit("blocker", priority=100)
            go.set()
            handle.result(timeout=30, wait_final=False)
            os.kill(os.getpid(), signal.SIGKILL)
        result = runner.find("order", "k").result(timeout=60)
        print(result.status, result.final.status, flush=True)
        os._exit(0)
"""


def test_q1_final_tasks_survive_kill_9_after_the_end(database, script):
    first = script(DIES, database, "die")
    out, _ = first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    assert out == ""
    out, err = script(DIES, database, "").communicate(timeout=90)
    assert (out, err) == ("undo\nteardown ValueError\nFailed Completed\n", "")


LOST = """
    import os, signal, sys, threading
    import cloaca

    database, dies = sys.argv[1], sys.argv[2] == "die"
    started = threading.Event()

    with cloaca.WorkflowBuilder("lost"):
        @cloaca.task
        def work(context):
            started.set()
            if dies:
                threading.Event().wait(60)

        @cloaca.task(final="always")
        def teardown(error):
            print("teardown", error.type, flush=True)

    with cloaca.DefaultRunner(database) as runner:
        if dies:
            handle = runner.submit("lost", key="k")
            started.wait(30)
            handle.cancel()
            os.kill(os.getpid(), signal.SIGKILL)
        result = runner.find("lost", "k").result(timeout=60)
        print(result.status, result.final.status, flush=True)
        os._exit(0)
"""


def test_q2_final_tasks_start_after_the_running_attempt_is_lost(database, script):
    first = script(LOST, database, "die")
    out, _ = first.communicate(timeout=60)
    assert (first.returncode, out) == (-signal.SIGKILL, "")
    out, err = script(LOST, database, "").communicate(timeout=90)
    assert (out, err) == ("teardown Cancelled\nCancelled Completed\n", "")


def test_q1_cancel_without_a_runner_starts_the_final_tasks(database):
    ran = Ran()
    with cloaca.WorkflowBuilder("later"):

        @cloaca.task
        def work(context): ...

        @cloaca.task(final="cancelled")
        def clean(error):
            ran(error.type)

    with cloaca.DefaultRunner(database) as runner:
        handle = runner.submit("later", delay=3600)
    command = [sys.executable, "-m", "cloaca", "cancel", handle.id, "-c", database]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    with cloaca.DefaultRunner(database) as runner:
        result = runner.get_handle(handle.id).result(timeout=60)
        assert result.status == "Cancelled"
        assert result.final.status == "Completed"
    assert ran.names == ["Cancelled"]
