"""Programs that failed in user trials. The number after `r` in a test's name is the trial's number.

`TRIALS` names the tests of the other trials, and `ATTACKS` the tests of attacks on a runner.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import sqlite3
import time
from pathlib import Path

import pytest

import cloaca
from cloaca.testing import VirtualRunner

ROOT = Path(__file__).parent.parent
#: A week, in seconds.
WEEK = 7 * 86_400

#: The tests in other files, keyed by the number of the trial.
TRIALS = {
    1: "test_start.py::test_recovered_task_runs_after_the_constructor_has_returned",
    2: "test_deadlock.py::test_last_free_worker_cannot_wait_for_a_child",
    4: "test_arguments.py::test_c2_context_rule_reads_a_dotted_path_and_names_missing_keys",
    6: "test_arguments.py::test_a2_error_for_an_unknown_task_option_suggests_a_known_one",
    7: "test_keys.py::test_executions_are_found_and_listed_by_key",
    8: "test_deadlock.py::test_d6_cancel_returns_whether_the_execution_was_open",
    9: "test_live_logs.py::test_lines_of_a_running_attempt_can_be_read",
    13: "test_arguments.py::test_task_of_the_same_block_can_be_added_again_by_id",
    14: "test_callbacks.py::test_execute_returns_after_the_callbacks",
    15: "test_arguments.py::test_a4_version_covers_plain_values_that_a_function_closes_over",
    17: "test_deadlock.py::test_blocking_calls_in_a_coroutine_are_refused",
    19: "mistakes_of_values.py::keys of a dict that are not strings",
    20: "test_started.py::test_prefetched_task_is_ready",
}

#: The tests of attacks, keyed by the subject of the attack. An entry with a path is a test in Rust.
#: A name can be shortened to its beginning; an entry without a name stands for the whole file.
ATTACKS = {
    "catch-up after a long downtime": [
        "crates/cloacina/tests/engine_schedules.rs::f4_long_catch_up_proceeds_in_bounded_steps",
    ],
    "wall clock that is set forward or back": [
        "test_clock.py::test_e2_clock_jump_ends_no_lease_and_no_task_early",
        "crates/cloacina/tests/runner/isolation.rs::two_runners_keep_their_leases_while_the_clock",
    ],
    "cron expressions that never fire": [
        "test_cron_expressions.py::test_an_expression_that_never_fires_is_refused",
        "test_fuzz.py::test_f1_a_bad_cron_expression_is_refused_with_its_cause",
    ],
    "Ctrl-C at any moment of a submission": [
        "test_attacks.py::test_ctrl_c_during_submissions_loses_no_key",
    ],
    "engine that has failed": [
        "test_shutdown.py::test_run_forever_raises_when_the_engine_has_failed",
    ],
    "deeply nested JSON": [
        "test_context.py::test_b1_result_deeper_than_the_limit_fails_the_task",
        "test_context.py::test_b1_stored_input_deeper_than_the_limit_raises_an_error",
        "crates/cloacina/src/types/merge/tests.rs::b3_values_of_maximum_depth_merge_on_a_small_stack",
    ],
    "copies of a runner": ["test_shutdown.py::test_runner_refuses_to_be_copied_or_pickled"],
    "full disk": ["test_disk_full.py::test_e6_full_disk_is_reported_and_survived"],
    "processes that cannot see their peers": [
        "crates/cloacina/src/runtime/process.rs::a7_process_without_free_descriptors_sees_a_live",
        "crates/cloacina/src/runtime/process.rs::a7_hidden_process_is_not_dead",
    ],
    "history after a retry": [
        "test_submission.py::test_e7_history_keeps_the_earlier_events_after_a_retry",
    ],
    "no free descriptors": ["test_survival.py::test_event_loop_starts_once_descriptors_are_free"],
    "no new threads": ["test_survival.py::test_thread_that_fails_to_start_is_started_later"],
    "forks and one SQLite file": [
        "test_sqlite_files.py::test_forked_child_cannot_open_the_file_of_its_parent",
        "test_sqlite_files.py::test_child_forked_after_shutdown_can_use_the_same_file",
        "test_sqlite_files.py::test_program_can_open_and_close_the_engines_file",
    ],
    "forks in a task": [
        "test_shutdown.py::test_child_forked_in_a_task_ends_without_reporting_progress",
    ],
    "greenlets": ["test_connecting.py::test_greenlets_instead_of_threads_are_refused"],
    "memory of a process": [
        "test_memory.py::test_memory_stays_flat_while_a_process_only_submits",
        "test_attacks.py::test_ended_and_cancelled_executions_leave_no_input_in_memory",
        "crates/cloacina/src/runtime/ledger/tests.rs::b6_idle_executions_are_bounded_by_bytes",
        "crates/cloacina/src/runtime/prefetch.rs::a25_large_executions_shrink_the_window",
    ],
    "exceptions that cannot be read": [
        "test_survival.py::test_unreadable_exception_ends_only_its_attempt",
        "test_survival.py::test_raising_trace_function_ends_only_its_attempt",
    ],
    "values of any kind in every argument": [
        "test_fuzz.py::test_b1_json_is_parsed_as_in_python_or_refused",
        "test_submission.py::test_a2_a_bad_argument_is_refused_and_nothing_is_started",
    ],
    "lists of executions with large inputs": [
        "crates/cloacina/tests/store_conformance/round_trip.rs::an_outline_has_no_input",
    ],
    "coroutines that end the event loop": [
        "test_survival.py::test_coroutine_that_breaks_the_event_loop_fails_no_other_task",
    ],
    "passwords in errors": [
        "crates/cloacina/tests/postgres_url.rs::errors_do_not_show_possible_passwords",
        "test_fuzz.py::test_an_invalid_url_is_refused",
    ],
    "locked tables": [
        "test_attacks.py::test_program_ends_although_a_table_is_locked",
        "crates/cloacina/tests/postgres_waiting.rs::readers_and_writers_time_out_on_a_locked",
        "test_sqlite_files.py::test_lock_of_another_process_blocks_no_longer_than_db_timeout",
    ],
    "settings of a server": [
        "crates/cloacina/tests/postgres_waiting.rs::a_read_only_session_is_replaced",
        "crates/cloacina/tests/postgres_waiting.rs::connection_to_a_stopped_server_process",
    ],
    "results that a server cannot store": [
        "crates/cloacina/tests/postgres_errors.rs::a_value_outside_the_database_encoding",
        "crates/cloacina/tests/runner/isolation.rs::large_results_are_written_in_batches",
    ],
    "connection poolers": ["crates/cloacina/tests/postgres_store/pooler.rs::"],
    "tasks that end their process": ["test_poison.py::test_e2_poison_task_fails_alone"],
    "unreadable data in a row of a table": [
        "test_bad_rows.py::test_unreadable_execution_does_not_affect_other_executions",
        "crates/cloacina/tests/runner/isolation.rs::unreadable_execution_does_not_block_rescues",
    ],
    "many executions and very large workflows": [
        "test_waits.py::test_l6_thousand_waiting_executions_hold_no_worker",
        "crates/cloacina/tests/store_conformance/round_trip.rs::an_execution_can_have_ten_thousand",
    ],
    "permissions of files": ["crates/cloacina/tests/sqlite_store/opening.rs::"],
    "connections after a shutdown": [
        "test_shutdown.py::test_d8_runner_has_no_server_session_after_shutdown",
        "test_sqlite_files.py::test_results_are_readable_after_shutdown_closed_all_files",
    ],
    "SQLite files that are deleted or replaced": [
        "test_sqlite_files.py::test_runner_reports_a_deleted_file_and_stops_acknowledging",
    ],
    "tenants": ["test_tenants.py::"],
    "control characters on a terminal": [
        "test_visible.py::test_no_command_shows_a_raw_control_character",
    ],
    "triggers whose poll fails": [
        "test_survival.py::test_trigger_with_an_unreadable_exception_is_polled_again",
    ],
    "log records that cannot be captured": [
        "test_survival.py::test_odd_log_record_fails_neither_task_nor_runner",
    ],
    "encrypted connections": ["crates/cloacina/tests/postgres_store/tls.rs::"],
    "requests with a foreign host": [
        "test_metrics.py::test_endpoint_answers_only_requests_for_allowed_hosts",
    ],
}


def test_every_trial_has_a_test():
    here = re.findall(r"^def test_r(\d\d)_", Path(__file__).read_text(), re.MULTILINE)
    assert {int(number) for number in here} | set(TRIALS) == set(range(1, 21))


@pytest.mark.parametrize(
    "place", [*TRIALS.values(), *(place for places in ATTACKS.values() for place in places)]
)
def test_named_test_exists(place):
    file, _, name = place.partition("::")
    path = ROOT / file if file.startswith("crates/") else ROOT / "tests" / file
    assert name in path.read_text()


def test_r03_equal_results_of_parallel_tasks_are_all_kept(runner):
    with cloaca.WorkflowBuilder("chord"):
        header = [
            cloaca.task(id=f"add_{index}")(lambda context, index=index: {"numbers": [2 + 2]})
            for index in range(10)
        ]

        @cloaca.task(dependencies=header)
        def tsum(context):
            context["total"] = sum(context["numbers"])

    assert runner.execute("chord").final_context["total"] == 40


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_r11_deferred_task_waits_under_the_virtual_clock(kind):
    answers = {}

    def wait_for_answer(context, handle):
        handle.defer_until(lambda: handle.execution_id in answers, poll_interval_ms="1m")
        context["answer"] = answers[handle.execution_id]

    async def wait_for_answer_async(context, handle):
        await handle.defer_until(lambda: handle.execution_id in answers, poll_interval_ms="1m")
        context["answer"] = answers[handle.execution_id]

    with cloaca.WorkflowBuilder("asked_boss"):
        cloaca.task(id="wait", timeout=math.inf, retry_attempts=1)(
            wait_for_answer if kind == "sync" else wait_for_answer_async
        )
    with VirtualRunner() as runner:
        handle = runner.submit("asked_boss")
        runner.advance("6m")
        assert handle.status() == "Running"
        answers[handle.id] = "yes"
        runner.advance("1m")
        result = handle.result()
    assert result.final_context["answer"] == "yes"
    assert result.tasks["wait"].attempts == 1


def test_r05_week_of_waiting_leaves_few_events():
    """An open wait stores no events. A task that polls with `Snooze` stores one event per poll."""
    with cloaca.WorkflowBuilder("release"):
        cloaca.approval("approve", title="Release?")

    @cloaca.workflow
    def reminded(handle):
        return handle.wait("answer", cloaca.signal("week_answer"), timeout="30d")

    with VirtualRunner() as runner:
        asked, waiting = runner.submit("release"), runner.submit("reminded")
        runner.advance(WEEK)
        assert (asked.status(), waiting.status()) == ("Running", "Running")
        runner.approve(asked, "approve", by="ann")
        runner.send("week_answer", 1)
        assert (asked.result().status, waiting.result().output) == ("Completed", 1)
        assert max(len(asked.events()), len(waiting.events())) < 15


def test_r18_task_whose_keyed_child_failed_is_not_retried(runner):
    """Another attempt would get the same failed child, because all attempts submit the same key."""
    runs = []

    with cloaca.WorkflowBuilder("child"):

        @cloaca.task(retry_attempts=1)
        def fail(context):
            runs.append(1)
            raise ValueError("no")

    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task
        async def wait(context, handle):
            (await runner.submit("child", key=handle.execution_id)).raise_for_status()

    result = runner.execute("parent")
    assert (result.status, result.tasks["wait"].attempts, len(runs)) == ("Failed", 1, 1)
    assert result.error.type == "WorkflowExecutionError"


def test_r18_task_whose_child_without_a_key_failed_is_retried(runner):
    runs = []

    with cloaca.WorkflowBuilder("child"):

        @cloaca.task(retry_attempts=1)
        def fail_once(context):
            runs.append(1)
            if len(runs) == 1:
                raise ValueError("no")

    with cloaca.WorkflowBuilder("parent"):

        @cloaca.task(retry_delay_ms=1)
        async def wait(context):
            (await runner.submit("child")).raise_for_status()

    result = runner.execute("parent")
    assert (result.status, result.tasks["wait"].attempts, len(runs)) == ("Completed", 2, 2)


def test_r10_one_definition_serves_requests_of_any_width(tmp_path):
    """A map gets its width from its input, so requests of any width share one definition."""
    with cloaca.WorkflowBuilder("request", input={"parts": list[int]}, output="end"):

        @cloaca.task(over="parts")
        def part(part: int) -> int:
            return part * 2

        @cloaca.task
        def end(part: list[int]) -> int:
            return sum(part)

    database = tmp_path / "r10.db"
    with cloaca.DefaultRunner(f"sqlite:///{database}") as runner:
        for width in range(30):
            assert runner.execute("request", {"parts": list(range(width))}).output == width * (
                width - 1
            )
        runner.prune(older_than=0.0)
    with contextlib.closing(sqlite3.connect(database)) as connection:
        of_requests = "definitions WHERE workflow = 'request'"
        tables = (of_requests, "executions", "tasks", "maps", "items")
        rows = [
            connection.execute(f"SELECT count(*) FROM cloacina_{table}").fetchone()[0]
            for table in tables
        ]
    assert rows == [1, 0, 0, 0, 0]


def test_r12_children_of_a_task_end_with_their_parent(runner):
    """A cancel of the parent reaches the children that its task starts with `handle.run_many`."""
    with cloaca.WorkflowBuilder("slow_child"):

        @cloaca.task
        async def nap(context):
            await asyncio.sleep(60)

    @cloaca.workflow
    async def parent_of_three(handle):
        await handle.run_many("children", "slow_child", [{}] * 3)

    handle = runner.submit("parent_of_three")
    while len(children := runner.children(handle.id)) < 3:
        time.sleep(0.01)
    assert {child.workflow_name for child in children} == {"slow_child"}
    handle.cancel()
    for child in children:
        ended = runner.get_handle(child.execution_id).result(timeout=60)
        assert ended.status == "Cancelled"


def test_r16_task_continues_after_its_sleep():
    """The function starts again after `handle.sleep`, but its recorded steps are not repeated."""
    mails = []

    @cloaca.workflow
    def reminder(handle):
        handle.step("first", lambda: mails.append("first"))
        handle.sleep("pause", 60)
        handle.step("second", lambda: mails.append("second"))

    with VirtualRunner() as runner:
        handle = runner.submit("reminder")
        runner.advance(3600)
        assert (handle.status(), mails) == ("Completed", ["first", "second"])
