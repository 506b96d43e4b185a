"""Compensations of nodes, and final tasks of workflows of one function (semantics Q)."""

from __future__ import annotations

import threading

import pytest

import cloaca
from cloaca.testing import crash_everywhere
from final_support import Ran


def define_invoice(fails: bool = False) -> None:
    with cloaca.WorkflowBuilder("invoice", output="number"):

        @cloaca.task(retry_attempts=1)
        def number(context):
            if fails:
                raise ValueError("no paper")
            context["number"] = 42


def define_order(ran: Ran, **options) -> None:
    def cancel_invoice(invoice, error, handle):
        ran(f"undo {invoice} {error.type} {handle.forward_key.split('/', 1)[1]}")

    with cloaca.WorkflowBuilder("order"):
        cloaca.child("invoice", workflow="invoice", compensate=cancel_invoice, **options)

        @cloaca.task(retry_attempts=1, dependencies=["invoice"])
        def deliver(context):
            raise RuntimeError("no car")


def test_q3_child_is_compensated_with_its_output(runner):
    ran = Ran()
    define_invoice()
    define_order(ran)
    result = runner.execute("order")
    assert result.status == "Failed"
    assert result.final.status == "Completed"
    assert ran.names == ["undo 42 RuntimeError invoice"]


@pytest.mark.parametrize("compensates", [False, True])
def test_q3_failed_child_is_compensated_only_with_compensate_failed(runner, compensates):
    ran = Ran()
    define_invoice(fails=True)

    def cancel_invoice(error):
        ran(f"undo {error.type}")

    with cloaca.WorkflowBuilder("order"):
        cloaca.child(
            "invoice",
            workflow="invoice",
            compensate=cancel_invoice,
            compensate_failed=compensates,
        )

    result = runner.execute("order")
    assert result.status == "Failed"
    assert ran.names == (["undo ChildFailedError"] if compensates else [])


def test_q3_open_child_of_a_cancelled_parent_is_compensated(runner):
    ran = Ran()
    started = threading.Event()
    with cloaca.WorkflowBuilder("invoice"):

        @cloaca.task
        def hang(context, handle):
            started.set()
            handle.defer_until(lambda: False, poll_interval_ms=20)

    with cloaca.WorkflowBuilder("order"):
        cloaca.child(
            "invoice",
            workflow="invoice",
            compensate=lambda error: ran(error.type),
            compensate_failed=True,
        )

    handle = runner.submit("order")
    assert started.wait(30)
    handle.cancel()
    assert handle.result(timeout=30).final.status == "Completed"
    assert ran.names == ["Cancelled"]


def test_q3_child_is_compensated_after_a_kill_at_any_point():
    ran = Ran()
    define_invoice()
    define_order(ran)
    report = crash_everywhere("order", setup=ran.names.clear, observe=lambda: set(ran.names))
    assert len(report.points) > 4


def test_q1_workflow_of_one_function_can_have_final_tasks(runner):
    ran = Ran()

    @cloaca.task(final="always")
    def close(error: cloaca.ErrorInfo | None, shop: int | None = None):
        ran(f"close {shop} {error and error.type}")

    @cloaca.task(final="failure")
    def alarm(error: cloaca.ErrorInfo):
        ran(f"alarm {error.type}")

    def undo(error):
        ran("undo")

    @cloaca.workflow(
        finals=[close, alarm], compensate=undo, compensate_failed=True, retry_attempts=1
    )
    def shop(fails: bool, handle: cloaca.TaskHandle) -> int:
        sold = handle.step("sell", lambda: 3)
        if fails:
            raise ValueError("closed")
        return sold

    assert runner.execute("shop", {"fails": False}).output == 3
    assert ran.names == ["close 3 None"]
    ran.names.clear()
    result = runner.execute("shop", {"fails": True})
    assert result.final.status == "Completed"
    assert ran.names[0] == "undo"
    assert sorted(ran.names[1:]) == ["alarm ValueError", "close None ValueError"]


def test_q_nodes_cannot_be_final():
    for node in (
        lambda: cloaca.child("a", workflow="b", final="always"),
        lambda: cloaca.external_task("a", final="always"),
        lambda: cloaca.wait("a", wait_for=cloaca.delay(1), final="always"),
        lambda: cloaca.approval("a", final="always"),
    ):
        with pytest.raises(TypeError, match="final") as refused, cloaca.WorkflowBuilder("refused"):
            node()
        assert "only a function can be a final task" in str(refused.value)
    with pytest.raises(cloaca.WorkflowValidationError, match="not a final task"):
        cloaca.workflow(finals=[print])
    with pytest.raises(cloaca.WorkflowValidationError, match="must be a list"):
        cloaca.workflow(finals=print)
