//! Tests of timeouts, cancel, pause, retry and shutdown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cloacina::engine::Outcome;
use cloacina::runtime::{Control, Registration};
use cloacina::types::{ErrorCode, ExecutionStatus, TaskStatus};

use super::support::{
    Counter, body, config, define, done, failed, in_memory, on_each_database, request, start,
    submit, task, until, wait,
};

#[test]
fn d6_cancelled_execution_ends_and_cannot_be_retried() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(
            &engine,
            "waits",
            vec![
                (
                    task("a", &[]),
                    body(|_| Outcome::Snooze {
                        after: 3_600_000_000,
                    }),
                ),
                (task("b", &["a"]), body(|_| done())),
            ],
        );
        let id = submit(&engine, "waits");
        assert_eq!(
            engine.control(id, Control::Cancel).unwrap(),
            ExecutionStatus::Cancelled
        );
        let ended = wait(&engine, id);
        assert!(
            ended
                .record()
                .tasks
                .iter()
                .all(|task| task.status == TaskStatus::Cancelled)
        );
        assert_eq!(
            engine.control(id, Control::Cancel).unwrap(),
            ExecutionStatus::Cancelled,
            "a second cancel is not an error"
        );
        let error = engine
            .control(id, Control::Retry { from_task: None })
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::ExecutionState);
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn d5_timed_out_execution_fails_and_all_its_tasks_end() {
    on_each_database(|open| {
        let engine = start(open(), config());
        define(
            &engine,
            "slow",
            vec![
                (task("a", &[]), body(|_| Outcome::Snooze { after: 40_000 })),
                (task("b", &["a"]), body(|_| done())),
            ],
        );
        let mut slow = request("slow");
        slow.timeout = Some(100_000);
        let id = engine.submit(vec![slow]).unwrap()[0];
        let ended = wait(&engine, id);
        assert_eq!(
            ended.record().error.as_ref().unwrap().1.kind,
            "WorkflowTimeoutError"
        );
        assert!(
            ended
                .record()
                .tasks
                .iter()
                .all(|task| task.status.is_terminal())
        );
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn d7_paused_execution_waits_and_ends_after_the_resume() {
    on_each_database(|open| {
        let count = Counter::default();
        let hit = count.clone();
        let poll = body(move |_| {
            hit.hit();
            if hit.get() < 3 {
                Outcome::Snooze { after: 1000 }
            } else {
                done()
            }
        });
        let tasks = || vec![(task("a", &[]), Arc::clone(&poll))];
        let elsewhere = start(in_memory(), config());
        let workflow = define(&elsewhere, "polls", tasks());
        elsewhere.stop(Duration::from_secs(1));
        // The submitter has no function for the task, so the execution cannot start before it is paused.
        let submitter = start(open(), config());
        submitter
            .register(Registration {
                workflow,
                handlers: BTreeMap::new(),
            })
            .unwrap();
        let mut later = request("polls");
        later.start_at = Some(submitter.now() + 1_000_000);
        let id = submitter.submit(vec![later]).unwrap()[0];
        assert_eq!(
            submitter.control(id, Control::Pause).unwrap(),
            ExecutionStatus::Paused
        );
        let engine = start(open(), config());
        define(&engine, "polls", tasks());
        let other = submit(&engine, "polls");
        wait(&engine, other);
        assert_eq!(
            engine.inspector().status(id).unwrap(),
            ExecutionStatus::Paused
        );
        assert_eq!(
            submitter.control(id, Control::Resume).unwrap(),
            ExecutionStatus::Pending
        );
        assert_eq!(
            wait(&engine, id).record().status,
            ExecutionStatus::Completed
        );
        submitter.stop(Duration::from_secs(1));
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn d7_retry_runs_only_failed_tasks() {
    on_each_database(|open| {
        let engine = start(open(), config());
        let (good, bad) = (Counter::default(), Counter::default());
        let (hit_good, hit_bad) = (good.clone(), bad.clone());
        define(
            &engine,
            "half",
            vec![
                (
                    task("good", &[]),
                    body(move |_| {
                        hit_good.hit();
                        done()
                    }),
                ),
                (
                    task("bad", &["good"]),
                    body(move |_| {
                        hit_bad.hit();
                        if hit_bad.get() == 1 {
                            failed("first")
                        } else {
                            done()
                        }
                    }),
                ),
            ],
        );
        let id = submit(&engine, "half");
        assert_eq!(wait(&engine, id).record().status, ExecutionStatus::Failed);
        engine
            .control(id, Control::Retry { from_task: None })
            .unwrap();
        assert_eq!(
            wait(&engine, id).record().status,
            ExecutionStatus::Completed
        );
        assert_eq!((good.get(), bad.get()), (1, 2));
        let error = engine
            .control(
                id,
                Control::Retry {
                    from_task: Some("godo".into()),
                },
            )
            .unwrap_err();
        assert!(error.hint.unwrap().contains("good"));
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn d8_stopped_runner_returns_unfinished_claims() {
    on_each_database(|open| {
        let engine = start(open(), config());
        let started = Counter::default();
        let hit = started.clone();
        let forever = body(move |_| {
            hit.hit();
            std::thread::park_timeout(Duration::from_secs(2));
            done()
        });
        define(&engine, "long", vec![(task("a", &[]), forever)]);
        let id = submit(&engine, "long");
        until("the task started", || started.get() == 1);
        engine.stop(Duration::ZERO);
        assert!(
            engine
                .submit(vec![request("long")])
                .is_err_and(|error| error.code == ErrorCode::RunnerClosed)
        );
        let next = start(open(), config());
        define(&next, "long", vec![(task("a", &[]), body(|_| done()))]);
        let ended = wait(&next, id);
        assert_eq!(ended.record().status, ExecutionStatus::Completed);
        assert_eq!(
            ended.record().tasks[0].attempt,
            1,
            "the interrupted attempt does not count"
        );
        next.stop(Duration::from_secs(1));
    });
}
