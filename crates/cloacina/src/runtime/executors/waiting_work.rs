//! The part of a work queue that holds tasks and callbacks until a worker takes them.

use super::ready_queue::TaskOrItem;
use super::work_queue::WorkQueue;
use crate::runtime::assignment::Assignment;
use crate::types::ExecutionId;

impl WorkQueue {
    /// Whether callbacks wait for a worker.
    pub(super) fn has_callbacks(&self) -> bool {
        self.state.lock().ready.has_callbacks()
    }

    /// The number of claimed items that wait for a worker.
    pub(in crate::runtime) fn waiting_items(&self) -> usize {
        self.state.lock().ready.items()
    }

    /// The lowest priority of the ready tasks.
    pub(in crate::runtime) fn lowest_priority(&self) -> Option<i16> {
        self.state.lock().ready.lowest_priority()
    }

    /// Removes a ready task from the queue. Returns `false` if a worker has already taken it.
    pub fn withdraw(&self, execution: ExecutionId, task: TaskOrItem, priority: i16) -> bool {
        self.state.lock().ready.remove(execution, task, priority)
    }

    /// Removes all ready tasks from the queue, and returns them.
    pub fn take_waiting(&self) -> Vec<Assignment> {
        self.state.lock().ready.drain_tasks()
    }

    /// Removes up to `count` ready tasks from the end of the queue, and returns them.
    pub(in crate::runtime) fn take_last(&self, count: usize) -> Vec<Assignment> {
        self.state.lock().ready.pop_last(count)
    }
}
