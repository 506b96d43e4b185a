//! The stored form of an execution. The stores read and write these values, and the engine decides from them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Context, DefinitionId, Delta, ExecutionId, ExecutionStatus, Failure, Micros, ParentLink,
    RunnerId, TaskStatus, TaskWait, Timestamp,
};

/// A claim: the exclusive right of a runner to run one attempt. A write about the attempt is applied only if its claim is
/// current.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The runner that holds the claim.
    pub runner: RunnerId,
    /// The number of the attempt, counted from 1.
    pub attempt: u32,
    /// The index of the item, if the task is a map.
    pub item: Option<u32>,
}

impl Claim {
    /// Creates the claim of a task that is not a map.
    #[must_use]
    pub const fn of_task(runner: RunnerId, attempt: u32) -> Self {
        Self {
            runner,
            attempt,
            item: None,
        }
    }
}

/// The cause of a skip. It decides whether tasks that depend on the skipped task and have the default rule are skipped too
/// (semantics C1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipCause {
    /// A dependency failed, or was skipped because of a failure.
    Failure,
    /// The trigger rule of the task did not hold, or the task is skipped because its wait timed out or its approval was
    /// rejected.
    Rule,
    /// The execution timed out before the task ran.
    Ended,
}

/// The reason why a task was skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// The cause. It affects the tasks that depend on the skipped task.
    pub cause: SkipCause,
    /// A sentence for the user.
    pub reason: String,
}

/// The state of one task of an execution.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRecord {
    /// The task's state.
    pub status: TaskStatus,
    /// The number of attempts so far, including the running attempt. This number does not decrease while a late result
    /// of an earlier attempt can still arrive.
    pub attempt: u32,
    /// The number of attempts that the retry policy does not count. These are attempts that were lost with their runner, and
    /// all attempts before a `retry_execution`.
    pub uncounted: u32,
    /// The number of lost runners that count towards `max_rescues`. A recorded step resets this number to 0.
    pub rescues: u32,
    /// The runner that has claimed the task; in an ended task, the runner of the last attempt.
    pub runner: Option<RunnerId>,
    /// The earliest start of a ready task; `None` means immediately. In a pending task: the earliest start that a pause has
    /// saved.
    pub ready_at: Option<Timestamp>,
    /// The time at which a worker started the last attempt. In a running task, `None` means that the task is claimed and
    /// waits for a worker, or that it has just started: the start is written only after the attempt has run for a while.
    pub started_at: Option<Timestamp>,
    /// The time at which the task ended.
    pub ended_at: Option<Timestamp>,
    /// The task's writes, if it has completed.
    pub delta: Option<Arc<Delta>>,
    /// The last failure.
    pub error: Option<Failure>,
    /// The reason why the task was skipped.
    pub skip: Option<Skip>,
    /// The task's open wait, and the results of its earlier waits; `None` if the task has never waited.
    pub wait: Option<Arc<TaskWait>>,
    /// Whether the database has a row for the task.
    pub stored: bool,
}

impl TaskRecord {
    /// Creates a task that waits for its dependencies.
    #[must_use]
    pub const fn pending() -> Self {
        Self {
            status: TaskStatus::Pending,
            attempt: 0,
            uncounted: 0,
            rescues: 0,
            runner: None,
            ready_at: None,
            started_at: None,
            ended_at: None,
            delta: None,
            error: None,
            skip: None,
            wait: None,
            stored: false,
        }
    }

    /// Returns the claim under which the task runs; `None` unless the task is running.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        match (self.status, self.runner) {
            (TaskStatus::Running, Some(runner)) => Some(Claim {
                runner,
                attempt: self.attempt,
                item: None,
            }),
            _ => None,
        }
    }

    /// Returns the attempt, and its first start, if the function has ended in order to wait and the attempt continues
    /// when the wait is over (T5). `attempt` does not include this attempt during the wait.
    fn begun(&self) -> Option<(u32, Timestamp)> {
        let begun = self.wait.as_ref()?.begun;
        begun.filter(|(attempt, _)| *attempt >= self.attempt)
    }

    /// Returns the number of attempts that have begun. Includes the attempt of a function that waits.
    #[must_use]
    pub fn attempts_begun(&self) -> u32 {
        self.begun().map_or(self.attempt, |(attempt, _)| attempt)
    }

    /// Returns the start of the last attempt. If the function has waited, this is its first start in the attempt, not the
    /// start after the wait, which is `started_at`.
    #[must_use]
    pub fn attempt_started_at(&self) -> Option<Timestamp> {
        self.begun().map_or(self.started_at, |(_, at)| Some(at))
    }

    /// Returns `started_at`, if no event of a wait contains the start of this attempt.
    pub(crate) fn unrecorded_start(&self) -> Option<Timestamp> {
        self.started_at.filter(|_| self.begun().is_none())
    }
}

/// The state of one execution with all its tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutionRecord {
    /// The execution's id.
    pub id: ExecutionId,
    /// The stored version of the workflow that the execution runs.
    pub definition: DefinitionId,
    /// Increases with every change of the execution or its tasks. A write is applied only if the revision has not changed.
    pub revision: i64,
    /// The execution's state.
    pub status: ExecutionStatus,
    /// The priority. Tasks with a higher priority are claimed first.
    pub priority: i16,
    /// The caller's idempotency key.
    pub key: Option<String>,
    /// The input context.
    pub input: Arc<Context>,
    /// The time at which the execution was submitted.
    pub created_at: Timestamp,
    /// The earliest start; `None` means immediately.
    pub start_at: Option<Timestamp>,
    /// The time at which the first task started. In a running execution, `None` means that tasks are claimed, but none is
    /// known to have started.
    pub started_at: Option<Timestamp>,
    /// The time at which the execution ended.
    pub ended_at: Option<Timestamp>,
    /// Maximum time from the start of the first task to the end of the execution, in microseconds.
    pub timeout: Option<Micros>,
    /// The time at which the execution times out; set when the first task starts.
    pub deadline: Option<Timestamp>,
    /// The time at which the current pause began.
    pub paused_at: Option<Timestamp>,
    /// The failure, with the ordinal of the task that caused the failure, if any.
    pub error: Option<(Option<u32>, Failure)>,
    /// The link to the parent, if the execution is a child or runs final tasks.
    pub parent: Option<Arc<ParentLink>>,
    /// The link to the last execution of this execution's final tasks, if any.
    pub finale: Option<Arc<ParentLink>>,
    /// The tasks, by ordinal.
    pub tasks: Vec<TaskRecord>,
}

impl ExecutionRecord {
    /// Returns the generation of the last final tasks that started before the execution was last retried; 0 if there are none.
    /// These final tasks do not belong to the latest end of the execution.
    #[must_use]
    pub fn finals_before(&self) -> u32 {
        let wait = self.tasks.first().and_then(|task| task.wait.as_deref());
        wait.map_or(0, |wait| wait.finals_before)
    }
}
