//! Reads, counts and deletes the ticks of schedules.

use diesel::sql_types::{BigInt, Nullable, SmallInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::Connection;
use super::error::Fault;
use super::session::Session;
use super::statement::query;
use crate::store::schedule::saturating_i64;
use crate::types::{ScheduleId, ScheduleKind, TickOutcome, TickRecord, Timestamp};

query! {
    Ticks { schedule_id: Uuid => SqlUuid, limit: i64 => BigInt, offset: i64 => BigInt }
    -> (BigInt, SmallInt, Nullable<SqlUuid>, BigInt, BigInt, Nullable<Text>);
    "SELECT due_at, outcome, execution_id, created_at, updated_at, detail FROM cloacina_ticks WHERE schedule_id = $1
     ORDER BY due_at DESC LIMIT $2 OFFSET $3"
}

query! {
    TicksBefore { schedule_id: Uuid => SqlUuid, from: i64 => BigInt, limit: i64 => BigInt }
    -> (BigInt, SmallInt, Nullable<SqlUuid>, BigInt, BigInt, Nullable<Text>);
    "SELECT due_at, outcome, execution_id, created_at, updated_at, detail FROM cloacina_ticks
     WHERE schedule_id = $1 AND due_at < $2 ORDER BY due_at DESC LIMIT $3"
}

query! {
    TicksAfter { schedule_id: Uuid => SqlUuid, from: i64 => BigInt, limit: i64 => BigInt }
    -> (BigInt, SmallInt, Nullable<SqlUuid>, BigInt, BigInt, Nullable<Text>);
    "SELECT due_at, outcome, execution_id, created_at, updated_at, detail FROM cloacina_ticks
     WHERE schedule_id = $1 AND due_at > $2 ORDER BY due_at LIMIT $3"
}

query! {
    CountTicks { since: i64 => BigInt, kind: i16 => SmallInt } -> (SmallInt, BigInt);
    "SELECT t.outcome, count(*) FROM cloacina_ticks AS t JOIN cloacina_schedules AS s ON s.id = t.schedule_id
     WHERE t.due_at >= $1 AND s.kind = $2 GROUP BY t.outcome"
}

query! {
    PruneTicks { before: i64 => BigInt, limit: i64 => BigInt } -> BigInt;
    "WITH old AS MATERIALIZED (SELECT schedule_id, due_at FROM cloacina_ticks WHERE due_at < $1 AND outcome <> 4
     ORDER BY due_at LIMIT $2),
     gone AS (DELETE FROM cloacina_ticks AS t USING old WHERE t.schedule_id = old.schedule_id AND t.due_at = old.due_at
     RETURNING t.due_at) SELECT count(*) FROM gone"
}

type TickColumns = (i64, i16, Option<Uuid>, i64, i64, Option<String>);

pub(super) async fn ticks(
    connection: &Connection,
    session: &Session,
    schedule: ScheduleId,
    limit: usize,
    offset: usize,
) -> Result<Vec<TickRecord>, Fault> {
    let statement = Ticks {
        schedule_id: schedule.uuid(),
        limit: saturating_i64(limit),
        offset: saturating_i64(offset),
    };
    records(schedule, session.fetch(connection, statement).await?)
}

/// If `ascending` is set, returns the ticks after `from`, oldest first. Otherwise, returns the
/// ticks before `from`, newest first.
pub(super) async fn ticks_from(
    connection: &Connection,
    session: &Session,
    schedule: ScheduleId,
    from: Timestamp,
    ascending: bool,
    limit: usize,
) -> Result<Vec<TickRecord>, Fault> {
    let (schedule_id, from, limit) = (schedule.uuid(), from.0, saturating_i64(limit));
    let rows = if ascending {
        let statement = TicksAfter {
            schedule_id,
            from,
            limit,
        };
        session.fetch(connection, statement).await?
    } else {
        let statement = TicksBefore {
            schedule_id,
            from,
            limit,
        };
        session.fetch(connection, statement).await?
    };
    records(schedule, rows)
}

fn records(schedule: ScheduleId, rows: Vec<TickColumns>) -> Result<Vec<TickRecord>, Fault> {
    let read = |(due_at, outcome, execution, created_at, updated_at, detail): TickColumns| {
        Ok(TickRecord {
            schedule,
            due_at: Timestamp(due_at),
            outcome: read_outcome(outcome)?,
            execution: execution.map(Into::into),
            created_at: Timestamp(created_at),
            updated_at: Timestamp(updated_at),
            detail,
        })
    };
    rows.into_iter().map(read).collect()
}

fn read_outcome(code: i16) -> Result<TickOutcome, Fault> {
    TickOutcome::from_code(code)
        .ok_or_else(|| Fault::Corrupt(format!("invalid tick outcome {code}")))
}

pub(super) async fn count(
    connection: &Connection,
    session: &Session,
    kind: ScheduleKind,
    since: Timestamp,
) -> Result<Vec<(TickOutcome, u64)>, Fault> {
    let statement = CountTicks {
        since: since.0,
        kind: kind.code(),
    };
    let rows: Vec<(i16, i64)> = session.fetch(connection, statement).await?;
    rows.into_iter()
        .map(|(code, count)| {
            Ok((
                read_outcome(code)?,
                u64::try_from(count).unwrap_or_default(),
            ))
        })
        .collect()
}

/// Deletes ticks that were due before a time, except queued ticks. Deletes at most `limit` ticks, the oldest first.
pub(super) async fn prune(
    connection: &Connection,
    session: &Session,
    before: Timestamp,
    limit: usize,
) -> Result<(), Fault> {
    let statement = PruneTicks {
        before: before.0,
        limit: saturating_i64(limit),
    };
    session.fetch::<_, i64>(connection, statement).await?;
    Ok(())
}
