"""The sender and the waiter validate the data of signals and approvals (semantics L12)."""

from __future__ import annotations

import dataclasses
import uuid

import pytest

import cloaca


@dataclasses.dataclass
class Payment:
    """The data of signals and approvals."""

    amount: int


def test_l12_sender_refuses_data_that_no_known_task_accepts(runner):
    with cloaca.WorkflowBuilder("booking"):

        @cloaca.task(wait_for=cloaca.signal("paid_l12"))
        def book(paid_l12: Payment) -> int:
            return paid_l12.amount

    handle = runner.submit("booking")
    with pytest.raises(
        cloaca.WorkflowInputError, match="parameter 'paid_l12' of task 'book'"
    ) as refused:
        runner.send("paid_l12", {"amount": "much"})
    assert refused.value.path == "amount"
    assert not handle.done()
    runner.send("paid_l12", {"amount": 3})
    assert handle.result(timeout=30).of("book") == 3
    # No task of this program waits for this signal, so the sender cannot check the data.
    runner.send("unknown_l12", {"amount": "much"})


def test_l12_signal_to_one_execution_matches_its_workflow(runner):
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task(wait_for=cloaca.signal("note_l12"))
        def take(note_l12: Payment) -> int:
            return note_l12.amount

    with cloaca.WorkflowBuilder("text_l12"):

        @cloaca.task(wait_for=cloaca.signal("note_l12"))
        def read(note_l12: str) -> str:
            return note_l12

    @cloaca.workflow
    def plain(handle):
        return handle.wait("note", cloaca.signal("note_l12"))

    typed, handle = runner.submit("typed"), runner.submit("plain")
    # The function `plain` declares no type for the data. The types that other workflows declare do
    # not apply.
    runner.send("note_l12", 7, to=handle)
    assert handle.result(timeout=30).output == 7
    with pytest.raises(cloaca.WorkflowInputError, match="task 'take' of workflow 'typed'"):
        runner.send("note_l12", "hello", to=typed)
    runner.send("note_l12", {"amount": 3}, to=typed.id)
    assert typed.result(timeout=30).of("take") == 3
    # There is no such execution, so the signal is only stored.
    runner.send("note_l12", 7, to=str(uuid.uuid4()))


def test_l12_signal_that_cancels_can_have_any_data(runner):
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task(wait_for=cloaca.signal("stop_l12", key="key"))
        def take(stop_l12: Payment) -> int:
            return stop_l12.amount

    with cloaca.WorkflowBuilder("stoppable") as builder:
        builder.cancel_on(cloaca.signal("stop_l12", key="key"))
        cloaca.wait("forever", wait_for=cloaca.signal("never_l12"))

    handle = runner.submit("stoppable", {"key": "k"})
    runner.send("stop_l12", key="k")
    assert handle.result(timeout=30).status == "Cancelled"


def test_l12_signal_is_accepted_if_one_task_accepts_its_data(runner):
    with cloaca.WorkflowBuilder("loose"):

        @cloaca.task(wait_for=cloaca.signal("mixed_l12"))
        def anything(context): ...

    with cloaca.WorkflowBuilder("strict"):

        @cloaca.task(wait_for=cloaca.signal("mixed_l12"))
        def number(mixed_l12: int) -> int:
            return mixed_l12

    loose, strict = runner.submit("loose"), runner.submit("strict")
    runner.send("mixed_l12", "text")
    assert loose.result(timeout=30).status == "Completed"
    result = strict.result(timeout=30)
    assert result.status == "Failed"
    assert result.error.type == "TaskInputError"


def test_l12_approval_refuses_data_that_does_not_match(runner):
    with cloaca.WorkflowBuilder("release"):
        cloaca.approval("approve", data=Payment)

    handle = runner.submit("release")
    with pytest.raises(cloaca.WorkflowInputError, match="the data of approval 'approve'"):
        runner.approve(handle, "approve", {"amount": "much"})
    runner.approve(handle, "approve", {"amount": 3}, by="ann")
    assert handle.result(timeout=30).of("approve")["data"] == {"amount": 3}


def test_l12_approval_without_data_is_checked_like_an_empty_object(runner):
    @dataclasses.dataclass
    class Decision:
        limit: int = 5

    with cloaca.WorkflowBuilder("release"):
        cloaca.approval("needs_amount", data=Payment)
        cloaca.approval("needs_nothing", data=Decision)
        cloaca.approval("plain")

    handle = runner.submit("release")
    with pytest.raises(cloaca.WorkflowInputError, match="amount"):
        runner.approve(handle, "needs_amount")
    runner.approve(handle, "needs_amount", {"amount": 3})
    runner.approve(handle, "needs_nothing")
    runner.approve(handle, "plain")
    result = handle.result(timeout=30)
    assert result.of("needs_nothing")["data"] == {"limit": 5}
    assert result.of("plain")["data"] is None


def test_l12_engine_validates_approval_data_from_any_client(runner):
    with cloaca.WorkflowBuilder("release"):
        cloaca.approval("approve", data=Payment)

    handle = runner.submit("release")
    core = runner._core
    # Other clients (the command line, the HTTP API) send the text without checking it.
    for text, message in (
        ('{"amount": "much"}', "`amount`: expected integer, got string"),
        ("{}", "the field 'amount' is missing"),
        ("null", "the field 'amount' is missing"),
        ("[3]", "expected object, got array"),
    ):
        with pytest.raises(cloaca.WorkflowInputError, match=message):
            core.decide(handle.id, "approve", True, text)
    with pytest.raises(cloaca.ContextError, match="the decision's data takes 1677"):
        core.decide(handle.id, "approve", True, f'"{"x" * (16 << 20)}"')
    assert not handle.done()
    assert "decided" not in [event.type for event in handle.events()]
    core.decide(handle.id, "approve", True, '{"amount": 3}')
    assert handle.result(timeout=30).of("approve")["data"] == {"amount": 3}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (int, "^approval 'ok': the model of data= cannot be used: int has no fields"),
        ({"a": object()}, "^approval 'ok': the model of data= cannot be used: field 'a'"),
        ({1: int}, "^approval 'ok': a name of data= must be a non-empty string, not 1"),
    ],
)
def test_error_for_an_invalid_approval_model_names_the_option(data, message):
    with pytest.raises(cloaca.WorkflowValidationError, match=message):
        cloaca.approval("ok", data=data)
