//! Errors of a store.

use std::fmt;

use crate::types::{Error, ErrorCode, ExecutionId, Ordinal};

/// The text of an error: a message, and a hint that says what to do. The text is boxed so that a `Result` that
/// contains the error stays small.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report(Box<ReportText>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct ReportText {
    message: String,
    hint: Option<String>,
}

impl Report {
    fn new(message: String, hint: Option<String>) -> Self {
        Self(Box::new(ReportText { message, hint }))
    }

    /// Returns a report with a message and a hint.
    pub fn hinted(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(message.into(), Some(hint.into()))
    }

    /// Returns a report with the same hint, and with a message that is computed from the current message.
    #[must_use]
    pub fn map(self, message: impl FnOnce(&str) -> String) -> Self {
        Self::new(message(&self.0.message), self.0.hint)
    }

    /// Returns whether the message or the hint contains `text`.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        let hint = self.0.hint.as_deref().unwrap_or_default();
        self.0.message.contains(text) || hint.contains(text)
    }
}

impl<T: Into<String>> From<T> for Report {
    fn from(message: T) -> Self {
        Self::new(message.into(), None)
    }
}

/// Shows the message and the hint in one text, for log lines.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        match &self.0.hint {
            Some(hint) => write!(f, "; hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// An error of a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer now; the same call can succeed later. It is unknown whether a commit was applied.
    #[error("{0}")]
    Unavailable(Report),
    /// The database reported an error that is not temporary, e.g. read-only, disk full, permission denied.
    #[error("{0}")]
    Failed(Report),
    /// The database cannot store a value of the call, e.g. text outside its encoding, or a field over its size limit.
    /// Nothing was written. The same call always fails again; a batch without the value succeeds.
    #[error("{0}")]
    Refused(String),
    /// The batch exceeds the maximum size of a message to the database. It was not sent, so nothing was written. The
    /// caller can split the batch. If a single item is too large, it can never be stored.
    #[error("{0}")]
    TooLarge(String),
    /// A row contains data that this program cannot read.
    #[error("{0}")]
    Corrupt(String),
    /// The schema is newer than this program, or it is older and the options do not allow a migration, or a migration
    /// failed.
    #[error("{0}")]
    Migration(Report),
    /// The database file was open in an ancestor process when that process forked.
    #[error("{0}")]
    Forked(String),
    /// A submission refers to a workflow version that is not stored, or that was pruned. Nothing was applied. The
    /// caller must store the version and submit again.
    #[error("{0}")]
    DefinitionGone(String),
    /// Another runner has ended items of a map, or the map itself, since the decision, so the batch would end the map too
    /// early, a second time, or not at all. Nothing was written. The error contains the items whose claims were lost, if
    /// any.
    #[error(
        "another runner has ended items of a map, or the map itself, since this batch was decided"
    )]
    MapMoved(Vec<(ExecutionId, Ordinal, u32)>),
    /// The runner that writes was declared dead, and must register again.
    #[error(
        "another runner declared this runner dead, because it found no sign that this runner was alive"
    )]
    RunnerLost,
}

impl StoreError {
    /// Returns whether one item of the call causes the error, so that the call would succeed without the item.
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
        let (code, report) = match error {
            StoreError::Unavailable(report) => (ErrorCode::Connection, report),
            StoreError::Migration(report) => (ErrorCode::Migration, report),
            StoreError::Failed(report) => (ErrorCode::Database, report),
            StoreError::Forked(message) => {
                let hint = "start the process with 'spawn' instead of 'fork', or shut the runner down before the fork, \
                            or open the first runner after the fork";
                (ErrorCode::Forked, Report::hinted(message, hint))
            }
            other => (ErrorCode::Database, other.to_string().into()),
        };
        let error = Self::new(code, report.0.message);
        match report.0.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

/// Returns the error for an invalid database URL.
pub(super) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::UrlInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_hint_in_a_message_does_not_become_a_hint() {
        let message = "the server said 'no; hint: yes'";
        let error = Error::from(StoreError::Failed(message.into()));
        assert_eq!(
            (error.message.as_str(), error.hint.as_deref()),
            (message, None)
        );
        let hinted = StoreError::Failed(Report::hinted(message, "ask again"));
        assert_eq!(hinted.to_string(), format!("{message}; hint: ask again"));
        let error = Error::from(hinted);
        assert_eq!(error.message, message);
        assert_eq!(error.hint.as_deref(), Some("ask again"));
    }
}
