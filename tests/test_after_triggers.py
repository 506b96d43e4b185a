"""Triggers that are called when executions of another workflow have ended (semantics G4)."""

from __future__ import annotations

import signal
import textwrap
import uuid

import pytest

import cloaca
from cli_support import Shell
from cloaca._workflows.registry import registry
from processes import PREAMBLE, Ledger
from schedule_support import define, until

FIRE = cloaca.TriggerResult.fire
SKIP = cloaca.TriggerResult.skip


@pytest.fixture(autouse=True)
def no_other_triggers(monkeypatch):
    """Removes a test's triggers after the test, so that runners of later tests do not call them."""
    monkeypatch.setattr(registry, "_trigger_revisions", {})


@pytest.fixture
def names() -> tuple[str, str]:
    """Unique names for the watched workflow and for the workflow that the trigger starts."""
    suffix = uuid.uuid4().hex[:12]
    return f"extract{suffix}", f"load{suffix}"


def define_extract(name: str) -> None:
    with cloaca.WorkflowBuilder(name, output="rows"):

        @cloaca.task
        def rows(context):
            if context.get("fails"):
                raise ValueError("no rows")
            context["rows"] = context.get("count", 1)


def contexts_of(runner: cloaca.DefaultRunner, trigger: str, count: int) -> list[dict]:
    """Waits until a trigger has started `count` executions; returns their final contexts.

    The oldest execution comes first.
    """

    def found():
        rows = runner.get_trigger_execution_history(trigger)
        ids = [row["workflow_execution_id"] for row in rows if row["outcome"] == "fired"]
        return ids if len(ids) >= count else None

    ids = until(found)
    assert len(ids) == count
    return [runner.get_handle(id).result(timeout=30).final_context for id in reversed(ids)]


def test_g4_trigger_fires_once_for_each_completed_execution(names, runner):
    extract, load = names
    define_extract(extract)
    define(load)
    before = runner.execute(extract)

    @cloaca.trigger(name=load, after=extract, status="Completed", on=load)
    def next_step(ended):
        assert isinstance(ended, cloaca.WorkflowResult)
        assert ended.status == "Completed"
        return FIRE({"cause": ended.execution_id, "rows": ended.output})

    runner.execute(load)  # Each submission registers new triggers.
    results = [runner.execute(extract, {"count": count}) for count in range(3)]
    runner.execute(extract, {"fails": True})
    contexts = contexts_of(runner, load, 3)
    assert before.execution_id not in [context["cause"] for context in contexts]
    assert sorted((context["cause"], context["rows"]) for context in contexts) == sorted(
        (result.execution_id, result.output) for result in results
    )
    row = runner.get_trigger_schedule(load)
    assert row["after"] == extract
    assert row["after_status"] == ["Completed"]
    assert row["poll_interval"] is row["cron_expression"] is row["next_poll_at"] is None
    history = runner.get_trigger_execution_history(load)
    assert {row["detail"] for row in history} == {
        f"after execution {result.execution_id}" for result in results
    }
    assert runner.explain(row["id"]) == [
        f"Trigger '{load}' is called after each execution of workflow '{extract}' that ends as "
        f"Completed, and starts workflow '{load}'. No ended execution waits for it."
    ]


def test_g4_only_executions_with_the_named_statuses_fire_the_trigger(names, runner):
    extract, load = names
    define_extract(extract)
    define(load)

    @cloaca.trigger(name=load, after=extract, status=["Failed", "Cancelled"], on=load)
    async def alarm(ended):
        error = None if ended.error is None else ended.error.type
        return FIRE({"status": ended.status, "error": error})

    runner.execute(load)
    runner.execute(extract)
    runner.execute(extract, {"fails": True})
    waiting = runner.submit(extract, delay=3600)
    assert contexts_of(runner, load, 1) == [{"status": "Failed", "error": "ValueError"}]
    assert waiting.cancel()
    assert contexts_of(runner, load, 2)[1] == {"status": "Cancelled", "error": None}


def test_g4_function_can_keep_state_and_fire_twice_after_a_skip(names, runner):
    extract, load = names
    define_extract(extract)
    define(load)

    @cloaca.trigger(name=load, after=extract, on=load)
    def every_second(ended, state):
        seen = [*(state or []), ended.output]
        if len(seen) < 2:
            return SKIP(state=seen)
        fires = [({"count": count}, f"{load}-{count}") for count in seen]
        return cloaca.TriggerResult.fire_many(fires, state=[])

    runner.execute(load)
    for count in range(4):
        runner.execute(extract, {"count": count})
    assert [context["count"] for context in contexts_of(runner, load, 4)] == [0, 1, 2, 3]


def test_g4_failed_call_is_recorded_and_repeated(names, runner, caplog):
    extract, load = names
    define_extract(extract)
    define(load)
    calls = []

    @cloaca.trigger(name=load, after=extract, on=load)
    def flaky():
        calls.append(None)
        if len(calls) == 1:
            raise RuntimeError("not yet")
        return FIRE()

    runner.execute(load)
    runner.execute(extract)
    assert contexts_of(runner, load, 1) == [{}]
    outcomes = [row["outcome"] for row in runner.get_trigger_execution_history(load)]
    assert outcomes == ["fired", "failed"]
    assert len(calls) == 2
    assert "not yet" in caplog.text


def test_g4_retried_execution_fires_the_trigger_when_it_ends_again(names, runner):
    extract, load = names
    broken = [True]

    with cloaca.WorkflowBuilder(extract):

        @cloaca.task(retry_attempts=1)
        def only(context):
            if broken:
                raise ValueError("broken")

    define(load)

    @cloaca.trigger(name=load, after=extract, on=load, status=("Failed", "Completed"))
    def follow(ended):
        return FIRE({"status": ended.status})

    runner.execute(load)
    result = runner.execute(extract)
    assert contexts_of(runner, load, 1) == [{"status": "Failed"}]
    broken.clear()
    runner.retry_execution(result.execution_id)
    assert contexts_of(runner, load, 2)[1] == {"status": "Completed"}


def test_g4_ended_child_fires_an_enabled_trigger(names, runner):
    extract, load = names
    define_extract(extract)
    define(load)
    parent = f"parent-{extract}"
    with cloaca.WorkflowBuilder(parent):
        cloaca.child("rows", workflow=extract)

    @cloaca.trigger(name=load, after=extract, on=load)
    def follow(ended):
        return FIRE({"rows": ended.output})

    runner.execute(parent)
    assert contexts_of(runner, load, 1) == [{"rows": 1}]
    runner.set_trigger_enabled(load, False)
    runner.execute(extract)
    runner.set_trigger_enabled(load, True)
    runner.execute(extract, {"count": 5})
    assert contexts_of(runner, load, 2)[1] == {"rows": 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"after": "a", "poll_interval": "1s"}, "is not polled"),
        ({"after": "a", "cron": "* * * * *"}, "is not polled"),
        ({"status": "Completed"}, "is not given"),
        ({"after": "a", "status": "Running"}, "must be 'Completed', 'Failed' or 'Cancelled'"),
        ({"after": "a", "status": []}, "names no state"),
        ({"after": "a b"}, "after must be the name of a workflow"),
        ({"after": 3}, "after must be the name of a workflow"),
    ],
)
def test_g4_invalid_or_conflicting_options_are_refused(options, message):
    with pytest.raises(cloaca.ScheduleError, match=message):
        cloaca.trigger(on="b", **options)


def test_g4_function_with_too_many_parameters_is_refused():
    with pytest.raises(cloaca.ScheduleError, match="has the parameters one, two"):

        @cloaca.trigger(after="a", on="b")
        def wrong(one, two):
            return SKIP()


FOLLOWER = PREAMBLE + textwrap.dedent(
    """
    import signal

    database, role = sys.argv[1:]

    with cloaca.WorkflowBuilder("extract"):
        @cloaca.task
        def rows(context):
            context["rows"] = 3

    with cloaca.WorkflowBuilder("load"):
        @cloaca.task
        def store(context):
            note("stored", context["cause"])

    if role == "follow":
        @cloaca.trigger(after="extract", on="load")
        def follow(ended):
            note("called", ended.execution_id)
            if os.path.exists("die"):
                os.kill(os.getpid(), signal.SIGKILL)
            return cloaca.TriggerResult.fire({"cause": ended.execution_id})

    with cloaca.DefaultRunner(database) as runner:
        note("ready", role)
        if role == "end":
            for _ in range(3):
                runner.execute("extract")
            os.kill(os.getpid(), signal.SIGKILL)
        wait_for("stop")
    """
)


def test_g4_trigger_misses_no_ended_execution_despite_kill_9(database, script, tmp_path):
    ledger = Ledger(tmp_path)
    # The first program registers the trigger, and is killed.
    registers = script(FOLLOWER, database, "follow")
    ledger.wait("ready", 1)
    registers.kill()
    registers.wait(timeout=30)
    # A second program, which does not define the trigger, completes executions and dies.
    ends = script(FOLLOWER, database, "end")
    ends.communicate(timeout=60)
    assert ends.returncode == -signal.SIGKILL
    assert ledger.lines("called") == []
    # A third program dies while the trigger's function runs.
    (tmp_path / "die").touch()
    dies = script(FOLLOWER, database, "follow")
    dies.communicate(timeout=60)
    assert dies.returncode == -signal.SIGKILL
    assert len(ledger.lines("called")) == 1
    (tmp_path / "die").unlink()
    followers = [script(FOLLOWER, database, "follow") for _ in range(2)]
    stored = ledger.wait("stored", 3)
    (tmp_path / "stop").touch()
    for follower in followers:
        follower.communicate(timeout=60)
    assert len({cause for (cause,) in stored}) == 3
    with cloaca.DefaultRunner(database) as runner:
        ended = {result.execution_id for result in runner.list_executions("extract").items}
        assert ended == {cause for (cause,) in stored}
        assert len(runner.list_executions("load").items) == 3


def test_g4_cli_shows_the_workflow_whose_executions_fire_a_trigger(names, tmp_path):
    extract, load = names
    define_extract(extract)
    define(load)
    url = f"sqlite:///{tmp_path / 'cli.db'}"

    @cloaca.trigger(name="follow", after=extract, on=load)
    def follow():
        return FIRE()

    with cloaca.DefaultRunner(url) as runner:
        runner.execute(extract)
        contexts_of(runner, "follow", 1)
    shell = Shell(tmp_path, url)
    assert f"after {extract}" in shell.run("schedules")[0]
    shown = shell.json("schedules", "show", "follow")
    assert shown["after"] == extract
    assert shown["after_status"] == ["Completed"]
    assert [tick["outcome"] for tick in shown["history"]] == ["fired"]
    _, errors = shell.run("schedules", "preview", "follow", status=1)
    assert f"it is called after {extract}" in errors
