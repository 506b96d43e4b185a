//! Tests that a failing schedule or trigger does not affect others and is tried again.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use cloacina::engine::schedule::NewSchedule;
use cloacina::engine::trigger::{NewTrigger, PollOutcome};
use cloacina::runtime::{Message, RunnerConfig};
use cloacina::store::failpoint::{Moment, Verb};
use cloacina::store::{Store, StoreError};
use cloacina::types::{Clock, ScheduleId};

use super::stepped::{MILLISECOND, SECOND, SteppedRunner};
use super::support::config;

/// One hour, in microseconds.
const HOUR: i64 = 3_600 * SECOND;

fn add_schedule(runner: &SteppedRunner, instance: &str) -> ScheduleId {
    let new = NewSchedule {
        instance: Some(instance.to_owned()),
        ..NewSchedule::new("w", "*/10 * * * * *", "UTC")
    };
    let id = ScheduleId::generate();
    let record = new.record(id, runner.clock.now()).unwrap();
    runner.store.put_schedule(&record, None).unwrap();
    id
}

fn ticks(runner: &SteppedRunner, id: ScheduleId) -> usize {
    runner.store.ticks(id, 1_000, 0).unwrap().len()
}

/// Returns a runner with a trigger. The trigger has an interval of an hour, and its first poll has been dispatched.
fn with_trigger(config: RunnerConfig) -> (SteppedRunner, ScheduleId) {
    let mut runner = SteppedRunner::new(config);
    let added = Arc::new(Mutex::new(None));
    let reply = Arc::clone(&added);
    runner.step(Message::RegisterTrigger {
        trigger: NewTrigger {
            name: "t".to_owned(),
            workflow: "w".to_owned(),
            interval: Some(HOUR),
            expression: None,
            timezone: "UTC".to_owned(),
            allow_concurrent: false,
            after: None,
        },
        handler: Some(1),
        reply: Box::new(move |id| *reply.lock().unwrap() = Some(id.unwrap())),
    });
    runner.pass(MILLISECOND);
    let id = added.lock().unwrap().expect("the trigger is stored");
    (runner, id)
}

#[test]
fn refused_schedule_does_not_block_others() {
    let mut runner = SteppedRunner::new(config());
    let bad = add_schedule(&runner, "bad");
    runner.refuse(move |batch| {
        let has_bad = batch.schedules.iter().any(|write| write.record.id == bad);
        has_bad.then(|| StoreError::Refused("no such character".to_owned()))
    });
    let others: Vec<ScheduleId> = (0..3)
        .map(|number| add_schedule(&runner, &number.to_string()))
        .collect();
    runner.step(Message::Rescheduled);
    let mut immediate_steps = 0;
    for _ in 0..40 {
        runner.clock.pass(SECOND / 2);
        while runner.coordinator.step(Vec::new()) <= runner.clock.monotonic() {
            immediate_steps += 1;
            assert!(
                immediate_steps < 100,
                "the coordinator does not pause between steps"
            );
        }
    }
    for id in others {
        assert!(ticks(&runner, id) >= 1);
    }
    assert_eq!(ticks(&runner, bad), 0);
}

#[test]
fn g1_changed_trigger_is_polled_after_a_failed_read() {
    let (mut runner, id) = with_trigger(RunnerConfig {
        enable_cron: false,
        ..config()
    });
    let poll = runner.queues.polls().take().remove(0);
    runner.step(Message::Polled {
        token: poll.token,
        outcome: PollOutcome::Skip,
    });
    runner.pass(SECOND);
    assert!(runner.queues.polls().take().is_empty());
    let mut record = runner.store.schedule(id).unwrap().unwrap();
    record.wake_at = Some(runner.clock.now());
    record.next_due = record.wake_at;
    let expected = record.revision;
    record.revision += 1;
    (runner.store.put_schedule(&record, Some(expected))).unwrap();
    runner.fail_always(Verb::DueSchedules, Moment::Before);
    runner.step(Message::Rescheduled);
    runner.pass(SECOND);
    runner.fail_never();
    for _ in 0..20 {
        runner.pass(SECOND / 2);
    }
    assert_eq!(runner.queues.polls().take().len(), 1);
}

#[test]
fn poll_of_an_unreadable_trigger_causes_no_outage() {
    let (mut runner, id) = with_trigger(config());
    let poll = runner.queues.polls().take().remove(0);
    // Another program changes the trigger, so the poll's result cannot be written with the known revision.
    let mut record = runner.store.schedule(id).unwrap().unwrap();
    let expected = record.revision;
    record.revision += 1;
    (runner.store.put_schedule(&record, Some(expected))).unwrap();
    runner.faulty.hides_schedules.store(true, Ordering::SeqCst);
    runner.step(Message::Polled {
        token: poll.token,
        outcome: PollOutcome::Skip,
    });
    for _ in 0..3 {
        runner.pass(SECOND);
    }
    assert!(runner.coordinator.is_database_up());
}
