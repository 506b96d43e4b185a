"""A call returns only after its effect is stored.

Each test makes a call in a process that kills itself right after the call.
"""

from __future__ import annotations

import json
import signal

import pytest

import cloaca

# Makes one call, prints its result in a single write, and kills itself right after the write.
SCRIPT = """
    import json, os, signal, sys
    import cloaca

    with cloaca.WorkflowBuilder("quick"):
        @cloaca.task()
        def work(context):
            context["answer"] = 42

    with cloaca.WorkflowBuilder("bad"):
        @cloaca.task(retry_attempts=1)
        def fails(context):
            raise ValueError("no")

    runner = cloaca.DefaultRunner(sys.argv[1])

    def later():
        return runner.submit("quick", delay=3600)

    def acknowledge(call):
        os.write(1, json.dumps(call()).encode())
        os.kill(os.getpid(), signal.SIGKILL)

    CALL
    acknowledge(call)
"""


def result_of(script, database: str, call: str):
    """Makes a call in a process that then kills itself; returns the result of the call."""
    code = SCRIPT.replace("CALL", call)
    process = script(code, database)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    return json.loads(output)


@pytest.fixture
def after(database):
    """A function that opens a runner after the process died. The runner fires no schedules."""
    running = []

    def start():
        config = cloaca.DefaultRunnerConfig(enable_cron_scheduling=False)
        running.append(cloaca.DefaultRunner(database, config))
        return running[-1]

    yield start
    for runner in running:
        runner.shutdown()


def test_returned_submission_is_stored(script, database, after):
    id = result_of(script, database, "call = lambda: later().id")
    assert after().get_execution_status(id) == "Pending"


def test_returned_submissions_of_a_batch_are_stored(script, database, after):
    call = "call = lambda: [h.id for h in runner.submit_many([('quick', None)] * 100)]"
    ids = result_of(script, database, call)
    runner = after()
    assert [runner.get_execution(id).workflow_name for id in ids] == ["quick"] * 100


def test_returned_result_is_stored(script, database, after):
    call = """def call():
        result = runner.execute("quick")
        return [result.execution_id, result.final_context["answer"]]"""
    id, answer = result_of(script, database, call)
    result = after().get_execution(id)
    assert (result.status, result.final_context["answer"], answer) == ("Completed", 42, 42)


def test_awaited_result_is_stored(script, database, after):
    call = """import asyncio
    async def run(): return (await runner.execute_async("quick")).execution_id
    call = lambda: asyncio.run(run())"""
    assert after().get_execution_status(result_of(script, database, call)) == "Completed"


def test_returned_failure_is_stored(script, database, after):
    id = result_of(script, database, "call = lambda: runner.execute('bad').execution_id")
    result = after().get_execution(id)
    assert result.status == "Failed"
    assert result.error_message == "task 'fails' failed: ValueError: no"


@pytest.mark.parametrize(
    ("verbs", "status"),
    [("cancel", "Cancelled"), ("pause", "Paused"), ("pause resume", "Pending")],
)
def test_cancel_pause_and_resume_are_stored(script, database, after, verbs, status):
    calls = ", ".join(f"handle.{verb}()" for verb in verbs.split())
    call = f"handle = later()\n    call = lambda: [handle.id, {calls}][0]"
    id = result_of(script, database, call)
    assert after().get_execution_status(id) == status


def test_retry_is_stored(script, database, after):
    call = """handle = runner.submit("bad")
    handle.result()
    call = lambda: [handle.id, handle.retry()][0]"""
    id = result_of(script, database, call)
    assert "retried" in [event.type for event in after().events(id)]


def test_registered_schedule_is_stored(script, database, after):
    call = "call = lambda: runner.register_cron_workflow('quick', '0 0 1 1 *')"
    id = result_of(script, database, call)
    assert after().get_cron_schedule(id)["workflow_name"] == "quick"


def test_changes_of_a_schedule_are_stored(script, database, after):
    call = """id = runner.register_cron_workflow('quick', '0 0 1 1 *')
    runner.update_cron_schedule(id, '0 0 2 2 *')
    call = lambda: [runner.set_cron_schedule_enabled(id, False), id][1]"""
    schedule = after().get_cron_schedule(result_of(script, database, call))
    assert (schedule["enabled"], schedule["cron_expression"]) == (False, "0 0 2 2 *")


def test_manual_run_of_a_schedule_is_stored(script, database, after):
    call = """id = runner.register_cron_workflow('quick', '0 0 1 1 *')
    call = lambda: [id, runner.run_cron_schedule_now(id)]"""
    id, execution = result_of(script, database, call)
    runner = after()
    (tick,) = runner.get_cron_execution_history(id)
    assert (tick["workflow_execution_id"], tick["outcome"]) == (execution, "fired")
    assert runner.get_execution(execution).workflow_name == "quick"


def test_deletion_of_a_schedule_is_stored(script, database, after):
    call = """id = runner.register_cron_workflow('quick', '0 0 1 1 *')
    call = lambda: [runner.delete_cron_schedule(id), id][1]"""
    id = result_of(script, database, call)
    with pytest.raises(ValueError, match="is deleted"):
        after().get_cron_schedule(id)
