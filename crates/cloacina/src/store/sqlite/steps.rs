//! Reads and writes the recorded steps of tasks.

use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use diesel::{Queryable, RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::row::{Decoded, count};
use super::statement::{query, statement};
use crate::types::{ExecutionId, Json, Ordinal, StepChanges, StepKind, StepRecord, Timestamp};

/// The item number of steps that do not belong to an item of a map.
const NO_ITEM: i64 = -1;

statement! {
    /// Inserts a step. Inserts nothing if the step is already recorded.
    InsertStep<'a> {
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
        item: i64 => BigInt,
        key: &'a str => Text,
        position: i64 => BigInt,
        kind: &'a str => Text,
        attempt: i64 => BigInt,
        started_at: i64 => BigInt,
        ended_at: i64 => BigInt,
        value: &'a str => Text,
    }
    "INSERT INTO cloacina_steps (execution_id, ordinal, item, key, position, kind, attempt, started_at, ended_at, value) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
}

statement! {
    DeleteSteps<'a> { execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt, from: i64 => BigInt, until: i64 => BigInt }
    "DELETE FROM cloacina_steps WHERE execution_id = ? AND ordinal = ? AND position BETWEEN ? AND ?"
}

query! {
    SelectSteps<'a> { execution_id: &'a [u8] => Binary, every: Option<i64> => Nullable<BigInt>, ordinal: Option<i64> => Nullable<BigInt> } -> (
        BigInt, Text, BigInt, Text, BigInt, BigInt, BigInt, Text,
    );
    "SELECT ordinal, key, position, kind, attempt, started_at, ended_at, coalesce(value, 'null') FROM cloacina_steps \
     WHERE execution_id = ? AND item = -1 AND (? IS NULL OR ordinal = ?) ORDER BY ordinal, item, position"
}

#[derive(Queryable)]
struct StepRow {
    ordinal: i64,
    key: String,
    position: i64,
    kind: String,
    attempt: i64,
    started_at: i64,
    ended_at: i64,
    value: Decoded<Json>,
}

/// Applies the changes of an execution's recorded steps.
pub(super) fn write(
    connection: &mut SqliteConnection,
    execution: ExecutionId,
    changes: &StepChanges,
) -> Result<(), Fault> {
    let execution_id = execution.as_bytes();
    for dropped in &changes.dropped {
        DeleteSteps {
            execution_id,
            ordinal: dropped.task.into(),
            from: dropped.from.into(),
            until: dropped.until.into(),
        }
        .execute(connection)?;
    }
    for (task, step) in &changes.recorded {
        InsertStep {
            execution_id,
            ordinal: (*task).into(),
            item: NO_ITEM,
            key: &step.key,
            position: step.position.into(),
            kind: step.kind.name(),
            attempt: step.attempt.into(),
            started_at: step.started_at.0,
            ended_at: step.ended_at.0,
            value: step.value.as_str(),
        }
        .execute(connection)?;
    }
    Ok(())
}

/// Returns the recorded steps of an execution, or of one of its tasks. Leaves out the steps of items of maps.
pub(super) fn load(
    connection: &mut SqliteConnection,
    id: ExecutionId,
    task: Option<Ordinal>,
) -> Result<Vec<(Ordinal, StepRecord)>, Fault> {
    let ordinal = task.map(i64::from);
    let rows: Vec<StepRow> = SelectSteps {
        execution_id: id.as_bytes(),
        every: ordinal,
        ordinal,
    }
    .load(connection)?;
    rows.into_iter()
        .map(|row| {
            let kind = StepKind::from_name(&row.kind).ok_or_else(|| {
                Fault::Corrupt(format!(
                    "step '{}' of execution {id} has the invalid kind '{}'",
                    row.key, row.kind
                ))
            })?;
            let step = StepRecord {
                key: row.key,
                position: count("position", row.position)?,
                kind,
                attempt: count("attempt", row.attempt)?,
                started_at: Timestamp(row.started_at),
                ended_at: Timestamp(row.ended_at),
                value: row.value.0,
            };
            Ok((count("ordinal", row.ordinal)?, step))
        })
        .collect()
}
