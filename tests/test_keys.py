"""Keys of executions, and submissions from coroutines and from tasks."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import uuid

import pytest

import cloaca
import cloaca.testing


def define(name="w", function=lambda context: None, **options):
    with cloaca.WorkflowBuilder(name) as builder:
        cloaca.task(**{"id": "a", "retry_attempts": 1, **options})(function)
    return builder


def test_c7_handle_has_key_and_says_whether_execution_is_new(runner):
    define()
    first = runner.submit("w", {"day": 1}, key="2026-01-01")
    again = runner.submit("w", {"day": 2}, key="2026-01-01")
    plain = runner.submit("w")
    assert [first.key, again.key, plain.key] == ["2026-01-01", "2026-01-01", None]
    assert [first.created, again.created, plain.created] == [True, False, True]
    assert again.result().final_context == {"day": 1}
    assert runner.get_handle(first.id).key == "2026-01-01"
    assert runner.get_handle(plain.id).key is None
    assert not runner.get_handle(first.id).created
    assert runner.execute("w", key="2026-01-01").key == "2026-01-01"
    assert runner.get_execution(plain.id).key is None
    pair = {"workflow": "w", "key": "pair"}
    assert [handle.created for handle in runner.submit_many([pair, pair])] == [True, False]


def test_executions_are_found_and_listed_by_key(runner):
    workflow = define().build()
    define("other")
    days = [f"2026-01-0{day}" for day in range(1, 6)]
    handles = runner.submit_many({"workflow": "w", "key": day} for day in days)
    other = runner.submit("other", key=days[0])
    runner.submit("w")
    found = runner.find("w", key=days[0])
    assert found == handles[0]
    assert (found.key, found.created) == (days[0], False)
    assert runner.find(workflow, days[1]) == handles[1]
    assert runner.find("other", days[0]) == other
    for missing in [("w", "x"), ("x", days[0]), ("w", "a\0b")]:
        assert runner.find(*missing) is None
    assert {result.key for result in runner.list_executions("w", key=[*days, "x"])} == set(days)
    assert {result.execution_id for result in runner.list_executions(key=days[0])} == {
        handles[0].id,
        other.id,
    }
    assert len(runner.list_executions("w", key=[])) == 0
    page = runner.list_executions("w", key=days, limit=2)
    rest = runner.list_executions("w", key=days, cursor=page.next_cursor)
    assert [result.key for result in [*page, *rest]] == days[::-1]
    for arguments in [{"key": 3}, {"key": [3]}]:
        with pytest.raises(cloaca.ConfigurationError, match="key must be a string"):
            runner.list_executions(**arguments)
    with pytest.raises(cloaca.ConfigurationError, match="key must be a string"):
        runner.find("w", 3)


def test_submission_with_an_existing_key_is_logged_at_debug_level(database, caplog):
    define()
    with caplog.at_level(logging.DEBUG, "cloaca"), cloaca.DefaultRunner(database) as runner:
        first = runner.submit("w", key="twice")
        runner.submit("w", key="twice").result()
    (line,) = [
        record.getMessage()
        for record in caplog.records
        if "the submission starts no new one" in record.getMessage()
    ]
    assert first.id in line
    assert "twice" in line


def test_done_and_is_final_become_true_at_the_end(runner):
    release = threading.Event()
    define(function=lambda context: {"waited": release.wait(30)})
    handle = runner.submit("w")
    assert not handle.done()
    assert not handle.status().is_final
    release.set()
    result = handle.result()
    assert handle.done()
    assert result.status.is_final
    assert result.tasks["a"].status.is_final
    assert not cloaca.TaskStatus.READY.is_final


def test_representations_name_key_workflow_and_state(database):
    seen = []
    define(function=lambda context, handle: seen.append(repr(handle)))
    with cloaca.DefaultRunner(database) as runner:
        handle = runner.submit("w", key="k")
        result = handle.result()
        assert repr(handle) == f"<WorkflowHandle {handle.id} key='k' status=Completed>"
        plain = runner.get_handle(runner.execute("w").execution_id)
        assert repr(plain) == f"<WorkflowHandle {plain.id} status=Completed>"
        assert "key='k'" in repr(result)
        unread = runner.get_handle(plain.id)
        runner.prune(older_than=0)
        assert repr(unread) == f"<WorkflowHandle {plain.id} status=unknown>"
    assert seen[0] == f"<TaskHandle 'a' of workflow 'w' execution={handle.id} attempt=1>"


def test_coroutines_submit_without_blocking_the_loop(database):
    define(function=lambda context: {"n": context.get("n", 0) + 1})

    async def main():
        async with cloaca.DefaultRunner(database) as runner:
            handle = await runner.submit_async("w", {"n": 1}, key="k", priority=3)
            assert (handle.key, handle.created) == ("k", True)
            assert (await handle).final_context == {"n": 2}
            again = await runner.submit_async("w", key="k")
            assert (again, again.created) == (handle, False)
            many = await runner.submit_many_async([("w", {"n": n}) for n in range(100)])
            results = await asyncio.gather(*many)
            assert [result.final_context["n"] for result in results] == list(range(1, 101))
            assert await runner.submit_many_async([]) == []
            define("later")
            assert (await (await runner.submit_async("later"))).status == "Completed"
            with pytest.raises(cloaca.WorkflowNotFoundError, match="unknwon"):
                await runner.submit_async("unknwon")
            with pytest.raises(cloaca.ConfigurationError, match="priority"):
                await runner.submit_async("w", priority=40_000)
        with pytest.raises(cloaca.RunnerClosedError):
            await runner.submit_async("w")

    asyncio.run(main())


def test_event_loop_runs_while_a_submission_waits_for_the_database(tmp_path):
    """`submit_async` does not block the loop while another connection locks the database file."""
    import sqlite3

    define()
    path = tmp_path / "busy.db"

    async def main():
        with cloaca.DefaultRunner(f"sqlite:///{path}") as runner:
            runner.execute("w")
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            submitting = asyncio.ensure_future(runner.submit_async("w"))
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert not submitting.done()
            other.execute("ROLLBACK")
            other.close()
            assert (await (await submitting)).status == "Completed"

    asyncio.run(main())


def test_cancelled_submission_leaves_the_runner_usable(runner):
    define()

    async def main():
        submitting = asyncio.ensure_future(runner.submit_async("w"))
        await asyncio.sleep(0)
        submitting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await submitting
        assert (await (await runner.submit_async("w"))).status == "Completed"

    asyncio.run(main())


def test_a_task_can_submit_executions_through_its_runner(database):
    with cloaca.WorkflowBuilder("child"):

        @cloaca.task
        def double(context):
            context["n"] *= 2

    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task
        def start(context, handle):
            child = handle.runner.submit("child", {"n": 1}, key=f"a-{handle.execution_id}")
            context["first"] = child.id

        @cloaca.task(dependencies=[start])
        async def follow(context, handle):
            key = f"a-{handle.execution_id}"
            first = await handle.runner.submit_async("child", key=key)
            context["again"] = [first.id, first.created]
            second = await handle.runner.submit_async("child", {"n": 2})
            context["sum"] = sum(
                result.final_context["n"] for result in await asyncio.gather(first, second)
            )

    with cloaca.DefaultRunner(":memory:"), cloaca.DefaultRunner(database) as runner:
        context = runner.execute("parent", timeout=60).raise_for_status().final_context
    assert context["again"] == [context["first"], False]
    assert context["sum"] == 6


def test_h4_a_task_of_a_tenant_gets_the_tenants_runner(postgres):
    seen = []
    define(function=lambda context, handle: seen.append(handle.runner))

    async def coroutine(context, handle):
        seen.append(handle.runner)

    define("async", coroutine)
    with cloaca.DefaultRunner(postgres) as runner:
        runners = [runner, runner.tenant("south"), runner.tenant("north")]
        for each in runners:
            for workflow in ("w", "async"):
                each.execute(workflow).raise_for_status()
    assert seen == [each for each in runners for _ in range(2)]


def test_handle_runner_raises_an_error_outside_a_runner():
    def lone(context, handle):
        return handle.runner

    with pytest.raises(cloaca.RunnerClosedError, match=r"(?s)without a runner.*cloaca_runner"):
        cloaca.testing.run_task(lone)


def test_awaiting_result_warns_and_suggests_awaiting_the_handle(runner):
    define()

    async def main():
        handle = runner.submit("w")
        with pytest.warns(RuntimeWarning, match=r"'await handle'"):
            assert (await handle.result()).status == "Completed"

    asyncio.run(main())


def test_a3_a_workflow_of_another_file_is_replaced_with_a_warning(tmp_path, caplog):
    source = (
        "import cloaca\nwith cloaca.WorkflowBuilder('doubled'):\n    @cloaca.task\n    def a(): {}"
    )
    paths = [tmp_path / "one.py", tmp_path / "two.py"]
    for path in paths:
        path.write_text(source.format("pass"))
        for _ in range(2):
            exec(compile(source.format("pass"), str(path), "exec"), {"__name__": path.stem})
    (record,) = [record for record in caplog.records if record.name == "cloaca"]
    assert record.levelname == "WARNING"
    for path in paths:
        assert str(path) in record.getMessage()


def test_a3_notebook_cell_replaces_a_workflow_silently(caplog):
    source = (
        "import cloaca\nwith cloaca.WorkflowBuilder('cell'):\n    @cloaca.task\n    def a(): pass"
    )
    for cell in ("/tmp/ipykernel_1/1.py", "<ipython-input-2>"):
        exec(compile(source, cell, "exec"), {"__name__": "__main__"})
    assert not caplog.records


def test_hint_says_how_to_register_an_unregistered_builder(runner):
    name = f"orphan-{uuid.uuid4()}"
    builder = cloaca.WorkflowBuilder(name)
    builder.add_task(cloaca.task(id="a")(lambda context: None))
    builder.build()
    for submit in (runner.execute, runner.submit):
        with pytest.raises(cloaca.WorkflowNotFoundError, match="not registered") as caught:
            submit(name)
        assert f"register_workflow_constructor('{name}', builder.build)" in caught.value.hint
    cloaca.register_workflow_constructor(name, builder.build)
    assert runner.execute(name).status == "Completed"


def messages_of(caplog):
    return [record.getMessage() for record in caplog.records if "open:" in record.getMessage()]


def test_shutdown_reports_open_executions(tmp_path, caplog):
    define()
    url = f"sqlite:///{tmp_path / 'open.db'}"
    with cloaca.DefaultRunner(url) as runner:
        runner.submit("w", delay=3600)
    (message,) = messages_of(caplog)
    assert "1 execution is open: it continues with the next runner" in message
    caplog.clear()
    with cloaca.DefaultRunner(url) as runner:
        runner.execute("w")
        with cloaca.DefaultRunner(url) as other:
            other.submit("w", delay=3600)
        assert messages_of(caplog) == []  # The outer runner is live, so nothing is reported.
    # This test calls only `execute` of the outer runner, never `submit`, so the runner reports
    # nothing.
    assert messages_of(caplog) == []
    with cloaca.DefaultRunner(":memory:") as runner:
        runner.submit("w", delay=3600)
        runner.submit("w", delay=3600)
    (message,) = messages_of(caplog)
    assert "2 executions are open: they are lost with the database in memory" in message


def test_submitting_many_keys_stays_fast(runner):
    define()
    start = time.monotonic()
    runner.submit_many({"workflow": "w", "key": str(number)} for number in range(2000))
    keys = [str(number) for number in range(2000)]
    assert len(runner.list_executions("w", key=keys, limit=5000)) == 2000
    assert time.monotonic() - start < 30
