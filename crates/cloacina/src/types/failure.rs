//! Failures, in the form in which tasks of both languages report them and the database stores them.

use serde::{Deserialize, Serialize};

/// Why an attempt ended without a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The qualified name of the error's type, e.g. `ValueError`, `package.module.CustomError` or `TaskTimeoutError`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The error's message.
    pub message: String,
    /// The traceback or backtrace, if available.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceback: Option<String>,
    /// Whether the retry policy may retry the failure. `Abort`, a wrong return value and an oversized context are never retried.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub retryable: bool,
    /// Qualified names of the error's type and its base classes, most specific first. `retry_on` and `never_on` match against
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lineage: Vec<String>,
}

/// Failures that the engine itself produces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// An attempt exceeded its timeout.
    TaskTimeout,
    /// An execution exceeded its timeout.
    WorkflowTimeout,
    /// A task's runner died more often than `max_rescues`.
    RunnerLost,
    /// A trigger rule could not be evaluated.
    Rule,
    /// A delta was larger than `max_context_bytes`.
    ContextTooLarge,
    /// The database cannot store a value that a task wrote.
    NotStorable,
    /// A wait timed out.
    WaitTimeout,
    /// An approval was rejected.
    Rejected,
    /// A child failed, timed out or was cancelled.
    ChildFailed,
}

impl FailureKind {
    /// The type name under which the failure is stored.
    #[must_use]
    pub const fn type_name(self) -> &'static str {
        match self {
            Self::TaskTimeout => "TaskTimeoutError",
            Self::WorkflowTimeout => "WorkflowTimeoutError",
            Self::RunnerLost => "TaskExecutionError",
            Self::Rule => "TaskValidationError",
            Self::ContextTooLarge | Self::NotStorable => "ContextError",
            Self::WaitTimeout => "WaitTimeoutError",
            Self::Rejected => "ApprovalRejectedError",
            Self::ChildFailed => "ChildFailedError",
        }
    }
}

impl Failure {
    /// Creates a failure that the engine produces.
    #[must_use]
    pub fn engine(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind: kind.type_name().to_owned(),
            message: message.into(),
            traceback: None,
            retryable: matches!(kind, FailureKind::TaskTimeout | FailureKind::ChildFailed),
            lineage: match kind {
                FailureKind::TaskTimeout | FailureKind::WaitTimeout => {
                    vec![kind.type_name().to_owned(), "TimeoutError".to_owned()]
                }
                _ => Vec::new(),
            },
        }
    }

    /// The type's name without its module.
    #[must_use]
    pub fn short_type(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or(&self.kind)
    }
}

const fn yes() -> bool {
    true
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde's skip_serializing_if wants a reference"
)]
const fn is_yes(value: &bool) -> bool {
    *value
}
