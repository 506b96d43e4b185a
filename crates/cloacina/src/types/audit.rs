//! The author of a change and its reason.

/// The person or program that changes an execution, for its history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// The name of the person or program.
    pub actor: Option<String>,
    /// The reason for the change.
    pub note: Option<String>,
}

impl Audit {
    /// Whether neither is given.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.actor.is_none() && self.note.is_none()
    }
}
