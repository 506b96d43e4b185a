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
    /// Returns queues whose tokens are unique among queues with different numbers.
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

    /// The start times of attempts of these executions: of the attempts that workers of this process run, and of those that
    /// ended recently.
    pub fn starts_of(&self, executions: &FxHashSet<ExecutionId>) -> AttemptStarts {
        let starts = |queue: &Arc<WorkQueue>| queue.starts_where(|id| executions.contains(&id));
        self.queues.iter().flat_map(starts).collect()
    }

    /// The executions whose attempts are running on workers of this process, or ended recently.
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
