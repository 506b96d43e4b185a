//! Writes the rows of executions and their tasks.
//!
//! See docs/explanation/decisions/002-row-layout.md

use diesel::sql_types::{BigInt, Binary, Nullable, SmallInt, Text};
use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::row::{Id, encode, micros};
use super::statement::{query, statement};
use crate::store::{Advance, Submit, SubmitOutcome, TaskWrite};
use crate::types::{
    Claim, ExecutionId, ExecutionRecord, ExecutionStatus, HistoryEvent, Labels, TaskRecord,
    TaskStatus,
};

statement! {
    /// Inserts an execution. Inserts nothing if the id or the key already exists.
    InsertExecution<'a> {
        id: &'a [u8] => Binary,
        definition_id: i64 => BigInt,
        workflow: &'a str => Text,
        state: i16 => SmallInt,
        revision: i64 => BigInt,
        priority: i16 => SmallInt,
        execution_key: Option<&'a str> => Nullable<Text>,
        created_at: i64 => BigInt,
        start_at: Option<i64> => Nullable<BigInt>,
        started_at: Option<i64> => Nullable<BigInt>,
        ended_at: Option<i64> => Nullable<BigInt>,
        timeout: Option<i64> => Nullable<BigInt>,
        deadline: Option<i64> => Nullable<BigInt>,
        paused_at: Option<i64> => Nullable<BigInt>,
        error: Option<&'a str> => Nullable<Text>,
    }
    "INSERT INTO cloacina_executions (id, definition_id, workflow, state, revision, priority, execution_key, \
     created_at, start_at, started_at, ended_at, timeout, deadline, paused_at, error) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
}

statement! {
    InsertInput<'a> { execution_id: &'a [u8] => Binary, input: &'a str => Text }
    "INSERT INTO cloacina_inputs (execution_id, input) VALUES (?, ?)"
}

statement! {
    InsertLabel<'a> { name: &'a str => Text, value: &'a str => Text, execution_id: &'a [u8] => Binary }
    "INSERT INTO cloacina_labels (name, value, execution_id) VALUES (?, ?, ?)"
}

query! {
    ExecutionOfKey<'a> { workflow: &'a str => Text, execution_key: &'a str => Text } -> Binary;
    "SELECT id FROM cloacina_executions WHERE workflow = ? AND execution_key = ?"
}

statement! {
    AdvanceExecution<'a> {
        state: i16 => SmallInt,
        revision: i64 => BigInt,
        earlier_start: Option<i64> => Nullable<BigInt>,
        started_at: Option<i64> => Nullable<BigInt>,
        ended_at: Option<i64> => Nullable<BigInt>,
        deadline: Option<i64> => Nullable<BigInt>,
        paused_at: Option<i64> => Nullable<BigInt>,
        error: Option<&'a str> => Nullable<Text>,
        id: &'a [u8] => Binary,
        expected: i64 => BigInt,
    }
    "UPDATE cloacina_executions SET state = ?, revision = ?, \
     started_at = coalesce(min(started_at, ?), ?, started_at), ended_at = ?, deadline = ?, \
     paused_at = ?, error = ? WHERE id = ? AND revision = ?"
}

statement! {
    /// Advances an execution that keeps running with the same deadline. This writes one page less than `AdvanceExecution`, because no
    /// index has the columns that change.
    AdvanceRunning<'a> {
        revision: i64 => BigInt,
        earlier_start: Option<i64> => Nullable<BigInt>,
        started_at: Option<i64> => Nullable<BigInt>,
        id: &'a [u8] => Binary,
        expected: i64 => BigInt,
        deadline: Option<i64> => Nullable<BigInt>,
    }
    "UPDATE cloacina_executions SET revision = ?, started_at = coalesce(min(started_at, ?), ?, started_at) \
     WHERE id = ? AND revision = ? AND state = 1 AND deadline IS ?"
}

statement! {
    InsertTask<'a> {
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        state: i16 => SmallInt,
        attempt: i64 => BigInt,
        uncounted: i64 => BigInt,
        rescues: i64 => BigInt,
        runner_id: Option<&'a [u8]> => Nullable<Binary>,
        ready_at: Option<i64> => Nullable<BigInt>,
        queue: i64 => BigInt,
        priority: i16 => SmallInt,
        started_at: Option<i64> => Nullable<BigInt>,
        ended_at: Option<i64> => Nullable<BigInt>,
        delta: Option<&'a str> => Nullable<Text>,
        error: Option<&'a str> => Nullable<Text>,
        skip: Option<&'a str> => Nullable<Text>,
    }
    "INSERT INTO cloacina_tasks (execution_id, ordinal, state, attempt, uncounted, rescues, runner_id, ready_at, \
     queue, priority, started_at, ended_at, delta, error, skip) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
}

statement! {
    /// A task that is not delayed and has not started. It may be claimed.
    InsertNewTask<'a> {
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        state: i16 => SmallInt,
        attempt: i64 => BigInt,
        runner_id: Option<&'a [u8]> => Nullable<Binary>,
        queue: i64 => BigInt,
        priority: i16 => SmallInt,
    }
    "INSERT INTO cloacina_tasks (execution_id, ordinal, state, attempt, uncounted, rescues, runner_id, queue, priority) \
     VALUES (?, ?, ?, ?, 0, 0, ?, ?, ?)"
}

statement! {
    /// The end of a first attempt without an error. The claim has left the other columns as they must be now.
    CompleteFirstAttempt<'a> {
        state: i16 => SmallInt,
        started_at: Option<i64> => Nullable<BigInt>,
        ended_at: Option<i64> => Nullable<BigInt>,
        delta: Option<&'a str> => Nullable<Text>,
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        fence_runner: &'a [u8] => Binary,
    }
    "UPDATE cloacina_tasks SET state = ?, started_at = ?, ended_at = ?, delta = ? \
     WHERE execution_id = ? AND ordinal = ? AND state = 2 AND runner_id = ? AND attempt = 1"
}

/// Declares an update of a task that keeps the task's queue and priority. The start of an attempt can be stored after
/// the runner has read the execution, so the update that ends the attempt keeps the stored start.
macro_rules! update_task {
    ($(#[$attribute:meta])* $name:ident { $($fence:ident: $rust:ty => $sql:ty),* } $condition:literal) => {
        statement! {
            $(#[$attribute])*
            $name<'a> {
                state: i16 => SmallInt,
                attempt: i64 => BigInt,
                uncounted: i64 => BigInt,
                rescues: i64 => BigInt,
                runner_id: Option<&'a [u8]> => Nullable<Binary>,
                ready_at: Option<i64> => Nullable<BigInt>,
                started_at: Option<i64> => Nullable<BigInt>,
                ended_attempt: Option<i64> => Nullable<BigInt>,
                ended_at: Option<i64> => Nullable<BigInt>,
                delta: Option<&'a str> => Nullable<Text>,
                error: Option<&'a str> => Nullable<Text>,
                skip: Option<&'a str> => Nullable<Text>,
                execution_id: &'a [u8] => Binary,
                ordinal: i64 => BigInt,
                $($fence: $rust => $sql),*
            }
            concat!(
                "UPDATE cloacina_tasks SET state = ?, attempt = ?, uncounted = ?, rescues = ?, runner_id = ?, \
                 ready_at = ?, started_at = coalesce(?, CASE attempt WHEN ? THEN started_at END), \
                 ended_at = ?, delta = ?, error = ?, skip = ? WHERE execution_id = ? AND ordinal = ?",
                $condition
            )
        }
    };
}

update_task! { UpdateTask {} "" }
update_task! {
    /// Updates no row unless the task still has the given claim.
    UpdateClaimedTask { fence_runner: &'a [u8] => Binary, fence_attempt: i64 => BigInt }
    " AND state = 2 AND runner_id = ? AND attempt = ?"
}

statement! {
    InsertEvent<'a> {
        execution_id: &'a [u8] => Binary,
        time: i64 => BigInt,
        kind: &'a str => Text,
        ordinal: Option<i64> => Nullable<BigInt>,
        attempt: Option<i64> => Nullable<BigInt>,
        runner_id: Option<&'a [u8]> => Nullable<Binary>,
        data: Option<&'a str> => Nullable<Text>,
    }
    "INSERT INTO cloacina_events (execution_id, time, kind, ordinal, attempt, runner_id, data) \
     VALUES (?, ?, ?, ?, ?, ?, ?)"
}

/// Stores a new execution.
pub(super) fn submit(
    connection: &mut SqliteConnection,
    submit: &Submit,
) -> Result<SubmitOutcome, Fault> {
    let record = submit.record;
    let id = record.id.as_bytes();
    let error = record.error.as_ref().map(encode).transpose()?;
    let inserted = InsertExecution {
        id,
        definition_id: record.definition.0,
        workflow: submit.workflow,
        state: record.status.code(),
        revision: record.revision,
        priority: record.priority,
        execution_key: record.key.as_deref(),
        created_at: record.created_at.0,
        start_at: micros(record.start_at),
        started_at: micros(record.started_at),
        ended_at: micros(record.ended_at),
        timeout: record.timeout,
        deadline: micros(record.deadline),
        paused_at: micros(record.paused_at),
        error: error.as_deref(),
    }
    .execute(connection)?;
    if inserted == 0 {
        return duplicate_of(connection, submit).map(SubmitOutcome::Duplicate);
    }
    if !record.input.is_empty() {
        InsertInput {
            execution_id: id,
            input: &record.input.to_json(),
        }
        .execute(connection)?;
    }
    write_labels(connection, record.id, submit.labels)?;
    write_tasks(connection, record, &submit.tasks)?;
    write_history(connection, record.id, submit.history)?;
    Ok(SubmitOutcome::Accepted)
}

/// Returns the stored execution that conflicts with a submission. It has the same key, or it is the submitted execution
/// itself: the caller did not learn the outcome of the first commit, and submitted the execution again.
fn duplicate_of(connection: &mut SqliteConnection, submit: &Submit) -> Result<ExecutionId, Fault> {
    let Some(key) = submit.record.key.as_deref() else {
        return Ok(submit.record.id);
    };
    let holders: Vec<Id> = ExecutionOfKey {
        workflow: submit.workflow,
        execution_key: key,
    }
    .load(connection)?;
    Ok(holders
        .first()
        .map_or(submit.record.id, |id| ExecutionId::from(*id)))
}

/// Writes the changes of a decision. Returns `false`, and writes nothing, if the execution has changed since the runner
/// read it.
pub(super) fn advance(connection: &mut SqliteConnection, advance: &Advance) -> Result<bool, Fault> {
    let record = advance.record;
    if !(advance_running(connection, advance)? || advance_execution(connection, advance)?) {
        return Ok(false);
    }
    write_tasks(connection, record, &advance.tasks)?;
    write_history(connection, record.id, advance.history)?;
    if let Some(changes) = advance.steps {
        super::steps::write(connection, record.id, changes)?;
    }
    Ok(true)
}

/// Writes the row of an execution that keeps running. Returns `false` if the stored row differs in more than the revision and the
/// start, or if the execution has changed since the runner read it.
fn advance_running(connection: &mut SqliteConnection, advance: &Advance) -> Result<bool, Fault> {
    let record = advance.record;
    let keeps_running = record.status == ExecutionStatus::Running
        && record.ended_at.is_none()
        && record.paused_at.is_none()
        && record.error.is_none();
    if !keeps_running {
        return Ok(false);
    }
    let changed = AdvanceRunning {
        revision: record.revision,
        earlier_start: micros(record.started_at),
        started_at: micros(record.started_at),
        id: record.id.as_bytes(),
        expected: advance.expected,
        deadline: micros(record.deadline),
    }
    .execute(connection)?;
    Ok(changed == 1)
}

/// Writes the row of an execution. Returns `false` if the execution has changed since the runner read it.
fn advance_execution(connection: &mut SqliteConnection, advance: &Advance) -> Result<bool, Fault> {
    let record = advance.record;
    let error = record.error.as_ref().map(encode).transpose()?;
    let changed = AdvanceExecution {
        state: record.status.code(),
        revision: record.revision,
        earlier_start: micros(record.started_at),
        started_at: micros(record.started_at),
        ended_at: micros(record.ended_at),
        deadline: micros(record.deadline),
        paused_at: micros(record.paused_at),
        error: error.as_deref(),
        id: record.id.as_bytes(),
        expected: advance.expected,
    }
    .execute(connection)?;
    Ok(changed == 1)
}

fn write_labels(
    connection: &mut SqliteConnection,
    id: ExecutionId,
    labels: &Labels,
) -> Result<(), Fault> {
    for (name, value) in labels.iter() {
        InsertLabel {
            name,
            value,
            execution_id: id.as_bytes(),
        }
        .execute(connection)?;
    }
    Ok(())
}

fn write_tasks(
    connection: &mut SqliteConnection,
    record: &ExecutionRecord,
    writes: &[TaskWrite],
) -> Result<(), Fault> {
    for write in writes {
        let Some(task) = record.tasks.get(write.ordinal as usize) else {
            return Err(Fault::Corrupt(format!(
                "execution {} has no task {}",
                record.id, write.ordinal
            )));
        };
        write_task(connection, record.id, task, write)?;
    }
    Ok(())
}

fn write_task(
    connection: &mut SqliteConnection,
    execution: ExecutionId,
    task: &TaskRecord,
    write: &TaskWrite,
) -> Result<(), Fault> {
    // Most tasks need only these two writes, which bind half as many values as the general ones.
    if write.insert && is_new(task) {
        InsertNewTask {
            execution_id: execution.as_bytes(),
            ordinal: write.ordinal.into(),
            state: task.status.code(),
            attempt: task.attempt.into(),
            runner_id: task
                .runner
                .as_ref()
                .map(|runner| runner.as_bytes().as_slice()),
            queue: write.queue.0,
            priority: write.priority,
        }
        .execute(connection)?;
        return Ok(());
    }
    let delta = task.delta.as_ref().map(|delta| delta.to_json());
    if let Some(fence) = &write.fence
        && completes_first_attempt(task, fence)
    {
        let changed = CompleteFirstAttempt {
            state: task.status.code(),
            started_at: micros(task.started_at),
            ended_at: micros(task.ended_at),
            delta: delta.as_deref(),
            execution_id: execution.as_bytes(),
            ordinal: write.ordinal.into(),
            fence_runner: fence.runner.as_bytes(),
        }
        .execute(connection)?;
        return expect_one(changed, execution, write);
    }
    let error = task.error.as_ref().map(encode).transpose()?;
    let skip = task.skip.as_ref().map(encode).transpose()?;
    // The columns that the three statements have in common.
    macro_rules! row {
        ($statement:ident { $($field:ident: $value:expr),* }) => {
            $statement {
                execution_id: execution.as_bytes(),
                ordinal: write.ordinal.into(),
                state: task.status.code(),
                attempt: task.attempt.into(),
                uncounted: task.uncounted.into(),
                rescues: task.rescues.into(),
                runner_id: task.runner.as_ref().map(|runner| runner.as_bytes().as_slice()),
                ready_at: micros(task.ready_at),
                started_at: micros(task.started_at),
                ended_at: micros(task.ended_at),
                delta: delta.as_deref(),
                error: error.as_deref(),
                skip: skip.as_deref(),
                $($field: $value),*
            }
        };
    }
    if write.insert {
        row!(InsertTask {
            queue: write.queue.0,
            priority: write.priority
        })
        .execute(connection)?;
        return Ok(());
    }
    let ended = task.status.is_terminal().then_some(task.attempt.into());
    let changed = match &write.fence {
        Some(fence) => row!(UpdateClaimedTask {
            ended_attempt: ended,
            fence_runner: fence.runner.as_bytes(),
            fence_attempt: fence.attempt.into()
        })
        .execute(connection)?,
        None => row!(UpdateTask {
            ended_attempt: ended
        })
        .execute(connection)?,
    };
    expect_one(changed, execution, write)
}

/// Whether a task to insert is not delayed and has not started. It may be claimed.
const fn is_new(task: &TaskRecord) -> bool {
    task.uncounted == 0
        && task.rescues == 0
        && task.ready_at.is_none()
        && task.started_at.is_none()
        && task.ended_at.is_none()
        && task.delta.is_none()
        && task.error.is_none()
        && task.skip.is_none()
}

/// Whether a task has completed in its first attempt, for which `fence` claimed it.
fn completes_first_attempt(task: &TaskRecord, fence: &Claim) -> bool {
    task.status == TaskStatus::Completed
        && (task.attempt, fence.attempt) == (1, 1)
        && (task.uncounted, task.rescues) == (0, 0)
        && task.runner == Some(fence.runner)
        && task.started_at.is_some()
        && task.ready_at.is_none()
        && task.error.is_none()
        && task.skip.is_none()
}

/// Checks that the update of a task has changed its row.
fn expect_one(changed: usize, execution: ExecutionId, write: &TaskWrite) -> Result<(), Fault> {
    if changed == 1 {
        return Ok(());
    }
    let ordinal = write.ordinal;
    Err(Fault::Corrupt(match write.fence {
        Some(fence) => format!(
            "task {ordinal} of execution {execution} is not claimed by runner {} for attempt {}, although the \
             execution's revision matches; no part of the batch was written",
            fence.runner, fence.attempt
        ),
        None => format!(
            "task {ordinal} of execution {execution} has no row to update; no part of the batch was written"
        ),
    }))
}

fn write_history(
    connection: &mut SqliteConnection,
    execution: ExecutionId,
    history: &[HistoryEvent],
) -> Result<(), Fault> {
    for event in history {
        InsertEvent {
            execution_id: execution.as_bytes(),
            time: event.time.0,
            kind: &event.kind,
            ordinal: event.task.map(i64::from),
            attempt: event.attempt.map(i64::from),
            runner_id: event
                .runner
                .as_ref()
                .map(|runner| runner.as_bytes().as_slice()),
            data: event.data.as_ref().map(crate::types::Json::as_str),
        }
        .execute(connection)?;
    }
    Ok(())
}
