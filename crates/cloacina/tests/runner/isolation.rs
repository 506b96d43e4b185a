//! Tests that a failure affects only the item that caused it, and that jumps of the wall clock have no effect.

use std::sync::atomic::Ordering;
use std::time::Duration;

use cloacina::engine::Outcome;
use cloacina::runtime::{Control, Executor, Message, OneShot, ProgressBuffer, RunnerConfig};
use cloacina::store::failpoint::{Moment, Verb};
use cloacina::store::{Batch, Store, StoreError};
use cloacina::types::{Clock, ExecutionId, ExecutionStatus, Progress, TaskStatus};

use super::stepped::{MILLISECOND, SECOND, SteppedRunner, with_timeout};
use super::support::{config, done, request, wrote};

/// One hour, in microseconds.
const HOUR: i64 = 3_600 * SECOND;
/// The length of a large result, in characters.
const LARGE: usize = 1 << 20;

/// Returns an outcome that `refuse_poison` refuses.
fn poison() -> Outcome {
    wrote("poison", "1")
}

/// Refuses a batch in which a task sets the key `poison`, like a database that cannot store the value.
fn refuse_poison(batch: &Batch) -> Option<StoreError> {
    let is_poison = |execution: &&_| {
        let advance: &cloacina::store::Advance = execution;
        let deltas = advance.record.tasks.iter();
        deltas
            .filter_map(|task| task.delta.as_deref())
            .any(|delta| delta.set.contains_key("poison"))
    };
    let found = batch.advances.iter().find(is_poison);
    found.map(|_| StoreError::Refused("no such character".to_owned()))
}

/// Returns a runner that can run `count` tasks at a time, and `count` executions of one task.
fn busy(count: usize) -> (SteppedRunner, Vec<ExecutionId>) {
    let mut runner = SteppedRunner::new(RunnerConfig {
        max_concurrent_tasks: count,
        ..config()
    });
    let ids = (0..count).map(|_| runner.submit(request("w"))).collect();
    (runner, ids)
}

#[test]
fn only_the_task_with_the_refused_result_fails() {
    let (mut runner, ids) = busy(64);
    runner.refuse(refuse_poison);
    let mut messages = Vec::new();
    let mut poisoned = None;
    while let Some(started) = runner.start_next() {
        let id = started.1.execution;
        let outcome = if messages.len() == 41 {
            poisoned = Some(id);
            poison()
        } else {
            done()
        };
        let message = runner.finished(started, outcome);
        messages.push(message);
    }
    assert_eq!(messages.len(), 64);
    runner.coordinator.step(messages);
    assert!(
        runner.coordinator.is_database_up(),
        "one refused item does not cause an outage"
    );
    let poisoned = poisoned.unwrap();
    for id in ids {
        if id != poisoned {
            assert_eq!(runner.status(id), ExecutionStatus::Completed);
        }
    }
    assert_eq!(runner.status(poisoned), ExecutionStatus::Failed);
    let error = runner.task(poisoned).error.unwrap();
    assert!(error.message.contains("no such character"), "{error:?}");
    assert!(!error.retryable);
}

#[test]
fn unreadable_execution_does_not_block_rescues() {
    let (mut runner, ids) = busy(40);
    while runner.start_next().is_some() {}
    let next = runner.peer(RunnerConfig {
        max_concurrent_tasks: 64,
        ..config()
    });
    next.faulty.unreadable.lock().insert(ids[17]);
    drop(runner.coordinator);
    let mut runner = next;
    for _ in 0..40 {
        runner.pass(SECOND / 2);
        assert!(
            runner.coordinator.is_database_up(),
            "one bad row does not cause an outage"
        );
    }
    while let Some(started) = runner.start_next() {
        runner.finish(started, done());
    }
    for id in &ids {
        let expected = if *id == ids[17] {
            // The dead runner did not record that the execution had started, so the status is still pending.
            ExecutionStatus::Pending
        } else {
            ExecutionStatus::Completed
        };
        assert_eq!(runner.status(*id), expected);
    }
    let refused = runner.ask(ids[17], Control::Cancel);
    let error = refused.unwrap_err();
    assert!(error.message.contains("cannot read execution"), "{error:?}");
}

#[test]
fn caller_that_waits_for_an_unreadable_execution_gets_an_error() {
    let mut runner = SteppedRunner::new(config());
    runner.pass(50 * MILLISECOND);
    let mut other = runner.peer(config());
    let id = other.submit(request("w"));
    let started = other.start_next().unwrap();
    let answered = OneShot::default();
    let answer = answered.clone();
    runner
        .subscriptions
        .subscribe(id, move |ended| answer.set(ended));
    runner.faulty.unreadable.lock().insert(id);
    other.finish(started, done());
    runner.pass(50 * MILLISECOND);
    let error = answered
        .wait(Duration::ZERO)
        .expect("the caller gets an answer");
    assert!(error.unwrap_err().message.contains("cannot read execution"));
}

#[test]
fn tasks_complete_while_progress_cannot_be_written() {
    let mut runner = SteppedRunner::new(config());
    runner.fail_always(Verb::NoteInsight, Moment::Before);
    for _ in 0..20 {
        let id = runner.submit(request("w"));
        let started = runner.start_next().unwrap();
        let buffer: &ProgressBuffer = &started.1.insight;
        buffer.note_progress(Progress {
            execution: id,
            task: 0,
            attempt: 1,
            done: 1.0,
            total: 2.0,
            message: None,
            time: runner.clock.now(),
        });
        runner.pass(SECOND);
        runner.finish(started, done());
        assert_eq!(runner.status(id), ExecutionStatus::Completed);
        assert!(runner.coordinator.is_database_up());
    }
}

#[test]
fn refused_claim_does_not_affect_results() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(request("w"));
    let started = runner.start_next().unwrap();
    // Every claim fails, as if the index of ready tasks contained a row that is not ready.
    runner.refuse(|batch| {
        let claims = !batch.claim.classes.is_empty();
        claims.then(|| StoreError::Corrupt("a row that is not ready".to_owned()))
    });
    // After a notification the runner polls for work, and its claim is refused.
    runner.store.notify_peers().unwrap();
    runner.step(Message::Watch);
    runner.finish(started, done());
    for _ in 0..5 {
        runner.pass(SECOND);
    }
    assert_eq!(runner.status(id), ExecutionStatus::Completed);
    assert!(runner.coordinator.is_database_up());
}

#[test]
fn failed_poll_for_changes_is_repeated() {
    let mut runner = SteppedRunner::new(config());
    runner.pass(50 * MILLISECOND);
    let mut other = runner.peer(RunnerConfig {
        max_concurrent_tasks: 1,
        ..config()
    });
    // The other runner has one worker, so it leaves most tasks to this runner.
    for _ in 0..20 {
        other.submit(request("w"));
    }
    runner.fail_once(Verb::Overdue, Moment::Before);
    runner.pass(50 * MILLISECOND);
    assert!(runner.start_next().is_none(), "the poll failed");
    for _ in 0..5 {
        runner.pass(50 * MILLISECOND);
    }
    assert!(runner.start_next().is_some());
}

#[test]
fn large_results_are_written_in_batches_of_limited_size() {
    let (mut runner, ids) = busy(100);
    let text = format!("\"{}\"", "x".repeat(LARGE));
    let mut messages = Vec::new();
    while let Some(started) = runner.start_next() {
        let message = runner.finished(started, wrote("large", &text));
        messages.push(message);
    }
    assert_eq!(messages.len(), 100);
    // The first commit fails, so all results still have to be written afterwards.
    runner.fail_once(Verb::Commit, Moment::Before);
    runner.coordinator.step(messages);
    for _ in 0..20 {
        runner.pass(100 * MILLISECOND);
    }
    for id in ids {
        assert_eq!(runner.status(id), ExecutionStatus::Completed);
    }
    assert!(
        runner.start_next().is_none(),
        "a task whose result is written in a later step must not run again"
    );
    let largest = runner.faulty.largest_batch.load(Ordering::SeqCst);
    assert!(
        largest > 0 && largest <= 33 << 20,
        "the largest batch has {largest} bytes"
    );
}

#[test]
fn clock_set_forward_causes_no_timeout() {
    let mut runner = SteppedRunner::new(config());
    let limited = runner.submit(with_timeout());
    let started = runner.start_next().unwrap();
    let id = runner.submit(request("w"));
    let second = runner.start_next().unwrap();
    runner.clock.set(HOUR);
    runner.pass(100 * MILLISECOND);
    assert_eq!(runner.task(limited).status, TaskStatus::Running);
    assert_eq!(runner.task(id).status, TaskStatus::Running);
    runner.clock.set(-HOUR);
    runner.pass(100 * MILLISECOND);
    runner.finish(started, done());
    runner.finish(second, done());
    assert_eq!(runner.status(limited), ExecutionStatus::Completed);
    assert_eq!(runner.status(id), ExecutionStatus::Completed);
}

#[test]
fn clock_set_back_does_not_delay_timeouts() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(with_timeout());
    let _entered = runner.start_next().unwrap();
    runner.pass(500 * MILLISECOND);
    runner.clock.set(-HOUR);
    runner.pass(400 * MILLISECOND);
    assert_eq!(runner.status(id), ExecutionStatus::Running);
    runner.pass(200 * MILLISECOND);
    assert_eq!(runner.status(id), ExecutionStatus::Failed);
}

#[test]
fn runner_started_after_a_clock_jump_causes_no_timeout() {
    let mut first = SteppedRunner::new(config());
    let id = first.submit(with_timeout());
    let started = first.start_next().unwrap();
    first.pass(500 * MILLISECOND);
    first.clock.set(HOUR);
    let mut second = first.peer(config());
    for _ in 0..4 {
        first.clock.pass(100 * MILLISECOND);
        second.coordinator.step(Vec::new());
    }
    assert_eq!(first.status(id), ExecutionStatus::Running);
    first.finish(started, done());
    assert_eq!(first.status(id), ExecutionStatus::Completed);
}

#[test]
fn heartbeats_continue_when_the_clock_is_set_back() {
    let mut runner = SteppedRunner::new(config());
    runner.pass(SECOND);
    runner.clock.set(-HOUR);
    let heartbeat = |runner: &SteppedRunner| runner.store.runners().unwrap()[0].heartbeat_at;
    let before = heartbeat(&runner);
    for _ in 0..6 {
        runner.pass(SECOND);
    }
    assert_ne!(heartbeat(&runner), before, "no heartbeat was sent");
}

#[test]
fn two_runners_keep_their_leases_while_the_clock_jumps() {
    let mut first = SteppedRunner::new(config());
    let mut second = first.peer(config());
    let id = first.submit(request("w"));
    let started = first.start_next().unwrap();
    for jump in [HOUR, -HOUR, -HOUR, HOUR, HOUR, -HOUR] {
        first.clock.set(jump);
        for _ in 0..40 {
            first.pass(SECOND / 2);
            second.coordinator.step(Vec::new());
        }
        assert_eq!(first.task(id).rescues, 0);
    }
    first.finish(started, done());
    assert_eq!(first.status(id), ExecutionStatus::Completed);
}

/// Drops a runner without a shutdown and starts another one. Runs the new runner for `seconds`.
fn replace_dead_runner(dead: SteppedRunner, seconds: i64) -> SteppedRunner {
    let next = dead.peer(RunnerConfig {
        lease_ttl: Duration::from_secs(2),
        heartbeat_interval: Duration::from_secs(1),
        ..config()
    });
    drop(dead.coordinator);
    let mut next = next;
    for _ in 0..seconds * 2 {
        next.pass(SECOND / 2);
    }
    next
}

#[test]
fn e2_only_the_task_that_kills_its_process_fails() {
    let mut runner = SteppedRunner::new(RunnerConfig {
        lease_ttl: Duration::from_secs(2),
        heartbeat_interval: Duration::from_secs(1),
        ..config()
    });
    let ids: Vec<ExecutionId> = (0..4).map(|_| runner.submit(request("w"))).collect();
    let poison = ids[2];
    let mut deaths = 0;
    loop {
        let mut started = Vec::new();
        while let Some(work) = runner.start_next() {
            started.push(work);
        }
        if started.is_empty() {
            break;
        }
        if started.iter().any(|(_, work)| work.execution == poison) {
            deaths += 1;
            assert!(deaths < 10, "the task kills its process again and again");
            runner = replace_dead_runner(runner, 8);
            continue;
        }
        for work in started {
            runner.finish(work, done());
            runner.pass(MILLISECOND);
        }
    }
    for id in ids {
        let expected = if id == poison {
            ExecutionStatus::Failed
        } else {
            ExecutionStatus::Completed
        };
        assert_eq!(runner.status(id), expected);
    }
    assert_eq!(
        deaths, 4,
        "the task runs twice with other tasks and twice alone"
    );
}

// A task that lost its runner twice is a suspect. Suspects wait in the quarantine and run one at a time.
#[test]
fn e2_cancelled_suspect_leaves_the_quarantine() {
    let mut runner = SteppedRunner::new(config());
    let ids: Vec<ExecutionId> = (0..3).map(|_| runner.submit(request("w"))).collect();
    for _ in 0..2 {
        while runner.start_next().is_some() {}
        runner = replace_dead_runner(runner, 20);
    }
    let (token, first) = runner.start_next().expect("one suspect is started alone");
    assert!(runner.start_next().is_none());
    let waiting: Vec<ExecutionId> = ids
        .into_iter()
        .filter(|id| *id != first.execution)
        .collect();
    runner.control(waiting[0], Control::Cancel);
    runner.finish((token, first), done());
    runner.pass(MILLISECOND);
    let (_, last) = runner.start_next().expect("the other suspect is started");
    assert_eq!(last.execution, waiting[1]);
    assert_eq!(runner.status(waiting[0]), ExecutionStatus::Cancelled);
    let fresh = runner.submit(request("w"));
    assert!(runner.start_next().is_none(), "a suspect runs alone");
    assert_eq!(runner.task(fresh).status, TaskStatus::Ready);
    assert_eq!(runner.queues.of(Executor::Threads).load().0, 1);
}

#[test]
fn e2_suspect_cancelled_when_another_suspect_ends_does_not_run() {
    let mut runner = SteppedRunner::new(config());
    let ids: Vec<ExecutionId> = (0..2).map(|_| runner.submit(request("w"))).collect();
    for _ in 0..2 {
        while runner.start_next().is_some() {}
        runner = replace_dead_runner(runner, 20);
    }
    let first = runner.start_next().expect("one suspect is started alone");
    let other = ids.into_iter().find(|id| *id != first.1.execution).unwrap();
    let cancel = Message::Control {
        execution: other,
        action: Control::Cancel,
        give_up: runner.clock.monotonic() + SECOND,
        reply: Box::new(|status| assert_eq!(status.unwrap(), ExecutionStatus::Cancelled)),
    };
    let ended = runner.finished(first, done());
    runner.coordinator.step(vec![ended, cancel]);
    assert!(
        runner.start_next().is_none(),
        "the other suspect is cancelled"
    );
    let fresh = runner.submit(request("w"));
    runner.pass(MILLISECOND);
    let (_, next) = runner.start_next().expect("the quarantine is over");
    assert_eq!(next.execution, fresh);
}

#[test]
fn d5_ended_execution_is_not_read_again_at_its_deadline() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(with_timeout());
    let started = runner.start_next().unwrap();
    // In practice the wall clock and the monotonic clock are read one after the other, so they differ slightly.
    runner.clock.set(3);
    runner.pass(MILLISECOND);
    runner.finish(started, done());
    assert_eq!(runner.status(id), ExecutionStatus::Completed);
    runner.faulty.unreadable.lock().insert(id);
    runner.pass(2 * SECOND);
    assert_eq!(runner.coordinator.idle_bytes(), 0);
    assert_eq!(runner.faulty.unreadable_reads.load(Ordering::SeqCst), 0);
}
