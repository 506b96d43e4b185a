//! The work queues of a runner, one per executor, and its queue of trigger polls.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::attempt_starts::AttemptStarts;
use super::poll::PollQueue;
use super::work_queue::WorkQueue;
use crate::runtime::assignment::Executor;
use crate::types::ExecutionId;

/// The queues of a runner.
#[derive(Clone, Default)]
pub struct WorkQueues {
    queues: [Arc<WorkQueue>; 3],
    polls: Arc<PollQueue>,
}

impl WorkQueues {
    /// Returns queues whose tokens differ from those of queues with another number.
    pub(super) fn numbered(number: u64) -> Self {
        let queue = || Arc::new(WorkQueue::with_first_token((number << 40) + 1));
        Self {
            queues: [queue(), queue(), queue()],
            polls: Arc::default(),
        }
    }

    /// The queue of an executor.
    pub fn of(&self, executor: Executor) -> &Arc<WorkQueue> {
        &self.queues[executor.index()]
    }

    /// The starts of attempts of these executions that workers of this process run, and of those that ended a short time ago.
    pub fn starts_of(&self, executions: &FxHashSet<ExecutionId>) -> AttemptStarts {
        let starts = |queue: &Arc<WorkQueue>| queue.starts_where(|id| executions.contains(&id));
        self.queues.iter().flat_map(starts).collect()
    }

    /// The executions that workers of this process run, and those of attempts that ended a short time ago.
    pub fn started(&self) -> Vec<ExecutionId> {
        self.queues
            .iter()
            .flat_map(|queue| queue.started())
            .collect()
    }

    /// The trigger polls.
    pub fn polls(&self) -> &Arc<PollQueue> {
        &self.polls
    }
}
