//! Helpers of these tests: fresh databases, and runners with tasks written in Rust.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cloacina::engine::Outcome;
use cloacina::runner::{EngineHandle, OpenOptions};
use cloacina::runtime::{
    Assignment, Ended, Executor, Handler, OneShot, Registration, RunnerConfig, SubmitRequest,
};
use cloacina::store::Store;
use cloacina::store::postgres::{PostgresOptions, PostgresStore};
use cloacina::store::sqlite::{SqliteOptions, SqliteStore};
use cloacina::types::{
    Context, Delta, ExecutionId, Failure, Json, Labels, RetryPolicy, SystemClock,
};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};

use super::private_postgres::{fresh_name, shared};

pub use super::time::{PATIENCE, until};

/// A function that opens the database of a test.
pub type Open<'a> = &'a dyn Fn() -> Arc<dyn Store>;

/// Runs a test on a fresh database of each kind. The test gets a function that opens the same database again, as another
/// process does.
pub fn on_each_database(test: impl Fn(Open<'_>)) {
    let folder = tempfile::tempdir().unwrap();
    let file = SqliteOptions::file(folder.path().join("runner.db"));
    test(&|| Arc::new(SqliteStore::open(&file).unwrap()));
    let options = postgres();
    test(&|| Arc::new(PostgresStore::open(&options).unwrap()));
}

/// Runs a test on each kind of database, including SQLite in memory. The test must open its database only once, because a
/// database in memory is empty each time that it is opened.
pub fn on_each_store(test: impl Fn(Open<'_>)) {
    test(&|| in_memory());
    on_each_database(test);
}

/// Opens an empty SQLite database in memory.
pub fn in_memory() -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(&SqliteOptions::memory()).unwrap())
}

/// Returns options for a fresh schema on the PostgreSQL server of the tests.
pub fn postgres() -> PostgresOptions {
    let server = PostgresOptions::from_url(shared()).unwrap();
    server.with_schema(&fresh_name()).unwrap()
}

/// The function of a task.
pub type Body = Arc<dyn Fn(&Assignment) -> Outcome + Send + Sync>;

pub fn body(run: impl Fn(&Assignment) -> Outcome + Send + Sync + 'static) -> Body {
    Arc::new(run)
}

/// Returns the outcome of a task that completed without writes.
pub fn done() -> Outcome {
    Outcome::Completed(Arc::new(Delta::default()))
}

/// Returns the outcome of a task that completed and wrote one key.
pub fn wrote(key: &str, value: &str) -> Outcome {
    let mut delta = Delta::default();
    delta.set.insert(key.into(), Json::parse(value).unwrap());
    Outcome::Completed(Arc::new(delta))
}

/// Returns the outcome of an attempt that failed and may be retried.
pub fn failed(message: &str) -> Outcome {
    Outcome::Failed(Failure {
        kind: "Boom".into(),
        message: message.into(),
        traceback: None,
        retryable: true,
        lineage: Vec::new(),
    })
}

pub fn config() -> RunnerConfig {
    RunnerConfig {
        poll_interval: Duration::from_millis(10),
        ..RunnerConfig::default()
    }
}

pub fn start(store: Arc<dyn Store>, config: RunnerConfig) -> EngineHandle {
    let options = OpenOptions {
        begin: cloacina::runner::Begin::AtOnce,
        config,
        auto_migrate: true,
        ..OpenOptions::default()
    };
    EngineHandle::start(store, Arc::new(SystemClock), options).unwrap()
}

pub fn task(id: &str, dependencies: &[&str]) -> TaskDefinition {
    TaskDefinition {
        id: id.into(),
        dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
        kind: TaskKind::Async,
        retry: RetryPolicy {
            max_attempts: 1,
            ..RetryPolicy::default()
        },
        ..TaskDefinition::default()
    }
}

/// Registers a workflow with these tasks.
pub fn define(
    engine: &EngineHandle,
    name: &str,
    tasks: Vec<(TaskDefinition, Body)>,
) -> Arc<Workflow> {
    let mut handlers = BTreeMap::new();
    let mut definitions = Vec::new();
    for (definition, body) in tasks {
        let token = engine
            .tasks()
            .add(Arc::new(move |assignment, _| {
                let body = Arc::clone(&body);
                Box::pin(async move { body(&assignment) })
            }))
            .unwrap();
        let handler = Handler {
            executor: Executor::Futures,
            token,
            on_success: false,
            on_failure: false,
        };
        handlers.insert(definition.id.clone(), handler);
        definitions.push(definition);
    }
    let workflow = Arc::new(
        Workflow::new(WorkflowDefinition {
            name: name.into(),
            tenant: "public".into(),
            package: "embedded".into(),
            tasks: definitions,
            ..WorkflowDefinition::default()
        })
        .unwrap(),
    );
    engine
        .register(Registration {
            workflow: Arc::clone(&workflow),
            handlers,
        })
        .unwrap();
    workflow
}

pub fn request(workflow: &str) -> SubmitRequest {
    SubmitRequest {
        id: ExecutionId::generate(),
        workflow: workflow.into(),
        input: Arc::new(Context::new()),
        key: None,
        priority: 0,
        start_at: None,
        timeout: None,
        labels: Labels::default(),
        trace: None,
    }
}

pub fn submit(engine: &EngineHandle, workflow: &str) -> ExecutionId {
    engine.submit(vec![request(workflow)]).unwrap()[0]
}

/// Waits until an execution has ended, and returns the ended execution.
pub fn wait(engine: &EngineHandle, id: ExecutionId) -> Ended {
    let ended = OneShot::default();
    let set = ended.clone();
    engine
        .when_ended(id, move |result| set.set(result))
        .unwrap();
    ended
        .wait(PATIENCE)
        .unwrap_or_else(|| {
            panic!(
                "execution {id} did not end: {:?}",
                engine.inspector().execution(id)
            )
        })
        .unwrap()
}

/// A counter that several threads share.
#[derive(Clone, Default)]
pub struct Counter(Arc<AtomicUsize>);

impl Counter {
    pub fn hit(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    pub fn get(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
