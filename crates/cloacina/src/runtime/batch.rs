//! The write batch of a step: the changes decided for all its messages, written in one transaction.
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

/// A caller that waits until the change it asked for is durable.
pub(super) struct PendingControl {
    pub(super) reply: Reply<ExecutionStatus>,
    pub(super) action: Control,
    pub(super) give_up: Monotonic,
    /// The error of an action that an earlier change of the same batch has made impossible.
    pub(super) refusal: Option<Error>,
}

/// An attempt that waits until its step is durable.
pub(super) struct PendingStep {
    pub(super) task: Ordinal,
    pub(super) claim: Claim,
    pub(super) record: StepRecord,
    pub(super) reply: Reply<()>,
    /// Whether the attempt still holds its claim. If not, a change in the same batch takes the claim away, and the attempt
    /// learns that its claim is lost once that change is written.
    pub(super) is_held: bool,
}

/// A caller that waits until its signals are durable.
pub(super) struct PendingSend {
    pub(super) signals: Vec<NewSignal>,
    pub(super) give_up: Monotonic,
    pub(super) reply: Reply<Vec<Sent>>,
}

impl PendingSend {
    /// The message that sends the same signals again.
    pub(super) fn into_message(self) -> Message {
        Message::Send {
            signals: self.signals,
            give_up: self.give_up,
            reply: self.reply,
        }
    }
}

/// The change of one execution.
#[derive(Default)]
pub(super) struct PendingChange {
    pub(super) changes: Changes,
    /// The labels of a new execution.
    pub(super) labels: Labels,
    /// The revision that the decisions are based on. `None`: the execution is new.
    pub(super) expected: Option<i64>,
    /// Whether the writes of its tasks do not check the claims, because a fence would need a live runner.
    pub(super) is_unfenced: bool,
    /// The messages to decide again if the change is not written.
    pub(super) messages: Vec<Message>,
    /// The callers that asked for this change.
    pub(super) controls: Vec<PendingControl>,
    /// The attempts that recorded steps.
    pub(super) steps: Vec<PendingStep>,
    /// The change takes claims back from a dead runner.
    pub(super) is_rescue: bool,
    /// The change comes from a waiting task or a message of the inbox, which is checked again if the change is not written.
    pub(super) is_wake: bool,
    /// The children whose ends cause this change. It is written only if all these ends are written.
    pub(super) requires: Vec<ExecutionId>,
    /// The parent to which the end of this execution is applied in the same batch.
    pub(super) told: Option<ExecutionId>,
    /// The execution whose task starts this new execution when the task completes. The new execution is submitted only if the
    /// change of its source is written.
    pub(super) source: Option<ExecutionId>,
}

impl PendingChange {
    /// The change of a new execution.
    pub(super) fn new(changes: Changes, labels: Labels) -> Self {
        Self {
            changes,
            labels,
            ..Self::default()
        }
    }

    /// Whether there is nothing to write, because the request was refused.
    pub(super) fn is_empty(&self) -> bool {
        self.expected.is_some()
            && self.changes == Changes::default()
            && self.messages.is_empty()
            && self.controls.is_empty()
            && self.steps.is_empty()
    }
}

/// A call of `submit` and its executions.
pub(super) struct Submission {
    pub(super) ids: Vec<ExecutionId>,
    pub(super) give_up: Monotonic,
    pub(super) reply: Reply<Vec<ExecutionId>>,
}

/// The change of one schedule.
pub(super) struct ScheduleChange {
    pub(super) record: ScheduleRecord,
    /// The revision that the decision is based on.
    pub(super) expected: i64,
    pub(super) ticks: Vec<TickWrite>,
    /// The ends of executions for which a trigger was called.
    pub(super) ends: Vec<EndWrite>,
    pub(super) purpose: Purpose,
}

/// The purpose of a schedule's change, which determines what follows once the change is durable.
pub(super) enum Purpose {
    /// Fire or skip ticks.
    Tick,
    /// Take a trigger's lease, to poll it.
    TakeLease,
    /// Extend the lease of a poll that still runs.
    ExtendLease(PollToken),
    /// Record the end of a poll.
    Polled(PollToken, PollOutcome),
    /// Start the workflow once, for a caller.
    RunNow(ExecutionId, Monotonic, Reply<ExecutionId>),
}

impl ScheduleChange {
    /// The change that makes `record` the next revision of its row.
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

    /// The message that leads to the same change again, for a change that was not written.
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
    /// Messages of the inbox that the changes of executions settle.
    pub(super) settled: Vec<(InboxId, ExecutionId)>,
    /// Tasks claimed in this step without a query, in the order in which to dispatch them.
    pub(super) claimed: Vec<(ExecutionId, Ordinal, Claim)>,
    /// The ends and steps of maps' items.
    pub(super) items: PendingMaps,
}

impl WriteBatch {
    /// The change of an execution, added if there is none yet. Call this before the decision changes `execution`.
    pub(super) fn change(&mut self, execution: &Execution) -> &mut PendingChange {
        let record = execution.record();
        self.executions
            .entry(record.id)
            .or_insert_with(|| PendingChange {
                expected: Some(record.revision),
                ..PendingChange::default()
            })
    }

    /// Removes a change without effect, so that a refused request causes no write.
    pub(super) fn drop_if_empty(&mut self, id: ExecutionId) {
        if self
            .executions
            .get(&id)
            .is_some_and(PendingChange::is_empty)
        {
            self.executions.shift_remove(&id);
        }
    }

    /// Whether a schedule is changed already. A step can change it once only.
    pub(super) fn has_schedule(&self, id: ScheduleId) -> bool {
        self.schedules.iter().any(|change| change.record.id == id)
    }

    /// The executions to insert and those to advance, as parameters of the store.
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

    /// The changes of waits, as parameters of the store.
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
                unless: change.told.filter(|_| message.kind == CHILD_ENDED),
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
        // A pending task has no row, unless it has a due time to keep.
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

/// Returns the queue of a task: `WAITING` while it waits, and otherwise its own queue.
fn queue_of(execution: &Execution, ordinal: Ordinal) -> QueueId {
    if execution.task(ordinal).is_waiting() {
        QueueId::WAITING
    } else {
        QueueId::of(execution.workflow(), ordinal)
    }
}

/// Returns the link of a child to its parent, if it is new or has changed.
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

/// Returns the write that starts or stops listening for the signals that cancel an execution. The execution listens from its
/// submission or retry to its end.
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
