"""Compensations, and retries of compensated tasks (semantics Q3 to Q6)."""

from __future__ import annotations

import threading
import time

import pytest

import cloaca
from final_support import Ran, define_trip
from waiting_support import wait_until


@pytest.mark.parametrize(
    ("breaks", "undone"),
    [
        ("", []),
        ("flight", [{"hotel"}]),
        ("hotel", [{"flight"}]),
        ("car", [{"car"}, {"flight", "hotel"}]),
        ("plan", [{"car"}, {"flight", "hotel"}]),
        ("insurance", [{"car"}, {"flight", "hotel"}]),
        ("mail", [{"insurance"}, {"car"}, {"flight", "hotel"}]),
    ],
)
def test_q3_saga_is_undone_in_reverse_order(runner, breaks, undone):
    ran = Ran()
    define_trip(ran, breaks)
    result = runner.execute("trip")
    assert result.status == ("Failed" if breaks else "Completed")
    names = [name.split()[1] for name in ran.names]
    assert len(names) == sum(map(len, undone))
    for level in undone:
        assert set(names[: len(level)]) == level
        names = names[len(level) :]
    assert (result.final is None) == (not undone)


def test_q3_failed_compensation_stops_the_compensations_after_it(runner):
    ran = Ran()
    define_trip(ran, "mail", undo_breaks="car")
    result = runner.execute("trip")
    assert result.status == "Failed"
    assert result.error.message == "no mail"
    final = result.final
    assert final.status == "Failed"
    assert [name.split()[1] for name in ran.names] == ["insurance"]
    assert final.tasks["flight"].status == "Skipped"
    # The execution of the final tasks can be retried without the main execution (Q4).
    ran.names.clear()
    define_trip(ran, "mail")
    assert runner.retry_execution(final.execution_id)
    again = runner.get_handle(final.execution_id).result(timeout=60)
    assert again.status == "Completed"
    assert ran.names[0].split()[1] == "car"
    assert {name.split()[1] for name in ran.names} == {"car", "flight", "hotel"}


def test_q3_compensation_gets_the_result_the_error_and_the_key(runner):
    seen: list[object] = []
    keys: list[str] = []

    def refund(charge, error, handle):
        seen.append((charge, error.type, error.task, handle.forward_key))

    with cloaca.WorkflowBuilder("pay", input={"order_id": str}):

        @cloaca.task(compensate=refund)
        def charge(order_id: str, handle) -> dict:
            keys.append(handle.forward_key)
            return {"id": f"ch-{order_id}"}

        @cloaca.task(retry_attempts=1)
        def ship(charge: dict) -> None:
            raise ValueError("no stock")

    result = runner.execute("pay", {"order_id": "o1"})
    assert result.final.status == "Completed"
    assert seen == [({"id": "ch-o1"}, "ValueError", "ship", keys[0])]
    assert keys[0] == f"{result.execution_id}/charge"


def test_q3_cancelled_task_is_compensated_for_partial_effects(runner):
    started, seen = threading.Event(), []

    def undo(work, error):
        seen.append((work, error.type))

    with cloaca.WorkflowBuilder("partial"):

        @cloaca.task(compensate=undo, compensate_failed=True)
        def work(handle) -> int:
            started.set()
            while not handle.is_cancelled():
                time.sleep(0.01)
            return 1

        @cloaca.task(dependencies=[work], compensate=undo, compensate_failed=True)
        def never(context): ...

    handle = runner.submit("partial")
    assert started.wait(30)
    handle.cancel()
    result = handle.result(timeout=60)
    assert result.final.status == "Completed"
    assert seen == [(None, "Cancelled")]
    assert result.final.tasks["never"].status == "Skipped"


def test_q3_final_tasks_run_after_the_compensations(runner):
    ran = Ran()

    def undo(row):
        time.sleep(0.2)
        ran("undo")

    with cloaca.WorkflowBuilder("both"):

        @cloaca.task(compensate=undo)
        def row() -> int:
            return 1

        @cloaca.task(retry_attempts=1, dependencies=[row])
        def breaks():
            raise ValueError

        @cloaca.task(final="always")
        def close(row: int):
            ran(f"close {row}")

    runner.execute("both")
    assert ran.names == ["undo", "close 1"]


def test_q5_retry_needs_ended_final_tasks_and_reruns_compensated_tasks(runner):
    ran, go = Ran(), threading.Event()
    in_stock = threading.Event()

    def refund(charge, handle):
        ran(f"refund {charge} {handle.forward_key.split('/', 1)[1]}")

    with cloaca.WorkflowBuilder("shop"):

        @cloaca.task
        def reserve() -> str:
            ran("reserve")
            return "r"

        @cloaca.task
        def note() -> str:
            ran("note")
            return "n"

        @cloaca.task(compensate=refund)
        def charge(reserve: str, handle) -> int:
            ran(f"charge {handle.forward_key.split('/', 1)[1]}")
            return len([name for name in ran.names if name.startswith("charge")])

        @cloaca.task(retry_attempts=1)
        def ship(charge: int, note: str) -> None:
            if not in_stock.is_set():
                raise ValueError("no stock")
            ran(f"ship {charge}")

        @cloaca.task(final="failure", undoes=[reserve])
        def release(reserve: str | None) -> None:
            assert go.wait(30)
            ran("release")

    handle = runner.submit("shop")
    assert handle.result(timeout=60, wait_final=False).status == "Failed"
    with pytest.raises(cloaca.WorkflowError, match="final tasks are open"):
        handle.retry()
    go.set()
    first = handle.result(timeout=60)
    assert first.final.status == "Completed"
    in_stock.set()
    handle.retry()
    second = handle.result(timeout=60)
    assert second.status == "Completed"
    counts = {name: ran.names.count(name) for name in ran.names}
    assert counts == {
        "reserve": 2,
        "note": 1,
        "charge charge": 1,
        "refund 1 charge": 1,
        "release": 1,
        "charge charge/2": 1,
        "ship 2": 1,
    }


def test_q5_failed_and_compensated_task_loses_its_recorded_steps(runner):
    ran, breaks = [], [True]

    def undo(handle):
        ran.append("undo")

    with cloaca.WorkflowBuilder("paid_by_step"):

        @cloaca.task(compensate=undo, compensate_failed=True, retry_attempts=1)
        def charge(handle: cloaca.TaskHandle) -> int:
            handle.step("pay", lambda: ran.append("pay"))
            if breaks:
                raise ValueError("no answer")
            return 1

    handle = runner.submit("paid_by_step")
    assert handle.result(timeout=60).final.status == "Completed"
    breaks.clear()
    handle.retry()
    assert handle.result(timeout=60).status == "Completed"
    assert ran == ["pay", "undo", "pay"]


def test_q5_compensated_node_that_failed_starts_a_new_child(runner):
    ran, breaks = [], [True]

    with cloaca.WorkflowBuilder("booking_of_two"):

        @cloaca.task
        def reserve(context):
            ran.append("reserve")

        @cloaca.task(dependencies=[reserve], retry_attempts=1)
        def confirm(context):
            if breaks:
                raise ValueError("no answer")
            ran.append("confirm")

    def undo():
        ran.append("undo")

    with cloaca.WorkflowBuilder("booked_by_child"):
        cloaca.child("hotel", workflow="booking_of_two", compensate=undo, compensate_failed=True)

    handle = runner.submit("booked_by_child")
    assert handle.result(timeout=60).final.status == "Completed"
    breaks.clear()
    handle.retry()
    assert handle.result(timeout=60).status == "Completed"
    assert ran == ["reserve", "undo", "reserve", "confirm"]


def define_shop(name, ran, breaks, undo_breaks):
    def refund(charge):
        if undo_breaks:
            raise cloaca.Abort("the line is busy")
        ran.append("refund")

    with cloaca.WorkflowBuilder(name):

        @cloaca.task(compensate=refund)
        def charge() -> int:
            ran.append("charge")
            return 1

        @cloaca.task(retry_attempts=1)
        def ship(charge: int):
            if breaks:
                raise ValueError("no stock")
            ran.append("ship")

        @cloaca.task(dependencies=[charge])
        def mail():
            ran.append("mail")


def test_q5_second_retry_ignores_compensations_before_the_first_retry(runner):
    ran, breaks = [], [True]
    define_shop("shop_refunded_once", ran, breaks, [])
    handle = runner.submit("shop_refunded_once")
    assert handle.result(timeout=60).final.status == "Completed"
    breaks.clear()
    handle.retry()
    second = handle.result(timeout=60)
    assert (second.status, second.final) == ("Completed", None)
    ran.clear()
    handle.retry(from_task="mail")
    assert handle.result(timeout=60).status == "Completed"
    assert ran == ["mail"]


def test_q4_final_tasks_from_before_a_retry_cannot_be_retried(runner):
    ran, breaks, undo_breaks = [], [True], [True]
    define_shop("shop_not_refunded", ran, breaks, undo_breaks)
    handle = runner.submit("shop_not_refunded")
    final = handle.result(timeout=60).final
    assert final.status == "Failed"
    breaks.clear()
    handle.retry()
    assert handle.result(timeout=60).status == "Completed"
    undo_breaks.clear()
    with pytest.raises(cloaca.WorkflowError, match="an earlier end of execution") as refused:
        runner.retry_execution(final.execution_id)
    assert refused.value.code == "execution_state"
    assert "refund" not in ran


def test_q6_children_include_the_execution_of_the_final_tasks(runner):
    define_shop("shop_in_a_tree", [], [True], [])
    result = runner.execute("shop_in_a_tree")
    children = runner.children(result.execution_id)
    assert [child.execution_id for child in children] == [result.final.execution_id]


def test_q3_child_that_failed_in_a_pause_is_compensated(runner):
    """Lesson: the child had failed before and ran again, but its new end counted as the old one."""
    go, ran, undone = threading.Event(), threading.Event(), []
    undo_fails = [True]

    def undo(handle: cloaca.TaskHandle) -> None:
        if undo_fails:
            raise cloaca.Abort("the undo broke")
        undone.append(handle.task_id)

    with cloaca.WorkflowBuilder("part"):

        @cloaca.task(retry_attempts=1)
        def work(context):
            ran.set()
            assert go.wait(60)
            raise ValueError("no")

    with cloaca.WorkflowBuilder("whole"):
        cloaca.child("part", workflow="part", compensate=undo, compensate_failed=True)
    go.set()
    handle = runner.submit("whole")
    assert handle.result(timeout=60).final.status == "Failed"
    go.clear()
    ran.clear()
    undo_fails.clear()
    handle.retry()
    assert ran.wait(60)
    (child,) = [one for one in runner.children(handle.id) if one.workflow_name == "part"]
    handle.pause()
    go.set()
    wait_until(lambda: runner.get_execution_status(child.execution_id) == "Failed")
    time.sleep(0.5)  # The parent learns of the end in a transaction of its own.
    handle.cancel()
    assert handle.result(timeout=60).status == "Cancelled"
    assert len(undone) == 1
