//! The write batch of a step: the changes that all messages of the step cause, written in one transaction.
//!
//! See docs/explanation/decisions/021-revisions.md

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use super::assignment::PollToken;
use super::ledger::Ledger;
use super::maps::{PendingMaps, ends_of};
use super::notes::messages_of;
use super::{Control, Message, Reply};
use crate::engine::trigger::PollOutcome;
use crate::engine::{Changes, Execution};
use crate::store::{
    Advance, EndWrite, FlowWrites, InboxKind, LinkWrite, MapWrites, PostWrite, QueueId,
    ScheduleWrite, Submit, TaskWrite, TickWrite, WaitWrite,
};
use crate::types::{
    Claim, Error, ExecutionId, ExecutionStatus, InboxId, Labels, Monotonic, NewSignal, Ordinal,
    ScheduleId, ScheduleRecord, Sent, StepRecord, TaskStatus, Timestamp,
};

const CHILD_ENDED: &str = InboxKind::ChildEnded.name();

/// A caller that waits until the change that it requested is durable.
pub(super) struct PendingControl {
    pub(super) reply: Reply<ExecutionStatus>,
    pub(super) action: Control,
    pub(super) give_up: Monotonic,
    /// The error, if the action was refused. An earlier change in the same batch may be the reason for the refusal,
    /// so the caller receives the error after the batch is written.
    pub(super) refusal: Option<Error>,
}

/// An attempt that waits until the step that it recorded is durable.
pub(super) struct PendingStep {
    pub(super) task: Ordinal,
    pub(super) claim: Claim,
    pub(super) record: StepRecord,
    pub(super) reply: Reply<()>,
    /// Whether the attempt still holds its claim. If not, another change in the same batch may have taken the claim
    /// away, and the attempt receives an error after that change is written.
    pub(super) is_held: bool,
}

/// A caller that waits until the signals that it sent are durable.
pub(super) struct PendingSend {
    pub(super) signals: Vec<NewSignal>,
    pub(super) give_up: Monotonic,
    pub(super) reply: Reply<Vec<Sent>>,
}

impl PendingSend {
    /// Returns the message that sends the same signals again.
    pub(super) fn into_message(self) -> Message {
        Message::Send {
            signals: self.signals,
            give_up: self.give_up,
            reply: self.reply,
        }
    }
}

/// The change of one execution in the batch.
#[derive(Default)]
pub(super) struct PendingChange {
    pub(super) changes: Changes,
    /// The labels of a new execution.
    pub(super) labels: Labels,
    /// The revision on which the decisions are based. `None`: the execution is new.
    pub(super) expected: Option<i64>,
    /// Whether task rows are written without a check of their claims. The functions in `direct.rs` write them in this way,
    /// because the check needs a live runner.
    pub(super) is_unfenced: bool,
    /// The messages to decide again if the change is not written.
    pub(super) messages: Vec<Message>,
    /// The callers that requested this change.
    pub(super) controls: Vec<PendingControl>,
    /// The attempts that recorded steps.
    pub(super) steps: Vec<PendingStep>,
    /// Whether the change takes claims back from a dead runner.
    pub(super) is_rescue: bool,
    /// Whether a waiting task or a message of the inbox caused the change. If the change is not written, the waiting
    /// tasks and the inbox are checked again.
    pub(super) is_wake: bool,
    /// The children whose end causes this change. The change is written only if the changes that end them are all written.
    pub(super) requires: Vec<ExecutionId>,
    /// The parent to which the end of this execution is applied in the same batch.
    pub(super) applied_to: Option<ExecutionId>,
    /// The source: the execution whose completed task starts this new execution, if any. The new execution is submitted
    /// only if the change of the source is written.
    pub(super) source: Option<ExecutionId>,
}

impl PendingChange {
    /// Returns the change of a new execution.
    pub(super) fn new(changes: Changes, labels: Labels) -> Self {
        Self {
            changes,
            labels,
            ..Self::default()
        }
    }

    /// Whether the change has no effect, for example because the request was refused.
    pub(super) fn is_empty(&self) -> bool {
        self.expected.is_some()
            && self.changes == Changes::default()
            && self.messages.is_empty()
            && self.controls.is_empty()
            && self.steps.is_empty()
    }
}

/// A call of `submit`, with the executions that it submits.
pub(super) struct Submission {
    pub(super) ids: Vec<ExecutionId>,
    pub(super) give_up: Monotonic,
    pub(super) reply: Reply<Vec<ExecutionId>>,
}

/// The change of one schedule in the batch.
pub(super) struct ScheduleChange {
    pub(super) record: ScheduleRecord,
    /// The revision on which the decision is based.
    pub(super) expected: i64,
    pub(super) ticks: Vec<TickWrite>,
    /// The ended executions for which the trigger was called.
    pub(super) ends: Vec<EndWrite>,
    pub(super) purpose: Purpose,
}

/// The purpose of a schedule's change. It determines what to do once the change is durable.
pub(super) enum Purpose {
    /// Fire or skip ticks.
    Tick,
    /// Take the lease of a trigger, in order to poll the trigger.
    TakeLease,
    /// Extend the lease of a poll that is still running.
    ExtendLease(PollToken),
    /// Record the end of a poll.
    Polled(PollToken, PollOutcome),
    /// Start the schedule's workflow once, for a caller.
    RunNow(ExecutionId, Monotonic, Reply<ExecutionId>),
}

impl ScheduleChange {
    /// Returns the change that makes `record` the next revision of its row.
    pub(super) fn new(mut record: ScheduleRecord, ticks: Vec<TickWrite>, purpose: Purpose) -> Self {
        let expected = record.revision;
        record.revision += 1;
        Self {
            record,
            expected,
            ticks,
            ends: Vec::new(),
            purpose,
        }
    }

    /// Returns the message to decide again if the change is not written; `None` if no message caused the change.
    pub(super) fn into_message(self) -> Option<Message> {
        match self.purpose {
            Purpose::Polled(token, outcome) => Some(Message::Polled { token, outcome }),
            Purpose::RunNow(_, give_up, reply) => Some(Message::RunNow {
                schedule: self.record.id,
                give_up,
                reply,
            }),
            Purpose::Tick | Purpose::TakeLease | Purpose::ExtendLease(_) => None,
        }
    }
}

/// The changes of one step.
#[derive(Default)]
pub(super) struct WriteBatch {
    pub(super) submissions: Vec<Submission>,
    pub(super) executions: IndexMap<ExecutionId, PendingChange, FxBuildHasher>,
    pub(super) schedules: Vec<ScheduleChange>,
    /// Messages of the inbox, each with the execution that it changed. The write of this change also deletes the message.
    pub(super) settled: Vec<(InboxId, ExecutionId)>,
    /// Tasks that were claimed in this step without a query, in the order in which they will be dispatched.
    pub(super) claimed: Vec<(ExecutionId, Ordinal, Claim)>,
    /// The changes of items of maps: ended items and recorded steps.
    pub(super) items: PendingMaps,
}

impl WriteBatch {
    /// Returns the pending change of an execution. If there is none, adds an empty one. This must be called before the
    /// decision modifies `execution`.
    pub(super) fn change(&mut self, execution: &Execution) -> &mut PendingChange {
        let record = execution.record();
        self.executions
            .entry(record.id)
            .or_insert_with(|| PendingChange {
                expected: Some(record.revision),
                ..PendingChange::default()
            })
    }

    /// Removes a change that has no effect, so that a refused request causes no write.
    pub(super) fn drop_if_empty(&mut self, id: ExecutionId) {
        if self
            .executions
            .get(&id)
            .is_some_and(PendingChange::is_empty)
        {
            self.executions.shift_remove(&id);
        }
    }

    /// Whether this step already changes the schedule. A step can change each schedule only once.
    pub(super) fn has_schedule(&self, id: ScheduleId) -> bool {
        self.schedules.iter().any(|change| change.record.id == id)
    }

    /// The executions to insert and the executions to advance, as parameters of the store.
    pub(super) fn rows<'a>(&'a self, ledger: &'a Ledger) -> (Vec<Submit<'a>>, Vec<Advance<'a>>) {
        let (mut submits, mut advances) = (Vec::new(), Vec::new());
        for (id, change) in &self.executions {
            let Some(execution) = ledger.get(*id) else {
                continue;
            };
            let record = execution.record();
            let tasks = task_writes(execution, change);
            let history = change.changes.history.as_slice();
            match change.expected {
                None => submits.push(Submit {
                    record,
                    labels: &change.labels,
                    workflow: execution.workflow().name(),
                    tasks,
                    history,
                }),
                Some(expected) => advances.push(Advance {
                    record,
                    expected,
                    tasks,
                    history,
                    requires: &change.requires,
                    steps: Some(&change.changes.flow.steps).filter(|steps| !steps.is_empty()),
                }),
            }
        }
        (submits, advances)
    }

    /// The changes of waits, maps and links between executions, and the messages to other executions, as parameters of
    /// the store.
    pub(super) fn flow(&self, ledger: &Ledger, now: Timestamp) -> FlowWrites {
        let (mut waits, mut posts, mut links) = (Vec::new(), Vec::new(), Vec::new());
        let (mut sources, mut ends) = (Vec::new(), Vec::new());
        let mut maps = MapWrites {
            ends: ends_of(&self.items),
            ..MapWrites::default()
        };
        for (id, change) in &self.executions {
            sources.extend(change.source.map(|source| (*id, source)));
            if change.changes.ended {
                ends.push(*id);
            }
            let has_flow = |execution: &&Execution| {
                !change.changes.flow.waits.is_empty()
                    || !change.changes.flow.posts.is_empty()
                    || !change.changes.flow.maps.is_empty()
                    || execution.record().parent.is_some()
                    || !execution.workflow().definition().cancel_on.is_empty()
            };
            let Some(execution) = ledger.get(*id).filter(has_flow) else {
                continue;
            };
            waits.extend(
                (change.changes.flow.waits.iter()).map(|ordinal| wait_write(execution, *ordinal)),
            );
            waits.extend(cancel_write(execution, change));
            let messages = messages_of(execution, &change.changes.flow.posts, now);
            posts.extend(messages.into_iter().map(|message| PostWrite {
                source: *id,
                unless: change.applied_to.filter(|_| message.kind == CHILD_ENDED),
                message,
            }));
            links.extend(link_write(execution, change));
            let changes = change.changes.flow.maps.iter().cloned();
            maps.changes.extend(changes.map(|change| (*id, change)));
        }
        FlowWrites {
            waits,
            settled: self.settled.clone(),
            posts,
            links,
            sources,
            maps,
            ends,
        }
    }

    /// The changes of schedules, as parameters of the store.
    pub(super) fn schedule_rows(&self) -> Vec<ScheduleWrite<'_>> {
        let writes = self.schedules.iter().map(|change| ScheduleWrite {
            record: &change.record,
            expected: change.expected,
            ticks: &change.ticks,
            ends: &change.ends,
        });
        writes.collect()
    }
}

fn task_writes(execution: &Execution, change: &PendingChange) -> Vec<TaskWrite> {
    let writes = change.changes.tasks.iter().filter_map(|ordinal| {
        let task = execution.task(*ordinal);
        // A pending task without a row gets a row only if a due time must be stored.
        if task.status == TaskStatus::Pending && !task.stored && task.ready_at.is_none() {
            return None;
        }
        Some(TaskWrite {
            ordinal: *ordinal,
            insert: !task.stored,
            fence: execution
                .stored_claim(*ordinal)
                .filter(|_| !change.is_unfenced),
            queue: queue_of(execution, *ordinal),
            priority: execution.priority(*ordinal),
        })
    });
    writes.collect()
}

/// Returns the queue of a task: `WAITING` if the task waits, otherwise the queue of its function.
fn queue_of(execution: &Execution, ordinal: Ordinal) -> QueueId {
    if execution.task(ordinal).is_waiting() {
        QueueId::WAITING
    } else {
        QueueId::of(execution.workflow(), ordinal)
    }
}

/// Returns the link of a child to its parent, if the link is new or has changed.
fn link_write(execution: &Execution, change: &PendingChange) -> Option<LinkWrite> {
    let is_new = change.expected.is_none();
    let link = execution.record().parent.as_ref()?;
    (is_new || change.changes.flow.link).then(|| LinkWrite {
        child: execution.record().id,
        link: std::sync::Arc::clone(link),
        is_new,
    })
}

fn wait_write(execution: &Execution, ordinal: Ordinal) -> WaitWrite {
    let state = execution.task(ordinal).wait.as_deref();
    WaitWrite {
        execution: execution.record().id,
        task: Some(ordinal),
        // Serialising plain values with text keys cannot fail.
        state: state.and_then(|state| serde_json::to_string(state).ok()),
        queue: queue_of(execution, ordinal),
        rows: execution.wait_rows(ordinal),
    }
}

/// Returns the write that starts or stops listening for `cancel_on` signals. An execution listens for these signals from its
/// submission or retry until its end.
fn cancel_write(execution: &Execution, change: &PendingChange) -> Option<WaitWrite> {
    let record = execution.record();
    if execution.workflow().definition().cancel_on.is_empty() {
        return None;
    }
    let is_open = !record.status.is_terminal();
    let begins = is_open && (change.expected.is_none() || change.changes.revived);
    let ends = !is_open && change.changes.ended && change.expected.is_some();
    if !begins && !ends {
        return None;
    }
    let rows = if begins {
        let (rows, missing) = execution.cancel_rows();
        for problem in missing {
            tracing::warn!(execution_id = %record.id, workflow = execution.workflow().name(), "{}", problem.0);
        }
        rows
    } else {
        Vec::new()
    };
    Some(WaitWrite {
        execution: record.id,
        task: None,
        state: None,
        queue: QueueId::WAITING,
        rows,
    })
}
