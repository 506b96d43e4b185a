//! Errors of a store.

use crate::types::{Error, ErrorCode};

/// An error of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer now; the same call may succeed later. Whether a commit was applied is unknown.
    #[error("{0}")]
    Unavailable(String),
    /// The database reported an error that is not temporary, e.g. read-only, disk full, permission denied.
    #[error("{0}")]
    Failed(String),
    /// The database cannot store a value of the call, e.g. text outside its encoding, or a field over its size limit.
    /// Nothing was written. The same call always fails again; a batch without the value succeeds.
    #[error("{0}")]
    Refused(String),
    /// The batch exceeds the maximum size of a message to the database. It was not sent, so nothing was written. Parts
    /// of it may fit; a single item that is still too large can never be stored.
    #[error("{0}")]
    TooLarge(String),
    /// A row contains data that this program cannot read.
    #[error("{0}")]
    Corrupt(String),
    /// The schema is newer than this program, or older and may not be migrated, or a migration failed.
    #[error("{0}")]
    Migration(String),
    /// The database file was open in an ancestor of this process when it forked.
    #[error("{0}")]
    Forked(String),
    /// A submission refers to a version that is not stored, or was pruned. Nothing was applied. Store the version and
    /// submit again.
    #[error("{0}")]
    DefinitionGone(String),
    /// The writing runner was declared dead and must register again.
    #[error("this runner was declared dead by another one, because its lease had run out")]
    RunnerLost,
}

impl StoreError {
    /// Returns whether one item of the call is the cause, so that the call would succeed without it.
    #[must_use]
    pub const fn is_of_item(&self) -> bool {
        matches!(
            self,
            Self::Refused(_) | Self::TooLarge(_) | Self::Corrupt(_)
        )
    }
}

/// Separates the message of a store error from its hint.
const HINT: &str = "; hint: ";

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
        let text = error.to_string();
        match text.rsplit_once(HINT) {
            Some((message, hint)) => Self::new(code, message).with_hint(hint),
            None => Self::new(code, text),
        }
    }
}

/// Returns the error for an invalid database URL.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::UrlInvalid, message)
}
