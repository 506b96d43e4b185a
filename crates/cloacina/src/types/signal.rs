//! Signals that a program sends (semantics L1, L2).

use super::{ExecutionId, Json, Topic};

/// A signal to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSignal {
    /// The name.
    pub name: String,
    /// The key.
    pub key: Option<String>,
    /// The execution to whose mailbox the signal is sent.
    pub to: Option<ExecutionId>,
    /// The data.
    pub data: Json,
    /// The idempotency id.
    pub id: Option<String>,
    /// The name of the sender.
    pub sender: Option<String>,
}

impl NewSignal {
    /// Returns the topic to which the signal belongs.
    #[must_use]
    pub fn topic(&self) -> Topic {
        self.to.map_or_else(
            || Topic::keyed(&self.name, self.key.as_deref()),
            |execution| Topic::mailbox(&self.name, execution),
        )
    }
}

/// The result of sending a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The signal's number.
    pub seq: i64,
    /// Whether this call stored the signal. `false`: an earlier call with the same id stored it.
    pub is_new: bool,
    /// The number of waits that received the signal immediately.
    pub woken: usize,
}
