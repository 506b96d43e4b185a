//! An execution as rows hold it. The engine decides over these values, the stores read and write them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Context, DefinitionId, Delta, ExecutionId, ExecutionStatus, Failure, Micros, RunnerId,
    TaskStatus, Timestamp,
};

/// The exclusive right of a runner to run one attempt: the fence of every write about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claim {
    /// Who has it.
    pub runner: RunnerId,
    /// For which attempt, 1-based.
    pub attempt: u32,
}

/// Whether a skip passes on to dependents with the default rule (semantics C1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipCause {
    /// A dependency failed, or was skipped because of a failure.
    Failure,
    /// The task's own rule did not hold.
    Rule,
    /// The execution was ended by its timeout.
    Ended,
}

/// Why a task was skipped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// What it means for dependents.
    pub cause: SkipCause,
    /// A sentence for people.
    pub reason: String,
}

/// The state of one task of an execution.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskRecord {
    /// Where it stands.
    pub status: TaskStatus,
    /// Attempts so far, the running one included; never falls while a late result could arrive.
    pub attempt: u32,
    /// Attempts that its retry policy does not count: lost ones, and all before a `retry_execution`.
    pub uncounted: u32,
    /// How often its claim was taken from a dead runner.
    pub rescues: u32,
    /// Who runs it now.
    pub runner: Option<RunnerId>,
    /// Ready: not to start before, `None` at once. Pending: what a pause keeps of it.
    pub ready_at: Option<Timestamp>,
    /// Start of the last attempt.
    pub started_at: Option<Timestamp>,
    /// End of the task.
    pub ended_at: Option<Timestamp>,
    /// What it wrote, once completed.
    pub delta: Option<Arc<Delta>>,
    /// Its last failure.
    pub error: Option<Failure>,
    /// Why it was skipped.
    pub skip: Option<Skip>,
    /// Whether the database has a row for it.
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
            stored: false,
        }
    }

    /// The claim under which it runs.
    #[must_use]
    pub fn claim(&self) -> Option<Claim> {
        match (self.status, self.runner) {
            (TaskStatus::Running, Some(runner)) => Some(Claim {
                runner,
                attempt: self.attempt,
            }),
            _ => None,
        }
    }
}

/// The state of one execution with all its tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecutionRecord {
    /// Its id.
    pub id: ExecutionId,
    /// The version of the workflow that it runs.
    pub definition: DefinitionId,
    /// Counts every change of the execution or its tasks; what optimistic writes compare.
    pub revision: i64,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// Claims go to higher ones first.
    pub priority: i16,
    /// The caller's idempotency key.
    pub key: Option<String>,
    /// What the tasks start from.
    pub input: Arc<Context>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// Not to start before.
    pub start_at: Option<Timestamp>,
    /// Start of its first task.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How long it may take from its first start.
    pub timeout: Option<Micros>,
    /// When its timeout strikes; set by its first start.
    pub deadline: Option<Timestamp>,
    /// Since when it is paused.
    pub paused_at: Option<Timestamp>,
    /// Why it failed, with the task if one is to blame.
    pub error: Option<(Option<u32>, Failure)>,
    /// Its tasks by ordinal.
    pub tasks: Vec<TaskRecord>,
}
