//! The counters of a runner: tasks, executions, their run times, and commits.
//!
//! The coordinator counts during its steps. It locks the counters for each count. A reader locks them only while it
//! copies them.
//!
//! See docs/explanation/decisions/080-metrics-and-progress.md

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering as Atomic};

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use crate::engine::{Execution, Outcome};
use crate::types::sync::Mutex;
use crate::types::{ExecutionId, ExecutionStatus, Micros, Ordinal, TaskStatus, Timestamp};
use crate::workflow::Workflow;

/// Upper bounds of the histogram buckets for times, in microseconds.
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
/// Upper bounds of the histogram buckets for batch sizes.
pub const SIZE_BOUNDS: [i64; 10] = [1, 2, 5, 10, 25, 50, 100, 250, 1000, 5000];
/// Maximum number of tasks for which a workflow has separate counters, which limits the number of time series. If one version
/// of a workflow has more tasks, all its tasks share one set of counters. Tasks that other versions add after the limit is
/// reached share this set, too.
const MAX_TASKS: usize = 500;

/// A histogram, which counts values by size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram<const N: usize> {
    /// For each bucket, the number of values above the previous bound and up to the bucket's own bound.
    pub buckets: [u64; N],
    /// The number of all values.
    pub count: u64,
    /// The sum of all values.
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

    /// Adds the counts of another histogram.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum = self.sum.saturating_add(other.sum);
    }
}

/// A histogram of times, in microseconds.
pub type Times = Histogram<{ TIME_BOUNDS.len() }>;
/// A histogram of batch sizes.
pub type Sizes = Histogram<{ SIZE_BOUNDS.len() }>;

/// The counters of a task.
#[derive(Clone, Debug, Default)]
pub struct TaskCounters {
    /// Attempts that workers of this runner started.
    pub started: u64,
    /// Attempts that completed the task.
    pub completed: u64,
    /// Attempts after which the task failed and was not retried.
    pub failed: u64,
    /// Attempts that failed and were followed by another attempt.
    pub retried: u64,
    /// Run times of the attempts.
    pub duration: Times,
    /// Times from when a task became ready to the start of its first attempt.
    pub wait: Times,
}

/// Counters by name.
pub type Named<T> = IndexMap<String, T, FxBuildHasher>;

/// The counters of a workflow, for all its versions together.
#[derive(Clone, Debug, Default)]
pub struct WorkflowCounters {
    /// Executions submitted through this runner.
    pub submitted: u64,
    /// Executions that this runner ended, in this order: completed, failed, cancelled.
    pub ended: [u64; 3],
    /// Times from the start of an execution's first task to the end of the execution.
    pub duration: Times,
    /// Counters by task. `*` counts the tasks without separate counters, if the workflow has too many tasks.
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

/// Returns the counters under this name, and adds them if necessary.
fn entry<'a, T: Default>(counters: &'a mut Named<T>, name: &str) -> &'a mut T {
    let index = counters
        .get_index_of(name)
        .unwrap_or_else(|| counters.insert_full(name.to_owned(), T::default()).0);
    &mut counters[index]
}

/// All counters of a runner.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Counters by workflow name.
    pub workflows: Named<WorkflowCounters>,
    /// A histogram of the number of executions in a commit.
    pub batch: Sizes,
    /// A histogram of the durations of commits.
    pub commit: Times,
    /// Tasks and items of maps that were rescued from dead runners.
    pub rescued: u64,
    /// Results that were dropped because their claim was lost.
    pub dropped: u64,
    /// Signals that callers sent through this runner.
    pub signals: u64,
}

impl Counters {
    fn of(&mut self, execution: &Execution) -> &mut WorkflowCounters {
        entry(&mut self.workflows, execution.workflow().name())
    }
}

/// The live counters of a runner.
#[derive(Debug, Default)]
pub struct Metrics {
    counters: Mutex<Counters>,
    outage: AtomicBool,
    in_flight: AtomicUsize,
    maps: Mutex<Vec<(ExecutionId, Ordinal)>>,
}

impl Metrics {
    /// Returns a copy of the counters.
    pub fn snapshot(&self) -> Counters {
        self.counters.lock().clone()
    }

    /// Whether the database accepts writes, as far as the runner knows.
    pub fn is_database_up(&self) -> bool {
        !self.outage.load(Atomic::Relaxed)
    }

    /// The number of claimed tasks whose end the coordinator has not processed yet.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Atomic::Acquire)
    }

    /// The maps that this runner has expanded or whose items it has claimed, except maps that it knows to have ended.
    /// If there are many, may also leave out maps without claimed items.
    pub fn maps(&self) -> Vec<(ExecutionId, Ordinal)> {
        self.maps.lock().clone()
    }

    pub(super) fn note_maps(&self, maps: Vec<(ExecutionId, Ordinal)>) {
        *self.maps.lock() = maps;
    }

    pub(super) fn note_in_flight(&self, count: usize) {
        self.in_flight.store(count, Atomic::Release);
    }

    pub(super) fn note_outage(&self, outage: bool) {
        self.outage.store(outage, Atomic::Relaxed);
    }

    pub(super) fn count_started(&self, execution: &Execution, task: Ordinal) {
        let mut counters = self.counters.lock();
        counters
            .of(execution)
            .task(execution.workflow(), task)
            .started += 1;
    }

    /// Counts a task's attempt that has ended. `execution` is the execution after the end of the attempt.
    pub(super) fn count_finished(
        &self,
        execution: &Execution,
        task: Ordinal,
        started_at: Option<Timestamp>,
        ran: Micros,
    ) {
        let record = execution.task(task);
        let waited = started_at
            .filter(|_| record.attempt == 1 && record.rescues == 0)
            .map(|started_at| started_at.since(ready_since(execution, task)).max(0));
        self.count_attempt(execution, task, record.status, waited, ran);
    }

    /// Counts an attempt, of a task or of an item of a map, that has ended. `status`: the state of the task or item after the
    /// attempt; `waited`: the time from when the task became ready to the start of its first attempt.
    pub(super) fn count_attempt(
        &self,
        execution: &Execution,
        task: Ordinal,
        status: TaskStatus,
        waited: Option<Micros>,
        ran: Micros,
    ) {
        let mut counters = self.counters.lock();
        let counted = counters.of(execution).task(execution.workflow(), task);
        match status {
            TaskStatus::Completed => counted.completed += 1,
            TaskStatus::Failed => counted.failed += 1,
            _ => counted.retried += 1,
        }
        counted.duration.observe(&TIME_BOUNDS, ran);
        if let Some(waited) = waited {
            counted.wait.observe(&TIME_BOUNDS, waited);
        }
    }

    /// Counts signals that callers sent through this runner.
    pub(super) fn count_signals(&self, signals: usize) {
        self.counters.lock().signals += signals as u64;
    }

    pub(super) fn count_submitted(&self, execution: &Execution) {
        self.counters.lock().of(execution).submitted += 1;
    }

    pub(super) fn count_ended(&self, execution: &Execution) {
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

    pub(super) fn count_committed(&self, executions: usize, took: Micros) {
        let mut counters = self.counters.lock();
        let size = i64::try_from(executions).unwrap_or(i64::MAX);
        counters.batch.observe(&SIZE_BOUNDS, size);
        counters.commit.observe(&TIME_BOUNDS, took);
    }

    pub(super) fn count_rescued(&self, tasks: u32) {
        self.counters.lock().rescued += u64::from(tasks);
    }

    pub(super) fn count_dropped(&self) {
        self.counters.lock().dropped += 1;
    }
}

/// Returns whether an attempt with this outcome is counted. Attempts that were snoozed or returned, or that exited for a wait,
/// are not counted.
pub(super) const fn is_counted(outcome: &Outcome) -> bool {
    !matches!(
        outcome,
        Outcome::Snooze { .. } | Outcome::Park(_) | Outcome::Released
    )
}

/// The earliest time at which a task's first attempt could have started.
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
