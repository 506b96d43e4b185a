//! What coordinator, queues and workers say to each other: a claimed task, who runs it, and what became of it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::progress_buffer::ProgressBuffer;
use super::stall::Pulse;
use crate::types::{Claim, Context, ExecutionId, Micros, Ordinal, Timestamp};
use crate::workflow::Workflow;

/// Who runs a task in this process.
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

/// A claimed task with all that a worker needs.
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
    /// What the task sees.
    pub context: Arc<Context>,
    /// Which handler of the executor runs it.
    pub handler: u64,
    /// Limit of the attempt.
    pub timeout: Option<Micros>,
    /// Whether the coordinator wants to hear of the start, for the execution's deadline.
    pub reports_start: bool,
    /// Its place among claims.
    pub priority: i16,
    /// Where it leaves word of its progress, and its log lines.
    pub insight: Arc<ProgressBuffer>,
    /// Set when the execution is cancelled.
    pub cancelled: Arc<AtomicBool>,
    /// Where the function says that it goes on.
    pub pulse: Arc<Pulse>,
}

/// A call that follows a durable outcome.
#[derive(Clone, Debug)]
pub struct Callback {
    /// Whose callback.
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

/// What the queue says to a worker whose task returned.
#[derive(Debug)]
pub enum Completion {
    /// The result counts, as far as this process knows.
    Accepted(Running),
    /// The attempt was taken away; the result is dropped.
    Dropped,
    /// The same, and the worker's slot went to another: it must end.
    Replaced,
}

/// Names a running attempt inside its queue.
pub type WorkToken = u64;
/// Names a worker: what a notice about it carries.
pub type WorkerId = u64;

/// What the executor's side must do outside a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The worker overran a timeout: interrupt it and give its slot to another.
    Overrun {
        /// Whom.
        worker: WorkerId,
        /// What it runs.
        token: WorkToken,
    },
    /// The attempt was cancelled: stop it if that is possible.
    Cancelled {
        /// Whom.
        worker: WorkerId,
        /// What it runs.
        token: WorkToken,
        /// Its slot went to another worker: it ends after this attempt.
        replaced: bool,
    },
    /// Work waits, nobody is free, and the limit allows another worker: start one.
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
    /// Since when.
    pub started_at: Timestamp,
    /// Until when it may take.
    pub deadline: Option<Timestamp>,
    /// By whom.
    pub worker: WorkerId,
    /// Its slot is lent to others while it waits.
    pub(super) deferred: bool,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) pulse: Arc<Pulse>,
}
