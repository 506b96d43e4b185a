//! The tasks and callbacks of a work queue that wait for a worker.

use super::ready_queue::TaskOrItem;
use super::work_queue::WorkQueue;
use crate::runtime::assignment::Assignment;
use crate::types::ExecutionId;

impl WorkQueue {
    /// Whether callbacks wait for a worker.
    pub(super) fn has_callbacks(&self) -> bool {
        self.state.lock().ready.has_callbacks()
    }

    /// The lowest priority among the ready tasks.
    pub(in crate::runtime) fn lowest_priority(&self) -> Option<i16> {
        self.state.lock().ready.lowest_priority()
    }

    /// Removes a ready task. Returns `false` if a worker has taken it.
    pub fn withdraw(&self, execution: ExecutionId, task: TaskOrItem, priority: i16) -> bool {
        self.state.lock().ready.remove(execution, task, priority)
    }

    /// Takes all ready tasks back.
    pub fn take_waiting(&self) -> Vec<Assignment> {
        self.state.lock().ready.drain_tasks()
    }

    /// Takes up to `count` ready tasks back, the last ones in the order of dispatch.
    pub(in crate::runtime) fn take_last(&self, count: usize) -> Vec<Assignment> {
        self.state.lock().ready.pop_last(count)
    }
}
