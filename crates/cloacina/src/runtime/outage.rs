//! Outages: the database does not answer, or refuses to write. Messages wait in the retry queue, and callers whose wait
//! has timed out get the error.

use super::Message;
use crate::store::StoreError;
use crate::types::{Error, Micros, Monotonic};

/// The pause before the first retry, in microseconds. It doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Micros = 20_000;
/// Maximum pause between two retries, in microseconds.
const LONGEST_PAUSE: Micros = 1_000_000;

/// An outage under way.
pub(super) struct Outage {
    next_try: Monotonic,
    pause: Micros,
    error: StoreError,
}

impl Outage {
    /// Returns a new outage, or the continuation of `before` after another failed attempt.
    pub(super) fn enter(before: Option<&Self>, error: StoreError, monotonic: Monotonic) -> Self {
        let pause = before.map_or(FIRST_PAUSE, |outage| (outage.pause * 2).min(LONGEST_PAUSE));
        Self {
            next_try: monotonic + pause,
            pause,
            error,
        }
    }

    pub(super) const fn next_try(&self) -> Monotonic {
        self.next_try
    }

    /// Whether the error is expected to pass by itself.
    const fn is_transient(&self) -> bool {
        matches!(self.error, StoreError::Unavailable(_))
    }

    /// Whether to wait before the next attempt to reach the database. If the error is not transient, the message of a
    /// caller (`has_caller`) is attempted at once.
    pub(super) fn blocks(&self, has_caller: bool, monotonic: Monotonic) -> bool {
        (self.is_transient() || !has_caller) && monotonic < self.next_try
    }

    /// Refuses the messages of callers whose wait has timed out, or of all callers if the error is not transient.
    /// Returns the others.
    pub(super) fn refuse_expired(
        &self,
        messages: Vec<Message>,
        monotonic: Monotonic,
    ) -> Vec<Message> {
        let is_over = |message: &Message| {
            message.is_of_caller()
                && (!self.is_transient() || message.give_up().is_some_and(|at| at <= monotonic))
        };
        let (refused, kept): (Vec<_>, Vec<_>) = messages.into_iter().partition(is_over);
        if !refused.is_empty() {
            let error = Error::from(self.error.clone());
            for message in refused {
                message.refuse(&error);
            }
        }
        kept
    }
}
