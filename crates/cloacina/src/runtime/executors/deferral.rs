//! Deferred tasks: tasks that release their worker's slot while they wait (semantics G2).
//!
//! See docs/explanation/decisions/041-deferral-and-polls.md

use std::sync::Arc;
use std::time::Duration;

use super::work_queue::{Reacquired, WorkQueue};
use crate::runtime::assignment::{Executor, WorkToken};
use crate::runtime::{Mailbox, Message};
use crate::types::{Claim, ExecutionId, Ordinal};

/// How long a worker waits for a free slot before it checks whether its attempt has been evicted.
const PATIENCE: Duration = Duration::from_secs(1);

/// Releases and reacquires slots for the tasks of one executor, and informs the coordinator.
pub struct Deferrals {
    executor: Executor,
    queue: Arc<WorkQueue>,
    mailbox: Arc<Mailbox>,
}

impl Deferrals {
    pub(crate) const fn new(
        executor: Executor,
        queue: Arc<WorkQueue>,
        mailbox: Arc<Mailbox>,
    ) -> Self {
        Self {
            executor,
            queue,
            mailbox,
        }
    }

    /// Whether this object serves the runner with the given mailbox.
    pub(crate) fn is_of(&self, mailbox: &Arc<Mailbox>) -> bool {
        Arc::ptr_eq(&self.mailbox, mailbox)
    }

    /// Releases the slot of a running attempt, so that another task can run. Returns `false` if the attempt has already
    /// released its slot or was evicted, if too many attempts have released their slots, or if the runner shares its
    /// workers with other runners.
    pub fn begin(&self, token: WorkToken) -> bool {
        let Some(attempt) = self.queue.release_slot(token) else {
            return false;
        };
        self.report(attempt, true);
        true
    }

    /// Reacquires a slot. If the caller is a worker thread, waits until a slot is free or the attempt is evicted.
    pub fn end(&self, token: WorkToken) {
        let attempt = loop {
            match self.queue.reacquire_slot(token, self.executor, PATIENCE) {
                Reacquired::Yes(attempt) => break attempt,
                Reacquired::Gone => return,
                Reacquired::NotYet => {}
            }
        };
        self.report(attempt, false);
    }

    fn report(&self, (execution, task, claim): (ExecutionId, Ordinal, Claim), released: bool) {
        drop(self.mailbox.send(Message::Deferred {
            execution,
            task,
            claim,
            released,
        }));
    }
}
