"""The boundary between Python and Rust: `cloaca._core` without the rest of the package."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cloaca import _core
from cloaca._values.exceptions import (
    CLASS_BY_CODE,
    ConfigurationError,
    RunnerClosedError,
    WorkflowError,
    WorkflowNotFoundError,
)
from core_host import SETTINGS, CoreHost, once, request

Context = _core.Context
Outcome = _core.Outcome


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'core.db'}"


@pytest.fixture
def host(url: str) -> Iterator[CoreHost]:
    host = CoreHost(url)
    yield host
    host.close()


def test_next_task_and_result_contain_the_writes_of_a_task(host: CoreHost) -> None:
    def first(work: _core.Work) -> None:
        assert work.context is work.context
        assert work.context.to_dict() == {"in": 1, "gone": 2, "back": 3}
        del work.context["gone"]
        del work.context["back"]
        work.context["back"] = 4
        work.context["new"] = [1]

    seen: list[dict[str, Any]] = []
    host.functions = {"a": first, "b": lambda work: seen.append(work.context.to_dict())}
    host.define("flow", once("a"), once("b", "a"))
    execution = host.execute("flow", Context({"in": 1, "gone": 2, "back": 3}))
    assert execution.status == "Completed"
    assert seen == [{"in": 1, "back": 4, "new": [1]}]
    assert execution.final_context() == seen[0]
    tasks = [(task.task_id, task.status, task.attempts) for task in execution.tasks()]
    assert tasks == [("a", "Completed", 1), ("b", "Completed", 1)]


def test_a_submitted_context_can_be_changed_and_submitted_again(host: CoreHost) -> None:
    host.define("one", once("a"))
    context = Context({"n": 1})
    first = host.execute("one", context)
    context["n"] = 2
    second = host.execute("one", context)
    assert [first.final_context()["n"], second.final_context()["n"]] == [1, 2]


def test_error_of_a_failed_attempt_becomes_the_error_of_the_execution(host: CoreHost) -> None:
    outcome = Outcome.failed(
        "shop.PaymentError",
        "no \ud800 money",
        "Traceback …",
        ["Value\udfffError"],
        True,
    )
    host.functions = {"a": lambda work: outcome}
    host.define("bad", once("a"))
    execution = host.execute("bad")
    assert execution.status == "Failed"
    assert execution.error is not None
    failure = execution.error
    assert (failure.task_id, failure.type) == ("a", "shop.PaymentError")
    assert failure.traceback == "Traceback …"
    assert failure.message.startswith("no ")
    assert failure.message.endswith(" money")


def test_snoozed_and_retried_tasks_run_again(host: CoreHost) -> None:
    attempts: list[int] = []
    outcomes: list[Any] = [Outcome.snooze(1000), Outcome.retry(1000, "Retry", "again", None), None]

    def task(work: _core.Work) -> Any:
        attempts.append(work.attempt)
        return outcomes[len(attempts) - 1]

    host.functions = {"a": task}
    twice = once("a")
    twice["retry"]["max_attempts"] = 2
    host.define("again", twice)
    assert host.execute("again").status == "Completed"
    assert attempts == [1, 1, 2]


def test_an_unknown_outcome_is_refused_and_the_attempt_continues(host: CoreHost) -> None:
    refused: list[str] = []

    def task(work: _core.Work) -> None:
        wrong_outcomes: list[Any] = [("completed",), None, (), 1]
        for wrong in wrong_outcomes:
            with pytest.raises(TypeError):
                host.runner.finish_and_next(1, work, wrong)
            refused.append(repr(wrong))

    host.functions = {"a": task}
    host.define("one", once("a"))
    assert host.execute("one").status == "Completed"
    assert len(refused) == 4


def test_callbacks_are_called_after_the_outcome(host: CoreHost) -> None:
    made: list[tuple[str, str | None, int, dict[str, Any]]] = []
    called = threading.Semaphore(0)

    def callback(work: _core.Work) -> None:
        made.append((work.task_id, work.error, work.handler, work.context.to_dict()))
        called.release()

    def write(work: _core.Work) -> None:
        work.context["x"] = 1

    host.functions = {
        "good": write,
        "bad": lambda work: Outcome.failed("ValueError", "no", None, [], True),
        "callback": callback,
    }
    host.define("both", once("good"), once("bad"))
    host.execute("both")
    for _ in range(2):
        assert called.acquire(timeout=10)
    (_, error, *_), good = sorted(made)
    assert error is not None
    assert "no" in error
    assert good == ("good", None, 7, {"x": 1})


def test_worker_of_a_timed_out_task_is_replaced(host: CoreHost) -> None:
    release = threading.Event()
    host.functions = {"slow": lambda work: release.wait(20) and None}
    host.define("late", once("slow", timeout=50_000))
    host.define("one", once("a"))
    execution = host.execute("late")
    assert execution.error is not None
    assert execution.error.type == "TaskTimeoutError"
    interrupt = host.wait_for(_core.InterruptWorker)
    assert interrupt.worker == 1
    assert interrupt.token > 0
    assert host.execute("one").status == "Completed"
    release.set()
    host.workers[0].join(10)
    assert not host.workers[0].is_alive()
    assert host.runner.reads.status(execution.execution_id) == "Failed"


def test_workers_are_requested_up_to_the_limit(host: CoreHost) -> None:
    barrier = threading.Barrier(4)
    host.functions = {"a": lambda work: barrier.wait(20) and None}
    # Callbacks would require one more worker.
    host.define("one", once("a"), has_callbacks=False)
    submitted = host.runner.submit([request("one") for _ in range(12)])
    ids = [execution.execution_id for execution in submitted]
    for id in ids:
        ended = host.runner.wait(id, None)
        assert ended is not None
        assert ended.status == "Completed"
    assert len(host.workers) == 4


def test_a_running_task_sees_its_cancellation(host: CoreHost) -> None:
    entered = threading.Event()
    seen: list[bool] = []

    def task(work: _core.Work) -> None:
        seen.append(work.is_cancelled())
        entered.set()
        deadline = time.monotonic() + 20
        while not work.is_cancelled() and time.monotonic() < deadline:
            os.sched_yield()
        seen.append(work.is_cancelled())

    host.functions = {"a": task}
    host.define("one", once("a"))
    id = host.submit("one")
    assert entered.wait(20)
    assert host.runner.control(id, "cancel") == "Cancelled"
    ended = host.runner.wait(id, None)
    assert ended is not None
    assert ended.status == "Cancelled"
    host.close()
    assert seen == [False, True]


def test_the_same_key_gives_the_same_execution(host: CoreHost) -> None:
    host.define("one", once("a"))
    first = host.runner.execute(request("one", key="k"))
    second = host.runner.execute(request("one", key="k"))
    assert first.execution_id == second.execution_id
    assert second.key == "k"


@pytest.mark.parametrize(
    ("call", "error", "code"),
    [
        (lambda runner: runner.reads.status("no id"), WorkflowNotFoundError, "execution_not_found"),
        (
            lambda runner: runner.reads.executions(_core.ListFilter(), 1, "x"),
            ConfigurationError,
            "configuration",
        ),
        (
            lambda runner: runner.reads.executions(_core.ListFilter(statuses=["Done"]), 1),
            ConfigurationError,
            "configuration",
        ),
        (
            lambda runner: runner.reads.execution("0195f1c2-7d3a-7c11-b8a5-3f6f0d9c2e41"),
            WorkflowNotFoundError,
            "execution_not_found",
        ),
        (
            lambda runner: runner.execute(request("nope")),
            WorkflowNotFoundError,
            "workflow_not_found",
        ),
        (
            lambda runner: runner.submit([request("one", priority=2**15)]),
            ConfigurationError,
            "configuration",
        ),
    ],
)
def test_an_error_has_the_class_of_its_code(
    host: CoreHost, call: Callable[[_core.Runner], Any], error: type[WorkflowError], code: str
) -> None:
    with pytest.raises(error) as raised:
        call(host.runner)
    assert raised.value.code == code
    assert not hasattr(raised.value, "__notes__")


def test_a_closed_runner_raises_runner_closed(host: CoreHost) -> None:
    host.define("one", once("a"))
    host.close()
    assert host.runner.closed
    for call in (host.execute, host.submit):
        with pytest.raises(RunnerClosedError):
            call("one")
    assert host.runner.next_work(9) is None
    assert host.runner.supervise() == []
    host.runner.stop(0)


def test_a_missing_class_for_a_code_is_an_error() -> None:
    with pytest.raises(ValueError, match="forked"):
        _core.set_exceptions(
            {code: kind for code, kind in CLASS_BY_CODE.items() if code != "forked"}
        )


@pytest.mark.parametrize(
    "config",
    ["", "{}", json.dumps(SETTINGS | {"max_speed": 1}), json.dumps(SETTINGS | {"db_pool_size": 0})],
)
def test_invalid_settings_are_a_configuration_error(url: str, config: str) -> None:
    with pytest.raises(ConfigurationError):
        _core.Runner(url, config)


def test_sqlite_has_no_schemas(url: str) -> None:
    """A schema is refused with an SQLite URL (H3)."""
    with pytest.raises(ConfigurationError, match="schema") as raised:
        _core.Runner(url, json.dumps(SETTINGS), "tenant_a")
    assert "file" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        ("", "cannot read"),
        ('{"name":"x","tasks":[]}', "empty"),
        ('{"name":"a b","tasks":[]}', "invalid"),
    ],
)
def test_an_invalid_definition_is_refused(definition: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.Workflow.build(definition)


def test_a_workflow_shows_its_graph() -> None:
    tasks = [once("a"), once("b", "a"), once("c", "a"), once("d", "b", "c")]
    workflow = _core.Workflow.build(json.dumps({"name": "w", "tags": {"x": "y"}, "tasks": tasks}))
    full = "public::embedded::w::".__add__
    assert workflow.tasks == ["a", "b", "c", "d"]
    assert workflow.dependencies == {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}
    assert workflow.topological_sort() == list(map(full, "abcd"))
    assert workflow.get_execution_levels() == [[full("a")], [full("b"), full("c")], [full("d")]]
    assert (workflow.get_roots(), workflow.get_leaves()) == ([full("a")], [full("d")])
    assert workflow.can_run_parallel("b", full("c"))
    assert not workflow.can_run_parallel("a", "d")
    assert workflow.tags == {"x": "y"}
    with pytest.raises(ValueError, match="no task 'e'"):
        workflow.can_run_parallel("a", "e")
