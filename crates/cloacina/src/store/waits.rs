//! Parameters and answers of the store requests about waits, signals and the inbox.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use std::collections::HashSet;
use std::sync::Arc;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use crate::types::Micros;
use crate::types::{ExecutionId, InboxId, Ordinal, ParentLink, Timestamp, WaitKind, WaitRow};

#[cfg(any(feature = "sqlite", feature = "postgres"))]
use super::inbox::InboxKind;
use super::inbox::InboxMessage;
use super::maps::MapWrites;
use super::queue_id::QueueId;

/// How far, in microseconds, the due time of a woken task lies before the time of the wake-up. With this margin, the
/// task is due on every runner, even if a runner's clock is behind.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) const WAKE_MARGIN: Micros = 86_400_000_000;

/// Maximum difference, in microseconds, between the clocks of a sender and a submitter. Up to this difference, a signal
/// that is sent after a submission counts for the submitted execution (L4).
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) const CLOCK_TOLERANCE: Micros = 10_000_000;

/// Maximum number of tasks that a signal wakes in the transaction that stores the signal (L10).
pub const SEND_WAKES: usize = 1_000;

/// The writes of a batch that concern waits, the inbox, links of children, maps, and ends of executions for triggers.
#[derive(Clone, Debug, Default)]
pub struct FlowWrites {
    /// Changes of waits. Each is applied only if the batch's change of its execution is applied.
    pub waits: Vec<WaitWrite>,
    /// Messages of the inbox to delete. Each is deleted only if the batch's change of the given execution is applied.
    pub settled: Vec<(InboxId, ExecutionId)>,
    /// Messages of the inbox to add.
    pub posts: Vec<PostWrite>,
    /// Links of children to add or to change. Each is written only if the batch's change of the child is written.
    pub links: Vec<LinkWrite>,
    /// Pairs of a submitted execution without a parent, and the execution that causes the submission. The submission is
    /// applied only if the batch's change of the second execution is applied (T10).
    pub sources: Vec<(ExecutionId, ExecutionId)>,
    /// The writes that concern maps, and the items to claim.
    pub maps: MapWrites,
    /// Executions that the batch ends. Each end is stored for the triggers that must be called for this end (G4).
    pub ends: Vec<ExecutionId>,
}

/// A message to add to the inbox if the batch's change of an execution is applied.
#[derive(Clone, Debug)]
pub struct PostWrite {
    /// The execution whose change causes the message.
    pub source: ExecutionId,
    /// The message.
    pub message: InboxMessage,
    /// The receiver, if the batch already contains the change that the message would cause. In this case, the message
    /// is added only if that change is not applied (M3).
    pub unless: Option<ExecutionId>,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl PostWrite {
    /// Returns whether to add the message. `applied` contains the executions whose changes were written.
    pub(super) fn is_due(&self, applied: &HashSet<ExecutionId>) -> bool {
        applied.contains(&self.source)
            && !(self.unless).is_some_and(|receiver| applied.contains(&receiver))
    }
}

/// The link of a child to its parent. If the batch submits the child, the submission is applied after the changes of
/// executions, and only if the batch's change of the parent is applied.
#[derive(Clone, Debug)]
pub struct LinkWrite {
    /// The child.
    pub child: ExecutionId,
    /// The link.
    pub link: Arc<ParentLink>,
    /// Whether the link is new.
    pub is_new: bool,
}

impl FlowWrites {
    /// Returns whether there is nothing to write, apart from ends of executions for triggers.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.waits.is_empty()
            && self.settled.is_empty()
            && self.posts.is_empty()
            && self.links.is_empty()
            && self.sources.is_empty()
            && self.maps.is_empty()
    }
}

/// The state of a wait after a decision: the wait of a task, or the wait for signals that cancel an execution.
#[derive(Clone, Debug)]
pub struct WaitWrite {
    /// The execution.
    pub execution: ExecutionId,
    /// The task. `None` for the signals that cancel the execution.
    pub task: Option<Ordinal>,
    /// The state of the task's wait as JSON. `None` if the task does not wait.
    pub state: Option<String>,
    /// The queue of the task: the queue of waiting tasks while the task waits, otherwise the task's own queue.
    pub queue: QueueId,
    /// The rows that replace the stored rows of the wait. For each row with a cursor, the store looks for a stored
    /// signal in the same transaction. If it finds one, the task becomes due immediately, or a message for the
    /// execution is added to the inbox.
    pub rows: Vec<WaitRow>,
}

/// The waiting tasks that must be checked now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueWaits {
    /// Executions with due tasks, in the order in which they became due.
    pub executions: Vec<ExecutionId>,
    /// The time at which waiting tasks must be checked next.
    pub next: Option<Timestamp>,
    /// The first messages of the inbox, in order.
    pub inbox: Vec<InboxMessage>,
    /// Whether the limit was reached, so that more tasks may be due or more messages may exist. Even then, `executions`
    /// can be shorter than the limit, because an execution with several due tasks is listed once.
    pub is_full: bool,
}

/// A filter for open waits.
#[derive(Clone, Debug, Default)]
pub struct WaitQuery {
    /// Only waits for a signal or an approval with this name.
    pub name: Option<String>,
    /// Only waits of this workflow.
    pub workflow: Option<String>,
    /// Only waits of this execution. If set, only `name` and `kinds` apply as further conditions: the answer contains all
    /// such waits, ordered by task and slot.
    pub execution: Option<ExecutionId>,
    /// Only waits of these kinds. If empty, no waits are returned.
    pub kinds: Vec<WaitKind>,
    /// Only waits after this position. It consists of the start time, execution, task and slot of the last wait of the
    /// previous page.
    pub after: Option<(Timestamp, ExecutionId, i64, u32)>,
    /// Whether to return the newest waits first. If so, `after` excludes newer waits.
    pub descending: bool,
    /// Maximum number of waits.
    pub limit: usize,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl WaitQuery {
    /// Returns the position before the first wait, in the order of the query.
    pub(super) fn start(&self) -> (Timestamp, ExecutionId, i64, u32) {
        if self.descending {
            let last = ExecutionId::from_bytes([0xFF; 16]);
            (Timestamp(i64::MAX), last, i64::MAX, u32::MAX)
        } else {
            let first = ExecutionId::from_bytes([0; 16]);
            (Timestamp(i64::MIN), first, EXECUTION - 1, 0)
        }
    }

    /// Sorts waits of several kinds into one order, and drops waits beyond the limit.
    pub(super) fn sort(&self, waits: &mut Vec<WaitRow>) {
        waits.sort_by_key(|row| (row.since, row.execution, ordinal_of(row.task), row.slot));
        if self.descending {
            waits.reverse();
        }
        waits.truncate(self.limit);
    }
}

/// The body of an `advance` message: the signal's topic, number and time, and the last task that was woken.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct AdvanceBody {
    pub(super) topic: String,
    pub(super) seq: i64,
    pub(super) sent_at: Timestamp,
    pub(super) after: (ExecutionId, i64),
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl AdvanceBody {
    /// Returns the body before any task was woken.
    pub(super) fn first(topic: String, seq: i64, sent_at: Timestamp) -> Self {
        Self {
            topic,
            seq,
            sent_at,
            after: (ExecutionId::from_bytes([0; 16]), EXECUTION - 1),
        }
    }

    /// Returns whether no task was woken yet.
    pub(super) const fn is_first(&self) -> bool {
        self.after.1 < EXECUTION
    }
}

/// Period before the timeout of a wait, in microseconds. In this period, a new signal raises the revision of the
/// waiting execution even if it does not wake the task immediately (L7). A signal wakes only the first [`SEND_WAKES`]
/// waiting tasks immediately. Because of the new revision, a runner that looked for signals before the signal was
/// stored can no longer write the timeout.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) const TIMEOUT_MARGIN: Micros = 60_000_000;

/// The ordinal that stands for the execution itself instead of a task.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) const EXECUTION: i64 = -1;

/// Returns the stored ordinal of a wait's owner: a task, or the execution itself.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn ordinal_of(task: Option<Ordinal>) -> i64 {
    task.map_or(EXECUTION, i64::from)
}

/// Returns the message that cancels an execution because of a signal.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn cancel_message(
    execution: ExecutionId,
    name: &str,
    seq: i64,
    now: Timestamp,
) -> InboxMessage {
    let mut bits = [0; 10];
    bits.copy_from_slice(&execution.as_bytes()[6..]);
    InboxMessage {
        id: InboxId::from_parts(now, bits),
        kind: InboxKind::Cancel.name().to_owned(),
        target: Some(execution.to_string()),
        body: Some(serde_json::json!({ "signal": name, "seq": seq }).to_string()),
        created_at: now,
        note: None,
    }
}

/// Returns the message that wakes the remaining tasks that wait for a signal.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn advance_message(body: &AdvanceBody, now: Timestamp) -> InboxMessage {
    let mut bits = [0; 10];
    bits[2..].copy_from_slice(&body.seq.to_be_bytes());
    InboxMessage {
        id: InboxId::from_parts(now, bits),
        kind: InboxKind::Advance.name().to_owned(),
        target: None,
        body: serde_json::to_string(body).ok(),
        created_at: now,
        note: None,
    }
}
