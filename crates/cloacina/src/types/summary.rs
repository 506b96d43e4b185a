//! The summary of an execution in a list: its row, without its tasks.

use std::sync::Arc;

use super::{
    DefinitionId, ExecutionId, ExecutionStatus, Failure, Labels, Micros, Ordinal, ParentLink,
    Timestamp,
};

/// Maximum length of an error message in a list, in characters.
const MAX_MESSAGE: usize = 300;

/// The row of an execution with its labels, without its input and its tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecutionSummary {
    /// The execution's id.
    pub id: ExecutionId,
    /// The stored version of the workflow that the execution runs.
    pub definition: DefinitionId,
    /// Increases with every change of the execution or its tasks.
    pub revision: i64,
    /// The execution's state. It is `Pending` until a task is known to have started.
    pub status: ExecutionStatus,
    /// The execution's priority.
    pub priority: i16,
    /// The caller's idempotency key.
    pub key: Option<String>,
    /// The time at which the execution was submitted.
    pub created_at: Timestamp,
    /// The earliest start; `None` means immediately.
    pub start_at: Option<Timestamp>,
    /// The time at which the first task started.
    pub started_at: Option<Timestamp>,
    /// The time at which the execution ended.
    pub ended_at: Option<Timestamp>,
    /// Maximum time from the start of the first task to the end of the execution, in microseconds.
    pub timeout: Option<Micros>,
    /// The time at which the execution times out.
    pub deadline: Option<Timestamp>,
    /// The time at which the current pause began.
    pub paused_at: Option<Timestamp>,
    /// The error, if the execution failed.
    pub error: Option<ErrorSummary>,
    /// The execution's labels.
    pub labels: Labels,
    /// The link to the parent, if the execution is a child or runs final tasks.
    pub parent: Option<Arc<ParentLink>>,
}

/// The failure of an execution, with at most 300 characters of its message and without its traceback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorSummary {
    /// The task that caused the failure; `None`: the execution itself failed, for example because of its timeout.
    pub task: Option<Ordinal>,
    /// The type of the error, for example an exception's qualified name.
    pub kind: String,
    /// The message.
    pub message: String,
    /// Whether the message was cut.
    pub is_cut: bool,
}

impl ErrorSummary {
    /// Creates the summary of a failure. A message that is too long is cut.
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
