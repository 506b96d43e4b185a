//! Tests of schedules and triggers on live runners, with a clock that the test sets.

use std::sync::Arc;
use std::time::Duration;

use cloacina::engine::schedule::NewSchedule;
use cloacina::engine::trigger::{NewTrigger, PollOutcome};
use cloacina::runner::{EngineHandle, OpenOptions};
use cloacina::runtime::RunnerConfig;
use cloacina::store::Store;
use cloacina::store::sqlite::{SqliteOptions, SqliteStore};
use cloacina::types::{
    After, Catchup, Context, ErrorCode, ExecutionId, ExecutionStatus, Overlap, ScheduleId,
    ScheduleKind, TickOutcome, Timestamp,
};

use super::support::{
    PATIENCE, body, config, define, done, in_memory, on_each_database, submit, task, until, wait,
};
use super::time::HandClock;

/// One second, in microseconds.
const SECOND: i64 = 1_000_000;
/// One hour, in microseconds.
const HOUR: i64 = 3600 * SECOND;
/// 2025-06-15T12:00:00Z
const NOON: Timestamp = Timestamp(1_749_988_800_000_000);

fn settings() -> RunnerConfig {
    RunnerConfig {
        // The tests move the clock by hours, which must not make a runner appear dead.
        lease_ttl: Duration::from_hours(24),
        heartbeat_interval: Duration::from_hours(8),
        ..config()
    }
}

fn start(store: Arc<dyn Store>, clock: &Arc<HandClock>) -> EngineHandle {
    start_with(store, clock, settings())
}

fn start_with(store: Arc<dyn Store>, clock: &Arc<HandClock>, config: RunnerConfig) -> EngineHandle {
    let options = OpenOptions {
        begin: cloacina::runner::Begin::AtOnce,
        config,
        auto_migrate: true,
        ..OpenOptions::default()
    };
    let clock = Arc::clone(clock);
    let engine = EngineHandle::start(store, clock, options).unwrap();
    define(&engine, "etl", vec![(task("a", &[]), body(|_| done()))]);
    engine
}

/// Runs a test on a fresh SQLite file. The test gets a function that opens the file again, as another program does.
fn on_sqlite_file(test: impl Fn(&dyn Fn() -> Arc<dyn Store>)) {
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::file(folder.path().join("schedules.db"));
    test(&|| Arc::new(SqliteStore::open(&options).unwrap()));
}

fn every_ten() -> NewSchedule {
    NewSchedule::new("etl", "*/10 * * * * *", "UTC")
}

/// Returns the ticks of a schedule, oldest first: for each tick its due time, in seconds after noon, and its outcome.
fn history(engine: &EngineHandle, id: ScheduleId) -> Vec<(i64, TickOutcome)> {
    let mut ticks = engine
        .inspector()
        .schedule_history(id, usize::MAX, 0)
        .unwrap();
    ticks.reverse();
    let pairs = ticks
        .iter()
        .map(|tick| (tick.due_at.since(NOON) / SECOND, tick.outcome));
    pairs.collect()
}

fn executions(engine: &EngineHandle, id: ScheduleId) -> Vec<ExecutionId> {
    let ticks = engine
        .inspector()
        .schedule_history(id, usize::MAX, 0)
        .unwrap();
    ticks
        .iter()
        .rev()
        .filter_map(|tick| tick.execution)
        .collect()
}

use TickOutcome::{Fired, Missed, Overlapped, Queued};

#[test]
fn f6_tick_starts_an_execution_with_its_time() {
    on_sqlite_file(|open| {
        let clock = Arc::new(HandClock::at(NOON));
        let engine = start(open(), &clock);
        let id = engine.register_schedule(&every_ten()).unwrap().id;
        clock.move_to(NOON + 10 * SECOND);
        until("the tick fires", || !history(&engine, id).is_empty());
        assert_eq!(history(&engine, id), [(10, Fired)]);
        let execution = executions(&engine, id)[0];
        let ended = wait(&engine, execution);
        assert_eq!(ended.record().status, ExecutionStatus::Completed);
        let context = ended.final_context();
        assert_eq!(
            context.get("schedule_id").unwrap().as_str(),
            format!("\"{id}\"")
        );
        assert_eq!(
            context.get("scheduled_time").unwrap().as_str(),
            "\"2025-06-15T12:00:10.000000Z\""
        );
        let record = engine.inspector().schedule(id).unwrap();
        assert_eq!(record.next_due, Some(NOON + 20 * SECOND));
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn f3_no_tick_fires_twice_after_the_clock_is_set_back() {
    on_sqlite_file(|open| {
        let clock = Arc::new(HandClock::at(NOON));
        let engine = start(open(), &clock);
        let id = engine.register_schedule(&every_ten()).unwrap().id;
        for second in 1..=6 {
            clock.move_to(NOON + second * 10 * SECOND);
            until("the next tick is recorded", || {
                history(&engine, id).len() == usize::try_from(second).unwrap()
            });
        }
        clock.move_to(NOON + -HOUR);
        let other = engine
            .register_schedule(&NewSchedule::new("etl", "* * * * *", "UTC"))
            .unwrap()
            .id;
        clock.move_to(NOON + -HOUR + 60 * SECOND);
        // The new schedule was registered after the clock was set back, so it fires at the new time.
        until("the new schedule fires", || {
            history(&engine, other).len() == 1
        });
        assert_eq!(history(&engine, id).len(), 6);
        clock.move_to(NOON + 60 * SECOND);
        clock.move_to(NOON + 70 * SECOND);
        until("the next tick fires", || history(&engine, id).len() == 7);
        let expected: Vec<_> = (1..=7).map(|n| (n * 10, Fired)).collect();
        assert_eq!(history(&engine, id), expected);
        assert_eq!(executions(&engine, id).len(), 7);
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn f4_ticks_passed_by_a_clock_jump_follow_the_catch_up_rule() {
    on_sqlite_file(|open| {
        let clock = Arc::new(HandClock::at(NOON));
        let engine = start(open(), &clock);
        let register = |name: &str, catchup| {
            let mut new = NewSchedule::new("etl", "*/10 * * * *", "UTC");
            new.instance = Some(name.to_owned());
            new.catchup = catchup;
            engine.register_schedule(&new).unwrap().id
        };
        let skip = register("skip", Catchup::Skip);
        let latest = register("latest", Catchup::Latest);
        let all = register("all", Catchup::All);
        clock.move_to(NOON + HOUR + 5 * SECOND);
        let six = |outcomes: [TickOutcome; 6]| -> Vec<(i64, TickOutcome)> {
            (1..=6).map(|n| n * 600).zip(outcomes).collect()
        };
        for (id, expected) in [
            // The last tick is only five seconds late, so it counts as on time.
            (skip, [Missed, Missed, Missed, Missed, Missed, Fired]),
            (latest, [Missed, Missed, Missed, Missed, Fired, Fired]),
            (all, [Fired; 6]),
        ] {
            until("six ticks are recorded", || history(&engine, id).len() == 6);
            assert_eq!(history(&engine, id), six(expected));
        }
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn f4_ticks_of_a_downtime_follow_the_catch_up_rule() {
    on_sqlite_file(|open| {
        let clock = Arc::new(HandClock::at(NOON));
        let engine = start(open(), &clock);
        let mut new = every_ten();
        new.catchup = Catchup::All;
        new.max_catchup = Some(2);
        let id = engine.register_schedule(&new).unwrap().id;
        engine.stop(Duration::from_secs(1));
        clock.move_to(NOON + 35 * SECOND);
        let engine = start(open(), &clock);
        until("three ticks are recorded", || {
            history(&engine, id).len() == 3
        });
        assert_eq!(
            history(&engine, id),
            [(10, Fired), (20, Fired), (30, Missed)]
        );
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn f3_two_runners_fire_each_tick_once() {
    on_sqlite_file(|open| {
        let clock = Arc::new(HandClock::at(NOON));
        let engines = [start(open(), &clock), start(open(), &clock)];
        let id = engines[0].register_schedule(&every_ten()).unwrap().id;
        for second in 1..=20 {
            clock.move_to(NOON + second * 10 * SECOND);
            until("the next tick is recorded", || {
                history(&engines[1], id).len() == usize::try_from(second).unwrap()
            });
        }
        let mut started = executions(&engines[0], id);
        assert_eq!(started.len(), 20);
        started.sort_unstable();
        started.dedup();
        assert_eq!(started.len(), 20);
        let filter = cloacina::runner::ListFilter {
            limit: 100,
            ..Default::default()
        };
        assert_eq!(
            engines[0].inspector().list(&filter).unwrap().items.len(),
            20
        );
        for engine in engines {
            engine.stop(Duration::from_secs(1));
        }
    });
}

#[test]
fn runner_with_schedules_disabled_fires_no_tick() {
    let store = in_memory();
    let open = || Arc::new(store.share()) as Arc<dyn Store>;
    let clock = Arc::new(HandClock::at(NOON));
    let quiet = RunnerConfig {
        enable_cron: false,
        ..settings()
    };
    let engine = start_with(open(), &clock, quiet);
    let id = engine.register_schedule(&every_ten()).unwrap().id;
    clock.move_to(NOON + 10 * SECOND);
    let execution = engine.run_schedule_now(id).unwrap();
    wait(&engine, execution);
    // The runner has run some steps, but the tick is still due.
    assert_eq!(
        engine.inspector().schedule(id).unwrap().next_due,
        Some(NOON + 10 * SECOND)
    );
    let other = start(open(), &clock);
    until("the other runner fires", || history(&other, id).len() == 2);
    engine.stop(Duration::from_secs(1));
    other.stop(Duration::from_secs(1));
}

#[test]
fn f4_queued_tick_fires_when_the_previous_execution_ends() {
    on_sqlite_file(|open| {
        let clock = Arc::new(HandClock::at(NOON));
        let engine = start(open(), &clock);
        let mut new = every_ten();
        new.overlap = Overlap::Queue;
        let id = engine.register_schedule(&new).unwrap().id;
        let mut skipping = every_ten();
        skipping.instance = Some("skip".to_owned());
        skipping.overlap = Overlap::Skip;
        let skip = engine.register_schedule(&skipping).unwrap().id;
        let gate = Arc::new(cloacina::types::sync::Mutex::new(()));
        let closed = gate.lock();
        let inner = Arc::clone(&gate);
        define(
            &engine,
            "etl",
            vec![(
                task("a", &[]),
                body(move |_| {
                    drop(inner.lock());
                    done()
                }),
            )],
        );
        clock.move_to(NOON + 10 * SECOND);
        until("the first tick is recorded", || {
            history(&engine, id).len() == 1
        });
        until("the first tick is recorded", || {
            history(&engine, skip).len() == 1
        });
        clock.move_to(NOON + 20 * SECOND);
        until("the second tick is recorded", || {
            history(&engine, id).len() == 2
        });
        until("the second tick is recorded", || {
            history(&engine, skip).len() == 2
        });
        assert_eq!(history(&engine, id), [(10, Fired), (20, Queued)]);
        assert_eq!(history(&engine, skip), [(10, Fired), (20, Overlapped)]);
        drop(closed);
        until("the queued tick fires", || {
            executions(&engine, id).len() == 2
        });
        assert_eq!(history(&engine, id), [(10, Fired), (20, Fired)]);
        for execution in executions(&engine, id) {
            wait(&engine, execution);
        }
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn ticks_are_skipped_until_their_workflow_is_defined() {
    on_sqlite_file(|open| {
        let clock = Arc::new(HandClock::at(NOON));
        let engine = start(open(), &clock);
        let id = engine
            .register_schedule(&NewSchedule::new("elsewhere", "*/10 * * * * *", "UTC"))
            .unwrap()
            .id;
        clock.move_to(NOON + 10 * SECOND);
        until("the tick is recorded", || history(&engine, id).len() == 1);
        let ticks = engine.inspector().schedule_history(id, 1, 0).unwrap();
        assert_eq!(ticks[0].outcome, TickOutcome::Skipped);
        assert!(ticks[0].detail.as_ref().unwrap().contains("'elsewhere'"));
        let error = engine.run_schedule_now(id).unwrap_err();
        assert_eq!(error.code, ErrorCode::WorkflowNotFound);
        let other = start(open(), &clock);
        define(
            &other,
            "elsewhere",
            vec![(task("a", &[]), body(|_| done()))],
        );
        clock.move_to(NOON + 20 * SECOND);
        until("the next tick is recorded", || {
            history(&engine, id).len() == 2
        });
        assert_eq!(history(&engine, id)[1], (20, Fired));
        let execution = executions(&engine, id)[0];
        // If `engine` fired the tick, `other` finds the execution at its next poll, which is not due before the clock advances.
        clock.move_to(NOON + 21 * SECOND);
        until("the execution completes", || {
            engine.inspector().status(execution).unwrap() == ExecutionStatus::Completed
        });
        engine.stop(Duration::from_secs(1));
        other.stop(Duration::from_secs(1));
    });
}

#[test]
fn other_runners_notice_changed_schedules() {
    on_sqlite_file(|open| {
        let clock = Arc::new(HandClock::at(NOON));
        let quiet = RunnerConfig {
            enable_cron: false,
            ..settings()
        };
        let (client, engine) = (start_with(open(), &clock, quiet), start(open(), &clock));
        let id = client
            .register_schedule(&NewSchedule::new("etl", "0 0 * * *", "UTC"))
            .unwrap()
            .id;
        assert_eq!(
            client
                .register_schedule(&NewSchedule::new("etl", "0 0 * * *", "UTC"))
                .unwrap()
                .id,
            id
        );
        assert_eq!(
            client
                .inspector()
                .schedules(ScheduleKind::Cron, false, 10, 0)
                .unwrap()
                .len(),
            1
        );
        client
            .update_schedule(id, Some("*/10 * * * * *"), None)
            .unwrap();
        clock.move_to(NOON + 10 * SECOND);
        until("the tick of the new expression is recorded", || {
            history(&engine, id).len() == 1
        });
        client.set_schedule_enabled(id, false).unwrap();
        clock.move_to(NOON + 20 * SECOND);
        client.run_schedule_now(id).unwrap();
        client.set_schedule_enabled(id, true).unwrap();
        clock.move_to(NOON + 30 * SECOND);
        until("the following tick is recorded", || {
            history(&engine, id).len() == 3
        });
        let times: Vec<i64> = history(&engine, id).iter().map(|(at, _)| *at).collect();
        assert_eq!(times, [10, 20, 30]);
        client.delete_schedule(id).unwrap();
        assert_eq!(
            client
                .inspector()
                .schedules(ScheduleKind::Cron, false, 10, 0)
                .unwrap()
                .len(),
            0
        );
        let error = client.inspector().schedule(id).unwrap_err();
        assert_eq!(error.code, ErrorCode::ScheduleNotFound);
        assert_eq!(history(&client, id).len(), 3);
        assert!(client.delete_schedule(id).is_err());
        engine.stop(Duration::from_secs(1));
        client.stop(Duration::from_secs(1));
    });
}

fn inbox() -> NewTrigger {
    NewTrigger {
        name: "inbox".to_owned(),
        workflow: "etl".to_owned(),
        interval: Some(10 * SECOND),
        expression: None,
        timezone: "UTC".to_owned(),
        allow_concurrent: true,
        after: None,
    }
}

fn register_trigger(engine: &EngineHandle, trigger: NewTrigger) -> ScheduleId {
    engine
        .begin_register_trigger(trigger, 1)
        .wait(PATIENCE)
        .unwrap()
        .unwrap()
}

#[test]
fn g1_one_runner_polls_and_each_poll_fires_once() {
    on_sqlite_file(|open| {
        let clock = Arc::new(HandClock::at(NOON));
        let engines = [start(open(), &clock), start(open(), &clock)];
        let id = register_trigger(&engines[0], inbox());
        assert_eq!(register_trigger(&engines[1], inbox()), id);
        let mut fired = 0;
        for round in 0..10 {
            let mut polls = Vec::new();
            until("a poll is dispatched", || {
                for (index, engine) in engines.iter().enumerate() {
                    polls.extend(
                        engine
                            .queues()
                            .polls()
                            .take()
                            .into_iter()
                            .map(|poll| (index, poll)),
                    );
                }
                !polls.is_empty()
            });
            assert_eq!(polls.len(), 1);
            let (index, poll) = &polls[0];
            assert_eq!(poll.name, "inbox");
            // The second report of the same poll has no effect.
            for _ in 0..2 {
                engines[*index].end_poll(poll.token, PollOutcome::Fire(Context::new()));
            }
            fired += 1;
            until("the poll fires", || {
                executions(&engines[0], id).len() == fired
            });
            clock.move_to(NOON + (round + 1) * 10 * SECOND);
        }
        let filter = cloacina::runner::ListFilter {
            limit: 100,
            ..Default::default()
        };
        assert_eq!(
            engines[0].inspector().list(&filter).unwrap().items.len(),
            fired
        );
        for engine in engines {
            engine.stop(Duration::from_secs(1));
        }
    });
}

#[test]
fn g1_poll_of_a_disabled_trigger_does_not_fire() {
    let store = in_memory();
    let open = || Arc::new(store.share()) as Arc<dyn Store>;
    let clock = Arc::new(HandClock::at(NOON));
    let engine = start(open(), &clock);
    let id = register_trigger(&engine, inbox());
    let mut polls = Vec::new();
    until("a poll is dispatched", || {
        polls.extend(engine.queues().polls().take());
        !polls.is_empty()
    });
    engine.set_trigger_enabled("inbox", false).unwrap();
    engine.end_poll(polls[0].token, PollOutcome::Fire(Context::new()));
    engine.set_trigger_enabled("inbox", true).unwrap();
    clock.move_to(NOON + 10 * SECOND);
    let mut next = Vec::new();
    until("the next poll is dispatched", || {
        next.extend(engine.queues().polls().take());
        !next.is_empty()
    });
    engine.end_poll(next[0].token, PollOutcome::Failed("ouch".to_owned()));
    until("the end of the poll is recorded", || {
        !history(&engine, id).is_empty()
    });
    assert_eq!(history(&engine, id), [(10, TickOutcome::Failed)]);
    let record = engine.inspector().trigger("inbox").unwrap().unwrap();
    assert_eq!(record.state.last_error.as_deref(), Some("ouch"));
    engine.stop(Duration::from_secs(1));
}

#[test]
fn g1_stopping_runner_leaves_its_poll_to_others() {
    let store = in_memory();
    let open = || Arc::new(store.share()) as Arc<dyn Store>;
    let clock = Arc::new(HandClock::at(NOON));
    let (first, second) = (start(open(), &clock), start(open(), &clock));
    register_trigger(&first, inbox());
    until("a poll is dispatched", || {
        !first.queues().polls().take().is_empty()
    });
    register_trigger(&second, inbox());
    first.stop(Duration::ZERO);
    clock.move_to(NOON + 10 * SECOND);
    until("the other runner polls", || {
        !second.queues().polls().take().is_empty()
    });
    second.stop(Duration::from_secs(1));
}

/// Returns a trigger that starts `load` after each execution of `etl` that ends in one of these states.
fn load_after(statuses: &[ExecutionStatus]) -> NewTrigger {
    NewTrigger {
        name: "load after etl".to_owned(),
        workflow: "load".to_owned(),
        interval: None,
        expression: None,
        timezone: "UTC".to_owned(),
        allow_concurrent: false,
        after: Some(After {
            workflow: "etl".to_owned(),
            statuses: statuses.to_vec(),
        }),
    }
}

#[test]
fn g4_each_ended_execution_starts_one_execution() {
    on_each_database(|open| {
        let clock = Arc::new(HandClock::at(NOON));
        let engines = [start(open(), &clock), start(open(), &clock)];
        define(
            &engines[0],
            "load",
            vec![(task("a", &[]), body(|_| done()))],
        );
        // An execution that ends before the trigger is registered does not start `load`.
        wait(&engines[0], submit(&engines[0], "etl"));
        let statuses = [ExecutionStatus::Completed, ExecutionStatus::Cancelled];
        let register = |engine: &EngineHandle| {
            let answer = engine.begin_register_follower(load_after(&statuses));
            answer.wait(PATIENCE).unwrap().unwrap()
        };
        let id = register(&engines[0]);
        assert_eq!(register(&engines[1]), id);
        let mut ended = Vec::new();
        for round in 0..5 {
            let execution = submit(&engines[round % 2], "etl");
            wait(&engines[round % 2], execution);
            ended.push(execution);
        }
        let held = cloacina::runtime::SubmitRequest {
            start_at: Some(NOON + HOUR),
            ..super::support::request("etl")
        };
        let held = engines[0].submit(vec![held]).unwrap()[0];
        // A program without a runner cancels this execution.
        let client = cloacina::runner::Inspector::new(open(), Arc::clone(&clock) as _);
        client
            .control(held, &cloacina::runtime::Control::Cancel)
            .unwrap();
        ended.push(held);
        let mut ticks = 0;
        until("each end has fired", || {
            // The runners poll for changes of other programs only when their clock advances.
            ticks += 1;
            clock.move_to(NOON + ticks * SECOND / 4);
            executions(&engines[0], id).len() == ended.len()
        });
        let mut causes = Vec::new();
        for started in executions(&engines[0], id) {
            let found = wait(&engines[0], started);
            let input = &found.record().input;
            let cause = input.get("ended_execution_id").unwrap().as_str().to_owned();
            causes.push(cause.trim_matches('"').parse::<ExecutionId>().unwrap());
        }
        causes.sort_unstable();
        ended.sort_unstable();
        assert_eq!(causes, ended);
        let reasons = engines[0]
            .inspector()
            .explain_schedule(id, &[])
            .unwrap()
            .unwrap();
        let sentences: Vec<String> = reasons.iter().map(|reason| reason.sentence(NOON)).collect();
        assert_eq!(
            sentences,
            [
                "Trigger 'load after etl' is called after each execution of workflow 'etl' that ends as Completed or Cancelled, \
              and starts workflow 'load'. No ended execution waits for it."
            ]
        );
        for engine in engines {
            engine.stop(Duration::from_secs(1));
        }
    });
}

#[test]
fn g4_trigger_is_called_again_after_a_failure_or_a_shutdown() {
    on_each_database(|open| {
        let clock = Arc::new(HandClock::at(NOON));
        let engine = start(open(), &clock);
        define(&engine, "load", vec![(task("a", &[]), body(|_| done()))]);
        let id = register_trigger(&engine, load_after(&[ExecutionStatus::Completed]));
        let ended = submit(&engine, "etl");
        wait(&engine, ended);
        let next = |engine: &EngineHandle| {
            let mut polls = Vec::new();
            until("a call is dispatched", || {
                polls.extend(engine.queues().polls().take());
                !polls.is_empty()
            });
            assert_eq!(polls.len(), 1);
            let poll = polls.remove(0);
            let ends = poll.ends.clone().unwrap();
            assert_eq!(
                ends.iter().map(|end| end.execution).collect::<Vec<_>>(),
                [ended]
            );
            (poll.token, ends[0].attempts)
        };
        let (token, attempts) = next(&engine);
        assert_eq!(attempts, 0);
        engine.end_poll(
            token,
            PollOutcome::Ends(vec![PollOutcome::Failed("ouch".to_owned())]),
        );
        until("the failed call is recorded", || {
            !history(&engine, id).is_empty()
        });
        clock.move_to(NOON + SECOND);
        let (_, attempts) = next(&engine);
        assert_eq!(attempts, 1);
        // The runner stops before it reports the second call, so another runner repeats the call for the same ended execution.
        engine.stop(Duration::from_secs(1));
        let other = start(open(), &clock);
        define(&other, "load", vec![(task("a", &[]), body(|_| done()))]);
        assert_eq!(
            register_trigger(&other, load_after(&[ExecutionStatus::Completed])),
            id
        );
        let (token, attempts) = next(&other);
        assert_eq!(attempts, 1);
        let fire = || PollOutcome::Ends(vec![PollOutcome::Fire(Context::new())]);
        // A second report of the same call has no effect.
        other.end_poll(token, fire());
        other.end_poll(token, fire());
        until("the trigger fires", || executions(&other, id).len() == 1);
        let outcomes: Vec<TickOutcome> = history(&other, id).iter().map(|tick| tick.1).collect();
        assert_eq!(outcomes, [TickOutcome::Failed, TickOutcome::Fired]);
        let record = other
            .inspector()
            .trigger("load after etl")
            .unwrap()
            .unwrap();
        assert_eq!(record.state.last_error, None);
        other.stop(Duration::from_secs(1));
    });
}
