//! Tests of the store's internals: prepared statements, query plans, settings, and SQLite's error texts.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::types::sync::Mutex;
use diesel::connection::{InstrumentationEvent, SimpleConnection};
use diesel::sql_types::Text;
use diesel::{Connection, QueryableByName, RunQueryDsl, SqliteConnection};

use super::*;
use crate::store::{
    Advance, Batch, ClaimClass, ClaimRequest, ListQuery, QueueId, RunnerRow, Submit, TaskWrite,
};
use crate::types::ExecutionStatus::{Cancelled, Failed, Paused, Pending, Running};
use crate::types::{
    Claim, Context, DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent,
    Json, RunnerId, TaskRecord, TaskStatus, Timestamp,
};
use crate::workflow::{TaskDefinition, Workflow, WorkflowDefinition};

const NOW: Timestamp = Timestamp(1_750_000_000_000_000);

/// The statements that Diesel has prepared and executed.
#[derive(Default)]
pub(super) struct StatementLog {
    pub(super) prepared: Vec<String>,
    executed: BTreeSet<String>,
}

/// Logs the statements that Diesel prepares and executes on a connection from now on.
pub(super) fn watch(connection: &mut SqliteConnection) -> Arc<Mutex<StatementLog>> {
    let log = Arc::new(Mutex::new(StatementLog::default()));
    let events = Arc::clone(&log);
    connection.set_instrumentation(move |event: InstrumentationEvent<'_>| match event {
        InstrumentationEvent::CacheQuery { sql, .. } => events.lock().prepared.push(sql.to_owned()),
        InstrumentationEvent::StartQuery { query, .. } => {
            let text = query.to_string();
            let sql = text.split(" -- binds").next().unwrap_or_default();
            events.lock().executed.insert(sql.to_owned());
        }
        _ => {}
    });
    log
}

fn workflow() -> Workflow {
    let task = |id: &str| TaskDefinition {
        id: id.to_owned(),
        ..TaskDefinition::default()
    };
    let definition = WorkflowDefinition {
        name: "etl".to_owned(),
        tenant: "public".to_owned(),
        package: "embedded".to_owned(),
        tasks: vec![task("a"), task("b")],
        ..WorkflowDefinition::default()
    };
    Workflow::new(definition).unwrap()
}

/// Sends the most common requests, some of them in several forms.
#[expect(clippy::too_many_lines, reason = "the requests form one sequence")]
fn exercise(store: &SqliteStore) {
    let runner = RunnerId::generate();
    let definition = store.put_definition(&workflow(), NOW).unwrap();
    let row = RunnerRow {
        id: runner,
        host: String::new(),
        pid: 1,
        pid_started: 1,
        started_at: NOW,
        heartbeat_at: NOW,
        lease_until: NOW,
        workflows: vec![],
    };
    store.register_runner(&row).unwrap();
    let queue = QueueId(definition.0);
    let mut record = ExecutionRecord {
        id: ExecutionId::generate(),
        definition,
        revision: 1,
        status: ExecutionStatus::Pending,
        priority: 0,
        key: Some(ExecutionId::generate().to_string()),
        input: Arc::new(Context::from_json(r#"{"a":1}"#).unwrap()),
        created_at: NOW,
        start_at: None,
        started_at: None,
        ended_at: None,
        timeout: None,
        deadline: None,
        paused_at: None,
        parent: None,
        finale: None,
        error: None,
        tasks: vec![
            TaskRecord {
                status: TaskStatus::Ready,
                ..TaskRecord::pending()
            };
            2
        ],
    };
    record.tasks[1].ready_at = Some(NOW);
    let events = [HistoryEvent {
        time: NOW,
        kind: "paused".to_owned(),
        task: None,
        attempt: None,
        runner: None,
        data: Json::parse("{}").ok(),
    }];
    let write = |ordinal, insert, fence| TaskWrite {
        ordinal,
        insert,
        fence,
        queue,
        priority: 0,
    };
    let inserts = || vec![write(0, true, None), write(1, true, None)];
    let submit = || Submit {
        record: &record,
        labels: &crate::types::Labels::NONE,
        workflow: "etl",
        tasks: inserts(),
        history: &events,
    };
    let classes = vec![
        ClaimClass {
            queues: vec![queue],
            excluded: vec![],
            limit: 1
        };
        2
    ];
    let claim = ClaimRequest {
        classes: classes.clone(),
    };
    let batch = Batch {
        runner,
        now: NOW,
        schedules: vec![],
        flow: crate::store::FlowWrites::default(),
        submits: vec![submit(), submit()],
        advances: vec![],
        claim,
    };
    assert_eq!(store.commit(&batch).unwrap().claimed.len(), 2);
    let claim = ClaimRequest { classes };
    let idle = Batch {
        runner,
        now: NOW,
        schedules: vec![],
        flow: crate::store::FlowWrites::default(),
        submits: vec![],
        advances: vec![],
        claim,
    };
    assert_eq!(store.commit(&idle).unwrap().claimed, []);

    let mut ended = store.load(&[record.id]).unwrap().remove(0);
    ended.status = ExecutionStatus::Completed;
    ended.ended_at = Some(NOW);
    ended.revision = 4;
    ended.tasks[0].status = TaskStatus::Completed;
    let fence = Some(Claim::of_task(runner, 1));
    let tasks = vec![write(0, false, fence), write(1, false, fence)];
    let advance = Advance {
        record: &ended,
        expected: 3,
        tasks,
        history: &[],
        requires: &[],
        steps: None,
    };
    let batch = Batch {
        runner,
        now: NOW,
        schedules: vec![],
        flow: crate::store::FlowWrites::default(),
        submits: vec![],
        advances: vec![advance],
        claim: ClaimRequest::default(),
    };
    assert_eq!(store.commit(&batch).unwrap().advances, [true]);
    let mut again = ended.clone();
    again.revision = 5;
    again.tasks[1].status = TaskStatus::Cancelled;
    let tasks = vec![write(1, false, None)];
    let advance = Advance {
        record: &again,
        expected: 4,
        tasks,
        history: &[],
        requires: &[],
        steps: None,
    };
    let batch = Batch {
        runner,
        now: NOW,
        schedules: vec![],
        flow: crate::store::FlowWrites::default(),
        submits: vec![],
        advances: vec![advance],
        claim: ClaimRequest::default(),
    };
    assert_eq!(store.commit(&batch).unwrap().advances, [true]);

    store.definition(definition).unwrap();
    store.definitions(DefinitionId(0)).unwrap();
    store.statuses(&[record.id]).unwrap();
    store.history(record.id).unwrap();
    store.overdue(NOW).unwrap();
    let list = |statuses: &[ExecutionStatus], workflow: Option<&str>| {
        let query = ListQuery {
            statuses: statuses.to_vec(),
            workflow: workflow.map(str::to_owned),
            limit: 5,
            ..ListQuery::default()
        };
        store.list(&query).unwrap();
    };
    list(&[], None);
    list(&[], Some("etl"));
    list(&[Pending, Running, Paused, Failed, Cancelled], None);
    store.heartbeat(runner, NOW, NOW).unwrap();
    store.runners().unwrap();
    store.claims_of(runner).unwrap();
    store.declare_dead(runner, NOW, NOW).unwrap();
    store.dead_runners().unwrap();
    store.retire_runner(runner).unwrap();
    store.changes(None).unwrap();
    store.prune(NOW + 1, 10).unwrap();
}

#[test]
fn each_statement_is_prepared_once_per_connection() {
    // An in-memory database uses one connection for everything.
    let store = SqliteStore::open(&SqliteOptions::memory()).unwrap();
    let log = watch(&mut store.writer.lock().unwrap());
    for _ in 0..3 {
        exercise(&store);
    }
    let log = log.lock();
    let distinct: BTreeSet<String> = log.prepared.iter().cloned().collect();
    assert_eq!(
        distinct.len(),
        log.prepared.len(),
        "a statement was prepared twice; all prepared statements: {:#?}",
        log.prepared
    );
    // These statements were prepared when the database was opened.
    let opened = ["BEGIN", "BEGIN IMMEDIATE", "COMMIT"];
    let executed = log
        .executed
        .iter()
        .filter(|sql| !opened.contains(&sql.as_str()));
    let uncached: Vec<&String> = executed.filter(|sql| !distinct.contains(*sql)).collect();
    assert!(
        uncached.is_empty(),
        "executed without the statement cache: {uncached:#?}"
    );
    assert!(
        distinct.len() > 40,
        "only {} statements were logged",
        distinct.len()
    );
}

#[derive(QueryableByName)]
pub(super) struct PlanStep {
    #[diesel(sql_type = Text)]
    pub(super) detail: String,
}

#[test]
fn no_statement_scans_a_growing_table() {
    let store = SqliteStore::open(&SqliteOptions::memory()).unwrap();
    let log = watch(&mut store.writer.lock().unwrap());
    exercise(&store);
    let prepared = log.lock().prepared.clone();
    let mut connection = store.writer.lock().unwrap();
    for sql in prepared.iter().filter(|sql| !sql.starts_with("PRAGMA")) {
        let Ok(plan) = diesel::sql_query(format!("EXPLAIN QUERY PLAN {sql}"))
            .load::<PlanStep>(&mut *connection)
        else {
            assert!(
                ["BEGIN", "COMMIT", "ROLLBACK"]
                    .iter()
                    .any(|word| sql.starts_with(word)),
                "{sql}"
            );
            continue;
        };
        for PlanStep { detail } in plan {
            let table = detail.strip_prefix("SCAN ").unwrap_or_default();
            let grows = [
                "executions",
                "tasks",
                "inputs",
                "events",
                "execution",
                "task",
            ];
            let scans = grows.iter().any(|name| {
                table.starts_with(name) || table.starts_with(&format!("cloacina_{name}"))
            });
            assert!(!scans, "{detail}: {sql}");
            assert!(
                !detail.contains("TEMP B-TREE") || sql.contains("deadline"),
                "{detail}: {sql}"
            );
        }
    }
}

#[derive(QueryableByName)]
struct Setting {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    value: i64,
}

#[test]
fn settings_apply_to_writer_and_readers() {
    let folder = tempfile::tempdir().unwrap();
    for (synchronous, code) in [(Synchronous::Full, 2), (Synchronous::Normal, 1)] {
        let options = SqliteOptions {
            synchronous,
            ..SqliteOptions::file(folder.path().join("x.db"))
        };
        let store = SqliteStore::open(&options).unwrap();
        let get = |connection: &mut SqliteConnection, name: &str| {
            let column = if name == "busy_timeout" {
                "timeout"
            } else {
                name
            };
            let sql = format!("SELECT {column} AS value FROM pragma_{name}");
            diesel::sql_query(sql).load::<Setting>(connection).unwrap()[0].value
        };
        let check = |connection: &mut SqliteConnection| {
            assert_eq!(get(connection, "synchronous"), code);
            assert_eq!(get(connection, "foreign_keys"), 1);
        };
        check(&mut store.writer.lock().unwrap());
        store
            .readers
            .as_ref()
            .unwrap()
            .run(|connection| {
                check(connection);
                assert_eq!(get(connection, "busy_timeout"), 30_000);
                Ok(())
            })
            .unwrap();
    }
}

#[test]
fn read_connections_are_returned_after_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&SqliteOptions::file(folder.path().join("x.db"))).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(store.runners().unwrap(), []);
                }
            });
        }
    });
    for _ in 0..10 {
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            store.read::<()>(|_| panic!("in the middle of a transaction"))
        }));
        assert!(panicked.is_err());
    }
    assert_eq!(store.runners().unwrap(), []);
}

#[test]
fn writer_is_usable_after_a_panic_in_a_transaction() {
    let store = SqliteStore::open(&SqliteOptions::memory()).unwrap();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store
            .writer
            .write::<()>(&mut store.writer.lock().unwrap(), |_| {
                panic!("in the middle")
            })
    }));
    assert!(panicked.is_err());
    exercise(&store);
}

#[test]
fn full_disk_is_reported_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full.db");
    let store = SqliteStore::open(&SqliteOptions::file(&path)).unwrap();
    store
        .writer
        .lock()
        .unwrap()
        .batch_execute("PRAGMA max_page_count = 1")
        .unwrap();
    let mut definition = workflow().definition().clone();
    definition.description = "x".repeat(1 << 20);
    let error = store
        .put_definition(&Workflow::new(definition).unwrap(), NOW)
        .unwrap_err();
    let StoreError::Failed(message) = &error else {
        panic!("{error:?}")
    };
    assert!(
        message.contains("is full") && message.contains("full.db"),
        "{message}"
    );
    store
        .writer
        .lock()
        .unwrap()
        .batch_execute("PRAGMA max_page_count = 1000000")
        .unwrap();
    assert_eq!(store.definitions(DefinitionId(0)).unwrap(), []);
    exercise(&store);
}

#[test]
fn unreadable_row_is_reported_as_corrupt() {
    let store = SqliteStore::open(&SqliteOptions::memory()).unwrap();
    let definition = store.put_definition(&workflow(), NOW).unwrap();
    let id = ExecutionId::generate();
    let insert = format!(
        "INSERT INTO cloacina_executions (id, definition_id, workflow, state, revision, priority, created_at, error) \
         VALUES (x'{}', {}, 'etl', 4, 1, 0, 0, '{{not json')",
        id.uuid().simple(),
        definition.0
    );
    store.writer.lock().unwrap().batch_execute(&insert).unwrap();
    let error = store.load(&[id]).unwrap_err();
    assert!(matches!(&error, StoreError::Corrupt(_)), "{error:?}");
    store
        .writer
        .lock()
        .unwrap()
        .batch_execute("UPDATE cloacina_executions SET error = NULL")
        .unwrap();
    let insert = format!(
        "INSERT INTO cloacina_tasks (execution_id, ordinal, state, attempt, uncounted, rescues, queue, priority) \
         VALUES (x'{}', 2, 1, 0, 0, 0, 4, 0)",
        id.uuid().simple()
    );
    store.writer.lock().unwrap().batch_execute(&insert).unwrap();
    let error = store.load(&[id]).unwrap_err();
    assert!(
        matches!(&error, StoreError::Corrupt(message) if message.contains("task 2")),
        "{error:?}"
    );
}

#[test]
fn errors_are_classified_by_their_text() {
    let busy = |connection: &mut SqliteConnection| connection.batch_execute("BEGIN IMMEDIATE");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let options = SqliteOptions {
        busy_timeout: Duration::from_millis(20),
        ..SqliteOptions::file(&path)
    };
    let store = SqliteStore::open(&options).unwrap();
    let mut other = SqliteConnection::establish(&path.display().to_string()).unwrap();
    busy(&mut other).unwrap();
    let error = store.put_definition(&workflow(), NOW).unwrap_err();
    assert!(
        matches!(&error, StoreError::Unavailable(message) if message.contains("busy_timeout")),
        "{error:?}"
    );
    other.batch_execute("ROLLBACK").unwrap();
    store.put_definition(&workflow(), NOW).unwrap();
    let texts = [
        ("database is locked", "Unavailable"),
        ("database or disk is full", "Failed"),
        ("attempt to write a readonly database", "Failed"),
        ("disk I/O error", "Failed"),
        ("unable to open database file", "Failed"),
        ("database disk image is malformed", "Failed"),
        ("file is not a database", "Failed"),
        ("out of memory", "Failed"),
        ("something new", "Failed"),
    ];
    for (text, expected) in texts {
        let error = format!("{:?}", error::explain(text, "sqlite:///x.db"));
        assert!(
            error.starts_with(expected) && error.contains("sqlite:///x.db"),
            "{error}"
        );
    }
}
