//! The rows that each workload writes, for every database.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// States as the engine numbers them: everything below `SUCCEEDED` is unfinished.
pub const PENDING: i32 = 0;
pub const RUNNING: i32 = 2;
pub const SUCCEEDED: i32 = 3;

pub const BATCHES: [usize; 3] = [1, 10, 100];

/// An execution's size: each writes one row for itself and one per task, and each of these rows twice (created, finished).
#[derive(Clone, Copy)]
pub struct Workload {
    pub name: &'static str,
    pub tasks: usize,
}

pub const WORKLOADS: [Workload; 2] = [
    Workload {
        name: "W2",
        tasks: 1,
    },
    Workload {
        name: "W3",
        tasks: 10,
    },
];

/// How long and how often to measure.
#[derive(Clone, Copy)]
pub struct Effort {
    pub rounds: usize,
    pub round: Duration,
    pub commits: usize,
}

impl Effort {
    pub const FULL: Self = Self {
        rounds: 3,
        round: Duration::from_millis(700),
        commits: 3000,
    };
    pub const QUICK: Self = Self {
        rounds: 1,
        round: Duration::from_millis(150),
        commits: 300,
    };
}

/// The same for all executions of a run, as if one runner with one workflow had written them.
pub struct Constants {
    pub definition: Uuid,
    pub runner: Uuid,
    pub workflow: &'static str,
    pub queue: &'static str,
}

impl Constants {
    pub fn new() -> Self {
        Self {
            definition: Uuid::now_v7(),
            runner: Uuid::now_v7(),
            workflow: "benchmark.workflow",
            queue: "default",
        }
    }
}

/// The executions of one transaction.
#[derive(Default)]
pub struct Batch {
    pub ids: Vec<Uuid>,
    pub tasks: Vec<Task>,
}

pub struct Task {
    pub execution: Uuid,
    pub ordinal: i32,
    /// The roots are claimed as they are created; the others wait for them.
    pub state: i32,
}

impl Batch {
    pub fn new(executions: usize, tasks: usize) -> Self {
        let ids: Vec<Uuid> = (0..executions).map(|_| Uuid::now_v7()).collect();
        let tasks = ids
            .iter()
            .flat_map(|&execution| {
                (0..).take(tasks).map(move |ordinal| Task {
                    execution,
                    ordinal,
                    state: if ordinal == 0 { RUNNING } else { PENDING },
                })
            })
            .collect();
        Self { ids, tasks }
    }
}

pub fn now() -> i64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("the clock is past 1970");
    i64::try_from(since_epoch.as_micros()).expect("the clock is before the year 294247")
}
