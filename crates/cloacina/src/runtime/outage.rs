//! Outages: the database does not answer, or refuses to write. Messages wait in the retry queue. A caller whose time is up gets
//! an error.

use super::Message;
use crate::store::StoreError;
use crate::types::{Error, Micros, Monotonic};

/// The pause before the first retry, in microseconds. It doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Micros = 20_000;
/// Maximum pause between two retries, in microseconds.
const LONGEST_PAUSE: Micros = 1_000_000;

/// The state of an outage that has not ended.
pub(super) struct Outage {
    next_try: Monotonic,
    pause: Micros,
    error: StoreError,
}

impl Outage {
    /// Returns a new outage. If `before` is given, returns its continuation after another failed attempt.
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

    /// Whether the error is expected to disappear without any action.
    const fn is_transient(&self) -> bool {
        matches!(self.error, StoreError::Unavailable(_))
    }

    /// Whether the next attempt to reach the database must wait. If the error is not transient and a caller has sent a message
    /// (`has_caller`), the attempt is made immediately.
    pub(super) fn blocks(&self, has_caller: bool, monotonic: Monotonic) -> bool {
        (self.is_transient() || !has_caller) && monotonic < self.next_try
    }

    /// Refuses the messages of callers whose time is up. If the error is not transient, refuses the messages of all callers.
    /// Returns the remaining messages.
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
