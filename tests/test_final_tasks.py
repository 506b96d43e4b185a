"""Final tasks (semantics Q1, Q2, Q4, Q6)."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

import cloaca
from final_support import ENDS, Ran, define_cluster, run_cluster


@pytest.mark.parametrize("end", ENDS)
def test_q1_each_outcome_runs_the_final_tasks_declared_for_it(runner, end):
    ran, started = Ran(), threading.Event()
    define_cluster(ran, started, end)
    handle, result = run_cluster(runner, started, end)
    status = {"success": "Completed", "cancelled": "Cancelled"}.get(end, "Failed")
    assert result.status == status
    assert result.final.status == "Completed"
    assert result.final.workflow_name == "cluster~final"
    used = "used" if end == "success" else None
    kind = {"failure": "ValueError", "timeout": "WorkflowTimeoutError", "cancelled": "Cancelled"}
    error = kind.get(end)
    expected = {f"teardown c3 {used} {error}"}
    expected |= {"celebrate c3 None"} if end == "success" else set()
    expected |= {f"alarm {error}"} if status == "Failed" else set()
    expected |= {"apologise Cancelled gone"} if end == "cancelled" else set()
    assert set(ran.names) == expected
    assert len(ran.names) == len(expected)
    assert set(result.tasks) == {"setup", "use"}
    assert result.final.tasks["teardown"].status == "Completed"
    assert "final_started" in [event.type for event in handle.events()]


def test_q1_execution_ends_before_its_final_tasks_run(runner):
    go = threading.Event()
    with cloaca.WorkflowBuilder("slow"):

        @cloaca.task
        def work(context):
            context["n"] = 1

        @cloaca.task(final="always")
        def clean(context):
            assert go.wait(30)

    handle = runner.submit("slow")
    first = handle.result(timeout=30, wait_final=False)
    assert first.status == "Completed"
    assert first.final.status in {"Pending", "Running"}
    with pytest.raises(TimeoutError, match="final tasks"):
        handle.result(timeout=0.2)
    go.set()
    assert handle.result(timeout=30).final.status == "Completed"
    assert runner.get_execution(handle.id).final.status == "Completed"


def test_q1_workflow_without_eligible_final_tasks_starts_none(runner):
    with cloaca.WorkflowBuilder("fine"):

        @cloaca.task(compensate=lambda work: None)
        def work() -> int:
            return 1

        @cloaca.task(final="failure")
        def alarm(error):
            raise AssertionError

    result = runner.execute("fine")
    assert result.status == "Completed"
    assert result.final is None
    assert len(runner.list_executions(children=True).items) == 1


def test_q2_error_names_type_message_task_and_traceback(runner):
    seen: list[cloaca.ErrorInfo] = []
    with cloaca.WorkflowBuilder("bad"):

        @cloaca.task(retry_attempts=1)
        def breaks():
            raise KeyError("order_id")

        @cloaca.task(final="always")
        def report(error: cloaca.ErrorInfo | None):
            seen.append(error)

    assert runner.execute("bad").status == "Failed"
    (error,) = seen
    assert (error.type, error.task) == ("KeyError", "breaks")
    assert "order_id" in error.message
    assert "breaks" in error.traceback


def test_q2_missing_value_fails_a_final_task(runner):
    with cloaca.WorkflowBuilder("missing"):

        @cloaca.task(retry_attempts=1)
        def made() -> dict:
            raise ValueError("no")

        @cloaca.task(final="always")
        def needs(made: dict) -> None: ...

        @cloaca.task(final="always")
        def takes_none(made: dict | None) -> str:
            return repr(made)

    result = runner.execute("missing")
    assert result.status == "Failed"
    assert result.error.type == "ValueError"
    assert result.final.status == "Failed"
    assert result.final.tasks["needs"].error.type == "TaskInputError"
    assert result.final.final_context["takes_none"] == "None"


def test_q2_final_tasks_are_retried_and_depend_on_each_other(runner):
    ran = Ran()
    with cloaca.WorkflowBuilder("ordered"):

        @cloaca.task
        def work() -> int:
            return 1

        @cloaca.task(final="always", retry_attempts=3, retry_delay_ms=1)
        def first(work: int, handle) -> int:
            ran(f"first {handle.attempt}")
            if handle.attempt < 2:
                raise ValueError("again")
            return work + 1

        @cloaca.task(final="always")
        def second(first: int) -> int:
            ran(f"second {first}")
            return first

    result = runner.execute("ordered")
    assert ran.names == ["first 1", "first 2", "second 2"]
    assert result.final.tasks["first"].attempts == 2


def test_q2_final_tasks_wait_for_the_last_running_attempt(runner):
    ran, started, go = Ran(), threading.Event(), threading.Event()
    with cloaca.WorkflowBuilder("stubborn"):

        @cloaca.task
        def work(context):
            started.set()
            try:
                while not go.is_set():
                    time.sleep(0.01)
            finally:
                ran("work")

        @cloaca.task(final="always")
        def clean(context):
            ran("clean")

    handle = runner.submit("stubborn")
    assert started.wait(30)
    handle.cancel()
    assert handle.result(timeout=30, wait_final=False).status == "Cancelled"
    time.sleep(0.5)  # Leaves time in which a final task could wrongly start.
    assert "clean" not in ran.names
    go.set()
    assert handle.result(timeout=30).final.status == "Completed"
    assert ran.names == ["work", "clean"]


def test_q4_failure_of_a_final_task_does_not_change_the_status(runner):
    with cloaca.WorkflowBuilder("messy"):

        @cloaca.task
        def work(context):
            context["n"] = 1

        @cloaca.task(final="always", retry_attempts=1)
        def clean(context):
            raise ValueError("stuck")

    handle = runner.submit("messy")
    result = handle.result(timeout=60)
    assert result.status == "Completed"
    assert result.error is None
    assert result.final.status == "Failed"
    assert result.final.error.message == "stuck"
    told = " ".join(handle.explain())
    assert result.final.execution_id in told
    assert "stuck" in told


def test_q6_lists_hide_final_tasks_and_prune_deletes_them(runner):
    ran, started = Ran(), threading.Event()
    define_cluster(ran, started, "success")
    handle = runner.submit("cluster", {"size": 1})
    result = handle.result(timeout=60)
    assert [one.execution_id for one in runner.list_executions()] == [handle.id]
    every = {one.execution_id for one in runner.list_executions(children=True)}
    assert every == {handle.id, result.final.execution_id}
    while runner.prune(older_than=0):
        pass
    assert runner.list_executions(children=True).items == []


def test_q6_execution_with_open_final_tasks_is_not_pruned(runner):
    go = threading.Event()
    with cloaca.WorkflowBuilder("kept"):

        @cloaca.task
        def work(context): ...

        @cloaca.task(final="always")
        def clean(context):
            assert go.wait(30)

    handle = runner.submit("kept")
    assert handle.result(timeout=30, wait_final=False).status == "Completed"
    runner.prune(older_than=0)
    assert handle.done()
    go.set()
    assert handle.result(timeout=30).final.status == "Completed"


def test_q2_compensation_waits_for_an_item_that_overran_its_timeout(runner):
    order: list[str] = []

    def undo(context: cloaca.Context) -> None:
        order.append("undone")

    with cloaca.WorkflowBuilder("slow-items", input={"rows": list[int]}):

        @cloaca.task(
            over="rows", timeout=0.1, retry_attempts=1, compensate=undo, compensate_failed=True
        )
        def book(row: int) -> None:
            end = time.monotonic() + 0.6
            while time.monotonic() < end:
                # The interrupt after the timeout does not end the function.
                with contextlib.suppress(BaseException):
                    time.sleep(0.02)
            order.append("booked")

    handle = runner.submit("slow-items", {"rows": [1]})
    assert handle.result().status == "Failed"
    assert handle.result().final is not None
    runner.wait_until_idle(timeout=20)
    assert order == ["booked", "undone"]


@pytest.mark.parametrize("call", ["run", "run_many", "start"])
def test_q1_final_tasks_cannot_be_started_by_a_task(runner, call):
    define_cluster(Ran(), threading.Event(), "success")
    with cloaca.WorkflowBuilder("starter"):

        @cloaca.task(retry_attempts=1)
        def begin(handle: cloaca.TaskHandle) -> None:
            inputs = [{}] if call == "run_many" else {}
            getattr(handle, call)("clean-up", "cluster~final", inputs)

    result = runner.execute("starter")
    assert result.status == "Failed"
    assert "consists of the final tasks of 'cluster'" in (result.error_message or "")


def test_q1_final_tasks_cannot_be_a_child():
    with (
        pytest.raises(cloaca.TaskValidationError, match="final tasks of another workflow"),
        cloaca.WorkflowBuilder("parent-of-finals"),
    ):
        cloaca.child("clean-up", workflow="cluster~final")


def task_named_error() -> None:
    @cloaca.task
    def error() -> str:
        return "a value"


def output_named_error() -> None:
    @cloaca.task(output="error")
    def load() -> str:
        return "a value"


def field_named_error() -> None:
    @cloaca.task
    def load(error: str) -> str:
        return error


@pytest.mark.parametrize(
    ("input", "define", "what"),
    [
        (None, task_named_error, "a task"),
        (None, output_named_error, "an output"),
        ({"error": str}, field_named_error, "a field of the input"),
    ],
)
def test_q2_value_named_error_cannot_be_read_by_a_final_task(input, define, what):
    def define_all() -> None:
        with cloaca.WorkflowBuilder("hidden-error", input=input):
            define()

            @cloaca.task(final="always")
            def report(error: cloaca.ErrorInfo | None) -> None: ...

    message = f"'error', which is the error of the execution, but the workflow also has {what}"
    with pytest.raises(cloaca.TaskValidationError, match=message):
        define_all()


@pytest.mark.parametrize("annotation", [str, dict[str, int], "str | None"])
def test_q2_annotation_of_the_error_parameter_must_accept_an_error(annotation):
    def report(error) -> None: ...

    report.__annotations__["error"] = annotation
    with (
        pytest.raises(cloaca.TaskValidationError, match="receives the error of the execution, not"),
        cloaca.WorkflowBuilder("wrong-error"),
    ):
        cloaca.task(final="always")(report)


def test_j6_final_task_cannot_have_the_output_of_an_ordinary_task():
    def define() -> None:
        with cloaca.WorkflowBuilder("two-outputs"):

            @cloaca.task(output="rows")
            def load() -> int:
                return 1

            @cloaca.task(final="always", output="rows")
            def clean() -> int:
                return 2

    message = "'load' and 'clean' of workflow 'two-outputs' both store"
    with pytest.raises(cloaca.WorkflowValidationError, match=message):
        define()
