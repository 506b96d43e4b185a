//! The events of an execution's history. Only events that cannot be derived from other rows are stored.

use serde::{Deserialize, Serialize};

use super::{Json, Ordinal, RunnerId, Timestamp};

/// The type of an event in an execution's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    /// The execution was submitted. Derived from its row.
    Submitted,
    /// The person or program that submitted the execution, and why.
    SubmittedBy,
    /// The execution repeats another one; the data names it.
    RerunOf,
    /// The submitter's trace context, for the runners that run the tasks.
    Traced,
    /// The first task started. Derived from the execution's row.
    Started,
    /// An attempt started. Derived for the last attempt; stored together with the attempt's end for earlier ones.
    TaskStarted,
    /// A task completed. Derived from the task's row.
    TaskCompleted,
    /// An attempt failed and no retry follows. Derived from the task's row.
    TaskFailed,
    /// An attempt failed and a retry follows.
    TaskRetrying,
    /// A task snoozed: it runs later, and the attempt does not count.
    TaskSnoozed,
    /// A step of a task was recorded; the data has its key, kind, duration and value. Derived from the step's row.
    StepRecorded,
    /// A task was skipped; the data has the reason. Derived from the task's row.
    TaskSkipped,
    /// A task was cancelled. Derived from the task's row.
    TaskCancelled,
    /// A task was rescued: its claim was taken back from a dead runner.
    TaskRescued,
    /// A claim was returned unfinished when its runner shut down.
    TaskReleased,
    /// A task began to wait; the data says for what.
    Waiting,
    /// A waiting task took a signal.
    Signalled,
    /// A wait timed out.
    WaitTimedOut,
    /// An approval was decided.
    Decided,
    /// A node started a child; the data has its id and its workflow.
    ChildStarted,
    /// A node learned the end of its child; the data has its id, its status and its error.
    ChildEnded,
    /// The end of the execution started its final tasks; the data has their execution and its workflow.
    FinalStarted,
    /// A task completed and started another execution; the data has its id and its workflow.
    ExecutionStarted,
    /// The due time of a timer or of a retry delay was moved.
    Rescheduled,
    /// The execution was paused.
    Paused,
    /// The execution was resumed.
    Resumed,
    /// A retry of the ended execution was requested.
    Retried,
    /// The execution was cancelled.
    Cancelled,
    /// The execution exceeded its timeout.
    TimedOut,
    /// The execution completed. Derived from its row.
    Completed,
    /// The execution failed. Derived from its row.
    Failed,
}

impl HistoryKind {
    /// The name in the database and in the public API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Submitted => "submitted",
            Self::SubmittedBy => "submitted_by",
            Self::RerunOf => "rerun_of",
            Self::Traced => "traced",
            Self::Started => "started",
            Self::TaskStarted => "task_started",
            Self::TaskCompleted => "task_completed",
            Self::TaskFailed => "task_failed",
            Self::TaskRetrying => "task_retrying",
            Self::TaskSnoozed => "task_snoozed",
            Self::StepRecorded => "step_recorded",
            Self::TaskSkipped => "task_skipped",
            Self::TaskCancelled => "task_cancelled",
            Self::TaskRescued => "task_rescued",
            Self::TaskReleased => "task_released",
            Self::Waiting => "waiting",
            Self::Signalled => "signalled",
            Self::WaitTimedOut => "wait_timed_out",
            Self::Decided => "decided",
            Self::ChildStarted => "child_started",
            Self::ChildEnded => "child_ended",
            Self::FinalStarted => "final_started",
            Self::ExecutionStarted => "execution_started",
            Self::Rescheduled => "rescheduled",
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
    /// When the event happened.
    pub time: Timestamp,
    /// The event's type: a name of [`HistoryKind`].
    pub kind: String,
    /// The task concerned, if any.
    pub task: Option<Ordinal>,
    /// The attempt concerned, if any.
    pub attempt: Option<u32>,
    /// The runner that caused the event or held the claim.
    pub runner: Option<RunnerId>,
    /// Details that depend on the type: error, delay or reason.
    pub data: Option<Json>,
}
