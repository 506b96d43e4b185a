//! Runners that are registered, and the tasks that they have handlers for.

use super::{RunnerId, Timestamp};

/// A runner that has not been declared dead, as seen at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The runner's id.
    pub id: RunnerId,
    /// The machine's name.
    pub host: String,
    /// The runner's process id on that machine.
    pub pid: i64,
    /// When the runner started.
    pub started_at: Timestamp,
    /// Time of the last heartbeat.
    pub heartbeat_at: Timestamp,
    /// End of the lease: until then no other runner may take its claims.
    pub lease_until: Timestamp,
    /// Whether the process is known to be gone; `false` when that is uncertain.
    pub vanished: bool,
}

impl Presence {
    /// Whether the runner's claims are valid: its process is not known to be gone, and its lease has not expired.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        !self.vanished && self.lease_until >= now
    }
}

/// The handlers that a runner has, or had when it was last seen, for one workflow.
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
    /// Ids of the tasks, sorted.
    pub tasks: Vec<String>,
    /// When the runner was last seen with them.
    pub seen_at: Timestamp,
}
