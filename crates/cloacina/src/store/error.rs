//! What can go wrong in a store.

use crate::types::{Error, ErrorCode};

/// An error of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer now; the same call may succeed later. Whether a commit was applied is not known.
    #[error("{0}")]
    Unavailable(String),
    /// The database answered with an error that will not pass by itself, e.g. read only, disk full, no permission.
    #[error("{0}")]
    Failed(String),
    /// The database cannot store a value of the call, e.g. text outside the database's encoding or a field over its size limit.
    /// Nothing was written. The same call always fails again; a batch without the value succeeds.
    #[error("{0}")]
    Refused(String),
    /// The batch is larger than one message to the database may be. It was not sent, so nothing was written; its parts may
    /// fit. A part that consists of one item and is still too large can never be stored.
    #[error("{0}")]
    TooLarge(String),
    /// A row holds what this program cannot read.
    #[error("{0}")]
    Corrupt(String),
    /// The schema is newer than this program, older without leave to migrate, or a migration failed.
    #[error("{0}")]
    Migration(String),
    /// The database file was open in a process when it forked, and this process descends from the fork.
    #[error("{0}")]
    Forked(String),
    /// A submission refers to a version that is not stored, or was pruned: store it again and submit anew. Nothing was applied.
    #[error("{0}")]
    DefinitionGone(String),
    /// The writing runner was declared dead: it has to register anew.
    #[error("this runner was declared dead by another one, because its lease had run out")]
    RunnerLost,
}

impl StoreError {
    /// Whether one item of the call is the cause: without it, the rest of the call would succeed.
    #[must_use]
    pub const fn is_of_item(&self) -> bool {
        matches!(
            self,
            Self::Refused(_) | Self::TooLarge(_) | Self::Corrupt(_)
        )
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Unavailable(_) => ErrorCode::Connection,
            StoreError::Migration(_) => ErrorCode::Migration,
            StoreError::Forked(message) => {
                return Self::new(ErrorCode::Forked, message.clone()).with_hint(
                    "start the process with 'spawn' instead of 'fork', or shut the runner down before the fork, \
                     or open the first runner after it",
                );
            }
            _ => ErrorCode::Database,
        };
        Self::new(code, error.to_string())
    }
}

/// The error for a database URL that breaks a rule.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::UrlInvalid, message)
}
