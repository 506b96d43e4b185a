//! Parameters and answers of store requests.

use super::ScheduleWrite;
use crate::types::{
    Claim, DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent, Ordinal,
    RunnerId, Timestamp,
};
use crate::workflow::Workflow;

/// A queue of ready tasks: the tasks of one kind of a workflow, in all its versions, or those of one external task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub i64);

impl QueueId {
    /// Returns the queue of a workflow's task.
    pub fn of(workflow: &Workflow, task: Ordinal) -> Self {
        Self(workflow.queue(task))
    }
}

/// Changes made by other runners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Differs from the last answer if another runner may have written. Constant if no other runner can write to the
    /// store.
    pub marker: i64,
    /// Differs from the last answer if another runner may have resumed an execution that had ended. `None` if the store
    /// cannot tell these changes from others.
    pub revivals: Option<u64>,
    /// Runners that seem to be gone before their leases have ended; each is reported once.
    pub vanished: Vec<RunnerId>,
    /// Whether the caller must send heartbeats now, because other runners may suspect that it is gone.
    pub must_prove_life: bool,
}

impl Changes {
    /// Returns the changes of a store that has only a marker.
    #[must_use]
    pub fn of(marker: i64) -> Self {
        Self {
            marker,
            ..Self::default()
        }
    }
}

/// A stored version of a workflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDefinition {
    /// Its id in this database.
    pub id: DefinitionId,
    /// The workflow's name.
    pub workflow: String,
    /// The version hash.
    pub version: String,
    /// The definition as JSON.
    pub body: String,
}

/// A version of a workflow that a program may need, without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// Its id in this database.
    pub id: DefinitionId,
    /// The workflow's name.
    pub workflow: String,
}

/// The contents of one transaction.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The writing runner. If it was declared dead, nothing is applied and the error is [`StoreError::RunnerLost`].
    ///
    /// [`StoreError::RunnerLost`]: super::StoreError::RunnerLost
    pub runner: RunnerId,
    /// The time of the decisions.
    pub now: Timestamp,
    /// Changes of schedules, with the ticks whose executions this batch submits.
    pub schedules: Vec<ScheduleWrite<'a>>,
    /// New executions.
    pub submits: Vec<Submit<'a>>,
    /// Changes of existing executions.
    pub advances: Vec<Advance<'a>>,
    /// Work to claim after the rest is applied.
    pub claim: ClaimRequest,
}

/// A new execution, with the rows of its tasks that are not pending.
#[derive(Debug)]
pub struct Submit<'a> {
    /// The record, with revision 1.
    pub record: &'a ExecutionRecord,
    /// The workflow's name.
    pub workflow: &'a str,
    /// Rows to insert.
    pub tasks: Vec<TaskWrite>,
    /// History to insert.
    pub history: &'a [HistoryEvent],
}

/// A change of an execution, applied only if the stored revision is `expected`.
#[derive(Debug)]
pub struct Advance<'a> {
    /// The record after the decision, with its new revision.
    pub record: &'a ExecutionRecord,
    /// The revision that the decision is based on.
    pub expected: i64,
    /// Rows to write.
    pub tasks: Vec<TaskWrite>,
    /// History to insert.
    pub history: &'a [HistoryEvent],
}

/// A task's row to insert or update. The values are in the record of the `Submit` or `Advance`.
#[derive(Clone, Copy, Debug)]
pub struct TaskWrite {
    /// The task.
    pub ordinal: Ordinal,
    /// Whether to insert a row instead of updating the existing one.
    pub insert: bool,
    /// The claim that the row must have for the update.
    pub fence: Option<Claim>,
    /// The queue from which it is claimed.
    pub queue: QueueId,
    /// Its priority among claims.
    pub priority: i16,
}

/// The tasks that a runner wants to claim.
#[derive(Clone, Debug, Default)]
pub struct ClaimRequest {
    /// One class per kind of worker; if empty, nothing is claimed.
    pub classes: Vec<ClaimClass>,
}

/// Queues that share a limit.
#[derive(Clone, Debug, Default)]
pub struct ClaimClass {
    /// The queues to claim from.
    pub queues: Vec<QueueId>,
    /// Tasks of these queues that the runner has no handler for, by version of the workflow.
    pub excluded: Vec<(DefinitionId, Ordinal)>,
    /// Maximum number of tasks.
    pub limit: usize,
}

/// A task that was claimed for the batch's runner. Its row is `Running`, and its execution's revision was increased by
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The execution.
    pub execution: ExecutionId,
    /// Its definition.
    pub definition: DefinitionId,
    /// The task.
    pub ordinal: Ordinal,
    /// The attempt of the claim.
    pub attempt: u32,
    /// The execution's revision after this claim.
    pub revision: i64,
}

/// The outcome of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitOutcome {
    /// The execution was stored.
    Accepted,
    /// An execution with this workflow and key exists; nothing was stored.
    Duplicate(ExecutionId),
}

/// The outcome of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// One per schedule, in order: whether it was applied. If not, another runner has handled its ticks.
    pub schedules: Vec<bool>,
    /// One per submission, in order. A submission that was dropped with its tick counts as a duplicate of itself.
    pub submits: Vec<SubmitOutcome>,
    /// One per advance, in order: whether it was applied. If not, the execution was changed meanwhile: load it and
    /// decide again.
    pub advances: Vec<bool>,
    /// Claimed tasks, highest priority first.
    pub claimed: Vec<Claimed>,
    /// Per class of the request: whether there were more tasks than its limit.
    pub more: Vec<bool>,
    /// When the next waiting task of the requested queues becomes due; `None` if none waits or nothing was requested.
    pub next_due: Option<Timestamp>,
}

/// Executions that have passed their deadlines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverdueExecutions {
    /// Executions whose deadline has passed.
    pub executions: Vec<ExecutionId>,
    /// The next deadline.
    pub next: Option<Timestamp>,
}

/// The start of an attempt: a worker has taken the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptStart {
    /// The execution.
    pub execution: ExecutionId,
    /// The task.
    pub task: Ordinal,
    /// The claim under which it runs.
    pub claim: Claim,
    /// The time at which the worker took it.
    pub at: Timestamp,
}

/// A filter for listing executions.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only executions of this workflow.
    pub workflow: Option<String>,
    /// Only executions in these states; empty means any state. A running execution of which no start is stored is `Pending`.
    pub statuses: Vec<ExecutionStatus>,
    /// Executions that have started although no start may be stored yet.
    pub started: Vec<ExecutionId>,
    /// Only executions of these definitions.
    pub definitions: Option<Vec<DefinitionId>>,
    /// Only executions with one of these keys, each given once.
    pub keys: Option<Vec<String>>,
    /// Only executions submitted at or after this time.
    pub since: Option<Timestamp>,
    /// Only executions with an id below this one (the cursor).
    pub before: Option<ExecutionId>,
    /// Maximum number of executions.
    pub limit: usize,
}

/// A runner's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerRow {
    /// Its id.
    pub id: RunnerId,
    /// The machine's name with its boot id; the pid is valid only there.
    pub host: String,
    /// Its process id.
    pub pid: i64,
    /// The process's start time as reported by the kernel, to detect a reused pid.
    pub pid_started: i64,
    /// When the runner started.
    pub started_at: Timestamp,
    /// Its last heartbeat.
    pub heartbeat_at: Timestamp,
    /// When its lease ends.
    pub lease_until: Timestamp,
    /// Names of its workflows, for `explain`.
    pub workflows: Vec<String>,
}

/// The state of a database, as `db check` reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Problems, as sentences; empty if the database is sound.
    pub problems: Vec<String>,
    /// Size on disk in bytes.
    pub size: u64,
    /// Unused part of the size, in bytes.
    pub free: u64,
    /// Advice, as sentences.
    pub advice: Vec<String>,
}
