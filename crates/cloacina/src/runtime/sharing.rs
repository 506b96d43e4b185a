//! Work is shared with other runners: one that is alone may claim far ahead, and gives back what others could do sooner.

use super::coordinator::Coordinator;
use super::work::Executor;
use crate::types::Timestamp;

impl Coordinator {
    /// Notes whether this runner is alone, and gives back what it has claimed beyond what it may have in company. Tasks
    /// that looked short and are not are noticed by how long the present ones have run.
    pub(super) fn share(&mut self, now: Timestamp) {
        let alone = self.liveness.is_alone();
        for executor in Executor::ALL {
            let backlog = &mut self.backlogs[executor.index()];
            backlog.note_company(alone);
            let queue = self.queues.of(executor);
            let longest_run = queue.longest_run(now);
            let surplus = queue.take_last(backlog.surplus(longest_run));
            for assignment in surplus {
                let (execution, task) = (assignment.execution, assignment.task);
                self.release(executor, execution, task, assignment.claim);
            }
        }
    }
}
