"""Submitting, following and listing executions (semantics A2, C6, C7, E7)."""

from __future__ import annotations

import asyncio
import copy
import datetime
import gc
import pickle
import sys
import threading
import time
import uuid
import warnings

import pytest

import cloaca


def define(name="w", function=lambda context: None, **options):
    with cloaca.WorkflowBuilder(name) as builder:
        cloaca.task(**{"id": "a", "retry_attempts": 1, **options})(function)
    return builder


def fails(context):
    raise ValueError("boom")


def test_a_handle_shows_the_state_of_its_execution(runner):
    release = threading.Event()
    define(function=lambda context: {"waited": release.wait(30)})
    handle = runner.submit("w", {"day": 1})
    assert uuid.UUID(handle.id).version == 7
    assert not handle.status().is_terminal
    with pytest.raises(TimeoutError) as caught:
        handle.result(timeout=0.01)
    assert not isinstance(caught.value, cloaca.WorkflowTimeoutError)
    assert caught.value.code == "wait_timeout"
    assert "cancel" in caught.value.hint
    release.set()
    result = handle.result()
    assert result.final_context == {"day": 1, "waited": True}
    assert handle.status() == "Completed"
    assert handle == runner.get_handle(handle.id)
    assert hash(handle) == hash(runner.get_handle(handle.id))
    assert handle.id in repr(handle)


def test_a_result_has_status_context_and_tasks(runner):
    define()
    result = runner.execute("w")
    assert result.status is cloaca.WorkflowStatus.COMPLETED
    assert result.status == "Completed"
    assert result.workflow_name == "w"
    assert result.started_at <= result.ended_at
    assert result.created_at <= result.started_at
    assert result.started_at.tzinfo is datetime.UTC
    assert result.duration == result.ended_at - result.started_at
    assert datetime.datetime.fromisoformat(result.start_time) == result.started_at
    assert result.end_time.endswith("Z")
    assert result.error is None
    assert result.error_message is None
    assert result.raise_for_status() is result
    task = result.tasks["a"]
    assert (task.status, task.attempts, task.error, task.skip_reason) == (
        "Completed",
        1,
        None,
        None,
    )
    assert task.duration == task.ended_at - task.started_at
    assert "'w'" in repr(result)
    assert "Completed" in repr(task)


def test_a_result_survives_copying_and_pickling(runner):
    define(function=fails)
    result = runner.execute("w", {"day": 1})
    page = runner.list_executions()
    again = [copy.copy(result), copy.deepcopy(result), pickle.loads(pickle.dumps(result))]
    again += [pickle.loads(pickle.dumps(again[-1])), *pickle.loads(pickle.dumps(page))]
    for other in again:
        assert repr(other) == repr(result)
        assert other.final_context == {"day": 1}
        assert (other.created_at, other.duration) == (result.created_at, result.duration)
        assert other.tasks["a"].error.traceback == result.tasks["a"].error.traceback
    events = pickle.loads(pickle.dumps(runner.events(result.execution_id)))
    assert [event.type for event in events][:2] == ["submitted", "started"]


def test_c6_priority_orders_waiting_tasks(database):
    order = []
    release = threading.Event()
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        running = threading.Event()
        define("first", lambda context: running.set() or {"waited": release.wait(30)})
        define("ordered", lambda context: order.append(context["number"]))
        first = runner.submit("first")
        assert running.wait(30)
        priorities = [0, 5, -5, 5, 32767, -32768, 0]
        handles = [
            runner.submit("ordered", {"number": number}, priority=priority)
            for number, priority in enumerate(priorities)
        ]
        release.set()
        for handle in [first, *handles]:
            assert handle.result(timeout=30).status == "Completed"
    assert order == [4, 1, 3, 0, 6, 2, 5]


def test_c7_a_key_makes_submission_idempotent(runner):
    define()
    define("other")
    first = runner.submit("w", key="k")
    assert runner.submit("w", key="k") == first
    assert runner.submit("other", key="k") != first
    assert runner.execute("w", key="k").execution_id == first.id
    assert len(runner.list_executions("w").items) == 1


def test_c6_delay_and_at_postpone_the_start(runner):
    define()
    now = datetime.datetime.now(datetime.UTC)
    late = runner.submit("w", at=now + datetime.timedelta(hours=1))
    later = runner.submit("w", delay=datetime.timedelta(hours=1))
    start = time.monotonic()
    assert runner.execute("w", delay=0.05).status == "Completed"
    assert time.monotonic() - start >= 0.05
    assert late.status() == later.status() == "Pending"
    assert late.cancel()
    assert later.cancel()
    assert late.result(timeout=10).tasks["a"].status == "Cancelled"


def test_submit_many_takes_pairs_and_mappings(runner):
    define()
    context = cloaca.Context({"n": 3})
    handles = runner.submit_many(
        [
            ("w", None),
            ["w", {"n": 2}],
            {"workflow": "w", "context": context, "key": "third", "priority": 5},
        ]
    )
    contexts = [handle.result(timeout=10).final_context.to_dict() for handle in handles]
    assert contexts == [{}, {"n": 2}, {"n": 3}]
    assert runner.submit("w", key="third") == handles[2]
    assert runner.submit_many([]) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"key": "x" * 513}, "512"),
        ({"key": ""}, "key"),
        ({"key": 3}, "key"),
        ({"key": "a\0b"}, "NUL"),
        ({"key": "\ud800"}, "Unicode"),
        ({"priority": 40_000}, "priority"),
        ({"priority": 1.5}, "priority"),
        ({"delay": -1}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": -1}, "timeout"),
        ({"at": datetime.datetime(2026, 1, 1)}, "time zone"),
        ({"at": "2026-01-01"}, "datetime"),
        ({"at": datetime.datetime.now(datetime.UTC), "delay": 1}, "exclude"),
    ],
)
def test_a2_a_bad_argument_is_refused_and_nothing_is_started(runner, arguments, text):
    define()
    for call in (runner.submit, runner.execute):
        with pytest.raises(cloaca.ConfigurationError, match=text):
            call("w", **arguments)
    with pytest.raises(cloaca.ConfigurationError, match=text):
        runner.submit_many([{"workflow": "w", **arguments}])
    assert len(runner.list_executions()) == 0


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("w", "pairs or mappings"),
        (("w",), "pairs or mappings"),
        ({"workflow": "w", "delya": 1}, "did you mean 'delay'"),
        ({"context": {}}, "workflow"),
        ((3, None), "workflow"),
    ],
)
def test_a2_a_bad_entry_of_submit_many_is_refused(runner, entry, text):
    define()
    with pytest.raises(cloaca.ConfigurationError, match=f"(?s){text}"):
        runner.submit_many([("w", None), entry])
    assert len(runner.list_executions()) == 0


def test_a2_a_context_that_is_not_json_is_refused(runner):
    define()
    with pytest.raises(TypeError, match="file"):
        runner.submit("w", {"file": b""})
    with pytest.raises(TypeError):
        runner.submit("w", 3)


def test_page_of_a_list_can_have_any_length(runner):
    define()
    runner.submit_many([("w", None)] * 2100)
    page = runner.list_executions(limit=2050)
    assert len({result.execution_id for result in page}) == len(page) == 2050
    rest = runner.list_executions(limit=10**9, cursor=page.next_cursor)
    assert (len(rest), rest.next_cursor) == (50, None)
    assert page[-1].execution_id > rest[0].execution_id


@pytest.mark.parametrize(
    "method", ["get_execution", "get_execution_status", "events", "get_handle"]
)
def test_an_unknown_execution_is_refused(runner, method):
    unknown = "0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"
    with pytest.raises(cloaca.WorkflowNotFoundError, match=unknown) as caught:
        getattr(runner, method)(unknown)
    assert caught.value.code == "execution_not_found"
    with pytest.raises(cloaca.WorkflowNotFoundError, match="not-an-id"):
        getattr(runner, method)("not-an-id")


def test_executions_are_listed_newest_first_page_by_page(runner):
    builder = define("good")
    builder.tag("team", "data")
    cloaca.register_workflow_constructor("good", builder.build)
    define("bad", fails)
    good = [runner.execute("good").execution_id for _ in range(5)]
    bad = [runner.execute("bad").execution_id for _ in range(2)]
    everything = runner.list_executions()
    assert [result.execution_id for result in everything] == [*reversed(bad), *reversed(good)]
    assert everything.next_cursor is None
    page = runner.list_executions("good", limit=2)
    seen = [result.execution_id for result in page]
    runner.execute("good")  # A later submission must not change the next page.
    while page.next_cursor:
        page = runner.list_executions("good", limit=2, cursor=page.next_cursor)
        seen += [result.execution_id for result in page]
    assert seen == list(reversed(good))
    assert {r.execution_id for r in runner.list_executions(status="Failed")} == set(bad)
    assert len(runner.list_executions(status=["Failed", cloaca.WorkflowStatus.COMPLETED])) == 8
    assert len(runner.list_executions(tags={"team": "data"})) == 6
    assert len(runner.list_executions(tags={"team": "other"})) == 0
    assert len(runner.list_executions("\0")) == len(runner.list_executions(tags={"\0": "\0"})) == 0
    assert everything[0].execution_id == bad[1]
    now = datetime.datetime.now(datetime.UTC)
    assert len(runner.list_executions(since=now + datetime.timedelta(minutes=1))) == 0
    assert len(runner.list_executions(since=now - datetime.timedelta(hours=1))) == 8


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"status": "Compelted"}, "did you mean 'Completed'"),
        ({"limit": 0}, "limit"),
        ({"limit": -1}, "limit"),
        ({"limit": "all"}, "limit"),
        ({"cursor": "x"}, "x"),
        ({"since": datetime.datetime(2026, 1, 1)}, "time zone"),
    ],
)
def test_a2_a_bad_filter_is_refused(runner, arguments, text):
    with pytest.raises(cloaca.ConfigurationError, match=f"(?s){text}"):
        runner.list_executions(**arguments)


def test_e7_events_list_the_history(runner):
    define(function=fails, retry_attempts=2, retry_delay_ms=1)
    result = runner.execute("w")
    events = runner.events(result.execution_id)
    assert [event.type for event in events] == [
        "submitted",
        "started",
        "task_started",
        "task_retrying",
        "task_started",
        "task_failed",
        "failed",
    ]
    retrying = events[3]
    assert (retrying.task_id, retrying.attempt, retrying.execution_id) == (
        "a",
        1,
        result.execution_id,
    )
    error = retrying.data["error"]
    assert (error["type"], error["message"]) == ("ValueError", "boom")
    assert error["traceback"].endswith("ValueError: boom\n")
    assert [event.time for event in events] == sorted(event.time for event in events)
    assert "task_retrying" in repr(retrying)


def test_e7_history_keeps_the_traceback_of_the_last_attempt(runner):
    attempts = []

    def fails_once(context):
        attempts.append(1)
        if len(attempts) == 1:
            raise ValueError("boom")

    define(function=fails_once, retry_attempts=1)
    handle = runner.submit("w")
    assert handle.result().status == "Failed"

    def traceback():
        (failed,) = [event for event in handle.events() if event.type == "task_failed"]
        return failed.data["error"]["traceback"]

    before = traceback()
    assert before.startswith("Traceback")
    assert before.endswith("ValueError: boom\n")
    handle.retry()
    assert handle.result().status == "Completed"
    assert traceback() == before


def test_e7_events_of_attempts_name_the_runner(runner):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(lambda context: None)
        cloaca.task(id="b", dependencies=["a"], retry_attempts=2, retry_delay_ms=1)(fails)
        cloaca.task(id="c", dependencies=["b"])(lambda context: None)
    result = runner.execute("w")
    attempts = [event for event in runner.events(result.execution_id) if event.attempt]
    assert [event.type for event in attempts] == [
        *("task_started", "task_completed", "task_started", "task_retrying"),
        *("task_started", "task_failed"),
    ]
    assert {event.runner_id for event in attempts} == {runner._core.runner_id}


def test_e7_history_keeps_the_earlier_events_after_a_retry(runner):
    attempts = []

    def fails_three_times(context):
        attempts.append(1)
        if len(attempts) < 4:
            raise ValueError(f"failure {len(attempts)}")

    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a", retry_attempts=2, retry_delay_ms=1)(fails_three_times)
        cloaca.task(id="b", dependencies=["a"])(lambda context: None)
    handle = runner.submit("w")
    assert handle.result().status == "Failed"
    first_round = [
        ("submitted", None, None),
        ("started", None, None),
        ("task_started", "a", 1),
        ("task_retrying", "a", 1),
        ("task_started", "a", 2),
        ("task_failed", "a", 2),
        ("task_skipped", "b", None),
        ("failed", None, None),
    ]
    told = lambda: [(event.type, event.task_id, event.attempt) for event in handle.events()]  # noqa: E731
    assert told() == first_round
    handle.retry()
    assert handle.result().status == "Completed"
    second_round = [
        ("retried", None, None),
        ("task_started", "a", 3),
        ("task_retrying", "a", 3),
        ("task_started", "a", 4),
        ("task_completed", "a", 4),
        ("task_started", "b", 1),
        ("task_completed", "b", 1),
        ("completed", None, None),
    ]
    assert told() == first_round + second_round
    errors = [event.data["error"]["message"] for event in handle.events() if "failed" in event.type]
    assert errors == ["failure 2", "failure 2"]
    handle.retry(from_task="b")
    assert handle.result().status == "Completed"
    assert told()[:16] == first_round + second_round


def test_progress_counts_tasks_by_state(runner):
    started, release = threading.Event(), threading.Event()

    def wait(context):
        started.set()
        release.wait(30)

    with cloaca.WorkflowBuilder("three"):
        cloaca.task(id="first")(lambda context: None)
        cloaca.task(id="second", dependencies=["first"])(wait)
        cloaca.task(id="third", dependencies=["second"])(lambda context: None)
    handle = runner.submit("three")
    assert started.wait(30)
    counts = {str(state): count for state, count in handle.progress().items() if count}
    assert counts == {"Completed": 1, "Running": 1, "Pending": 1}
    release.set()
    handle.result(timeout=30)
    assert handle.progress()["Completed"] == 3


def test_wait_until_idle_waits_for_all_executions(runner):
    define()
    handles = runner.submit_many(("w", None) for _ in range(50))
    runner.wait_until_idle(timeout=30)
    assert {handle.status() for handle in handles} == {"Completed"}
    late = runner.submit("w", delay=3600)
    with pytest.raises(TimeoutError) as caught:
        runner.wait_until_idle(timeout=0.02)
    assert late.id in caught.value.hint
    late.cancel()
    runner.wait_until_idle(timeout=30)


def test_workflow_object_can_be_submitted(runner):
    workflow = define().build()
    assert runner.execute(workflow).workflow_name == "w"
    with pytest.raises(cloaca.ConfigurationError, match="int"):
        runner.execute(3)


def test_threads_can_define_and_submit_at_once(runner):
    define()
    errors = []

    def use(number):
        try:
            for turn in range(5):
                define(f"own{number}", lambda context, n=turn: {"n": n})
                assert runner.execute(f"own{number}").status == "Completed"
                runner.submit("w").result(timeout=30)
                runner.list_executions(limit=3)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_two_runners_of_one_process_share_its_workflows(tmp_path):
    define()
    urls = [f"sqlite:///{tmp_path}/{name}.db" for name in "ab"]
    with cloaca.DefaultRunner(urls[0]) as one, cloaca.DefaultRunner(urls[1]) as two:
        define("after")
        assert one.execute("after").status == two.execute("after").status == "Completed"
        assert len(one.list_executions()) == 1


def test_unreferenced_runner_warns_and_stops(database):
    define(function=lambda context: None)
    before = set(threading.enumerate())
    runner = cloaca.DefaultRunner(database)
    runner.execute("w")
    own = set(threading.enumerate()) - before
    assert own
    forgotten = [runner]
    del runner
    with pytest.warns(ResourceWarning, match="unclosed"):
        forgotten.clear()
    for thread in own:
        thread.join(10)
        assert not thread.is_alive()


def test_unreferenced_runner_stops_even_if_warnings_are_errors(database, monkeypatch):
    raised = []
    monkeypatch.setattr(sys, "unraisablehook", lambda failure: raised.append(failure.exc_type))
    before = set(threading.enumerate())
    forgotten = [cloaca.DefaultRunner(database)]
    own = set(threading.enumerate()) - before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forgotten.clear()
        gc.collect()
    assert raised == [ResourceWarning]
    for thread in own:
        thread.join(10)
        assert not thread.is_alive()


def test_empty_submission_to_a_closed_runner_is_refused():
    with cloaca.DefaultRunner(":memory:") as runner:
        pass
    with pytest.raises(cloaca.RunnerClosedError):
        runner.submit_many([])
    with pytest.raises(cloaca.RunnerClosedError):
        asyncio.run(runner.submit_many_async([]))
