//! A coordinator stepped by hand, for courses of events that hinge on what meets in one step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use cloacina::engine::Finish;
use cloacina::runner::Inspector;
use cloacina::runtime::{
    Assignment, Control, Coordinator, Executor, Handler, Message, Registration, RunnerConfig,
    SubmitRequest, Waiters, Work, WorkQueues, WorkToken,
};
use cloacina::store::failpoint::{Failpoint, FailpointStore, Failpoints, Moment, Verb};
use cloacina::store::sqlite::SqliteStore;
use cloacina::store::{Store, StoreError};
use cloacina::types::sync::Mutex;
use cloacina::types::{
    Clock, ExecutionId, ExecutionStatus, Micros, Monotonic, TaskRecord, TaskStatus, Timestamp,
};
use cloacina::workflow::{TaskKind, Workflow, WorkflowDefinition};

use super::support::{config, done, failed, in_memory, request, task};

const MILLISECOND: Micros = 1_000;
const SECOND: Micros = 1_000_000;

/// A clock that stands still until it is moved.
struct Hand(AtomicI64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.load(Ordering::SeqCst))
    }
}

/// Fails once, at a point.
#[derive(Default)]
struct Trap(Mutex<Option<Failpoint>>);

impl Failpoints for Trap {
    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        let mut set = self.0.lock();
        if *set == Some(point) {
            *set = None;
            return Err(StoreError::Unavailable("the connection broke".to_owned()));
        }
        Ok(())
    }
}

/// A runner of the workflow `w` with one task, and what other processes may do to its database.
struct Stepped {
    coordinator: Coordinator,
    queues: WorkQueues,
    waiters: Arc<Waiters>,
    clock: Arc<Hand>,
    trap: Arc<Trap>,
    store: Arc<SqliteStore>,
    others: Inspector,
}

impl Stepped {
    fn new(config: RunnerConfig) -> Self {
        let clock = Arc::new(Hand(AtomicI64::new(1_800_000_000 * SECOND)));
        Self::on(in_memory(), clock, config, 1)
    }

    /// Another runner of the same database.
    fn beside(&self, config: RunnerConfig) -> Self {
        let store = Arc::new(self.store.share());
        Self::on(store, Arc::clone(&self.clock), config, 2)
    }

    fn on(store: Arc<SqliteStore>, clock: Arc<Hand>, config: RunnerConfig, seed: u64) -> Self {
        let (trap, queues) = (Arc::new(Trap::default()), WorkQueues::default());
        let waiters = Arc::new(Waiters::default());
        let points = Arc::clone(&trap) as Arc<dyn Failpoints>;
        // A handle of its own, as another process has: it tells of the writes of the others.
        let trapped = FailpointStore::new(Arc::new(store.share()), points);
        let coordinator = Coordinator::start(
            Arc::new(trapped),
            Arc::clone(&clock) as Arc<dyn Clock>,
            config,
            queues.clone(),
            Arc::clone(&waiters),
            seed,
        )
        .unwrap();
        let others = Inspector::new(
            Arc::new(store.share()),
            Arc::clone(&clock) as Arc<dyn Clock>,
        );
        let mut stepped = Self {
            coordinator,
            queues,
            waiters,
            clock,
            trap,
            store,
            others,
        };
        stepped.register(false);
        stepped
    }

    /// Gives it the workflow. `calls_back`: the task has a function for when it succeeds.
    fn register(&mut self, calls_back: bool) {
        let mut only = task("a", &[]);
        only.kind = TaskKind::Sync;
        let definition = WorkflowDefinition {
            name: "w".into(),
            tenant: "public".into(),
            package: "embedded".into(),
            tasks: vec![only],
            ..WorkflowDefinition::default()
        };
        let handler = Handler {
            executor: Executor::Threads,
            token: 0,
            on_success: calls_back,
            on_failure: false,
        };
        self.step(Message::Register {
            registration: Registration {
                workflow: Arc::new(Workflow::new(definition).unwrap()),
                handlers: BTreeMap::from([("a".to_owned(), handler)]),
            },
            reply: Box::new(|registered| registered.unwrap()),
        });
    }

    fn step(&mut self, message: Message) {
        self.coordinator.step(vec![message]);
    }

    /// Time goes on, and what is due is done.
    fn pass(&mut self, micros: Micros) {
        self.clock.0.fetch_add(micros, Ordering::SeqCst);
        self.coordinator.step(Vec::new());
    }

    fn fail_once(&self, verb: Verb, moment: Moment) {
        *self.trap.0.lock() = Some(Failpoint { verb, moment });
    }

    fn submit(&mut self, request: SubmitRequest) -> ExecutionId {
        let id = request.id;
        self.step(Message::Submit {
            requests: vec![request],
            give_up: self.clock.monotonic() + SECOND,
            reply: Box::new(|ids| drop(ids.unwrap())),
        });
        id
    }

    fn control(&mut self, execution: ExecutionId, action: Control) {
        self.step(Message::Control {
            execution,
            action,
            give_up: self.clock.monotonic() + SECOND,
            reply: Box::new(|status| {
                status.unwrap();
            }),
        });
    }

    /// A worker enters what waits, and never returns from it unless it is told to.
    fn enter(&mut self) -> Option<(WorkToken, Assignment)> {
        let now = self.clock.now();
        let dispatched = (self.queues.of(Executor::Threads)).try_take(1, &*self.clock)?;
        let Work::Task(token, assignment) = dispatched.work else {
            panic!("nothing calls back here");
        };
        if assignment.reports_start {
            self.step(Message::Started {
                execution: assignment.execution,
                task: assignment.task,
                claim: assignment.claim,
                at: now,
            });
        }
        Some((token, assignment))
    }

    fn task(&self, id: ExecutionId) -> TaskRecord {
        self.store.load(&[id]).unwrap().remove(0).tasks.remove(0)
    }
}

/// An execution that fails after a second, however long its function takes.
fn with_timeout() -> SubmitRequest {
    SubmitRequest {
        timeout: Some(SECOND),
        ..request("w")
    }
}

#[test]
fn d5_a_result_is_kept_that_came_with_a_timeout_which_a_pause_had_overtaken() {
    let mut runner = Stepped::new(config());
    let id = runner.submit(with_timeout());
    let (token, assignment) = runner.enter().unwrap();
    runner.others.control(id, &Control::Pause).unwrap();
    // The deadline passes, and the runner has not heard of the pause when its database goes away.
    runner.fail_once(Verb::ChangeMarker, Moment::Before);
    runner.pass(2 * SECOND);
    runner.clock.0.fetch_add(50 * MILLISECOND, Ordering::SeqCst);
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
    assert!(runner.enter().is_none(), "it would run a second time");
    let status = runner.store.statuses(&[id]).unwrap()[0].1;
    assert_eq!(status, ExecutionStatus::Completed);
}

#[test]
fn d7_attempts_that_are_stuck_take_no_places_from_others_after_a_retry() {
    let mut runner = Stepped::new(RunnerConfig {
        max_concurrent_tasks: 1,
        ..config()
    });
    let stuck = runner.submit(with_timeout());
    for attempt in 1..=20 {
        let (_, assignment) = runner.enter().unwrap();
        assert_eq!(assignment.claim.attempt, attempt);
        runner.pass(2 * SECOND);
        runner.control(stuck, Control::Retry { from_task: None });
    }
    let fresh = runner.submit(request("w"));
    assert!(runner.enter().is_some(), "the last attempt");
    let (_, assignment) = runner.enter().unwrap();
    assert_eq!(assignment.execution, fresh);
}

#[test]
fn e6_a_claim_whose_answer_was_lost_is_taken_up_while_a_former_attempt_still_runs() {
    let mut runner = Stepped::new(config());
    let id = runner.submit(with_timeout());
    runner.enter().unwrap();
    runner.pass(2 * SECOND);
    let retry = Control::Retry { from_task: None };
    runner.others.control(id, &retry).unwrap();
    runner.fail_once(Verb::Commit, Moment::After);
    for _ in 0..10 {
        runner.pass(50 * MILLISECOND);
    }
    assert_eq!(runner.task(id).status, TaskStatus::Running);
    let (_, assignment) = runner.enter().unwrap();
    assert_eq!(assignment.claim.attempt, 2);
}

#[test]
fn d6_the_end_by_a_cancel_is_told_although_the_same_step_looks_at_a_dead_runner() {
    let mut runner = Stepped::new(config());
    let mut doomed = runner.beside(config());
    let id = doomed.submit(request("w"));
    let lease = i64::try_from(config().lease_ttl.as_micros()).unwrap();
    runner.clock.0.fetch_add(2 * lease, Ordering::SeqCst);
    let told = Arc::new(AtomicBool::new(false));
    let tell = Arc::clone(&told);
    runner
        .waiters
        .subscribe(id, move |_| tell.store(true, Ordering::SeqCst));
    runner.control(id, Control::Cancel);
    // At once: the next look at the database might be far away.
    assert!(told.load(Ordering::SeqCst));
    let status = runner.store.statuses(&[id]).unwrap()[0].1;
    assert_eq!(status, ExecutionStatus::Cancelled);
}

#[test]
fn d7_a_failure_whose_retry_comes_in_the_same_step_is_not_called_a_success() {
    let mut runner = Stepped::new(config());
    runner.register(true);
    let id = runner.submit(request("w"));
    let (token, assignment) = runner.enter().unwrap();
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
    let (_, again) = runner.enter().unwrap();
    assert_eq!(again.claim.attempt, 2);
}

#[test]
fn d4_an_attempt_is_stopped_although_its_retry_comes_in_the_step_of_the_timeout() {
    let mut runner = Stepped::new(config());
    let id = runner.submit(with_timeout());
    let (_, assignment) = runner.enter().unwrap();
    // Nothing else is new to it: the retry is claimed in its own step.
    for _ in 0..3 {
        runner.pass(200 * MILLISECOND);
    }
    runner.clock.0.fetch_add(2 * SECOND, Ordering::SeqCst);
    let retry = Message::Control {
        execution: id,
        action: Control::Retry { from_task: None },
        give_up: runner.clock.monotonic() + SECOND,
        reply: Box::new(|status| assert!(!status.unwrap().is_terminal())),
    };
    let timeout = Message::Deadline { execution: id };
    runner.coordinator.step(vec![timeout, retry]);
    assert!(assignment.cancelled.load(Ordering::SeqCst));
    let (_, again) = runner.enter().unwrap();
    assert_eq!(again.claim.attempt, 2);
    assert!(!again.cancelled.load(Ordering::SeqCst));
}
