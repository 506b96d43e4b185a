//! What the coordinator, the queues and the workers exchange: claimed tasks, running attempts, notices, trigger polls.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::insight_book::InsightBook;
use super::pulse::Pulse;
use crate::types::{Claim, Context, ExecutionId, Micros, Monotonic, Ordinal, Timestamp};
use crate::workflow::Workflow;

/// Where the tasks of a kind run in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Executor {
    /// Worker threads that pull (Python's).
    Threads,
    /// An event loop that pulls (Python's).
    Loop,
    /// Futures on the tokio runtime (Rust's).
    Futures,
}

impl Executor {
    /// Every executor, in the order of the queues.
    pub const ALL: [Self; 3] = [Self::Threads, Self::Loop, Self::Futures];

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Threads => 0,
            Self::Loop => 1,
            Self::Futures => 2,
        }
    }
}

/// A claimed task with everything that a worker needs.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The execution.
    pub execution: ExecutionId,
    /// Its workflow.
    pub workflow: Arc<Workflow>,
    /// The task.
    pub task: Ordinal,
    /// The fence.
    pub claim: Claim,
    /// The context that the task sees.
    pub context: Arc<Context>,
    /// The handler of the executor that runs it.
    pub handler: u64,
    /// Limit of the attempt.
    pub timeout: Option<Micros>,
    /// Whether the coordinator wants to hear of the start, for the execution's deadline.
    pub reports_start: bool,
    /// Its priority among ready tasks.
    pub priority: i16,
    /// Takes its progress and log lines.
    pub insight: Arc<InsightBook>,
    /// Set when the execution is cancelled.
    pub cancelled: Arc<AtomicBool>,
    /// Records the signs of life of the function.
    pub pulse: Arc<Pulse>,
}

/// A call that follows a durable outcome.
#[derive(Clone, Debug)]
pub struct Callback {
    /// The handler of the task that ended.
    pub handler: u64,
    /// The task.
    pub task: String,
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// The execution.
    pub execution: ExecutionId,
    /// The error's text after a failure.
    pub error: Option<String>,
    /// The context after the task, or before it when it failed.
    pub context: Arc<Context>,
}

/// Something for a worker to do.
#[derive(Debug)]
pub enum Work {
    /// Run a task and report its end under the token.
    Task(WorkToken, Assignment),
    /// Call back; nothing is reported.
    Callback(Callback),
}

/// The queue's answer to a worker whose task returned.
#[derive(Debug)]
pub enum Completion {
    /// The result counts, as far as this process knows.
    Accepted(Running),
    /// The attempt was taken away: the result is dropped.
    Dropped,
    /// The same, and the worker's slot went to another: it must end.
    Replaced,
}

/// Identifies a running attempt inside its queue.
pub type WorkToken = u64;
/// Identifies a worker in notices.
pub type WorkerId = u64;
/// Identifies a trigger poll inside its runner.
pub type PollToken = u64;

/// A trigger's function to call; [`Message::Polled`](super::Message::Polled) reports its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// The token to report the end with.
    pub token: PollToken,
    /// The trigger's name.
    pub name: String,
    /// The program's number of the function.
    pub handler: u64,
}

/// A request to the executor's side, outside a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The worker overran a timeout: interrupt it. Another worker gets its slot.
    Overrun {
        /// The worker.
        worker: WorkerId,
        /// The attempt that it runs.
        token: WorkToken,
    },
    /// The attempt was cancelled: stop it if that is possible.
    Cancelled {
        /// The worker.
        worker: WorkerId,
        /// The attempt that it runs.
        token: WorkToken,
        /// Its slot went to another worker: it ends after this attempt.
        replaced: bool,
    },
    /// Work is ready, no worker is free, and the limit allows another one: start it.
    WorkerWanted,
}

/// An attempt that a worker runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// The execution.
    pub execution: ExecutionId,
    /// The task.
    pub task: Ordinal,
    /// The fence.
    pub claim: Claim,
    /// The workflow, for names in messages.
    pub workflow: Arc<Workflow>,
    /// When it started, for the history.
    pub started_at: Timestamp,
    /// When it started, for measuring.
    pub started: Monotonic,
    /// When it times out.
    pub deadline: Option<Monotonic>,
    /// The worker that runs it.
    pub worker: WorkerId,
    /// It has released its slot while it waits.
    pub(super) deferred: bool,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) pulse: Arc<Pulse>,
}
