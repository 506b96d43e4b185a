"""Shutdown of runners, and the exit of processes that have a runner (semantics D8)."""

from __future__ import annotations

import asyncio
import copy
import gc
import os
import pickle
import resource
import signal
import threading
import time
from pathlib import Path

import pytest

import cloaca
from processes import second_ctrl_c

# A program that prints "started" once run_forever has set its signal handlers.
SERVE = """
    import asyncio, signal, sys, threading, time
    import cloaca

    def wait_for_handlers():
        while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            time.sleep(0.01)
        print("started", flush=True)

    with cloaca.WorkflowBuilder("long"):
        @cloaca.task
        def long(context):
            wait_for_handlers()
            time.sleep(float(sys.argv[2]))

    runner = cloaca.DefaultRunner(sys.argv[1])
    runner.submit("long")
    runner.run_forever()
"""

# A value of PYTHONWARNINGS that hides the warning of Python 3.12 and later about a fork while other
# threads run.
QUIET_FORK = "ignore::DeprecationWarning"


def assert_only_names_open_executions(err):
    """Asserts that a program printed a single line, which reports its open executions."""
    (line,) = err.splitlines()
    assert "open: " in line
    assert "with the next runner" in line


def stored_state(database):
    """Returns the execution's status, and the attempts and the status of its task `long`."""
    with cloaca.DefaultRunner(database) as runner:
        (only,) = runner.list_executions().items
        return str(only.status), only.tasks["long"].attempts, str(only.tasks["long"].status)


def test_d8_runner_finishes_running_tasks_after_one_signal(database, script):
    process = script(SERVE, database, "0.3")
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert out == ""
    assert err.startswith("interrupted: waiting up to 30 s for 1 running task ")
    assert len(err.splitlines()) == 1
    assert process.returncode == 0
    assert stored_state(database) == ("Completed", 1, "Completed")


def test_d8_second_signal_ends_the_process_at_once_and_loses_nothing(database, script):
    process = script(SERVE, database, "60")
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGTERM)
    out, err = second_ctrl_c(process, signal.SIGTERM)
    assert out == ""
    assert_only_names_open_executions(err)
    assert process.returncode == 128 + signal.SIGTERM
    status, count, task = stored_state(database)
    assert status in {"Running", "Pending"}
    assert count == 0  # An interrupted attempt does not count.
    assert task in {"Ready", "Pending"}


def test_d8_failed_shutdown_ends_the_program_with_an_error(script):
    process = script(
        """
        import cloaca

        class Failing(cloaca.DefaultRunner):
            is_first = True

            def shutdown(self, *, timeout=None):
                is_first, self.is_first = self.is_first, False
                super().shutdown(timeout=timeout)
                if is_first:
                    raise OSError("the disk is gone")

        with cloaca.WorkflowBuilder("w"):

            @cloaca.task
            def work(context):
                print("started", flush=True)

        runner = Failing(":memory:", start=False)
        runner.submit("w")
        runner.run_forever()
        """
    )
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert err.rstrip().endswith("OSError: the disk is gone")
    assert process.returncode == 1


def test_d8_run_forever_on_another_thread_ends_with_shutdown(database):
    runner = cloaca.DefaultRunner(database)
    serving = threading.Thread(target=runner.run_forever)
    serving.start()
    runner.shutdown()
    serving.join(10)
    assert not serving.is_alive()


def test_d8_run_forever_works_with_a_thousand_open_files(database):
    most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, min(hard, 4096)), hard))
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        runner = cloaca.DefaultRunner(database)
        serving = threading.Thread(target=runner.run_forever)
        serving.start()
        runner.shutdown()
        serving.join(10)
        assert not serving.is_alive()
    finally:
        for file in files:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def test_d8_shutdown_closes_the_descriptors_of_a_runner(database):
    def descriptors() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    cloaca.DefaultRunner(database).shutdown()
    before = descriptors()
    for _ in range(10):
        cloaca.DefaultRunner(database).shutdown()
    assert descriptors() < before + 10


def test_d8_shutdown_ends_the_threads_of_a_runner(database):
    before = set(threading.enumerate())
    with cloaca.WorkflowBuilder("both"):

        @cloaca.task
        def function(context):
            pass

        @cloaca.task
        async def coroutine(context):
            pass

    with cloaca.DefaultRunner(database) as runner:
        runner.execute("both")
        assert {thread.name for thread in set(threading.enumerate()) - before} >= {
            "cloaca-supervisor",
            "cloaca-worker-1",
            "cloaca-loop",
        }
    assert set(threading.enumerate()) <= before


def test_d8_coroutine_that_outlasts_the_shutdown_is_cancelled(database):
    started, cancelled = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        async def long(context):
            started.set()
            try:
                await asyncio.sleep(60)
            finally:
                cancelled.set()

    config = cloaca.DefaultRunnerConfig(shutdown_timeout=0.05)
    runner = cloaca.DefaultRunner(database, config)
    runner.submit("w")
    assert started.wait(10)
    runner.shutdown()
    assert cancelled.wait(10)


def test_a_process_with_running_work_exits_quickly(database, script):
    process = script(
        """
        import asyncio, sys, threading, time
        import cloaca

        started = threading.Barrier(3)

        async def meet():
            await asyncio.to_thread(started.wait)

        with cloaca.WorkflowBuilder("w"):
            @cloaca.task
            def function(context):
                started.wait()
                while True:
                    time.sleep(0.01)

            @cloaca.task
            async def coroutine(context):
                await meet()
                await asyncio.sleep(3600)

        config = cloaca.DefaultRunnerConfig(shutdown_timeout=0.2)
        runner = cloaca.DefaultRunner(sys.argv[1], config)
        runner.submit("w")
        started.wait()
        """,
        database,
    )
    out, err = process.communicate(timeout=30)
    assert out == ""
    waiting, _, rest = err.partition("\n")
    assert waiting.startswith("exiting: waiting up to 0.2 s for 2 running tasks ")
    assert_only_names_open_executions(rest)
    assert process.returncode == 0


def test_a_waiting_handle_does_not_block_the_exit(database, script):
    process = script(
        """
        import sys, threading, time
        import cloaca
        with cloaca.WorkflowBuilder("w"):
            cloaca.external_task("elsewhere")
        runner = cloaca.DefaultRunner(sys.argv[1])
        handle = runner.submit("w")
        threading.Thread(target=handle.result, daemon=True).start()
        """,
        database,
    )
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")


def test_a_forked_child_can_start_its_own_runner(database, script, tmp_path):
    process = script(
        """
        import os, sys, warnings
        import cloaca
        warnings.simplefilter("ignore")
        with cloaca.WorkflowBuilder("w"):
            @cloaca.task
            def work(context):
                context["pid"] = os.getpid()
        runner = cloaca.DefaultRunner(sys.argv[1])
        runner.execute("w")
        if os.fork() == 0:
            with cloaca.DefaultRunner("sqlite:///child.db") as own:
                assert own.execute("w").final_context["pid"] == os.getpid()
            sys.exit(7)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
        """,
        database,
    )
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


def test_run_forever_raises_when_the_engine_has_failed(script):
    process = script(
        """
        import threading
        import cloaca

        runner = cloaca.DefaultRunner(":memory:")
        ended = []

        def serve():
            try:
                runner.run_forever()
            except cloaca.RunnerClosedError:
                ended.append("beside")

        beside = threading.Thread(target=serve)
        beside.start()
        # Stops the engine without a call of shutdown().
        threading.Timer(0.3, lambda: runner._core.stop(0)).start()
        try:
            runner.run_forever()
        finally:
            beside.join(20)
            print(*ended)
        """
    )
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert out == "beside\n"
    assert "RunnerClosedError: the runner failed and has stopped" in err


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, pickle.dumps])
def test_runner_refuses_to_be_copied_or_pickled(how):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(lambda context: None)
    with cloaca.DefaultRunner(":memory:") as runner:
        with pytest.raises(TypeError, match="cannot be copied or pickled"):
            how(runner)
        assert runner.execute("w").status == "Completed"


def test_a_forked_child_deletes_its_parents_runner_silently(script):
    process = script(
        """
        import gc, os, threading, cloaca

        runner = cloaca.DefaultRunner(":memory:")
        if os.fork() == 0:
            del runner
            gc.collect()
            for thread in threading.enumerate():
                if thread is not threading.current_thread():
                    thread.join(10)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.wait()[1]))
        runner.shutdown()
        """,
        PYTHONWARNINGS=QUIET_FORK,
    )
    assert process.communicate(timeout=60) == ("0\n", "")


def test_child_forked_in_a_task_ends_without_reporting_progress(script):
    process = script(
        """
        import logging, os, cloaca

        with cloaca.WorkflowBuilder("w"):

            @cloaca.task(retry_attempts=1)
            def forks(context, handle):
                child = os.fork()
                if child == 0:
                    for _ in range(100):
                        logging.getLogger("child").critical("x")
                    try:
                        handle.set_progress(1, 2)
                    except cloaca.ForkedProcessError:
                        os._exit(7)
                    os._exit(1)
                context["code"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        logging.disable(logging.NOTSET)
        logging.getLogger().addHandler(logging.NullHandler())
        config = cloaca.DefaultRunnerConfig(capture_logs=True)
        with cloaca.DefaultRunner(":memory:", config) as runner:
            print(runner.execute("w").final_context["code"])
        """,
        PYTHONWARNINGS=QUIET_FORK,
    )
    assert process.communicate(timeout=60) == ("7\n", "")


def test_d8_runner_has_no_server_session_after_shutdown(server, postgres):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def work(context):
            pass

    runner = cloaca.DefaultRunner(postgres)
    handle = runner.submit("w", {"given": 1})
    handle.result(timeout=30)
    (listed,) = runner.list_executions().items
    runner.shutdown()
    name = postgres.rpartition("/")[2]
    sessions = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{name}'"

    def wait_for_none() -> None:
        deadline = time.monotonic() + 10
        while server.sql(sessions) != "0":
            assert time.monotonic() < deadline

    wait_for_none()
    assert listed.final_context["given"] == 1
    assert handle.status() == "Completed"
    wait_for_none()
    server.sql(f"DROP DATABASE {name}")
