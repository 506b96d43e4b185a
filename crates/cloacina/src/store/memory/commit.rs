//! A batch on the tables: all of it, or nothing.

use std::collections::{BTreeMap, HashSet};

use super::claim;
use super::schedule;
use super::table::{Row, Tables};
use crate::store::{
    Advance, Batch, Committed, QueueId, StoreError, Submit, SubmitVerdict, TaskWrite,
};
use crate::types::{
    ExecutionId, ExecutionRecord, Ordinal, ScheduleId, ScheduleRecord, TaskRecord, TaskStatus,
    TickRecord, Timestamp,
};

/// How to take back one step of a batch.
pub(super) enum Undo {
    Submit(ExecutionId),
    /// The record before, without its tasks.
    Advance(Box<ExecutionRecord>, usize),
    Task(
        ExecutionId,
        Ordinal,
        Box<TaskRecord>,
        Option<(QueueId, i16)>,
    ),
    /// As it was before.
    Schedule(Box<ScheduleRecord>),
    Tick((ScheduleId, Timestamp), Option<TickRecord>),
}

pub(super) fn commit(tables: &mut Tables, batch: &Batch) -> Result<Committed, StoreError> {
    let claims = !batch.claim.classes.is_empty();
    if claims || needs_a_live_runner(batch) {
        let alive = tables
            .runners
            .get(&batch.runner)
            .is_some_and(|runner| !runner.dead);
        if !alive {
            return Err(StoreError::RunnerLost);
        }
    }
    let mut undo = Vec::new();
    let mut committed = Committed::default();
    match apply(tables, batch, &mut committed, &mut undo) {
        Ok(()) => {
            claim::claim(
                tables,
                &batch.claim.classes,
                batch.runner,
                batch.now,
                &mut committed,
            );
            Ok(committed)
        }
        Err(error) => {
            for step in undo.into_iter().rev() {
                step.take_back(tables);
            }
            Err(error)
        }
    }
}

/// Whether the batch says something that only the owner of a claim may say.
fn needs_a_live_runner(batch: &Batch) -> bool {
    let claims = |record: &ExecutionRecord, write: &TaskWrite| {
        let task = record.tasks.get(write.ordinal as usize);
        task.is_some_and(|task| {
            task.status == TaskStatus::Running && task.runner == Some(batch.runner)
        })
    };
    let in_submits = batch
        .submits
        .iter()
        .map(|submit| (submit.record, &submit.tasks));
    let in_advances = batch
        .advances
        .iter()
        .map(|advance| (advance.record, &advance.tasks));
    in_submits.chain(in_advances).any(|(record, tasks)| {
        tasks
            .iter()
            .any(|write| write.fence.is_some() || claims(record, write))
    })
}

fn apply(
    tables: &mut Tables,
    batch: &Batch,
    committed: &mut Committed,
    undo: &mut Vec<Undo>,
) -> Result<(), StoreError> {
    let mut dropped = HashSet::new();
    for write in &batch.schedules {
        let applied = schedule::apply(tables, write, batch.now, &mut dropped, undo);
        committed.schedules.push(applied);
    }
    for submit in &batch.submits {
        let id = submit.record.id;
        if dropped.contains(&id) {
            committed.submits.push(SubmitVerdict::Duplicate(id));
            continue;
        }
        committed.submits.push(insert(tables, submit, undo)?);
    }
    for advance in &batch.advances {
        committed.advances.push(update(tables, advance, undo)?);
    }
    Ok(())
}

fn insert(
    tables: &mut Tables,
    submit: &Submit,
    undo: &mut Vec<Undo>,
) -> Result<SubmitVerdict, StoreError> {
    let record = submit.record;
    let key = record
        .key
        .as_ref()
        .map(|key| (submit.workflow.to_owned(), key.clone()));
    if let Some(known) = key.as_ref().and_then(|key| tables.keys.get(key)) {
        return Ok(SubmitVerdict::Duplicate(*known));
    }
    if tables.executions.contains_key(&record.id) {
        return Ok(SubmitVerdict::Duplicate(record.id));
    }
    let Some(definition) = tables.definition(record.definition) else {
        return Err(StoreError::Corrupt(format!(
            "execution {} has no stored definition",
            record.id
        )));
    };
    let tasks = vec![TaskRecord::pending(); definition.task_count];
    let row = Row {
        workflow: submit.workflow.to_owned(),
        record: ExecutionRecord {
            tasks,
            ..header(record)
        },
        queues: BTreeMap::new(),
        history: submit.history.to_vec(),
    };
    undo.push(Undo::Submit(record.id));
    tables.executions.insert(record.id, row);
    if let Some(key) = key {
        tables.keys.insert(key, record.id);
    }
    write_tasks(tables, record, &submit.tasks, undo)?;
    Ok(SubmitVerdict::Accepted)
}

fn update(
    tables: &mut Tables,
    advance: &Advance,
    undo: &mut Vec<Undo>,
) -> Result<bool, StoreError> {
    let record = advance.record;
    let Some(row) = tables
        .executions
        .get_mut(&record.id)
        .filter(|row| row.record.revision == advance.expected)
    else {
        return Ok(false);
    };
    undo.push(Undo::Advance(
        Box::new(header(&row.record)),
        row.history.len(),
    ));
    // The columns that a database's UPDATE names; the others never change.
    let stored = &mut row.record;
    stored.status = record.status;
    stored.revision = record.revision;
    stored.started_at = record.started_at;
    stored.ended_at = record.ended_at;
    stored.deadline = record.deadline;
    stored.paused_at = record.paused_at;
    stored.error.clone_from(&record.error);
    row.history.extend_from_slice(advance.history);
    write_tasks(tables, record, &advance.tasks, undo)?;
    Ok(true)
}

/// The record without its tasks.
fn header(record: &ExecutionRecord) -> ExecutionRecord {
    ExecutionRecord {
        id: record.id,
        definition: record.definition,
        revision: record.revision,
        status: record.status,
        priority: record.priority,
        key: record.key.clone(),
        input: record.input.clone(),
        created_at: record.created_at,
        start_at: record.start_at,
        started_at: record.started_at,
        ended_at: record.ended_at,
        timeout: record.timeout,
        deadline: record.deadline,
        paused_at: record.paused_at,
        error: record.error.clone(),
        tasks: Vec::new(),
    }
}

fn write_tasks(
    tables: &mut Tables,
    record: &ExecutionRecord,
    writes: &[TaskWrite],
    undo: &mut Vec<Undo>,
) -> Result<(), StoreError> {
    for write in writes {
        let ordinal = write.ordinal;
        let stored = tables.executions.get(&record.id);
        let (Some(stored), Some(new)) = (stored, record.tasks.get(ordinal as usize)) else {
            return Err(StoreError::Corrupt(format!(
                "execution {} has no task {ordinal}",
                record.id
            )));
        };
        let Some(old) = stored.record.tasks.get(ordinal as usize) else {
            return Err(StoreError::Corrupt(format!(
                "execution {} has no task {ordinal}",
                record.id
            )));
        };
        let queue = stored.queues.get(&ordinal).copied();
        let may_write = match write.fence {
            _ if write.insert => queue.is_none(),
            Some(fence) => old.claim() == Some(fence),
            None => queue.is_some(),
        };
        if !may_write {
            return Err(StoreError::Corrupt(format!(
                "the row of task {ordinal} of execution {} is not what the batch took it for; nothing of the batch \
                 was written",
                record.id
            )));
        }
        undo.push(Undo::Task(record.id, ordinal, Box::new(old.clone()), queue));
        let task = TaskRecord {
            stored: true,
            ..new.clone()
        };
        tables.set_task(
            record.id,
            ordinal,
            task,
            queue.or(Some((write.queue, write.priority))),
        );
    }
    Ok(())
}

impl Undo {
    fn take_back(self, tables: &mut Tables) {
        match self {
            Self::Submit(id) => tables.remove(id),
            Self::Advance(before, events) => {
                if let Some(row) = tables.executions.get_mut(&before.id) {
                    let tasks = std::mem::take(&mut row.record.tasks);
                    row.record = ExecutionRecord { tasks, ..*before };
                    row.history.truncate(events);
                }
            }
            Self::Schedule(before) => {
                tables.schedules.insert(before.id, *before);
            }
            Self::Tick(key, Some(before)) => {
                tables.ticks.insert(key, before);
            }
            Self::Tick(key, None) => {
                tables.ticks.remove(&key);
            }
            Self::Task(execution, ordinal, task, queue) => {
                tables.set_task(execution, ordinal, *task, queue);
            }
        }
    }
}
