//! Dispatch to the executors of this process: work queues, worker slots, shared workers, and the tokio executor.

mod attempt_starts;
mod deferral;
mod eviction;
mod poll;
mod queues;
mod ready_queue;
mod resource_slots;
mod running_set;
#[cfg(test)]
mod samples;
mod shared_workers;
#[cfg(test)]
mod tests;
mod tokio_executor;
mod waiting_work;
mod work_queue;
mod worker_slots;

pub use deferral::Deferrals;
pub use poll::{PollEnds, PollQueue};
pub use queues::WorkQueues;
pub use resource_slots::ResourceSlots;
pub use shared_workers::{RunnerSlot, SharedWork, SharedWorkers, WorkerHost};
pub use tokio_executor::{TaskFunction, TaskFuture, TaskPort, TokioExecutor};
pub use work_queue::{DispatchedWork, IncomingWorker, WorkQueue};
