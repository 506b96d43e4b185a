//! Parameters of store requests, and their answers.

use super::ScheduleWrite;
use crate::types::{
    Claim, DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent, Ordinal,
    RunnerId, Timestamp,
};
use crate::workflow::Workflow;

/// A queue of ready tasks: those of one kind of a workflow, whatever its version, or those of one external task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub i64);

impl QueueId {
    /// The queue of a workflow's task.
    pub fn of(workflow: &Workflow, task: Ordinal) -> Self {
        Self(workflow.queue(task))
    }
}

/// What a store learned of other runners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A number that differs from the last answer when another runner may have written. A store that nobody else can write
    /// to may always answer the same.
    pub marker: i64,
    /// A number that differs from the last answer when an execution that had ended may go on by another runner's doing.
    /// `None`: any change may be that.
    pub revivals: Option<u64>,
    /// Runners that the database takes for gone though their leases last, each named once.
    pub vanished: Vec<RunnerId>,
    /// Whether the runner that asks must send heartbeats now, so that others do not take it for gone.
    pub must_prove_life: bool,
}

impl Changes {
    /// Those of a store that knows no more than a marker.
    #[must_use]
    pub fn of(marker: i64) -> Self {
        Self {
            marker,
            ..Self::default()
        }
    }
}

/// A version of a workflow as stored.
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

/// One transaction.
#[derive(Debug)]
pub struct Batch<'a> {
    /// Who writes. If it was declared dead, nothing is applied and the answer is [`StoreError::RunnerLost`].
    ///
    /// [`StoreError::RunnerLost`]: super::StoreError::RunnerLost
    pub runner: RunnerId,
    /// The instant of the decisions.
    pub now: Timestamp,
    /// Changes of schedules, with the ticks that submissions of this batch come from.
    pub schedules: Vec<ScheduleWrite<'a>>,
    /// New executions.
    pub submits: Vec<Submit<'a>>,
    /// Changes of existing executions.
    pub advances: Vec<Advance<'a>>,
    /// Work to claim after the rest was applied.
    pub claim: ClaimRequest,
}

/// A new execution with the rows of the tasks that are not pending.
#[derive(Debug)]
pub struct Submit<'a> {
    /// The whole record; its revision is 1.
    pub record: &'a ExecutionRecord,
    /// The workflow's name.
    pub workflow: &'a str,
    /// Rows to insert.
    pub tasks: Vec<TaskWrite>,
    /// History to insert.
    pub history: &'a [HistoryEvent],
}

/// Changes of an execution, applied only if its stored revision is `expected`; its new one is the record's.
#[derive(Debug)]
pub struct Advance<'a> {
    /// The whole record after the decision; the revision in it is the new one.
    pub record: &'a ExecutionRecord,
    /// The revision that the decision was made on.
    pub expected: i64,
    /// Rows to write.
    pub tasks: Vec<TaskWrite>,
    /// History to insert.
    pub history: &'a [HistoryEvent],
}

/// A task's row to insert or update, with its values in the record beside it.
#[derive(Clone, Copy, Debug)]
pub struct TaskWrite {
    /// Which task.
    pub ordinal: Ordinal,
    /// Insert, or update the row that is there.
    pub insert: bool,
    /// Update only while the row is claimed so.
    pub fence: Option<Claim>,
    /// The queue from which it is claimed.
    pub queue: QueueId,
    /// Its priority among claims.
    pub priority: i16,
}

/// What a runner can take.
#[derive(Clone, Debug, Default)]
pub struct ClaimRequest {
    /// By kind of worker; empty claims nothing.
    pub classes: Vec<ClaimClass>,
}

/// Queues that share a limit.
#[derive(Clone, Debug, Default)]
pub struct ClaimClass {
    /// Where to take from.
    pub queues: Vec<QueueId>,
    /// Tasks of these queues that the runner has no handler for, by version of the workflow.
    pub excluded: Vec<(DefinitionId, Ordinal)>,
    /// At most so many.
    pub limit: usize,
}

/// A task that was claimed for the batch's runner. Its row is `Running` and its execution's revision was raised by one.
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

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitVerdict {
    /// It is stored.
    Accepted,
    /// An execution with this workflow and key exists; nothing was stored.
    Duplicate(ExecutionId),
}

/// What became of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// One per schedule, in order: whether it was applied. If not, somebody else dealt with its ticks.
    pub schedules: Vec<bool>,
    /// One per submission, in order. One that was dropped with its tick is a duplicate of itself.
    pub submits: Vec<SubmitVerdict>,
    /// One per advance, in order: whether it was applied. If not, the execution had changed: load, decide again.
    pub advances: Vec<bool>,
    /// What was claimed, highest priority first.
    pub claimed: Vec<Claimed>,
    /// Per class of the request: whether more could have been claimed than its limit.
    pub more: Vec<bool>,
    /// The next instant at which a waiting task of the requested queues becomes due; `None` if none waits, or if nothing was requested.
    pub next_due: Option<Timestamp>,
}

/// Executions whose time is over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Those whose deadline has passed.
    pub executions: Vec<ExecutionId>,
    /// The first deadline that has not.
    pub next: Option<Timestamp>,
}

/// Which executions to list.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only of this workflow.
    pub workflow: Option<String>,
    /// Only in these states; empty means any.
    pub statuses: Vec<ExecutionStatus>,
    /// Only of these definitions.
    pub definitions: Option<Vec<DefinitionId>>,
    /// Only submitted at or after.
    pub since: Option<Timestamp>,
    /// Only ids below this one: the cursor.
    pub before: Option<ExecutionId>,
    /// At most so many.
    pub limit: usize,
}

/// A runner's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerRow {
    /// Its id.
    pub id: RunnerId,
    /// The machine's name together with its boot id: only there its pid means something.
    pub host: String,
    /// Its process id.
    pub pid: i64,
    /// The process's start time as the kernel tells it, so that a reused pid is not taken for it.
    pub pid_started: i64,
    /// When the runner started.
    pub started_at: Timestamp,
    /// Its last heartbeat.
    pub heartbeat_at: Timestamp,
    /// Until when its claims are its own.
    pub lease_until: Timestamp,
    /// Names of the workflows that it has, for `explain`.
    pub workflows: Vec<String>,
}

/// The state of a database as `db check` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong, as sentences; empty when the database is sound.
    pub problems: Vec<String>,
    /// Bytes on disk.
    pub size: u64,
    /// Bytes of them that hold nothing.
    pub free: u64,
    /// What to do about it, as sentences.
    pub advice: Vec<String>,
}
