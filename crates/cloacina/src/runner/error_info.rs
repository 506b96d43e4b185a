//! The error of a failed execution, task or item, as callers and tasks receive it.

use std::fmt;

use crate::types::Failure;

/// The error of a failed execution, task or item of a map.
///
/// Since 1.0.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct ErrorInfo {
    /// The name of the error's type, e.g. `std::io::Error`, `ValueError` or `TaskTimeoutError`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The error's message.
    pub message: String,
    /// The traceback, if available.
    pub traceback: Option<String>,
    /// The task that failed; `None` when no single task caused the failure.
    #[serde(rename = "task")]
    pub task_id: Option<String>,
}

impl ErrorInfo {
    pub(super) fn new(failure: &Failure, task_id: Option<String>) -> Self {
        Self {
            kind: failure.kind.clone(),
            message: failure.message.clone(),
            traceback: failure.traceback.clone(),
            task_id,
        }
    }
}

impl fmt::Display for ErrorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(task) = &self.task_id {
            write!(f, "task '{task}' failed: ")?;
        }
        write!(f, "{}: {}", self.kind, self.message)
    }
}
