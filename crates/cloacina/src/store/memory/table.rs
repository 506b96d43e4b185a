//! What the store holds, and the indexes over it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::is_claimed_by;
use crate::store::{QueueId, RunnerRow, StoredDefinition};
use crate::types::{
    DefinitionId, ExecutionId, ExecutionRecord, HistoryEvent, LogChunk, Offer, Ordinal, Progress,
    RunnerId, ScheduleId, ScheduleRecord, TaskRecord, TaskStatus, TickRecord, Timestamp,
};

#[derive(Debug, Default)]
pub(super) struct Tables {
    /// By ascending id.
    pub(super) definitions: Vec<Definition>,
    pub(super) executions: BTreeMap<ExecutionId, Row>,
    pub(super) keys: BTreeMap<(String, String), ExecutionId>,
    pub(super) runners: BTreeMap<RunnerId, Runner>,
    pub(super) offers: BTreeMap<(String, RunnerId), Offer>,
    pub(super) progress: BTreeMap<(ExecutionId, Ordinal), Progress>,
    pub(super) logs: Vec<LogChunk>,
    /// Deleted ones too.
    pub(super) schedules: BTreeMap<ScheduleId, ScheduleRecord>,
    pub(super) ticks: BTreeMap<(ScheduleId, Timestamp), TickRecord>,
    /// Ready tasks without a time, in the order of claims.
    pub(super) due: BTreeSet<(QueueId, Reverse<i16>, ExecutionId, Ordinal)>,
    /// Ready tasks with a time, by it.
    pub(super) waiting: BTreeSet<(QueueId, Timestamp, ExecutionId, Ordinal)>,
}

#[derive(Debug)]
pub(super) struct Definition {
    pub(super) stored: StoredDefinition,
    pub(super) task_count: usize,
}

#[derive(Debug)]
pub(super) struct Row {
    pub(super) workflow: String,
    /// Tasks without a row are pending and not `stored`, as a database would load them.
    pub(super) record: ExecutionRecord,
    /// Queue and priority of the tasks that have a row.
    pub(super) queues: BTreeMap<Ordinal, (QueueId, i16)>,
    pub(super) history: Vec<HistoryEvent>,
}

#[derive(Debug)]
pub(super) struct Runner {
    pub(super) row: RunnerRow,
    pub(super) dead: bool,
}

impl Tables {
    pub(super) fn definition(&self, id: DefinitionId) -> Option<&Definition> {
        self.definitions
            .iter()
            .find(|definition| definition.stored.id == id)
    }

    pub(super) fn claims_of(&self, runner: RunnerId) -> Vec<ExecutionId> {
        let claimed = self
            .executions
            .values()
            .filter(|row| is_claimed_by(&row.record, runner));
        claimed.map(|row| row.record.id).collect()
    }

    /// Puts a task's row in place, with its entries in the indexes.
    pub(super) fn set_task(
        &mut self,
        execution: ExecutionId,
        ordinal: Ordinal,
        task: TaskRecord,
        queue: Option<(QueueId, i16)>,
    ) {
        self.unindex(execution, ordinal);
        let Some(row) = self.executions.get_mut(&execution) else {
            return;
        };
        match queue {
            Some(queue) => row.queues.insert(ordinal, queue),
            None => row.queues.remove(&ordinal),
        };
        if let Some(place) = row.record.tasks.get_mut(ordinal as usize) {
            *place = task;
        }
        self.index(execution, ordinal);
    }

    /// Deletes an execution and all that belongs to it.
    pub(super) fn remove(&mut self, id: ExecutionId) {
        let ordinals: Vec<Ordinal> = self
            .executions
            .get(&id)
            .map(|row| row.queues.keys().copied().collect())
            .unwrap_or_default();
        for ordinal in ordinals {
            self.unindex(id, ordinal);
        }
        self.progress.retain(|(execution, _), _| *execution != id);
        self.logs.retain(|chunk| chunk.execution != id);
        if let Some(row) = self.executions.remove(&id)
            && let Some(key) = row.record.key
        {
            self.keys.remove(&(row.workflow, key));
        }
    }

    fn index(&mut self, execution: ExecutionId, ordinal: Ordinal) {
        let Some((queue, priority, ready_at)) = self.ready(execution, ordinal) else {
            return;
        };
        match ready_at {
            None => self
                .due
                .insert((queue, Reverse(priority), execution, ordinal)),
            Some(at) => self.waiting.insert((queue, at, execution, ordinal)),
        };
    }

    fn unindex(&mut self, execution: ExecutionId, ordinal: Ordinal) {
        let Some((queue, priority, ready_at)) = self.ready(execution, ordinal) else {
            return;
        };
        match ready_at {
            None => self
                .due
                .remove(&(queue, Reverse(priority), execution, ordinal)),
            Some(at) => self.waiting.remove(&(queue, at, execution, ordinal)),
        };
    }

    /// Queue, priority and time of a task, if it is ready.
    fn ready(
        &self,
        execution: ExecutionId,
        ordinal: Ordinal,
    ) -> Option<(QueueId, i16, Option<Timestamp>)> {
        let row = self.executions.get(&execution)?;
        let task = row.record.tasks.get(ordinal as usize)?;
        let (queue, priority) = row.queues.get(&ordinal)?;
        (task.status == TaskStatus::Ready).then_some((*queue, *priority, task.ready_at))
    }
}
