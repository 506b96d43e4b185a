"""Waits: cursors, pauses, timeouts, retries and schemas (semantics L, H1, T9)."""

from __future__ import annotations

import signal
from datetime import UTC, datetime, timedelta

import cloaca
from cloaca.testing import VirtualRunner
from conftest import Script
from processes import PREAMBLE, until

#: A day, in seconds.
DAY = 86_400


def wait_for_waits(runner: cloaca.DefaultRunner, count: int, kind: str | None = None) -> None:
    until(f"{count} waits", lambda: len(runner.waits(kind=kind)) == count)


def test_l3_parallel_waits_can_take_the_same_signal(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("parallel_waits", output="both"):
        left = cloaca.wait("left", wait_for=cloaca.signal("go"))
        right = cloaca.wait("right", wait_for=cloaca.signal("go"))
        # The next wait of the same execution takes the next signal.
        cloaca.wait("later", wait_for=cloaca.signal("go"), dependencies=[left, right])

        @cloaca.task
        def both(left: int, right: int, later: int) -> list[int]:
            return [left, right, later]

    handle = runner.submit("parallel_waits")
    for number in (1, 2, 3):
        runner.send("go", number)
    assert handle.result(timeout=60).output == [1, 1, 2]


def test_l3_cursors_of_names_and_keys_are_separate(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("separate_cursors", output="all"):
        cloaca.wait("a", wait_for=cloaca.signal("go", key="a_key"))
        cloaca.wait("b", wait_for=cloaca.signal("go", key="b_key"), dependencies=["a"])
        cloaca.wait("c", wait_for=cloaca.signal("stop", key="a_key"), dependencies=["b"])

        @cloaca.task
        def all(a: int, b: int, c: int) -> list[int]:
            return [a, b, c]

    handle = runner.submit("separate_cursors", {"a_key": "x", "b_key": "y"})
    runner.send("stop", 3, key="x")
    runner.send("go", 2, key="y")
    runner.send("go", 1, key="x")
    assert handle.result(timeout=60).output == [1, 2, 3]


def test_l6_timeout_of_a_wait_does_not_run_during_a_pause() -> None:
    with cloaca.WorkflowBuilder("paused_timeout"):
        cloaca.wait("go", wait_for=cloaca.signal("go"), timeout="10d")

    with VirtualRunner() as runner:
        handle = runner.submit("paused_timeout")
        runner.advance(4 * DAY)
        handle.pause()
        runner.advance(30 * DAY)
        handle.resume()
        runner.advance(6 * DAY - 60)
        assert handle.status() == "Running"
        runner.advance(120)
        error = handle.result().tasks["go"].error
        assert error is not None
        assert error.type == "WaitTimeoutError"


def test_l7_signal_after_the_recorded_timeout_changes_nothing(
    runner: cloaca.DefaultRunner,
) -> None:
    with cloaca.WorkflowBuilder("late_signal"):
        cloaca.wait("go", wait_for=cloaca.signal("go"), timeout=0.01, on_timeout="continue")
        cloaca.wait("end", wait_for=cloaca.signal("end"), dependencies=["go"])

    handle = runner.submit("late_signal")
    until("the timeout", lambda: "wait_timed_out" in {event.type for event in handle.events()})
    runner.send("go", 1)
    runner.send("end", 2)
    result = handle.result(timeout=60)
    assert result.final_context["end"] == 2
    assert result.final_context["go"] is None
    signalled = [event for event in handle.events() if event.type == "signalled"]
    assert [event.task_id for event in signalled] == ["end"]


def test_l8_rule_can_handle_the_timeout_of_a_wait(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("handled_timeout"):
        cloaca.wait("answer", wait_for=cloaca.signal("never"), timeout=0.01)

        @cloaca.task(dependencies=["answer"], trigger_rules=cloaca.task_failed("answer"))
        def remind(context):
            context["reminded"] = True

    result = runner.execute("handled_timeout")
    assert result.status == "Completed"
    assert result.tasks["answer"].status == "Failed"
    assert result.final_context["reminded"] is True


def test_l9_any_of_closes_its_other_waits_and_uses_defaults(
    runner: cloaca.DefaultRunner,
) -> None:
    either = cloaca.any_of(cloaca.signal("paid"), cloaca.signal("voucher"), cloaca.delay("30d"))
    with cloaca.WorkflowBuilder("any_of_three", output="book"):

        @cloaca.task(wait_for=either)
        def book(paid: int | None, voucher: str = "none") -> list[object]:
            return [paid, voucher]

        cloaca.wait("forever", wait_for=cloaca.signal("never"))

    handle = runner.submit("any_of_three")
    # The list of waits has one entry for each signal.
    wait_for_waits(runner, 3)
    runner.send("paid", 7)

    def is_booked() -> bool:
        return runner.get_execution(handle.id).tasks["book"].status == "Completed"

    until("the task ends", is_booked)
    assert [wait.name for wait in runner.waits()] == ["never"]
    assert not len(runner.waits(kind="timer"))
    # The condition's other signal comes too late.
    runner.send("voucher", "late")
    runner.send("never")
    assert handle.result(timeout=60).output == [7, "none"]


def test_l9_all_of_keeps_a_received_signal_across_a_restart(database: str) -> None:
    with cloaca.WorkflowBuilder("kept_half"):
        cloaca.wait("both", wait_for=cloaca.all_of(cloaca.signal("a"), cloaca.signal("b")))

    with cloaca.DefaultRunner(database) as runner:
        id = runner.submit("kept_half").id
        runner.send("a", 1)
        until("a signal", lambda: "signalled" in {event.type for event in runner.events(id)})
    with cloaca.DefaultRunner(database) as runner:
        runner.send("a", 2)
        runner.send("b", 3)
        context = runner.get_handle(id).result(timeout=60).final_context
        assert context["both"] == {"a": 1, "b": 3}


def test_l9_all_of_that_times_out_keeps_the_signals_that_came(
    runner: cloaca.DefaultRunner,
) -> None:
    both = cloaca.all_of(cloaca.signal("a"), cloaca.signal("b"))
    with cloaca.WorkflowBuilder("half", output=("node", "task", "neither", "later")):
        cloaca.wait("node", wait_for=both, timeout="500ms", on_timeout="continue")
        never = cloaca.all_of(cloaca.signal("never"), cloaca.delay("30d"))
        cloaca.wait("neither", wait_for=never, timeout="10ms", on_timeout="continue")

        @cloaca.task(wait_for=both, wait_timeout="500ms", on_timeout="continue")
        def task(a: int | None, b: str = "none") -> list[object]:
            return [a, b]

        cloaca.wait("later", wait_for=cloaca.signal("a"), dependencies=["node"])

    handle = runner.submit("half")
    runner.send("a", 1)

    def have_timed_out() -> bool:
        return len([event for event in handle.events() if event.type == "wait_timed_out"]) == 3

    until("the timeouts", have_timed_out)
    # The next wait takes the next signal, because the signal that was kept counts as taken (L3).
    runner.send("a", 2)
    assert handle.result(timeout=60).output == ({"a": 1}, [1, "none"], None, 2)


def test_l13_retry_requests_a_rejected_approval_again(runner: cloaca.DefaultRunner) -> None:
    with cloaca.WorkflowBuilder("asked_again"):
        cloaca.approval("release")

    handle = runner.submit("asked_again")
    runner.reject(handle, "release", reason="not yet", by="ann")
    assert handle.result(timeout=60).status == "Failed"
    handle.retry()
    wait_for_waits(runner, 1)
    runner.approve(handle, "release", by="bob")
    result = handle.result(timeout=60)
    assert result.final_context["release"]["by"] == "bob"
    decided = [event.data["by"] for event in handle.events() if event.type == "decided"]
    assert decided == ["ann", "bob"]


def test_l13_retry_keeps_the_payload_unless_from_task_is_given(
    runner: cloaca.DefaultRunner,
) -> None:
    seen: list[int] = []

    with cloaca.WorkflowBuilder("kept_payload"):

        @cloaca.task(wait_for=cloaca.signal("paid"), retry_attempts=1)
        def book(paid: int) -> int:
            seen.append(paid)
            if len(seen) < 3:
                raise ValueError("the ledger is closed")
            return paid

    handle = runner.submit("kept_payload")
    runner.send("paid", 1)
    runner.send("paid", 2)
    assert handle.result(timeout=60).status == "Failed"
    handle.retry()
    assert handle.result(timeout=60).status == "Failed"
    handle.retry(from_task="book")
    assert handle.result(timeout=60).final_context["book"] == 2
    assert seen == [1, 1, 2]


def test_l14_pause_extends_a_delay_but_not_an_until_timer() -> None:
    with cloaca.WorkflowBuilder("held_timers"):
        cloaca.wait("fixed", wait_for=cloaca.until("at"))
        cloaca.wait("span", wait_for=cloaca.delay("5d"))

    with VirtualRunner() as runner:
        begin = datetime.fromtimestamp(runner.now(), UTC)
        handle = runner.submit("held_timers", {"at": (begin + timedelta(days=5)).isoformat()})
        runner.advance(DAY)
        handle.pause()
        runner.advance(10 * DAY)
        handle.resume()
        result = handle.result()
        passed = {id: task.ended_at - begin for id, task in result.tasks.items()}
        assert passed == {"fixed": timedelta(days=11), "span": timedelta(days=15)}


def test_h1_signal_stays_in_the_schema_of_its_tenant(postgres: str) -> None:
    with cloaca.WorkflowBuilder("schema_of_signal"):
        cloaca.wait("go", wait_for=cloaca.signal("go"))

    with (
        cloaca.DefaultRunner(postgres) as runner,
        cloaca.DefaultRunner(postgres, schema="other") as other,
    ):
        own, foreign = runner.submit("schema_of_signal"), other.submit("schema_of_signal")
        wait_for_waits(runner, 1)
        wait_for_waits(other, 1)
        runner.send("go", 1, id="same")
        assert own.result(timeout=60).final_context["go"] == 1
        assert foreign.status() == "Running"
        # The ids of signals are also separate for each schema.
        other.send("go", 2, id="same")
        assert foreign.result(timeout=60).final_context["go"] == 2


OWNER = (
    PREAMBLE
    + """
import signal

with cloaca.WorkflowBuilder("foreign_nodes"):
    cloaca.wait("go", wait_for=cloaca.signal("go"))
    cloaca.approval("release", dependencies=["go"])
    cloaca.wait("pause", wait_for=cloaca.delay("10ms"), dependencies=["release"])

with cloaca.DefaultRunner(sys.argv[1]) as runner:
    handle = runner.submit("foreign_nodes")
    while not runner.waits().items:
        time.sleep(0.005)
    os.write(1, handle.id.encode())
    os.kill(os.getpid(), signal.SIGKILL)
"""
)


def test_l16_program_without_the_workflow_completes_its_nodes(
    database: str, script: Script
) -> None:
    owner = script(OWNER, database)
    id, _ = owner.communicate(timeout=60)
    assert owner.returncode == -signal.SIGKILL
    with cloaca.DefaultRunner(database) as runner:
        runner.send("go", 1)
        wait_for_waits(runner, 1, "approval")
        runner.approve(id, "release", by="ann")
        result = runner.get_handle(id).result(timeout=60)
    assert result.status == "Completed"
    assert list(result.tasks) == ["go", "release", "pause"]


def test_t9_error_names_the_limit_of_steps() -> None:
    calls: list[int] = []

    @cloaca.workflow(retry_attempts=3)
    async def too_many_steps(handle: cloaca.TaskHandle) -> None:
        for number in range(10_001):
            await handle.step(f"s{number}", calls.append, number)

    with cloaca.DefaultRunner(":memory:") as runner:
        result = runner.execute("too_many_steps")
    assert result.status == "Failed"
    assert "10000" in (result.error_message or "")
    assert len(calls) == 10_001
    assert result.tasks["too_many_steps"].attempts == 1
