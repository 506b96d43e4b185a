//! Tests of several runners on one database, with runners that die or are missing (semantics E).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cloacina::types::ExecutionStatus;

use super::races::pause;
use super::support::{
    Counter, PATIENCE, body, config, define, done, on_each_database, request, start, submit, task,
    until, wait,
};

#[test]
fn c1_dependent_of_tasks_on_two_runners_runs_once() {
    on_each_database(|open| {
        let runs = Counter::default();
        // Each runner runs one task at a time, so the tasks `l` and `r` can run on different runners.
        let mut settings = config();
        settings.max_concurrent_async_tasks = 1;
        let engines = [start(open(), settings.clone()), start(open(), settings)];
        for engine in &engines {
            let hit = runs.clone();
            define(
                engine,
                "join",
                vec![
                    (task("l", &[]), body(|_| done())),
                    (task("r", &[]), body(|_| done())),
                    (
                        task("join", &["l", "r"]),
                        body(move |_| {
                            hit.hit();
                            done()
                        }),
                    ),
                ],
            );
        }
        let ids = engines[0]
            .submit((0..300).map(|_| request("join")).collect())
            .unwrap();
        for id in ids {
            let ended = wait(&engines[1], id);
            assert_eq!(ended.record().status, ExecutionStatus::Completed);
            assert_eq!(ended.record().tasks[2].attempt, 1);
        }
        assert_eq!(runs.get(), 300);
        for engine in engines {
            engine.stop(Duration::from_secs(1));
        }
    });
}

#[test]
fn e2_silent_runner_is_rescued_and_its_late_result_refused() {
    on_each_database(|open| {
        let silent = start(open(), config());
        let (started, gate) = (Counter::default(), Arc::new(AtomicBool::new(false)));
        let (hit, is_open) = (started.clone(), Arc::clone(&gate));
        // Only the first attempt waits. After the silent runner was declared dead, it continues under a new id and may
        // run the second attempt, too.
        let slow = body(move |_| {
            hit.hit();
            let is_first = hit.get() == 1;
            while is_first && !is_open.load(Ordering::SeqCst) {
                pause(Duration::from_millis(1));
            }
            done()
        });
        define(&silent, "w", vec![(task("a", &[]), slow)]);
        let id = submit(&silent, "w");
        until("the silent runner has started its task", || {
            started.get() == 1
        });
        // The other runner starts before the silent runner is declared dead, and so can claim the task as soon as the
        // task is rescued.
        let other = start(open(), config());
        define(&other, "w", vec![(task("a", &[]), body(|_| done()))]);
        let runner = silent.runner_id();
        let store = open();
        let declared = || {
            let rows = store.runners().unwrap();
            let row = rows.iter().find(|row| row.id == runner).unwrap();
            // `declare_dead` returns false if a heartbeat has extended the lease since `row` was read.
            store
                .declare_dead(runner, row.lease_until, silent.now())
                .unwrap()
        };
        until("the silent runner was declared dead", declared);
        let ended = wait(&other, id);
        assert_eq!(ended.record().status, ExecutionStatus::Completed);
        assert_eq!(ended.record().tasks[0].rescues, 1);
        let before = other.inspector().execution(id).unwrap();
        gate.store(true, Ordering::SeqCst);
        silent.stop(PATIENCE);
        assert_eq!(
            other.inspector().execution(id).unwrap().record(),
            before.record(),
            "the late result changed nothing"
        );
        other.stop(Duration::from_secs(1));
    });
}

#[test]
fn e5_execution_without_a_suitable_runner_stays_pending() {
    on_each_database(|open| {
        let first = start(open(), config());
        define(&first, "known", vec![(task("a", &[]), body(|_| done()))]);
        first.stop(Duration::from_secs(1));
        let stranger = start(open(), config());
        define(&stranger, "other", vec![(task("a", &[]), body(|_| done()))]);
        let id = submit(&stranger, "known");
        let other = submit(&stranger, "other");
        wait(&stranger, other);
        assert_eq!(
            stranger.inspector().status(id).unwrap(),
            ExecutionStatus::Pending
        );
        let owner = start(open(), config());
        define(&owner, "known", vec![(task("a", &[]), body(|_| done()))]);
        assert_eq!(
            wait(&stranger, id).record().status,
            ExecutionStatus::Completed
        );
        owner.stop(Duration::from_secs(1));
        stranger.stop(Duration::from_secs(1));
    });
}
