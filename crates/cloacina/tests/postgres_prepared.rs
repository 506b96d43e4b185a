//! Tests that the PostgreSQL store prepares each frequent statement once per connection.

#![cfg(feature = "postgres")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/private_postgres.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod private_postgres;
#[path = "support/records.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod records;

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use cloacina::store::postgres::{PostgresOptions, PostgresStore};
use cloacina::store::{Batch, ClaimClass, ClaimRequest, QueueId, Store};
use cloacina::types::{RunnerId, Timestamp};
use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};
use records::runner_row;

/// For each SQL statement, the number of times that it was prepared.
static PREPARED: LazyLock<Mutex<HashMap<String, usize>>> = LazyLock::new(Mutex::default);

#[expect(clippy::unnecessary_wraps, reason = "Diesel requires this signature")]
fn counting() -> Option<Box<dyn Instrumentation>> {
    Some(Box::new(|event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::CacheQuery { sql, .. } = event {
            *PREPARED.lock().unwrap().entry(sql.to_owned()).or_default() += 1;
        }
    }))
}

#[test]
fn a_hundred_claims_and_heartbeats_prepare_two_statements() {
    set_default_instrumentation(counting).unwrap();
    let options = PostgresOptions::from_url(private_postgres::shared()).unwrap();
    let options = options
        .with_schema(&private_postgres::fresh_name())
        .unwrap();
    let store = PostgresStore::open(&options).unwrap();
    let (now, id) = (Timestamp(1_750_000_000_000_000), RunnerId::generate());
    store.register_runner(&runner_row(id, now)).unwrap();
    PREPARED.lock().unwrap().clear();
    for _ in 0..100 {
        let class = ClaimClass {
            queues: vec![QueueId(4)],
            excluded: vec![],
            limit: 3,
        };
        let claim = ClaimRequest {
            classes: vec![class],
        };
        let batch = Batch {
            runner: id,
            now,
            schedules: vec![],
            flow: cloacina::store::FlowWrites::default(),
            submits: vec![],
            advances: vec![],
            claim,
        };
        store.commit(&batch).unwrap();
        assert!(store.heartbeat(id, now, now + 15_000_000).unwrap());
    }
    let prepared = PREPARED.lock().unwrap();
    assert_eq!(prepared.len(), 2, "{prepared:?}");
    assert!(prepared.values().all(|count| *count == 1), "{prepared:?}");
}
