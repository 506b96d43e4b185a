//! Counters of a runner: what it did, how long it took, how it writes.
//!
//! The coordinator counts as it decides, under a lock that nobody else holds for longer than a copy takes.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering as Atomic};

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use crate::engine::{Execution, Outcome};
use crate::types::sync::Mutex;
use crate::types::{ExecutionStatus, Micros, Ordinal, TaskStatus, Timestamp};
use crate::workflow::Workflow;

/// Upper bounds of the buckets of times, in microseconds.
pub const TIME_BOUNDS: [i64; 15] = [
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    7_200_000_000,
];
/// Upper bounds of the buckets of batch sizes.
pub const SIZE_BOUNDS: [i64; 10] = [1, 2, 5, 10, 25, 50, 100, 250, 1000, 5000];
/// The tasks of a larger workflow are counted together: a series for each would choke who scrapes them.
const MAX_TASKS: usize = 500;

/// Counts values by size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<const N: usize> {
    /// How many were at most the bound of the same index, and above the one before.
    pub buckets: [u64; N],
    /// How many there were in all.
    pub count: u64,
    /// Their sum.
    pub sum: i64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            buckets: [0; N],
            count: 0,
            sum: 0,
        }
    }
}

impl<const N: usize> Histogram<N> {
    fn observe(&mut self, bounds: &[i64; N], value: i64) {
        if let Some(bucket) = bounds.iter().position(|bound| value <= *bound) {
            self.buckets[bucket] += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// Adds another one's counts.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
    }
}

/// Counts times.
pub type Times = Histogram<{ TIME_BOUNDS.len() }>;
/// Counts batch sizes.
pub type Sizes = Histogram<{ SIZE_BOUNDS.len() }>;

/// What is counted of a task.
#[derive(Clone, Debug, Default)]
pub struct TaskCounters {
    /// Attempts that were claimed for this runner.
    pub started: u64,
    /// Attempts that completed the task.
    pub completed: u64,
    /// Attempts that failed the task for good.
    pub failed: u64,
    /// Attempts that failed and are followed by another.
    pub retried: u64,
    /// How long the attempts ran.
    pub duration: Times,
    /// How long first attempts waited from being ready to their start.
    pub wait: Times,
}

/// Counters by name.
pub type Named<T> = IndexMap<String, T, FxBuildHasher>;

/// What is counted of a workflow, over all its versions.
#[derive(Clone, Debug, Default)]
pub struct WorkflowCounters {
    /// Executions submitted through this runner.
    pub submitted: u64,
    /// Executions that this runner ended: completed, failed, cancelled.
    pub ended: [u64; 3],
    /// From the first start to the end.
    pub duration: Times,
    /// By task; under `*` for all where there are too many.
    pub tasks: Named<TaskCounters>,
}

impl WorkflowCounters {
    fn task(&mut self, workflow: &Workflow, ordinal: Ordinal) -> &mut TaskCounters {
        let id = workflow.task(ordinal).id.as_str();
        let is_one_more = !self.tasks.contains_key(id);
        let id = if workflow.len() > MAX_TASKS || (is_one_more && self.tasks.len() >= MAX_TASKS) {
            "*"
        } else {
            id
        };
        entry(&mut self.tasks, id)
    }
}

/// The counters of a name.
fn entry<'a, T: Default>(counters: &'a mut Named<T>, name: &str) -> &'a mut T {
    let index = counters
        .get_index_of(name)
        .unwrap_or_else(|| counters.insert_full(name.to_owned(), T::default()).0);
    &mut counters[index]
}

/// All counters of a runner.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// By name.
    pub workflows: Named<WorkflowCounters>,
    /// Executions per commit.
    pub batch: Sizes,
    /// How long a commit took.
    pub commit: Times,
    /// Tasks taken back from dead runners.
    pub rescued: u64,
    /// Results dropped because their claim was lost.
    pub dropped: u64,
}

impl Counters {
    fn of(&mut self, execution: &Execution) -> &mut WorkflowCounters {
        entry(&mut self.workflows, execution.workflow().name())
    }
}

/// The counters of a running runner.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: Mutex<Counters>,
    outage: AtomicBool,
    in_flight: AtomicUsize,
}

impl Metrics {
    /// The counters as they are now.
    pub fn snapshot(&self) -> Counters {
        self.counters.lock().clone()
    }

    /// Whether the database takes writes, as far as known.
    pub fn is_database_up(&self) -> bool {
        !self.outage.load(Atomic::Relaxed)
    }

    /// Claimed tasks whose end the coordinator has not heard of.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Atomic::Acquire)
    }

    pub(super) fn note_in_flight(&self, count: usize) {
        self.in_flight.store(count, Atomic::Release);
    }

    pub(super) fn note_outage(&self, outage: bool) {
        self.outage.store(outage, Atomic::Relaxed);
    }

    pub(super) fn started(&self, execution: &Execution, task: Ordinal) {
        let mut counters = self.counters.lock();
        counters
            .of(execution)
            .task(execution.workflow(), task)
            .started += 1;
    }

    /// An attempt ended; `execution` is as it is after that.
    pub(super) fn finished(
        &self,
        execution: &Execution,
        task: Ordinal,
        outcome: &OutcomeKind,
        started_at: Option<Timestamp>,
        ran: Micros,
    ) {
        let record = execution.task(task);
        let waited = started_at
            .filter(|_| record.attempt == 1 && record.rescues == 0)
            .map(|started_at| started_at.since(ready_since(execution, task)).max(0));
        let status = record.status;
        let mut counters = self.counters.lock();
        let counted = counters.of(execution).task(execution.workflow(), task);
        match (outcome, status) {
            (OutcomeKind::Other, _) => return,
            (_, TaskStatus::Completed) => counted.completed += 1,
            (_, TaskStatus::Failed) => counted.failed += 1,
            _ => counted.retried += 1,
        }
        counted.duration.observe(&TIME_BOUNDS, ran);
        if let Some(waited) = waited {
            counted.wait.observe(&TIME_BOUNDS, waited);
        }
    }

    pub(super) fn submitted(&self, execution: &Execution) {
        self.counters.lock().of(execution).submitted += 1;
    }

    pub(super) fn ended(&self, execution: &Execution) {
        let record = execution.record();
        let index = match record.status {
            ExecutionStatus::Completed => 0,
            ExecutionStatus::Failed => 1,
            _ => 2,
        };
        let mut counters = self.counters.lock();
        let counted = counters.of(execution);
        counted.ended[index] += 1;
        if let (Some(from), Some(to)) = (record.started_at, record.ended_at) {
            counted
                .duration
                .observe(&TIME_BOUNDS, to.since(from).max(0));
        }
    }

    pub(super) fn committed(&self, executions: usize, took: Micros) {
        let mut counters = self.counters.lock();
        let size = i64::try_from(executions).unwrap_or(i64::MAX);
        counters.batch.observe(&SIZE_BOUNDS, size);
        counters.commit.observe(&TIME_BOUNDS, took);
    }

    pub(super) fn rescued(&self, tasks: u32) {
        self.counters.lock().rescued += u64::from(tasks);
    }

    pub(super) fn dropped(&self) {
        self.counters.lock().dropped += 1;
    }
}

/// What an attempt's outcome means for the counters.
pub(super) enum OutcomeKind {
    /// It ran to an end.
    Ran,
    /// It was put off or given back.
    Other,
}

impl OutcomeKind {
    pub(super) const fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Snooze { .. } | Outcome::Released => Self::Other,
            _ => Self::Ran,
        }
    }
}

/// Since when a task's first attempt could have started.
fn ready_since(execution: &Execution, task: Ordinal) -> Timestamp {
    let record = execution.record();
    let submitted = record
        .start_at
        .map_or(record.created_at, |at| at.max(record.created_at));
    let dependencies = execution.workflow().graph().dependencies(task).iter();
    dependencies
        .filter_map(|other| execution.task(*other).ended_at)
        .fold(submitted, Timestamp::max)
}
