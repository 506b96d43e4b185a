"""Many waiting executions, and timers that fire on time (semantics L6, L10 and L14).

`make long` runs these tests with 100,000 sleeping and 100,000 waiting executions.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import time
from pathlib import Path

import pytest

import cloaca
from conftest import Script, Server
from processes import IS_STRICT, until

#: The number of sleeping executions; also the number of executions that wait for a signal.
COUNT = int(os.environ.get("CLOACA_TEST_WAITS", "5000"))

SLEEPERS = """
import os, sys, time
import cloaca

def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096

def used():
    times = os.times()
    return times.user + times.system

with cloaca.WorkflowBuilder("sleeper"):
    cloaca.wait("sleep", wait_for=cloaca.delay("30d"))

@cloaca.workflow
def code(handle):
    handle.sleep("a month", "30d")

with cloaca.WorkflowBuilder("compute"):
    @cloaca.task
    def compute(context):
        context["done"] = True

count = int(sys.argv[2])
config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
with cloaca.DefaultRunner(sys.argv[1], config) as runner:
    def submit(number):
        runner.submit_many([(name, None) for name in ("sleeper", "code")] * 250)
    submit(0)
    before = resident()
    for number in range(1, count // 500):
        submit(number)
    end = time.monotonic() + 400
    while (waiting := count_waiting(runner)) < count:
        assert time.monotonic() < end, f"only {waiting} of {count} tasks wait"
        time.sleep(0.2)
    grown = resident() - before
    start = time.monotonic()
    assert runner.execute("compute").final_context["done"]
    late = time.monotonic() - start
    time.sleep(2)
    note("idle")
    cpu, start = used(), time.monotonic()
    time.sleep(float(sys.argv[3]))
    share = (used() - cpu) / (time.monotonic() - start)
    note("end")
    print(grown, late, share)
"""

# Defines `note`, which marks the start and the end of the period in which the runner is idle.
NOTES = """
def note(name):
    open(name, "w").close()

"""

COUNT_WAITING = """
def count_waiting(runner):
    # Reads a metric, because listing the waits would load the machine while the waits start.
    _, _, found = runner.metrics().partition('cloaca_open_waits{kind="timer"} ')
    return int(found.split()[0])

"""


def idle_statements(
    server: Server, folder: Path, program: subprocess.Popen[str]
) -> tuple[list[str], float]:
    """Returns the statements that an idle program sends, and the measured time in seconds."""

    def wait_for_file(name: str) -> None:
        until(name, lambda: (folder / name).exists() or program.poll() is not None, patience=500)

    wait_for_file("idle")
    set_log(server, "'all'")
    before, start = len(logged_statements(server)), time.monotonic()
    wait_for_file("end")
    statements, passed = logged_statements(server)[before:], time.monotonic() - start
    # Checks that the server logged statements: at least those that change the setting.
    set_log(server, "DEFAULT")
    assert len(logged_statements(server)) > before + len(statements)
    return statements, passed


def set_log(server: Server, value: str) -> None:
    """Sets `log_statement`, which selects the statements that the server logs, for all sessions."""
    server.sql(f"ALTER SYSTEM SET log_statement = {value}")
    server.sql("SELECT pg_reload_conf()")


def logged_statements(server: Server) -> list[str]:
    """Returns the first lines of the statements in the server's log."""
    lines = (server.folder / "server.log").read_text().splitlines()
    return [line for line in lines if "LOG:  execute " in line or "LOG:  statement: " in line]


def test_l6_sleepers_cost_an_idle_runner_almost_nothing(
    database: str, script: Script, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    seconds = 20 if IS_STRICT else 3
    code = COUNT_WAITING + NOTES + SLEEPERS
    program: subprocess.Popen[str] = script(code, database, str(COUNT), str(seconds))
    if database.startswith("postgres"):
        server = request.getfixturevalue("server")
        statements, passed = idle_statements(server, tmp_path, program)
        print(f"an idle runner sends {len(statements) / passed:.2f} statements per second")
        # A runner sends periodic statements in groups. A short period can contain two groups.
        by_chance = 0 if IS_STRICT else 10
        assert len(statements) <= 0.5 * passed + by_chance, "\n".join(statements)
    out, errors = program.communicate(timeout=500)
    assert program.returncode == 0, errors
    grown, late, share = map(float, out.split())
    print(f"{COUNT} sleepers: {grown / 1e6:.1f} MB, {late * 1e3:.1f} ms, {share:.2%} of a core")
    # If the runner kept sleeping executions in memory, each would take at least a kilobyte.
    assert grown < 16_000_000 + COUNT * 100, f"{grown / 1e6:.1f} MB for {COUNT} sleepers"
    # A low delay shows that the only worker is free.
    assert late < 5, f"an execution took {late:.1f} s beside {COUNT} sleepers"
    assert share < (0.003 if IS_STRICT else 0.1), f"an idle runner uses {share:.1%} of a core"


def test_l14_timer_is_never_early_and_rarely_late(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("timer"):
        cloaca.wait("pause", wait_for=cloaca.delay("50ms"))

    late = []
    for _ in range(40):
        handle = runner.submit("timer")
        handle.result(timeout=60)
        (waiting,) = (event for event in handle.events() if event.type == "waiting")
        (ended,) = (event for event in handle.events() if event.type == "task_completed")
        late.append((ended.time - waiting.time).total_seconds() - 0.05)
    assert min(late) >= 0, f"a timer fired {-min(late) * 1e3:.2f} ms early"
    # Compare the median, because a busy machine delays some timers.
    median = statistics.median(late)
    print(f"timers are late by {median * 1e3:.2f} ms, at most {max(late) * 1e3:.2f} ms")
    assert median < (0.02 if IS_STRICT else 0.5)


def test_l14_overdue_timer_fires_at_once_after_a_restart(database: str) -> None:
    with cloaca.WorkflowBuilder("timer"):
        cloaca.wait("pause", wait_for=cloaca.delay("300ms"))

    with cloaca.DefaultRunner(database) as runner:
        handles = [runner.submit("timer") for _ in range(10)]
    assert handles[0].id
    time.sleep(0.4)
    start = time.monotonic()
    with cloaca.DefaultRunner(database) as runner:
        for handle in handles:
            assert runner.get_handle(handle.id).result(timeout=60).status == "Completed"
        passed = time.monotonic() - start
    print(f"overdue timers fired {passed * 1e3:.0f} ms after the start")
    assert passed < (1 if IS_STRICT else 10)


def test_l10_one_signal_wakes_all_waiters(database: str) -> None:
    with cloaca.WorkflowBuilder("listener"):
        cloaca.wait("news", wait_for=cloaca.signal("news"))

    with cloaca.DefaultRunner(database) as runner:
        handles = []
        for _ in range(COUNT // 1000):
            handles += runner.submit_many([("listener", None)] * 1000)
        start = time.monotonic()
        runner.send("news", 7)
        sent = time.monotonic() - start
        for handle in handles:
            assert handle.result(timeout=300).status == "Completed"
        passed = time.monotonic() - start
        print(f"{COUNT} waiters: sent in {sent * 1e3:.0f} ms, all ended after {passed:.2f} s")
        assert handles[0].result().final_context["news"] == 7
        assert handles[-1].result().final_context["news"] == 7
        for kind in ("signal", "timer", "approval"):
            assert not len(runner.waits(kind=kind))


DYING_SENDER = """
import os, signal, sys
import cloaca

with cloaca.DefaultRunner(sys.argv[1], start=False) as runner:
    runner.send("last words", 1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_l10_waiters_are_woken_although_the_sender_dies(database: str, script: Script) -> None:
    with cloaca.WorkflowBuilder("mourner"):
        cloaca.wait("news", wait_for=cloaca.signal("last words"))

    # The sender's transaction wakes 1,000 of these waits, and the runner wakes the others.
    with cloaca.DefaultRunner(database) as runner:
        handles = runner.submit_many([("mourner", None)] * 2500)
        sender = script(DYING_SENDER, database)
        sender.communicate(timeout=60)
        assert sender.returncode == -signal.SIGKILL
        for handle in handles:
            assert handle.result(timeout=100).final_context["news"] == 1


@pytest.mark.parametrize("is_sent_after_all_wait", [False, True])
def test_l6_many_waiting_functions_hold_no_worker(
    database: str, is_sent_after_all_wait: bool
) -> None:
    @cloaca.workflow
    def patient(handle):
        return handle.wait("answer", cloaca.signal("answer"))

    with cloaca.WorkflowBuilder("compute"):

        @cloaca.task
        def compute(context):
            context["done"] = True

    count = 1000 if IS_STRICT else 100
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        handles = runner.submit_many([("patient", None)] * count)
        assert runner.execute("compute").final_context["done"]
        if is_sent_after_all_wait:
            end = time.monotonic() + 60
            while len(runner.waits(limit=2000)) < count:
                assert time.monotonic() < end, runner.waits()
                time.sleep(0.01)
            assert runner.execute("compute").final_context["done"]
        runner.send("answer", "yes")
        for handle in handles:
            assert handle.result(timeout=120).output == "yes"
            assert handle.result().tasks["patient"].attempts == 1
