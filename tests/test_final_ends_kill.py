"""Final tasks take effect exactly once, however the execution ends, despite SIGKILL (Q1, Q2)."""

from __future__ import annotations

import collections
import signal
import textwrap

import pytest

import cloaca
from children_support import events_of
from processes import PREAMBLE, Ledger

STATUSES = {
    "success": "Completed",
    "failure": "Failed",
    "cancelled": "Cancelled",
    "timeout": "Failed",
}
FUNCTIONS = ("undo", "always", "success", "failure", "cancelled")
ERRORS = {"failure": "ValueError", "cancelled": "Cancelled", "timeout": "WorkflowTimeoutError"}

#: In the first process, four executions end, and then the process dies. This process runs no final
#: task, because the task `block` occupies its only worker thread. (The ordinary tasks of the four
#: executions are coroutines and need no thread.) The second process counts its calls of all final
#: tasks and compensations, and dies inside call number `dies_at`. The third process completes the
#: final tasks.
LIVES = PREAMBLE + textwrap.dedent(
    """
    import asyncio, logging, signal, threading

    database, life, dies_at = sys.argv[1:]
    ends = ["success", "failure", "cancelled", "timeout"]
    logging.getLogger("cloaca").setLevel(logging.CRITICAL)
    calls = []

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    def final(name, context, error):
        note(name, life, context["end"], error.type if error else None)
        calls.append(name)
        if life == "second" and len(calls) == int(dies_at):
            die()

    def undo(context, error):
        final("undo", context, error)

    with cloaca.WorkflowBuilder("four-ends"):
        @cloaca.task(compensate=undo)
        async def setup(context):
            context["made"] = context["end"]

        @cloaca.task(dependencies=[setup], retry_attempts=1)
        async def use(context):
            note("use", life, context["end"])
            if context["end"] == "failure":
                raise ValueError("no room")
            if context["end"] != "success":
                await asyncio.sleep(60)

        for on in ("always", "success", "failure", "cancelled"):
            def run(context, error, on=on):
                final(on, context, error)
                context[on] = context["made"]
            cloaca.task(id=on, final=on)(run)

    with cloaca.WorkflowBuilder("four-ends-blocker"):
        @cloaca.task
        def block(context):
            note("blocked")
            while life == "first":
                time.sleep(1)

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        if life == "first":
            runner.submit("four-ends-blocker")
            wait_for("blocked")
            handles = {
                end: runner.submit(
                    "four-ends", {"end": end}, key=end, timeout=1 if end == "timeout" else None
                )
                for end in ends
            }
            wait_for("used")
            handles["cancelled"].cancel()
            for end in ends:
                note("ended", end, handles[end].result(timeout=60, wait_final=False).status)
            die()
        for end in ends:
            result = runner.find("four-ends", end).result(timeout=60)
            note("final", end, result.final.status)
    """
)


@pytest.mark.parametrize("dies_at", [3])
def test_q1_final_tasks_of_each_outcome_survive_two_kills(database, script, tmp_path, dies_at):
    ledger = Ledger(tmp_path)
    first = script(LIVES, database, "first", str(dies_at))
    ledger.wait("blocked", 1)
    (tmp_path / "blocked").touch()
    # Waits for three of the four tasks `use`, because the execution with the timeout may end before
    # its task starts.
    ledger.wait("use", 3)
    (tmp_path / "used").touch()
    assert first.communicate(timeout=60) == ("", "")
    assert first.returncode == -signal.SIGKILL
    assert dict(ledger.lines("ended")) == STATUSES
    assert ledger.lines("always") == []
    for life, code in (("second", -signal.SIGKILL), ("third", 0)):
        process = script(LIVES, database, life, str(dies_at))
        assert process.communicate(timeout=90) == ("", "")
        assert process.returncode == code
    calls: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for name in FUNCTIONS:
        for life, end, _ in ledger.lines(name):
            calls[name, end].append(life)
    expected = set()
    with cloaca.DefaultRunner(database, start=False) as client:
        for end, status in STATUSES.items():
            handle = client.find("four-ends", end)
            assert handle is not None
            result = handle.result(timeout=60)
            assert result.status == status
            (final,) = client.children(handle.id)
            assert final.status == "Completed"
            names = {"always", "failure" if status == "Failed" else end}
            if status != "Completed" and result.tasks["setup"].status == "Completed":
                names.add("undo")
            ends = events_of(client, final.execution_id, "task_completed")
            assert sorted(str(event.task_id) for event in ends) == sorted(
                "setup" if name == "undo" else name for name in names
            )
            expected |= {(name, end) for name in names}
            for name in names:
                told = {error for _, of, error in ledger.lines(name) if of == end}
                assert told == {str(ERRORS.get(end))}
    # A function is called again only if its process was killed before its result was stored.
    assert set(calls) == expected
    assert all(lives in (["second"], ["third"], ["second", "third"]) for lives in calls.values())
    assert ["second", "third"] in calls.values()
