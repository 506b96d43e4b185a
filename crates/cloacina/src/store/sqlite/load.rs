//! Reads executions and their history.

use std::sync::Arc;

use diesel::connection::DefaultLoadingMode;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, SmallInt, Text};
use diesel::{Queryable, RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::row::{Decoded, DeltaColumn, Id, count};
use super::statement::query;
use crate::types::{
    Context, DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, Failure, HistoryEvent,
    Json, ParentLink, Skip, TaskRecord, TaskStatus, TaskWait, Timestamp,
};

query! {
    SelectExecution<'a> { id: &'a [u8] => Binary } -> (
        BigInt, BigInt, SmallInt, BigInt, SmallInt, Nullable<Text>, BigInt, Nullable<BigInt>, Nullable<BigInt>,
        Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>, Nullable<Text>, Nullable<Text>, Nullable<Text>,
    );
    "SELECT execution.definition_id, definition.task_count, execution.state, execution.revision, execution.priority, \
     execution.execution_key, execution.created_at, execution.start_at, execution.started_at, execution.ended_at, \
     execution.timeout, execution.deadline, execution.paused_at, execution.error, \
     CASE WHEN execution.links & 2 THEN (SELECT policy FROM cloacina_children WHERE child_id = execution.id) END, \
     CASE WHEN execution.links & 4 THEN (SELECT policy FROM cloacina_children WHERE parent_id = execution.id \
     AND parent_ordinal = -1 ORDER BY generation DESC LIMIT 1) END \
     FROM cloacina_executions AS execution \
     CROSS JOIN cloacina_definitions AS definition ON definition.id = execution.definition_id WHERE execution.id = ?"
}

#[derive(Queryable)]
struct ExecutionRow {
    definition: i64,
    task_count: i64,
    state: i16,
    revision: i64,
    priority: i16,
    key: Option<String>,
    created_at: i64,
    start_at: Option<i64>,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    timeout: Option<i64>,
    deadline: Option<i64>,
    paused_at: Option<i64>,
    error: Option<Decoded<(Option<u32>, Failure)>>,
    parent: Option<Decoded<ParentLink>>,
    finale: Option<Decoded<ParentLink>>,
}

query! {
    SelectInput<'a> { execution_id: &'a [u8] => Binary } -> Text;
    "SELECT input FROM cloacina_inputs WHERE execution_id = ?"
}

query! {
    SelectTasks<'a> { contents: bool => Bool, execution_id: &'a [u8] => Binary } -> (
        BigInt, SmallInt, BigInt, BigInt, BigInt, Nullable<Binary>, Nullable<BigInt>, Nullable<BigInt>,
        Nullable<BigInt>, Nullable<Text>, Nullable<Text>, Nullable<Text>, Nullable<Text>,
    );
    "SELECT ordinal, state, attempt, uncounted, rescues, runner_id, ready_at, started_at, ended_at, \
     CASE WHEN ? THEN delta END, error, skip, wait FROM cloacina_tasks WHERE execution_id = ?"
}

#[derive(Queryable)]
struct TaskRow {
    ordinal: i64,
    state: i16,
    attempt: i64,
    uncounted: i64,
    rescues: i64,
    runner: Option<Id>,
    ready_at: Option<i64>,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    delta: Option<DeltaColumn>,
    error: Option<Decoded<Failure>>,
    skip: Option<Decoded<Skip>>,
    wait: Option<Decoded<TaskWait>>,
}

query! {
    SelectState<'a> { id: &'a [u8] => Binary } -> SmallInt;
    "SELECT CASE WHEN state = 1 AND started_at IS NULL THEN 0 ELSE state END FROM cloacina_executions WHERE id = ?"
}

query! {
    SelectEvents<'a> { execution_id: &'a [u8] => Binary } -> (
        BigInt, Text, Nullable<BigInt>, Nullable<BigInt>, Nullable<Binary>, Nullable<Text>,
    );
    "SELECT time, kind, ordinal, attempt, runner_id, data FROM cloacina_events WHERE execution_id = ? ORDER BY id"
}

#[derive(Queryable)]
struct EventRow {
    time: i64,
    kind: String,
    ordinal: Option<i64>,
    attempt: Option<i64>,
    runner: Option<Id>,
    data: Option<Decoded<Json>>,
}

/// Returns the executions that exist, in the order of `ids`. `contents` tells whether to read inputs and task results.
/// Must be called in a transaction, because it runs several statements.
pub(super) fn executions(
    connection: &mut SqliteConnection,
    ids: &[ExecutionId],
    contents: bool,
) -> Result<Vec<ExecutionRecord>, Fault> {
    let mut records = Vec::with_capacity(ids.len());
    for id in ids {
        records.extend(execution(connection, *id, contents)?);
    }
    Ok(records)
}

fn execution(
    connection: &mut SqliteConnection,
    id: ExecutionId,
    contents: bool,
) -> Result<Option<ExecutionRecord>, Fault> {
    let rows: Vec<ExecutionRow> = SelectExecution { id: id.as_bytes() }.load(connection)?;
    let Some(row) = rows.into_iter().next() else {
        return Ok(None);
    };
    let input: Vec<Decoded<Context>> = if contents {
        SelectInput {
            execution_id: id.as_bytes(),
        }
        .load(connection)?
    } else {
        Vec::new()
    };
    Ok(Some(ExecutionRecord {
        id,
        definition: DefinitionId(row.definition),
        revision: row.revision,
        status: execution_status(row.state)?,
        priority: row.priority,
        key: row.key,
        input: input
            .into_iter()
            .next()
            .map_or_else(Arc::default, |input| Arc::new(input.0)),
        created_at: Timestamp(row.created_at),
        start_at: row.start_at.map(Timestamp),
        started_at: row.started_at.map(Timestamp),
        ended_at: row.ended_at.map(Timestamp),
        timeout: row.timeout,
        deadline: row.deadline.map(Timestamp),
        paused_at: row.paused_at.map(Timestamp),
        error: row.error.map(|error| error.0),
        parent: row.parent.map(|parent| Arc::new(parent.0)),
        finale: row.finale.map(|finale| Arc::new(finale.0)),
        tasks: tasks(
            connection,
            id,
            count("task_count", row.task_count)? as usize,
            contents,
        )?,
    }))
}

fn tasks(
    connection: &mut SqliteConnection,
    id: ExecutionId,
    task_count: usize,
    contents: bool,
) -> Result<Vec<TaskRecord>, Fault> {
    let mut tasks = vec![TaskRecord::pending(); task_count];
    let rows = SelectTasks {
        contents,
        execution_id: id.as_bytes(),
    }
    .load_iter::<TaskRow, DefaultLoadingMode>(connection)?;
    for row in rows {
        let row = row?;
        let ordinal = count("ordinal", row.ordinal)?;
        let Some(task) = tasks.get_mut(ordinal as usize) else {
            return Err(Fault::Corrupt(format!(
                "execution {id} has a row for task {ordinal}, but its workflow has only {task_count} tasks"
            )));
        };
        *task = TaskRecord {
            status: TaskStatus::from_code(row.state).ok_or_else(|| {
                Fault::Corrupt(format!(
                    "task {ordinal} of execution {id} has the invalid state {}",
                    row.state
                ))
            })?,
            attempt: count("attempt", row.attempt)?,
            uncounted: count("uncounted", row.uncounted)?,
            rescues: count("rescues", row.rescues)?,
            runner: row.runner.map(Into::into),
            ready_at: row.ready_at.map(Timestamp),
            started_at: row.started_at.map(Timestamp),
            ended_at: row.ended_at.map(Timestamp),
            delta: row.delta.map(|delta| delta.0),
            error: row.error.map(|error| error.0),
            skip: row.skip.map(|skip| skip.0),
            wait: row.wait.map(|wait| Arc::new(wait.0)),
            stored: true,
        };
    }
    Ok(tasks)
}

pub(super) fn execution_status(code: i16) -> Result<ExecutionStatus, Fault> {
    ExecutionStatus::from_code(code)
        .ok_or_else(|| Fault::Corrupt(format!("an execution has the invalid state {code}")))
}

/// Returns the states of the executions that exist.
pub(super) fn statuses(
    connection: &mut SqliteConnection,
    ids: &[ExecutionId],
) -> Result<Vec<(ExecutionId, ExecutionStatus)>, Fault> {
    let mut statuses = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some(state) = (SelectState { id: id.as_bytes() })
            .load::<i16>(connection)?
            .first()
        {
            statuses.push((*id, execution_status(*state)?));
        }
    }
    Ok(statuses)
}

/// Returns the stored events of an execution, oldest first.
pub(super) fn history(
    connection: &mut SqliteConnection,
    id: ExecutionId,
) -> Result<Vec<HistoryEvent>, Fault> {
    let rows: Vec<EventRow> = SelectEvents {
        execution_id: id.as_bytes(),
    }
    .load(connection)?;
    rows.into_iter()
        .map(|row| {
            Ok(HistoryEvent {
                time: Timestamp(row.time),
                kind: row.kind,
                task: row
                    .ordinal
                    .map(|ordinal| count("ordinal", ordinal))
                    .transpose()?,
                attempt: row
                    .attempt
                    .map(|attempt| count("attempt", attempt))
                    .transpose()?,
                runner: row.runner.map(Into::into),
                data: row.data.map(|data| data.0),
            })
        })
        .collect()
}
