"""Retries of tasks, timeouts, and cancelling, pausing and retrying executions (semantics D)."""

from __future__ import annotations

import datetime
import itertools
import threading
import time

import pytest

import cloaca


def test_d2_task_can_request_a_retry_a_failure_or_a_snooze(runner):
    snoozes = itertools.count(1)
    with cloaca.WorkflowBuilder("asks"):

        @cloaca.task(retry_attempts=2, retry_condition="never")
        def again(context, handle):
            if handle.attempt == 1:
                raise cloaca.Retry(after=0.01, reason="busy")

        @cloaca.task(retry_attempts=5, retry_delay_ms=1)
        def gives_up(context):
            raise cloaca.Abort("the customer does not exist")

        @cloaca.task(retry_attempts=1)
        def comes_back(context, handle):
            if next(snoozes) < 4:
                raise cloaca.Snooze(datetime.timedelta(milliseconds=5))
            context["attempt"] = handle.attempt

        @cloaca.task(retry_attempts=2)
        async def always_again(context):
            raise cloaca.Retry(after=0)

    result = runner.execute("asks")
    assert (result.tasks["again"].status, result.tasks["again"].attempts) == ("Completed", 2)
    assert result.tasks["gives_up"].attempts == 1
    assert result.tasks["gives_up"].error.type == "Abort"
    assert result.tasks["gives_up"].error.message == "the customer does not exist"
    assert result.tasks["comes_back"].status == "Completed"
    assert result.final_context == {"attempt": 1}
    assert next(snoozes) == 5
    assert (result.tasks["always_again"].status, result.tasks["always_again"].attempts) == (
        "Failed",
        2,
    )


class Own(ConnectionError):
    pass


@pytest.mark.parametrize(
    ("options", "error", "attempts"),
    [
        ({"retry_on": ConnectionError}, Own, 3),
        ({"retry_on": [KeyError]}, Own, 1),
        ({"never_on": OSError}, Own, 1),
        ({"never_on": KeyError}, Own, 3),
        ({"retry_condition": "never"}, Own, 1),
        ({"retry_condition": "transient"}, Own, 3),
        ({"retry_condition": "transient"}, KeyError, 1),
        ({"retry_condition": ["boom"]}, KeyError, 3),
        ({"retry_on": "test_control.Own"}, Own, 3),
        ({}, KeyboardInterrupt, 3),
        ({}, SystemExit, 3),
    ],
)
def test_d1_error_type_decides_whether_to_retry(runner, options, error, attempts):
    with cloaca.WorkflowBuilder("typed"):

        @cloaca.task(retry_delay_ms=0, **options)
        def fails(context):
            raise error("boom")

    result = runner.execute("typed")
    assert result.status == "Failed"
    assert result.tasks["fails"].attempts == attempts


def test_d3_retry_waits_for_its_delay(runner):
    starts = []
    with cloaca.WorkflowBuilder("delayed"):

        @cloaca.task(retry_attempts=4, retry_delay_ms=50, retry_backoff="fixed", retry_jitter=False)
        def fails(context):
            starts.append(time.monotonic())
            raise ValueError

    runner.execute("delayed")
    delays = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert all(delay >= 0.05 for delay in delays)
    assert min(delays) < 0.07


def test_d4_a_function_that_exceeds_its_timeout_is_interrupted(runner):
    caught = []
    ended = threading.Event()
    with cloaca.WorkflowBuilder("overruns"):

        @cloaca.task(timeout=0.05, retry_attempts=1)
        def slow(context):
            try:
                while True:
                    time.sleep(0.001)
            except cloaca.TaskTimeoutError as error:
                caught.append(error)
                context["late"] = True
            ended.set()

    result = runner.execute("overruns")
    assert result.status == "Failed"
    assert result.error.type == "TaskTimeoutError"
    assert "0.05" in result.error_message
    assert ended.wait(10)
    assert caught[0].code == "task_timeout"
    assert runner.get_execution(result.execution_id).final_context == {}


def test_d4_stuck_functions_cannot_use_up_the_pool(runner):
    release = threading.Event()
    with cloaca.WorkflowBuilder("stuck"):

        @cloaca.task(timeout=0.2, retry_attempts=1)
        def stuck(context):
            release.wait()

    with cloaca.WorkflowBuilder("quick"):

        @cloaca.task
        def quick(context):
            pass

    handles = runner.submit_many(("stuck", None) for _ in range(50))
    assert runner.execute("quick").status == "Completed"
    for handle in handles:
        assert handle.result(timeout=60).error.type == "TaskTimeoutError"
    assert runner.execute("quick").status == "Completed"
    release.set()


def test_d4_timeouts_of_executions_cannot_use_up_the_pool(database):
    release = threading.Event()
    with cloaca.WorkflowBuilder("stuck"):

        @cloaca.task
        def stuck(context):
            release.wait(60)

    with cloaca.WorkflowBuilder("quick"):
        cloaca.task(id="quick")(lambda context: None)

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=2)
    with cloaca.DefaultRunner(database, config) as runner:
        for handle in [runner.submit("stuck", timeout=0.2) for _ in range(5)]:
            assert handle.result(timeout=30).error.type == "WorkflowTimeoutError"
        assert runner.execute("quick", timeout=30).status == "Completed"
        release.set()


def test_d4_a_function_is_interrupted_when_its_execution_times_out(runner):
    caught = threading.Event()
    cancelled = []
    with cloaca.WorkflowBuilder("overruns"):

        @cloaca.task
        def slow(context, handle):
            try:
                while True:
                    time.sleep(0.001)
            except cloaca.TaskTimeoutError:
                cancelled.append(handle.is_cancelled())
                caught.set()

    assert runner.execute("overruns", timeout=0.05).error.type == "WorkflowTimeoutError"
    assert caught.wait(10)
    assert cancelled == [True]


def test_q2_interrupt_after_the_function_returned_does_not_block_final_tasks(runner, monkeypatch):
    from cloaca._workers import pool

    attempt = pool.attempt

    def slow_attempt(*arguments):
        outcome = attempt(*arguments)
        if arguments[0].task_id == "returns":
            for _ in range(10_000):
                time.sleep(0.001)
        return outcome

    monkeypatch.setattr(pool, "attempt", slow_attempt)
    with cloaca.WorkflowBuilder("limited"):
        cloaca.task(id="returns")(lambda context: None)
        cloaca.task(id="clean", final="always")(lambda context: None)

    result = runner.submit("limited", timeout=0.1).result(timeout=60)
    assert result.error.type == "WorkflowTimeoutError"
    assert result.final.status == "Completed"


def test_d4_a_late_interrupt_does_not_hit_another_task(database):
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=2)
    with cloaca.WorkflowBuilder("close"):

        @cloaca.task(timeout=0.002, retry_attempts=1)
        def close(context):
            time.sleep(0.002)

    with cloaca.WorkflowBuilder("innocent"):

        @cloaca.task(retry_attempts=1)
        def innocent(context):
            for _ in range(2000):
                pass

    with cloaca.DefaultRunner(database, config) as runner:
        names = ["close", "innocent"] * 150
        results = [h.result(timeout=60) for h in runner.submit_many((n, None) for n in names)]
    for result in results:
        if result.workflow_name == "innocent":
            assert result.status == "Completed", result.error.traceback
        else:
            assert result.error is None or result.error.type == "TaskTimeoutError"


def test_d5_nothing_runs_after_the_timeout_of_an_execution(runner):
    release = threading.Event()
    ran = []
    with cloaca.WorkflowBuilder("limited"):

        @cloaca.task
        def long(context):
            release.wait(30)

        @cloaca.task(dependencies=[long])
        def after(context):
            ran.append(1)

    result = runner.execute("limited", timeout=0.05)
    assert result.status == "Failed"
    assert result.error.type == "WorkflowTimeoutError"
    assert result.error.task_id is None
    with pytest.raises(cloaca.WorkflowTimeoutError):
        result.raise_for_status()
    before = [str(event) for event in runner.events(result.execution_id)]
    release.set()
    with cloaca.WorkflowBuilder("next"):
        cloaca.task(id="a")(lambda context: None)
    runner.execute("next")
    assert [str(event) for event in runner.events(result.execution_id)] == before
    assert ran == []


def test_d6_function_sees_its_cancellation_and_its_result_is_dropped(runner):
    started, ended = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("cancelled"):

        @cloaca.task
        def work(context, handle):
            started.set()
            while not handle.is_cancelled():
                time.sleep(0.001)
            with pytest.raises(cloaca.Abort):
                handle.heartbeat()
            context["late"] = True
            ended.set()

        @cloaca.task(dependencies=[work])
        def after(context):
            raise AssertionError

    handle = runner.submit("cancelled")
    waiting = threading.Thread(target=handle.result)
    waiting.start()
    assert started.wait(10)
    assert handle.cancel() is True
    waiting.join(10)
    assert not waiting.is_alive()
    assert ended.wait(10)
    assert handle.cancel() is False
    assert handle.result().final_context == {}
    with pytest.raises(cloaca.WorkflowError) as caught:
        handle.resume()
    assert caught.value.code == "execution_state"


def test_d7_paused_execution_starts_no_task_until_resumed(runner):
    started, release = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("paused"):

        @cloaca.task
        def first(context):
            started.set()
            release.wait(30)

        @cloaca.task(dependencies=[first])
        def second(context):
            context["second"] = True

    handle = runner.submit("paused")
    assert started.wait(10)
    assert handle.pause() == "Paused"
    release.set()
    while handle.progress()["Completed"] == 0:
        time.sleep(0.001)  # Polls, because no event signals the commit of another thread.
    with pytest.raises(TimeoutError):
        handle.result(timeout=0.05)
    assert handle.resume() in {"Running", "Completed"}
    assert handle.result(timeout=30).final_context == {"second": True}
    with pytest.raises(cloaca.WorkflowError):
        handle.pause()


def test_d7_result_waits_for_an_execution_that_a_peer_retried(database):
    may_succeed: list[bool] = []
    with cloaca.WorkflowBuilder("retried_by_a_peer"):

        @cloaca.task(retry_attempts=1)
        def only(context):
            if not may_succeed:
                raise ValueError("not yet")
            time.sleep(0.2)

    with (
        cloaca.DefaultRunner(database) as runner,
        cloaca.DefaultRunner(database, start=False) as peer,
    ):
        handle = runner.submit("retried_by_a_peer")
        assert handle.result(timeout=30).status == "Failed"
        may_succeed.append(True)
        peer.retry_execution(handle.id)
        assert not handle.status().is_final
        assert handle.result(timeout=30).status == "Completed"


def test_d7_retry_runs_failed_and_skipped_tasks(runner):
    ran = []
    broken = {"left"}

    def body(name):
        def work(context):
            ran.append(name)
            if name in broken:
                raise ValueError(name)

        return work

    with cloaca.WorkflowBuilder("diamond"):
        for name, dependencies in [
            ("root", []),
            ("left", ["root"]),
            ("right", ["root"]),
            ("join", ["left", "right"]),
        ]:
            cloaca.task(id=name, dependencies=dependencies, retry_attempts=1)(body(name))

    handle = runner.submit("diamond")
    assert handle.result(timeout=30).status == "Failed"
    ran.clear()
    broken.clear()
    assert handle.retry() in {"Pending", "Running", "Completed"}
    assert handle.result(timeout=30).status == "Completed"
    assert ran == ["left", "join"]
    ran.clear()
    handle.retry(from_task="right")
    assert handle.result(timeout=30).status == "Completed"
    assert ran == ["right", "join"]
    with pytest.raises(cloaca.CloacaException, match="rigth"):
        handle.retry(from_task="rigth")


def test_d7_from_task_accepts_a_task_function(cloaca_runner):
    ran = []
    with cloaca.WorkflowBuilder("chain"):

        @cloaca.task
        def first(context):
            ran.append("first")

        @cloaca.task(dependencies=[first])
        def second(context):
            ran.append("second")

    handle = cloaca_runner.submit("chain")
    handle.result()
    handle.retry(from_task=second)
    handle.result()
    assert ran == ["first", "second", "second"]
    with pytest.raises(cloaca.TaskValidationError, match=r"from_task: .* is not a task"):
        handle.retry(from_task=print)


def test_a_handle_describes_the_attempt(runner):
    with cloaca.WorkflowBuilder("handled"):

        @cloaca.task(timeout=30)
        def work(context, task_handle):
            assert task_handle.is_slot_held()
            assert not task_handle.is_cancelled()
            task_handle.heartbeat(0.5)
            task_handle.set_progress(1, 2, "half")
            with pytest.raises(ValueError, match="progress"):
                task_handle.set_progress(3, 2)
            with pytest.raises(ValueError, match="poll_interval_ms"):
                task_handle.defer_until(lambda: True, poll_interval_ms=0)
            context["id"] = task_handle.task_id
            context["execution"] = task_handle.execution_id
            context["attempt"] = task_handle.attempt

    result = runner.execute("handled")
    assert result.status == "Completed", result.error
    assert result.final_context == {"id": "work", "execution": result.execution_id, "attempt": 1}


def test_g2_defer_until_waits_at_most_for_the_timeout(runner):
    with cloaca.WorkflowBuilder("deferred"):

        @cloaca.task
        def function(context, handle):
            calls = itertools.count(1)
            handle.defer_until(lambda: next(calls) > 3, poll_interval_ms=2)
            context["function"] = next(calls)

        @cloaca.task
        async def coroutine(context, handle):
            calls = itertools.count(1)

            async def condition():
                return next(calls) > 3

            await handle.defer_until(condition, poll_interval_ms=2)
            context["coroutine"] = next(calls)

        @cloaca.task(timeout=0.05, retry_attempts=1)
        def never(context, handle):
            handle.defer_until(lambda: False, poll_interval_ms=10_000)

    result = runner.execute("deferred")
    assert result.final_context == {"function": 5, "coroutine": 5}
    assert result.error.type == "TaskTimeoutError"


def test_g2_defer_until_ends_at_cancel(runner):
    started, ended = threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("deferred"):

        @cloaca.task
        def work(context, handle):
            started.set()
            try:
                handle.defer_until(lambda: False, poll_interval_ms=60_000)
            finally:
                ended.set()

    handle = runner.submit("deferred")
    assert started.wait(10)
    handle.cancel()
    assert ended.wait(2)


def test_an_external_task_holds_its_execution_open(runner):
    with cloaca.WorkflowBuilder("external"):

        @cloaca.task
        def before(context):
            pass

        resize = cloaca.external_task("resize", dependencies=[before])
        cloaca.task(id="after", dependencies=[resize])(lambda context: None)

    handle = runner.submit("external")
    with pytest.raises(TimeoutError):
        handle.result(timeout=0.1)
    assert handle.progress()["Completed"] == 1
    handle.cancel()
