"""Triggers that start several executions in one poll, and keep a state between polls (G3)."""

from __future__ import annotations

import threading
import uuid

import pytest

import cloaca
from cloaca._workflows.registry import registry
from schedule_support import define, until

MANY = cloaca.TriggerResult.fire_many


@pytest.fixture(autouse=True)
def no_other_triggers(monkeypatch):
    """Gives each test an empty registry of triggers and restores the old one afterwards.

    Otherwise, runners of later tests would poll this test's triggers.
    """
    monkeypatch.setattr(registry, "_trigger_revisions", {})


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


def contexts(runner: cloaca.DefaultRunner, name: str) -> list[dict]:
    found = runner.list_executions(name).items
    return sorted((one.final_context.to_dict() for one in found), key=lambda one: one["n"])


def test_g3_trigger_starts_many_executions_and_keeps_its_state(name, runner):
    define(name)
    seen = []

    @cloaca.trigger(name=name, on=name, poll_interval="50ms", allow_concurrent=True)
    def rows(state):
        seen.append(state)
        first = state or 0
        if first >= 6:
            return cloaca.TriggerResult.skip()
        fires = [({"n": n}, f"row-{n}") for n in range(first, first + 3)]
        return MANY(fires, state=first + 3)

    until(lambda: len(seen) > 4)
    assert seen[:3] == [None, 3, 6]
    assert set(seen[2:]) == {6}
    runner.wait_until_idle(timeout=30)
    assert contexts(runner, name) == [{"n": n} for n in range(6)]
    history = runner.get_trigger_execution_history(name)
    assert [row["outcome"] for row in history] == ["fired"] * 6
    assert len({row["workflow_execution_id"] for row in history}) == 6
    assert runner.find(name, "row-4") is not None


def test_g3_existing_key_starts_no_execution(name, runner):
    define(name)
    runner.submit(name, {"n": 0}, key="row-0")
    polls = []

    @cloaca.trigger(name=name, on=name, poll_interval="50ms", allow_concurrent=True)
    def rows():
        polls.append(1)
        return MANY([({"n": 0}, "row-0"), ({"n": 1}, "row-1"), ({"n": 1}, "row-1")])

    until(lambda: len(polls) > 2)
    runner.wait_until_idle(timeout=30)
    assert contexts(runner, name) == [{"n": 0}, {"n": 1}]


def test_g3_state_can_be_kept_without_starting_an_execution(name, runner):
    define(name)
    seen = []

    @cloaca.trigger(name=name, on=name, poll_interval="50ms")
    def watch(state):
        seen.append(state)
        return cloaca.TriggerResult.skip(state={"polls": len(seen)})

    until(lambda: len(seen) > 2)
    assert seen[:3] == [None, {"polls": 1}, {"polls": 2}]
    assert runner.get_trigger_execution_history(name) == []


def test_g3_state_does_not_change_while_an_execution_is_open(name, runner):
    go, seen = threading.Event(), []
    with cloaca.WorkflowBuilder(name):

        @cloaca.task
        def work(context):
            assert go.wait(30)

    @cloaca.trigger(name=name, on=name, poll_interval="50ms")
    def rows(state):
        seen.append(state)
        n = state or 0
        return MANY([({"n": n}, None)], state=n + 1)

    until(lambda: len(seen) > 4)
    # While the first execution is open, polls start nothing, and their new states are dropped.
    assert seen[:4] == [None, 1, 1, 1]
    go.set()
    until(lambda: 2 in seen)


def test_g3_state_survives_a_restart(name, database):
    define(name)
    seen = []

    @cloaca.trigger(name=name, on=name, poll_interval="50ms", allow_concurrent=True)
    def rows(state):
        seen.append(state)
        return MANY([({"n": 1}, "only")], state="done")

    with cloaca.DefaultRunner(database):
        until(lambda: len(seen) > 1)
    count = len(seen)
    with cloaca.DefaultRunner(database):
        until(lambda: len(seen) > count)
    assert seen[0] is None
    assert set(seen[1:]) == {"done"}


@pytest.mark.parametrize("fires", [[1], [({}, 3)], [({}, "")], [{"n": 1}]])
def test_g3_invalid_entries_and_keys_are_refused(fires):
    with pytest.raises(TypeError, match=r"pairs of a context and a key|a key must be text"):
        MANY(fires)


def test_g3_state_must_be_json():
    with pytest.raises(TypeError, match="state of a trigger"):
        MANY([], state=object())
