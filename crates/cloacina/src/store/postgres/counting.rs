//! Counts executions, and reads single payloads.

use diesel::sql_types::{BigInt, Integer, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::Connection;
use super::error::Fault;
use super::session::Session;
use super::statement::query;
use crate::store::Payload;
use crate::types::{ExecutionId, ExecutionStatus, Ordinal};

query! {
    /// Returns the numbers of executions in state 0 (pending), in state 1 (running), in state 1 with a start time, in
    /// state 2 (paused), 4 (failed) and 5 (cancelled), each counted up to `$1`. Then reads the `$2` newest executions,
    /// and returns how many it has read, and how many of these have completed. The condition `state <> 3` is also the
    /// condition of the index of states. It is repeated so that the server can use this index.
    CountStates { limit: i64 => BigInt, newest: i64 => BigInt } -> (BigInt, BigInt, BigInt, BigInt, BigInt, BigInt, BigInt, BigInt);
    "SELECT
     (SELECT count(*) FROM (SELECT 1 FROM cloacina_executions WHERE state = 0 AND state <> 3 LIMIT $1) AS s),
     r.claimed, r.started,
     (SELECT count(*) FROM (SELECT 1 FROM cloacina_executions WHERE state = 2 AND state <> 3 LIMIT $1) AS s),
     (SELECT count(*) FROM (SELECT 1 FROM cloacina_executions WHERE state = 4 AND state <> 3 LIMIT $1) AS s),
     (SELECT count(*) FROM (SELECT 1 FROM cloacina_executions WHERE state = 5 AND state <> 3 LIMIT $1) AS s),
     n.newest, n.completed
     FROM (SELECT count(*) AS claimed, count(x.started_at) AS started FROM (
         SELECT started_at FROM cloacina_executions WHERE state = 1 AND state <> 3 LIMIT $1) AS x) AS r,
     (SELECT count(*) AS newest, count(*) FILTER (WHERE x.state = 3) AS completed FROM (
         SELECT state FROM cloacina_executions ORDER BY id DESC LIMIT $2) AS x) AS n"
}

query! {
    CountBetween { after: Uuid => SqlUuid, before: Uuid => SqlUuid, limit: i64 => BigInt } -> (BigInt, BigInt);
    "SELECT (SELECT count(*) FROM (SELECT 1 FROM cloacina_executions WHERE id > $1 AND id < $2 LIMIT $3) AS s),
     (SELECT count(*) FROM (
         SELECT 1 FROM cloacina_executions WHERE state = 4 AND state <> 3 AND id > $1 AND id < $2 LIMIT $3) AS s)"
}

query! {
    InputStart { limit: i32 => Integer, id: Uuid => SqlUuid } -> (Nullable<Text>, Nullable<BigInt>);
    "SELECT left(input, $1), octet_length(input)::bigint FROM cloacina_inputs WHERE execution_id = $2"
}

query! {
    DeltaStart { limit: i32 => Integer, id: Uuid => SqlUuid, ordinal: i64 => BigInt } -> (Nullable<Text>, Nullable<BigInt>);
    "SELECT left(delta, $1), octet_length(delta)::bigint FROM cloacina_tasks WHERE execution_id = $2 AND ordinal = $3"
}

/// Returns the number of executions in each state, and whether this number is exact.
pub(super) async fn states(
    connection: &Connection,
    session: &Session,
    limit: usize,
) -> Result<Vec<(ExecutionStatus, u64, bool)>, Fault> {
    type Counts = (i64, i64, i64, i64, i64, i64, i64, i64);
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let twice = limit.saturating_mul(2);
    let statement = CountStates {
        limit,
        newest: twice,
    };
    let rows: Vec<Counts> = session.fetch(connection, statement).await?;
    let (pending, claimed, started, paused, failed, cancelled, newest, completed) =
        rows.into_iter().next().unwrap_or_default();
    let counted = |status, count: i64, is_exact: bool| {
        let value = count.clamp(0, limit).unsigned_abs();
        (status, value, is_exact && count < limit)
    };
    let is_exact = claimed < limit;
    Ok(vec![
        counted(
            ExecutionStatus::Pending,
            pending + claimed - started,
            is_exact,
        ),
        counted(ExecutionStatus::Running, started, is_exact),
        counted(ExecutionStatus::Paused, paused, true),
        counted(ExecutionStatus::Completed, completed, newest < twice),
        counted(ExecutionStatus::Failed, failed, true),
        counted(ExecutionStatus::Cancelled, cancelled, true),
    ])
}

/// Returns the number of executions between two ids, and the number of failed ones among them.
pub(super) async fn between(
    connection: &Connection,
    session: &Session,
    after: ExecutionId,
    before: ExecutionId,
    limit: usize,
) -> Result<(u64, u64), Fault> {
    let statement = CountBetween {
        after: after.uuid(),
        before: before.uuid(),
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    };
    let rows: Vec<(i64, i64)> = session.fetch(connection, statement).await?;
    let (all, failed) = rows.first().copied().unwrap_or_default();
    Ok((all.unsigned_abs(), failed.unsigned_abs()))
}

/// Returns the beginning of an execution's input or of a task's writes.
pub(super) async fn payload(
    connection: &Connection,
    session: &Session,
    id: ExecutionId,
    task: Option<Ordinal>,
    limit: usize,
) -> Result<Option<Payload>, Fault> {
    let limit = i32::try_from(limit).unwrap_or(i32::MAX);
    let id = id.uuid();
    let rows: Vec<(Option<String>, Option<i64>)> = if let Some(ordinal) = task {
        let statement = DeltaStart {
            limit,
            id,
            ordinal: ordinal.into(),
        };
        session.fetch(connection, statement).await?
    } else {
        let statement = InputStart { limit, id };
        session.fetch(connection, statement).await?
    };
    let found = rows
        .into_iter()
        .find_map(|(text, size)| Some((text?, size?)));
    Ok(found.map(|(text, size)| Payload {
        text,
        size: size.unsigned_abs(),
    }))
}
