//! The values that the coordinator, the queues and the workers exchange: claimed tasks, running attempts, callbacks, polls of
//! triggers, and notices.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::open_callback::OpenCallback;
use super::progress_buffer::ProgressBuffer;
use super::pulse::Pulse;
use crate::types::{
    Claim, Context, ExecutionId, Micros, Monotonic, Ordinal, PendingEnd, Timestamp,
};
use crate::workflow::Workflow;

/// The part of this process that runs tasks of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Executor {
    /// Python's worker threads, which pull their work.
    Threads,
    /// Python's event loop, which pulls its work.
    Loop,
    /// Rust's tokio runtime, which runs tasks as futures.
    Futures,
}

impl Executor {
    /// All executors, in the order of their queues.
    pub const ALL: [Self; 3] = [Self::Threads, Self::Loop, Self::Futures];

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Threads => 0,
            Self::Loop => 1,
            Self::Futures => 2,
        }
    }
}

/// A claimed task, with everything that a worker needs to run it.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The execution.
    pub execution: ExecutionId,
    /// Its workflow.
    pub workflow: Arc<Workflow>,
    /// The task.
    pub task: Ordinal,
    /// The claim under which the attempt runs. A result is accepted only while the task still has this claim.
    pub claim: Claim,
    /// The context that the task receives.
    pub context: Arc<Context>,
    /// The executor's number for the function that runs the task.
    pub handler: u64,
    /// Maximum run time of the attempt, in microseconds. `None`: no limit.
    pub timeout: Option<Micros>,
    /// Whether the worker must report the start of the attempt, because this start sets the execution's deadline.
    pub reports_start: bool,
    /// The task's priority among ready tasks.
    pub priority: i16,
    /// Maximum total size of the task's recorded steps, in bytes.
    pub max_context_bytes: u64,
    /// The idempotency key for the task's effects. `None` unless the workflow has final tasks or the task is a compensation.
    pub forward_key: Option<String>,
    /// The runner's buffer for progress and log lines.
    pub insight: Arc<ProgressBuffer>,
    /// A flag that is set when the attempt must stop, for example because the execution was cancelled or has timed
    /// out.
    pub cancelled: Arc<AtomicBool>,
    /// The heartbeats that the function sends.
    pub pulse: Arc<Pulse>,
}

/// A call of `on_success` or `on_failure`. Callbacks are called after the end of their task is durable.
#[derive(Clone, Debug)]
pub struct Callback {
    /// The executor's number for the function of the task that ended.
    pub handler: u64,
    /// The task.
    pub task: String,
    /// The workflow.
    pub workflow: Arc<Workflow>,
    /// The execution.
    pub execution: ExecutionId,
    /// The text of the error if the task failed, otherwise `None`.
    pub error: Option<String>,
    /// The context after the task if it completed, or before the task if it failed.
    pub context: Arc<Context>,
    /// A guard that is open until the callback has returned. Until then, callers that wait for the end of the execution are
    /// not answered.
    pub open: Arc<OpenCallback>,
}

/// A piece of work for a worker.
#[derive(Debug)]
pub enum Work {
    /// A task to run. The worker reports the end of the attempt under this token.
    Task(WorkToken, Assignment),
    /// A callback to call. The worker reports its return with `OpenCallback::end`.
    Callback(Callback),
}

/// The queue's answer to a worker whose task has returned.
#[derive(Debug)]
pub enum Completion {
    /// The result goes to the coordinator.
    Accepted(Running),
    /// The attempt was taken away from this worker, so the result is dropped.
    Dropped,
    /// The attempt was taken away and another worker has the slot, so this worker must end.
    Replaced,
}

/// Identifies a running attempt inside its queue.
pub type WorkToken = u64;
/// Identifies a worker in notices.
pub type WorkerId = u64;
/// Identifies a trigger poll inside its runner.
pub type PollToken = u64;

/// A call of a trigger's function. [`Message::Polled`](super::Message::Polled) reports its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// The token under which the end of the call is reported.
    pub token: PollToken,
    /// The trigger's name.
    pub name: String,
    /// The state that the last poll stored. `None`: no poll has stored a state.
    pub state: Option<crate::types::Json>,
    /// The program's number for the function.
    pub handler: u64,
    /// The ended executions for which the function is called, once for each of them. `None`: the trigger is polled.
    pub ends: Option<Vec<PendingEnd>>,
}

/// A request to the program that owns the workers of an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Interrupt a worker whose attempt overran its timeout. Another worker gets the slot.
    Overrun {
        /// The worker.
        worker: WorkerId,
        /// The attempt that the worker runs.
        token: WorkToken,
    },
    /// Stop an attempt whose task was cancelled, if this is possible.
    Cancelled {
        /// The worker.
        worker: WorkerId,
        /// The attempt that the worker runs.
        token: WorkToken,
        /// Whether another worker has taken over this worker's slot. This worker must then end after the attempt.
        replaced: bool,
    },
    /// Start a worker: work is ready, no worker is free, and the limit allows one more worker.
    WorkerWanted,
}

/// An attempt that a worker is running.
#[derive(Clone, Debug)]
pub struct Running {
    /// The execution.
    pub execution: ExecutionId,
    /// The task.
    pub task: Ordinal,
    /// The claim under which the attempt runs. The result is accepted only while the task still has this claim.
    pub claim: Claim,
    /// The workflow, for names in messages.
    pub workflow: Arc<Workflow>,
    /// The wall-clock time of the start, for the history.
    pub started_at: Timestamp,
    /// The monotonic time of the start, from which the run time is measured.
    pub started: Monotonic,
    /// The instant at which the attempt times out, if it has a timeout.
    pub deadline: Option<Monotonic>,
    /// The worker that runs the attempt.
    pub worker: WorkerId,
    /// Whether the attempt is deferred and has released its slot.
    pub(super) deferred: bool,
    /// Whether the start of the attempt is stored in the database.
    pub(super) is_start_stored: bool,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) pulse: Arc<Pulse>,
}
