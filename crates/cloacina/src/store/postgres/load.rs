//! Reads executions and their history. One statement reads all executions, and another reads all their tasks.

use std::collections::HashMap;
use std::sync::Arc;

use diesel::Queryable;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::{self, Connection, Step};
use super::error::Fault;
use super::row::{Decoded, DeltaColumn, count};
use super::session::Session;
use super::statement::query;
use crate::types::{
    Context, DefinitionId, ExecutionId, ExecutionRecord, ExecutionStatus, Failure, HistoryEvent,
    Json, ParentLink, Skip, TaskRecord, TaskStatus, TaskWait, Timestamp,
};

// The lateral subqueries look up the rows of each id by key. `OFFSET 0` prevents the planner from reordering them.
query! {
    SelectExecutions { contents: bool => Bool, ids: Vec<Uuid> => Array<SqlUuid> } -> (
        SqlUuid, BigInt, BigInt, SmallInt, BigInt, SmallInt, Nullable<Text>, BigInt, Nullable<BigInt>, Nullable<BigInt>,
        Nullable<BigInt>, Nullable<BigInt>, Array<Nullable<BigInt>>, Nullable<Text>, Nullable<Text>, Nullable<Array<Nullable<Text>>>,
    );
    "SELECT e.id, e.definition_id, d.task_count, e.state, e.revision, e.priority, e.execution_key, e.created_at,
     e.start_at, e.started_at, e.ended_at, e.timeout, ARRAY[e.deadline, e.paused_at], e.error,
     CASE WHEN $1 THEN (SELECT i.input FROM cloacina_inputs AS i WHERE i.execution_id = e.id) END,
     CASE WHEN e.links & 6 <> 0 THEN ARRAY[
         (SELECT c.policy FROM cloacina_children AS c WHERE c.child_id = e.id),
         (SELECT c.policy FROM cloacina_children AS c WHERE c.parent_id = e.id AND c.parent_ordinal = -1
          ORDER BY c.generation DESC LIMIT 1)
     ] END
     FROM unnest($2::uuid[]) AS n (id)
     CROSS JOIN LATERAL (SELECT * FROM cloacina_executions AS x WHERE x.id = n.id OFFSET 0) AS e
     CROSS JOIN LATERAL (SELECT x.task_count FROM cloacina_definitions AS x WHERE x.id = e.definition_id OFFSET 0) AS d"
}

#[derive(Queryable)]
struct ExecutionRow {
    id: Uuid,
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
    /// The deadline and the start of the pause, in one column, because Diesel supports at most 16 columns.
    deadline_and_pause: Vec<Option<i64>>,
    error: Option<Decoded<(Option<u32>, Failure)>>,
    input: Option<Decoded<Context>>,
    /// Two links: to the parent, and to the newest execution that runs this execution's final tasks.
    links: Option<Vec<Option<Decoded<ParentLink>>>>,
}

query! {
    SelectTasks { contents: bool => Bool, ids: Vec<Uuid> => Array<SqlUuid> } -> (
        SqlUuid, BigInt, SmallInt, BigInt, BigInt, BigInt, Nullable<SqlUuid>, Nullable<BigInt>, Nullable<BigInt>,
        Nullable<BigInt>, Nullable<Text>, Nullable<Text>, Nullable<Text>, Nullable<Text>,
    );
    "SELECT t.execution_id, t.ordinal, t.state, t.attempt, t.uncounted, t.rescues, t.runner_id, t.ready_at,
     t.started_at, t.ended_at, CASE WHEN $1 THEN t.delta END, t.error, t.skip, t.wait FROM unnest($2::uuid[]) AS n (id)
     CROSS JOIN LATERAL (SELECT * FROM cloacina_tasks AS x WHERE x.execution_id = n.id OFFSET 0) AS t"
}

#[derive(Queryable)]
struct TaskRow {
    execution: Uuid,
    ordinal: i64,
    state: i16,
    attempt: i64,
    uncounted: i64,
    rescues: i64,
    runner: Option<Uuid>,
    ready_at: Option<i64>,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    delta: Option<DeltaColumn>,
    error: Option<Decoded<Failure>>,
    skip: Option<Decoded<Skip>>,
    wait: Option<Decoded<TaskWait>>,
}

query! {
    SelectStates { ids: Vec<Uuid> => Array<SqlUuid> } -> (SqlUuid, SmallInt);
    "SELECT e.id, CASE WHEN e.state = 1 AND e.started_at IS NULL THEN 0 ELSE e.state END::smallint
     FROM unnest($1::uuid[]) AS n (id)
     CROSS JOIN LATERAL (SELECT x.id, x.state, x.started_at FROM cloacina_executions AS x WHERE x.id = n.id OFFSET 0) AS e"
}

query! {
    SelectEvents { execution_id: Uuid => SqlUuid } -> (
        BigInt, Text, Nullable<BigInt>, Nullable<BigInt>, Nullable<SqlUuid>, Nullable<Text>,
    );
    "SELECT time, kind, ordinal, attempt, runner_id, data FROM cloacina_events WHERE execution_id = $1 ORDER BY id"
}

#[derive(Queryable)]
struct EventRow {
    time: i64,
    kind: String,
    ordinal: Option<i64>,
    attempt: Option<i64>,
    runner: Option<Uuid>,
    data: Option<Decoded<Json>>,
}

/// The answer to one step of the pipeline.
#[derive(Default)]
enum LoadAnswer {
    #[default]
    Nothing,
    Executions(Vec<ExecutionRow>),
    Tasks(Vec<TaskRow>),
}

/// Returns the executions that exist, in the order of `ids`, from one snapshot and in one round trip. `contents` tells
/// whether to read inputs and task results.
pub(super) async fn executions(
    connection: &Connection,
    session: &Session,
    ids: &[ExecutionId],
    contents: bool,
) -> Result<Vec<ExecutionRecord>, Fault> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut unique: Vec<Uuid> = ids.iter().map(ExecutionId::uuid).collect();
    unique.sort_unstable();
    unique.dedup();
    let select_executions = SelectExecutions {
        contents,
        ids: unique.clone(),
    };
    let select_tasks = SelectTasks {
        contents,
        ids: unique,
    };
    let begin = format!(
        "{}; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        session.begin()
    );
    let executions = connection.prepare(&select_executions).await?;
    let tasks = connection.prepare(&select_tasks).await?;
    let steps: Vec<Step<LoadAnswer>> = vec![
        driver::control(connection, &begin),
        Box::pin(async { Ok(LoadAnswer::Executions(executions.load().await?)) }),
        Box::pin(async { Ok(LoadAnswer::Tasks(tasks.load().await?)) }),
        driver::control(connection, "COMMIT"),
    ];
    let (mut rows, mut tasks) = (Vec::new(), Vec::new());
    for answer in driver::pipeline(steps).await? {
        match answer {
            LoadAnswer::Nothing => {}
            LoadAnswer::Executions(found) => rows = found,
            LoadAnswer::Tasks(found) => tasks = found,
        }
    }
    let mut records: HashMap<Uuid, ExecutionRecord> = HashMap::with_capacity(rows.len());
    for row in rows {
        records.insert(row.id, record(row)?);
    }
    for row in tasks {
        if let Some(record) = records.get_mut(&row.execution) {
            put_task(record, row)?;
        }
    }
    Ok(ids
        .iter()
        .filter_map(|id| records.get(&id.uuid()).cloned())
        .collect())
}

fn record(row: ExecutionRow) -> Result<ExecutionRecord, Fault> {
    let mut links = (row.links.into_iter().flatten()).map(|link| link.map(|link| Arc::new(link.0)));
    let (parent, finale) = (links.next().flatten(), links.next().flatten());
    Ok(ExecutionRecord {
        id: row.id.into(),
        definition: DefinitionId(row.definition),
        revision: row.revision,
        status: execution_status(row.state)?,
        priority: row.priority,
        key: row.key,
        input: row
            .input
            .map_or_else(Arc::default, |input| Arc::new(input.0)),
        created_at: Timestamp(row.created_at),
        start_at: row.start_at.map(Timestamp),
        started_at: row.started_at.map(Timestamp),
        ended_at: row.ended_at.map(Timestamp),
        timeout: row.timeout,
        deadline: time_at(&row.deadline_and_pause, 0),
        paused_at: time_at(&row.deadline_and_pause, 1),
        error: row.error.map(|error| error.0),
        parent,
        finale,
        tasks: vec![TaskRecord::pending(); count("task_count", row.task_count)? as usize],
    })
}

fn time_at(times: &[Option<i64>], index: usize) -> Option<Timestamp> {
    times.get(index).copied().flatten().map(Timestamp)
}

fn put_task(record: &mut ExecutionRecord, row: TaskRow) -> Result<(), Fault> {
    let ordinal = count("ordinal", row.ordinal)?;
    let (id, task_count) = (record.id, record.tasks.len());
    let Some(task) = record.tasks.get_mut(ordinal as usize) else {
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
    Ok(())
}

pub(super) fn execution_status(code: i16) -> Result<ExecutionStatus, Fault> {
    ExecutionStatus::from_code(code)
        .ok_or_else(|| Fault::Corrupt(format!("an execution has the invalid state {code}")))
}

/// Returns the states of the executions that exist.
pub(super) async fn statuses(
    connection: &Connection,
    session: &Session,
    ids: &[ExecutionId],
) -> Result<Vec<(ExecutionId, ExecutionStatus)>, Fault> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let statement = SelectStates {
        ids: ids.iter().map(ExecutionId::uuid).collect(),
    };
    let rows: Vec<(Uuid, i16)> = session.fetch(connection, statement).await?;
    rows.into_iter()
        .map(|(id, state)| Ok((id.into(), execution_status(state)?)))
        .collect()
}

/// Returns the stored events of an execution, oldest first.
pub(super) async fn history(
    connection: &Connection,
    session: &Session,
    id: ExecutionId,
) -> Result<Vec<HistoryEvent>, Fault> {
    let rows: Vec<EventRow> = session
        .fetch(
            connection,
            SelectEvents {
                execution_id: id.uuid(),
            },
        )
        .await?;
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
