//! Polls of triggers on their way to the program that has the functions. They have no worker slots: a slow one holds up nobody.

use std::sync::Arc;

use super::{Mailbox, Message};
use crate::engine::trigger::PollOutcome;
use crate::types::sync::Mutex;

/// Names a poll inside its runner.
pub type PollToken = u64;

/// A trigger's function to call; its end is told by [`Message::Polled`](super::Message::Polled).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// What the end refers to.
    pub token: PollToken,
    /// The trigger's name.
    pub name: String,
    /// The program's number of the function.
    pub handler: u64,
}

/// The polls that nobody has taken yet.
#[derive(Default)]
pub struct PollQueue {
    waiting: Mutex<Vec<Poll>>,
    on_arrival: Mutex<Option<Arc<dyn Fn() + Send + Sync>>>,
}

impl PollQueue {
    /// Sets what is called after a poll arrived.
    pub fn on_arrival(&self, hook: Arc<dyn Fn() + Send + Sync>) {
        *self.on_arrival.lock() = Some(hook);
    }

    /// Adds a poll.
    pub(super) fn push(&self, poll: Poll) {
        self.waiting.lock().push(poll);
        let hook = self.on_arrival.lock().clone();
        if let Some(hook) = hook {
            hook();
        }
    }

    /// Takes all that wait.
    pub fn take(&self) -> Vec<Poll> {
        std::mem::take(&mut self.waiting.lock())
    }
}

/// The way to say how polls of a runner ended.
#[derive(Clone)]
pub struct PollEnds(Arc<Mailbox>);

impl PollEnds {
    pub(crate) const fn new(mailbox: Arc<Mailbox>) -> Self {
        Self(mailbox)
    }

    /// Says how a poll ended. A closed runner hears nothing.
    pub fn end(&self, token: PollToken, outcome: PollOutcome) {
        drop(self.0.send(Message::Polled { token, outcome }));
    }
}
