//! Tests ten thousand schedules: due ticks are processed on time, and idle schedules cost no queries.

#![cfg(feature = "sqlite")]

use std::sync::Arc;
#[path = "support/time.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod time;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cloacina::engine::schedule::NewSchedule;
use cloacina::runner::{EngineHandle, OpenOptions};
use cloacina::runtime::RunnerConfig;
use cloacina::store::sqlite::{SqliteOptions, SqliteStore};
use cloacina::store::{Layer, PutOutcome, Request, Response, Store, StoreError};
use cloacina::types::{Clock, ScheduleId, TickOutcome, Timestamp};
use time::{HandClock, until};

/// One second, in microseconds.
const SECOND: i64 = 1_000_000;
/// 2025-06-15T12:00:00Z
const NOON: Timestamp = Timestamp(1_749_988_800_000_000);

/// A store that counts the queries for due schedules.
struct CountingStore {
    store: SqliteStore,
    queries: AtomicUsize,
}

impl Layer for CountingStore {
    type Below = SqliteStore;

    fn below(&self) -> &SqliteStore {
        &self.store
    }

    fn pass(&self, request: Request<'_>) -> Result<Response, StoreError> {
        let is_due_query = matches!(request, Request::DueSchedules { .. });
        self.queries
            .fetch_add(usize::from(is_due_query), Ordering::SeqCst);
        self.store.call(request)
    }
}

#[test]
fn ten_thousand_schedules_cost_one_query_per_wake_up() {
    let store = Arc::new(CountingStore {
        store: SqliteStore::open(&SqliteOptions::memory()).unwrap(),
        queries: AtomicUsize::new(0),
    });
    // No program defines the workflow `absent`, so each tick is recorded as skipped.
    let put = |name: String, expression: &str| {
        let mut new = NewSchedule::new("absent", expression, "UTC");
        new.instance = Some(name);
        let record = new.record(ScheduleId::generate(), NOON).unwrap();
        assert_eq!(
            store.put_schedule(&record, None).unwrap(),
            PutOutcome::Written
        );
        record.id
    };
    for number in 0..10_000 {
        put(number.to_string(), "0 0 1 1 *");
    }
    let soon: Vec<ScheduleId> = (0..5)
        .map(|n| put(format!("soon{n}"), "*/10 * * * * *"))
        .collect();
    let clock = Arc::new(HandClock::at(NOON));
    let options = OpenOptions {
        begin: cloacina::runner::Begin::AtOnce,
        config: RunnerConfig {
            lease_ttl: Duration::from_hours(24),
            heartbeat_interval: Duration::from_hours(8),
            ..RunnerConfig::default()
        },
        auto_migrate: true,
        ..OpenOptions::default()
    };
    let opened: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
    let engine =
        EngineHandle::start(opened, Arc::clone(&clock) as Arc<dyn Clock>, options).unwrap();
    let ticks = |id| store.ticks(id, usize::MAX, 0).unwrap();
    // In each of 31 rounds, one tick of each of the five schedules `soon` is due.
    let mut costs = Vec::new();
    for round in 1..=31 {
        // Moves the clock through times at which nothing is due.
        let before = store.queries.load(Ordering::SeqCst);
        for step in 1..10 {
            clock.move_to(NOON + (round - 1) * 10 * SECOND + step * SECOND);
            std::thread::yield_now();
        }
        clock.move_to(NOON + round * 10 * SECOND);
        let count = usize::try_from(round).unwrap();
        until("the due ticks are recorded", || {
            soon.iter().all(|id| ticks(*id).len() == count)
        });
        costs.push(store.queries.load(Ordering::SeqCst) - before);
    }
    engine.stop(Duration::from_secs(1));
    for id in soon {
        let late = ticks(id)
            .iter()
            .map(|tick| tick.created_at.since(tick.due_at))
            .max();
        assert_eq!(
            late,
            Some(0),
            "a tick was processed late on the test's clock"
        );
        assert!(
            ticks(id)
                .iter()
                .all(|tick| tick.outcome == TickOutcome::Skipped)
        );
    }
    // The first round is left out, because its count includes the query at the runner's start. Each later round may cost one
    // query.
    costs.remove(0);
    let sum: usize = costs.iter().sum();
    assert!((1..=costs.len()).contains(&sum), "{costs:?}");
}
