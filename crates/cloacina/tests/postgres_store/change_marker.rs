//! Tests of the change marker, which tells a web page that something has changed.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use cloacina::store::postgres::{PostgresOptions, PostgresStore};
use cloacina::store::{Store, StoreError};
use cloacina::types::{DefinitionId, RunnerId};

use super::private_postgres::{administer, fresh_name, shared};
use super::records::{NOW, SECOND, ready, workflow};
use super::{PATIENCE, options, pinned, register, submit, waker};

/// Minimum time between two reads of the marker, as in the HTTP API.
const PAUSE: Duration = Duration::from_millis(100);

#[expect(
    clippy::disallowed_methods,
    reason = "a web page also waits between two reads, and no event reports that nothing changes"
)]
fn pause(span: Duration) {
    std::thread::sleep(span);
}

/// Reads the marker until it has stayed the same for a second. Returns the marker.
fn settled(store: &PostgresStore) -> i64 {
    let (start, mut last, mut since) = (Instant::now(), store.marker().unwrap(), Instant::now());
    while since.elapsed() < Duration::from_secs(1) {
        assert!(start.elapsed() < PATIENCE, "the marker keeps changing");
        pause(PAUSE);
        let marker = store.marker().unwrap();
        if marker != last {
            (last, since) = (marker, Instant::now());
        }
    }
    last
}

/// Waits until the marker differs from `before`.
fn await_change(store: &PostgresStore, before: i64) {
    let start = Instant::now();
    while store.marker().unwrap() == before {
        assert!(start.elapsed() < PATIENCE, "the change was not reported");
        pause(PAUSE);
    }
}

/// Returns the time of the last activity of each client's session in a database.
fn activity(database: &str) -> Vec<String> {
    administer(
        shared(),
        &format!(
            "SELECT pid || ' ' || state_change FROM pg_stat_activity \
             WHERE datname = '{database}' AND backend_type = 'client backend' ORDER BY pid"
        ),
    )
}

/// Returns options for a new database, and the database's name.
fn fresh_database() -> (PostgresOptions, String) {
    let database = fresh_name();
    administer(shared(), &format!("CREATE DATABASE {database}"));
    let url = format!("{}/{database}", shared().rsplit_once('/').unwrap().0);
    (options(&url), database)
}

/// A store that listens and has a runner.
struct Writer {
    store: PostgresStore,
    runner: RunnerId,
    definition: DefinitionId,
    _wakes: mpsc::Receiver<()>,
}

impl Writer {
    fn open(options: &PostgresOptions) -> Self {
        let store = PostgresStore::open(options).unwrap();
        Self {
            definition: store.put_definition(&workflow("etl", 1), NOW).unwrap(),
            runner: register(&store, NOW),
            _wakes: waker(&store),
            store,
        }
    }

    fn submit(&self) -> Result<(), StoreError> {
        submit(&self.store, self.runner, &[ready(self.definition, NOW)])
    }
}

#[test]
fn watching_an_idle_database_sends_no_query() {
    let (options, database) = fresh_database();
    let watcher = PostgresStore::open(&options).unwrap();
    let writer = Writer::open(&options);
    let mut before = settled(&watcher);
    // A store checks the locks of its peers for some seconds after it has begun to listen.
    let (start, mut idle) = (Instant::now(), Vec::new());
    while activity(&database) != idle {
        assert!(
            start.elapsed() < PATIENCE,
            "the stores keep sending queries"
        );
        idle = activity(&database);
        pause(Duration::from_secs(1));
    }
    // A sole runner reports its writes too, although no other runner needs to know of them.
    for _ in 0..3 {
        let idle = activity(&database);
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            assert_eq!(watcher.marker().unwrap(), before);
            pause(PAUSE);
        }
        assert_eq!(activity(&database), idle, "no session was used");
        writer.submit().unwrap();
        await_change(&watcher, before);
        before = settled(&watcher);
    }
}

#[test]
fn marker_reports_every_write_of_a_burst() {
    let options = pinned(shared());
    let watcher = PostgresStore::open(&options).unwrap();
    let writer = Writer::open(&options);
    settled(&watcher);
    // The pauses have different lengths, so that writes occur before, during and after the exchange of request and
    // report.
    for step in 0..60 {
        let before = watcher.marker().unwrap();
        writer.submit().unwrap();
        await_change(&watcher, before);
        pause(Duration::from_millis(step % 12));
    }
}

#[test]
fn marker_reports_writes_of_a_runner_that_does_not_listen() {
    let options = pinned(shared());
    let watcher = PostgresStore::open(&options).unwrap();
    settled(&watcher);
    for parameter in ["pgbouncer=true", "listen=off"] {
        let deaf = self::options(&format!("{}?{parameter}", shared()));
        let deaf = deaf
            .with_schema(options.schema.as_deref().unwrap())
            .unwrap();
        let writer = PostgresStore::open(&deaf).unwrap();
        let definition = writer.put_definition(&workflow("etl", 1), NOW).unwrap();
        let runner = register(&writer, NOW);
        // On a slow machine, a lease of 15 seconds could expire. The watcher would then no longer poll for this runner.
        let lease_until = NOW + 3_600 * SECOND;
        assert!(writer.heartbeat(runner, NOW, lease_until).unwrap());
        for _ in 0..3 {
            let before = watcher.marker().unwrap();
            submit(&writer, runner, &[ready(definition, NOW)]).unwrap();
            await_change(&watcher, before);
            pause(PAUSE);
        }
        writer.retire_runner(runner).unwrap();
        writer.notify_peers().unwrap();
    }
}

#[test]
fn marker_reports_writes_after_a_lost_session() {
    let (options, database) = fresh_database();
    let watcher = PostgresStore::open(&options).unwrap();
    let writer = Writer::open(&options);
    for _ in 0..3 {
        let before = settled(&watcher);
        administer(
            shared(),
            &format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'"
            ),
        );
        let _ = writer.submit();
        writer.submit().unwrap();
        await_change(&watcher, before);
    }
}
