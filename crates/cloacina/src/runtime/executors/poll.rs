//! The queue of trigger polls for the program that has the functions. A poll needs no worker slot, so a slow one delays no
//! task.
//!
//! See docs/explanation/decisions/041-deferral-and-polls.md

use std::sync::Arc;

use crate::engine::trigger::PollOutcome;
use crate::runtime::assignment::{Poll, PollToken};
use crate::runtime::{Mailbox, Message};
use crate::types::sync::Mutex;

/// Trigger polls that wait to be called.
#[derive(Default)]
pub struct PollQueue {
    waiting: Mutex<Vec<Poll>>,
    on_arrival: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl PollQueue {
    /// Sets the hook that is called after a poll arrived.
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

/// Reports the ends of a runner's polls to its coordinator.
#[derive(Clone)]
pub struct PollEnds(Arc<Mailbox>);

impl PollEnds {
    pub(crate) const fn new(mailbox: Arc<Mailbox>) -> Self {
        Self(mailbox)
    }

    /// Reports the outcome of a poll. A closed runner ignores it.
    pub fn end(&self, token: PollToken, outcome: PollOutcome) {
        drop(self.0.send(Message::Polled { token, outcome }));
    }
}
