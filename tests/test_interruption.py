"""Ctrl-C in a program with `with DefaultRunner(...)` (S12)."""

from __future__ import annotations

import re
import signal

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
    r"execution [0-9a-f-]{36} goes on with the next runner\n"
)


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
