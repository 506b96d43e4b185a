"""Executions from Python on a real database (semantics A3, B, C and D1)."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import cloaca


def chain(name: str) -> None:
    with cloaca.WorkflowBuilder(name):

        @cloaca.task(id="extract")
        def extract(context):
            context["rows"] = [1, 2, 3]

        @cloaca.task(id="total", dependencies=[extract])
        def total(context):
            context["total"] = sum(context["rows"])


def test_the_example_of_the_readme_runs(tmp_path, script):
    process = script("""
        import cloaca

        with cloaca.WorkflowBuilder("etl") as builder:
            builder.description("Load the daily file")
            builder.tag("team", "data")

            @cloaca.task(id="extract", retry_attempts=3, retry_delay_ms=500)
            def extract(context):
                context.set("rows", [1, 2, 3])

            @cloaca.task(id="total", dependencies=[extract])      # ids or functions
            def total(context):
                context["total"] = sum(context["rows"])

        if __name__ == "__main__":
            with cloaca.DefaultRunner("sqlite:///etl.db") as runner:
                result = runner.execute("etl", cloaca.Context({"day": "2026-01-01"}))
                print(result.status, result.final_context["total"])
    """)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "Completed 6\n", "")
    assert (tmp_path / "etl.db").exists()


def test_another_process_reads_the_result_by_id(runner, database, script):
    chain("shared")
    result = runner.execute("shared")
    process = script(
        """
        import sys, cloaca
        with cloaca.DefaultRunner(sys.argv[1]) as runner:
            result = runner.get_execution(sys.argv[2])
            print(result.status, result.workflow_name, result.final_context["total"])
        """,
        database,
        result.execution_id,
    )
    out, err = process.communicate(timeout=60)
    assert (out, err) == ("Completed shared 6\n", "")


def test_c5_four_tasks_of_half_a_second_run_at_once(runner):
    with cloaca.WorkflowBuilder("parallel"):
        for number in range(4):

            @cloaca.task(id=f"t{number}")
            def work(context):
                time.sleep(0.5)

    start = time.monotonic()
    assert runner.execute("parallel").status == "Completed"
    assert time.monotonic() - start < 1


def test_c5_a_long_task_does_not_delay_another_execution(runner):
    release = threading.Event()
    with cloaca.WorkflowBuilder("long"):

        @cloaca.task()
        def wait(context):
            release.wait(30)

    chain("short")
    long = runner.submit("long")
    start = time.monotonic()
    assert runner.execute("short").status == "Completed"
    assert time.monotonic() - start < 1
    assert long.status() == "Running"
    release.set()
    assert long.result(timeout=30).status == "Completed"


def test_c4_error_names_the_failed_task_and_other_branches_complete(runner):
    with cloaca.WorkflowBuilder("fails"):

        @cloaca.task(retry_attempts=1)
        def broken(context):
            context["lost"] = 1
            raise ValueError("no such file")

        @cloaca.task(dependencies=[broken])
        def after(context):
            raise AssertionError("must not run")

        @cloaca.task()
        def free(context):
            context["free"] = True

    result = runner.execute("fails")
    assert result.status == "Failed"
    assert "broken" in result.error_message
    assert "ValueError" in result.error_message
    assert "no such file" in result.error_message
    assert result.error.task_id == "broken"
    assert result.error.type == "ValueError"
    assert "in broken" in result.error.traceback
    assert {id: str(task.status) for id, task in result.tasks.items()} == {
        "broken": "Failed",
        "after": "Skipped",
        "free": "Completed",
    }
    assert "broken" in result.tasks["after"].skip_reason
    # The writes of a failed attempt are dropped (B7).
    assert result.final_context.to_dict() == {"free": True}
    with pytest.raises(cloaca.WorkflowExecutionError, match="broken"):
        result.raise_for_status()


def test_d1_a_flaky_task_is_tried_again(runner):
    calls = []
    with cloaca.WorkflowBuilder("flaky"):

        @cloaca.task(retry_attempts=3, retry_delay_ms=5, retry_backoff="fixed")
        def sometimes(context):
            calls.append(1)
            if len(calls) < 3:
                raise ConnectionError("down")

    result = runner.execute("flaky")
    assert result.status == "Completed"
    assert result.tasks["sometimes"].attempts == 3


@pytest.mark.parametrize(
    ("returned", "expected"),
    [
        (lambda context: None, {"a": 1, "b": 2}),
        (lambda context: context, {"a": 1, "b": 2}),
        (lambda context: {"c": 3}, {"a": 1, "b": 2, "c": 3}),
        (lambda context: cloaca.Context({"a": 5}), {"a": 5}),
    ],
)
def test_b5_the_return_value_decides_which_writes_are_stored(runner, returned, expected):
    with cloaca.WorkflowBuilder("returns"):

        @cloaca.task()
        def work(context):
            context["b"] = 2
            return returned(context)

    assert runner.execute("returns", cloaca.Context({"a": 1})).final_context.to_dict() == expected


def test_b5_return_value_of_another_type_fails_the_task(runner):
    with cloaca.WorkflowBuilder("returns_number"):

        @cloaca.task()
        def work(context):
            return 42

    result = runner.execute("returns_number")
    assert result.status == "Failed"
    assert result.error.type == "TypeError"
    assert "int" in result.error.message
    assert result.tasks["work"].attempts == 1


def test_a3_a_second_definition_replaces_the_first(runner):
    chain("again")
    with cloaca.WorkflowBuilder("again"):

        @cloaca.task()
        def other(context):
            context["other"] = 1

    result = runner.execute("again")
    assert list(result.tasks) == ["other"]


def test_runner_knows_workflows_defined_after_its_start(runner):
    chain("late")
    assert runner.execute("late").status == "Completed"


def test_c2_conditions_read_the_context(runner):
    with cloaca.WorkflowBuilder("rules"):

        @cloaca.task()
        def measure(context):
            context["score"] = 81

        @cloaca.task(
            dependencies=[measure], trigger_rules=cloaca.context_value("score", "greater_than", 80)
        )
        def good(context):
            context["branch"] = "good"

        @cloaca.task(
            dependencies=[measure],
            trigger_rules=cloaca.none_of(cloaca.context_value("score", ">", 80)),
        )
        def bad(context):
            context["branch"] = "bad"

        @cloaca.task(dependencies=[good, bad])
        def join(context):
            context["joined"] = context["branch"]

    result = runner.execute("rules")
    assert result.status == "Completed"
    assert result.final_context["joined"] == "good"
    assert result.tasks["bad"].status == "Skipped"


def test_callbacks_are_called_with_the_outcome_of_the_task(runner):
    seen: list[tuple[object, ...]] = []
    done = threading.Semaphore(0)

    def on_success(task_id, context):
        seen.append((task_id, context["x"]))
        done.release()

    def on_failure(task_id, error, context):
        seen.append((task_id, error))
        done.release()
        raise RuntimeError("a broken callback is only logged")

    with cloaca.WorkflowBuilder("callbacks"):

        @cloaca.task(on_success=on_success)
        def good(context):
            context["x"] = 1

        @cloaca.task(on_failure=on_failure, retry_attempts=1)
        def bad(context):
            raise ValueError("boom")

    runner.execute("callbacks")
    assert done.acquire(timeout=10)
    assert done.acquire(timeout=10)
    assert ("good", 1) in seen
    assert any(task == "bad" and "boom" in str(error) for task, error in seen)


def test_execute_with_check_raises_like_raise_for_status(runner):
    with cloaca.WorkflowBuilder("bad"):

        @cloaca.task(retry_attempts=1)
        def fails(context):
            raise ValueError("boom")

    with cloaca.WorkflowBuilder("good"):
        cloaca.task(id="works")(lambda context: None)
    with cloaca.WorkflowBuilder("slow"):

        @cloaca.task
        async def sleeps(context):
            await asyncio.sleep(60)

    assert runner.execute("bad").status == "Failed"
    with pytest.raises(cloaca.WorkflowExecutionError, match="'fails' failed: ValueError: boom"):
        runner.execute("bad", check=True)
    with pytest.raises(cloaca.WorkflowExecutionError, match="boom"):
        runner.execute("bad", check=True, progress=True)
    with pytest.raises(cloaca.WorkflowExecutionError, match="boom"):
        asyncio.run(runner.execute_async("bad", check=True))
    with pytest.raises(cloaca.WorkflowTimeoutError):
        runner.execute("slow", timeout=0.05, check=True)
    assert runner.execute("good", check=True).status == "Completed"
    assert asyncio.run(runner.execute_async("good", check=True)).status == "Completed"


def test_nothing_is_printed_on_import_or_run(script):
    process = script("""
        import cloaca
        with cloaca.WorkflowBuilder("quiet"):
            @cloaca.task
            def works(context):
                context["x"] = 1
        with cloaca.DefaultRunner(":memory:") as runner:
            assert runner.execute("quiet").status == "Completed"
    """)
    assert process.communicate(timeout=60) == ("", "")
    assert process.returncode == 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_the_benchmark_program_runs(tmp_path: Path, kind: str):
    program = Path(__file__).parent.parent / "benchmarks" / "run.py"
    report = tmp_path / "results.json"
    command = [sys.executable, str(program), "--quick", "--no-limits", "--rust-profile", "dev"]
    command += ["--on", kind, "--json", str(report)]
    subprocess.run(command, check=True, timeout=290, stdout=subprocess.DEVNULL)
    figures = json.loads(report.read_text())[kind]
    assert len(figures["workloads"]) == 22
    assert all(figures["workloads"].values())
    assert figures["rust_workloads"].keys() == {"W1", "W2", "W3"}
