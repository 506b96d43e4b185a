//! A runner fails and dies at every named point of its store, on both databases, and the end is the same.
#![cfg(all(feature = "sqlite", feature = "postgres"))]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

mod database;
mod killed;
mod life;
mod past;
mod point;
#[path = "../support/private_postgres.rs"]
#[expect(dead_code, reason = "the servers of one test are for others")]
mod private_postgres;
#[path = "../support/records.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod records;
#[path = "../support/time.rs"]
#[expect(dead_code, reason = "other test programs use the rest")]
mod time;
mod workflows;

use std::collections::BTreeSet;
use std::sync::Arc;

use cloacina::store::failpoint::{Failpoint, Moment, Verb};

use database::Database;
use life::live;
use point::{Reached, Trip};

/// A verb is let fail at its first so many calls.
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

/// Each point fails in turn, and the run must not show it. Returns the points at which something really failed.
fn fail_everywhere(fresh: impl Fn() -> Database) -> BTreeSet<Failpoint> {
    let expected = live(&fresh(), Arc::new(Reached::default()));
    let mut tripped = BTreeSet::new();
    for point in points() {
        for occurrence in 1..=OCCURRENCES {
            let trip = Arc::new(Trip::new(point, occurrence));
            let end = live(&fresh(), Arc::clone(&trip) as _);
            assert_eq!(end, expected, "{point}, the {occurrence}th time");
            if trip.has_tripped() {
                tripped.insert(point);
            }
        }
    }
    tripped
}

fn assert_all(reached: &BTreeSet<Failpoint>) {
    let absent: Vec<String> = points()
        .filter(|point| !reached.contains(point))
        .map(|point| point.to_string())
        .collect();
    assert!(absent.is_empty(), "no test reaches {absent:?}");
}

#[test]
fn a_failure_at_every_point_changes_nothing_on_sqlite() {
    assert_all(&fail_everywhere(Database::sqlite));
}

#[test]
fn a_failure_at_every_point_changes_nothing_on_postgres() {
    assert_all(&fail_everywhere(Database::postgres));
}

#[test]
fn one_life_reaches_every_point() {
    let reached = Arc::new(Reached::default());
    live(&Database::sqlite(), Arc::clone(&reached) as _);
    assert_all(&reached.points());
}
