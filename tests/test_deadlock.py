"""Calls that would wait forever are refused at once, on worker threads and in coroutines."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

import cloaca
from cloaca._workers import blocking


def define_child(name: str = "child") -> None:
    with cloaca.WorkflowBuilder(name):

        @cloaca.task
        def work(context):
            context["done"] = True


def test_last_free_worker_cannot_wait_for_a_child(database):
    define_child()
    barrier = threading.Barrier(4)
    attempts = []

    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task
        def spawn(context, handle):
            attempts.append(handle.execution_id)
            child = runner.submit("child", key=handle.execution_id)
            barrier.wait(30)
            context["child"] = child.result(timeout=30).status

    with cloaca.DefaultRunner(database) as runner:
        results = [
            handle.result(timeout=30) for handle in runner.submit_many([("parent", None)] * 4)
        ]
        children = runner.list_executions("child").items
    failed = [result for result in results if result.status == "Failed"]
    assert 1 <= len(failed) < 4
    assert {result.status for result in results} == {"Completed", "Failed"}
    assert {child.status for child in children} == {"Completed"}
    assert "no worker would be left" in failed[0].error_message
    assert "await handle" in failed[0].error.traceback
    assert len(attempts) == 4, "a deadlock was retried"


def test_execute_on_the_only_worker_is_refused_and_submits_nothing(database):
    define_child()
    codes = []

    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task(retry_attempts=1)
        def spawn(context):
            try:
                runner.execute("child")
            except cloaca.WorkflowError as error:
                codes.append((error.code, "await handle" in error.hint))
                raise

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        assert runner.execute("parent").status == "Failed"
        assert codes == [("deadlock", True)]
        assert runner.list_executions("child").items == []


def test_sole_worker_can_wait_for_coroutines(database):
    define_child("before")
    with cloaca.WorkflowBuilder("child"):

        @cloaca.task
        async def work(context):
            context["done"] = True

    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task(retry_attempts=1)
        def spawn(context):
            assert runner.execute("child").final_context["done"]
            assert before.result().status == "Completed"
            assert runner.submit("child").result().status == "Completed"

    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        before = runner.submit("before")
        before.result(timeout=30)
        result = runner.execute("parent")
    assert result.status == "Completed", result.error


def test_sole_worker_can_wait_for_the_work_of_a_peer(tmp_path):
    define_child()
    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task(retry_attempts=1)
        def spawn(context):
            child = runner.submit("child", {"from": "parent"})
            context["status"] = child.result(timeout=30).status

    url = f"sqlite:///{tmp_path / 'two.db'}"
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(url, config) as runner, cloaca.DefaultRunner(url, config) as other:
        both = {other._core.runner_id, runner._core.runner_id}

        def offering():
            runners = runner._core.reads.runners()
            return {found.runner_id for found in runners if "child" in found.workflows}

        while offering() != both:
            pass
        result = runner.execute("parent")
    assert result.status == "Completed", result.error


def test_task_that_waits_for_its_own_execution_is_refused(database):
    errors = []

    with cloaca.WorkflowBuilder("itself"):

        @cloaca.task(retry_attempts=1)
        def on_a_thread(context, handle):
            with pytest.raises(cloaca.WorkflowError, match="its own execution") as caught:
                runner.get_handle(handle.execution_id).result()
            errors.append(caught.value.code)
            with pytest.raises(cloaca.WorkflowError, match="its own execution"):
                runner.execute("itself", key="same")
            with pytest.raises(cloaca.WorkflowError, match="idle"):
                runner.wait_until_idle()

        @cloaca.task(retry_attempts=1)
        async def in_a_coroutine(context, handle):
            with pytest.raises(cloaca.WorkflowError, match="its own execution") as caught:
                await runner.get_handle(handle.execution_id)
            errors.append(caught.value.code)

    with cloaca.DefaultRunner(database) as runner:
        result = runner.execute("itself", key="same")
    assert result.status == "Completed", result.error
    assert errors == ["deadlock"] * 2


def test_blocking_calls_in_a_coroutine_are_refused(database):
    define_child()
    attempts = []

    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task
        async def blocks(context, handle):
            attempts.append(handle.attempt)
            runner.submit("child", delay="1h").result()

        @cloaca.task(retry_attempts=1)
        async def executes(context):
            runner.execute("child")

    with cloaca.WorkflowBuilder("bystander"):

        @cloaca.task
        async def passes(context):
            await asyncio.sleep(0.01)

    with cloaca.DefaultRunner(database) as runner:
        parent = runner.execute("parent", timeout=30)
        assert runner.execute("bystander").status == "Completed"
    assert attempts == [1], "a deadlock was retried"
    blocks, executes = (parent.tasks[name].error for name in ("blocks", "executes"))
    assert "result() in an async def task blocks" in blocks.message
    assert "`await handle`" in blocks.traceback
    assert "`await handle.run(key, workflow, input)`" in blocks.traceback
    assert "execute() in an async def task blocks" in executes.message
    assert "`await runner.execute_async(...)`" in executes.traceback
    assert "`await handle.run(key, workflow, input)`" in executes.traceback


@pytest.mark.parametrize("has_final", [False, True])
def test_result_of_an_ended_execution_can_be_read_in_a_coroutine(database, has_final):
    with cloaca.WorkflowBuilder("child"):

        @cloaca.task
        def work(context):
            context["done"] = True

        if has_final:

            @cloaca.task(final="always")
            def tidy() -> str:
                return "tidied"

    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task(retry_attempts=1)
        async def reads(context):
            awaited = await child
            read = child.result()
            assert read.final_context == awaited.final_context
            return {"done": read.final_context["done"], "status": str(read.status)}

    with cloaca.DefaultRunner(database) as runner:
        child = runner.submit("child")
        result = runner.execute("parent", timeout=30)
    assert result.status == "Completed", result.error_message
    assert (result.final_context["done"], result.final_context["status"]) == (True, "Completed")


def test_result_in_a_coroutine_does_not_wait_for_callbacks(database):
    is_read = threading.Event()

    async def on_success(task_id, context):
        await asyncio.to_thread(is_read.wait, 30)

    with cloaca.WorkflowBuilder("child"):

        @cloaca.task(on_success=on_success)
        async def work(context):
            context["done"] = True

    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task(retry_attempts=1)
        async def reads(context):
            while not child.done():
                await asyncio.sleep(0.01)
            context["done"] = child.result().final_context["done"]
            is_read.set()

    with cloaca.DefaultRunner(database) as runner:
        child = runner.submit("child")
        result = runner.execute("parent", timeout=30)
    assert result.status == "Completed", result.error_message
    assert result.final_context["done"]


def test_blocking_calls_on_an_event_loop_warn_once(database, caplog, monkeypatch):
    define_child()
    monkeypatch.setattr(blocking, "_warned", False)

    async def main():
        assert runner.execute("child").status == "Completed"
        assert runner.submit("child").result().status == "Completed"
        return await runner.execute_async("child")

    with cloaca.DefaultRunner(database) as runner, caplog.at_level(logging.WARNING, "cloaca"):
        runner.execute("child")
        assert asyncio.run(main()).status == "Completed"
    (record,) = [found for found in caplog.records if "blocks the event loop" in found.message]
    assert "execute_async" in record.message


def test_thread_of_a_coroutine_cannot_wait_for_its_execution(database):
    refused = []

    async def note(call, *arguments, **options):
        with pytest.raises(cloaca.WorkflowError) as caught:
            await asyncio.wait_for(asyncio.to_thread(call, *arguments, **options), 20)
        refused.append((caught.value.code, caught.value.message))

    with cloaca.WorkflowBuilder("itself"):

        @cloaca.task(retry_attempts=1)
        async def waits(context, handle):
            await note(runner.get_handle(handle.execution_id).result)
            await note(runner.execute, "itself", key="same")
            await note(runner.wait_until_idle, 10)

    with cloaca.DefaultRunner(database) as runner:
        result = runner.execute("itself", key="same")
    assert result.status == "Completed", result.error
    assert [code for code, _ in refused] == ["deadlock"] * 3
    assert ["own execution" in message for _, message in refused] == [True, True, False]
    assert "own runner is idle" in refused[2][1]


def test_wait_until_idle_in_a_coroutine_is_refused(database):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        async def waits(context):
            runner.wait_until_idle(10)

    with cloaca.DefaultRunner(database) as runner:
        result = runner.execute("w")
    assert result.error.type == "WorkflowError"
    assert "own runner is idle" in result.error.message


def test_coroutine_cannot_wait_until_another_runner_is_idle(database, tmp_path):
    with cloaca.WorkflowBuilder("w"):

        @cloaca.task
        async def waits(context):
            other.wait_until_idle(10)

    url = f"sqlite:///{tmp_path / 'other.db'}"
    with cloaca.DefaultRunner(database) as runner, cloaca.DefaultRunner(url) as other:
        result = runner.execute("w")
    assert "wait_until_idle() in an async def task blocks" in result.error.message


def test_task_of_a_tenant_cannot_wait_for_its_execution(postgres):
    refused = []

    with cloaca.WorkflowBuilder("itself"):

        @cloaca.task(retry_attempts=1)
        async def in_a_coroutine(context, handle):
            for call in (acme.get_handle(handle.execution_id).result, acme.wait_until_idle):
                with pytest.raises(cloaca.WorkflowError) as caught:
                    await asyncio.wait_for(asyncio.to_thread(call, 10), 20)
                refused.append(caught.value.code)
            # This call is not refused, because `runner` uses a different schema from the task's.
            await asyncio.to_thread(runner.wait_until_idle, 10)

        @cloaca.task(retry_attempts=1, dependencies=[in_a_coroutine])
        def on_a_thread(context, handle):
            for call in (acme.get_handle(handle.execution_id).result, acme.wait_until_idle):
                with pytest.raises(cloaca.WorkflowError) as caught:
                    call(10)
                refused.append(caught.value.code)
            with pytest.raises(cloaca.WorkflowError, match="no worker would be left"):
                acme.execute("child")

    define_child()
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(postgres, config) as runner:
        acme = runner.tenant("acme")
        result = acme.execute("itself")
    assert result.status == "Completed", result.error
    assert refused == ["deadlock"] * 4


def test_callback_can_wait_for_its_own_execution(database):
    ended = []

    async def wait_in_a_coroutine(task_id, context):
        ended.append((await asyncio.wait_for(runner.get_handle(ids[0]), 20)).status)

    def wait_on_a_thread(task_id, context):
        ended.append(runner.get_handle(ids[0]).result(timeout=20).status)

    ids = []
    for callback in (wait_in_a_coroutine, wait_on_a_thread):
        with cloaca.WorkflowBuilder("w"):

            @cloaca.task(on_success=callback)
            async def work(context, handle):
                ids[:] = [handle.execution_id]

        with cloaca.DefaultRunner(database) as runner:
            assert runner.submit("w").result(timeout=20).status == "Completed"
    assert ended == ["Completed"] * 2


def test_d6_cancel_returns_whether_the_execution_was_open(database):
    define_child()
    with cloaca.DefaultRunner(database) as runner:
        ended, delayed = runner.submit("child"), runner.submit("child", delay=60)
        ended.result(timeout=30)
        assert [handle.cancel() for handle in (ended, delayed, delayed)] == [False, True, False]
        assert runner.cancel_execution(delayed.id) is False
        assert [ended.status(), delayed.status()] == ["Completed", "Cancelled"]
        with pytest.raises(cloaca.WorkflowNotFoundError):
            runner.cancel_execution("0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41")


@pytest.mark.parametrize("gathers", [False, True])
def test_coroutines_that_await_children_release_their_slots(database, gathers):
    with cloaca.WorkflowBuilder("async_child"):

        @cloaca.task
        async def work(context):
            await asyncio.sleep(context["seconds"])

    with cloaca.WorkflowBuilder("async_parent"):

        @cloaca.task(retry_attempts=1)
        async def spawn(context, handle):
            inputs = [{"seconds": 0}, {"seconds": 0.1}] if gathers else [{"seconds": 0}]
            children = [runner.submit("async_child", given) for given in inputs]
            ended = await asyncio.gather(*children)
            context["held"] = handle.is_slot_held()
            context["children"] = [child.status for child in ended]

    config = cloaca.DefaultRunnerConfig(max_concurrent_async_tasks=1, task_timeout_seconds=60)
    with cloaca.DefaultRunner(database, config) as runner:
        parents = runner.submit_many([("async_parent", None)] * 3)
        for parent in parents:
            result = parent.result(timeout=30).raise_for_status()
            assert result.final_context["held"] is True
            assert set(result.final_context["children"]) == {"Completed"}
