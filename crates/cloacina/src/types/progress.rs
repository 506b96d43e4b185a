//! Progress and log lines that tasks report while they run.

use serde::{Deserialize, Serialize};

use super::{ExecutionId, Ordinal, Timestamp};

/// The progress that an attempt reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The execution.
    pub execution: ExecutionId,
    /// The task.
    pub task: Ordinal,
    /// The attempt that reported the progress.
    pub attempt: u32,
    /// Amount of work done.
    pub done: f64,
    /// Total amount of work, in the same unit as `done`.
    pub total: f64,
    /// A short description, if the task gave one.
    pub message: Option<String>,
    /// The time of the report.
    pub time: Timestamp,
}

/// A log line of a task. Its level is a level of Python's `logging`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The time at which the line was logged.
    pub time: Timestamp,
    /// The severity, from 10 (debug) to 50 (critical).
    pub level: i64,
    /// The logger's name.
    pub logger: String,
    /// The formatted message, including the traceback if one was logged.
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
    /// The lines, oldest first.
    pub lines: Vec<LogLine>,
}
