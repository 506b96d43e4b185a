//! What one step of the coordinator is about to write: collected over all its messages, written in one transaction.

use indexmap::IndexMap;
use rustc_hash::FxBuildHasher;

use super::cache::Cache;
use super::scheduling::Scheduled;
use super::{Control, Message, Reply};
use crate::engine::{Changes, Execution};
use crate::store::{Advance, QueueId, ScheduleWrite, Submit, TaskWrite};
use crate::types::{
    Claim, ExecutionId, ExecutionStatus, Ordinal, ScheduleId, TaskStatus, Timestamp,
};

/// One execution's part of the draft.
#[derive(Default)]
pub(super) struct Touched {
    pub(super) changes: Changes,
    /// New in this step, or the revision that the decisions were made on.
    pub(super) expected: Option<i64>,
    /// Claims of the tasks as the database has them.
    pub(super) fences: Vec<(Ordinal, Claim)>,
    /// What to do again should the execution have changed meanwhile.
    pub(super) messages: Vec<Message>,
    /// Callers that asked for a change and wait for its durability, with what they asked and how long they wait.
    pub(super) replies: Vec<(Reply<ExecutionStatus>, Control, Timestamp)>,
    /// Claims of a dead runner were taken back.
    pub(super) rescued: bool,
}

/// A call of `submit` and its executions.
pub(super) struct Submission {
    pub(super) ids: Vec<ExecutionId>,
    pub(super) give_up: Timestamp,
    pub(super) reply: Reply<Vec<ExecutionId>>,
}

#[derive(Default)]
pub(super) struct Draft {
    pub(super) submissions: Vec<Submission>,
    pub(super) touched: IndexMap<ExecutionId, Touched, FxBuildHasher>,
    pub(super) schedules: Vec<Scheduled>,
    /// Tasks claimed in this step without a claim query, in the order to hand them out.
    pub(super) claimed: Vec<(ExecutionId, Ordinal, Claim)>,
}

impl Draft {
    /// The execution's part; `execution` as it is before the change to come.
    pub(super) fn touch(&mut self, execution: &Execution) -> &mut Touched {
        let record = execution.record();
        self.touched.entry(record.id).or_insert_with(|| Touched {
            expected: Some(record.revision),
            fences: (0..)
                .zip(&record.tasks)
                .filter_map(|(ordinal, task)| task.claim().map(|claim| (ordinal, claim)))
                .collect(),
            ..Touched::default()
        })
    }

    /// The executions to insert, then those to advance, as the store takes them.
    pub(super) fn rows<'a>(&'a self, cache: &'a Cache) -> (Vec<Submit<'a>>, Vec<Advance<'a>>) {
        let (mut submits, mut advances) = (Vec::new(), Vec::new());
        for (id, touched) in &self.touched {
            let Some(cached) = cache.get(*id) else {
                continue;
            };
            let record = cached.execution.record();
            let tasks = task_writes(&cached.execution, touched);
            let history = touched.changes.history.as_slice();
            match touched.expected {
                None => submits.push(Submit {
                    record,
                    workflow: cached.execution.workflow().name(),
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

    /// Whether a schedule is changed already: it can be changed once in a step.
    pub(super) fn has_schedule(&self, id: ScheduleId) -> bool {
        self.schedules.iter().any(|change| change.record.id == id)
    }

    /// The changes of schedules, as the store takes them.
    pub(super) fn schedule_rows<'a>(&'a self) -> Vec<ScheduleWrite<'a>> {
        let write = |change: &'a Scheduled| {
            let Scheduled {
                record,
                expected,
                ticks,
                ..
            } = change;
            ScheduleWrite {
                record,
                expected: *expected,
                ticks,
            }
        };
        self.schedules.iter().map(write).collect()
    }
}

fn task_writes(execution: &Execution, touched: &Touched) -> Vec<TaskWrite> {
    let writes = touched.changes.tasks.iter().filter_map(|ordinal| {
        let task = execution.task(*ordinal);
        // A waiting task has no row unless something of it must be kept.
        if task.status == TaskStatus::Pending && !task.stored && task.ready_at.is_none() {
            return None;
        }
        let kind = execution.workflow().task(*ordinal).kind;
        Some(TaskWrite {
            ordinal: *ordinal,
            insert: !task.stored,
            fence: touched
                .fences
                .iter()
                .find(|(fenced, _)| fenced == ordinal)
                .map(|(_, claim)| *claim),
            queue: QueueId::new(execution.record().definition, kind),
            priority: execution.priority(*ordinal),
        })
    });
    writes.collect()
}
