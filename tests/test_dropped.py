"""If a program drops a runner, the runner's threads end, and the program does not hang."""

from __future__ import annotations

import threading

import pytest

import cloaca
from cloaca._observe import stream_layers
from cloaca._workers import task_streams
from cloaca._workflows.registry import registry

# The ways in which a program drops a runner, as code that follows `BEGIN`.
DROPS = {
    "function": """
        def drop():
            runner = cloaca.DefaultRunner(url)
    """,
    "thread": """
        def hold():
            runner = cloaca.DefaultRunner(url)

        def drop():
            thread = threading.Thread(target=hold)
            thread.start()
            thread.join()
    """,
    "object": """
        class App:
            def __init__(self):
                self.runner = cloaca.DefaultRunner(url)

        def drop():
            app = App()
    """,
    "finalizer": """
        class App:
            def __init__(self):
                self.runner = cloaca.DefaultRunner(url)
                self.own = self  # a cycle, which only the garbage collector frees

            def __del__(self):
                self.runner.shutdown()

        def drop():
            app = App()
            if time.monotonic_ns() % 2:
                app.own = None
    """,
}

BEGIN = """
        import gc, sys, threading, time
        import cloaca
        url = sys.argv[1]
        before = threading.active_count()
"""

# Drops one runner after another. Some runners have not yet started when they are dropped.
END = """
        for number in range(12):
            drop()
            time.sleep(0.002 * number)
        until = time.monotonic() + 20
        while threading.active_count() > before and time.monotonic() < until:
            gc.collect()
            time.sleep(0.01)
        print(threading.active_count() - before)
"""


@pytest.mark.parametrize("how", DROPS)
def test_dropped_runner_ends_its_threads_and_the_program_exits(how, database, script):
    process = script(BEGIN + DROPS[how] + END, database)
    assert process.communicate(timeout=45) == ("0\n", "")
    assert process.returncode == 0


def test_execution_of_a_dropped_runner_runs_in_the_next_runner(database, script):
    process = script(
        BEGIN
        + """
        with cloaca.WorkflowBuilder("w"):
            @cloaca.task
            def work(context):
                pass

        def submit():
            runner = cloaca.DefaultRunner(url)
            return runner.submit("w").id

        for _ in range(10):
            id = submit()
            with cloaca.DefaultRunner(url) as runner:
                print(runner.get_handle(id).result(timeout=5).status)
        """,
        database,
    )
    assert process.communicate(timeout=60)[0] == "Completed\n" * 10


def test_finalizer_may_shut_a_runner_down_during_any_call(script):
    """The garbage collector can run a finalizer at any time, even in a thread that holds a lock."""
    process = script(
        """
        import gc, threading, cloaca

        def open_rows():
            yield [1]

        class App:
            def __init__(self, runner):
                self.runner, self.own = runner, self

            def __del__(self):
                self.runner.shutdown(timeout=0)

        def define(name):
            with cloaca.WorkflowBuilder(name):
                @cloaca.task
                def function(context, rows=cloaca.resource(open_rows)):
                    pass
                @cloaca.task
                async def coroutine(context):
                    pass

        gc.set_threshold(1, 1, 1)
        for number in range(8):
            with cloaca.DefaultRunner(":memory:") as runner:
                App(cloaca.DefaultRunner(":memory:"))
                define(f"w{number}")
                assert runner.execute(f"w{number}").status == "Completed"
        print("end")
        """
    )
    out, err = process.communicate(timeout=120)
    assert (out, err, process.returncode) == ("end\n", "", 0)


def test_workflow_is_defined_while_a_runner_shuts_down(database, monkeypatch, caplog):
    runner = cloaca.DefaultRunner(database)
    host = runner._worker_host
    monkeypatch.setattr(host, "follow_log_level", lambda: runner.shutdown(timeout=0))
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def work(context):
            pass

    assert registry.has_workflow("w")
    assert not [record for record in caplog.records if "cannot register" in record.message]


def test_shutdown_does_not_wait_for_a_lock_that_its_thread_holds(database):
    def open_rows():
        yield [1]

    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        def work(context, rows=cloaca.resource(open_rows)):
            pass

    def shut_down_inside_of(attribute):
        runner = cloaca.DefaultRunner(database, cloaca.DefaultRunnerConfig(capture_logs=True))
        runner.execute("w")
        with {
            "registry": registry._lock,
            "streams": task_streams._lock,
            "layers": stream_layers._changing,
            "waiters": runner._waiters._lock,
            "request": runner._shutdown_request._lock,
            "definitions": runner._catching_up,
            "resources": runner._worker_host._scope.resources()._lock,
        }[attribute]:
            runner.submit("w")
            runner.shutdown(timeout=0)

    for attribute in (
        "registry",
        "streams",
        "layers",
        "waiters",
        "request",
        "definitions",
        "resources",
    ):
        thread = threading.Thread(target=shut_down_inside_of, args=(attribute,), daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive(), attribute
