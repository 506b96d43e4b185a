//! The numbers of task queues.

use crate::types::Ordinal;
use crate::workflow::Workflow;

/// A queue of tasks, which is the same for all versions of a workflow. The sync tasks of a workflow share one queue,
/// and its async tasks share another. Each external task has a separate queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub i64);

impl QueueId {
    /// The queue of all waiting tasks. Workers do not claim from it.
    pub const WAITING: Self = Self(crate::workflow::queue::WAITING);

    /// The queue of items that must start child executions.
    pub const CHILDREN: Self = Self(crate::workflow::queue::CHILDREN);

    /// Returns the queue of a task of a workflow.
    pub fn of(workflow: &Workflow, task: Ordinal) -> Self {
        Self(workflow.queue(task))
    }
}
