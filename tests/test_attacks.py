"""Attacks on a runner: Ctrl-C at any moment, large inputs, and a table that stays locked."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

CTRL_C = """
    import os, signal, sys, threading, time
    import cloaca

    with cloaca.WorkflowBuilder("pressed"):
        cloaca.task(id="work")(lambda context: None)

    runner = cloaca.DefaultRunner(sys.argv[1])
    returned, interrupted, rounds = [], 0, 0
    is_over = threading.Event()

    def press():
        while not is_over.wait(0.004):
            os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    while interrupted < 60:
        try:
            if rounds == 0:
                presser.start()
            while True:
                rounds += 1
                key = f"key-{rounds}"
                handle = runner.submit("pressed", key=key)
                returned.append((key, handle.id))
                if rounds % 5 == 0:
                    runner.execute("pressed", key=f"execute-{rounds}")
        except KeyboardInterrupt:
            interrupted += 1
    while True:
        try:
            is_over.set()
            presser.join()
            break
        except KeyboardInterrupt:
            pass
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    runner.wait_until_idle(timeout=60)
    found = {key: runner.find("pressed", key) for key, _ in returned}
    print(sum(found[key] is None or found[key].id != id for key, id in returned))
    ends = {str(found[key].result(timeout=60).status) for key, _ in returned}
    again = [runner.submit("pressed", key=f"key-{number}") for number in range(1, rounds + 1)]
    print(ends, {str(handle.result(timeout=60).status) for handle in again})
    runner.shutdown()
"""


@pytest.mark.timeout(120)
def test_ctrl_c_during_submissions_loses_no_key(database, script):
    """A submission that returned is stored. The key of an interrupted one can be used again."""
    process = script(CTRL_C, database)
    out, errors = process.communicate(timeout=100)
    assert (out, process.returncode) == ("0\n{'Completed'} {'Completed'}\n", 0), errors


MEMORY = """
    import sys
    import cloaca

    def resident():
        with open("/proc/self/statm") as statm:
            return int(statm.read().split()[1]) * 4096

    with cloaca.WorkflowBuilder("large"):
        cloaca.task(id="work")(lambda context: None)

    text = "x" * 2_000_000
    with cloaca.DefaultRunner(sys.argv[1]) as runner:
        def run(count):
            for number in range(count):
                handle = runner.submit("large", {"text": text})
                handle.result(timeout=60)
                assert handle.cancel() is False
                later = runner.submit("large", {"text": text}, delay="1h")
                assert later.cancel() is True
            assert len(runner.list_executions(limit=2 * count).items) >= 2 * count
        run(12)
        before = resident()
        run(20)
        print(resident() - before)
"""


@pytest.mark.timeout(120)
def test_ended_and_cancelled_executions_leave_no_input_in_memory(tmp_path, script):
    process = script(MEMORY, f"sqlite:///{tmp_path}/large.db?synchronous=normal")
    out, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    # Between the two measurements, 40 inputs of 2 MB each are submitted. The runner caches recent
    # executions with their inputs and results, up to 32 MiB.
    assert int(out) < 45_000_000, f"{int(out) / 1e6:.1f} MB"


@contextmanager
def locked(database: str) -> Iterator[None]:
    """Holds exclusive locks on the executions table and the runners table."""
    command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", database]
    text = (
        "BEGIN; LOCK TABLE cloacina_executions, cloacina_runners IN ACCESS EXCLUSIVE MODE; "
        "SELECT 'locked';\n"
    )
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        session.stdin.write(text)
        session.stdin.flush()
        assert session.stdout.readline() == "locked\n"
        yield
        session.stdin.close()
        session.wait(timeout=60)


LOCKED = """
    import os, sys, time
    import cloaca

    with cloaca.WorkflowBuilder("behind_a_lock"):
        cloaca.task(id="work")(lambda context: None)

    config = cloaca.DefaultRunnerConfig(db_timeout=1.0, shutdown_timeout=1.0)
    runner = cloaca.DefaultRunner(sys.argv[1], config)
    runner.execute("behind_a_lock")
    print("ready", flush=True)
    end = sys.argv[2]
    if end == "run_forever":
        runner.run_forever()
        sys.exit()
    while not os.path.exists("locked"):
        time.sleep(0.01)
    for call in (lambda: runner.submit("behind_a_lock"), runner.list_executions):
        try:
            call()
        except cloaca.DatabaseError as error:
            print(type(error).__name__, flush=True)
    if end == "shutdown":
        runner.shutdown()
    print("ended", flush=True)
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("end", ["exit", "shutdown", "run_forever"])
def test_program_ends_although_a_table_is_locked(postgres, script, tmp_path, end):
    """The lock is released only after the program has ended."""
    process = script(LOCKED, postgres, end)
    assert process.stdout.readline() == "ready\n"
    with locked(postgres):
        (tmp_path / "locked").touch()
        if end == "run_forever":
            process.send_signal(signal.SIGTERM)
        out, errors = process.communicate(timeout=90)
    if end != "run_forever":
        assert out.splitlines()[-1:] == ["ended"], errors
        assert len(out.splitlines()) == 3, out
    assert "Traceback" not in errors, errors
