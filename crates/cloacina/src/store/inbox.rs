//! The messages of the inbox: work that any runner can apply.

use crate::types::{InboxId, Timestamp};

/// The kind of a message in the inbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InboxKind {
    /// Send a signal. The body is an object with `name`, `data`, and optionally `key`, `to`, `id` and `sender`.
    Signal,
    /// Cancel the target execution. The body is an object, optionally with the `signal` that caused the cancellation.
    Cancel,
    /// Wake the next tasks that wait for a stored signal.
    Advance,
    /// Pause the target, because its parent was paused.
    Pause,
    /// Resume the target, because its parent was resumed.
    Resume,
    /// Retry the target, because the task that started it runs again.
    Retry,
    /// Tell the target that one of its children has ended. The body describes the end.
    ChildEnded,
    /// Tell the target when an attempt has ended. The target is an execution of final tasks, and the attempt belongs to
    /// the execution that these final tasks follow. The body identifies the attempt. The message stays in the inbox
    /// until the attempt has ended or is lost.
    AttemptEnded,
}

impl InboxKind {
    /// All kinds of messages.
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

    /// Returns the kind's name in the database.
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

    /// Returns the kind that has this name, or `None`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }
}

/// A message in the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboxMessage {
    /// The id. Messages are applied in the order of their ids.
    pub id: InboxId,
    /// The name of an [`InboxKind`], unless another program wrote the message.
    pub kind: String,
    /// The id of the target execution, as text.
    pub target: Option<String>,
    /// The body as JSON.
    pub body: Option<String>,
    /// The time at which the message was added.
    pub created_at: Timestamp,
    /// The reason why the message could not be applied.
    pub note: Option<String>,
}
