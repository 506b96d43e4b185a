//! Counts executions, and reads single payloads.

use diesel::sql_types::{BigInt, Binary, Nullable, Text};
use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::statement::query;
use crate::store::Payload;
use crate::types::{ExecutionId, ExecutionStatus, Ordinal};

/// Declares one statement for each state, because SQLite uses the partial index only if the state is a literal.
macro_rules! count_state {
    ($($name:ident = $state:literal),*) => {
        $(query! {
            $name { limit: i64 => BigInt } -> BigInt;
            concat!(
                "SELECT count(*) FROM (SELECT 1 FROM cloacina_executions INDEXED BY cloacina_executions_state WHERE state = ",
                $state, " LIMIT ?)"
            )
        })*
    };
}
count_state! { CountPending = 0, CountPaused = 2, CountFailed = 4, CountCancelled = 5 }

query! {
    /// Returns the number of executions in state 1, and the number of those with a start time. The others are claimed
    /// but have not started, and count as pending.
    CountRunning { limit: i64 => BigInt } -> (BigInt, BigInt);
    "SELECT count(*), count(started_at) FROM (SELECT started_at FROM cloacina_executions \
     INDEXED BY cloacina_executions_state WHERE state = 1 LIMIT ?)"
}

query! {
    /// Reads the `limit` newest executions. Returns how many it has read, and how many of these have completed.
    CountCompleted { limit: i64 => BigInt } -> (BigInt, BigInt);
    "SELECT count(*), count(CASE WHEN state = 3 THEN 1 END) FROM (SELECT state FROM cloacina_executions ORDER BY id DESC LIMIT ?)"
}

query! {
    CountIds<'a> { after: &'a [u8] => Binary, before: &'a [u8] => Binary, limit: i64 => BigInt } -> BigInt;
    "SELECT count(*) FROM (SELECT 1 FROM cloacina_executions WHERE id > ? AND id < ? LIMIT ?)"
}

query! {
    CountFailedIds<'a> { after: &'a [u8] => Binary, before: &'a [u8] => Binary, limit: i64 => BigInt } -> BigInt;
    "SELECT count(*) FROM (SELECT 1 FROM cloacina_executions INDEXED BY cloacina_executions_state \
     WHERE state = 4 AND id > ? AND id < ? LIMIT ?)"
}

query! {
    InputStart<'a> { limit: i64 => BigInt, execution_id: &'a [u8] => Binary } -> (Text, BigInt);
    "SELECT substr(input, 1, ?), octet_length(input) FROM cloacina_inputs WHERE execution_id = ?"
}

query! {
    DeltaStart<'a> { limit: i64 => BigInt, execution_id: &'a [u8] => Binary, ordinal: i64 => BigInt }
    -> (Nullable<Text>, Nullable<BigInt>);
    "SELECT substr(delta, 1, ?), octet_length(delta) FROM cloacina_tasks WHERE execution_id = ? AND ordinal = ?"
}

/// Returns the number of executions in each state, and whether this number is exact.
pub(super) fn states(
    connection: &mut SqliteConnection,
    limit: usize,
) -> Result<Vec<(ExecutionStatus, u64, bool)>, Fault> {
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let pending: Vec<i64> = CountPending { limit: most }.load(connection)?;
    let running: Vec<(i64, i64)> = CountRunning { limit: most }.load(connection)?;
    let paused: Vec<i64> = CountPaused { limit: most }.load(connection)?;
    let completed: Vec<(i64, i64)> = CountCompleted {
        limit: most.saturating_mul(2),
    }
    .load(connection)?;
    let failed: Vec<i64> = CountFailed { limit: most }.load(connection)?;
    let cancelled: Vec<i64> = CountCancelled { limit: most }.load(connection)?;
    let (claimed, started) = running.first().copied().unwrap_or_default();
    let (newest, completed) = completed.first().copied().unwrap_or_default();
    let first = |counts: Vec<i64>| counts.first().copied().unwrap_or_default();
    let pending = first(pending) + claimed - started;
    let is_exact = claimed < most;
    Ok(vec![
        counted(ExecutionStatus::Pending, pending, most, is_exact),
        counted(ExecutionStatus::Running, started, most, is_exact),
        counted(ExecutionStatus::Paused, first(paused), most, true),
        counted(
            ExecutionStatus::Completed,
            completed,
            most,
            newest < most.saturating_mul(2),
        ),
        counted(ExecutionStatus::Failed, first(failed), most, true),
        counted(ExecutionStatus::Cancelled, first(cancelled), most, true),
    ])
}

/// Returns the count of a state, limited to `most`, and whether this number is exact. `is_exact` tells whether all
/// executions in this state were counted.
fn counted(
    status: ExecutionStatus,
    count: i64,
    most: i64,
    is_exact: bool,
) -> (ExecutionStatus, u64, bool) {
    (
        status,
        count.clamp(0, most).unsigned_abs(),
        is_exact && count < most,
    )
}

/// Returns the number of executions between two ids, and the number of failed ones among them, each at most `limit`.
pub(super) fn between(
    connection: &mut SqliteConnection,
    after: ExecutionId,
    before: ExecutionId,
    limit: usize,
) -> Result<(u64, u64), Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (after, before) = (after.as_bytes().as_slice(), before.as_bytes().as_slice());
    let all: Vec<i64> = CountIds {
        after,
        before,
        limit,
    }
    .load(connection)?;
    let failed: Vec<i64> = CountFailedIds {
        after,
        before,
        limit,
    }
    .load(connection)?;
    let first = |counts: Vec<i64>| counts.first().copied().unwrap_or_default().unsigned_abs();
    Ok((first(all), first(failed)))
}

/// Returns the beginning of an execution's input or of a task's writes; `None` if nothing is stored.
pub(super) fn payload(
    connection: &mut SqliteConnection,
    id: ExecutionId,
    task: Option<Ordinal>,
    limit: usize,
) -> Result<Option<Payload>, Fault> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let execution_id = id.as_bytes();
    let found = if let Some(ordinal) = task {
        let rows: Vec<(Option<String>, Option<i64>)> = DeltaStart {
            limit,
            execution_id,
            ordinal: ordinal.into(),
        }
        .load(connection)?;
        rows.into_iter()
            .find_map(|(text, size)| Some((text?, size?)))
    } else {
        let rows: Vec<(String, i64)> = InputStart {
            limit,
            execution_id,
        }
        .load(connection)?;
        rows.into_iter().next()
    };
    Ok(found.map(|(text, size)| Payload {
        text,
        size: size.unsigned_abs(),
    }))
}
