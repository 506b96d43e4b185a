//! Who is there: runners, and the tasks that they have handlers for.

use super::{RunnerId, Timestamp};

/// A runner that was not declared dead, as seen at one instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Its id.
    pub id: RunnerId,
    /// The machine's name.
    pub host: String,
    /// Its process id on that machine.
    pub pid: i64,
    /// When it started.
    pub started_at: Timestamp,
    /// Its last heartbeat.
    pub heartbeat_at: Timestamp,
    /// Until when its claims are its own.
    pub lease_until: Timestamp,
    /// Whether its process is known to be gone. Unsure means no.
    pub vanished: bool,
}

impl Presence {
    /// Whether its claims count: its process is not known to be gone, and its lease holds.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        !self.vanished && self.lease_until >= now
    }
}

/// Handlers that a runner has, or had when it was last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The workflow's name.
    pub workflow: String,
    /// Whose they are.
    pub runner: RunnerId,
    /// The machine's name.
    pub host: String,
    /// Its process id on that machine.
    pub pid: i64,
    /// The tasks, in the order of their ids.
    pub tasks: Vec<String>,
    /// When they were last known to be there.
    pub seen_at: Timestamp,
}
