//! Reads, counts and deletes the ticks of schedules.

use diesel::sql_types::{BigInt, Binary, Nullable, SmallInt, Text};
use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::row::Id;
use super::statement::{query, statement};
use crate::store::schedule::saturating_i64;
use crate::types::{ScheduleId, ScheduleKind, TickOutcome, TickRecord, Timestamp};

query! {
    Ticks<'a> { schedule_id: &'a [u8] => Binary, limit: i64 => BigInt, offset: i64 => BigInt }
    -> (BigInt, SmallInt, Nullable<Binary>, BigInt, BigInt, Nullable<Text>);
    "SELECT due_at, outcome, execution_id, created_at, updated_at, detail FROM cloacina_ticks WHERE schedule_id = ? \
     ORDER BY due_at DESC LIMIT ? OFFSET ?"
}

query! {
    TicksBefore<'a> { schedule_id: &'a [u8] => Binary, from: i64 => BigInt, limit: i64 => BigInt }
    -> (BigInt, SmallInt, Nullable<Binary>, BigInt, BigInt, Nullable<Text>);
    "SELECT due_at, outcome, execution_id, created_at, updated_at, detail FROM cloacina_ticks \
     WHERE schedule_id = ? AND due_at < ? ORDER BY due_at DESC LIMIT ?"
}

query! {
    TicksAfter<'a> { schedule_id: &'a [u8] => Binary, from: i64 => BigInt, limit: i64 => BigInt }
    -> (BigInt, SmallInt, Nullable<Binary>, BigInt, BigInt, Nullable<Text>);
    "SELECT due_at, outcome, execution_id, created_at, updated_at, detail FROM cloacina_ticks \
     WHERE schedule_id = ? AND due_at > ? ORDER BY due_at LIMIT ?"
}

query! {
    CountTicks { since: i64 => BigInt, kind: i16 => SmallInt } -> (SmallInt, BigInt);
    "SELECT tick.outcome, count(*) FROM cloacina_ticks AS tick INDEXED BY cloacina_ticks_due \
     JOIN cloacina_schedules AS schedule ON schedule.id = tick.schedule_id \
     WHERE tick.due_at >= ? AND schedule.kind = ? GROUP BY tick.outcome"
}

statement! {
    PruneTicks { before: i64 => BigInt, limit: i64 => BigInt }
    "DELETE FROM cloacina_ticks WHERE (schedule_id, due_at) IN (SELECT schedule_id, due_at FROM cloacina_ticks \
     INDEXED BY cloacina_ticks_due WHERE due_at < ? AND outcome <> 4 ORDER BY due_at LIMIT ?)"
}

query! {
    TickBefore { before: i64 => BigInt } -> BigInt;
    "SELECT due_at FROM cloacina_ticks INDEXED BY cloacina_ticks_due WHERE due_at < ? AND outcome <> 4 LIMIT 1"
}

type TickColumns = (i64, i16, Option<Id>, i64, i64, Option<String>);

pub(super) fn ticks(
    connection: &mut SqliteConnection,
    schedule: ScheduleId,
    limit: usize,
    offset: usize,
) -> Result<Vec<TickRecord>, Fault> {
    let statement = Ticks {
        schedule_id: schedule.as_bytes(),
        limit: saturating_i64(limit),
        offset: saturating_i64(offset),
    };
    records(schedule, statement.load(connection)?)
}

/// If `ascending` is set, returns the ticks after `from`, oldest first. Otherwise, returns the
/// ticks before `from`, newest first.
pub(super) fn ticks_from(
    connection: &mut SqliteConnection,
    schedule: ScheduleId,
    from: Timestamp,
    ascending: bool,
    limit: usize,
) -> Result<Vec<TickRecord>, Fault> {
    let (schedule_id, from, limit) = (
        schedule.as_bytes().as_slice(),
        from.0,
        saturating_i64(limit),
    );
    let rows = if ascending {
        let statement = TicksAfter {
            schedule_id,
            from,
            limit,
        };
        statement.load(connection)?
    } else {
        let statement = TicksBefore {
            schedule_id,
            from,
            limit,
        };
        statement.load(connection)?
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

pub(super) fn count(
    connection: &mut SqliteConnection,
    kind: ScheduleKind,
    since: Timestamp,
) -> Result<Vec<(TickOutcome, u64)>, Fault> {
    let statement = CountTicks {
        since: since.0,
        kind: kind.code(),
    };
    let rows: Vec<(i16, i64)> = statement.load(connection)?;
    rows.into_iter()
        .map(|(code, count)| {
            Ok((
                read_outcome(code)?,
                u64::try_from(count).unwrap_or_default(),
            ))
        })
        .collect()
}

/// Returns whether any ticks are old enough to be pruned.
pub(super) fn has_ticks_before(
    connection: &mut SqliteConnection,
    before: Timestamp,
) -> Result<bool, Fault> {
    let dues: Vec<i64> = TickBefore { before: before.0 }.load(connection)?;
    Ok(!dues.is_empty())
}

/// Deletes old ticks, in the open transaction.
pub(super) fn prune(
    connection: &mut SqliteConnection,
    before: Timestamp,
    limit: usize,
) -> Result<(), Fault> {
    PruneTicks {
        before: before.0,
        limit: saturating_i64(limit),
    }
    .execute(connection)?;
    Ok(())
}
