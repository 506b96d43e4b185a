//! Tests that make a store request fail, or kill the process, at every failpoint on both databases. The final state of the
//! scenario must not change. A failpoint is the moment before or after a store request.
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

/// The number of calls of each request that are tested. Each run makes one of these calls fail.
const OCCURRENCES: usize = 2;

/// Returns all failpoints.
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

/// Prints the injected failure of a run if the run panics.
struct PrintOnPanic(Failpoint, usize);

impl Drop for PrintOnPanic {
    #[expect(clippy::print_stderr, reason = "cargo shows it with the panic")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the run with a failure at {}:{} panicked", self.0, self.1);
        }
    }
}

/// Makes a request fail at each failpoint, in a separate run each time, and checks that the final state is the same as
/// in a run without failures. Returns the failpoints at which a request failed.
fn fail_everywhere(fresh: impl Fn() -> Database + Sync) -> BTreeSet<Failpoint> {
    let expected = run_in_fresh_database(&fresh(), Arc::new(Reached::default()));
    let calls: Vec<(Failpoint, usize)> = points()
        .flat_map(|point| (1..=OCCURRENCES).map(move |occurrence| (point, occurrence)))
        .collect();
    let failed: Vec<_> = parallel::filter(&calls, |(point, occurrence)| {
        let failure = Arc::new(FailOnce::new(*point, *occurrence));
        let _print = PrintOnPanic(*point, *occurrence);
        let end = run_in_fresh_database(&fresh(), Arc::clone(&failure) as _);
        assert_eq!(end, expected, "{point}:{occurrence}");
        failure.has_failed()
    });
    failed.into_iter().map(|(point, _)| point).collect()
}

fn assert_all_reached(reached: &BTreeSet<Failpoint>) {
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
fn failure_does_not_change_the_final_state_on_sqlite() {
    assert_all_reached(&fail_everywhere(Database::sqlite));
}

#[test]
fn failure_does_not_change_the_final_state_on_postgres() {
    assert_all_reached(&fail_everywhere(Database::postgres));
}

#[test]
fn one_run_reaches_every_failpoint() {
    let reached = Arc::new(Reached::default());
    run_in_fresh_database(&Database::sqlite(), Arc::clone(&reached) as _);
    assert_all_reached(&reached.points());
}
