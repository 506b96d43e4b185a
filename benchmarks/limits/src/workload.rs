//! The rows of each workload, which are the same for all databases.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

/// The states of tasks, with the same numbers as in the engine. The benchmark uses them for executions too, whose numbers
/// in the engine differ. Every state below `COMPLETED` is unfinished.
pub const PENDING: i32 = 0;
pub const RUNNING: i32 = 2;
pub const COMPLETED: i32 = 3;

/// The batch sizes that are measured, in executions per transaction.
pub const BATCHES: [usize; 3] = [1, 10, 100];

/// A workload, defined by the number of tasks of an execution. An execution writes one row for itself and one for each
/// task. Each row is written twice: when it is created and when it is finished.
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

/// The number and the duration of the measurements.
#[derive(Clone, Copy)]
pub struct Effort {
    /// The number of rounds in which the throughput of each batch size is measured.
    pub rounds: usize,
    /// The duration of a round.
    pub round: Duration,
    /// The number of single commits whose durations are measured.
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

/// Values that are the same for all executions of a run, as if one runner had written the executions of one workflow.
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
    /// `RUNNING` for the first task, which is claimed when it is created; `PENDING` for the others, which wait for it.
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
