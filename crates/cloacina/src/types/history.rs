//! The events of an execution's history. Events that can be derived from other rows are not stored.

use serde::{Deserialize, Serialize};

use super::{Json, Ordinal, RunnerId, Timestamp};

/// The type of an event in an execution's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    /// The execution was submitted. Derived from the execution's row.
    Submitted,
    /// The submission named the caller, a reason, or both; the data has them. The event `RerunOf` replaces this event for a
    /// rerun.
    SubmittedBy,
    /// The execution is a rerun of another execution; the data has the id of that execution, and the caller and the reason
    /// if they are given.
    RerunOf,
    /// The execution was submitted with a trace context, which the runners of its tasks use. The data has the trace
    /// context.
    Traced,
    /// The first task started. Derived from the execution's row.
    Started,
    /// An attempt started. For the last attempt, the event is derived from the task's row. For an earlier attempt, it was
    /// stored when that attempt ended.
    TaskStarted,
    /// A task completed. Derived from the task's row.
    TaskCompleted,
    /// A task failed. Derived from the task's row.
    TaskFailed,
    /// An attempt failed and a retry follows.
    TaskRetrying,
    /// A task snoozed: it runs again later, and the attempt does not count.
    TaskSnoozed,
    /// A step of a task was recorded; the data has its key, kind, duration and value. Derived from the step's row.
    StepRecorded,
    /// A task was skipped; the data has the reason. Derived from the task's row.
    TaskSkipped,
    /// A task was cancelled. Derived from the task's row.
    TaskCancelled,
    /// A task was rescued: its claim was taken from a dead runner.
    TaskRescued,
    /// A runner returned its claim on an unfinished task, for example because the runner shut down.
    TaskReleased,
    /// A task began to wait; the data has the condition.
    Waiting,
    /// A waiting task received a signal.
    Signalled,
    /// A wait timed out.
    WaitTimedOut,
    /// An approval was decided.
    Decided,
    /// A task started a child; the data has the child's id and workflow.
    ChildStarted,
    /// A child of a task ended; the data has the child's id, state and error.
    ChildEnded,
    /// The execution ended and its final tasks were started; the data has the id and the workflow of their execution.
    FinalStarted,
    /// A task completed and started another execution; the data has the id and the workflow of the new execution.
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
    /// The execution completed. Derived from the execution's row.
    Completed,
    /// The execution failed. Derived from the execution's row.
    Failed,
}

impl HistoryKind {
    /// Returns the name that the database and the public API use.
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
    /// The time of the event.
    pub time: Timestamp,
    /// The event's type: a name of [`HistoryKind`].
    pub kind: String,
    /// The task that the event is about, if any.
    pub task: Option<Ordinal>,
    /// The attempt that the event is about, if any.
    pub attempt: Option<u32>,
    /// The runner that caused the event or held the claim.
    pub runner: Option<RunnerId>,
    /// Details of the event. They depend on its type, for example an error, a delay or a reason.
    pub data: Option<Json>,
}
