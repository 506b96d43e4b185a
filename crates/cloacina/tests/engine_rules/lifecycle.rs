//! Tests of the D and E rules: retries, timeouts, pauses and rescues.

use std::sync::Arc;

use cloacina::engine::{Changes, Finish, Outcome, TaskLimits};
use cloacina::types::{Claim, Delta, ExecutionStatus, RetryPolicy, TaskStatus};
use cloacina::workflow::TaskDefinition;

use super::{LIMITS, Run, SECOND, failure, task};

#[test]
fn d2_retry_counts_as_attempt_but_snooze_and_release_do_not() {
    let mut run = Run::new(vec![TaskDefinition {
        retry: RetryPolicy {
            max_attempts: 2,
            ..RetryPolicy::default()
        },
        ..task("a", &[])
    }]);
    run.try_run("a", Outcome::Snooze { after: SECOND }).unwrap();
    assert!(run.try_run("a", Outcome::Released).is_none(), "not due yet");
    run.now = run.now + SECOND;
    run.try_run("a", Outcome::Released).unwrap();
    run.try_run(
        "a",
        Outcome::Retry {
            after: Some(0),
            failure: failure("again"),
        },
    )
    .unwrap();
    assert_eq!(run.status("a"), TaskStatus::Ready);
    run.try_run(
        "a",
        Outcome::Retry {
            after: Some(0),
            failure: failure("again"),
        },
    )
    .unwrap();
    assert_eq!(
        (run.status("a"), run.execution.task(0).attempt),
        (TaskStatus::Failed, 2)
    );
}

#[test]
fn d5_timeout_counts_from_the_first_start_and_ends_all_tasks() {
    let mut run = Run::with_timeout(
        vec![task("a", &[]), task("b", &["a"]), task("c", &[])],
        "{}",
        Some(10 * SECOND),
    );
    assert!(
        !run.execution.time_out(run.now + 100 * SECOND).ended,
        "nothing has started"
    );
    let claim = run
        .execution
        .claim(0, run.runner, run.now, &mut Changes::default())
        .unwrap();
    run.execution.start(0, claim, run.now);
    assert!(!run.execution.time_out(run.now + 9 * SECOND).ended);
    assert!(!run.execution.has_timed_out());
    let changes = run.execution.time_out(run.now + 10 * SECOND);
    assert!(changes.ended && run.execution.has_timed_out());
    assert_eq!(changes.interrupted, [(0, claim)]);
    assert_eq!(
        [run.status("a"), run.status("b"), run.status("c")],
        [
            TaskStatus::Cancelled,
            TaskStatus::Skipped,
            TaskStatus::Skipped
        ]
    );
    assert_eq!(
        run.execution.record().error.as_ref().unwrap().1.kind,
        "WorkflowTimeoutError"
    );
}

#[test]
fn d7_pause_by_a_runner_whose_clock_is_behind_adds_no_delay() {
    let mut run = Run::new(vec![TaskDefinition {
        retry: RetryPolicy {
            max_attempts: 3,
            ..RetryPolicy::default()
        },
        ..task("a", &[])
    }]);
    run.try_run(
        "a",
        Outcome::Retry {
            after: Some(10 * SECOND),
            failure: failure("x"),
        },
    )
    .unwrap();
    let retried_at = run.now;
    // A runner whose clock is an hour behind pauses the execution.
    run.execution.pause(retried_at + -3600 * SECOND).unwrap();
    run.execution.resume(retried_at + 100 * SECOND).unwrap();
    let due = run.execution.task(0).ready_at.unwrap();
    // The pause begins at the last recorded time, not an hour earlier.
    assert!(due < retried_at + 120 * SECOND, "due at {due:?}");
}

#[test]
fn d7_retry_delay_is_extended_by_the_length_of_a_pause() {
    let mut run = Run::new(vec![TaskDefinition {
        retry: RetryPolicy {
            max_attempts: 3,
            ..RetryPolicy::default()
        },
        ..task("a", &[])
    }]);
    run.try_run(
        "a",
        Outcome::Retry {
            after: Some(10 * SECOND),
            failure: failure("x"),
        },
    )
    .unwrap();
    let retried_at = run.now;
    run.execution.pause(retried_at + 4 * SECOND).unwrap();
    run.execution.resume(retried_at + 100 * SECOND).unwrap();
    assert_eq!(
        run.execution.task(0).ready_at,
        Some(retried_at + 106 * SECOND)
    );
}

#[test]
fn d7_retry_reruns_unsuccessful_tasks_or_starts_from_a_given_task() {
    let mut run = Run::new(vec![
        task("a", &[]),
        task("l", &["a"]),
        task("r", &["a"]),
        task("join", &["l", "r"]),
    ]);
    run.complete("a", "{}");
    run.complete("l", "{}");
    run.fail("r");
    assert_eq!(run.execution.record().status, ExecutionStatus::Failed);
    run.execution.retry(None, run.now).unwrap();
    assert_eq!(
        [
            run.status("a"),
            run.status("l"),
            run.status("r"),
            run.status("join")
        ],
        [
            TaskStatus::Completed,
            TaskStatus::Completed,
            TaskStatus::Ready,
            TaskStatus::Pending
        ]
    );
    run.complete("r", "{}");
    run.complete("join", "{}");
    assert_eq!(run.execution.record().status, ExecutionStatus::Completed);
    let from = run.execution.workflow().ordinal("l");
    run.execution.retry(from, run.now).unwrap();
    assert_eq!(
        [
            run.status("a"),
            run.status("l"),
            run.status("r"),
            run.status("join")
        ],
        [
            TaskStatus::Completed,
            TaskStatus::Ready,
            TaskStatus::Completed,
            TaskStatus::Pending
        ]
    );
}

/// Claims task 0, and starts it alone if it is a suspect. Then its runner dies, and the task is rescued. Returns the
/// lost claim.
fn claim_and_die(run: &mut Run, limits: TaskLimits) -> Claim {
    let claim = run
        .execution
        .claim(0, run.runner, run.now, &mut Changes::default())
        .unwrap();
    if run.execution.is_suspect(0, limits) {
        assert_eq!(run.execution.probe(0, claim).tasks, [0].into());
    }
    assert_eq!(run.execution.rescue(run.runner, limits, run.now).rescued, 1);
    claim
}

#[test]
fn e2_rescued_task_reruns_and_its_late_result_is_refused() {
    let mut run = Run::new(vec![task("a", &[])]);
    for _ in 0..LIMITS.max_rescues {
        let claim = claim_and_die(&mut run, LIMITS);
        assert_eq!(run.status("a"), TaskStatus::Ready);
        let late = Finish {
            task: 0,
            claim,
            started_at: None,
            outcome: Outcome::Completed(Arc::new(Delta::default())),
        };
        assert!(run.execution.finish(late, LIMITS, run.now, 0.5).is_err());
    }
    claim_and_die(&mut run, LIMITS);
    assert_eq!(run.status("a"), TaskStatus::Failed);
    let message = &run.execution.record().error.as_ref().unwrap().1.message;
    assert!(message.contains("lost its runner 4 times, more than max_rescues 3"));
}

#[test]
fn e2_task_fails_when_it_loses_more_runners_than_max_rescues() {
    for max_rescues in 0..6 {
        let limits = TaskLimits {
            max_rescues,
            ..LIMITS
        };
        let mut run = Run::new(vec![task("a", &[])]);
        for _ in 0..max_rescues {
            claim_and_die(&mut run, limits);
            assert_eq!(run.status("a"), TaskStatus::Ready);
        }
        claim_and_die(&mut run, limits);
        assert_eq!(run.status("a"), TaskStatus::Failed, "{max_rescues}");
    }
}
