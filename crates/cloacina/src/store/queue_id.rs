//! The numbers of the queues of ready tasks.

use crate::types::Ordinal;
use crate::workflow::Workflow;

/// A queue of ready tasks: the tasks of one kind of a workflow, in all its versions, or those of one external task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub i64);

impl QueueId {
    /// The queue of all waiting tasks. No worker claims from it.
    pub const WAITING: Self = Self(crate::workflow::queue::WAITING);

    /// The queue of the items whose children are to be started.
    pub const CHILDREN: Self = Self(crate::workflow::queue::CHILDREN);

    /// Returns the queue of a workflow's task.
    pub fn of(workflow: &Workflow, task: Ordinal) -> Self {
        Self(workflow.queue(task))
    }
}
