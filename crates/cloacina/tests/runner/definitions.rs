//! Tests of workflow versions that are stored and pruned while runners work (E8), and of tasks without a handler (E5).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cloacina::runner::EngineHandle;
use cloacina::runtime::Registration;
use cloacina::store::postgres::PostgresStore;
use cloacina::store::sqlite::{SqliteOptions, SqliteStore};
use cloacina::store::{Layer, Request, Response, Store, StoreError};
use cloacina::types::{DefinitionId, ExecutionStatus, TaskStatus, Timestamp};
use cloacina::workflow::{TaskDefinition, Workflow, WorkflowDefinition};
use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};

use super::private_postgres::{administer, shared};
use super::support::{
    Counter, body, config, define, done, on_each_database, postgres, start, submit, task, until,
    wait,
};

const LATER: Timestamp = Timestamp(i64::MAX);

/// Returns a version of the workflow `etl`. Versions with different numbers differ only in a fingerprint.
fn version(number: usize, tasks: Vec<TaskDefinition>) -> Workflow {
    let mut tasks = tasks;
    tasks[0].fingerprint = format!("version {number}");
    Workflow::new(WorkflowDefinition {
        name: "etl".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks,
        ..WorkflowDefinition::default()
    })
    .unwrap()
}

/// Stores a version of the workflow `etl` that has one task.
fn put(store: &dyn Store, number: usize) -> DefinitionId {
    let workflow = version(number, vec![task("a", &[])]);
    store.put_definition(&workflow, Timestamp(0)).unwrap()
}

/// Starts a runner that has the workflow `etl` with the task `a`.
fn with_task_a(store: Arc<dyn Store>) -> EngineHandle {
    let engine = start(store, config());
    define(&engine, "etl", vec![(task("a", &[]), body(|_| done()))]);
    engine
}

#[test]
fn e8_submission_of_a_pruned_version_stores_it_again() {
    on_each_database(|open| {
        let engine = with_task_a(open());
        let other = open();
        let own = other.versions(DefinitionId(0)).unwrap()[0].id;
        let newer = put(&*other, 1);
        assert_eq!(other.prune(LATER, 10).unwrap().definitions, 1);
        assert_eq!(other.definition(own).unwrap(), None);
        let id = submit(&engine, "etl");
        let ended = wait(&engine, id);
        assert_eq!(ended.record().status, ExecutionStatus::Completed);
        assert!(ended.record().definition > newer);
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn e8_submissions_survive_a_race_with_pruning() {
    on_each_database(|open| {
        let engine = start(open(), config());
        let count = Counter::default();
        let hit = count.clone();
        let run = body(move |_| {
            hit.hit();
            done()
        });
        define(&engine, "etl", vec![(task("a", &[]), run)]);
        let other = open();
        let is_over = Arc::new(AtomicBool::new(false));
        let pruner = std::thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                let mut pruned = 0;
                for number in 0.. {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    put(&*other, number);
                    pruned += other.prune(LATER, 100).unwrap().definitions;
                }
                pruned
            }
        });
        for _ in 0..100 {
            submit(&engine, "etl");
        }
        until("all have run", || count.get() == 100);
        is_over.store(true, Ordering::SeqCst);
        assert!(pruner.join().unwrap() > 0);
        engine.stop(Duration::from_secs(1));
    });
}

#[test]
fn e5_task_without_a_handler_is_returned_and_not_claimed_again() {
    on_each_database(|open| {
        // `former` stores a version with the tasks `a` and `gone`. The later runner has a handler only for `a`.
        let former = start(open(), config());
        let workflow = version(0, vec![task("a", &[]), task("gone", &[])]);
        let registration = Registration {
            workflow: Arc::new(workflow),
            handlers: BTreeMap::new(),
        };
        former.register(registration).unwrap();
        let id = submit(&former, "etl");
        former.stop(Duration::from_secs(1));
        let store = open();
        let engine = with_task_a(open());
        let record = || store.load(&[id]).unwrap().remove(0);
        until("task a has completed", || {
            record().tasks[0].status == TaskStatus::Completed
        });
        // The runner forgets the version when many other versions are stored.
        for number in 1..200 {
            put(&*store, number);
            if number % 40 == 0 {
                let id = submit(&engine, "etl");
                wait(&engine, id);
            }
        }
        let before = record();
        for _ in 0..20 {
            let id = submit(&engine, "etl");
            wait(&engine, id);
        }
        let after = record();
        assert_eq!(after.tasks[1].status, TaskStatus::Ready);
        assert_eq!(after.tasks[1].uncounted, after.tasks[1].attempt);
        assert_eq!(after.revision, before.revision);
        engine.stop(Duration::from_secs(1));
    });
}

/// A store that measures claims and counts reads of definitions.
struct CountingStore {
    below: Arc<dyn Store>,
    /// The largest number of queues and excluded tasks in one claim.
    claim_size: AtomicUsize,
    /// The number of definitions that were read.
    read: AtomicUsize,
}

impl Layer for CountingStore {
    type Below = dyn Store + 'static;

    fn below(&self) -> &(dyn Store + 'static) {
        &*self.below
    }

    fn pass(&self, request: Request<'_>) -> Result<Response, StoreError> {
        match &request {
            Request::Definition { .. } => {
                self.read.fetch_add(1, Ordering::SeqCst);
            }
            Request::Commit { batch } => {
                let classes = batch.claim.classes.iter();
                let sizes = classes.map(|class| class.queues.len() + class.excluded.len());
                self.claim_size.fetch_max(sizes.sum(), Ordering::SeqCst);
            }
            _ => {}
        }
        self.below.call(request)
    }
}

/// Returns the time that the fastest of 200 executions takes. Other work on the machine affects the fastest one least.
fn cost(engine: &EngineHandle) -> Duration {
    let times = (0..200).map(|_| {
        let begin = Instant::now();
        let id = submit(engine, "etl");
        wait(engine, id);
        begin.elapsed()
    });
    times.min().unwrap()
}

/// Checks that neither the number of queues in a claim nor the time of an execution grows with the number of versions.
/// Versions are added to `store`, but not to `other`.
fn check_claim_cost(store: &Arc<dyn Store>, other: Arc<dyn Store>, add_versions: impl FnOnce()) {
    let counting = Arc::new(CountingStore {
        below: Arc::clone(store),
        claim_size: AtomicUsize::new(0),
        read: AtomicUsize::new(0),
    });
    let engine = with_task_a(counting.clone());
    cost(&engine);
    let claim_size = counting.claim_size.swap(0, Ordering::SeqCst);
    assert!(claim_size > 0);
    add_versions();
    let newest = put(&**store, 0);
    until("the runner has seen the versions", || {
        counting.read.load(Ordering::SeqCst) > 0
    });
    // Other tests run at the same time and disturb the measurements. So each round measures both databases, and only
    // one of the ten rounds must show about the same cost for both.
    let few = with_task_a(other);
    let rounds: Vec<[Duration; 2]> = (0..10).map(|_| [cost(&few), cost(&engine)]).collect();
    assert_eq!(counting.claim_size.load(Ordering::SeqCst), claim_size);
    let costs_the_same = |[few, many]: &[Duration; 2]| *many < *few * 3 / 2;
    assert!(rounds.iter().any(costs_the_same), "{rounds:?}");
    few.stop(Duration::from_secs(1));
    engine.stop(Duration::from_secs(1));
    // A new runner reads a bounded number of versions.
    counting.read.store(0, Ordering::SeqCst);
    let engine = with_task_a(counting.clone());
    let id = submit(&engine, "etl");
    assert!(wait(&engine, id).record().definition < newest);
    assert!(counting.read.load(Ordering::SeqCst) <= 66);
    assert_eq!(counting.claim_size.load(Ordering::SeqCst), claim_size);
    engine.stop(Duration::from_secs(1));
}

#[test]
fn claim_cost_does_not_grow_with_ten_thousand_versions_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("versions.db");
    let open = |path: &Path| Arc::new(SqliteStore::open(&SqliteOptions::file(path)).unwrap());
    let store: Arc<dyn Store> = open(&path);
    check_claim_cost(&store, open(&folder.path().join("few.db")), || {
        let mut other = SqliteConnection::establish(&path.display().to_string()).unwrap();
        other
            .batch_execute(
                "PRAGMA busy_timeout = 10000; \
                 WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) \
                 INSERT INTO cloacina_definitions (workflow, version, body, task_count, created_at) \
                 SELECT d.workflow, 'v' || n.i, d.body, d.task_count, 0 FROM n, cloacina_definitions AS d",
            )
            .unwrap();
    });
}

#[test]
fn claim_cost_does_not_grow_with_ten_thousand_versions_on_postgres() {
    let options = postgres();
    let schema = options.schema.clone().unwrap();
    let store: Arc<dyn Store> = Arc::new(PostgresStore::open(&options).unwrap());
    let few = Arc::new(PostgresStore::open(&postgres()).unwrap());
    check_claim_cost(&store, few, || {
        let table = format!("{schema}.cloacina_definitions");
        administer(
            shared(),
            &format!(
                "INSERT INTO {table} (workflow, version, body, task_count, created_at) \
                 SELECT d.workflow, 'v' || i, d.body, d.task_count, 0 FROM generate_series(1, 10000) AS i, {table} AS d"
            ),
        );
    });
}
