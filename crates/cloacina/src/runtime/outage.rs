//! An outage: the database does not answer, or refuses to write. Nothing that must not be lost is lost, and callers whose
//! patience is over get the error.

use super::Message;
use crate::store::StoreError;
use crate::types::{Error, Micros, Monotonic};

/// The pause before the first try in microseconds. It doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Micros = 20_000;
const LONGEST_PAUSE: Micros = 1_000_000;

/// See the module.
pub(super) struct Outage {
    next_try: Monotonic,
    pause: Micros,
    error: StoreError,
}

impl Outage {
    /// An outage that begins, or goes on after another try.
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

    /// Whether the error passes by itself.
    const fn passes(&self) -> bool {
        matches!(self.error, StoreError::Unavailable(_))
    }

    /// Whether to wait before the database is asked again. Where the error does not pass by itself a caller is not kept
    /// waiting: each asks the database anew. `asked`: a caller waits for an answer.
    pub(super) fn blocks(&self, asked: bool, monotonic: Monotonic) -> bool {
        (self.passes() || !asked) && monotonic < self.next_try
    }

    /// The messages to keep for the next try. Callers that cannot or will not wait that long get the error.
    pub(super) fn keep(&self, messages: Vec<Message>, monotonic: Monotonic) -> Vec<Message> {
        let is_over = |message: &Message| {
            message.is_of_caller()
                && (!self.passes() || message.give_up().is_some_and(|at| at <= monotonic))
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
