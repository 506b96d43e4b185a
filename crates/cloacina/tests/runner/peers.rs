//! Tests of several runners on one database: they share the work, and learn which executions other runners have ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cloacina::runner::EngineHandle;
use cloacina::runtime::{Registration, RunnerConfig};
use cloacina::store::failpoint::{Failpoint, FailpointStore, Failpoints, Moment, Verb};
use cloacina::store::{Store, StoreError};
use cloacina::types::{ExecutionId, ExecutionStatus, TaskStatus};
use cloacina::workflow::Workflow;

use super::support::{
    Counter, body, config, define, done, on_each_database, request, start, task, until, wait,
};

/// Counts how often executions are read.
#[derive(Default)]
struct ReadCounter(AtomicUsize);

impl Failpoints for ReadCounter {
    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        if point.moment == Moment::Before && matches!(point.verb, Verb::Load | Verb::Statuses) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

/// Starts a runner that knows a workflow but has no handlers. Other runners run the executions that it submits.
fn start_without_functions(store: Arc<dyn Store>, workflow: Arc<Workflow>) -> EngineHandle {
    let runner = start(store, config());
    runner
        .register(Registration {
            workflow,
            handlers: BTreeMap::new(),
        })
        .unwrap();
    runner
}

#[test]
fn executions_that_other_runners_ended_are_read_in_batches() {
    const COUNT: usize = 400;
    on_each_database(|open| {
        let worker = start(open(), config());
        let tasks = || vec![(task("only", &[]), body(|_| done()))];
        let workflow = define(&worker, "single", tasks());
        let reads = Arc::new(ReadCounter::default());
        let store = FailpointStore::new(open(), Arc::clone(&reads) as Arc<dyn Failpoints>);
        let submitter = start_without_functions(Arc::new(store), workflow);
        let requests = (0..COUNT).map(|_| request("single")).collect();
        let ids = submitter.submit(requests).unwrap();
        until("all executions have ended", || {
            let states = open().statuses(&ids).unwrap();
            states.iter().all(|(_, status)| status.is_terminal())
        });
        let before = reads.0.load(Ordering::SeqCst);
        for id in &ids {
            let status = wait(&submitter, *id).record().status;
            assert_eq!(status, ExecutionStatus::Completed);
        }
        let reads = reads.0.load(Ordering::SeqCst) - before;
        assert!(reads < COUNT / 4, "{reads} reads for {COUNT} results");
        submitter.stop(Duration::from_secs(1));
        worker.stop(Duration::from_secs(1));
    });
}

/// Counts the polls for changes, and can make one read of statuses fail.
#[derive(Default)]
struct FailingRead {
    polls: AtomicUsize,
    /// Whether the next read of statuses fails. The failing read clears this flag.
    fails: AtomicBool,
}

impl Failpoints for FailingRead {
    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        match (point.moment, point.verb) {
            (Moment::After, Verb::Changes) => {
                self.polls.fetch_add(1, Ordering::SeqCst);
            }
            (Moment::Before, Verb::Statuses) if self.fails.swap(false, Ordering::SeqCst) => {
                return Err(StoreError::Unavailable("the connection broke".into()));
            }
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn caller_is_answered_after_a_failed_read_without_further_changes() {
    on_each_database(|open| {
        let worker = start(open(), config());
        let tasks = || vec![(task("only", &[]), body(|_| done()))];
        let workflow = define(&worker, "single", tasks());
        let points = Arc::new(FailingRead::default());
        let store = FailpointStore::new(open(), Arc::clone(&points) as Arc<dyn Failpoints>);
        let submitter = start_without_functions(Arc::new(store), workflow);
        let id = submitter.submit(vec![request("single")]).unwrap()[0];
        until("the execution has ended", || {
            open().statuses(&[id]).unwrap()[0].1.is_terminal()
        });
        worker.stop(Duration::from_secs(1));
        // After two more polls, the submitter has processed all changes of the worker.
        let polls = points.polls.load(Ordering::SeqCst) + 2;
        until("the submitter polls", || {
            points.polls.load(Ordering::SeqCst) >= polls
        });
        points.fails.store(true, Ordering::SeqCst);
        let status = wait(&submitter, id).record().status;
        assert_eq!(status, ExecutionStatus::Completed);
        assert!(!points.fails.load(Ordering::SeqCst), "no read failed");
        submitter.stop(Duration::from_secs(1));
    });
}

#[test]
fn d7_cached_result_is_dropped_after_a_retry() {
    on_each_database(|open| {
        let worker = start(open(), config());
        let runs = Counter::default();
        let hit = runs.clone();
        let failing = body(move |_| {
            hit.hit();
            super::support::failed("no")
        });
        let workflow = define(&worker, "single", vec![(task("only", &[]), failing)]);
        let submitter = start_without_functions(open(), workflow);
        let ids = (submitter.submit((0..8).map(|_| request("single")).collect())).unwrap();
        for id in &ids {
            assert_eq!(
                wait(&submitter, *id).record().status,
                ExecutionStatus::Failed
            );
        }
        let last = ids[7];
        submitter
            .control(last, cloacina::runtime::Control::Retry { from_task: None })
            .unwrap();
        let ended = wait(&submitter, last);
        assert_eq!(ended.record().tasks[0].attempt, 2);
        assert_eq!(runs.get(), ids.len() + 1);
        submitter.stop(Duration::from_secs(1));
        worker.stop(Duration::from_secs(1));
    });
}

#[test]
fn d7_result_is_forgotten_after_a_retry_by_another_runner() {
    on_each_database(|open| {
        let worker = start(open(), config());
        let first_fails = body(|assignment| match assignment.claim.attempt {
            1 => super::support::failed("no"),
            _ => done(),
        });
        let workflow = define(&worker, "single", vec![(task("only", &[]), first_fails)]);
        let submitter = start_without_functions(open(), workflow);
        let id = submitter.submit(vec![request("single")]).unwrap()[0];
        for _ in 0..2 {
            let status = wait(&submitter, id).record().status;
            assert_eq!(status, ExecutionStatus::Failed);
        }
        worker
            .control(id, cloacina::runtime::Control::Retry { from_task: None })
            .unwrap();
        until("the submitter sees the new end", || {
            wait(&submitter, id).record().status == ExecutionStatus::Completed
        });
        submitter.stop(Duration::from_secs(1));
        worker.stop(Duration::from_secs(1));
    });
}

#[test]
fn prefetched_tasks_are_returned_for_a_new_runner() {
    const COUNT: usize = 100;
    on_each_database(|open| {
        let config = || RunnerConfig {
            max_concurrent_async_tasks: 2,
            ..config()
        };
        let first = start(open(), config());
        let (closed, gate) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let (is_closed, is_open) = (Arc::clone(&closed), Arc::clone(&gate));
        let slow = body(move |_| {
            while is_closed.load(Ordering::SeqCst) && !is_open.load(Ordering::SeqCst) {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the task polls until the test lets it end"
                )]
                std::thread::sleep(Duration::from_millis(1));
            }
            done()
        });
        define(&first, "single", vec![(task("only", &[]), slow)]);
        let many = |count: usize| (0..count).map(|_| request("single")).collect::<Vec<_>>();
        let held = |of: &[ExecutionId]| {
            let records = open().load(of).unwrap();
            let claimed = |status| status == TaskStatus::Running;
            (records
                .iter()
                .filter(|record| claimed(record.tasks[0].status)))
            .count()
        };
        // The runner prefetches as soon as it has learned that the tasks are short and that it is the sole runner. On a busy
        // machine, the tasks can take too long to count as short. The test then repeats `learn`.
        let learn = || {
            closed.store(false, Ordering::SeqCst);
            for id in first.submit(many(200)).unwrap() {
                wait(&first, id);
            }
            closed.store(true, Ordering::SeqCst);
            let ids = first.submit(many(COUNT)).unwrap();
            let end = Instant::now() + Duration::from_secs(1);
            while held(&ids) <= 10 && Instant::now() < end {
                std::thread::yield_now();
            }
            ids
        };
        let ids = (0..20).map(|_| learn()).find(|ids| held(ids) > 10);
        let ids = ids.expect("the first runner prefetches");
        let second = start(open(), config());
        define(
            &second,
            "single",
            vec![(task("only", &[]), body(|_| done()))],
        );
        until(
            "the second runner has run the tasks that the first runner returned",
            || held(&ids) <= 2,
        );
        let records = open().load(&ids).unwrap();
        assert!(
            records
                .iter()
                .all(|record| record.tasks[0].attempt <= 2 && record.tasks[0].rescues == 0)
        );
        gate.store(true, Ordering::SeqCst);
        for id in &ids {
            assert_eq!(
                wait(&first, *id).record().status,
                ExecutionStatus::Completed
            );
        }
        second.stop(Duration::from_secs(1));
        first.stop(Duration::from_secs(5));
    });
}
