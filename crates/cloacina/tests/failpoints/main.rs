//! A runner fails or is killed at every failpoint of its store, on both databases, and the final state is the same.
#![cfg(all(feature = "sqlite", feature = "postgres"))]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod database;
mod earlier_data;
mod families;
mod killed;
mod maps;
mod overview;
mod parallel;
mod point;
#[path = "../support/private_postgres.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod private_postgres;
#[path = "../support/records.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod records;
mod scenario;
#[path = "../support/time.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod time;
mod waits;
mod workflows;

use std::collections::BTreeSet;
use std::sync::Arc;

use cloacina::store::failpoint::{Failpoint, Moment, Verb};

use database::Database;
use point::{FailOnce, Reached};
use scenario::run_in_fresh_database;

/// Number of calls of each request at which a failure is tested.
const OCCURRENCES: usize = 2;

fn points() -> impl Iterator<Item = Failpoint> {
    let moments = [Moment::Before, Moment::After];
    let verbs = Verb::ALL.iter();
    verbs.flat_map(move |verb| {
        moments.map(|moment| Failpoint {
            verb: *verb,
            moment,
        })
    })
}

/// Makes each failpoint fail in turn and checks that the final state is the same. Returns the failpoints that did fail.
fn fail_everywhere(fresh: impl Fn() -> Database + Sync) -> BTreeSet<Failpoint> {
    let expected = run_in_fresh_database(&fresh(), Arc::new(Reached::default()));
    let calls: Vec<(Failpoint, usize)> = points()
        .flat_map(|point| (1..=OCCURRENCES).map(move |occurrence| (point, occurrence)))
        .collect();
    let failed: Vec<_> = parallel::that(&calls, |(point, occurrence)| {
        let failure = Arc::new(FailOnce::new(*point, *occurrence));
        let end = run_in_fresh_database(&fresh(), Arc::clone(&failure) as _);
        assert_eq!(end, expected, "{point}, the {occurrence}th time");
        failure.has_failed()
    });
    failed.into_iter().map(|(point, _)| point).collect()
}

fn assert_all(reached: &BTreeSet<Failpoint>) {
    let absent: Vec<String> = points()
        .filter(|point| !reached.contains(point))
        .map(|point| point.to_string())
        .collect();
    assert!(
        absent.is_empty(),
        "no test reaches the failpoints {absent:?}"
    );
}

#[test]
fn a_failure_at_any_failpoint_does_not_change_the_end_on_sqlite() {
    assert_all(&fail_everywhere(Database::sqlite));
}

#[test]
fn a_failure_at_any_failpoint_does_not_change_the_end_on_postgres() {
    assert_all(&fail_everywhere(Database::postgres));
}

#[test]
fn one_run_reaches_every_failpoint() {
    let reached = Arc::new(Reached::default());
    run_in_fresh_database(&Database::sqlite(), Arc::clone(&reached) as _);
    assert_all(&reached.points());
}
