//! Runs executions: takes what callers and workers say, lets the engine decide, writes in batches, hands out work.
//!
//! One `Coordinator` per runner owns the cached executions and is the only one that decides. It is plain logic: `step`
//! takes messages and gives effects, so that a simulation can drive it with a virtual clock; `driver` is the thread around it.

mod assigning;
mod assignment;
mod backlog;
mod cache;
mod claiming;
mod config;
mod controlling;
mod coordinator;
mod deferral;
mod direct;
mod draft;
mod driver;
mod executors;
mod insight_book;
mod liveness;
mod mailbox;
mod metrics;
pub(crate) mod process;
mod pulse;
mod registry;
pub mod schedule_rows;
mod scheduling;
mod sharing;
mod shutdown;
mod stall;
mod submitting;
mod waiters;

pub use assignment::{
    Assignment, Callback, Completion, Executor, Notice, Poll, PollToken, Running, Work, WorkToken,
    WorkerId,
};
pub use config::RunnerConfig;
pub use coordinator::Coordinator;
pub use direct::{control_directly, run_schedule_directly};
pub use driver::{Driver, Parts, Stepper};
pub use executors::{
    Deferrals, DispatchedWork, IncomingWorker, PollEnds, PollQueue, RunnerSlot, SharedWork,
    SharedWorkers, TaskFunction, TaskFuture, TokioExecutor, WorkQueue, WorkQueues, WorkerHost,
};
pub use insight_book::InsightBook;
pub use mailbox::{Answer, Mailbox, OneShot};
pub use metrics::{
    Counters, Histogram, Metrics, SIZE_BOUNDS, Sizes, TIME_BOUNDS, TaskCounters, Times,
    WorkflowCounters,
};
pub use pulse::Pulse;
pub use registry::{Handler, Registration, Service};
pub use waiters::{Ended, Subscription, Waiters};

pub use submitting::SubmitRequest;

use crate::engine::Finish;
use crate::engine::trigger::{NewTrigger, PollOutcome};
use crate::types::{
    Claim, Error, ExecutionId, ExecutionStatus, Micros, Ordinal, ScheduleId, Timestamp,
};

/// What callers, workers and timers tell the coordinator.
pub enum Message {
    /// Start executions; answered once they are durable.
    Submit {
        /// All or none.
        requests: Vec<SubmitRequest>,
        /// When the caller stops waiting for the database.
        give_up: Timestamp,
        /// The ids, those of duplicates replaced.
        reply: Reply<Vec<ExecutionId>>,
    },
    /// A worker entered a task whose execution's deadline is not set.
    Started {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// Under which claim.
        claim: Claim,
        /// When.
        at: Timestamp,
    },
    /// An attempt ended.
    Finished {
        /// The execution.
        execution: ExecutionId,
        /// How it ended.
        finish: Finish,
        /// Whose slot it used.
        executor: Executor,
        /// How long the function ran, for the prefetch.
        ran: Micros,
    },
    /// An attempt overran its timeout; its worker was told.
    Overdue {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// Under which claim it ran.
        claim: Claim,
        /// The limit that it overran.
        timeout: Micros,
    },
    /// An execution may have overrun its timeout.
    Deadline {
        /// The execution.
        execution: ExecutionId,
    },
    /// A caller wants something of an execution.
    Control {
        /// The execution.
        execution: ExecutionId,
        /// What.
        action: Control,
        /// When the caller stops waiting for the database.
        give_up: Timestamp,
        /// The state after it is durable.
        reply: Reply<ExecutionStatus>,
    },
    /// The program has a workflow and handlers for its tasks.
    Register {
        /// What it has.
        registration: Registration,
        /// Answered once the definition is stored.
        reply: Reply<()>,
    },
    /// The program has handlers for external tasks of a workflow that another program defines.
    Serve {
        /// What it has.
        service: Service,
        /// Answered once the handlers were held against the stored definition, where there is one.
        reply: Reply<()>,
    },
    /// The program has a trigger's function.
    RegisterTrigger {
        /// What the trigger is to do.
        trigger: NewTrigger,
        /// The program's number of the function.
        handler: u64,
        /// Answered once the trigger is stored.
        reply: Reply<ScheduleId>,
    },
    /// A trigger's function has ended.
    Polled {
        /// Which poll.
        token: PollToken,
        /// What it said.
        outcome: PollOutcome,
    },
    /// A task lends its worker's slot while it waits, or has it back.
    Deferred {
        /// The execution.
        execution: ExecutionId,
        /// The task.
        task: Ordinal,
        /// Under which claim.
        claim: Claim,
        /// Lent, or back.
        lent: bool,
    },
    /// Fire a schedule once, now.
    RunNow {
        /// Which.
        schedule: ScheduleId,
        /// When the caller stops waiting for the database.
        give_up: Timestamp,
        /// The execution, once it is durable.
        reply: Reply<ExecutionId>,
    },
    /// This process changed schedules.
    Rescheduled,
    /// Somebody waits for an execution that may end in another process.
    Watch,
    /// Look at the timers again: one moved closer.
    Poke,
    /// Stop claiming, let tasks end for a while, give the rest back.
    Stop {
        /// How long running tasks may take.
        grace: Micros,
        /// Answered when nothing runs any more.
        reply: Reply<()>,
    },
}

impl Message {
    /// Whether a caller waits for its answer.
    const fn is_of_caller(&self) -> bool {
        matches!(
            self,
            Self::Submit { .. } | Self::Control { .. } | Self::Register { .. }
        )
    }
}

/// What a caller can ask of an execution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// End it.
    Cancel,
    /// Start nothing new.
    Pause,
    /// Go on.
    Resume,
    /// Run failed tasks again.
    Retry {
        /// Run this task and its descendants again too.
        from_task: Option<String>,
    },
}

/// How an answer gets back to the caller; called once, after the transaction is durable.
pub type Reply<T> = Box<dyn FnOnce(Result<T, Error>) + Send>;
