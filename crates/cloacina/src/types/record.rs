//! An execution as it is stored. The engine computes on these values; the stores read and write them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Context, DefinitionId, Delta, ExecutionId, ExecutionStatus, Failure, Micros, ParentLink,
    RunnerId, TaskStatus, TaskWait, Timestamp,
};

/// The exclusive right of a runner to run one attempt. Every write about the attempt is fenced by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The runner that holds the claim.
    pub runner: RunnerId,
    /// Number of the attempt, counted from 1.
    pub attempt: u32,
    /// The index of the item, if the task is a map.
    pub item: Option<u32>,
}

impl Claim {
    /// The claim of a task that is not a map.
    #[must_use]
    pub const fn of_task(runner: RunnerId, attempt: u32) -> Self {
        Self {
            runner,
            attempt,
            item: None,
        }
    }
}

/// The cause of a skip. It decides whether dependents with the default rule are skipped too (semantics C1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipCause {
    /// A dependency failed, or was skipped because of a failure.
    Failure,
    /// The task's own trigger rule was not met.
    Rule,
    /// The execution's timeout ended it.
    Ended,
}

/// Why a task was skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// The cause, which decides what dependents do.
    pub cause: SkipCause,
    /// A sentence for the user.
    pub reason: String,
}

/// The state of one task of an execution.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRecord {
    /// The task's state.
    pub status: TaskStatus,
    /// Number of attempts so far, the running one included. Never decreases while a late result could arrive.
    pub attempt: u32,
    /// Attempts that the retry policy does not count: those lost with their runner, and all before a `retry_execution`.
    pub uncounted: u32,
    /// Number of times that the task was rescued from a dead runner.
    pub rescues: u32,
    /// The runner that runs the task now.
    pub runner: Option<RunnerId>,
    /// Of a ready task: the earliest start; `None` means now. Of a pending task: the earliest start that a pause has saved.
    pub ready_at: Option<Timestamp>,
    /// Start of the last attempt: the time at which a worker took it. Of a running task, `None` means that it is claimed and
    /// waits for a worker, or started a moment ago: the start of an attempt is written once it has run for a while.
    pub started_at: Option<Timestamp>,
    /// End of the task.
    pub ended_at: Option<Timestamp>,
    /// The task's writes, once it has completed.
    pub delta: Option<Arc<Delta>>,
    /// The last failure.
    pub error: Option<Failure>,
    /// Why it was skipped.
    pub skip: Option<Skip>,
    /// Its open wait, and the results of its waits; `None` for a task that never waited.
    pub wait: Option<Arc<TaskWait>>,
    /// Whether the database has a row for the task.
    pub stored: bool,
}

impl TaskRecord {
    /// A task that waits for its dependencies.
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

    /// The claim under which the task runs; `None` unless it is running.
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
}

/// The state of one execution with all its tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutionRecord {
    /// The execution's id.
    pub id: ExecutionId,
    /// The stored version of the workflow that the execution runs.
    pub definition: DefinitionId,
    /// Grows with every change of the execution or its tasks. Optimistic writes compare it.
    pub revision: i64,
    /// The execution's state.
    pub status: ExecutionStatus,
    /// Priority; tasks with a higher priority are claimed first.
    pub priority: i16,
    /// The caller's idempotency key.
    pub key: Option<String>,
    /// The input context.
    pub input: Arc<Context>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// The earliest start; `None` means at once.
    pub start_at: Option<Timestamp>,
    /// Start of its first task. Of a running execution, `None` means that tasks are claimed and none is known to have started.
    pub started_at: Option<Timestamp>,
    /// End of the execution.
    pub ended_at: Option<Timestamp>,
    /// Maximum time from the first task's start to the end, in microseconds.
    pub timeout: Option<Micros>,
    /// When the timeout ends the execution; set when the first task starts.
    pub deadline: Option<Timestamp>,
    /// Start of the current pause.
    pub paused_at: Option<Timestamp>,
    /// The failure, with the ordinal of the task that caused it if there is one.
    pub error: Option<(Option<u32>, Failure)>,
    /// The node that started it, if it is a child.
    pub parent: Option<Arc<ParentLink>>,
    /// The link of the last execution of its final tasks, if there is one.
    pub finale: Option<Arc<ParentLink>>,
    /// The tasks, by ordinal.
    pub tasks: Vec<TaskRecord>,
}
