//! An execution in a list: its row, without its tasks.

use std::sync::Arc;

use super::{
    DefinitionId, ExecutionId, ExecutionStatus, Failure, Labels, Micros, Ordinal, ParentLink,
    Timestamp,
};

/// Maximum length of the message of an error in a list, in characters.
const MAX_MESSAGE: usize = 300;

/// The row of an execution with its labels, without its input and its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionSummary {
    /// The execution's id.
    pub id: ExecutionId,
    /// The stored version of the workflow that it runs.
    pub definition: DefinitionId,
    /// Grows with every change of the execution or its tasks.
    pub revision: i64,
    /// The execution's state. It is `Pending` as long as no task is known to have started.
    pub status: ExecutionStatus,
    /// Its priority.
    pub priority: i16,
    /// The caller's idempotency key.
    pub key: Option<String>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// The earliest start; `None` means at once.
    pub start_at: Option<Timestamp>,
    /// Start of its first task.
    pub started_at: Option<Timestamp>,
    /// End of the execution.
    pub ended_at: Option<Timestamp>,
    /// Maximum time from the first task's start to the end, in microseconds.
    pub timeout: Option<Micros>,
    /// When the timeout ends it.
    pub deadline: Option<Timestamp>,
    /// Start of the current pause.
    pub paused_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<ErrorSummary>,
    /// Its labels.
    pub labels: Labels,
    /// The node that started it, if it is a child.
    pub parent: Option<Arc<ParentLink>>,
}

/// The failure of an execution, without its traceback, and with at most 300 characters of its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorSummary {
    /// The task that caused it; `None`: the execution itself failed, for example by its timeout.
    pub task: Option<Ordinal>,
    /// The type of the error, for example an exception's qualified name.
    pub kind: String,
    /// The message.
    pub message: String,
    /// Whether the message was cut.
    pub is_cut: bool,
}

impl ErrorSummary {
    /// Returns the summary of a failure, with its message cut to the maximum length.
    #[must_use]
    pub fn new(task: Option<Ordinal>, failure: Failure) -> Self {
        let mut message = failure.message;
        let end = message.char_indices().nth(MAX_MESSAGE);
        if let Some((end, _)) = end {
            message.truncate(end);
        }
        Self {
            task,
            kind: failure.kind,
            message,
            is_cut: end.is_some(),
        }
    }
}
