//! Tests of steps in which the coordinator processes several events, and of steps that get no answer from the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloacina::engine::{Finish, Outcome};
use cloacina::runtime::{Answer, Control, Executor, Message, RunnerConfig, SubmitRequest};
use cloacina::store::Store;
use cloacina::store::failpoint::{Moment, Verb};
use cloacina::types::{Clock, ExecutionId, ExecutionStatus, NO_TIMEOUT, TaskStatus};

use super::stepped::{MILLISECOND, SECOND, SteppedRunner, with_timeout};
use super::support::{config, done, failed, request};

#[test]
fn d5_result_wins_over_the_timeout_of_a_paused_execution() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(with_timeout());
    let (token, assignment) = runner.start_next().unwrap();
    runner.others.control(id, &Control::Pause).unwrap();
    // The poll for changes fails, so the deadline passes before the runner has noticed the pause.
    runner.fail_once(Verb::Changes, Moment::Before);
    runner.pass(2 * SECOND);
    runner.clock.pass(50 * MILLISECOND);
    drop(runner.queues.of(Executor::Threads).complete(token));
    runner.step(Message::Finished {
        execution: id,
        finish: Finish {
            task: 0,
            claim: assignment.claim,
            started_at: Some(runner.clock.now()),
            outcome: done(),
        },
        executor: Executor::Threads,
        ran: MILLISECOND,
    });
    for _ in 0..5 {
        runner.pass(MILLISECOND);
    }
    assert_eq!(runner.task(id).status, TaskStatus::Completed);
    assert!(
        runner.start_next().is_none(),
        "the task must not run a second time"
    );
    let status = runner.store.statuses(&[id]).unwrap()[0].1;
    assert_eq!(status, ExecutionStatus::Completed);
}

#[test]
fn d5_deadline_of_a_paused_execution_causes_no_busy_loop() {
    let mut runner = SteppedRunner::new(RunnerConfig {
        cache_bytes: 0,
        ..config()
    });
    let id = runner.submit(with_timeout());
    let attempt = runner.start_next().unwrap();
    runner.control(id, Control::Pause);
    // After the snooze the execution has no running task, so it is evicted from the cache after each step.
    let after = 100 * SECOND;
    runner.finish(attempt, Outcome::Snooze { after });
    runner.pass(2 * SECOND);
    let due = runner.coordinator.step(Vec::new());
    assert!(
        due > runner.clock.monotonic(),
        "the coordinator does not pause between steps"
    );
    assert_eq!(runner.status(id), ExecutionStatus::Paused);
}

#[test]
fn d7_stuck_attempts_do_not_block_slots_after_a_retry() {
    let mut runner = SteppedRunner::new(RunnerConfig {
        max_concurrent_tasks: 1,
        ..config()
    });
    let stuck = runner.submit(with_timeout());
    for attempt in 1..=20 {
        let (_, assignment) = runner.start_next().unwrap();
        assert_eq!(assignment.claim.attempt, attempt);
        runner.pass(2 * SECOND);
        runner.control(stuck, Control::Retry { from_task: None });
    }
    let fresh = runner.submit(request("w"));
    assert!(
        runner.start_next().is_some(),
        "the last attempt of the stuck execution is dispatched"
    );
    let (_, assignment) = runner.start_next().unwrap();
    assert_eq!(assignment.execution, fresh);
}

#[test]
fn e6_task_starts_despite_a_lost_answer_and_an_old_attempt() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(with_timeout());
    runner.start_next().unwrap();
    runner.pass(2 * SECOND);
    let retry = Control::Retry { from_task: None };
    runner.others.control(id, &retry).unwrap();
    runner.fail_once(Verb::Commit, Moment::After);
    for _ in 0..10 {
        runner.pass(50 * MILLISECOND);
    }
    assert_eq!(runner.task(id).status, TaskStatus::Running);
    let (_, assignment) = runner.start_next().unwrap();
    assert_eq!(assignment.claim.attempt, 2);
}

#[test]
fn d6_cancel_notifies_callers_even_in_a_step_with_a_rescue() {
    let mut runner = SteppedRunner::new(config());
    let mut doomed = runner.peer(config());
    let id = doomed.submit(request("w"));
    let lease = i64::try_from(config().lease_ttl.as_micros()).unwrap();
    runner.clock.pass(2 * lease);
    let notified = Arc::new(AtomicBool::new(false));
    let notify = Arc::clone(&notified);
    runner
        .subscriptions
        .subscribe(id, move |_| notify.store(true, Ordering::SeqCst));
    runner.control(id, Control::Cancel);
    // The cancelling step itself notifies the caller. The next poll can be much later.
    assert!(notified.load(Ordering::SeqCst));
    let status = runner.store.statuses(&[id]).unwrap()[0].1;
    assert_eq!(status, ExecutionStatus::Cancelled);
}

#[test]
fn d7_failure_retried_in_the_same_step_calls_no_success_callback() {
    let mut runner = SteppedRunner::new(config());
    runner.register(true);
    let id = runner.submit(request("w"));
    let (token, assignment) = runner.start_next().unwrap();
    drop(runner.queues.of(Executor::Threads).complete(token));
    let finished = Message::Finished {
        execution: id,
        finish: Finish {
            task: 0,
            claim: assignment.claim,
            started_at: Some(runner.clock.now()),
            outcome: failed("no"),
        },
        executor: Executor::Threads,
        ran: MILLISECOND,
    };
    let retry = Message::Control {
        execution: id,
        action: Control::Retry { from_task: None },
        give_up: runner.clock.monotonic() + SECOND,
        reply: Box::new(|status| assert!(!status.unwrap().is_terminal())),
    };
    runner.coordinator.step(vec![finished, retry]);
    let (_, again) = runner.start_next().unwrap();
    assert_eq!(again.claim.attempt, 2);
}

#[test]
fn d4_timeout_and_retry_in_one_step_stop_the_attempt() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(with_timeout());
    let (_, assignment) = runner.start_next().unwrap();
    // After these idle steps the runner has no other work in the step that handles the timeout and the retry.
    for _ in 0..3 {
        runner.pass(200 * MILLISECOND);
    }
    runner.clock.pass(2 * SECOND);
    let retry = Message::Control {
        execution: id,
        action: Control::Retry { from_task: None },
        give_up: runner.clock.monotonic() + SECOND,
        reply: Box::new(|status| assert!(!status.unwrap().is_terminal())),
    };
    let timeout = Message::Deadline { execution: id };
    runner.coordinator.step(vec![timeout, retry]);
    assert!(assignment.cancelled.load(Ordering::SeqCst));
    let (_, again) = runner.start_next().unwrap();
    assert_eq!(again.claim.attempt, 2);
    assert!(!again.cancelled.load(Ordering::SeqCst));
}

/// Returns a message with a control action, and the answer to it. A test can put several messages into one step.
fn message_of(
    runner: &SteppedRunner,
    execution: ExecutionId,
    action: Control,
) -> (Message, Answer<ExecutionStatus>) {
    let (answer, reply) = Answer::new();
    let message = Message::Control {
        execution,
        action,
        give_up: runner.clock.monotonic() + 10 * SECOND,
        reply,
    };
    (message, answer)
}

#[test]
fn d6_cancel_with_a_lost_commit_answer_succeeds() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(request("w"));
    let (cancel, answer) = message_of(&runner, id, Control::CancelOpen);
    runner.fail_once(Verb::Commit, Moment::After);
    runner.step(cancel);
    assert!(
        answer.wait(Duration::ZERO).is_none(),
        "the outcome is not known yet"
    );
    runner.pass(SECOND);
    let status = answer.wait(Duration::ZERO).unwrap().unwrap();
    assert_eq!(status, ExecutionStatus::Cancelled);
}

#[test]
fn d7_retry_with_a_lost_commit_answer_succeeds() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(request("w"));
    let attempt = runner.start_next().unwrap();
    runner.finish(attempt, failed("no"));
    let (retry, answer) = message_of(&runner, id, Control::Retry { from_task: None });
    runner.fail_once(Verb::Commit, Moment::After);
    runner.step(retry);
    assert!(
        answer.wait(Duration::ZERO).is_none(),
        "the outcome is not known yet"
    );
    runner.pass(SECOND);
    let status = answer.wait(Duration::ZERO).unwrap().unwrap();
    assert!(!status.is_terminal());
}

#[test]
fn d6_second_cancel_is_answered_after_the_first_is_durable() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(request("w"));
    let (first, done) = message_of(&runner, id, Control::CancelOpen);
    let (second, refused) = message_of(&runner, id, Control::CancelOpen);
    runner.fail_once(Verb::Commit, Moment::Before);
    runner.coordinator.step(vec![first, second]);
    assert!(done.wait(Duration::ZERO).is_none());
    assert!(
        refused.wait(Duration::ZERO).is_none(),
        "the first cancel is not durable yet"
    );
    runner.pass(SECOND);
    assert!(done.wait(Duration::ZERO).unwrap().is_ok());
    assert!(refused.wait(Duration::ZERO).unwrap().is_err());
    assert_eq!(runner.status(id), ExecutionStatus::Cancelled);
}

#[test]
fn d6_cancel_of_a_cancelled_execution_writes_nothing() {
    let mut runner = SteppedRunner::new(config());
    let id = runner.submit(request("w"));
    runner.control(id, Control::Cancel);
    let revision = |runner: &SteppedRunner| runner.store.load(&[id]).unwrap()[0].revision;
    let before = revision(&runner);
    runner.control(id, Control::Cancel);
    assert_eq!(revision(&runner), before);
}

#[test]
fn d5_submission_without_a_runner_stores_a_trace_and_no_timeout() {
    let runner = SteppedRunner::new(config());
    let endless = SubmitRequest {
        timeout: Some(NO_TIMEOUT),
        trace: Some(Arc::from(r#"{"traceparent":"00-1"}"#)),
        ..request("w")
    };
    let id = runner.others.submit_request(endless).unwrap().id;
    assert_eq!(runner.store.load(&[id]).unwrap()[0].timeout, None);
    let trace = runner.others.trace(id).unwrap().unwrap();
    assert!(trace.contains("00-1"), "{trace}");
}
