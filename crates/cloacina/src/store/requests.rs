//! Parameters and answers of store requests.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::cmp::Reverse;
use std::time::Duration;

use super::{ClaimClass, ClaimedItems, FlowWrites, MapOutcome, QueueId, ScheduleWrite};
use crate::types::{
    Claim, DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent, Labels,
    Ordinal, RunnerId, ScheduleId, StepChanges, Timestamp,
};

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
    /// Changes of waits, and messages of the inbox that these changes settle.
    pub flow: FlowWrites,
    /// Work to claim after the rest is applied.
    pub claim: ClaimRequest,
}

impl Batch<'_> {
    /// The execution whose change in this batch must be written for a submission to be applied: the parent of a child, or the
    /// execution whose task starts the new one. Such submissions are applied after everything else. The child of a map's item
    /// depends on the item's start, and is its own source.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn source_of(&self, submit: &Submit<'_>) -> Option<ExecutionId> {
        let id = submit.record.id;
        match &submit.record.parent {
            // The child of a map's item is submitted if the item has started it.
            Some(link) if link.map_item().is_some() => Some(id),
            Some(link) => Some(link.execution),
            None => (self.flow.sources.iter())
                .find(|(started, _)| *started == id)
                .map(|(_, source)| *source),
        }
    }

    /// The indexes of the changes that depend on other changes. The change of a parent comes after the changes of its
    /// children.
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

    /// The number of ancestors of the execution of an advance.
    #[cfg(any(feature = "sqlite", feature = "postgres"))]
    pub(super) fn depth_of(&self, advance: usize) -> u32 {
        let record = self.advances[advance].record;
        record.parent.as_ref().map_or(0, |link| link.depth)
    }

    /// Returns whether the batch contains a write that only the owner of a claim may make. Control of an execution, and a
    /// submission without a claim, need no live runner.
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

/// A new execution, with the rows of its tasks that are not pending.
#[derive(Debug)]
pub struct Submit<'a> {
    /// The record, with revision 1.
    pub record: &'a ExecutionRecord,
    /// The workflow's name.
    pub workflow: &'a str,
    /// Its labels.
    pub labels: &'a Labels,
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
    /// The children whose ends cause this change. It is applied only if this batch's changes of all of them are applied (M3).
    pub requires: &'a [ExecutionId],
    /// Recorded steps to delete and to insert. A step whose key is recorded already is left out: it is the same step, written
    /// again because the outcome of its first commit was unknown.
    pub steps: Option<&'a StepChanges>,
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
#[derive(Clone, Debug, Default, PartialEq)]
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
    /// Executions with a wait that was registered although its signal is there already. Their tasks are due.
    pub due: Vec<ExecutionId>,
    /// When the next waiting task of the requested queues becomes due; `None` if none waits or nothing was requested.
    pub next_due: Option<Timestamp>,
    /// One per map with ended items, in order.
    pub maps: Vec<MapOutcome>,
    /// Claimed items, beginning with the map that has the highest priority.
    pub items: Vec<ClaimedItems>,
    /// When the next item that waits for another attempt is due; `None` if none waits or no items were requested.
    pub items_due: Option<Timestamp>,
    /// Whether there may be more items to claim than were requested.
    pub more_items: bool,
}

/// Executions that have passed their deadlines, and whether there are waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverdueExecutions {
    /// Executions whose deadline has passed.
    pub executions: Vec<ExecutionId>,
    /// The next deadline.
    pub next: Option<Timestamp>,
    /// Whether any task waits or the inbox has a message, so that a runner must check them. This request reports it, because a
    /// runner sends the request after every change of another writer, and so needs no separate one.
    pub has_waits: bool,
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

/// Identifies an attempt: its execution, its task and its claim.
pub type AttemptKey = (ExecutionId, Ordinal, Claim);

impl AttemptStart {
    /// The attempt.
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
    /// Only executions in these states; empty means any state. A running execution counts as `Pending` as long as no start is
    /// stored for it.
    pub statuses: Vec<ExecutionStatus>,
    /// Executions that have started although no start may be stored yet.
    pub started: Vec<ExecutionId>,
    /// Only executions of these definitions.
    pub definitions: Option<Vec<DefinitionId>>,
    /// Only executions with one of these keys, each given once.
    pub keys: Option<Vec<String>>,
    /// Only executions with all these labels, each with one of its values.
    pub labels: Vec<(String, Vec<String>)>,
    /// Only executions that this schedule or trigger has started.
    pub schedule: Option<ScheduleId>,
    /// Only these executions.
    pub ids: Option<Vec<ExecutionId>>,
    /// Only executions whose error has this text in its type or its message, in any case.
    pub error: Option<String>,
    /// Only executions whose input has all these values.
    pub inputs: Vec<InputCondition>,
    /// Only executions that are not children of others.
    pub roots: bool,
    /// Only children of this execution. Children have no keys, so this cannot be combined with `keys`.
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
    /// The maximum effort for rows that do not satisfy the conditions; `None`: all rows are examined if need be.
    pub budget: Option<ScanBudget>,
}

/// The beginning of a stored JSON text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Its first characters.
    pub text: String,
    /// The size of the whole text in bytes.
    pub size: u64,
}

/// A value of an input.
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
    /// Maximum time. A scan examines at least 1,000 rows, however long they take.
    pub time: Duration,
}

impl Default for ScanBudget {
    /// 20,000 rows or 100 ms.
    fn default() -> Self {
        Self {
            rows: 20_000,
            time: Duration::from_millis(100),
        }
    }
}

/// The executions of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Their ids, in the order of the query.
    pub ids: Vec<ExecutionId>,
    /// The number of rows that were examined.
    pub examined: u64,
    /// The last execution that was examined and the time of its submission, if the budget ended the scan before the
    /// limit was reached.
    pub reached: Option<(ExecutionId, Timestamp)>,
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
