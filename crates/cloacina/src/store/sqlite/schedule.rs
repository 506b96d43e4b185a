//! Rows of schedules and their ticks.

use std::collections::HashSet;

use diesel::sql_types::{BigInt, Binary, Nullable, SmallInt, Text};
use diesel::{Queryable, RunQueryDsl, SqliteConnection};

use super::connection::Writer;
use super::error::Fault;
use super::row::{Id, Tolerated, encode, micros};
use super::statement::{query, statement};
use crate::store::schedule::bounded;
use crate::store::{DueQuery, DueSchedules, PutOutcome, ScheduleQuery, ScheduleWrite};
use crate::types::{
    ExecutionId, ScheduleId, ScheduleKind, ScheduleRecord, ScheduleSpec, ScheduleState,
    TickOutcome, TickRecord, Timestamp,
};

type Columns = (
    Binary,
    SmallInt,
    Text,
    Text,
    SmallInt,
    BigInt,
    Text,
    Text,
    Nullable<BigInt>,
    Nullable<BigInt>,
    Nullable<BigInt>,
    BigInt,
    BigInt,
    Nullable<BigInt>,
);

/// Declares a query that returns whole schedules.
macro_rules! schedules {
    ($(#[$attribute:meta])* $name:ident $(<$lifetime:lifetime>)? { $($field:ident: $rust:ty => $sql:ty),* } $condition:literal) => {
        query! {
            $(#[$attribute])*
            $name $(<$lifetime>)? { $($field: $rust => $sql),* } -> Columns;
            concat!(
                "SELECT id, kind, identity, workflow, enabled, revision, spec, state, next_due, wake_at, last_due, \
                 created_at, updated_at, deleted_at FROM cloacina_schedules ",
                $condition
            )
        }
    };
}

schedules! { ById<'a> { id: &'a [u8] => Binary } "WHERE id = ?" }
schedules! {
    ByIdentity<'a> { kind: i16 => SmallInt, identity: &'a str => Text }
    "WHERE kind = ? AND identity = ? AND deleted_at IS NULL"
}
schedules! {
    Listed { kind: i16 => SmallInt, least: i16 => SmallInt, limit: i64 => BigInt, offset: i64 => BigInt }
    "WHERE kind = ? AND deleted_at IS NULL AND enabled >= ? ORDER BY id LIMIT ? OFFSET ?"
}
schedules! {
    DueCron { now: i64 => BigInt, limit: i64 => BigInt }
    "INDEXED BY cloacina_schedules_wake WHERE kind = 0 AND wake_at <= ? ORDER BY wake_at LIMIT ?"
}
schedules! {
    DueTriggers<'a> { now: i64 => BigInt, names: &'a str => Text, limit: i64 => BigInt }
    "INDEXED BY cloacina_schedules_wake WHERE kind = 1 AND wake_at <= ? \
     AND identity IN (SELECT value FROM json_each(?)) ORDER BY wake_at LIMIT ?"
}
schedules! {
    /// The triggers with a pending end that no runner deals with.
    DueByEnds<'a> { now: i64 => BigInt, now_again: i64 => BigInt, names: &'a str => Text, limit: i64 => BigInt }
    "WHERE kind = 1 AND deleted_at IS NULL AND enabled = 1 AND coalesce(wake_at, 0) <= ? \
     AND EXISTS (SELECT 1 FROM cloacina_ends AS e WHERE e.schedule_id = cloacina_schedules.id AND e.due_at <= ?) \
     AND identity IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?"
}
query! {
    /// The time of the next call for an end whose last call failed.
    NextEnd<'a> { now: i64 => BigInt, names: &'a str => Text } -> BigInt;
    "SELECT e.due_at FROM cloacina_ends AS e JOIN cloacina_schedules AS s ON s.id = e.schedule_id \
     WHERE e.due_at > ? AND s.enabled = 1 AND s.identity IN (SELECT value FROM json_each(?)) ORDER BY e.due_at LIMIT 1"
}
query! {
    NextCron { now: i64 => BigInt } -> BigInt;
    "SELECT wake_at FROM cloacina_schedules INDEXED BY cloacina_schedules_wake \
     WHERE kind = 0 AND wake_at > ? ORDER BY wake_at LIMIT 1"
}
query! {
    NextTrigger<'a> { now: i64 => BigInt, names: &'a str => Text } -> BigInt;
    "SELECT wake_at FROM cloacina_schedules INDEXED BY cloacina_schedules_wake \
     WHERE kind = 1 AND wake_at > ? AND identity IN (SELECT value FROM json_each(?)) ORDER BY wake_at LIMIT 1"
}

statement! {
    Insert<'a> {
        id: &'a [u8] => Binary,
        kind: i16 => SmallInt,
        identity: &'a str => Text,
        workflow: &'a str => Text,
        enabled: i16 => SmallInt,
        revision: i64 => BigInt,
        spec: &'a str => Text,
        state: &'a str => Text,
        next_due: Option<i64> => Nullable<BigInt>,
        wake_at: Option<i64> => Nullable<BigInt>,
        last_due: Option<i64> => Nullable<BigInt>,
        created_at: i64 => BigInt,
        updated_at: i64 => BigInt,
        deleted_at: Option<i64> => Nullable<BigInt>,
    }
    "INSERT INTO cloacina_schedules (id, kind, identity, workflow, enabled, revision, spec, state, next_due, wake_at, \
     last_due, created_at, updated_at, deleted_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
     ON CONFLICT DO NOTHING"
}

statement! {
    Update<'a> {
        identity: &'a str => Text,
        workflow: &'a str => Text,
        enabled: i16 => SmallInt,
        revision: i64 => BigInt,
        spec: &'a str => Text,
        state: &'a str => Text,
        next_due: Option<i64> => Nullable<BigInt>,
        wake_at: Option<i64> => Nullable<BigInt>,
        last_due: Option<i64> => Nullable<BigInt>,
        updated_at: i64 => BigInt,
        deleted_at: Option<i64> => Nullable<BigInt>,
        id: &'a [u8] => Binary,
        expected: i64 => BigInt,
    }
    "UPDATE OR IGNORE cloacina_schedules SET identity = ?, workflow = ?, enabled = ?, revision = ?, spec = ?, state = ?, \
     next_due = ?, wake_at = ?, last_due = ?, updated_at = ?, deleted_at = ? \
     WHERE id = ? AND revision = ? AND deleted_at IS NULL"
}

statement! {
    /// Writes one row if the tick gets this outcome, and none if it keeps an earlier one. A queued tick may get any outcome,
    /// and one that was missed, skipped or overlapped may still fire.
    PutTick<'a> {
        schedule_id: &'a [u8] => Binary,
        due_at: i64 => BigInt,
        outcome: i16 => SmallInt,
        execution_id: Option<&'a [u8]> => Nullable<Binary>,
        created_at: i64 => BigInt,
        updated_at: i64 => BigInt,
        detail: Option<&'a str> => Nullable<Text>,
    }
    "INSERT INTO cloacina_ticks (schedule_id, due_at, outcome, execution_id, created_at, updated_at, detail) \
     VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (schedule_id, due_at) DO UPDATE SET outcome = excluded.outcome, \
     execution_id = excluded.execution_id, updated_at = excluded.updated_at, detail = excluded.detail \
     WHERE cloacina_ticks.outcome = 4 OR (cloacina_ticks.outcome IN (1, 2, 3) AND excluded.outcome = 0)"
}

query! {
    Ticks<'a> { schedule_id: &'a [u8] => Binary, limit: i64 => BigInt, offset: i64 => BigInt }
    -> (BigInt, SmallInt, Nullable<Binary>, BigInt, BigInt, Nullable<Text>);
    "SELECT due_at, outcome, execution_id, created_at, updated_at, detail FROM cloacina_ticks WHERE schedule_id = ? \
     ORDER BY due_at DESC LIMIT ? OFFSET ?"
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

#[derive(Queryable)]
struct ScheduleRow {
    id: Id,
    kind: i16,
    identity: String,
    workflow: String,
    enabled: i16,
    revision: i64,
    spec: Tolerated<ScheduleSpec>,
    state: Tolerated<ScheduleState>,
    next_due: Option<i64>,
    wake_at: Option<i64>,
    last_due: Option<i64>,
    created_at: i64,
    updated_at: i64,
    deleted_at: Option<i64>,
}

impl TryFrom<ScheduleRow> for ScheduleRecord {
    type Error = Fault;

    fn try_from(row: ScheduleRow) -> Result<Self, Fault> {
        let kind = ScheduleKind::from_code(row.kind)
            .ok_or_else(|| Fault::Corrupt(format!("invalid schedule kind {}", row.kind)))?;
        Ok(Self {
            id: ScheduleId::from_bytes(row.id.0),
            kind,
            identity: row.identity,
            workflow: row.workflow,
            enabled: row.enabled != 0,
            revision: row.revision,
            spec: row.spec.0.map_err(unreadable("spec"))?,
            state: row.state.0.map_err(unreadable("state"))?,
            next_due: row.next_due.map(Timestamp),
            wake_at: row.wake_at.map(Timestamp),
            last_due: row.last_due.map(Timestamp),
            created_at: Timestamp(row.created_at),
            updated_at: Timestamp(row.updated_at),
            deleted_at: row.deleted_at.map(Timestamp),
        })
    }
}

fn unreadable(column: &'static str) -> impl Fn(String) -> Fault {
    move |error| Fault::Corrupt(format!("its column {column} cannot be read: {error}"))
}

fn add_due(rows: Vec<ScheduleRow>, found: &mut DueSchedules) {
    for row in rows {
        let id = ScheduleId::from_bytes(row.id.0);
        found.add(id, ScheduleRecord::try_from(row).map_err(Fault::reason));
    }
}

fn records(rows: Vec<ScheduleRow>) -> Result<Vec<ScheduleRecord>, Fault> {
    rows.into_iter().map(TryInto::try_into).collect()
}

pub(super) fn put(
    writer: &Writer,
    record: &ScheduleRecord,
    expected: Option<i64>,
) -> Result<PutOutcome, Fault> {
    writer.write(&mut *writer.lock()?, |connection| {
        let written = match expected {
            None => insert(connection, record)?,
            Some(expected) => update(connection, record, expected)?,
        };
        if written {
            super::ends::follow(connection, record, expected.is_none())?;
            return Ok(PutOutcome::Written);
        }
        let holder = by_identity(connection, record.kind, &record.identity)?;
        Ok(match holder {
            Some(holder) if holder.id != record.id => PutOutcome::Exists(holder.id),
            _ => PutOutcome::Changed,
        })
    })
}

fn insert(connection: &mut SqliteConnection, record: &ScheduleRecord) -> Result<bool, Fault> {
    let (spec, state) = (encode(&record.spec)?, encode(&record.state)?);
    let inserted = Insert {
        id: record.id.as_bytes(),
        kind: record.kind.code(),
        identity: &record.identity,
        workflow: &record.workflow,
        enabled: record.enabled.into(),
        revision: record.revision,
        spec: &spec,
        state: &state,
        next_due: micros(record.next_due),
        wake_at: micros(record.wake_at),
        last_due: micros(record.last_due),
        created_at: record.created_at.0,
        updated_at: record.updated_at.0,
        deleted_at: micros(record.deleted_at),
    }
    .execute(connection)?;
    Ok(inserted == 1)
}

fn update(
    connection: &mut SqliteConnection,
    record: &ScheduleRecord,
    expected: i64,
) -> Result<bool, Fault> {
    let (spec, state) = (encode(&record.spec)?, encode(&record.state)?);
    let changed = Update {
        identity: &record.identity,
        workflow: &record.workflow,
        enabled: record.enabled.into(),
        revision: record.revision,
        spec: &spec,
        state: &state,
        next_due: micros(record.next_due),
        wake_at: micros(record.wake_at),
        last_due: micros(record.last_due),
        updated_at: record.updated_at.0,
        deleted_at: micros(record.deleted_at),
        id: record.id.as_bytes(),
        expected,
    }
    .execute(connection)?;
    Ok(changed == 1)
}

/// Applies a schedule write with its ticks, and adds executions that must not be submitted to `dropped`. Returns
/// `false` if the schedule was changed meanwhile.
pub(super) fn apply(
    connection: &mut SqliteConnection,
    write: &ScheduleWrite,
    now: Timestamp,
    dropped: &mut HashSet<ExecutionId>,
) -> Result<bool, Fault> {
    if !update(connection, write.record, write.expected)? {
        dropped.extend(write.ticks.iter().filter_map(|tick| tick.execution));
        return Ok(false);
    }
    for tick in write.ticks {
        let put = PutTick {
            schedule_id: write.record.id.as_bytes(),
            due_at: tick.due_at.0,
            outcome: tick.outcome.code(),
            execution_id: tick.execution.as_ref().map(|id| id.as_bytes().as_slice()),
            created_at: now.0,
            updated_at: now.0,
            detail: tick.detail.as_deref(),
        };
        if put.execute(connection)? == 0 {
            dropped.extend(tick.execution);
        }
    }
    super::ends::settle(connection, write.record.id, write.ends)?;
    Ok(true)
}

pub(super) fn by_id(
    connection: &mut SqliteConnection,
    id: ScheduleId,
) -> Result<Option<ScheduleRecord>, Fault> {
    let rows: Vec<ScheduleRow> = ById { id: id.as_bytes() }.load(connection)?;
    rows.into_iter().next().map(TryInto::try_into).transpose()
}

pub(super) fn by_identity(
    connection: &mut SqliteConnection,
    kind: ScheduleKind,
    identity: &str,
) -> Result<Option<ScheduleRecord>, Fault> {
    let statement = ByIdentity {
        kind: kind.code(),
        identity,
    };
    let rows: Vec<ScheduleRow> = statement.load(connection)?;
    rows.into_iter().next().map(TryInto::try_into).transpose()
}

pub(super) fn list(
    connection: &mut SqliteConnection,
    query: &ScheduleQuery,
) -> Result<Vec<ScheduleRecord>, Fault> {
    let statement = Listed {
        kind: query.kind.code(),
        least: query.enabled_only.into(),
        limit: bounded(query.limit),
        offset: bounded(query.offset),
    };
    records(statement.load(connection)?)
}

pub(super) fn due(
    connection: &mut SqliteConnection,
    query: &DueQuery,
    now: Timestamp,
) -> Result<DueSchedules, Fault> {
    let (now, limit) = (now.0, bounded(query.limit));
    let mut found = DueSchedules::default();
    let mut next = Vec::new();
    if query.cron {
        add_due(DueCron { now, limit }.load(connection)?, &mut found);
        next.extend(NextCron { now }.load::<i64>(connection)?);
    }
    if !query.triggers.is_empty() {
        let names = &encode(&query.triggers)?;
        let rows = DueTriggers { now, names, limit }.load(connection)?;
        add_due(rows, &mut found);
        next.extend(NextTrigger { now, names }.load::<i64>(connection)?);
        if query.ends {
            let rows = DueByEnds {
                now,
                now_again: now,
                names,
                limit,
            }
            .load(connection)?;
            add_due(rows, &mut found);
            next.extend(NextEnd { now, names }.load::<i64>(connection)?);
        }
    }
    found.next = next.into_iter().min().map(Timestamp);
    Ok(found)
}

pub(super) fn ticks(
    connection: &mut SqliteConnection,
    schedule: ScheduleId,
    limit: usize,
    offset: usize,
) -> Result<Vec<TickRecord>, Fault> {
    type TickColumns = (i64, i16, Option<Id>, i64, i64, Option<String>);
    let statement = Ticks {
        schedule_id: schedule.as_bytes(),
        limit: bounded(limit),
        offset: bounded(offset),
    };
    let rows: Vec<TickColumns> = statement.load(connection)?;
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

/// Returns whether there are ticks to prune.
pub(super) fn has_ticks_before(
    connection: &mut SqliteConnection,
    before: Timestamp,
) -> Result<bool, Fault> {
    let found: Vec<i64> = TickBefore { before: before.0 }.load(connection)?;
    Ok(!found.is_empty())
}

/// Deletes old ticks, within the open transaction.
pub(super) fn prune(
    connection: &mut SqliteConnection,
    before: Timestamp,
    limit: usize,
) -> Result<(), Fault> {
    PruneTicks {
        before: before.0,
        limit: bounded(limit),
    }
    .execute(connection)?;
    Ok(())
}
