//! Parameters and answers of the requests about waits, signals and the inbox.

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

/// Maximum number of tasks that a signal wakes in its own transaction (L10).
pub const SEND_WAKES: usize = 1_000;

/// The writes of a batch that concern waits.
#[derive(Clone, Debug, Default)]
pub struct FlowWrites {
    /// Changes of waits. Each is applied if the batch's change of its execution is applied.
    pub waits: Vec<WaitWrite>,
    /// Messages of the inbox to delete, each with the execution whose change settles it.
    pub settled: Vec<(InboxId, ExecutionId)>,
    /// Messages of the inbox to add.
    pub posts: Vec<PostWrite>,
    /// Links of children to add or to change. Each is written if the batch's change of the child is written.
    pub links: Vec<LinkWrite>,
    /// Submissions without a parent, each with the execution whose change in this batch must be applied for the submission to
    /// be applied (T10).
    pub sources: Vec<(ExecutionId, ExecutionId)>,
    /// The writes that concern maps, and the items to claim.
    pub maps: MapWrites,
    /// Executions that the batch ends. If triggers follow them, each end is stored for these triggers (G4).
    pub ends: Vec<ExecutionId>,
}

/// A message of the inbox to add if the batch's change of an execution is applied.
#[derive(Clone, Debug)]
pub struct PostWrite {
    /// The execution whose change causes the message.
    pub source: ExecutionId,
    /// The message.
    pub message: InboxMessage,
    /// The addressee, if the batch already has the change that follows from the message. The message is added only if that
    /// change is not applied (M3).
    pub unless: Option<ExecutionId>,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl PostWrite {
    /// Whether to add the message. `applied`: the executions whose changes were written.
    pub(super) fn is_due(&self, applied: &HashSet<ExecutionId>) -> bool {
        applied.contains(&self.source)
            && !(self.unless).is_some_and(|addressee| applied.contains(&addressee))
    }
}

/// The link of a child to its parent. The submission of a child is applied after everything else in the batch, if the batch's
/// change of the parent is applied.
#[derive(Clone, Debug)]
pub struct LinkWrite {
    /// The child.
    pub child: ExecutionId,
    /// Its link.
    pub link: Arc<ParentLink>,
    /// Whether the link is new.
    pub is_new: bool,
}

impl FlowWrites {
    /// Whether there is nothing to write, apart from ends that triggers may follow.
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

/// The wait of a task, or the signals that cancel an execution, after a decision.
#[derive(Clone, Debug)]
pub struct WaitWrite {
    /// The execution.
    pub execution: ExecutionId,
    /// The task; `None` for the signals that cancel the execution.
    pub task: Option<Ordinal>,
    /// The state of the task's wait as JSON; `None` if it has none.
    pub state: Option<String>,
    /// The queue of the task: the queue of waiting tasks, or its own.
    pub queue: QueueId,
    /// The rows that replace the stored rows of the task or the execution. For each row with a cursor, the store looks for a
    /// signal in the same transaction; if there is one, the task becomes due at once, or the execution gets a message in the
    /// inbox.
    pub rows: Vec<WaitRow>,
}

/// The waiting tasks to check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DueWaits {
    /// The executions, in the order of their due times.
    pub executions: Vec<ExecutionId>,
    /// The time at which waiting tasks must be checked next.
    pub next: Option<Timestamp>,
    /// The first messages of the inbox, in order.
    pub inbox: Vec<InboxMessage>,
    /// Whether the limit was reached, so that more tasks may be due or more messages may exist. An execution with several due
    /// tasks is listed once.
    pub is_full: bool,
}

/// A filter for open waits.
#[derive(Clone, Debug, Default)]
pub struct WaitQuery {
    /// Only waits with this name of a signal or an approval.
    pub name: Option<String>,
    /// Only waits of this workflow.
    pub workflow: Option<String>,
    /// Only waits of this execution.
    pub execution: Option<ExecutionId>,
    /// Only waits of these kinds.
    pub kinds: Vec<WaitKind>,
    /// Only waits after this position: the start time, execution, task and slot of the last wait of a page.
    pub after: Option<(Timestamp, ExecutionId, i64, u32)>,
    /// Whether to return the newest waits first. The position in `after` then excludes newer waits.
    pub descending: bool,
    /// Maximum number of waits.
    pub limit: usize,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl WaitQuery {
    /// The position before the first wait, in the order of the query.
    pub(super) fn start(&self) -> (Timestamp, ExecutionId, i64, u32) {
        if self.descending {
            let last = ExecutionId::from_bytes([0xFF; 16]);
            (Timestamp(i64::MAX), last, i64::MAX, u32::MAX)
        } else {
            let first = ExecutionId::from_bytes([0; 16]);
            (Timestamp(i64::MIN), first, EXECUTION - 1, 0)
        }
    }

    /// Sorts the waits of several kinds into one order, and drops the waits beyond the limit.
    pub(super) fn sort(&self, waits: &mut Vec<WaitRow>) {
        waits.sort_by_key(|row| (row.since, row.execution, ordinal_of(row.task), row.slot));
        if self.descending {
            waits.reverse();
        }
        waits.truncate(self.limit);
    }
}

/// The body of an `advance` message: the signal's topic, and the last task that was woken.
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
    /// The body before any task was woken.
    pub(super) fn first(topic: String, seq: i64, sent_at: Timestamp) -> Self {
        Self {
            topic,
            seq,
            sent_at,
            after: (ExecutionId::from_bytes([0; 16]), EXECUTION - 1),
        }
    }

    /// Whether no task was woken before.
    pub(super) const fn is_first(&self) -> bool {
        self.after.1 < EXECUTION
    }
}

/// L7: a signal wakes only the first [`SEND_WAKES`] waiting tasks at once. It also raises the revision of each other waiting
/// execution whose timeout is due within this time, in microseconds. A runner that checked for signals before this one was sent
/// then cannot write the timeout.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) const TIMEOUT_MARGIN: Micros = 60_000_000;

/// The ordinal that stands for the execution itself.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) const EXECUTION: i64 = -1;

/// The ordinal of a wait's owner in the database.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(super) fn ordinal_of(task: Option<Ordinal>) -> i64 {
    task.map_or(EXECUTION, i64::from)
}

/// The message that cancels an execution because of a signal.
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

/// The message that wakes the rest of the tasks that wait for a signal.
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
