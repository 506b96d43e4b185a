"""Nodes that run other workflows as children (semantics M0 to M8)."""

from __future__ import annotations

import itertools
import threading
import time
import uuid

import pytest

import cloaca


def define_invoice(fail: bool = False) -> None:
    with cloaca.WorkflowBuilder("invoice", input={"order": int}, output="number"):

        @cloaca.task(retry_attempts=1)
        def number(order: int) -> str:
            if fail:
                raise ValueError("no paper")
            return f"invoice-{order}"


def define_order(**options: object) -> None:
    with cloaca.WorkflowBuilder("order"):

        @cloaca.task
        def approve(context):
            context["cart"] = {"id": context["order_id"]}

        given: dict[str, object] = {"input": {"order": "cart.id"}, **options}
        cloaca.child("invoice", workflow="invoice", dependencies=[approve], **given)  # type: ignore[arg-type]

        @cloaca.task
        def mail(invoice: str) -> str:
            return f"sent {invoice}"


def test_m1_output_of_the_child_is_the_value_of_the_node(runner):
    define_invoice()
    define_order(timeout="1h")
    result = runner.execute("order", {"order_id": 7})
    assert result.status == "Completed"
    assert result.final_context["invoice"] == "invoice-7"
    assert result.final_context["mail"] == "sent invoice-7"
    # The list omits children by default (M8).
    assert [one.workflow_name for one in runner.list_executions()] == ["order"]
    every = runner.list_executions(children=True)
    assert {one.workflow_name for one in every} == {"order", "invoice"}


def test_m5_failed_child_fails_its_node(runner):
    define_invoice(fail=True)
    define_order()
    result = runner.execute("order", {"order_id": 7})
    assert result.status == "Failed"
    error = result.tasks["invoice"].error
    assert error.type == "ChildFailedError"
    assert "no paper" in error.message
    assert result.tasks["mail"].status == cloaca.TaskStatus.SKIPPED


def test_m0_missing_path_fails_the_node_and_starts_no_child(runner):
    define_invoice()
    define_order(input={"order": "cart.number"})
    result = runner.execute("order", {"order_id": 7})
    assert "from the path 'cart.number'" in result.tasks["invoice"].error.message
    assert len(runner.list_executions(children=True).items) == 1


def test_m0_child_without_input_gets_the_declared_fields(runner):
    define_invoice()
    with cloaca.WorkflowBuilder("outer"):
        cloaca.child("invoice", workflow="invoice")
    result = runner.execute("outer", {"order": 3, "secret": 1})
    assert result.final_context["invoice"] == "invoice-3"


def test_m3_events_name_the_child(runner):
    define_invoice()
    define_order()
    handle = runner.submit("order", {"order_id": 7})
    handle.result(timeout=30)
    events = {event.type: event for event in handle.events()}
    child = events["child_started"].data["child"]
    assert events["child_ended"].data == {"child": child, "status": "Completed", "error": None}
    assert runner.get_execution(child).final_context["number"] == "invoice-7"


def test_m4_cancel_reaches_the_child(runner):
    started, end = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("slow"):

        @cloaca.task
        def work(context):
            started.set()
            end.wait(30)

    with cloaca.WorkflowBuilder("outer"):
        cloaca.child("slow", workflow="slow")
    handle = runner.submit("outer")
    assert started.wait(30)
    assert handle.cancel()
    [child] = [one for one in runner.list_executions(children=True) if one.workflow_name == "slow"]
    done = threading.Event()
    for _ in range(2000):
        if runner.get_execution(child.execution_id).status == "Cancelled":
            break
        done.wait(0.005)
    else:
        raise AssertionError("the child was not cancelled")
    end.set()


def test_m7_workflow_that_always_runs_itself_is_refused():
    with (
        pytest.raises(cloaca.CloacaException, match="without a condition"),
        cloaca.WorkflowBuilder("loop"),
    ):
        cloaca.child("again", workflow="loop")


def test_m7_cycle_of_workflows_is_refused():
    names = [f"{name}-{uuid.uuid4().hex}" for name in ("first", "second", "third")]
    for name, child in itertools.pairwise(names):
        with cloaca.WorkflowBuilder(name):
            cloaca.child("next", workflow=child)
    with (
        pytest.raises(cloaca.WorkflowValidationError, match="would run itself without end"),
        cloaca.WorkflowBuilder(names[2]),
    ):
        cloaca.child("next", workflow=names[0])
    # A cycle in which one child has a condition is accepted, because the condition can end the
    # recursion.
    with cloaca.WorkflowBuilder(names[2]):
        rule = cloaca.context_value("more", "==", True)
        cloaca.child("next", workflow=names[0], trigger_rule=rule)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workflow": ""}, "workflow must be a non-empty string"),
        ({"workflow": "w", "input": ["order"]}, "input must be a dict"),
        ({"workflow": "w", "on_parent_end": "stop"}, "on_parent_end must be"),
        ({"workflow": "w", "timeout": "soon"}, "timeout"),
    ],
)
def test_m0_invalid_option_is_refused(options, message):
    with (
        pytest.raises(cloaca.TaskValidationError, match=message),
        cloaca.WorkflowBuilder("outer"),
    ):
        cloaca.child("c", **options)


def test_m4_abandoned_child_does_not_have_the_deadline_of_its_parent(runner):
    gate = threading.Event()
    with cloaca.WorkflowBuilder("long-child"):

        @cloaca.task(retry_attempts=1)
        def work(context: cloaca.Context) -> None:
            assert gate.wait(30)

    with cloaca.WorkflowBuilder("short-parent"):
        cloaca.child("child", workflow="long-child", on_parent_end="abandon")
    parent = runner.submit("short-parent", timeout=0.3)
    assert "within its timeout of 0.3 s" in (parent.result().error_message or "")
    [child] = runner.children(parent.id)
    time.sleep(0.3)
    gate.set()
    assert runner.get_handle(child.execution_id).result().status == "Completed"


def test_m8_parent_with_an_open_child_is_not_pruned(runner):
    gate = threading.Event()
    with cloaca.WorkflowBuilder("long-child"):

        @cloaca.task
        def work(context: cloaca.Context) -> None:
            assert gate.wait(30)

    with cloaca.WorkflowBuilder("parent"):
        cloaca.child("child", workflow="long-child", on_parent_end="abandon")
    parent = runner.submit("parent")
    [child] = runner.children(parent.id)
    parent.cancel()
    assert parent.result(timeout=30).status == "Cancelled"
    assert runner.prune(older_than=0) == 0
    assert [one.execution_id for one in runner.children(parent.id)] == [child.execution_id]
    gate.set()
    assert runner.get_handle(child.execution_id).result(timeout=30).status == "Completed"
    assert runner.prune(older_than=0) == 2
    assert runner.list_executions(children=True).items == []


def test_m5_type_of_a_childs_error_decides_whether_it_is_retried(runner):
    define_invoice(fail=True)
    options = {"dependencies": ["approve"], "input": {"order": "cart.id"}, "retry_delay_ms": 1}
    with cloaca.WorkflowBuilder("choosy"):

        @cloaca.task
        def approve(context):
            context["cart"] = {"id": 7}

        for id, retry in {
            "named": {"retry_on": ValueError},
            "own": {"retry_on": "ChildFailedError"},
            "other": {"retry_on": [KeyError]},
            "never": {"never_on": ValueError, "retry_attempts": 3},
        }.items():
            cloaca.child(id, workflow="invoice", **options, **retry)

    handle = runner.submit("choosy")
    assert handle.result(timeout=60).status == "Failed"
    attempts = {id: task.attempts for id, task in handle.result().tasks.items()}
    assert attempts == {"approve": 1, "named": 3, "own": 3, "other": 1, "never": 1}


def test_m5_explain_says_when_the_next_child_starts(runner):
    define_invoice(fail=True)
    with cloaca.WorkflowBuilder("patient"):
        cloaca.child(
            "bill", workflow="invoice", input={"order": "number"}, retry_delay_ms=3_600_000
        )
    handle = runner.submit("patient", {"number": 7})
    deadline = time.monotonic() + 30
    while "again" not in (said := str(handle.explain())) and "retr" not in said:
        assert time.monotonic() < deadline, said
        time.sleep(0.02)
    assert "no paper" in said
    assert "attempt 2 of 3" in said
    assert "no child could be started" not in said
    handle.cancel()
