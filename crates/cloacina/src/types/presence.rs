//! Registered runners, and the tasks for which they have handlers.

use super::{RunnerId, Timestamp};

/// A snapshot of a runner that has not been declared dead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The runner's id.
    pub id: RunnerId,
    /// The machine's name.
    pub host: String,
    /// The runner's process id on that machine.
    pub pid: i64,
    /// The time at which the runner started.
    pub started_at: Timestamp,
    /// The time of the last heartbeat.
    pub heartbeat_at: Timestamp,
    /// The end of the runner's lease. Until this time, other runners take the runner's claims only if its process has ended
    /// or, on PostgreSQL, if its session has ended and the runner gives no sign of life for about a second (E3).
    pub lease_until: Timestamp,
    /// Whether the process is known to have ended; `false` if this is uncertain.
    pub vanished: bool,
}

impl Presence {
    /// Returns whether the runner seems to be alive: its process is not known to have ended, and its lease has not expired.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        !self.vanished && self.lease_until >= now
    }
}

/// The handlers of a runner for the tasks of one workflow. If the runner has ended, these are its last known handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The workflow's name.
    pub workflow: String,
    /// The runner that has the handlers.
    pub runner: RunnerId,
    /// The machine's name.
    pub host: String,
    /// The runner's process id on that machine.
    pub pid: i64,
    /// The ids of the tasks, sorted.
    pub tasks: Vec<String>,
    /// The time at which the runner last confirmed that it has the handlers.
    pub seen_at: Timestamp,
}
