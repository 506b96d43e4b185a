//! Tests of the PostgreSQL store: restarted servers, concurrent openers, and runners that notify each other.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod change_marker;
#[path = "../support/old_queues.rs"]
mod old_queues;
mod opening;
mod pooler;
#[path = "../support/private_postgres.rs"]
mod private_postgres;
#[path = "../support/records.rs"]
mod records;
mod tls;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use cloacina::store::postgres::{PostgresOptions, PostgresStore};
use cloacina::store::{
    Batch, ClaimClass, ClaimRequest, ListQuery, QueueId, Store, StoreError, Submit, TaskWrite,
};
use cloacina::types::{DefinitionId, ExecutionId, ExecutionRecord, RunnerId, Timestamp};
use private_postgres::{Private, administer, fresh_name, shared};
use records::{NOW, SECOND, ready, runner_row, workflow};

/// Maximum time that a test waits for a notification or for a server.
const PATIENCE: Duration = Duration::from_secs(30);

fn options(url: &str) -> PostgresOptions {
    PostgresOptions::from_url(url).unwrap()
}

/// Returns options for a fresh schema.
fn pinned(url: &str) -> PostgresOptions {
    options(url).with_schema(&fresh_name()).unwrap()
}

fn register(store: &dyn Store, now: Timestamp) -> RunnerId {
    let id = RunnerId::generate();
    store.register_runner(&runner_row(id, now)).unwrap();
    id
}

fn queue(definition: DefinitionId) -> QueueId {
    QueueId(definition.0)
}

fn submit(
    store: &dyn Store,
    runner: RunnerId,
    records: &[ExecutionRecord],
) -> Result<(), StoreError> {
    let submits = records
        .iter()
        .map(|record| Submit {
            record,
            workflow: "etl",
            labels: &cloacina::types::Labels::NONE,
            tasks: vec![TaskWrite {
                ordinal: 0,
                insert: true,
                fence: None,
                queue: queue(record.definition),
                priority: 0,
            }],
            history: &[],
        })
        .collect();
    let batch = Batch {
        runner,
        now: NOW,
        schedules: vec![],
        flow: cloacina::store::FlowWrites::default(),
        submits,
        advances: vec![],
        claim: ClaimRequest::default(),
    };
    store.commit(&batch).map(drop)
}

fn claim(
    store: &dyn Store,
    runner: RunnerId,
    definition: DefinitionId,
    limit: usize,
) -> Vec<ExecutionId> {
    let class = ClaimClass {
        queues: vec![queue(definition)],
        excluded: vec![],
        limit,
    };
    let batch = Batch {
        runner,
        now: NOW,
        schedules: vec![],
        flow: cloacina::store::FlowWrites::default(),
        submits: vec![],
        advances: vec![],
        claim: ClaimRequest {
            classes: vec![class],
        },
    };
    let claimed = store.commit(&batch).unwrap().claimed;
    claimed.iter().map(|claimed| claimed.execution).collect()
}

/// Returns the ids of all executions.
fn all(store: &dyn Store) -> Vec<ExecutionId> {
    let query = ListQuery {
        limit: 1_000_000,
        ..ListQuery::default()
    };
    store.list(&query).unwrap().ids
}

/// Waits until the store listens. Returns a channel that receives the store's change notifications.
fn waker(store: &PostgresStore) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    store.on_change(Arc::new(move || {
        // `send` fails at the end of a test, when the receiver has been dropped.
        let _ = sender.send(());
    }));
    // The store sends the first notification when it has begun to listen.
    receiver.recv_timeout(PATIENCE).unwrap();
    receiver
}

#[test]
fn runners_notify_each_other_but_not_themselves() {
    let application = fresh_name();
    let url = format!("{}?application_name={application}", shared());
    let options = pinned(&url);
    let (one, two) = (
        PostgresStore::open(&options).unwrap(),
        PostgresStore::open(&options).unwrap(),
    );
    let definition = one.put_definition(&workflow("etl", 1), NOW).unwrap();
    let (first, second) = (register(&one, NOW), register(&two, NOW));
    let (wakes_of_one, wakes_of_two) = (waker(&one), waker(&two));
    // The first store sees both registrations.
    assert_eq!(one.runners().unwrap().len(), 2);
    submit(&two, second, &[ready(definition, NOW)]).unwrap();
    wakes_of_one.recv_timeout(PATIENCE).unwrap();
    while wakes_of_one
        .recv_timeout(Duration::from_millis(200))
        .is_ok()
    {}
    while wakes_of_two.try_recv().is_ok() {}
    let (before_one, before_two) = (
        one.changes(None).unwrap().marker,
        two.changes(None).unwrap().marker,
    );
    let revivals = two.changes(None).unwrap().revivals;
    submit(&one, first, &[ready(definition, NOW)]).unwrap();
    wakes_of_two.recv_timeout(PATIENCE).unwrap();
    assert_ne!(two.changes(None).unwrap().marker, before_two);
    assert_eq!(
        one.changes(None).unwrap().marker,
        before_one,
        "a store's own write does not change its marker"
    );
    assert!(wakes_of_one.try_recv().is_err());
    assert_eq!(
        two.changes(None).unwrap().revivals,
        revivals,
        "no ended execution was retried"
    );

    // If the server ends the LISTEN session, the store listens again and reports that it may have missed changes.
    let ended = administer(
        shared(),
        &format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{application}' \
             AND query ~ 'LISTEN|pg_notify|pg_advisory_lock_shared|pg_locks'"
        ),
    );
    assert!(!ended.is_empty(), "no session listens");
    // The store wakes its runner when the session ends, and again when it listens again.
    for _ in 0..2 {
        wakes_of_two.recv_timeout(PATIENCE).unwrap();
    }
    while wakes_of_two
        .recv_timeout(Duration::from_millis(300))
        .is_ok()
    {}
    assert_ne!(
        two.changes(None).unwrap().revivals,
        revivals,
        "a retry may have been missed"
    );
    submit(&one, first, &[ready(definition, NOW)]).unwrap();
    wakes_of_two.recv_timeout(PATIENCE).unwrap();
}

#[test]
fn change_marker_reports_other_writers_without_listen() {
    let options = pinned(shared());
    for parameter in ["pgbouncer=true", "listen=off"] {
        let polling = self::options(&format!("{}?{parameter}", shared()));
        let polling = polling
            .with_schema(options.schema.as_deref().unwrap())
            .unwrap();
        let (one, two) = (
            PostgresStore::open(&polling).unwrap(),
            PostgresStore::open(&options).unwrap(),
        );
        let definition = two.put_definition(&workflow("etl", 1), NOW).unwrap();
        let runner = register(&two, NOW);
        let before = one.changes(None).unwrap().marker;
        submit(&two, runner, &[ready(definition, NOW)]).unwrap();
        let start = Instant::now();
        while one.changes(None).unwrap().marker == before {
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
    }
}

/// E1: leases are compared by the clock of the database, not of the runners.
#[test]
fn runners_with_different_clocks_agree_on_leases() {
    const HOUR: i64 = 3_600 * SECOND;
    let options = pinned(shared());
    let (one, two) = (
        PostgresStore::open(&options).unwrap(),
        PostgresStore::open(&options).unwrap(),
    );
    let first = register(&one, NOW);
    let later = NOW + HOUR;
    let second = register(&two, later);
    let rows = two.runners().unwrap();
    let row = rows.iter().find(|row| row.id == first).unwrap();
    let left = row.lease_until.since(later);
    assert!((10 * SECOND..=16 * SECOND).contains(&left), "{left}");
    // `lease_until` was converted to the clock of `two`. The store compares it correctly with the stored lease.
    assert!(two.declare_dead(first, row.lease_until, later).unwrap());
    assert!(!one.heartbeat(first, NOW, NOW + 15 * SECOND).unwrap());
    assert!(two.heartbeat(second, later, later + 15 * SECOND).unwrap());
    // A lease that was extended after it was read does not count as expired.
    let third = register(&one, NOW);
    let rows = two.runners().unwrap();
    let seen = rows
        .iter()
        .find(|row| row.id == third)
        .map(|row| row.lease_until);
    if let Some(seen) = seen {
        assert!(one.heartbeat(third, NOW, NOW + 15 * SECOND).unwrap());
        assert!(!two.declare_dead(third, seen, later).unwrap());
    }
    assert!(one.heartbeat(third, NOW, NOW + 15 * SECOND).unwrap());
}

/// Each task is claimed once, and every runner claims some tasks. In each round, every runner claims tasks until 20
/// consecutive claims return none.
#[test]
fn four_racing_stores_claim_each_task_once() {
    const TASKS: usize = 1_000;
    let options = pinned(shared());
    let store = PostgresStore::open(&options).unwrap();
    let definition = store.put_definition(&workflow("etl", 1), NOW).unwrap();
    let runner = register(&store, NOW);
    let racers = [(); 4].map(|()| {
        let store = PostgresStore::open(&options).unwrap();
        let runner = register(&store, NOW);
        (store, runner)
    });
    let mut totals = [0; 4];
    let start = Instant::now();
    // On a busy machine, one store can claim all tasks of a round before another store claims its first task.
    while totals.contains(&0) {
        assert!(
            start.elapsed() < PATIENCE,
            "a store claims no tasks: {totals:?}"
        );
        let records: Vec<_> = (0..TASKS).map(|_| ready(definition, NOW)).collect();
        submit(&store, runner, &records).unwrap();
        let barrier = Barrier::new(racers.len());
        let race = |(store, runner): &(PostgresStore, RunnerId)| {
            barrier.wait();
            let mut all = Vec::new();
            let mut empty = 0;
            while empty < 20 {
                let claimed = claim(store, *runner, definition, 7);
                empty = if claimed.is_empty() { empty + 1 } else { 0 };
                all.extend(claimed);
            }
            all
        };
        let race = &race;
        let shares: [Vec<ExecutionId>; 4] = std::thread::scope(|scope| {
            let threads = racers
                .each_ref()
                .map(|racer| scope.spawn(move || race(racer)));
            threads.map(|thread| thread.join().unwrap())
        });
        for (total, share) in totals.iter_mut().zip(&shares) {
            *total += share.len();
        }
        let claimed: Vec<ExecutionId> = shares.into_iter().flatten().collect();
        assert_eq!(claimed.len(), TASKS);
        let expected: HashSet<ExecutionId> = records.iter().map(|record| record.id).collect();
        assert_eq!(claimed.into_iter().collect::<HashSet<_>>(), expected);
    }
}

#[test]
fn acknowledged_writes_survive_server_restarts_under_load() {
    const THREADS: usize = 4;
    let server = Private::start();
    let options = options(&format!("{}?connect_timeout=5", server.url));
    let definition = PostgresStore::open(&options)
        .unwrap()
        .put_definition(&workflow("etl", 1), NOW)
        .unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let interrupted = Arc::new(AtomicUsize::new(0));
    let (sender, registrations) = mpsc::channel();
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (options, stop) = (options.clone(), Arc::clone(&stop));
            let (interrupted, registered) = (Arc::clone(&interrupted), sender.clone());
            std::thread::spawn(move || {
                let store = PostgresStore::open(&options).unwrap();
                let runner = register(&store, NOW);
                registered.send(()).unwrap();
                let (mut acknowledged, mut is_interrupted) = (Vec::new(), false);
                let mut after_stop = 0;
                while after_stop < 5 {
                    if stop.load(Ordering::Acquire) {
                        after_stop += 1;
                    }
                    let record = ready(definition, NOW);
                    // If the answer is lost, the caller submits the same execution again.
                    loop {
                        match submit(&store, runner, std::slice::from_ref(&record)) {
                            Ok(()) => break,
                            Err(StoreError::Unavailable(_)) => {
                                if !std::mem::replace(&mut is_interrupted, true) {
                                    interrupted.fetch_add(1, Ordering::AcqRel);
                                }
                            }
                            Err(error) => panic!("{error:?}"),
                        }
                        std::thread::yield_now();
                    }
                    acknowledged.push(record.id);
                }
                acknowledged
            })
        })
        .collect();
    // The server must not stop before all threads have registered their runners, because a failed registration is not
    // repeated.
    for _ in 0..THREADS {
        registrations.recv_timeout(PATIENCE).unwrap();
    }
    for mode in ["fast", "immediate", "fast", "immediate"] {
        let seen = all(&PostgresStore::open(&options).unwrap()).len();
        let start = Instant::now();
        // Waits until an execution has been written since the last restart.
        loop {
            if all(&PostgresStore::open(&options).unwrap()).len() > seen {
                break;
            }
            assert!(start.elapsed() < PATIENCE);
        }
        server.stop(mode);
        // Waits until each thread has had a failed submission. After the first stop, all threads already have had one.
        let start = Instant::now();
        while interrupted.load(Ordering::Acquire) < THREADS {
            assert!(
                start.elapsed() < PATIENCE,
                "a thread's submission has not failed although the server is stopped"
            );
            std::thread::yield_now();
        }
        server.restart();
    }
    stop.store(true, Ordering::Release);
    let mut expected = HashSet::new();
    for thread in threads {
        expected.extend(thread.join().unwrap());
    }
    let store = PostgresStore::open(&options).unwrap();
    let stored = all(&store);
    assert_eq!(stored.len(), expected.len());
    assert_eq!(stored.into_iter().collect::<HashSet<_>>(), expected);
}

/// Waits until all sessions of an application have ended. A session adds its reads to the statistics when it ends.
fn wait_for_end_of_sessions(url: &str, application: &str) {
    let sessions =
        format!("SELECT pid::text FROM pg_stat_activity WHERE application_name = '{application}'");
    let end = Instant::now() + Duration::from_mins(1);
    while !administer(url, &sessions).is_empty() {
        assert!(Instant::now() < end, "a session has not ended");
        std::thread::yield_now();
    }
}

/// Returns the number of sequential scans of the tables that lists use, and the number of entries read from the indexes of
/// executions.
fn reads(url: &str, schema: &str) -> (i64, i64) {
    let number = |sql: String| -> i64 { administer(url, &sql)[0].parse().unwrap() };
    let scans = number(format!(
        "SELECT coalesce(sum(seq_scan), 0) FROM pg_stat_user_tables WHERE schemaname = '{schema}'
         AND relname IN ('cloacina_executions', 'cloacina_labels', 'cloacina_ticks', 'cloacina_inputs')"
    ));
    let entries = number(format!(
        "SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes WHERE schemaname = '{schema}'
         AND relname = 'cloacina_executions'"
    ));
    (scans, entries)
}

#[test]
fn a_list_with_an_indexed_condition_reads_few_rows() {
    let mut pinned = pinned(shared());
    let schema = pinned.schema.clone().unwrap();
    pinned.application_name.clone_from(&schema);
    let store = PostgresStore::open(&pinned).unwrap();
    let workflow = workflow("etl", 1);
    let definition = store.put_definition(&workflow, NOW).unwrap();
    let runner = register(&store, NOW);
    let records: Vec<ExecutionRecord> = (0..4_000).map(|_| ready(definition, NOW)).collect();
    for part in records.chunks(500) {
        submit(&store, runner, part).unwrap();
    }
    let ids: Vec<ExecutionId> = records.iter().map(|record| record.id).collect();
    store.close();
    drop(store);
    wait_for_end_of_sessions(shared(), &schema);
    let before = reads(shared(), &schema);
    let store = PostgresStore::open(&pinned).unwrap();
    let query = ListQuery {
        limit: 10,
        ..ListQuery::default()
    };
    let label = vec![("order".to_owned(), vec!["1".to_owned()])];
    let queries = [
        query.clone(),
        ListQuery {
            statuses: vec![cloacina::types::ExecutionStatus::Pending],
            ..query.clone()
        },
        ListQuery {
            statuses: vec![cloacina::types::ExecutionStatus::Failed],
            ..query.clone()
        },
        ListQuery {
            workflow: Some("etl".to_owned()),
            ..query.clone()
        },
        ListQuery {
            workflow: Some("etl".to_owned()),
            keys: Some(vec!["key".to_owned()]),
            ..query.clone()
        },
        ListQuery {
            labels: label,
            ..query.clone()
        },
        ListQuery {
            schedule: Some(cloacina::types::ScheduleId::generate()),
            ..query.clone()
        },
        ListQuery {
            ids: Some(ids[..3].to_vec()),
            ..query.clone()
        },
        ListQuery {
            before: Some(ids[2_000]),
            ..query.clone()
        },
    ];
    let count = queries.len();
    for query in queries {
        for ascending in [false, true] {
            store
                .list(&ListQuery {
                    ascending,
                    ..query.clone()
                })
                .unwrap();
        }
    }
    store.close();
    drop(store);
    wait_for_end_of_sessions(shared(), &schema);
    let after = reads(shared(), &schema);
    assert_eq!(after.0, before.0, "a list scanned a table");
    let entries = after.1 - before.1;
    assert!(
        entries > 0 && entries < 2 * 20 * i64::try_from(count).unwrap(),
        "{entries} entries were read for {count} lists of 10 executions"
    );
}
