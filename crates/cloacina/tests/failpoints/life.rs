//! A runner's life in which it needs every verb: a dead runner's work, an execution of its own, old ones to prune.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cloacina::engine::Outcome;
use cloacina::runner::{EngineHandle, ListFilter, OpenOptions};
use cloacina::runtime::{
    Assignment, Executor, Handler, OneShot, Registration, RunnerConfig, SubmitRequest,
};
use cloacina::store::postgres::{PostgresOptions, PostgresStore};
use cloacina::store::sqlite::{SqliteOptions, SqliteStore};
use cloacina::store::{Batch, ClaimRequest, RunnerRow, Store, Submit};
use cloacina::types::{
    Backoff, Context, Delta, Error, ExecutionId, ExecutionRecord, ExecutionStatus, Failure, Json,
    RetryPolicy, RunnerId, SystemClock, TaskRecord, Timestamp,
};
use cloacina::workflow::{TaskDefinition, TaskKind, Workflow, WorkflowDefinition};

use super::private_postgres::{fresh_name, shared};

const PATIENCE: Duration = Duration::from_mins(1);

/// Where a life leaves its traces.
pub enum Database {
    Sqlite(tempfile::TempDir),
    Postgres(String),
}

impl Database {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub fn postgres() -> Self {
        Self::Postgres(fresh_name())
    }

    /// What a child needs to find it.
    pub fn name(&self) -> String {
        match self {
            Self::Sqlite(folder) => folder.path().join("life.db").display().to_string(),
            Self::Postgres(schema) => format!("{}#{schema}", shared()),
        }
    }

    /// The store; its folder stays for the test's process.
    pub fn open(self) -> Arc<dyn Store> {
        let name = self.name();
        if let Self::Sqlite(folder) = self {
            let _ = folder.keep();
        }
        open(&name)
    }
}

pub fn open(name: &str) -> Arc<dyn Store> {
    match name.split_once('#') {
        Some((url, schema)) => {
            let options = PostgresOptions::from_url(url).unwrap();
            let options = options.with_schema(schema).unwrap();
            Arc::new(PostgresStore::open(&options).unwrap())
        }
        None => {
            Arc::new(SqliteStore::open(&SqliteOptions::file(std::path::Path::new(name))).unwrap())
        }
    }
}

/// What must be the same whatever failed: status, the tasks' states, the final context.
#[derive(Debug, PartialEq, Eq)]
pub struct End {
    status: ExecutionStatus,
    tasks: Vec<String>,
    context: String,
    executions: usize,
}

fn task(id: &str, dependencies: &[&str]) -> TaskDefinition {
    TaskDefinition {
        id: id.into(),
        dependencies: dependencies.iter().map(|&id| id.to_owned()).collect(),
        kind: TaskKind::Async,
        retry: RetryPolicy {
            max_attempts: 2,
            backoff: Backoff::Fixed,
            initial_delay: 1_000,
            ..RetryPolicy::default()
        },
        ..TaskDefinition::default()
    }
}

fn workflow() -> Workflow {
    let tasks = vec![
        task("first", &[]),
        task("left", &["first"]),
        task("right", &["first"]),
        task("fails", &["first"]),
        task("last", &["left", "right"]),
    ];
    Workflow::new(WorkflowDefinition {
        name: "life".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks,
        ..WorkflowDefinition::default()
    })
    .unwrap()
}

fn run(assignment: &Assignment) -> Outcome {
    let id = assignment.workflow.task(assignment.task).id.clone();
    if id == "fails" {
        return Outcome::Failed(Failure {
            kind: "ValueError".into(),
            message: "always".into(),
            traceback: None,
            retryable: true,
            lineage: Vec::new(),
        });
    }
    let seen = assignment.context.iter().count();
    let mut delta = Delta::default();
    delta
        .set
        .insert(id.into(), Json::parse(&seen.to_string()).unwrap());
    Outcome::Completed(Arc::new(delta))
}

fn start(store: &Arc<dyn Store>) -> EngineHandle {
    let config = RunnerConfig {
        poll_interval: Duration::from_millis(10),
        heartbeat_interval: Duration::from_millis(20),
        lease_ttl: Duration::from_secs(20),
        ..RunnerConfig::default()
    };
    insist(|| {
        let options = OpenOptions {
            config: config.clone(),
            ..OpenOptions::default()
        };
        EngineHandle::start(Arc::clone(store), Arc::new(SystemClock), options)
    })
}

/// Callers try again what the database refused.
fn insist<T>(mut attempt: impl FnMut() -> Result<T, Error>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        std::thread::yield_now();
    }
}

fn register(engine: &EngineHandle) {
    let workflow = Arc::new(workflow());
    let handlers: BTreeMap<String, Handler> = workflow
        .definition()
        .tasks
        .iter()
        .map(|task| {
            let function = Arc::new(|assignment: Assignment| {
                let outcome = run(&assignment);
                Box::pin(async move { outcome })
                    as std::pin::Pin<Box<dyn Future<Output = Outcome> + Send>>
            });
            let handler = Handler {
                executor: Executor::Futures,
                token: engine.tasks().add(function).unwrap(),
                on_success: false,
                on_failure: false,
            };
            (task.id.clone(), handler)
        })
        .collect();
    insist(|| {
        engine.register(Registration {
            workflow: Arc::clone(&workflow),
            handlers: handlers.clone(),
        })
    });
}

/// A runner of long ago that left its row, and an execution that ended long ago.
fn leave_traces(store: &dyn Store) {
    let long_ago = Timestamp(1_000_000);
    let dead = RunnerId::generate();
    insist(|| {
        Ok(store.register_runner(&RunnerRow {
            id: dead,
            host: "elsewhere".into(),
            pid: 1,
            pid_started: 0,
            started_at: long_ago,
            heartbeat_at: long_ago,
            lease_until: long_ago,
            workflows: Vec::new(),
        })?)
    });
    let old = Workflow::new(WorkflowDefinition {
        name: "old".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: vec![task("only", &[])],
        ..WorkflowDefinition::default()
    })
    .unwrap();
    let definition = insist(|| Ok(store.put_definition(&old, long_ago)?));
    let record = ExecutionRecord {
        id: ExecutionId::generate(),
        definition,
        revision: 1,
        status: ExecutionStatus::Completed,
        priority: 0,
        key: Some("old".into()),
        input: Arc::new(Context::new()),
        created_at: long_ago,
        start_at: None,
        started_at: None,
        ended_at: Some(long_ago),
        timeout: None,
        deadline: None,
        paused_at: None,
        error: None,
        tasks: vec![TaskRecord::pending()],
    };
    insist(|| {
        let batch = Batch {
            runner: dead,
            now: long_ago,
            submits: vec![Submit {
                record: &record,
                workflow: "old",
                tasks: Vec::new(),
                history: &[],
            }],
            advances: Vec::new(),
            claim: ClaimRequest::default(),
            schedules: Vec::new(),
        };
        Ok(store.commit(&batch)?)
    });
}

fn until(what: &str, fact: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}

fn last_heartbeat(store: &Arc<dyn Store>) -> Option<Timestamp> {
    let runners = insist(|| Ok(store.runners()?));
    runners.iter().map(|runner| runner.heartbeat_at).max()
}

/// Lives once from the start to the stop; what there is at the end.
pub fn live(store: &Arc<dyn Store>) -> End {
    leave_traces(&**store);
    work(store)
}

/// The part that may be done again after a crash.
pub fn work(store: &Arc<dyn Store>) -> End {
    let engine = start(store);
    register(&engine);
    let request = || SubmitRequest {
        id: ExecutionId::generate(),
        workflow: "life".into(),
        input: Arc::new(Context::new()),
        key: Some("only".into()),
        priority: 0,
        start_at: None,
        timeout: Some(50_000_000),
        trace: None,
    };
    let id = insist(|| engine.submit(vec![request()]))[0];
    let ended = OneShot::default();
    insist(|| {
        let told = ended.clone();
        let hears = AtomicBool::new(true);
        engine.when_ended(id, move |result| {
            if hears.swap(false, Ordering::SeqCst) {
                told.set(result);
            }
        })
    });
    ended.wait(PATIENCE).expect("the execution ends").unwrap();
    let execution = insist(|| engine.execution(id));
    insist(|| engine.history(id));
    insist(|| engine.status(id));
    let list = || {
        insist(|| {
            engine.list(&ListFilter {
                limit: 10,
                ..ListFilter::default()
            })
        })
    };
    until("the old execution is pruned", || list().items.len() == 1);
    until("the dead runner is gone", || {
        insist(|| Ok(store.runners()?)).len() == 1
    });
    // A fast machine is through with all this before the first heartbeat is due.
    for _ in 0..2 {
        let last = last_heartbeat(store);
        until("a heartbeat", || last_heartbeat(store) > last);
    }
    let end = End {
        status: execution.record().status,
        tasks: execution
            .record()
            .tasks
            .iter()
            .map(|task| task.status.to_string())
            .collect(),
        context: execution.final_context().to_json(),
        executions: list().items.len(),
    };
    engine.stop(Duration::from_secs(5));
    end
}
