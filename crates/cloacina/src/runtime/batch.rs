//! The write batch of a step: what its decisions change, collected over all messages and written in one transaction.

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use super::assignment::PollToken;
use super::ledger::Ledger;
use super::{Control, Message, Reply};
use crate::engine::trigger::PollOutcome;
use crate::engine::{Changes, Execution};
use crate::store::{Advance, QueueId, ScheduleWrite, Submit, TaskWrite, TickWrite};
use crate::types::{
    Claim, ExecutionId, ExecutionStatus, Monotonic, Ordinal, ScheduleId, ScheduleRecord, TaskStatus,
};

/// A caller that waits until the change it asked for is durable.
pub(super) struct PendingControl {
    pub(super) reply: Reply<ExecutionStatus>,
    pub(super) action: Control,
    pub(super) give_up: Monotonic,
}

/// The change of one execution.
#[derive(Default)]
pub(super) struct PendingChange {
    pub(super) changes: Changes,
    /// The revision that the decisions were made on; `None`: the execution is new.
    pub(super) expected: Option<i64>,
    /// The claims of its tasks as the database has them.
    pub(super) fences: Vec<(Ordinal, Claim)>,
    /// What to decide again should the change not be written.
    pub(super) messages: Vec<Message>,
    /// The callers that asked for it.
    pub(super) controls: Vec<PendingControl>,
    /// Claims of a dead runner were taken back.
    pub(super) is_rescue: bool,
}

impl PendingChange {
    /// The change of a new execution.
    pub(super) fn new(changes: Changes) -> Self {
        Self {
            changes,
            ..Self::default()
        }
    }

    /// Whether there is nothing to write: what was asked for was refused.
    fn is_empty(&self) -> bool {
        self.expected.is_some()
            && self.changes == Changes::default()
            && self.messages.is_empty()
            && self.controls.is_empty()
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
    /// The revision that the decision was made on.
    pub(super) expected: i64,
    pub(super) ticks: Vec<TickWrite>,
    pub(super) purpose: Purpose,
}

/// Why a schedule is changed, and so what follows once that is durable.
pub(super) enum Purpose {
    /// Its ticks fire, or are skipped.
    Tick,
    /// A trigger's lease is taken, to poll it.
    TakeLease,
    /// The lease of a poll that still runs is extended.
    ExtendLease(PollToken),
    /// A poll has ended.
    Polled(PollToken, PollOutcome),
    /// A caller starts its workflow by hand.
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
            purpose,
        }
    }

    /// The message that leads to the same change, should this one not be written.
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

/// See the module.
#[derive(Default)]
pub(super) struct WriteBatch {
    pub(super) submissions: Vec<Submission>,
    pub(super) executions: IndexMap<ExecutionId, PendingChange, FxBuildHasher>,
    pub(super) schedules: Vec<ScheduleChange>,
    /// Tasks claimed in this step without a query, in the order in which to dispatch them.
    pub(super) claimed: Vec<(ExecutionId, Ordinal, Claim)>,
}

impl WriteBatch {
    /// The change of an execution; `execution` as it is before the change to come.
    pub(super) fn change(&mut self, execution: &Execution) -> &mut PendingChange {
        let record = execution.record();
        self.executions
            .entry(record.id)
            .or_insert_with(|| PendingChange {
                expected: Some(record.revision),
                fences: (0..)
                    .zip(&record.tasks)
                    .filter_map(|(ordinal, task)| task.claim().map(|claim| (ordinal, claim)))
                    .collect(),
                ..PendingChange::default()
            })
    }

    /// Takes a change out again if nothing came of it: a refused request leaves no empty write behind.
    pub(super) fn drop_if_empty(&mut self, id: ExecutionId) {
        if self
            .executions
            .get(&id)
            .is_some_and(PendingChange::is_empty)
        {
            self.executions.shift_remove(&id);
        }
    }

    /// Whether a schedule is changed already: it can be changed once in a step.
    pub(super) fn has_schedule(&self, id: ScheduleId) -> bool {
        self.schedules.iter().any(|change| change.record.id == id)
    }

    /// The executions to insert, then those to advance, as the store takes them.
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
                    workflow: execution.workflow().name(),
                    tasks,
                    history,
                }),
                Some(expected) => advances.push(Advance {
                    record,
                    expected,
                    tasks,
                    history,
                }),
            }
        }
        (submits, advances)
    }

    /// The changes of schedules, as the store takes them.
    pub(super) fn schedule_rows(&self) -> Vec<ScheduleWrite<'_>> {
        let writes = self.schedules.iter().map(|change| ScheduleWrite {
            record: &change.record,
            expected: change.expected,
            ticks: &change.ticks,
        });
        writes.collect()
    }
}

fn task_writes(execution: &Execution, change: &PendingChange) -> Vec<TaskWrite> {
    let writes = change.changes.tasks.iter().filter_map(|ordinal| {
        let task = execution.task(*ordinal);
        // A pending task has no row unless something of it must be kept.
        if task.status == TaskStatus::Pending && !task.stored && task.ready_at.is_none() {
            return None;
        }
        Some(TaskWrite {
            ordinal: *ordinal,
            insert: !task.stored,
            fence: change
                .fences
                .iter()
                .find(|(fenced, _)| fenced == ordinal)
                .map(|(_, claim)| *claim),
            queue: QueueId::of(execution.workflow(), *ordinal),
            priority: execution.priority(*ordinal),
        })
    });
    writes.collect()
}
