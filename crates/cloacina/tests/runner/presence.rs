//! Tests that, on PostgreSQL, the tasks of a runner whose session vanished are rescued long before the runner's lease
//! expires, unless the runner opens a new session (semantics E3).

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use cloacina::store::postgres::{PostgresOptions, PostgresStore};
use cloacina::store::{
    Batch, ClaimClass, ClaimRequest, QueueId, RunnerRow, Store, Submit, TaskWrite,
};
use cloacina::types::{Clock, ExecutionId, ExecutionStatus, RunnerId, SystemClock, Timestamp};

use super::private_postgres::{administer, fresh_name, shared};
use super::records::{ready, runner_row};
use super::support::{
    PATIENCE, body, config, define, done, postgres, start, submit, task, until, wait,
};

/// One hour, in microseconds.
const HOUR: i64 = 3_600_000_000;

/// Returns options for the same database with a new application name, which identifies the sessions in the server's views.
fn named(options: &PostgresOptions) -> (PostgresOptions, String) {
    let name = fresh_name();
    let url = format!("{}?application_name={name}", shared());
    let options = PostgresOptions::from_url(&url)
        .unwrap()
        .with_schema(options.schema.as_deref().unwrap())
        .unwrap();
    (options, name)
}

/// Waits until a session with this application name has read the locks, which show the live runners. Calls `busy` before each
/// check, so that a test can announce that a runner has work.
fn wait_until_locks_are_read(name: &str, busy: impl Fn()) {
    let query_start = |condition: &str| {
        administer(
            shared(),
            &format!(
                "SELECT query_start FROM pg_stat_activity WHERE application_name = '{name}' \
                 AND query LIKE '%FROM pg_locks%' {condition} LIMIT 1"
            ),
        )
    };
    let mut first = String::new();
    until("the locks are queried", || {
        busy();
        first = query_start("").pop().unwrap_or_default();
        !first.is_empty()
    });
    // The first query can still be running. When a session starts a later query, the first query has ended.
    until("the locks are queried again", || {
        busy();
        let later = format!("AND query_start > '{first}'::timestamptz + interval '300 ms'");
        !query_start(&later).is_empty()
    });
}

/// Waits until the store listens for notifications. From then on, the store holds the locks of its runners.
fn wait_until_listening(store: &PostgresStore) {
    let (sender, receiver) = mpsc::channel();
    store.on_change(Arc::new(move || {
        // `send` fails at the end of a test, when the receiver has been dropped.
        let _ = sender.send(());
    }));
    receiver.recv_timeout(PATIENCE).unwrap();
}

/// Registers a runner with another machine's host name and a lease of an hour, and claims one task for it.
fn remote_runner(
    store: &PostgresStore,
    workflow: &cloacina::workflow::Workflow,
    now: Timestamp,
) -> (RunnerId, ExecutionId) {
    let runner = RunnerId::generate();
    let row = RunnerRow {
        host: "far away".to_owned(),
        lease_until: now + HOUR,
        ..runner_row(runner, now)
    };
    store.register_runner(&row).unwrap();
    wait_until_listening(store);
    let definition = store.put_definition(workflow, now).unwrap();
    let queue = QueueId::of(workflow, 0);
    let record = ready(definition, now);
    let write = TaskWrite {
        ordinal: 0,
        insert: true,
        fence: None,
        queue,
        priority: 0,
    };
    let class = ClaimClass {
        queues: vec![queue],
        excluded: vec![],
        limit: 1,
    };
    let batch = Batch {
        runner,
        now,
        schedules: vec![],
        flow: cloacina::store::FlowWrites::default(),
        submits: vec![Submit {
            record: &record,
            workflow: "w",
            labels: &cloacina::types::Labels::NONE,
            tasks: vec![write],
            history: &[],
        }],
        advances: vec![],
        claim: ClaimRequest {
            classes: vec![class],
        },
    };
    assert_eq!(store.commit(&batch).unwrap().claimed.len(), 1);
    (runner, record.id)
}

#[test]
fn e3_runner_whose_session_vanished_is_rescued_at_once() {
    let options = postgres();
    let (ours, name) = named(&options);
    let theirs = PostgresStore::open(&options).unwrap();
    let workflow = cloacina::workflow::Workflow::new(cloacina::workflow::WorkflowDefinition {
        name: "w".into(),
        tenant: "public".into(),
        package: "embedded".into(),
        tasks: vec![task("a", &[])],
        ..Default::default()
    });
    let (peer, id) = remote_runner(&theirs, &workflow.unwrap(), SystemClock.now());
    let engine = start(Arc::new(PostgresStore::open(&ours).unwrap()), config());
    define(&engine, "w", vec![(task("a", &[]), body(|_| done()))]);
    wait_until_locks_are_read(&name, || drop(theirs.changes(Some(peer)).unwrap()));
    assert_eq!(
        engine.inspector().status(id).unwrap(),
        ExecutionStatus::Pending,
        "the task is claimed but not started"
    );
    drop(theirs);
    let ended = wait(&engine, id);
    assert_eq!(ended.record().status, ExecutionStatus::Completed);
    assert_eq!(ended.record().tasks[0].rescues, 1);
    engine.stop(Duration::from_secs(1));
}

#[test]
fn e3_live_runner_that_lost_its_sessions_is_not_rescued() {
    let options = postgres();
    let (watching, watcher) = named(&options);
    let (working, worker) = named(&options);
    let engine = start(Arc::new(PostgresStore::open(&working).unwrap()), config());
    let (sender, receiver) = mpsc::channel::<()>();
    let receiver = cloacina::types::sync::Mutex::new(receiver);
    let waits = body(move |_| {
        receiver.lock().recv_timeout(PATIENCE).unwrap();
        done()
    });
    define(&engine, "w", vec![(task("a", &[]), waits)]);
    let id = submit(&engine, "w");
    let other = start(Arc::new(PostgresStore::open(&watching).unwrap()), config());
    wait_until_locks_are_read(&watcher, || {});
    let listeners = format!(
        "FROM pg_stat_activity AS a WHERE a.application_name = '{worker}' AND EXISTS \
         (SELECT 1 FROM pg_locks AS l WHERE l.pid = a.pid AND l.locktype = 'advisory')"
    );
    for _ in 0..3 {
        let before = administer(shared(), &format!("SELECT a.pid {listeners}"));
        administer(
            shared(),
            &format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{worker}'"
            ),
        );
        until("the runner listens again", || {
            let now = administer(shared(), &format!("SELECT a.pid {listeners}"));
            !now.is_empty() && now != before
        });
    }
    sender.send(()).unwrap();
    let ended = wait(&other, id);
    assert_eq!(ended.record().status, ExecutionStatus::Completed);
    assert_eq!(
        (
            ended.record().tasks[0].rescues,
            ended.record().tasks[0].attempt
        ),
        (0, 1)
    );
    for engine in [engine, other] {
        engine.stop(Duration::from_secs(1));
    }
}
