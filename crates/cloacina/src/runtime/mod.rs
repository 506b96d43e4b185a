//! Runs executions: turns what callers, workers and timers say into state changes, writes them in batches, and dispatches
//! ready tasks.
//!
//! One coordinator per runner decides. It is plain logic without threads, so that a simulation can drive it with a virtual
//! clock; `driver` is the thread around it. The rooms, each of which imports only rooms below it:
//!
//! - `coordinator`: the loop. It receives messages, runs a turn, and says when it wants to be woken.
//! - `turn`: decides messages and duties, commits, and splits a batch that the database refuses.
//! - `duties`: what a runner does at its own times, such as heartbeats, rescue, cron and pruning.
//! - `decide`, `commit`, `isolation`, `dispatch`: what a message means, the transaction, and what follows it.
//! - `step`: what one turn may touch.
//! - `ledger`, `capacity`, `quarantine`, `registry`, `peers`, `timeline`, `batch`: what the runner knows.
//! - `executors`, `mailbox`, `message`: the ways in and out.

mod assignment;
mod batch;
mod capacity;
mod commit;
mod config;
mod coordinator;
mod decide;
mod definitions;
mod direct;
mod dispatch;
mod driver;
mod duties;
mod executors;
mod isolation;
mod ledger;
mod mailbox;
mod message;
mod metrics;
mod outage;
mod peers;
mod prefetch;
pub(crate) mod process;
mod progress_buffer;
mod pulse;
mod quarantine;
mod registry;
pub mod schedule_rows;
mod shutdown;
mod step;
mod timeline;
mod turn;
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
pub use mailbox::{Answer, Mailbox, OneShot};
pub use message::{Control, Message, Reply, SubmitRequest};
pub use metrics::{
    Counters, Histogram, Metrics, SIZE_BOUNDS, Sizes, TIME_BOUNDS, TaskCounters, Times,
    WorkflowCounters,
};
pub use progress_buffer::ProgressBuffer;
pub use pulse::Pulse;
pub use registry::{Handler, Registration, Service};
pub use waiters::{Ended, Subscription, Waiters};
