"""Ctrl-C in a program with a runner, and the exit of a program with an open runner."""

from __future__ import annotations

import re
import signal
import time

import cloaca
from processes import second_ctrl_c

CODE = """
    import sys, time, cloaca
    with cloaca.WorkflowBuilder("w"):
        @cloaca.task
        def work(context):
            print("begun", flush=True)
            until = time.monotonic() + float(sys.argv[2])
            while time.monotonic() < until:
                time.sleep(0.01)
    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        runner.execute("w")
"""

LINE = (
    r"interrupted: waiting up to 30 s for 1 running task \(press Ctrl-C again to stop waiting\); "
    r"execution [0-9a-f-]{36} continues with the next runner\n"
)


IN_MEMORY = (
    r"interrupted: waiting up to 30 s for 1 running task \(press Ctrl-C again to stop waiting\); "
    r"execution [0-9a-f-]{36} is lost with the database in memory\n"
)

ASYNC = CODE.replace(
    """    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        runner.execute("w")
""",
    """    import asyncio
    async def main():
        async with cloaca.DefaultRunner(sys.argv[1]) as runner:
            await runner.execute_async("w")
    asyncio.run(main())
""",
)


BARE = CODE.replace(
    """    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        runner.execute("w")
""",
    """    runner = cloaca.DefaultRunner(sys.argv[1])
    runner.execute("w")
""",
)

AT_EXIT = LINE.replace("up to 30 s", "up to 5 s")


def test_exit_after_ctrl_c_reports_the_running_tasks(script, database):
    assert BARE != CODE
    process = script(BARE, database, "1")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert re.search(f"\nKeyboardInterrupt\n{AT_EXIT}$", err)
    assert err.count("Traceback") == 1


def test_second_ctrl_c_at_exit_ends_the_program_without_an_error(script, database):
    process = script(BARE, database, "60")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    while not (line := process.stderr.readline()).startswith("interrupted"):
        assert line, "the program ended before it reported the interruption"
    assert re.fullmatch(AT_EXIT, line)
    assert second_ctrl_c(process) == ("", "")


def test_interrupted_execute_reports_an_open_execution_without_a_running_task(script, database):
    process = script(
        """
        import sys, cloaca
        with cloaca.WorkflowBuilder("w"):
            @cloaca.task(wait_for=cloaca.delay("1h"))
            def work(context):
                pass
        runner = cloaca.DefaultRunner(sys.argv[1])
        print("begun", flush=True)
        runner.execute("w")
        """,
        database,
    )
    assert process.stdout.readline() == "begun\n"
    with cloaca.DefaultRunner(database, start=False) as runner:
        while not runner.list_executions(limit=1).items:
            time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "1 execution is open: it continues with the next runner" in err


def test_exit_with_an_open_runner_reports_the_running_tasks(script, database):
    code = BARE.replace('execute("w")', 'submit("w")\n    time.sleep(0.5)')
    process = script(code, database, "1")
    _, err = process.communicate(timeout=60)
    assert err == "exiting: waiting up to 5 s for 1 running task (press Ctrl-C to stop waiting)\n"


def test_ctrl_c_inside_an_async_with_block_reports_running_tasks(script, database):
    assert ASYNC != CODE
    process = script(ASYNC, database, "1")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert re.fullmatch(LINE, process.stderr.readline())
    _, err = process.communicate(timeout=60)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "is open" not in err


def test_second_ctrl_c_inside_an_async_with_block_ends_the_program(script, database):
    process = script(ASYNC, database, "60")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert re.fullmatch(LINE, process.stderr.readline())
    _, err = second_ctrl_c(process)
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_says_once_what_happens_to_the_execution(script, tmp_path):
    more = CODE.replace(
        "    with cloaca.DefaultRunner(",
        """        @cloaca.task(dependencies=[work])
        def after(context):
            pass
    with cloaca.DefaultRunner(""",
    )
    for url, line in ((f"sqlite:///{tmp_path / 'once.db'}", LINE), (":memory:", IN_MEMORY)):
        process = script(more, url, "0.5")
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        assert re.fullmatch(line, process.stderr.readline())
        _, err = process.communicate(timeout=60)
        assert "is open" not in err
        assert err.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_inside_a_with_block_reports_running_tasks(script, database):
    process = script(CODE, database, "2")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert re.fullmatch(LINE, process.stderr.readline())
    _, err = process.communicate(timeout=60)
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_second_ctrl_c_inside_a_with_block_prints_one_traceback(script, database):
    process = script(CODE, database, "60")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert re.fullmatch(LINE, process.stderr.readline())
    _, err = second_ctrl_c(process)
    assert err.count("Traceback") == 1
    with cloaca.DefaultRunner(database, start=False) as runner:
        (execution,) = runner.list_executions()
        # The claim was returned, and the interrupted attempt does not count.
        assert (execution.tasks["work"].status, execution.tasks["work"].attempts) == ("Ready", 0)


def test_second_ctrl_c_cancels_a_running_coroutine(script, database):
    code = """
        import asyncio, sys, cloaca
        with cloaca.WorkflowBuilder("w"):
            @cloaca.task
            async def work(context):
                try:
                    print("begun", flush=True)
                    await asyncio.sleep(60)
                finally:
                    print("cancelled", flush=True)
        config = cloaca.DefaultRunnerConfig(metrics_port=0)
        with cloaca.DefaultRunner(sys.argv[1], config) as runner:
            runner.execute("w")
    """
    process = script(code, database)
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert re.fullmatch(LINE, process.stderr.readline())
    out, err = second_ctrl_c(process)
    assert (out, err.count("Traceback")) == ("cancelled\n", 1)
