//! The values that the coordinator, the queues and the workers exchange: claimed tasks, running attempts, notices, trigger
//! polls.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::open_callback::OpenCallback;
use super::progress_buffer::ProgressBuffer;
use super::pulse::Pulse;
use crate::types::{
    Claim, Context, ExecutionId, Micros, Monotonic, Ordinal, PendingEnd, Timestamp,
};
use crate::workflow::Workflow;

/// The part of this process that runs the tasks of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Executor {
    /// Python's worker threads, which pull their work.
    Threads,
    /// Python's event loop, which pulls its work.
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
    /// The claim under which the attempt runs: the fence of its result.
    pub claim: Claim,
    /// The context that the task sees.
    pub context: Arc<Context>,
    /// The handler of the executor that runs it.
    pub handler: u64,
    /// Maximum run time of the attempt, in microseconds.
    pub timeout: Option<Micros>,
    /// Whether the worker must report the start, because the start sets the execution's deadline.
    pub reports_start: bool,
    /// Its priority among ready tasks.
    pub priority: i16,
    /// Maximum number of bytes of its recorded steps.
    pub max_context_bytes: u64,
    /// The idempotency key of the task's effects. `None` unless its workflow has final tasks or consists of them.
    pub forward_key: Option<String>,
    /// The buffer for its progress and log lines.
    pub insight: Arc<ProgressBuffer>,
    /// Set when the execution is cancelled.
    pub cancelled: Arc<AtomicBool>,
    /// The heartbeats of the function.
    pub pulse: Arc<Pulse>,
}

/// A call of `on_success` or `on_failure`, made after the task's end is durable.
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
    /// Open until the worker has ended the callback: until then, callers of the execution get no answer.
    pub open: Arc<OpenCallback>,
}

/// A piece of work for a worker.
#[derive(Debug)]
pub enum Work {
    /// A task to run. The worker reports its end under the token.
    Task(WorkToken, Assignment),
    /// A callback to call. The worker reports when the function has returned (`OpenCallback::end`).
    Callback(Callback),
}

/// The queue's answer to a worker whose task returned.
#[derive(Debug)]
pub enum Completion {
    /// The result goes to the coordinator.
    Accepted(Running),
    /// The attempt was taken away: the result is dropped.
    Dropped,
    /// The attempt was taken away and another worker has the slot: this worker must end.
    Replaced,
}

/// Identifies a running attempt inside its queue.
pub type WorkToken = u64;
/// Identifies a worker in notices.
pub type WorkerId = u64;
/// Identifies a trigger poll inside its runner.
pub type PollToken = u64;

/// A trigger's function to call. [`Message::Polled`](super::Message::Polled) reports its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// The token under which the end is reported.
    pub token: PollToken,
    /// The trigger's name.
    pub name: String,
    /// The state that the function has kept.
    pub state: Option<crate::types::Json>,
    /// The program's number of the function.
    pub handler: u64,
    /// The ends of executions for which to call the function, once each. `None`: the trigger is polled.
    pub ends: Option<Vec<PendingEnd>>,
}

/// A request to the program that owns the workers of an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Interrupt a worker whose attempt overran its timeout. Another worker gets its slot.
    Overrun {
        /// The worker.
        worker: WorkerId,
        /// The attempt that it runs.
        token: WorkToken,
    },
    /// Stop an attempt that was cancelled, if that is possible.
    Cancelled {
        /// The worker.
        worker: WorkerId,
        /// The attempt that it runs.
        token: WorkToken,
        /// Whether another worker has taken over the slot of this worker, which must end after this attempt.
        replaced: bool,
    },
    /// Start a worker: work is ready, no worker is free, and the limit allows another one.
    WorkerWanted,
}

/// An attempt that a worker runs.
#[derive(Clone, Debug)]
pub struct Running {
    /// The execution.
    pub execution: ExecutionId,
    /// The task.
    pub task: Ordinal,
    /// The claim under which it runs: the fence of its result.
    pub claim: Claim,
    /// The workflow, for names in messages.
    pub workflow: Arc<Workflow>,
    /// The wall-clock time of its start, for the history.
    pub started_at: Timestamp,
    /// The monotonic time of its start, from which its run time is measured.
    pub started: Monotonic,
    /// The instant at which it times out.
    pub deadline: Option<Monotonic>,
    /// The worker that runs it.
    pub worker: WorkerId,
    /// The attempt is deferred: it has released its slot.
    pub(super) deferred: bool,
    /// The database holds its start.
    pub(super) is_start_stored: bool,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) pulse: Arc<Pulse>,
}
