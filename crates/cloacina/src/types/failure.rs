//! Failures: the form in which tasks of both languages report errors, and in which the database stores them.

use serde::{Deserialize, Serialize};

/// The reason why an attempt ended without a result.
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
    /// Whether the retry policy decides about a retry. `false`: the failure is never retried, for example an `Abort`, a wrong
    /// return value or a context that is too large.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub retryable: bool,
    /// The qualified names of the error's type and of its base classes, most specific first. `retry_on` and `never_on` match
    /// these names.
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
    /// A task's runners died more often than `max_rescues` allows.
    RunnerLost,
    /// A task's definition or function does not work with its data: for example, a trigger rule compares values that cannot
    /// be compared, or a map's list or the path of a child's input is missing.
    Rule,
    /// A task's writes, an item's result or a task's recorded steps exceeded their limit, which is usually
    /// `max_context_bytes`.
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
    /// Returns the type name under which the failure is stored.
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

    /// Returns the type's name without its module.
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
    reason = "serde's skip_serializing_if requires a reference"
)]
const fn is_yes(value: &bool) -> bool {
    *value
}
