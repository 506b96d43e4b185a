//! The messages of the inbox.

use crate::types::{InboxId, Timestamp};

/// The kind of a message in the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InboxKind {
    /// Send a signal. The body is an object with `name`, `data`, and optionally `key`, `to`, `id` and `sender`.
    Signal,
    /// Cancel the target execution. The body is an object, optionally with the `signal` that caused it.
    Cancel,
    /// Wake the next tasks that wait for a stored signal.
    Advance,
    /// Pause the target, because its parent was paused.
    Pause,
    /// Resume the target, because its parent was resumed.
    Resume,
    /// Retry the target, because the node that started it runs again.
    Retry,
    /// Tell the target that one of its children has ended. The body is the end.
    ChildEnded,
    /// Tell the target, an execution of final tasks, when an attempt of the first execution has ended. The body is the attempt.
    /// The message stays in the inbox until the attempt has ended or is lost.
    AttemptEnded,
}

impl InboxKind {
    /// All kinds.
    pub const ALL: &'static [Self] = &[
        Self::Signal,
        Self::Cancel,
        Self::Advance,
        Self::Pause,
        Self::Resume,
        Self::Retry,
        Self::ChildEnded,
        Self::AttemptEnded,
    ];

    /// The name in the database.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Signal => "signal",
            Self::Cancel => "cancel",
            Self::Advance => "advance",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Retry => "retry",
            Self::ChildEnded => "child_ended",
            Self::AttemptEnded => "attempt_ended",
        }
    }

    /// The kind with a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// A message in the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxMessage {
    /// Its id; messages are applied in the order of their ids.
    pub id: InboxId,
    /// Its kind: the name of an [`InboxKind`], unless another program wrote the message.
    pub kind: String,
    /// The execution, as text.
    pub target: Option<String>,
    /// The body as JSON.
    pub body: Option<String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// Why it could not be applied.
    pub note: Option<String>,
}
