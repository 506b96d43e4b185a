"""`explain` states every reason why an execution does not continue, in plain words."""

from __future__ import annotations

import os
import re
import signal
import threading
from datetime import UTC, datetime, timedelta

import pytest

import cloaca

# Maximum time to wait, in seconds.
PATIENCE = 30


def until(read_sentences, wanted):
    """Polls until a sentence contains the wanted words; returns all sentences of the last poll."""
    import time

    end = time.monotonic() + PATIENCE
    while True:
        sentences = read_sentences()
        if any(wanted in sentence for sentence in sentences):
            return sentences
        assert time.monotonic() < end, f"{wanted!r} is not in {sentences}"
        time.sleep(0.02)  # Polls, because another process or thread changes the state.


@pytest.fixture
def gate():
    """An event that tasks wait for."""
    event = threading.Event()
    yield event
    event.set()


def test_explains_a_wait_for_a_dependency_and_names_its_runner(runner, gate):
    started = threading.Event()
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="first")
        def first(context):
            started.set()
            gate.wait(PATIENCE)

        cloaca.task(id="second", dependencies=["first"])(lambda context: None)
        cloaca.task(id="third", dependencies=["first", "second"])(lambda context: None)

    handle = runner.submit("w")
    assert started.wait(PATIENCE)
    held, second, third = runner.explain(handle.id)
    assert f"'first' (attempt 1) is held by runner {runner._core.runner_id}" in held
    assert f"pid {os.getpid()}" in held
    assert re.search(r"until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(in 1\d s\)", held)
    assert second == "Task 'second' waits for its dependency 'first' (Running)."
    assert third == "Task 'third' waits for its dependencies 'first' (Running), 'second' (Pending)."
    assert handle.explain()[1:] == [second, third]
    gate.set()
    handle.result(PATIENCE)
    (ended,) = runner.explain(handle.id)
    assert ended.startswith("The execution has already ended: Completed at ")


def test_explains_the_end_of_a_failed_execution(runner):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="a", retry_attempts=1)
        def a(context):
            raise ValueError("too much\nof it")

    result = runner.execute("w")
    (ended,) = runner.explain(result.execution_id)
    assert "Failed at" in ended
    assert ended.endswith("because task 'a' failed with ValueError: too much.")


def test_explains_a_retry_timer_and_its_due_time(runner):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="a", retry_attempts=3, retry_delay_ms=60_000, retry_jitter=False)
        def a(context):
            raise ValueError("not yet")

    handle = runner.submit("w")
    (sentence,) = until(handle.explain, "waits for its retry")
    assert "attempt 2 of 3 is due at" in sentence
    assert re.search(r"\(in 5\d s\)|\(in 1 min 0 s\)", sentence)
    assert sentence.endswith("; the last attempt failed with ValueError: not yet.")


def test_explains_a_snooze(runner):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="a")
        def a(context):
            raise cloaca.Snooze(600)

    handle = runner.submit("w")
    (sentence,) = until(handle.explain, "was snoozed")
    assert sentence.startswith("Task 'a' was snoozed and is due to run again at")


@pytest.mark.parametrize("how", ["delay", "at"])
def test_explains_a_delay(runner, how):
    start = {"delay": 3600} if how == "delay" else {"at": datetime.now(UTC) + timedelta(hours=1)}
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(lambda context: None)
        cloaca.task(id="b", dependencies=["a"])(lambda context: None)

    delayed, waits = runner.submit("w", **start).explain()
    assert delayed.startswith("The execution is delayed: it was submitted with the start time")
    assert "(in 59 min" in delayed or "(in 1 h 0 min)" in delayed
    assert waits == "Task 'b' waits for its dependency 'a' (Ready)."


def test_explains_a_pause(runner):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(lambda context: None)

    handle = runner.submit("w", delay=3600)
    handle.pause()
    (sentence,) = handle.explain()
    assert sentence.startswith("The execution has been paused since")
    assert "no task starts before the execution is resumed" in sentence
    handle.resume()
    assert "delayed" in handle.explain()[0]


def test_explains_the_timeout_of_an_execution(runner, gate):
    started = threading.Event()
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="a")
        def a(context):
            started.set()
            gate.wait(PATIENCE)

    handle = runner.submit("w", timeout=3600)
    assert started.wait(PATIENCE)
    first, _ = until(handle.explain, "timeout")
    assert first.startswith("The execution has a timeout of 1 h 0 min: it fails at")


def test_explains_that_no_worker_is_free(database, gate):
    started = threading.Event()
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task(id="a")
        def a(context):
            started.set()
            gate.wait(PATIENCE)

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        running = runner.submit("w")
        assert started.wait(PATIENCE)
        handle = runner.submit("w", priority=-1)
        (sentence,) = handle.explain()
        gate.set()
        running.result(PATIENCE)
        handle.result(PATIENCE)
    # If the runner has prefetched the task, the runner holds it.
    assert "waits for a free worker of runner" in sentence or "is held by runner" in sentence


def test_explains_that_no_live_runner_knows_the_task(runner):
    with cloaca.WorkflowBuilder("w"):
        cloaca.external_task("rust")

    handle = runner.submit("w")
    (sentence,) = until(handle.explain, "no live runner has a handler for task")
    assert sentence == (
        "Task 'rust' is ready, but no live runner has a handler for task 'rust' of workflow 'w' "
        "(never seen)."
    )


def test_explains_that_no_live_runner_knows_the_workflow(database):
    with cloaca.WorkflowBuilder("w"):
        cloaca.task(id="a")(lambda context: None)
    with cloaca.DefaultRunner(database) as first:
        handle = first.submit("w", delay=0.3)
    # Reads through an inspector, because any runner of this process would know the workflow.
    reads = cloaca._core.Inspector(database).reads
    unknown, missing = until(
        lambda: reads.explain(handle.id), "no live runner has a handler for task"
    )
    seen = rf"last seen .* ago\) on host \S+ with pid {os.getpid()}\)"
    assert re.fullmatch(rf"No live runner knows workflow 'w' \({seen}: its tasks wait.*", unknown)
    assert re.search(
        rf"no live runner has a handler for task 'a' of workflow 'w' \({seen}\.", missing
    )


HOLDER = """
import sys, threading, cloaca
with cloaca.WorkflowBuilder("held"):
    @cloaca.task(id="a")
    def a(context, handle):
        print(handle.execution_id, flush=True)
        threading.Event().wait()
with cloaca.DefaultRunner(sys.argv[1]) as runner:
    runner.submit("held")
    threading.Event().wait()
"""


def test_explains_a_runner_of_another_process_and_its_death(script, database):
    process = script(HOLDER, database)
    id = process.stdout.readline().strip()
    reads = cloaca._core.Inspector(database).reads
    # The start of an attempt is stored a short time after the attempt started, so the test polls.
    until(lambda: [reads.status(id)], "Running")
    (alive,) = reads.explain(id)
    assert "is held by runner" in alive
    assert f"pid {process.pid}" in alive
    assert "the runner is alive" in alive

    process.kill()
    process.wait()
    (dead,) = until(lambda: reads.explain(id), "dead runner")
    assert f"pid {process.pid}" in dead
    assert re.search(r"until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC \(in \d", dead)
    assert "the next runner that is started takes the task back" in dead


def test_explains_a_disabled_schedule(runner):
    with cloaca.WorkflowBuilder("etl"):
        cloaca.task(id="a")(lambda context: None)
    id = runner.register_cron_workflow("etl", "0 0 1 1 *")
    (next_time,) = runner.explain(id)
    assert re.match(
        rf"Schedule {id} starts workflow 'etl' at its next time: \d{{4}}-01-01", next_time
    )
    runner.set_cron_schedule_enabled(id, False)
    disabled = (
        f"Schedule {id} is disabled: it starts no execution of workflow 'etl' until it is enabled."
    )
    assert runner.explain(id) == [disabled]
    execution = runner.run_cron_schedule_now(id)
    off = f"Schedule {id}, which started this execution, is disabled: it starts no more executions."
    assert runner.explain(execution)[-1] == off
    runner.delete_cron_schedule(id)
    assert runner.explain(id)[0].startswith(f"Schedule {id} was deleted at ")
    assert runner.explain(execution)[-1] == off.replace("is disabled", "was deleted")


def test_explains_a_schedule_without_a_stored_workflow(runner):
    id = runner.register_cron_workflow("elsewhere", "0 0 1 1 *")
    unknown, next_time = runner.explain(id)
    assert "workflow 'elsewhere', but no program has stored a definition of it" in unknown
    assert "at its next time" in next_time


def test_an_unknown_id_is_refused(runner):
    with pytest.raises(cloaca.WorkflowNotFoundError, match="there is no execution"):
        runner.explain("0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41")
    with pytest.raises(cloaca.WorkflowNotFoundError, match="is not an execution id"):
        runner.explain("x")


def test_runner_row_lists_workflows_registered_later(runner):
    with cloaca.WorkflowBuilder("listed-first"):
        cloaca.task(id="a")(lambda context: None)
    with cloaca.WorkflowBuilder("listed-second"):
        cloaca.task(id="a")(lambda context: None)

    def names():
        (found,) = runner._core.reads.runners()
        return found.workflows

    assert "listed-second" in until(names, "listed-second")
    assert "listed-first" in names()


def test_explain_names_a_suspended_process_as_the_holder(script, database):
    process = script(HOLDER, database)
    id = process.stdout.readline().strip()
    reads = cloaca._core.Inspector(database).reads
    until(lambda: [reads.status(id)], "Running")
    process.send_signal(signal.SIGSTOP)
    try:
        (sentence,) = reads.explain(id)
        assert "is held by runner" in sentence
    finally:
        process.send_signal(signal.SIGCONT)
