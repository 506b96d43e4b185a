//! The author of a change, and the reason for the change.

/// The author of a change to an execution, and the reason for the change. Both are recorded in the execution's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// The name of the person or program that made the change.
    pub actor: Option<String>,
    /// The reason for the change.
    pub note: Option<String>,
}

impl Audit {
    /// Returns whether neither the author nor the reason is given.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.actor.is_none() && self.note.is_none()
    }
}
