"""Triggers: functions that are polled and start workflows (semantics G1)."""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import threading
import time
import uuid
from datetime import datetime, timedelta
from unittest import mock

import pytest

import cloaca
from cloaca._workflows.registry import registry
from schedule_support import at, define, until

FIRE = cloaca.TriggerResult.fire
SKIP = cloaca.TriggerResult.skip


def fresh() -> str:
    """Returns a unique name, because workflows of earlier tests stay registered."""
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture(autouse=True)
def no_other_triggers(monkeypatch):
    """Removes a test's triggers after the test, so that runners of later tests do not poll them."""
    monkeypatch.setattr(registry, "_trigger_revisions", {})


@pytest.fixture
def name() -> str:
    return fresh()


def test_a_trigger_starts_its_workflow_with_the_given_context(name, runner):
    define(name)
    polls = []

    @cloaca.trigger(name=name, on=name, poll_interval="100ms", allow_concurrent=True)
    def check():
        polls.append(time.monotonic())
        return FIRE({"n": len(polls)}) if len(polls) <= 3 else SKIP()

    until(lambda: len(polls) > 5)
    rows = until(lambda: (h := runner.get_trigger_execution_history(name))[2:] and h)
    assert len(rows) == 3
    assert {row["outcome"] for row in rows} == {"fired"}
    results = [
        runner.get_handle(row["workflow_execution_id"]).result(timeout=30) for row in reversed(rows)
    ]
    assert [result.final_context for result in results] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert len(runner.list_executions(name).items) == 3
    row = runner.get_trigger_schedule(name)
    assert row["name"] == row["trigger_name"] == row["workflow_name"] == name
    assert row["poll_interval"] == 0.1
    assert row["poll_interval_ms"] == 100
    assert row["allow_concurrent"] is True
    assert row["enabled"] is True
    assert row["last_error"] is None
    assert at(row["last_poll_at"]) >= at(row["last_fired_at"])
    assert name in [row["name"] for row in runner.list_trigger_schedules()]


def test_a_coroutine_function_is_polled_too(name, runner):
    define(name)

    @cloaca.trigger(name=name, on=name, poll_interval=0.1)
    async def check():
        await asyncio.sleep(0)
        return FIRE(cloaca.Context({"by": "loop"}))

    rows = until(lambda: runner.get_trigger_execution_history(name))
    result = runner.get_handle(rows[-1]["workflow_execution_id"]).result(timeout=30)
    assert result.final_context == {"by": "loop"}


def test_trigger_without_allow_concurrent_waits_for_its_execution(name, runner):
    gate = threading.Event()
    define(name, lambda context: gate.wait(30) and None)

    @cloaca.trigger(name=name, on=name, poll_interval="50ms")
    def check():
        return FIRE()

    def outcomes():
        return [row["outcome"] for row in reversed(runner.get_trigger_execution_history(name))]

    until(lambda: len(outcomes()) >= 3)
    assert outcomes()[:3] == ["fired", "overlapped", "overlapped"]
    gate.set()
    until(lambda: outcomes().count("fired") >= 2)


def test_exceptions_are_logged_and_recorded_but_not_fatal(name, runner, caplog):
    define(name)
    answers = iter([ValueError("the inbox is gone"), "nonsense", None])

    @cloaca.trigger(name=name, on=name, poll_interval="50ms")
    def check():
        answer = next(answers, FIRE())
        if isinstance(answer, Exception):
            raise answer
        return answer

    with caplog.at_level(logging.ERROR, logger="cloaca"):
        rows = until(lambda: (h := runner.get_trigger_execution_history(name))[3:] and h)
    rows.reverse()
    assert [row["outcome"] for row in rows[:4]] == ["failed", "failed", "failed", "fired"]
    assert rows[0]["detail"] == "ValueError: the inbox is gone"
    assert "returned a value of type 'str'" in rows[1]["detail"]
    assert "returned a value of type 'NoneType'" in rows[2]["detail"]
    assert "the inbox is gone" in caplog.text


def test_error_that_repeats_at_each_poll_is_logged_once(name, runner, caplog):
    define(name)
    answers = iter([*[ValueError("gone")] * 4, None, ValueError("gone")])

    @cloaca.trigger(name=name, on=name, poll_interval="20ms")
    def check():
        answer = next(answers, None)
        if answer is not None:
            raise answer
        return cloaca.TriggerResult.skip()

    def failures():
        rows = runner.get_trigger_execution_history(name)
        return [row for row in rows if row["outcome"] == "failed"]

    with caplog.at_level(logging.ERROR, logger="cloaca"):
        until(lambda: len(failures()) == 5)
        until(lambda: caplog.text.count(f"trigger '{name}' failed with") == 2)


class Silent(Exception):
    def __str__(self):
        raise RuntimeError("there are no words")


def test_g1_exception_that_cannot_be_printed_is_not_fatal(name, runner, monkeypatch):
    # Keeps invalid Unicode from pytest's log capture, which may not be able to process it.
    monkeypatch.setattr(logging.getLogger("cloaca"), "propagate", False)
    define("target")
    errors = [ValueError("nul \0, half \ud800"), Silent()]
    told: list[str] = []

    @cloaca.trigger(on="target", name=name, poll_interval="20ms")
    def look():
        row = runner.get_trigger_schedule(name)
        told.append(row and row["last_error"])
        if errors:
            raise errors.pop(0)
        return cloaca.TriggerResult.skip()

    until(lambda: len(told) >= 3)
    runner.set_trigger_enabled(name, False)
    assert told[1] == "ValueError: nul \ufffd, half ?"
    assert "RuntimeError in __str__" in told[2]


def test_a_slow_trigger_does_not_delay_others(name, database):
    other, gate = fresh(), threading.Event()
    define(name)
    define(other)
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:

        @cloaca.trigger(name=name, on=name, poll_interval="50ms")
        def slow():
            gate.wait(30)
            return SKIP()

        @cloaca.trigger(name=other, on=other, poll_interval="50ms", allow_concurrent=True)
        def quick():
            return FIRE()

        until(lambda: len(runner.get_trigger_execution_history(other)) >= 5)
        # The slow trigger does not occupy the only worker.
        assert runner.execute(name).status == "Completed"
        gate.set()


def test_slow_triggers_and_workflows_do_not_delay_schedules_or_triggers(database):
    gate = threading.Event()
    polled: list[float] = []
    define("slow", lambda context: gate.wait(30) and None)
    define("quick")
    stuck = fresh()
    lively = fresh()

    @cloaca.trigger(on="quick", name=stuck, poll_interval="100ms")
    def wait_long():
        gate.wait(30)
        return cloaca.TriggerResult.skip()

    @cloaca.trigger(on="quick", name=lively, poll_interval="100ms")
    def look():
        polled.append(time.monotonic())
        return cloaca.TriggerResult.skip()

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        try:
            runner.submit_many([("slow", None)] * 3)
            quick = runner.register_cron_workflow("quick", "* * * * * *")
            rows = until(lambda: (h := runner.get_cron_execution_history(quick))[2:] and h)
            late = sorted(at(row["claimed_at"]) - at(row["scheduled_time"]) for row in rows)
            assert late[len(late) // 2] < timedelta(seconds=0.5)
            # The lively trigger was polled for at least 2 s, although no execution of `slow` ended.
            assert len(polled) >= 10
        finally:
            gate.set()
            runner.set_trigger_enabled(stuck, False)
            runner.set_trigger_enabled(lively, False)


def test_trigger_can_be_disabled_and_enabled(name, runner):
    define(name)
    polls = []

    @cloaca.trigger(name=name, on=name, poll_interval="20ms")
    def check():
        polls.append(1)
        return SKIP()

    until(lambda: polls)
    runner.set_trigger_enabled(name, False)
    row = runner.get_trigger_schedule(name)
    assert (row["enabled"], row["next_poll_at"]) == (False, None)
    assert name not in [row["name"] for row in runner.list_trigger_schedules(enabled_only=True)]
    count = len(polls)
    runner.set_trigger_enabled(name, True)
    until(lambda: len(polls) > count + 1)


def test_polls_can_follow_a_cron_expression(name, runner):
    define(name)

    @cloaca.trigger(name=name, on=name, cron="* * * * * *", timezone="Asia/Kathmandu")
    def check():
        return SKIP()

    row = runner.get_trigger_schedule(name)
    assert row["cron_expression"] == "* * * * * *"
    assert row["timezone"] == "Asia/Kathmandu"
    assert row["poll_interval"] is None
    first = until(lambda: runner.get_trigger_schedule(name)["last_poll_at"])
    again = until(lambda: (t := runner.get_trigger_schedule(name)["last_poll_at"]) != first and t)
    # Each poll runs shortly after the start of a second, so two polls can be less than 1 s apart.
    assert at(again) - at(first) > timedelta(seconds=0.5)


def test_one_process_polls_and_is_replaced_when_killed(database, script):
    code = """
        import sys, time, cloaca
        with cloaca.WorkflowBuilder("job"):
            @cloaca.task
            def only(context):
                pass
        @cloaca.trigger(name="shared", on="job", poll_interval="50ms", allow_concurrent=True)
        def check():
            began = time.time()
            time.sleep(0.02)  # long enough for two concurrent polls to overlap
            return cloaca.TriggerResult.fire({"began": began, "ended": time.time()})
        config = cloaca.DefaultRunnerConfig(heartbeat_interval=0.2, lease_ttl=1)
        with cloaca.DefaultRunner(sys.argv[1], config) as runner:
            print("ready", flush=True)
            runner.run_forever()
    """
    workers = [script(code, database) for _ in range(3)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    with cloaca.DefaultRunner(database) as watcher:

        def count() -> int:
            return len(watcher.get_trigger_execution_history("shared"))

        until(lambda: watcher.get_trigger_schedule("shared") is not None and count() >= 20, 60)
        workers[0].kill()
        workers[1].kill()
        before = count()
        until(lambda: count() >= before + 20, 60)
        workers[2].terminate()
        assert workers[2].wait(timeout=60) == 0
        rows = watcher.get_trigger_execution_history("shared")
        fired = [row["workflow_execution_id"] for row in rows if row["outcome"] == "fired"]
        assert len(fired) == len(set(fired)) == len(watcher.list_executions("job", limit=1000))
        contexts = [watcher.get_execution(id).final_context for id in fired]
        spans = sorted((context["began"], context["ended"]) for context in contexts)
        for (_, ended), (began, _) in itertools.pairwise(spans):
            assert began >= ended


def test_trigger_without_a_workflow_warns_and_is_never_polled(caplog):
    with (
        caplog.at_level(logging.WARNING, logger="cloaca"),
        pytest.warns(UserWarning, match="'idle' starts no workflow") as warned,
    ):

        @cloaca.trigger(poll_interval="10ms")
        def idle():
            raise AssertionError

    assert "'idle' starts no workflow" in caplog.text
    assert [warning.filename for warning in warned] == [__file__]
    with cloaca.DefaultRunner(":memory:") as runner:
        assert runner.get_trigger_schedule("idle") is None


def test_the_decorator_returns_the_function_unchanged(name):
    def check():
        return SKIP()

    assert cloaca.trigger(name=name, on="anything")(check) is check
    result = FIRE({"a": 1})
    assert result.is_fire_result()
    assert not result.is_skip_result()
    assert result.context == {"a": 1}
    assert SKIP().is_skip_result()
    assert not SKIP().is_fire_result()
    assert SKIP().context is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"poll_interval": "soon"}, "poll_interval must be a duration, not 'soon'"),
        ({"poll_interval": "0s"}, "poll_interval must be greater than zero"),
        ({"poll_interval": -1}, "poll_interval must be greater than zero"),
        ({"poll_interval": "1s", "cron": "* * * * *"}, "exclude each other"),
        ({"cron": "61 * * * *"}, "at position 1"),
        ({"cron": "* * * * *", "timezone": "Mars"}, "'Mars' is not an IANA time zone"),
        ({"timezone": "UTC"}, "timezone is the zone of cron"),
        ({"on": 5}, "on must be the name of a workflow"),
        ({"on": "no name\0"}, "on must be the name of a workflow"),
        ({"name": ""}, "1 to 255 bytes"),
        ({"name": "nul \0"}, "1 to 255 bytes"),
        ({"name": "half \ud800"}, "1 to 255 bytes"),
        ({"name": datetime}, "in parentheses"),
        ({"allow_concurrent": "no"}, "allow_concurrent must be True or False, not 'no'"),
        ({"after": "v", "status": 3}, "status must be 'Completed', 'Failed' or 'Cancelled'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(cloaca.ScheduleError, match=message):
        cloaca.trigger(**{"on": "w", **options})(lambda: SKIP())


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda path: SKIP(), r"signature \(path\) and cannot be called without arguments"),
        (lambda state, path: SKIP(), r"\(state, path\) and cannot be called with \(state=\.\.\.\)"),
        (lambda state, /: SKIP(), r"cannot be called with \(state=\.\.\.\)"),
        (lambda *, path: SKIP(), r"signature \(\*, path\)"),
    ],
)
def test_a2_function_that_a_trigger_cannot_call_is_refused(function, message):
    with pytest.raises(cloaca.ScheduleError, match=f"trigger 'look': .*{message}"):
        cloaca.trigger(name="look", on="w")(function)


@pytest.mark.parametrize(
    "function",
    [
        mock.Mock(),
        functools.partial(lambda path, state: SKIP(), "inbox"),
        lambda path="inbox": SKIP(),
        lambda *given, **options: SKIP(),
        lambda *, state: SKIP(),
    ],
)
def test_a2_function_that_a_trigger_can_call_is_accepted(function, name):
    assert cloaca.trigger(name=name, on="w")(function) is function


def test_a2_after_trigger_with_a_positional_only_parameter_is_refused():
    with pytest.raises(cloaca.ScheduleError, match=r"cannot be called with \(ended=\.\.\.\)"):
        cloaca.trigger(name="look", on="w", after="v")(lambda ended, /: SKIP())


def test_trigger_name_with_a_nul_character_is_unknown(runner):
    assert runner.get_trigger_schedule("\0") is None
    assert runner.get_trigger_execution_history("\0") == []
    with pytest.raises(cloaca.ScheduleError, match="there is no trigger"):
        runner.set_trigger_enabled("\0", True)


def test_unknown_trigger_has_no_history_and_cannot_be_disabled():
    with cloaca.DefaultRunner(":memory:") as runner:
        assert runner.get_trigger_schedule("unheard of") is None
        with pytest.raises(cloaca.ScheduleError, match="there is no trigger 'unheard of'"):
            runner.set_trigger_enabled("unheard of", False)
        assert runner.get_trigger_execution_history("unheard of") == []
