//! What happened to an execution, in order: the part of its history that no row holds otherwise.

use serde::{Deserialize, Serialize};

use super::{Json, Ordinal, RunnerId, Timestamp};

/// The type of an event in an execution's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    /// The execution was submitted. Derived from its row.
    Submitted,
    /// The submitter's trace context, for those who run the tasks.
    Traced,
    /// The first task started. Derived from the execution's row.
    Started,
    /// An attempt started. Derived for the last attempt, stored with the end for the others.
    TaskStarted,
    /// A task completed. Derived from its row.
    TaskCompleted,
    /// An attempt failed and no other follows. Derived from its row.
    TaskFailed,
    /// An attempt failed and another follows.
    TaskRetrying,
    /// A task asked to run later, without counting the attempt.
    TaskSnoozed,
    /// A task was skipped; the reason is in the data. Derived from its row.
    TaskSkipped,
    /// A task was cancelled. Derived from its row.
    TaskCancelled,
    /// A claim was lost with its runner and taken back.
    TaskRescued,
    /// A claim was given back unfinished at a shutdown.
    TaskReleased,
    /// The execution was paused.
    Paused,
    /// The execution was resumed.
    Resumed,
    /// A retry of the ended execution was asked for.
    Retried,
    /// The execution was cancelled.
    Cancelled,
    /// The execution overran its timeout.
    TimedOut,
    /// The execution ended well. Derived from its row.
    Completed,
    /// The execution ended badly. Derived from its row.
    Failed,
}

impl HistoryKind {
    /// The name in the database and in the public API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::Traced => "traced",
            Self::Started => "started",
            Self::TaskStarted => "task_started",
            Self::TaskCompleted => "task_completed",
            Self::TaskFailed => "task_failed",
            Self::TaskRetrying => "task_retrying",
            Self::TaskSnoozed => "task_snoozed",
            Self::TaskSkipped => "task_skipped",
            Self::TaskCancelled => "task_cancelled",
            Self::TaskRescued => "task_rescued",
            Self::TaskReleased => "task_released",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::Retried => "retried",
            Self::Cancelled => "cancelled",
            Self::TimedOut => "timed_out",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }
}

/// One event of an execution's history.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEvent {
    /// When it happened.
    pub time: Timestamp,
    /// Its type, a name of [`HistoryKind`].
    pub kind: String,
    /// The task it is about, if any.
    pub task: Option<Ordinal>,
    /// The attempt it is about, if any.
    pub attempt: Option<u32>,
    /// The runner that did it or had the claim.
    pub runner: Option<RunnerId>,
    /// More, by type: error, delay, reason.
    pub data: Option<Json>,
}
