//! Tests of the PostgreSQL store with locked tables, stopped server processes and read-only sessions.

#![cfg(all(feature = "postgres", unix))]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/private_postgres.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod private_postgres;

use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use cloacina::store::postgres::{PostgresOptions, PostgresStore};
use cloacina::store::{RunnerRow, Store, StoreError};
use cloacina::types::{ExecutionId, RunnerId, Timestamp};
use private_postgres::{administer, fresh_name, shared};

const NOW: Timestamp = Timestamp(1_750_000_000_000_000);
/// The length of a lease in microseconds.
const LEASE: i64 = 15_000_000;
/// Maximum time that the store waits for an answer from the server.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum time from the end of `ANSWER_TIMEOUT` to the error, for a busy machine.
const SLACK: Duration = Duration::from_secs(4);

struct World {
    name: String,
    store: PostgresStore,
    runner: RunnerId,
}

impl World {
    fn new() -> Self {
        Self::at(shared())
    }

    fn at(url: &str) -> Self {
        let name = fresh_name();
        let options = PostgresOptions::from_url(url).unwrap();
        let mut options = options.with_schema(&name).unwrap();
        // Migrates with the default timeout, because on a slow machine the migrations take longer than
        // `ANSWER_TIMEOUT`.
        drop(PostgresStore::open(&options).unwrap());
        options.application_name.clone_from(&name);
        options.answer_timeout = ANSWER_TIMEOUT;
        let store = PostgresStore::open(&options).unwrap();
        let runner = RunnerId::generate();
        store
            .register_runner(&RunnerRow {
                id: runner,
                host: "host".to_owned(),
                pid: 1,
                pid_started: 1,
                started_at: NOW,
                heartbeat_at: NOW,
                lease_until: NOW + LEASE,
                workflows: vec![],
            })
            .unwrap();
        Self {
            name,
            store,
            runner,
        }
    }

    fn heartbeat(&self) -> Result<bool, StoreError> {
        self.store.heartbeat(self.runner, NOW, NOW + LEASE)
    }

    fn backends(&self) -> Vec<String> {
        let sql = format!(
            "SELECT pid FROM pg_stat_activity WHERE application_name = '{}'",
            self.name
        );
        administer(shared(), &sql)
    }
}

/// Asserts that `call` fails because the database is unavailable, at most `SLACK` after `ANSWER_TIMEOUT`.
fn fails_in_time<T: std::fmt::Debug>(call: impl FnOnce() -> Result<T, StoreError>) {
    let started = Instant::now();
    let error = call().unwrap_err();
    assert!(matches!(error, StoreError::Unavailable(_)), "{error:?}");
    assert!(
        started.elapsed() < ANSWER_TIMEOUT + SLACK,
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn readers_and_writers_time_out_on_a_locked_table() {
    let world = World::new();
    let (locked, wait) = mpsc::channel();
    let lock = format!(
        "BEGIN; LOCK TABLE {name}.cloacina_runners, {name}.cloacina_executions IN ACCESS EXCLUSIVE MODE",
        name = world.name
    );
    let (release, released) = mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let (client, connection) = tokio_postgres::connect(shared(), tokio_postgres::NoTls)
                .await
                .unwrap();
            tokio::spawn(connection);
            client.batch_execute(&lock).await.unwrap();
            locked.send(()).unwrap();
            let _ = released.recv();
            client.batch_execute("COMMIT").await.unwrap();
        });
    });
    wait.recv().unwrap();
    fails_in_time(|| world.heartbeat());
    fails_in_time(|| world.store.load(&[ExecutionId::generate()]));
    release.send(()).unwrap();
    holder.join().unwrap();
    assert!(world.heartbeat().unwrap());
}

#[test]
fn connection_to_a_stopped_server_process_is_replaced() {
    let world = World::new();
    world.heartbeat().unwrap();
    let backends = world.backends();
    let signal = |name: &str| {
        assert!(
            Command::new("kill")
                .arg(name)
                .args(&backends)
                .status()
                .unwrap()
                .success()
        );
    };
    signal("-STOP");
    fails_in_time(|| world.heartbeat());
    let alive = world.heartbeat();
    signal("-CONT");
    assert!(alive.unwrap());
}

#[test]
fn a_read_only_session_is_replaced() {
    let database = fresh_name();
    administer(shared(), &format!("CREATE DATABASE {database}"));
    let server = shared().rsplit_once('/').unwrap().0;
    let world = World::at(&format!("{server}/{database}"));
    let read_only = |on: &str| {
        let sql = format!("ALTER DATABASE {database} SET default_transaction_read_only = {on}");
        administer(shared(), &sql);
    };
    // After this, the store opens new sessions. The setting below makes them read-only, like the sessions of a standby server.
    for pid in world.backends() {
        administer(shared(), &format!("SELECT pg_terminate_backend({pid})"));
    }
    read_only("on");
    let refused = loop {
        match world.heartbeat() {
            Err(StoreError::Unavailable(_)) => {}
            other => break other,
        }
    };
    read_only("off");
    assert!(
        matches!(&refused, Err(StoreError::Failed(text)) if text.contains("primary")),
        "{refused:?}"
    );
    assert!(world.heartbeat().unwrap());
}
