//! The work queues of a runner, one for each executor, and its queue of trigger polls.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::attempt_starts::AttemptStarts;
use super::poll::PollQueue;
use super::work_queue::WorkQueue;
use crate::runtime::assignment::Executor;
use crate::types::ExecutionId;

/// The work queues and the poll queue of a runner.
#[derive(Clone, Default)]
pub struct WorkQueues {
    queues: [Arc<WorkQueue>; 3],
    polls: Arc<PollQueue>,
}

impl WorkQueues {
    /// Returns the queues of the runner with this number. Their tokens never equal those of another runner.
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

    /// The start times of attempts of the given executions, if the attempts are running on workers of this process or ended
    /// recently.
    pub fn starts_of(&self, executions: &FxHashSet<ExecutionId>) -> AttemptStarts {
        let starts = |queue: &Arc<WorkQueue>| queue.starts_where(|id| executions.contains(&id));
        self.queues.iter().flat_map(starts).collect()
    }

    /// The executions with attempts that are running on workers of this process or ended recently.
    pub fn started(&self) -> Vec<ExecutionId> {
        self.queues
            .iter()
            .flat_map(|queue| queue.started())
            .collect()
    }

    /// The queue of trigger polls.
    pub fn polls(&self) -> &Arc<PollQueue> {
        &self.polls
    }
}
