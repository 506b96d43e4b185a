//! Real processes that are killed by SIGKILL at a point, and a second one that goes on.

use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use cloacina::store::Store;
use cloacina::store::failpoint::{FailpointStore, Failpoints};

use super::life::{Database, live, open, work};
use super::point::{Kill, Reached};
use super::points;

const DATABASE: &str = "CLOACINA_TEST_DATABASE";
const POINT: &str = "CLOACINA_TEST_POINT";

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
#[ignore = "a process that the other tests start"]
fn child() {
    let Ok(database) = std::env::var(DATABASE) else {
        return;
    };
    let point = Kill::parse(&std::env::var(POINT).unwrap());
    let points: Arc<dyn Failpoints> = Arc::new(point);
    let store: Arc<dyn Store> = Arc::new(FailpointStore::new(open(&database), points));
    live(&store);
}

/// Kills at the first call of every verb, and at every commit, before and after it.
fn kill_everywhere(fresh: impl Fn() -> Database) {
    let expected = live(&fresh().open());
    let first = points().map(|point| (point.to_string(), 1));
    let commits = (2..=8).flat_map(|number| {
        ["commit.before", "commit.after"].map(|point| (point.to_owned(), number))
    });
    let mut killed = 0;
    for (point, number) in first.chain(commits) {
        let database = fresh();
        let name = database.name();
        drop(open(&name)); // migrated
        let status = run_child(&name, &format!("{point}:{number}"));
        if status.success() {
            continue; // it does not come so far: one commit may hold what were two
        }
        assert_eq!(
            status.code(),
            None,
            "{point}:{number}: it failed before it was killed"
        );
        killed += 1;
        let reached: Arc<dyn Failpoints> = Arc::new(Reached::default());
        let end = work(&(Arc::new(FailpointStore::new(open(&name), reached)) as Arc<dyn Store>));
        assert_eq!(end, expected, "{point}:{number}");
    }
    assert!(killed >= 36, "only {killed} were killed");
}

#[test]
fn a_kill_at_every_point_changes_nothing_on_sqlite() {
    kill_everywhere(Database::sqlite);
}

#[test]
fn a_kill_at_every_point_changes_nothing_on_postgres() {
    kill_everywhere(Database::postgres);
}
