//! What running tasks tell of themselves, beside their results.

use serde::{Deserialize, Serialize};

use super::{ExecutionId, Ordinal, Timestamp};

/// How far an attempt says it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The execution.
    pub execution: ExecutionId,
    /// The task.
    pub task: Ordinal,
    /// The attempt that said it.
    pub attempt: u32,
    /// What is done.
    pub done: f64,
    /// What is to do in all.
    pub total: f64,
    /// A few words about it.
    pub message: Option<String>,
    /// When it was said.
    pub time: Timestamp,
}

/// A log line of a task. Levels are those of Python's `logging`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was logged.
    pub time: Timestamp,
    /// How important it is: 10 for debug to 50 for critical.
    pub level: i64,
    /// The logger's name.
    pub logger: String,
    /// What was logged, with the traceback where there is one.
    pub message: String,
}

/// Log lines of one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogChunk {
    /// The execution.
    pub execution: ExecutionId,
    /// The task.
    pub task: Ordinal,
    /// The attempt.
    pub attempt: u32,
    /// Oldest first.
    pub lines: Vec<LogLine>,
}
