//! Parameters and answers of the store requests.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::cmp::Reverse;
use std::time::Duration;

use super::{ClaimClass, ClaimedItems, FlowWrites, MapOutcome, QueueId, ScheduleWrite};
use crate::types::{
    Claim, DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent, Labels,
    Masking, Ordinal, RunnerId, ScheduleId, StepChanges, Timestamp,
};

/// The numbers of rows that a call of `Store::prune` has deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// The executions.
    pub executions: usize,
    /// The versions of workflows.
    pub definitions: usize,
}

impl Pruned {
    /// Returns whether nothing was deleted.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Changes that other runners have made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A marker. It differs from the previous marker if another runner may have written. It never changes if no other
    /// runner can write to the store.
    pub marker: i64,
    /// A counter. It differs from the previous one if another runner may have retried an execution that had ended.
    /// `None` if the store cannot distinguish such changes from others.
    pub revivals: Option<u64>,
    /// Runners that seem to be dead although their leases have not ended. Each is reported once.
    pub vanished: Vec<RunnerId>,
    /// Whether the caller must send a heartbeat now, because other runners may suspect that the caller is dead.
    pub must_prove_life: bool,
}

impl Changes {
    /// Returns the changes of a store that has only a change marker.
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
    /// The id in this database.
    pub id: DefinitionId,
    /// The workflow's name.
    pub workflow: String,
    /// The version hash.
    pub version: String,
    /// The definition as JSON.
    pub body: String,
}

/// A version of a workflow that a program may need, without the definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredVersion {
    /// The id in this database.
    pub id: DefinitionId,
    /// The workflow's name.
    pub workflow: String,
}

/// The contents of one transaction.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The runner that writes. If it was declared dead, nothing is applied and the error is [`StoreError::RunnerLost`].
    ///
    /// [`StoreError::RunnerLost`]: super::StoreError::RunnerLost
    pub runner: RunnerId,
    /// The time at which the decisions were made.
    pub now: Timestamp,
    /// Changes of schedules, with their ticks. This batch submits the executions of the ticks.
    pub schedules: Vec<ScheduleWrite<'a>>,
    /// New executions.
    pub submits: Vec<Submit<'a>>,
    /// Changes of existing executions.
    pub advances: Vec<Advance<'a>>,
    /// The other writes: waits, the inbox, links of children, maps, and ends of executions for triggers.
    pub flow: FlowWrites,
    /// Tasks to claim after everything else is applied.
    pub claim: ClaimRequest,
}

impl Batch<'_> {
    /// Returns the source of a submission: the execution whose change in this batch must be written before the
    /// submission is applied. For a child, the source is the parent. For an execution that was started by a task but
    /// has no parent, the source is the task's execution. For the child of a map's item, the source is the child
    /// itself, because its submission depends on the item that starts it. Any other submission has no source.
    /// Submissions with a source are applied after the changes of executions.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn source_of(&self, submit: &Submit<'_>) -> Option<ExecutionId> {
        let id = submit.record.id;
        match &submit.record.parent {
            // The child of a map's item is submitted only if the item has started it.
            Some(link) if link.map_item().is_some() => Some(id),
            Some(link) => Some(link.execution),
            None => (self.flow.sources.iter())
                .find(|(started, _)| *started == id)
                .map(|(_, source)| *source),
        }
    }

    /// Returns the indexes of the advances that depend on other changes. A parent's change comes after the changes of
    /// its children.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn dependents(&self) -> Vec<usize> {
        let advances = self.advances.iter().enumerate();
        let mut found: Vec<usize> = advances
            .filter(|(_, advance)| !advance.requires.is_empty())
            .map(|(index, _)| index)
            .collect();
        found.sort_by_key(|index| Reverse(self.depth_of(*index)));
        found
    }

    /// Returns the depth of an advance's execution: the number of its ancestors.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn depth_of(&self, advance: usize) -> u32 {
        let record = self.advances[advance].record;
        record.parent.as_ref().map_or(0, |link| link.depth)
    }

    /// Returns whether the batch contains a write that is allowed only for the holder of a claim. Submissions without
    /// claims, and control of executions (e.g. pause or cancel), need no live runner.
    #[must_use]
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn needs_live_runner(&self) -> bool {
        let submits = self.submits.iter();
        let submits = submits.map(|submit| (submit.record, &submit.tasks));
        let records_steps = |advance: &Advance<'_>| {
            let recorded = advance.steps.map(|steps| &steps.recorded);
            recorded.is_some_and(|recorded| !recorded.is_empty())
        };
        if self.flow.maps.needs_live_runner() || self.advances.iter().any(records_steps) {
            return true;
        }
        let advances = self.advances.iter();
        let advances = advances.map(|advance| (advance.record, &advance.tasks));
        let claims = |record: &ExecutionRecord, write: &TaskWrite| {
            let task = record.tasks.get(write.ordinal as usize);
            task.is_some_and(|task| {
                task.status == crate::types::TaskStatus::Running && task.runner == Some(self.runner)
            })
        };
        submits.chain(advances).any(|(record, tasks)| {
            let mut tasks = tasks.iter();
            tasks.any(|write| write.fence.is_some() || claims(record, write))
        })
    }
}

/// A new execution. Task rows are written only for tasks that are not pending.
#[derive(Debug)]
pub struct Submit<'a> {
    /// The record, with revision 1.
    pub record: &'a ExecutionRecord,
    /// The workflow's name.
    pub workflow: &'a str,
    /// The execution's labels.
    pub labels: &'a Labels,
    /// Task rows to insert.
    pub tasks: Vec<TaskWrite>,
    /// History events to insert.
    pub history: &'a [HistoryEvent],
}

/// A change of an execution. It is applied only if the stored revision is `expected`.
#[derive(Debug)]
pub struct Advance<'a> {
    /// The record after the decision, with its new revision.
    pub record: &'a ExecutionRecord,
    /// The revision that the decision is based on.
    pub expected: i64,
    /// Task rows to write.
    pub tasks: Vec<TaskWrite>,
    /// History events to insert.
    pub history: &'a [HistoryEvent],
    /// The children whose ends cause this change. The change is applied only if all changes of these children in this
    /// batch are applied (M3).
    pub requires: &'a [ExecutionId],
    /// Recorded steps to delete and to insert. A step whose key is already recorded is left out. It is the same step,
    /// which the runner writes again because it did not learn the outcome of the first commit.
    pub steps: Option<&'a StepChanges>,
}

/// A task row to insert or update. Its values are in the record of the [`Submit`] or [`Advance`].
#[derive(Clone, Copy, Debug)]
pub struct TaskWrite {
    /// The task.
    pub ordinal: Ordinal,
    /// Whether to insert a row instead of updating the existing one.
    pub insert: bool,
    /// The claim that the stored row must have for the update.
    pub fence: Option<Claim>,
    /// The queue from which the task is claimed.
    pub queue: QueueId,
    /// The priority with which the task is claimed.
    pub priority: i16,
}

/// The tasks that a runner wants to claim.
#[derive(Clone, Debug, Default)]
pub struct ClaimRequest {
    /// One class for each kind of worker. If empty, nothing is claimed.
    pub classes: Vec<ClaimClass>,
}

/// A task that was claimed for the runner of the batch. Its row is now `Running`, and the revision of its execution was
/// increased by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// The execution.
    pub execution: ExecutionId,
    /// The execution's definition.
    pub definition: DefinitionId,
    /// The task.
    pub ordinal: Ordinal,
    /// The attempt that the claim starts.
    pub attempt: u32,
    /// The execution's revision after this claim.
    pub revision: i64,
}

/// The outcome of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubmitOutcome {
    /// The execution was stored.
    Accepted,
    /// Nothing was stored, because the execution with this id exists: it is the submitted execution itself, or it has
    /// the same workflow and key. This is also the outcome of a dropped submission (see [`Committed::submits`]).
    Duplicate(ExecutionId),
}

/// The outcome of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Committed {
    /// For each schedule write, in order: whether it was applied. If not, another runner has handled the ticks.
    pub schedules: Vec<bool>,
    /// For each submission, in order: its outcome. A submission that was dropped, because its tick was lost or its
    /// source was not written, counts as a duplicate of itself.
    pub submits: Vec<SubmitOutcome>,
    /// For each advance, in order: whether it was applied. If not, the execution has changed meanwhile; the caller must
    /// load it and decide again.
    pub advances: Vec<bool>,
    /// Claimed tasks, class by class. The tasks of each class are in claim order.
    pub claimed: Vec<Claimed>,
    /// For each class of the request: whether more tasks than its limit were found.
    pub more: Vec<bool>,
    /// Executions with a new wait whose signal is already stored. Their tasks are due.
    pub due: Vec<ExecutionId>,
    /// The time at which the next ready task of the requested queues becomes due, e.g. the end of a retry delay. `None`
    /// if all ready tasks are due already or no queues were requested. If tasks were skipped because another runner writes
    /// their executions, this is a time a few milliseconds from now.
    pub next_due: Option<Timestamp>,
    /// For each map with written items, in order: the outcome.
    pub maps: Vec<MapOutcome>,
    /// Claimed items. The map with the highest priority comes first.
    pub items: Vec<ClaimedItems>,
    /// The time at which the next item that waits for another attempt becomes due. `None` if no item waits or no items
    /// were requested.
    pub items_due: Option<Timestamp>,
    /// Whether more items than requested may be claimable.
    pub more_items: bool,
}

/// Executions that have passed their deadlines, and whether any tasks wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverdueExecutions {
    /// Executions whose deadline has passed.
    pub executions: Vec<ExecutionId>,
    /// The next deadline.
    pub next: Option<Timestamp>,
    /// Whether any task waits or the inbox has a message. If so, a runner must check the waiting tasks and the inbox. A
    /// runner sends this request after every change by another writer. Because the answer has this flag, the runner
    /// needs no separate request for waits.
    pub has_waits: bool,
}

/// The start of an attempt: a worker has begun to run the task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptStart {
    /// The execution.
    pub execution: ExecutionId,
    /// The task.
    pub task: Ordinal,
    /// The claim of the attempt.
    pub claim: Claim,
    /// The time at which the worker began.
    pub at: Timestamp,
}

/// Identifies an attempt: its execution, its task and its claim.
pub type AttemptKey = (ExecutionId, Ordinal, Claim);

impl AttemptStart {
    /// Returns the key of the attempt.
    #[must_use]
    pub const fn key(&self) -> AttemptKey {
        (self.execution, self.task, self.claim)
    }
}

/// A filter for listing executions.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Only executions of this workflow.
    pub workflow: Option<String>,
    /// Only executions in these states. If empty, any state. A running execution counts as `Pending` until the start of
    /// one of its tasks is stored.
    pub statuses: Vec<ExecutionStatus>,
    /// Executions that the caller knows to have started. They do not count as `Pending`, even if their start is not
    /// stored yet.
    pub started: Vec<ExecutionId>,
    /// Only executions of these definitions.
    pub definitions: Option<Vec<DefinitionId>>,
    /// Only executions with one of these keys. The list must not contain a key twice.
    pub keys: Option<Vec<String>>,
    /// Only executions with all these labels. Each label must have one of the given values.
    pub labels: Vec<(String, Vec<String>)>,
    /// Only executions that this schedule or trigger has started.
    pub schedule: Option<ScheduleId>,
    /// Only these executions.
    pub ids: Option<Vec<ExecutionId>>,
    /// Only executions whose error contains this text in its type or its message. Upper and lower case are not
    /// distinguished.
    pub error: Option<String>,
    /// The masking with which error messages are shown. If given, the masked message must contain the text of `error`
    /// too, so that a search cannot find out a hidden value.
    pub masking: Option<Masking>,
    /// Only executions whose input satisfies all these conditions.
    pub inputs: Vec<InputCondition>,
    /// Only executions that are not children of other executions.
    pub roots: bool,
    /// Only children of this execution. Children have no keys, so this filter cannot be combined with `keys`.
    pub parent: Option<ExecutionId>,
    /// Only executions submitted at or after this time.
    pub since: Option<Timestamp>,
    /// Only executions submitted before this time.
    pub until: Option<Timestamp>,
    /// Only executions with an id below this one.
    pub before: Option<ExecutionId>,
    /// Only executions with an id above this one.
    pub after: Option<ExecutionId>,
    /// Whether to return the oldest executions of the range first.
    pub ascending: bool,
    /// Maximum number of executions.
    pub limit: usize,
    /// Maximum effort for rows that do not satisfy the conditions. `None` means that all rows can be examined.
    pub budget: Option<ScanBudget>,
}

/// The beginning of a stored JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The first characters of the text.
    pub text: String,
    /// The size of the whole text in bytes.
    pub size: u64,
}

/// A condition on a value in an execution's input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputCondition {
    /// The keys and indexes that lead to the value.
    pub path: Vec<String>,
    /// The value as JSON, or the text of a string.
    pub value: String,
}

/// The maximum effort of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanBudget {
    /// Maximum number of rows that are examined and not returned.
    pub rows: u64,
    /// Maximum time of the scan. It applies only after 1,000 rows.
    pub time: Duration,
}

impl Default for ScanBudget {
    /// Returns a budget of 20,000 rows and 100 ms.
    fn default() -> Self {
        Self {
            rows: 20_000,
            time: Duration::from_millis(100),
        }
    }
}

/// The result of listing executions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// The ids of the executions, in the order of the query.
    pub ids: Vec<ExecutionId>,
    /// The number of rows that were examined.
    pub examined: u64,
    /// The last execution that was examined and the time of its submission, if the budget ended the scan before the
    /// query's limit was reached.
    pub reached: Option<(ExecutionId, Timestamp)>,
}

/// A runner's row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerRow {
    /// The runner's id.
    pub id: RunnerId,
    /// The machine's name and boot id. The process id is valid only on this machine, until its next boot.
    pub host: String,
    /// The runner's process id.
    pub pid: i64,
    /// The start time of the process as the kernel reports it. It reveals whether another process has reused the
    /// process id.
    pub pid_started: i64,
    /// The time at which the runner started.
    pub started_at: Timestamp,
    /// The time of the last heartbeat.
    pub heartbeat_at: Timestamp,
    /// The time at which the lease ends.
    pub lease_until: Timestamp,
    /// Names of the runner's workflows, for `explain`.
    pub workflows: Vec<String>,
}

/// The state of a database, as `db check` reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Problems, as sentences. Empty if the database is sound.
    pub problems: Vec<String>,
    /// Size on disk in bytes.
    pub size: u64,
    /// Unused part of `size`, in bytes. On PostgreSQL, this is an estimate of the space of dead rows.
    pub free: u64,
    /// Advice, as sentences.
    pub advice: Vec<String>,
    /// The newest migration that was applied.
    pub schema_version: String,
}
