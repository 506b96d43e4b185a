"""Cancelling executions (semantics D6), and the maximum length of keys (C7)."""

from __future__ import annotations

import threading

import pytest

import cloaca


def test_d6_a_pending_execution_that_is_cancelled_never_starts(runner):
    ran = []
    with cloaca.WorkflowBuilder("later"):

        @cloaca.task()
        def work(context):
            ran.append(1)

    handle = runner.submit("later", delay=0.2)
    handle.cancel()
    with cloaca.WorkflowBuilder("after"):
        cloaca.task(id="other")(lambda context: None)
    # This execution starts after the time at which the cancelled execution would have started.
    assert runner.submit("after", delay=0.4).result(timeout=20).status == "Completed"
    assert ran == []
    assert handle.status() == "Cancelled"
    assert handle.result(timeout=5).tasks["work"].attempts == 0


def test_d6_blocked_execute_returns_a_cancelled_result(runner):
    started = threading.Event()
    with cloaca.WorkflowBuilder("blocks"):

        @cloaca.task()
        def work(context, handle):
            started.set()
            while not handle.is_cancelled():
                threading.Event().wait(0.005)

    results = []
    waiting = threading.Thread(target=lambda: results.append(runner.execute("blocks")))
    waiting.start()
    assert started.wait(20)
    (execution,) = runner.list_executions(workflow="blocks").items
    runner.cancel_execution(execution.execution_id)
    waiting.join(20)
    assert [result.status for result in results] == ["Cancelled"]
    with pytest.raises(cloaca.WorkflowExecutionError):
        results[0].raise_for_status()


def test_d6_a_cancelled_execution_cannot_be_changed(runner):
    with cloaca.WorkflowBuilder("gone"):
        cloaca.task(id="work")(lambda context: None)
    handle = runner.submit("gone", delay=60)
    handle.cancel()
    handle.cancel()
    for again in [handle.retry, handle.resume, handle.pause]:
        with pytest.raises(cloaca.WorkflowError) as caught:
            again()
        assert caught.value.code == "execution_state"
    assert handle.status() == "Cancelled"


def test_c7_a_key_of_more_than_512_characters_is_refused(runner):
    with cloaca.WorkflowBuilder("keyed"):
        cloaca.task(id="work")(lambda context: None)
    with pytest.raises(cloaca.ConfigurationError, match="512"):
        runner.submit("keyed", key="k" * 513)
    assert runner.submit("keyed", key="k" * 512).result(timeout=20).status == "Completed"
