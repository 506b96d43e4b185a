"""If a process is killed, no acknowledged submission is lost and no finished task runs again."""

from __future__ import annotations

import signal
import time

import pytest

import cloaca
from processes import suspend

CHAIN = """
    import os, signal, sys
    import cloaca

    database, die_after = sys.argv[1], sys.argv[2]

    def note(context, task):
        with open("ran.txt", "a") as ran:
            ran.write(task + "\\n")

    with cloaca.WorkflowBuilder("chain"):
        previous = []
        for name in ["a", "b", "c", "d"]:
            def body(context, name=name):
                note(context, name)
                if name == die_after:
                    os.kill(os.getpid(), signal.SIGKILL)
            previous = [cloaca.task(id=name, dependencies=previous)(body)]

    with cloaca.DefaultRunner(database) as runner:
        print(runner.submit("chain", key="only").result(timeout=60).status)
"""


@pytest.mark.parametrize("victim", ["a", "b", "c", "d"])
def test_e3_restart_completes_a_chain_after_any_kill_9(database, script, tmp_path, victim):
    first = script(CHAIN, database, victim)
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    start = time.monotonic()
    second = script(CHAIN, database, "")
    out, err = second.communicate(timeout=60)
    assert (out, err) == ("Completed\n", "")
    assert time.monotonic() - start < 5
    ran = (tmp_path / "ran.txt").read_text().split()
    assert {task: ran.count(task) for task in "abcd"} == {
        task: 2 if task == victim else 1 for task in "abcd"
    }
    with cloaca.DefaultRunner(database) as runner:
        (only,) = runner.list_executions().items
        assert only.tasks[victim].attempts == 2
        assert "task_rescued" in [event.type for event in runner.events(only.execution_id)]


def test_c8_acknowledged_submissions_survive_kill_9(database, script):
    process = script(
        """
        import os, signal, sys
        import cloaca
        with cloaca.WorkflowBuilder("quick"):
            @cloaca.task()
            def work(context):
                pass
        runner = cloaca.DefaultRunner(sys.argv[1])
        ids = [handle.id for handle in runner.submit_many(("quick", None) for _ in range(50))]
        os.write(1, "\\n".join(ids).encode())
        os.kill(os.getpid(), signal.SIGKILL)
        """,
        database,
    )
    out, _ = process.communicate(timeout=60)
    ids = out.split()
    assert len(ids) == 50
    with cloaca.WorkflowBuilder("quick"):

        @cloaca.task()
        def work(context):
            pass

    with cloaca.DefaultRunner(database) as runner:
        for id in ids:
            assert runner.get_execution(id).execution_id == id
        runner.wait_until_idle(timeout=30)
        assert {runner.get_execution_status(id) for id in ids} == {"Completed"}


def test_d3_a_retry_delay_survives_kill_9(database, script):
    code = """
        import os, signal, sys
        import cloaca
        with cloaca.WorkflowBuilder("waits"):
            @cloaca.task(retry_attempts=2, retry_delay_ms=1500, retry_jitter=False)
            def work(context, handle):
                if handle.attempt == 1:
                    raise ValueError("once")
        runner = cloaca.DefaultRunner(sys.argv[1])
        handle = runner.submit("waits", key="k")
        if sys.argv[2] == "die":
            while "task_retrying" not in [event.type for event in handle.events()]:
                pass
            os.kill(os.getpid(), signal.SIGKILL)
        result = handle.result(timeout=60)
        print(result.status, result.tasks["work"].attempts)
        runner.shutdown()
    """
    script(code, database, "die").communicate(timeout=60)
    out, err = script(code, database, "").communicate(timeout=60)
    assert (out, err) == ("Completed 2\n", "")


def test_d5_no_task_starts_after_a_crash_and_a_timeout(database, script, tmp_path):
    code = """
        import os, signal, sys, time
        import cloaca
        with cloaca.WorkflowBuilder("limited"):
            @cloaca.task
            def work(context):
                with open(sys.argv[2], "a") as starts:
                    starts.write("start\\n")
                time.sleep(0.2)
                os.kill(os.getpid(), signal.SIGKILL)
        runner = cloaca.DefaultRunner(sys.argv[1])
        result = runner.submit("limited", key="k", timeout=0.5).result(timeout=60)
        print(result.status, result.error.type)
        runner.shutdown()
    """
    starts = tmp_path / "starts"
    script(code, database, str(starts)).communicate(timeout=60)
    time.sleep(0.6)
    out, err = script(code, database, str(starts)).communicate(timeout=60)
    assert (out, err.count("Traceback")) == ("Failed WorkflowTimeoutError\n", 0)
    assert starts.read_text() == "start\n"


def test_interpreter_can_exit_with_an_open_runner(database, script):
    process = script(
        """
        import sys, cloaca
        with cloaca.WorkflowBuilder("w"):
            @cloaca.task()
            def work(context):
                pass
        runner = cloaca.DefaultRunner(sys.argv[1])
        runner.execute("w")
        """,
        database,
    )
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (0, "", "")


def test_ctrl_c_interrupts_execute(database, script):
    process = script(
        """
        import sys, time, cloaca
        with cloaca.WorkflowBuilder("w"):
            @cloaca.task()
            def work(context):
                print("started", flush=True)
                time.sleep(20)
        runner = cloaca.DefaultRunner(sys.argv[1], cloaca.DefaultRunnerConfig(shutdown_timeout=0.1))
        try:
            runner.execute("w")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            runner.shutdown()
            sys.exit(3)
        """,
        database,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=30)
    assert out == "interrupted\n"
    assert process.returncode == 3
    assert time.monotonic() - start < 5


def test_a_forked_child_gets_an_error_and_not_a_deadlock(database, script):
    process = script(
        """
        import os, sys, warnings, cloaca
        warnings.simplefilter("ignore")
        with cloaca.WorkflowBuilder("w"):
            @cloaca.task()
            def work(context):
                pass
        runner = cloaca.DefaultRunner(sys.argv[1])
        runner.execute("w")
        pid = os.fork()
        if pid == 0:
            try:
                runner.execute("w")
            except cloaca.ForkedProcessError as error:
                os.write(1, b"refused\\n")
                os._exit(0)
            os._exit(1)
        _, status = os.waitpid(pid, 0)
        assert status == 0
        print(runner.execute("w").status)
        runner.shutdown()
        """,
        database,
    )
    out, err = process.communicate(timeout=60)
    assert (out, err) == ("refused\nCompleted\n", "")


def test_d8_sigterm_lets_running_tasks_finish_and_returns_claims(database, script):
    process = script(
        """
        import signal, sys, time, cloaca
        # Only this process defines the workflow, so that the test's own runner does not run it.
        with cloaca.WorkflowBuilder("stopped"):
            @cloaca.task()
            def work(context):
                # Before run_forever installs its handler, SIGTERM would kill the process.
                while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
                    time.sleep(0.01)
                print("started", flush=True)
                time.sleep(0.7)
        config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
        runner = cloaca.DefaultRunner(sys.argv[1], config)
        runner.submit_many(("stopped", None) for _ in range(3))
        runner.run_forever()
        """,
        database,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    (line,) = err.splitlines()
    assert "2 executions are open: " in line
    with cloaca.DefaultRunner(database) as runner:
        items = runner.list_executions().items
        states = sorted(str(item.status) for item in items)
        assert states.count("Completed") == 1
        open_tasks = [item.tasks["work"] for item in items if item.status != "Completed"]
        assert [task.attempts for task in open_tasks] == [0, 0]


def test_e4_process_that_lost_its_lease_continues_under_a_new_id(database, script):
    config = "cloaca.DefaultRunnerConfig(heartbeat_interval=0.2, lease_ttl=0.6)"
    code = f"""
        import os, sys, time, cloaca
        with cloaca.WorkflowBuilder("w"):
            @cloaca.task()
            def work(context):
                print("started", flush=True)
                time.sleep(float(sys.argv[2]))
                context["by"] = os.getpid()
        runner = cloaca.DefaultRunner(sys.argv[1], {config})
        if sys.argv[3] == "submit":
            handle = runner.submit("w", key="k")
            print(handle.result(timeout=60).final_context["by"], flush=True)
            print(runner.execute("w").status, flush=True)
            there = [found.runner_id for found in runner._core.reads.runners()]
            print(len(there), runner._core.runner_id in there, flush=True)
        else:
            print(runner.submit("w", key="k").result(timeout=60).final_context["by"], flush=True)
        runner.shutdown()
    """
    first = script(code, database, "1", "submit")
    assert first.stdout is not None
    assert first.stdout.readline() == "started\n"
    suspend(first, database)
    second = script(code, database, "0.1", "join")
    out, err = second.communicate(timeout=60)
    assert (out, err) == (f"started\n{second.pid}\n", "")
    first.send_signal(signal.SIGCONT)
    out, err = first.communicate(timeout=60)
    # The first process's late result was refused, and the process continued under a new runner id.
    assert out.split() == [str(second.pid), "started", "Completed", "1", "False"]
