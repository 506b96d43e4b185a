"""Waits, signals, approvals and timers (semantics L)."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

import cloaca
from cloaca.testing import VirtualRunner
from processes import until


def define_payment(name: str = "payment") -> None:
    with cloaca.WorkflowBuilder(name):

        @cloaca.task
        def invoice(context):
            context["invoiced"] = True

        @cloaca.task(
            dependencies=[invoice],
            wait_for=cloaca.signal("paid", key="order_id"),
            wait_timeout="30d",
        )
        def book(paid: dict, order_id: str) -> int:
            assert order_id
            return paid["amount"]


def wait_until_waiting(runner: cloaca.DefaultRunner, count: int = 1, **filters: object) -> None:
    done = threading.Event()
    for _ in range(2000):
        if len(runner.waits(limit=10_000, **filters)) >= count:  # type: ignore[arg-type]
            return
        done.wait(0.005)
    raise AssertionError(f"fewer than {count} tasks wait after 10 s: {runner.waits()}")


def test_l1_parameter_named_like_the_signal_receives_its_payload(runner):
    define_payment()
    handle = runner.submit("payment", {"order_id": "order-42"})
    wait_until_waiting(runner)
    other = runner.send("paid", {"amount": 1}, key="order-1")
    sent = runner.send("paid", {"amount": 3}, key="order-42", id="stripe-evt-1", sender="stripe")
    assert sent > other
    # A second signal with the same id has no effect (L2).
    assert runner.send("paid", {"amount": 9}, key="order-42", id="stripe-evt-1") == sent
    result = handle.result(timeout=30)
    assert result.final_context["book"] == 3
    events = {event.type: event for event in handle.events()}
    assert events["waiting"].task_id == "book"
    assert events["signalled"].data["sender"] == "stripe"


def test_l1_signal_can_arrive_before_the_task_waits(runner):
    define_payment()
    done = threading.Event()
    with cloaca.WorkflowBuilder("late"):

        @cloaca.task
        def first(context):
            done.wait(30)

        @cloaca.task(dependencies=[first], wait_for=cloaca.signal("go"))
        def second(go: str) -> str:
            return go

    handle = runner.submit("late")
    runner.send("go", "early")
    done.set()
    assert handle.result(timeout=30).final_context["second"] == "early"


def test_l1_waiting_task_and_its_wait_are_shown(runner):
    define_payment()
    handle = runner.submit("payment", {"order_id": "o"})
    wait_until_waiting(runner)
    result = runner.get_execution(handle.id)
    assert result.tasks["book"].status == cloaca.TaskStatus.WAITING
    assert not result.tasks["book"].status.is_final
    assert result.status == "Running"
    wait = runner.waits(name="paid", workflow="payment")[0]
    assert (wait.kind, wait.name, wait.key) == ("signal", "paid", "o")
    assert (wait.execution_id, wait.task_id) == (handle.id, "book")
    assert wait.deadline - wait.since == timedelta(days=30)
    assert not len(runner.waits(name="other"))
    runner.send("paid", {"amount": 1}, key="another")
    (sentence,) = [text for text in handle.explain() if "book" in text]
    assert "has waited for signal 'paid' with key 'o' since" in sentence
    assert "1 signal 'paid' was sent with another key" in sentence
    assert handle.cancel()
    assert not len(runner.waits())


def test_l1_missing_key_fails_the_task(runner):
    define_payment()
    result = runner.execute("payment", {"order": 1})
    assert result.status == "Failed"
    assert "order_id" in result.error_message


def test_l1_signal_can_be_sent_to_one_execution(runner):
    with cloaca.WorkflowBuilder("chat"):

        @cloaca.task(wait_for=cloaca.signal("message"))
        def reply(message: str) -> str:
            return message.upper()

    one, two = runner.submit("chat"), runner.submit("chat")
    wait_until_waiting(runner, 2)
    runner.send("message", "hi", to=two)
    assert two.result(timeout=30).final_context["reply"] == "HI"
    assert runner.get_execution(one.id).tasks["reply"].status == "Waiting"
    runner.send("message", "all")
    assert one.result(timeout=30).final_context["reply"] == "ALL"


def test_l3_a_later_wait_takes_the_next_signal(runner):
    with cloaca.WorkflowBuilder("two"):

        @cloaca.task(wait_for=cloaca.signal("step"), output="one")
        def first(step: int) -> int:
            return step

        @cloaca.task(dependencies=[first], wait_for=cloaca.signal("step"), output="two")
        def second(step: int) -> int:
            return step

    handle = runner.submit("two")
    for number in (1, 2, 3):
        runner.send("step", number)
    context = handle.result(timeout=30).final_context
    assert (context["one"], context["two"]) == (1, 2)


@pytest.mark.parametrize(
    ("on_timeout", "status", "task"),
    [
        ("fail", "Failed", "Failed"),
        ("skip", "Completed", "Skipped"),
        ("continue", "Completed", "Completed"),
    ],
)
def test_l8_on_timeout_fails_skips_or_continues_the_task(runner, on_timeout, status, task):
    with cloaca.WorkflowBuilder("timing_out"):

        @cloaca.task(
            wait_for=cloaca.signal("go"), wait_timeout=0.05, on_timeout=on_timeout, retry_attempts=3
        )
        def book(go: str | None) -> str:
            return f"got {go}"

    result = runner.execute("timing_out")
    assert result.status == status
    assert result.tasks["book"].status == task
    if on_timeout == "fail":
        assert result.tasks["book"].error.type == "WaitTimeoutError"
        assert result.tasks["book"].attempts == 0
        assert "wait_timed_out" in {event.type for event in runner.events(result.execution_id)}
    if on_timeout == "continue":
        assert result.final_context["book"] == "got None"


def test_l9_wait_nodes_have_payloads_as_their_results(runner):
    with cloaca.WorkflowBuilder("nodes"):
        paid = cloaca.wait("paid", wait_for=cloaca.signal("paid"))
        cloaca.wait("pause", wait_for=cloaca.delay("20ms"), dependencies=[paid])
        cloaca.wait(
            "either",
            wait_for=cloaca.any_of(cloaca.delay("1h"), cloaca.signal("go")),
            dependencies=["pause"],
        )
        cloaca.wait(
            "both",
            wait_for=cloaca.all_of(cloaca.signal("a"), cloaca.signal("b")),
            dependencies=["either"],
        )

        @cloaca.task
        def last(paid: dict, either: dict, both: dict) -> list:
            return [paid, either, both]

    handle = runner.submit("nodes")
    runner.send("a", 1)
    runner.send("go", "now")
    runner.send("b", 2)
    runner.send("paid", {"amount": 3})
    context = handle.result(timeout=30).final_context
    assert context["last"] == [{"amount": 3}, {"go": "now"}, {"a": 1, "b": 2}]
    assert context["pause"] is None


def test_l11_approval_is_decided_only_once(runner):
    with cloaca.WorkflowBuilder("release"):
        cloaca.approval(
            "approve",
            timeout="48h",
            data={"limit": int},
            title="Release {order_id}?",
            to="finance",
        )

        @cloaca.task
        def ship(approve: dict) -> str:
            return f"{approve['by']} allows {approve['data']['limit']}"

    handle = runner.submit("release", {"order_id": "o-7"})
    wait_until_waiting(runner, kind="approval")
    (wait,) = runner.waits()
    assert (wait.kind, wait.title, wait.to) == ("approval", "Release o-7?", "finance")
    assert wait.schema["properties"]["limit"] == {"type": "integer"}
    runner.approve(wait.execution_id, wait.task_id, {"limit": 5}, by="ann")
    assert handle.result(timeout=30).final_context["ship"] == "ann allows 5"
    with pytest.raises(cloaca.AlreadyDecidedError, match="approved by ann at 20") as raised:
        runner.approve(handle, "approve", {"limit": 6}, by="bob")
    assert raised.value.by == "ann"
    with pytest.raises(cloaca.AlreadyDecidedError):
        runner.reject(handle, "approve", by="bob")
    (decided,) = [event for event in handle.events() if event.type == "decided"]
    assert decided.data["by"] == "ann"
    assert raised.value.at == decided.time


@pytest.mark.parametrize("on_reject", ["fail", "skip", "continue"])
def test_l11_on_reject_fails_skips_or_continues_the_task(runner, on_reject):
    with cloaca.WorkflowBuilder("rejected"):
        cloaca.approval("approve", on_reject=on_reject)

    handle = runner.submit("rejected")
    runner.reject(handle.id, "approve", reason="too much", by="ann")
    result = handle.result(timeout=30)
    expected = {"fail": "Failed", "skip": "Skipped", "continue": "Completed"}[on_reject]
    assert result.tasks["approve"].status == expected
    if on_reject == "fail":
        assert "'approve' was rejected by ann: too much" in result.error_message
    if on_reject == "continue":
        approve = result.final_context["approve"]
        assert (approve["approved"], approve["reason"]) == (False, "too much")


def test_l11_task_without_an_open_approval_cannot_be_approved(runner):
    define_payment()
    handle = runner.submit("payment", {"order_id": "1"})
    wait_until_waiting(runner)
    with pytest.raises(cloaca.WorkflowError, match="does not wait for a decision about 'book'"):
        runner.approve(handle, "book")
    with pytest.raises(cloaca.WorkflowError, match="has no task 'bok'"):
        runner.approve(handle, "bok")


def test_l13_retry_waits_again_after_a_timeout(runner):
    with cloaca.WorkflowBuilder("again"):

        @cloaca.task(wait_for=cloaca.signal("go"), wait_timeout=0.05)
        def book(go: int) -> int:
            return go

    handle = runner.submit("again")
    assert handle.result(timeout=30).status == "Failed"
    runner.send("go", 5)
    handle.retry()
    assert handle.result(timeout=30).final_context["book"] == 5


def test_cancel_on_cancels_only_executions_with_the_key(runner):
    with cloaca.WorkflowBuilder("cancelled") as builder:
        builder.cancel_on(cloaca.signal("order.cancelled", key="order_id"))
        cloaca.wait("forever", wait_for=cloaca.signal("never"))

    one = runner.submit("cancelled", {"order_id": "1"})
    two = runner.submit("cancelled", {"order_id": "2"})
    wait_until_waiting(runner, 2)
    runner.send("order.cancelled", key="1")
    assert one.result(timeout=30).status == "Cancelled"
    assert two.status() == "Running"
    cancelled = [event for event in one.events() if event.type == "cancelled"]
    assert cancelled[0].data["signal"] == "order.cancelled"


def test_l4_earlier_signal_is_not_received_on_a_virtual_clock():
    """Lesson: the virtual clock stood still between the signal and the submission."""
    with cloaca.WorkflowBuilder("w"):
        cloaca.wait("answer", wait_for=cloaca.signal("go"), wait_timeout="1h", on_timeout="skip")
    with VirtualRunner() as runner:
        runner.send("go", "early")
        first = runner.submit("w")
        runner.send("go", "first")
        assert first.result().of("answer") == "first"
        second = runner.submit("w")
        assert second.result().tasks["answer"].status == "Skipped"


def test_l14_timers_of_days_fire_on_a_virtual_clock():
    with cloaca.WorkflowBuilder("reminders"):
        cloaca.wait("first", wait_for=cloaca.delay("3d"))

        @cloaca.task(dependencies=["first"], wait_for=cloaca.signal("answer"), wait_timeout="7d")
        def remind(answer: str) -> str:
            return answer

        cloaca.wait("due", wait_for=cloaca.until("due_at"))

    with VirtualRunner() as runner:
        start = runner.now()
        begin = datetime.fromtimestamp(start, UTC)
        due_at = (begin + timedelta(days=5)).isoformat()
        handle = runner.submit("reminders", {"due_at": due_at})
        result = handle.result()
        assert result.status == "Failed"
        assert result.tasks["remind"].error.type == "WaitTimeoutError"
        passed = {id: task.ended_at - begin for id, task in result.tasks.items()}
        assert passed["first"] == timedelta(days=3)
        assert passed["due"] == timedelta(days=5)
        assert passed["remind"] == timedelta(days=10)


def test_l6_wait_does_not_end_while_its_execution_is_paused(runner):
    define_payment()
    handle = runner.submit("payment", {"order_id": "1"})
    wait_until_waiting(runner)
    handle.pause()
    runner.send("paid", {"amount": 1}, key="1")
    assert handle.status() == "Paused"
    assert runner.get_execution(handle.id).tasks["book"].status == "Waiting"
    handle.resume()
    assert handle.result(timeout=30).final_context["book"] == 1


def test_l14_reschedule_moves_a_timer(runner):
    with cloaca.WorkflowBuilder("later"):
        cloaca.wait("later", wait_for=cloaca.delay("1h"))

    handle = runner.submit("later")
    (wait,) = runner.waits(kind="timer")
    assert wait.task_id == "later"
    assert not len(runner.waits())
    runner.reschedule(handle, task_id="later", after=0)
    assert handle.result(timeout=30).status == "Completed"
    assert "rescheduled" in {event.type for event in handle.events()}
    with pytest.raises(cloaca.WorkflowError, match="no timer"):
        runner.reschedule(handle, "later", after="1h")
    with pytest.raises(ValueError, match="needs at= or after="):
        runner.reschedule(handle, "later")


def test_l6_thousand_waiting_executions_hold_no_worker(database):
    define_payment()
    with cloaca.WorkflowBuilder("compute"):

        @cloaca.task
        def compute(context):
            context["done"] = True

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        inputs = [{"order_id": str(number)} for number in range(1000)]
        handles = runner.submit_many([("payment", input) for input in inputs])
        wait_until_waiting(runner, 1000)
        assert runner.execute("compute").final_context["done"]
        for number in range(0, 1000, 100):
            runner.send("paid", {"amount": number}, key=str(number))
            assert handles[number].result(timeout=30).final_context["book"] == number
        assert len(runner.waits(limit=2000)) == 990


def test_waits_are_listed_page_by_page(runner):
    with cloaca.WorkflowBuilder("pages"):
        cloaca.wait("go", wait_for=cloaca.signal("go"))

    ids = {handle.id for handle in runner.submit_many([("pages", {})] * 7)}
    found: list[str] = []
    cursor = None
    while True:
        page = runner.waits(limit=3, cursor=cursor)
        found += [wait.execution_id for wait in page]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(found) == 7
    assert set(found) == ids


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: cloaca.signal(""), "the name of a signal"),
        (lambda: cloaca.signal("a", key=7), "the key of signal"),
        (
            lambda: cloaca.task(wait_for=cloaca.signal("a", key=""))(print),
            "the key of signal 'a' must be a string that is not empty\nhint: it is a path",
        ),
        (
            lambda: cloaca.wait(
                "w", wait_for=cloaca.any_of(cloaca.delay(1), cloaca.signal("a", key=""))
            ),
            "the key of signal 'a' must be a string that is not empty\nhint: it is a path",
        ),
        (lambda: cloaca.signal("a", since="now"), "since of signal"),
        (lambda: cloaca.delay("soon"), "the duration of delay"),
        (lambda: cloaca.delay(-1), "must not be negative"),
        (lambda: cloaca.until(datetime(2026, 1, 1)), "the time of until"),
        (lambda: cloaca.any_of(cloaca.signal("a"), "one_failed"), "not both"),
        (lambda: cloaca.any_of(cloaca.signal("a"), cloaca.signal("a")), "any_of joins .* twice"),
        (
            lambda: cloaca.all_of(cloaca.signal("vote", key="a"), cloaca.signal("vote", key="b")),
            "two signals named 'vote'",
        ),
        (
            lambda: cloaca.all_of(
                cloaca.any_of(cloaca.delay("1h"), cloaca.signal("vote", key="a")),
                cloaca.signal("vote", key="b"),
            ),
            "two signals named 'vote'",
        ),
        (lambda: cloaca.task(wait_timeout="1h")(print), "wait_timeout is given without wait_for"),
        (lambda: cloaca.task(wait_for="paid")(print), "wait_for must be a condition"),
    ],
)
def test_a2_invalid_waits_are_refused(make, message):
    with pytest.raises(cloaca.TaskValidationError, match=message):
        make()


def test_l9_any_of_accepts_one_signal_with_two_keys():
    votes = cloaca.any_of(cloaca.signal("vote", key="a"), cloaca.signal("vote", key="b"))
    assert cloaca.all_of(votes, cloaca.signal("go")).signals == ("vote", "go")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": 3}, "the name of a signal must be a string"),
        ({"name": ""}, "invalid signal name"),
        ({"name": "a", "key": 5}, "the key of a signal must be a string"),
        ({"name": "a", "key": "k", "to": "01a21684-a015-779f-aa3c-e0d4a20f8e4c"}, "both a key"),
        ({"name": "a", "to": "nobody"}, "nobody"),
    ],
)
def test_invalid_signals_are_refused(runner, arguments, message):
    with pytest.raises(cloaca.CloacaException, match=message):
        runner.send(**arguments)


def test_cancel_signal_without_its_key_is_reported(runner, caplog):
    with cloaca.WorkflowBuilder("cancelled") as builder:
        builder.cancel_on(cloaca.signal("order.cancelled", key="order_id"), cloaca.signal("stop"))
        cloaca.wait("forever", wait_for=cloaca.signal("never"))

    handle = runner.submit("cancelled", {"other": 1})
    wait_until_waiting(runner)
    told = (
        "ignal 'order.cancelled' cannot cancel the execution: its key is at 'order_id' of the input"
    )
    assert any(told in line for line in handle.explain())
    # Another thread forwards the log, so the warning may not have arrived yet.
    until("the warning", lambda: told in caplog.text)
    # Signal 'stop', which has no key, still cancels the execution.
    runner.send("stop")
    assert handle.result(timeout=30).status == "Cancelled"
