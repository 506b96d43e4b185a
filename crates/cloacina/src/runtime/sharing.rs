//! Work is shared with other runners: one that is alone may claim far ahead, and gives back what others could do sooner.

use super::Message;
use super::assignment::Executor;
use super::backlog::Backlog;
use super::coordinator::Coordinator;
use crate::engine::{Finish, Outcome};
use crate::types::{Claim, ExecutionId, Ordinal};

impl Coordinator {
    /// Whether no other runner lives, as far as is known.
    pub(super) fn is_alone(&self) -> bool {
        self.backlogs.iter().all(Backlog::is_alone)
    }

    /// Notes whether this runner is alone, and gives back what it has claimed beyond what it may have in company. Tasks
    /// that looked short and are not are noticed by how long the present ones have run.
    pub(super) fn share(&mut self, alone: bool) {
        let now = self.clock.monotonic();
        for executor in Executor::ALL {
            let backlog = &mut self.backlogs[executor.index()];
            backlog.note_company(alone);
            let queue = self.queues.of(executor);
            let longest_run = queue.longest_run(now);
            let surplus = queue.take_last(backlog.surplus(longest_run));
            for assignment in surplus {
                let (execution, task) = (assignment.execution, assignment.task);
                self.release(execution, task, assignment.claim, executor);
            }
        }
    }

    /// Gives a claim back at the next step: nobody here runs it, or a stop interrupted it. `executor`: whose slot it has, if any.
    pub(super) fn release(
        &mut self,
        execution: ExecutionId,
        task: Ordinal,
        claim: Claim,
        executor: Executor,
    ) {
        let finish = Finish {
            task,
            claim,
            started_at: None,
            outcome: Outcome::Released,
        };
        self.again.push(Message::Finished {
            execution,
            finish,
            executor,
            ran: 0,
        });
    }
}
