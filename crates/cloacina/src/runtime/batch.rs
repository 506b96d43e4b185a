//! The write batch of a step: the changes decided for all its messages, written in one transaction.
//!
//! See docs/explanation/decisions/021-revisions.md

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
    /// The revision that the decisions are based on. `None`: the execution is new.
    pub(super) expected: Option<i64>,
    /// The claims of its tasks that are stored in the database.
    pub(super) fences: Vec<(Ordinal, Claim)>,
    /// The messages to decide again if the change is not written.
    pub(super) messages: Vec<Message>,
    /// The callers that asked for it.
    pub(super) controls: Vec<PendingControl>,
    /// The change takes claims back from a dead runner.
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

    /// Whether there is nothing to write, because the request was refused.
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
    /// The revision that the decision is based on.
    pub(super) expected: i64,
    pub(super) ticks: Vec<TickWrite>,
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
    /// Tasks claimed in this step without a query, in the order in which to dispatch them.
    pub(super) claimed: Vec<(ExecutionId, Ordinal, Claim)>,
}

impl WriteBatch {
    /// The change of an execution, added if there is none yet. Call this before the decision changes `execution`.
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

    /// The changes of schedules, as parameters of the store.
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
        // A pending task has no row, unless it has a due time to keep.
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
