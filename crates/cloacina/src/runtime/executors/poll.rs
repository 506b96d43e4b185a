//! The queue of trigger polls. The host program, which has the functions of the triggers, takes the polls from this
//! queue. A poll does not occupy a worker slot, so a slow poll does not delay tasks.
//!
//! See docs/explanation/decisions/041-deferral-and-polls.md

use std::sync::Arc;

use crate::engine::trigger::PollOutcome;
use crate::runtime::assignment::{Poll, PollToken};
use crate::runtime::{Mailbox, Message};
use crate::types::sync::Mutex;

/// Trigger polls whose functions have not been called yet.
#[derive(Default)]
pub struct PollQueue {
    waiting: Mutex<Vec<Poll>>,
    on_arrival: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl PollQueue {
    /// Sets the hook that is called after a poll has arrived.
    pub fn on_arrival(&self, hook: Arc<dyn Fn() + Send + Sync>) {
        *self.on_arrival.lock() = Some(hook);
    }

    /// Adds a poll.
    pub(in crate::runtime) fn push(&self, poll: Poll) {
        self.waiting.lock().push(poll);
        let hook = self.on_arrival.lock().clone();
        if let Some(hook) = hook {
            hook();
        }
    }

    /// Takes all waiting polls.
    pub fn take(&self) -> Vec<Poll> {
        std::mem::take(&mut self.waiting.lock())
    }
}

/// Reports to a runner's coordinator that a trigger poll has ended.
#[derive(Clone)]
pub struct PollEnds(Arc<Mailbox>);

impl PollEnds {
    pub(crate) const fn new(mailbox: Arc<Mailbox>) -> Self {
        Self(mailbox)
    }

    /// Reports the outcome of a poll. If the runner is closed, the report is dropped.
    pub fn end(&self, token: PollToken, outcome: PollOutcome) {
        drop(self.0.send(Message::Polled { token, outcome }));
    }
}
