//! Runs executions: turns messages of callers, workers and timers into state changes, writes them in batches, and
//! dispatches ready tasks.
//!
//! One coordinator per runner makes all decisions. It is plain logic without threads, so that a simulation can step it with
//! a virtual clock; `coordinator_thread` is the thread around it. Without a runner, `direct` makes decisions on the
//! calling thread. The main modules are listed here; each of them imports only modules that are listed below it:
//!
//! - `coordinator`: the loop. It receives messages, runs a turn, and reports when its next step is due.
//! - `turn`: decides messages and duties, commits, and splits a batch that the database refuses.
//! - `duties`: the periodic work of a runner, such as heartbeats, rescue, cron and pruning.
//! - `decide`, `commit`, `sending`, `isolation`, `dispatch`: the decision for each message, the transaction, and its effects.
//! - `step`: the state that one turn may read and change.
//! - `ledger`, `capacity`, `quarantine`, `registry`, `peers`, `timeline`, `maps`, `batch`, `progress_buffer`: the state of the
//!   runner.
//! - `executors`, `mailbox`, `message`, `subscriptions`, `step_log`: input and output.

mod assignment;
mod batch;
mod capacity;
mod commit;
mod config;
mod coordinator;
mod coordinator_thread;
mod decide;
mod definitions;
mod direct;
mod dispatch;
mod duties;
mod executors;
mod isolation;
mod ledger;
mod mailbox;
mod maps;
mod message;
mod metrics;
mod notes;
mod open_callback;
mod outage;
mod peers;
mod prefetch;
pub(crate) mod process;
mod progress_buffer;
mod pulse;
mod quarantine;
mod refused_batch;
mod registry;
mod remembered_ends;
mod run_log;
pub mod schedule_rows;
mod sending;
mod shutdown;
mod step;
mod step_log;
mod subscriptions;
mod timeline;
mod turn;

pub use assignment::{
    Assignment, Callback, Completion, Executor, Notice, Poll, PollToken, Running, Work, WorkToken,
    WorkerId,
};
pub use config::RunnerConfig;
pub use coordinator::Coordinator;
pub use coordinator_thread::{CoordinatorThread, RunnerChannels, SharedCoordinator};
pub use direct::{
    Guarded, Submitted, backfill_directly, control_directly, control_guarded,
    control_many_directly, run_schedule_directly, send_directly, submit_directly,
};
pub use executors::{
    Deferrals, DispatchedWork, IncomingWorker, PollEnds, PollQueue, ResourceSlots, RunnerSlot,
    SharedWork, SharedWorkers, TaskFunction, TaskFuture, TaskPort, TokioExecutor, WorkQueue,
    WorkQueues, WorkerHost,
};
pub use mailbox::{Answer, Mailbox, OneShot, assured_reply};
pub use message::{Control, Message, Reply, SubmitRequest};
pub use metrics::{
    Counters, Histogram, Metrics, SIZE_BOUNDS, Sizes, TIME_BOUNDS, TaskCounters, Times,
    WorkflowCounters,
};
pub use open_callback::OpenCallback;
pub use progress_buffer::ProgressBuffer;
pub use pulse::Pulse;
pub use registry::{Handler, Registration, Service};
pub use remembered_ends::Ended;
pub use run_log::RUN_TARGET;
pub(crate) use run_log::log_attempt_start;
pub use step_log::{EndedStep, OtherCall, StepCall, StepLog};
pub use subscriptions::{Subscription, Subscriptions};
