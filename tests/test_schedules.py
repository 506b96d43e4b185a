"""Schedules from Python, on SQLite and on PostgreSQL (semantics F)."""

from __future__ import annotations

import itertools
import logging
import signal
import time
import uuid
from datetime import UTC, datetime, timedelta

import pytest

import cloaca
from processes import seconds
from schedule_support import at, define, until

UNKNOWN = "0190a0a0-0000-7000-8000-000000000000"


def test_a_schedule_fires_every_second_with_its_context(runner):
    define("tick")
    id = runner.register_cron_workflow("tick", "* * * * * *", input={"city": "Ulm"})
    rows = until(lambda: (h := runner.get_cron_execution_history(id))[2:] and h)
    runner.delete_cron_schedule(id)
    times = [at(row["scheduled_time"]) for row in reversed(rows)]
    assert all(b - a == timedelta(seconds=1) for a, b in itertools.pairwise(times))
    for row in rows:
        assert row["outcome"] == "fired"
        assert row["schedule_id"] == id
        assert row["workflow_execution_id"] == row["pipeline_execution_id"]
        assert at(row["claimed_at"]) >= at(row["scheduled_time"])
        assert {"id", "created_at", "updated_at"} <= set(row)
        result = runner.get_handle(row["workflow_execution_id"]).result(timeout=30)
        assert result.status == "Completed"
        assert result.final_context == {
            "city": "Ulm",
            "scheduled_time": row["scheduled_time"],
            "schedule_id": id,
            "schedule_timezone": "UTC",
            "schedule_expression": "* * * * * *",
        }


def test_f5_registering_on_every_start_keeps_one_row(database):
    define("nightly")
    ids = set()
    for _ in range(3):
        with cloaca.DefaultRunner(database) as runner:
            ids.add(runner.register_cron_workflow("nightly", "0 2 * * *", "Europe/Berlin"))
            ids.add(runner.register_cron_workflow("nightly", " 0 2 * * * ", "Europe/Berlin"))
            assert len(runner.list_cron_schedules()) == 1
    assert len(ids) == 1
    with cloaca.DefaultRunner(database) as runner:
        other = runner.register_cron_workflow(
            "nightly", "0 2 * * *", "Europe/Berlin", instance_name="second"
        )
        assert other not in ids
        # Registering a disabled schedule again changes its options, but does not enable it.
        runner.set_cron_schedule_enabled(other, False)
        again = runner.register_cron_workflow(
            "nightly", "0 2 * * *", "Europe/Berlin", instance_name="second", overlap="queue"
        )
        assert again == other
        row = runner.get_cron_schedule(other)
        assert (row["enabled"], row["overlap_policy"]) == (False, "queue")
        assert len(runner.list_cron_schedules(enabled_only=True)) == 1


def test_a_schedule_is_returned_as_a_dict(runner):
    define("report")
    id = runner.register_cron_workflow(
        "report",
        "30 9 * * MON-FRI",
        "America/New_York",
        catchup="all",
        max_catchup=3,
        overlap="skip",
        start_at=datetime(2030, 1, 1, tzinfo=UTC),
        end_at=datetime(2031, 1, 1, tzinfo=UTC),
        jitter_seconds=2.5,
    )
    row = runner.get_cron_schedule(id)
    created = row.pop("created_at")
    assert at(created).tzinfo is not None
    assert row.pop("updated_at") == created
    assert row == {
        "id": id,
        "workflow_name": "report",
        "cron_expression": "30 9 * * MON-FRI",
        "timezone": "America/New_York",
        "instance_name": None,
        "enabled": True,
        "catchup_policy": "all",
        "max_catchup": 3,
        "overlap_policy": "skip",
        "jitter_seconds": 2.5,
        "input": {},
        "start_at": "2030-01-01T00:00:00.000000Z",
        "end_at": "2031-01-01T00:00:00.000000Z",
        "next_run_at": "2030-01-01T14:30:00.000000Z",
        "last_run_at": None,
    }
    assert [row["id"] for row in runner.list_cron_schedules()] == [id]
    assert runner.list_cron_schedules(limit=0) == []
    assert runner.list_cron_schedules(offset=1) == []


def test_changing_expression_or_zone_changes_the_next_tick(runner):
    define("report")
    id = runner.register_cron_workflow("report", "0 12 * * *")
    before = runner.get_cron_schedule(id)
    runner.update_cron_schedule(id, "0 12 * * *", "Asia/Kathmandu")
    after = runner.get_cron_schedule(id)
    assert after["timezone"] == "Asia/Kathmandu"
    assert at(after["next_run_at"]).strftime("%H:%M") == "06:15"
    runner.update_cron_schedule(id, cron_expression="0 13 * * *")
    assert at(runner.get_cron_schedule(id)["next_run_at"]).strftime("%H:%M") == "07:15"
    assert at(before["next_run_at"]).strftime("%H:%M") == "12:00"
    # A change that would duplicate another schedule is refused, and changes nothing.
    other = runner.register_cron_workflow("report", "0 14 * * *")
    with pytest.raises(cloaca.ScheduleError, match=r"^Failed to update cron schedule: "):
        runner.update_cron_schedule(other, "0 13 * * *", "Asia/Kathmandu")
    assert runner.get_cron_schedule(other)["cron_expression"] == "0 14 * * *"


def test_a_schedule_can_be_disabled_enabled_and_deleted(runner):
    define("tick")
    id = runner.register_cron_workflow("tick", "* * * * * *", catchup="all", enabled=False)
    assert runner.get_cron_schedule(id)["next_run_at"] is None
    assert runner.list_cron_schedules(enabled_only=True) == []
    on = datetime.now(UTC)
    runner.set_cron_schedule_enabled(id, True)
    rows = until(lambda: runner.get_cron_execution_history(id))
    # Ticks that were due while the schedule was disabled do not fire (F6).
    assert at(rows[-1]["scheduled_time"]) > on
    runner.delete_cron_schedule(id)
    rows = runner.get_cron_execution_history(id)
    assert rows
    assert len(runner.get_cron_execution_history(id, limit=1)) == 1
    assert runner.get_cron_execution_history(id, offset=len(rows)) == []
    assert runner.list_cron_schedules() == []
    with pytest.raises(cloaca.ScheduleError, match=r"^Failed to get cron schedule: .* is deleted"):
        runner.get_cron_schedule(id)
    # The same schedule can be registered again. It gets a new id.
    assert runner.register_cron_workflow("tick", "* * * * * *", enabled=False) != id


def test_run_now_starts_executions_of_a_disabled_schedule(runner):
    define("yearly")
    id = runner.register_cron_workflow("yearly", "@yearly", enabled=False)
    started = [runner.run_cron_schedule_now(id) for _ in range(3)]
    assert len(set(started)) == 3
    for execution in started:
        result = runner.get_handle(execution).result(timeout=30)
        assert result.final_context["schedule_id"] == id
    rows = runner.get_cron_execution_history(id)
    assert {row["workflow_execution_id"] for row in rows} == set(started)
    assert {row["detail"] for row in rows} == {"run by hand"}


def test_unknown_workflow_is_reported_in_log_and_history(runner, caplog):
    # The name is unique, because a runner knows all workflows that its process has defined.
    name = f"elsewhere-{uuid.uuid4()}"
    with caplog.at_level(logging.WARNING, logger="cloaca"):
        id = runner.register_cron_workflow(name, "* * * * * *")
    assert f"this database has no workflow '{name}'" in caplog.text
    rows = until(lambda: runner.get_cron_execution_history(id))
    assert rows[0]["outcome"] == "skipped"
    assert rows[0]["workflow_execution_id"] is None
    assert f"'{name}' is not known" in rows[0]["detail"]
    until(lambda: len(runner.get_cron_execution_history(id)) > 1)
    told = [record.getMessage() for record in caplog.records]
    missed = [text for text in told if text.startswith("a schedule has fired but started nothing")]
    assert len(missed) == 1, "the log must have one warning, not one for each tick"
    assert f"workflow '{name}' is not known" in missed[0]
    define(name)
    until(lambda: runner.get_cron_execution_history(id)[0]["outcome"] == "fired")


def test_stats_count_fired_and_missed_ticks(database):
    define("tick")
    since = datetime.now(UTC) - timedelta(seconds=1)
    with cloaca.DefaultRunner(database) as runner:
        assert runner.get_cron_execution_stats(since)["success_rate"] == 0
        id = runner.register_cron_workflow("tick", "* * * * * *")
        until(lambda: runner.get_cron_execution_history(id))
    # No runner is live for about two ticks.
    time.sleep(2.1)
    with cloaca.DefaultRunner(database) as runner:
        until(lambda: runner.get_cron_execution_history(id)[0]["outcome"] == "fired")
        until(lambda: "missed" in {r["outcome"] for r in runner.get_cron_execution_history(id)[1:]})
        runner.set_cron_schedule_enabled(id, False)
        stats = runner.get_cron_execution_stats(since.isoformat())
        outcomes = [row["outcome"] for row in runner.get_cron_execution_history(id)]
    assert stats["total_executions"] == len(outcomes)
    assert stats["successful_executions"] == outcomes.count("fired")
    assert stats["lost_executions"] == outcomes.count("missed") >= 1
    assert stats["success_rate"] == outcomes.count("fired") / len(outcomes)
    assert stats["overlapped_executions"] == 0


def test_f4_catchup_fires_the_latest_missed_tick_or_all_of_them(database):
    ran: list[str] = []
    define("tick")
    define("each", lambda context: ran.append(context["scheduled_time"]))
    with cloaca.DefaultRunner(database) as runner:
        id = runner.register_cron_workflow("tick", "*/3 * * * * *", catchup="latest")
        each = runner.register_cron_workflow("each", "* * * * * *", catchup="all")
    # The first runner may have fired a tick before it was closed.
    closed = datetime.now(UTC)
    ran.clear()
    # The next runner starts just after a tick, so that it is ready before the tick after that.
    time.sleep(6.3 + 3 - time.time() % 3)
    started = datetime.now(UTC)
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        rows = until(
            lambda: (
                (h := runner.get_cron_execution_history(id))
                and at(h[0]["scheduled_time"]) > started
                and h
            )
        )
        runner.set_cron_schedule_enabled(id, False)
        runner.set_cron_schedule_enabled(each, False)
        until(lambda: ran and at(ran[-1]) > started)
    assert len(ran) >= 4
    assert ran == sorted(ran)
    missed = [row["outcome"] for row in rows if closed < at(row["scheduled_time"]) < started]
    assert missed.count("fired") == 1
    assert missed[0] == "fired"
    assert missed.count("missed") >= 1


def test_overlap_skip_drops_ticks_and_overlap_queue_delays_them(runner):
    import threading

    gate = threading.Event()
    define("slow", lambda context: gate.wait(30) and None)
    skip = runner.register_cron_workflow("slow", "* * * * * *", overlap="skip")
    queue = runner.register_cron_workflow(
        "slow", "* * * * * *", overlap="queue", instance_name="queue"
    )

    def outcomes(id):
        return [row["outcome"] for row in reversed(runner.get_cron_execution_history(id))]

    until(lambda: len(outcomes(skip)) >= 2 and len(outcomes(queue)) >= 3)
    assert outcomes(skip)[:2] == ["fired", "overlapped"]
    assert outcomes(queue)[:3] == ["fired", "queued", "queued"]
    gate.set()
    until(lambda: outcomes(queue)[:3] == ["fired", "fired", "fired"])
    until(lambda: outcomes(skip)[-1] == "fired")


def test_a_slow_workflow_does_not_delay_ticks(database):
    import threading

    gate = threading.Event()
    define("slow", lambda context: gate.wait(30) and None)
    define("quick")
    config = cloaca.DefaultRunnerConfig(max_concurrent_tasks=1)
    with cloaca.DefaultRunner(database, config) as runner:
        runner.register_cron_workflow("slow", "* * * * * *")
        quick = runner.register_cron_workflow("quick", "* * * * * *")
        rows = until(lambda: (h := runner.get_cron_execution_history(quick))[2:] and h)
        gate.set()
        late = [at(row["claimed_at"]) - at(row["scheduled_time"]) for row in rows]
        # Compare the median, because a busy machine can delay single ticks.
        assert sorted(late)[len(late) // 2] < timedelta(seconds=0.5)
        assert {row["outcome"] for row in rows} == {"fired"}
        for schedule in runner.list_cron_schedules():
            runner.delete_cron_schedule(schedule["id"])


def test_runner_without_scheduling_fires_no_tick(database):
    define("tick")
    quiet = cloaca.DefaultRunnerConfig(enable_cron_scheduling=False)
    with cloaca.DefaultRunner(database, quiet) as runner:
        id = runner.register_cron_workflow("tick", "* * * * * *")
        execution = runner.run_cron_schedule_now(id)
        runner.get_handle(execution).result(timeout=30)
        due = at(runner.get_cron_schedule(id)["next_run_at"])
        until(lambda: datetime.now(UTC) > due + timedelta(seconds=0.3))
        assert len(runner.get_cron_execution_history(id)) == 1


def test_cron_schedule_object_is_checked_and_can_be_added(runner):
    define("etl")
    schedule = cloaca.CronSchedule(
        workflow_name="etl",
        cron_expression="0 2 * * *",
        timezone="Europe/Berlin",
        enabled=False,
        context={"day": 1},
        max_missed_runs=4,
        catch_up=True,
    )
    assert "etl" in repr(schedule)
    row = runner.get_cron_schedule(runner.add_cron_schedule(schedule))
    assert row["catchup_policy"] == "all"
    assert row["max_catchup"] == 4
    assert row["input"] == {"day": 1}
    assert row["enabled"] is False
    assert cloaca.CronSchedule("etl", "0 2 * * *")._catchup_rule() == "skip"
    for bad in (("etl", "61 * * * *"), ("etl", "* * * * *", "Mars"), ("etl", "* * *")):
        with pytest.raises(cloaca.ScheduleError):
            cloaca.CronSchedule(*bad)
    with pytest.raises(cloaca.ScheduleError, match="catch_up"):
        cloaca.CronSchedule("etl", "* * * * *", catch_up="sometimes")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: r.get_cron_schedule(UNKNOWN), "Failed to get cron schedule"),
        (lambda r: r.get_cron_schedule("nonsense"), "Invalid schedule ID"),
        (lambda r: r.get_cron_schedule(7), "Invalid schedule ID"),
        (lambda r: r.update_cron_schedule(UNKNOWN, "* * * * *"), "Failed to update cron schedule"),
        (lambda r: r.update_cron_schedule("x", "* * * * *", "UTC"), "Invalid schedule ID"),
        (lambda r: r.set_cron_schedule_enabled(UNKNOWN, True), "Failed to update cron schedule"),
        (lambda r: r.set_cron_schedule_enabled("x", True), "Invalid schedule ID"),
        (lambda r: r.delete_cron_schedule(UNKNOWN), "Failed to delete cron schedule"),
        (lambda r: r.run_cron_schedule_now(UNKNOWN), "Failed to run cron schedule"),
        (lambda r: r.get_cron_execution_history(UNKNOWN), "Failed to get cron schedule"),
        (lambda r: r.get_cron_execution_history("x"), "Invalid schedule ID"),
        (lambda r: r.get_cron_execution_stats("yesterday"), "Invalid datetime format"),
        (lambda r: r.get_cron_execution_stats("2026-01-01T00:00:00"), "Invalid datetime format"),
        (lambda r: r.get_cron_execution_stats(7), "Invalid datetime format"),
        (lambda r: r.list_cron_schedules(limit=-1), "limit"),
        (lambda r: r.list_cron_schedules(offset=1.5), "offset"),
        (lambda r: r.register_cron_workflow("a b", "* * * * *"), "'a b' cannot be the name"),
        (lambda r: r.register_cron_workflow("w", "61 * * * *"), "cron expression"),
        (lambda r: r.register_cron_workflow("w", "0 0 30 2 *"), "cron expression"),
        (lambda r: r.register_cron_workflow("w", "* * * * *", "Mars"), "'Mars' is not"),
        (lambda r: r.register_cron_workflow("w", "* * * * *", catchup="some"), "catchup must be"),
        (lambda r: r.register_cron_workflow("w", "* * * * *", overlap="no"), "overlap must be"),
        (lambda r: r.register_cron_workflow("w", "* * * * *", max_catchup=-1), "max_catchup"),
        (lambda r: r.register_cron_workflow("w", "* * * * *", jitter_seconds=-1), "jitter_seconds"),
        (
            lambda r: r.register_cron_workflow("w", "* * * * *", start_at=datetime(2026, 1, 1)),
            "start_at must have a time zone",
        ),
    ],
)
def test_bad_argument_raises_an_error_and_registers_nothing(call, message):
    with cloaca.DefaultRunner(":memory:") as runner:
        with pytest.raises(ValueError, match=f"^{message}"):
            call(runner)
        assert runner.list_cron_schedules() == []


def test_closed_runner_refuses_a_schedule():
    runner = cloaca.DefaultRunner(":memory:")
    runner.shutdown()
    with pytest.raises(cloaca.RunnerClosedError):
        runner.register_cron_workflow("w", "* * * * *")


WORKER = """
    import sys, cloaca
    with cloaca.WorkflowBuilder("tick"):
        @cloaca.task
        def only(context):
            pass
    runner = cloaca.DefaultRunner(sys.argv[1])
    for number in range(5):
        runner.register_cron_workflow("tick", "* * * * * *", instance_name=str(number))
    print("ready", flush=True)
    runner.run_forever()
"""


def test_three_processes_fire_every_tick_once_despite_a_kill(database, script):
    lasting = int(seconds(10))
    workers = [script(WORKER, database) for _ in range(3)]
    for worker in workers:
        assert worker.stdout.readline() == "ready\n"
    quiet = cloaca.DefaultRunnerConfig(enable_cron_scheduling=False)
    with cloaca.DefaultRunner(database, quiet) as watcher:
        ids = [row["id"] for row in watcher.list_cron_schedules()]
        assert len(ids) == 5

        def reached(count: int) -> bool:
            return all(len(watcher.get_cron_execution_history(id)) >= count for id in ids)

        until(lambda: reached(lasting // 2), lasting + 60)
        workers[0].send_signal(signal.SIGKILL)
        workers.append(script(WORKER, database))
        until(lambda: reached(lasting), lasting + 60)
        for id in ids:
            watcher.set_cron_schedule_enabled(id, False)
        executions = set()
        for id in ids:
            rows = watcher.get_cron_execution_history(id)
            times = [at(row["scheduled_time"]) for row in reversed(rows)]
            # From the first tick to the last, each second has one tick with one execution.
            assert all(
                later - earlier == timedelta(seconds=1)
                for earlier, later in itertools.pairwise(times)
            )
            assert {row["outcome"] for row in rows} == {"fired"}
            executions |= {row["workflow_execution_id"] for row in rows}
            assert len(rows) >= lasting
        total = sum(len(watcher.get_cron_execution_history(id)) for id in ids)
        assert len(executions) == total
        for worker in workers[1:]:
            worker.send_signal(signal.SIGTERM)
        for worker in workers[1:]:
            assert worker.wait(timeout=60) == 0
        page = watcher.list_executions(limit=1000)
        assert {result.execution_id for result in page} == executions
