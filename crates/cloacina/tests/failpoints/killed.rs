//! Tests that kill a child process with SIGKILL at a failpoint and then continue its work in the test process.

use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use cloacina::store::failpoint::{Failpoint, Moment, Verb};

use super::database::{Database, open};
use super::earlier_data::store_earlier_data;
use super::point::{KillOnce, Reached};
use super::scenario::{FinalState, run, run_in_fresh_database};
use super::{assert_all_reached, parallel, points};

const DATABASE: &str = "CLOACINA_TEST_DATABASE";
const POINT: &str = "CLOACINA_TEST_POINT";

/// An upper bound for the number of times that one run makes the same request.
const MOST_CALLS: usize = 150;

fn run_child(database: &str, point: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::child", "--ignored", "--test-threads=1"])
        .env(DATABASE, database)
        .env(POINT, point)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap()
}

#[test]
#[ignore = "run by the other tests as a child process"]
fn child() {
    let Ok(database) = std::env::var(DATABASE) else {
        return;
    };
    let point = KillOnce::parse(&std::env::var(POINT).unwrap());
    run(&database, Arc::new(point));
}

/// Kills a child process when it reaches a failpoint for the nth time, continues its work, and checks the final state.
/// Returns whether the child was killed.
fn kill_at(database: &Database, point: Failpoint, number: usize, expected: &FinalState) -> bool {
    let name = database.name();
    store_earlier_data(&*open(&name));
    let status = run_child(&name, &format!("{point}:{number}"));
    if status.success() {
        return false;
    }
    assert_eq!(
        status.code(),
        None,
        "{point}:{number}: the child failed before it was killed"
    );
    let end = run(&name, Arc::new(Reached::default()));
    assert_eq!(end, *expected, "{point}:{number}");
    true
}

/// Kills a child process at the first call of each request, and at each call of `Commit` and `PutSchedule`.
fn kill_everywhere(fresh: impl Fn() -> Database + Sync) {
    let expected = run_in_fresh_database(&fresh(), Arc::new(Reached::default()));
    let points: Vec<Failpoint> = points().collect();
    let killed = parallel::filter(&points, |point| kill_at(&fresh(), *point, 1, &expected));
    assert_all_reached(&killed);
    for verb in [Verb::Commit, Verb::PutSchedule] {
        for moment in [Moment::Before, Moment::After] {
            let point = Failpoint { verb, moment };
            // The number of calls varies from run to run, because a commit can contain more or fewer changes.
            let last = parallel::first_failing(2..MOST_CALLS, |number| {
                kill_at(&fresh(), point, number, &expected)
            });
            assert!(
                last.is_some_and(|last| last > 3),
                "{point}: the first call that no run made is {last:?}"
            );
        }
    }
}

#[test]
fn kill_does_not_change_the_final_state_on_sqlite() {
    kill_everywhere(Database::sqlite);
}

#[test]
fn kill_does_not_change_the_final_state_on_postgres() {
    kill_everywhere(Database::postgres);
}
