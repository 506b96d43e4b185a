//! Tests that a single task, a chain and a fan-out need at most a fixed number of SQL statements, and that runners
//! query for waiting tasks only if waits exist. The numbers do not depend on the speed of the machine.
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

/// The number of SQL statements that this process has run.
static STATEMENTS: AtomicUsize = AtomicUsize::new(0);
/// A test holds this lock while it runs, because all tests of the process share the counter.
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

/// A runner that the test steps by hand. All running tasks finish in the same step.
struct Runner {
    coordinator: Coordinator,
    queues: WorkQueues,
    /// Only `poll` advances this clock, so no periodic work is due during `run`.
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
        // This step announces the runner and reads the database, so that the first run does neither.
        self.coordinator.step(Vec::new());
    }

    /// Submits executions and runs all their tasks. Returns the number of SQL statements.
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

/// Runs a single task, a chain of three tasks, a fan-out of ten tasks, and ten single tasks in one submission. Checks
/// that each of them stays within its budget of statements.
fn assert_within(store: Arc<dyn Store>, budgets: [usize; 4]) {
    let mut runner = Runner::new(store);
    let [single, chain, fan] = shapes();
    let runs = [(&single, 1), (&chain, 1), (&fan, 1), (&single, 10)];
    for ((workflow, count), budget) in runs.into_iter().zip(budgets) {
        runner.register(workflow);
        // The first run is not counted, because it can need additional statements.
        runner.run(workflow, 1);
        let cost = runner.run(workflow, count);
        let name = workflow.name();
        assert!(
            (1..=budget).contains(&cost),
            "{count} x {name}: {cost} statements, but the budget is {budget}"
        );
    }
}

#[test]
fn step_is_one_transaction_on_sqlite() {
    let _guard = start_counting();
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::file(folder.path().join("costs.db"));
    // A transaction has three statements of its own: `BEGIN`, the check that the runner is alive, and `COMMIT`. Each
    // execution's row is written once per transaction. Each task is inserted as claimed when it becomes ready, and
    // updated when it ends.
    let budget = |transactions: usize, execution_writes: usize, tasks: usize| {
        3 * transactions + execution_writes + 2 * tasks
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
fn step_is_one_statement_on_postgres() {
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
struct WaitQueryCounter {
    below: Arc<dyn Store>,
    queries: AtomicUsize,
}

impl Layer for WaitQueryCounter {
    type Below = dyn Store;

    fn below(&self) -> &(dyn Store + 'static) {
        &*self.below
    }

    fn pass(&self, request: Request<'_>) -> Result<Response, StoreError> {
        if matches!(request, Request::DueWaits { .. }) {
            self.queries.fetch_add(1, Ordering::SeqCst);
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

/// Checks that a runner does not query for waiting tasks when another runner writes, unless a wait or an inbox message
/// exists.
fn assert_queries_waits_only_if_they_exist(open: impl Fn() -> Arc<dyn Store>) {
    let counter = Arc::new(WaitQueryCounter {
        below: open(),
        queries: AtomicUsize::new(0),
    });
    let queries = || counter.queries.load(Ordering::SeqCst);
    let mut runner = Runner::new(Arc::clone(&counter) as Arc<dyn Store>);
    let mut other = Runner::new(open());
    let single = workflow("single", &[("only", &[])]);
    other.register(&single);
    for _ in 0..20 {
        other.run(&single, 1);
        poll([&mut runner, &mut other]);
    }
    assert_eq!(queries(), 0, "nothing waits");

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
    let until_applied = queries();
    for _ in 0..50 {
        poll([&mut runner, &mut other]);
    }
    assert!(
        queries() <= until_applied + 3,
        "{} queries for waits after the message was applied",
        queries() - until_applied
    );
}

#[test]
fn runner_queries_waits_only_if_they_exist_on_sqlite() {
    let _guard = start_counting();
    let folder = tempfile::tempdir().unwrap();
    let options = SqliteOptions::file(folder.path().join("waits.db"));
    assert_queries_waits_only_if_they_exist(|| Arc::new(SqliteStore::open(&options).unwrap()));
}

#[test]
fn runner_queries_waits_only_if_they_exist_on_postgres() {
    let _guard = start_counting();
    let options = PostgresOptions::from_url(private_postgres::shared()).unwrap();
    let options = options
        .with_schema(&private_postgres::fresh_name())
        .unwrap();
    assert_queries_waits_only_if_they_exist(|| Arc::new(PostgresStore::open(&options).unwrap()));
}
