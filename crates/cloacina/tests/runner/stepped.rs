//! `SteppedRunner`: a coordinator that a test steps by hand, on a database with injected faults.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use cloacina::engine::{Finish, Outcome};
use cloacina::runner::Inspector;
use cloacina::runtime::{
    Answer, Assignment, Control, Coordinator, Executor, Handler, Message, Registration,
    RunnerConfig, SubmitRequest, Subscriptions, Work, WorkQueues, WorkToken,
};
use cloacina::store::failpoint::{Failpoint, FailpointStore, Failpoints, Moment, Verb};
use cloacina::store::sqlite::SqliteStore;
use cloacina::store::{Batch, Layer, Request, Response, Store, StoreError};
use cloacina::types::sync::Mutex;
use cloacina::types::{
    Clock, Delta, Error, ExecutionId, ExecutionRecord, ExecutionStatus, Micros, TaskRecord,
};
use cloacina::workflow::{TaskKind, Workflow, WorkflowDefinition};

use super::support::{in_memory, request, task};
use super::time::HandClock;

pub const MILLISECOND: Micros = 1_000;
pub const SECOND: Micros = 1_000_000;

/// A function that returns the error with which the database refuses a batch, or `None` if it accepts the batch.
pub type Refusal = Box<dyn Fn(&Batch) -> Option<StoreError> + Send>;

/// A store that can refuse to write a batch or to read a row, and that measures the batches that it writes.
pub struct FaultyStore {
    store: SqliteStore,
    refusal: Mutex<Option<Refusal>>,
    /// The executions whose rows cannot be read.
    pub unreadable: Mutex<BTreeSet<ExecutionId>>,
    /// The number of attempts to read an unreadable execution.
    pub unreadable_reads: AtomicI64,
    /// Whether reading a schedule by its id fails.
    pub hides_schedules: AtomicBool,
    /// The size of the deltas in the largest batch, in bytes.
    pub largest_batch: AtomicI64,
}

impl Layer for FaultyStore {
    type Below = SqliteStore;

    fn below(&self) -> &SqliteStore {
        &self.store
    }

    fn pass(&self, request: Request<'_>) -> Result<Response, StoreError> {
        match &request {
            Request::Load { ids } => {
                let unreadable = self.unreadable.lock();
                if ids.iter().any(|id| unreadable.contains(id)) {
                    self.unreadable_reads.fetch_add(1, Ordering::SeqCst);
                    return Err(StoreError::Corrupt("nonsense".to_owned()));
                }
            }
            Request::Schedule { .. } if self.hides_schedules.load(Ordering::SeqCst) => {
                return Err(StoreError::Corrupt("nonsense".to_owned()));
            }
            Request::Commit { batch } => {
                let refusal = self.refusal.lock();
                if let Some(error) = refusal.as_ref().and_then(|refuses| refuses(batch)) {
                    return Err(error);
                }
                let advances = batch.advances.iter().map(|advance| bytes(advance.record));
                let written = i64::try_from(advances.sum::<usize>()).unwrap();
                self.largest_batch.fetch_max(written, Ordering::SeqCst);
            }
            _ => {}
        }
        self.store.call(request)
    }
}

/// Returns the size of an execution's deltas.
fn bytes(record: &ExecutionRecord) -> usize {
    let deltas = record.tasks.iter().filter_map(|task| task.delta.as_deref());
    deltas.map(Delta::size).sum()
}

/// A failpoint that the test can make fail once or always.
#[derive(Default)]
pub struct ArmedFailpoint(Mutex<Option<(Failpoint, bool)>>);

impl Failpoints for ArmedFailpoint {
    fn reach(&self, point: Failpoint) -> Result<(), StoreError> {
        let mut set = self.0.lock();
        if let Some((armed, every_time)) = *set
            && armed == point
        {
            if !every_time {
                *set = None;
            }
            return Err(StoreError::Unavailable("the connection broke".into()));
        }
        Ok(())
    }
}

/// A runner of the workflow `w`, which has one task. Other runners can use the same database.
pub struct SteppedRunner {
    pub coordinator: Coordinator,
    pub queues: WorkQueues,
    pub subscriptions: Arc<Subscriptions>,
    pub clock: Arc<HandClock>,
    failpoint: Arc<ArmedFailpoint>,
    pub faulty: Arc<FaultyStore>,
    pub store: Arc<SqliteStore>,
    /// A client without a runner on the same database.
    pub others: Inspector,
}

impl SteppedRunner {
    pub fn new(config: RunnerConfig) -> Self {
        let clock = Arc::new(HandClock::default());
        clock.set(1_800_000_000 * SECOND);
        clock.pass(7 * SECOND);
        Self::on(in_memory(), clock, config, 1)
    }

    /// Starts another runner on the same database.
    pub fn peer(&self, config: RunnerConfig) -> Self {
        let store = Arc::new(self.store.share());
        Self::on(store, Arc::clone(&self.clock), config, 2)
    }

    fn on(store: Arc<SqliteStore>, clock: Arc<HandClock>, config: RunnerConfig, seed: u64) -> Self {
        let (failpoint, queues) = (Arc::new(ArmedFailpoint::default()), WorkQueues::default());
        let subscriptions = Arc::new(Subscriptions::default());
        let points = Arc::clone(&failpoint) as Arc<dyn Failpoints>;
        // Each runner has its own handle of the database, so it notices the writes of other runners.
        let faulty = Arc::new(FaultyStore {
            store: store.share(),
            refusal: Mutex::default(),
            unreadable: Mutex::default(),
            unreadable_reads: AtomicI64::default(),
            hides_schedules: AtomicBool::default(),
            largest_batch: AtomicI64::default(),
        });
        let failing = FailpointStore::new(Arc::clone(&faulty), points);
        let coordinator = Coordinator::start(
            Arc::new(failing),
            Arc::clone(&clock) as Arc<dyn Clock>,
            config,
            queues.clone(),
            Arc::clone(&subscriptions),
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
            subscriptions,
            clock,
            failpoint,
            faulty,
            store,
            others,
        };
        stepped.register(false);
        stepped
    }

    /// Registers the workflow `w`. If `calls_back` is true, its task has a success callback.
    pub fn register(&mut self, calls_back: bool) {
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

    pub fn step(&mut self, message: Message) {
        self.coordinator.step(vec![message]);
    }

    /// Advances the clock and runs a step.
    pub fn pass(&mut self, micros: Micros) {
        self.clock.pass(micros);
        self.coordinator.step(Vec::new());
    }

    /// Makes the next call of a request fail at this moment.
    pub fn fail_once(&self, verb: Verb, moment: Moment) {
        *self.failpoint.0.lock() = Some((Failpoint { verb, moment }, false));
    }

    /// Makes every call of a request fail at this moment, until `fail_never` is called.
    pub fn fail_always(&self, verb: Verb, moment: Moment) {
        *self.failpoint.0.lock() = Some((Failpoint { verb, moment }, true));
    }

    pub fn fail_never(&self) {
        *self.failpoint.0.lock() = None;
    }

    /// Makes the database refuse batches from now on.
    pub fn refuse(&self, refusal: impl Fn(&Batch) -> Option<StoreError> + Send + 'static) {
        *self.faulty.refusal.lock() = Some(Box::new(refusal));
    }

    pub fn submit(&mut self, request: SubmitRequest) -> ExecutionId {
        let id = request.id;
        self.step(Message::Submit {
            requests: vec![request],
            give_up: self.clock.monotonic() + SECOND,
            reply: Box::new(|ids| drop(ids.unwrap())),
        });
        id
    }

    pub fn control(&mut self, execution: ExecutionId, action: Control) {
        self.ask(execution, action).unwrap();
    }

    /// Sends a control action, runs a step and returns the answer.
    pub fn ask(
        &mut self,
        execution: ExecutionId,
        action: Control,
    ) -> Result<ExecutionStatus, Error> {
        let (answer, reply) = Answer::new();
        self.step(Message::Control {
            execution,
            action,
            give_up: self.clock.monotonic() + SECOND,
            reply,
        });
        answer.wait(Duration::ZERO).expect("the step answers")
    }

    /// Takes the next task for a worker. The task runs until the test calls `finish`.
    pub fn start_next(&mut self) -> Option<(WorkToken, Assignment)> {
        let now = self.clock.now();
        let dispatched = (self.queues.of(Executor::Threads)).try_take(1, &*self.clock)?;
        let Work::Task(token, assignment) = dispatched.work else {
            panic!("a callback was dispatched instead of a task");
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

    /// Ends a running task with an outcome.
    pub fn finish(&mut self, (token, assignment): (WorkToken, Assignment), outcome: Outcome) {
        let message = self.finished((token, assignment), outcome);
        self.step(message);
    }

    /// Frees the worker of a running task. Returns the worker's message about the end of the task.
    pub fn finished(
        &self,
        (token, assignment): (WorkToken, Assignment),
        outcome: Outcome,
    ) -> Message {
        drop(self.queues.of(Executor::Threads).complete(token));
        Message::Finished {
            execution: assignment.execution,
            finish: Finish {
                task: assignment.task,
                claim: assignment.claim,
                started_at: Some(self.clock.now()),
                outcome,
            },
            executor: Executor::Threads,
            ran: 1,
        }
    }

    pub fn revision(&self, id: ExecutionId) -> i64 {
        self.store.load(&[id]).unwrap().remove(0).revision
    }

    pub fn status(&self, id: ExecutionId) -> ExecutionStatus {
        self.store.statuses(&[id]).unwrap()[0].1
    }

    pub fn task(&self, id: ExecutionId) -> TaskRecord {
        self.store.load(&[id]).unwrap().remove(0).tasks.remove(0)
    }
}

/// Returns a submission with a timeout of one second.
pub fn with_timeout() -> SubmitRequest {
    SubmitRequest {
        timeout: Some(SECOND),
        ..request("w")
    }
}
