"""Ctrl-C in a program with `with DefaultRunner(...)` (S12)."""

from __future__ import annotations

import re
import signal
import time

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
    r"interrupted: waits up to 30 s for 1 running task \(press Ctrl-C again to leave it\); "
    r"execution [0-9a-f-]{36} continues with the next runner\n"
)


IN_MEMORY = (
    r"interrupted: waits up to 30 s for 1 running task \(press Ctrl-C again to leave it\); "
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


def test_ctrl_c_in_async_with_says_what_it_waits_for(script, database):
    assert ASYNC != CODE
    process = script(ASYNC, database, "1")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert re.fullmatch(LINE, process.stderr.readline())
    _, err = process.communicate(timeout=60)
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "is open" not in err


def test_second_ctrl_c_in_async_with_leaves_at_once(script, database):
    process = script(ASYNC, database, "60")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert re.fullmatch(LINE, process.stderr.readline())
    time.sleep(0.2)  # until the thread that shuts down waits
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
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


def test_ctrl_c_says_what_it_waits_for(script, database):
    process = script(CODE, database, "2")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert re.fullmatch(LINE, process.stderr.readline())
    _, err = process.communicate(timeout=60)
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_second_ctrl_c_leaves_with_one_traceback(script, database):
    process = script(CODE, database, "60")
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    assert re.fullmatch(LINE, process.stderr.readline())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert err.count("Traceback") == 1
