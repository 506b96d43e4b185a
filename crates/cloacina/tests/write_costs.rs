//! Budgets of the write path: the number of statements for a single task, a chain and a fan-out. They detect a regression of
//! the write path on any machine.
#![cfg(all(feature = "sqlite", feature = "postgres"))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/private_postgres.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod private_postgres;
#[path = "support/time.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod time;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use cloacina::engine::{Finish, Outcome};
use cloacina::runtime::{
    Answer, Completion, Coordinator, Executor, Handler, Message, Registration, RunnerConfig,
    SubmitRequest, Subscriptions, Work, WorkQueues,
};
use cloacina::store::postgres::{PostgresOptions, PostgresStore};
use cloacina::store::sqlite::{SqliteOptions, SqliteStore};
use cloacina::store::{InboxMessage, Layer, Request, Response, Store, StoreError};
use cloacina::types::{Clock, Context, Delta, ExecutionId, InboxId, Labels, Timestamp};
use cloacina::workflow::{TaskDefinition, Workflow, WorkflowDefinition};
use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use time::HandClock;

static STATEMENTS: AtomicUsize = AtomicUsize::new(0);
/// Held by a test while it runs, because the counter belongs to the process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[expect(clippy::unnecessary_wraps, reason = "Diesel requires this signature")]
fn counting() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| {
        if matches!(event, InstrumentationEvent::StartQuery { .. }) {
            STATEMENTS.fetch_add(1, Ordering::SeqCst);
        }
    }))
}

fn start_counting() -> MutexGuard<'static, ()> {
    let guard = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    set_default_instrumentation(counting).unwrap();
    guard
}

/// A runner that the test steps: all running tasks finish in the same step.
struct Runner {
    coordinator: Coordinator,
    queues: WorkQueues,
    /// Never advances, so that nothing periodic is due.
    clock: Arc<HandClock>,
}

impl Runner {
    fn new(store: Arc<dyn Store>) -> Self {
        let queues = WorkQueues::default();
        let clock = Arc::new(HandClock::at(Timestamp(1_750_000_000_000_000)));
        let coordinator = Coordinator::start(
            store,
            Arc::clone(&clock) as Arc<dyn Clock>,
            RunnerConfig::default(),
            queues.clone(),
            Arc::new(Subscriptions::default()),
            1,
        );
        Self {
            coordinator: coordinator.unwrap(),
            queues,
            clock,
        }
    }

    fn register(&mut self, workflow: &Arc<Workflow>) {
        let (_, reply) = Answer::new();
        let handler = Handler {
            executor: Executor::Threads,
            token: 1,
            on_success: false,
            on_failure: false,
        };
        let ids = workflow
            .definition()
            .tasks
            .iter()
            .map(|task| task.id.clone());
        let registration = Registration {
            workflow: Arc::clone(workflow),
            handlers: ids.map(|id| (id, handler)).collect::<BTreeMap<_, _>>(),
        };
        self.coordinator.step(vec![Message::Register {
            registration,
            reply,
        }]);
        // This step announces the runner and reads the database for the first time.
        self.coordinator.step(Vec::new());
    }

    /// Submits executions, runs them to their end and returns the number of statements.
    fn run(&mut self, workflow: &Workflow, count: usize) -> usize {
        STATEMENTS.store(0, Ordering::SeqCst);
        let requests = (0..count).map(|_| SubmitRequest {
            id: ExecutionId::generate(),
            workflow: workflow.name().to_owned(),
            input: Arc::new(Context::new()),
            key: None,
            priority: 0,
            start_at: None,
            timeout: None,
            labels: Labels::default(),
            trace: None,
        });
        let (answer, reply) = Answer::new();
        let give_up = self.clock.monotonic() + 1;
        self.coordinator.step(vec![Message::Submit {
            requests: requests.collect(),
            give_up,
            reply,
        }]);
        answer.wait(std::time::Duration::ZERO).unwrap().unwrap();
        let queue = Arc::clone(self.queues.of(Executor::Threads));
        let mut tasks = 0;
        loop {
            let mut ended = Vec::new();
            while let Some(taken) = queue.try_take(1, &*self.clock) {
                let Work::Task(token, _) = taken.work else {
                    continue;
                };
                let Completion::Accepted(running) = queue.complete(token) else {
                    panic!("the queue did not accept the completion");
                };
                ended.push(Message::Finished {
                    execution: running.execution,
                    finish: Finish {
                        task: running.task,
                        claim: running.claim,
                        started_at: Some(running.started_at),
                        outcome: Outcome::Completed(Arc::new(Delta::default())),
                    },
                    executor: Executor::Threads,
                    ran: 1,
                });
            }
            if ended.is_empty() {
                break;
            }
            tasks += ended.len();
            self.coordinator.step(ended);
        }
        assert_eq!(
            tasks,
            count * workflow.definition().tasks.len(),
            "every task ran once"
        );
        STATEMENTS.load(Ordering::SeqCst)
    }
}

fn workflow(name: &str, tasks: &[(&str, &[&str])]) -> Arc<Workflow> {
    let tasks = tasks.iter().map(|(id, dependencies)| TaskDefinition {
        id: (*id).to_owned(),
        dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
        ..TaskDefinition::default()
    });
    let definition = WorkflowDefinition {
        name: name.to_owned(),
        tenant: "public".to_owned(),
        package: "embedded".to_owned(),
        tasks: tasks.collect(),
        ..WorkflowDefinition::default()
    };
    Arc::new(Workflow::new(definition).unwrap())
}

fn shapes() -> [Arc<Workflow>; 3] {
    let middle = ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7"];
    let mut fan: Vec<(&str, &[&str])> = vec![("first", &[])];
    fan.extend(middle.iter().map(|id| (*id, &["first"] as &[&str])));
    fan.push(("last", &middle));
    [
        workflow("single", &[("only", &[])]),
        workflow("chain", &[("a", &[]), ("b", &["a"]), ("c", &["b"])]),
        workflow("fan", &fan),
    ]
}

/// Runs a single task, a chain of three, a fan-out of ten, and ten single tasks at once, and checks the statements of
/// each against its budget.
fn assert_within(store: Arc<dyn Store>, budgets: [usize; 4]) {
    let mut runner = Runner::new(store);
    let [single, chain, fan] = shapes();
    let runs = [(&single, 1), (&chain, 1), (&fan, 1), (&single, 10)];
    for ((workflow, count), budget) in runs.into_iter().zip(budgets) {
        runner.register(workflow);
        // The first run may need extra statements.
        runner.run(workflow, 1);
        let cost = runner.run(workflow, count);
        let name = workflow.name();
        assert!(
            (1..=budget).contains(&cost),
            "{count} x {name}: {cost} statements, the budget is {budget}"
        );
    }
}

#[test]
fn a_step_is_one_transaction_on_sqlite() {
    let _guard = start_counting();
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::file(folder.path().join("costs.db"));
    // A transaction begins, checks that the runner is alive, and commits. It writes each execution's row once. Each
    // task is inserted as claimed when it becomes ready, and updated when it ends.
    let budget = |transactions: usize, executions: usize, tasks: usize| {
        3 * transactions + executions + 2 * tasks
    };
    assert_within(
        Arc::new(SqliteStore::open(&options).unwrap()),
        [
            budget(2, 2, 1),
            budget(4, 4, 3),
            budget(4, 4, 10),
            budget(2, 20, 10),
        ],
    );
}

#[test]
fn a_step_is_one_statement_on_postgres() {
    let _guard = start_counting();
    let options = PostgresOptions::from_url(private_postgres::shared()).unwrap();
    let options = options
        .with_schema(&private_postgres::fresh_name())
        .unwrap();
    assert_within(
        Arc::new(PostgresStore::open(&options).unwrap()),
        [2, 4, 4, 2],
    );
}

/// A store that counts the queries for waiting tasks.
struct LookCounter {
    below: Arc<dyn Store>,
    looks: AtomicUsize,
}

impl Layer for LookCounter {
    type Below = dyn Store;

    fn below(&self) -> &(dyn Store + 'static) {
        &*self.below
    }

    fn pass(&self, request: Request<'_>) -> Result<Response, StoreError> {
        if matches!(request, Request::DueWaits { .. }) {
            self.looks.fetch_add(1, Ordering::SeqCst);
        }
        self.below.call(request)
    }
}

/// Advances the clocks of runners by the time between two polls, and steps the runners.
fn poll(runners: [&mut Runner; 2]) {
    for runner in runners {
        runner.clock.pass(100_000);
        runner.coordinator.step(Vec::new());
    }
}

/// Checks that a runner that sees the writes of another runner queries waiting tasks only once there are some.
fn assert_looks_only_at_waits(open: impl Fn() -> Arc<dyn Store>) {
    let counter = Arc::new(LookCounter {
        below: open(),
        looks: AtomicUsize::new(0),
    });
    let looks = || counter.looks.load(Ordering::SeqCst);
    let mut runner = Runner::new(Arc::clone(&counter) as Arc<dyn Store>);
    let mut other = Runner::new(open());
    let single = workflow("single", &[("only", &[])]);
    other.register(&single);
    for _ in 0..20 {
        other.run(&single, 1);
        poll([&mut runner, &mut other]);
    }
    assert_eq!(looks(), 0, "nothing waits");

    let store = open();
    let message = InboxMessage {
        id: InboxId::generate(),
        kind: "signal".to_owned(),
        target: None,
        body: Some(r#"{"name": "go"}"#.to_owned()),
        created_at: other.clock.now(),
        note: None,
    };
    store.post(&message).unwrap();
    store.notify_peers().unwrap();
    time::until("a runner has applied the message", || {
        poll([&mut runner, &mut other]);
        !store.overdue(message.created_at).unwrap().has_waits
    });
    let of_message = looks();
    for _ in 0..50 {
        poll([&mut runner, &mut other]);
    }
    assert!(
        looks() <= of_message + 3,
        "{} looks after the message was applied",
        looks() - of_message
    );
}

#[test]
fn l14_runner_looks_for_waits_only_where_there_are_some_on_sqlite() {
    let _guard = start_counting();
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::file(folder.path().join("waits.db"));
    assert_looks_only_at_waits(|| Arc::new(SqliteStore::open(&options).unwrap()));
}

#[test]
fn l14_runner_looks_for_waits_only_where_there_are_some_on_postgres() {
    let _guard = start_counting();
    let options = PostgresOptions::from_url(private_postgres::shared()).unwrap();
    let options = options
        .with_schema(&private_postgres::fresh_name())
        .unwrap();
    assert_looks_only_at_waits(|| Arc::new(PostgresStore::open(&options).unwrap()));
}
