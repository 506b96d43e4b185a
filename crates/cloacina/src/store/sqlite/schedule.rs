//! Reads and writes the rows of schedules, and writes their ticks.

use std::collections::HashSet;

use diesel::sql_types::{BigInt, Binary, Nullable, SmallInt, Text};
use diesel::{Queryable, RunQueryDsl, SqliteConnection};

use super::connection::Writer;
use super::error::Fault;
use super::row::{Id, Tolerated, encode, micros};
use super::statement::{query, statement};
use crate::store::schedule::saturating_i64;
use crate::store::{DueQuery, DueSchedules, PutOutcome, ScheduleQuery, ScheduleWrite};
use crate::types::{
    ExecutionId, ScheduleId, ScheduleKind, ScheduleRecord, ScheduleSpec, ScheduleState, Timestamp,
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
    Listed<'a> {
        kind: i16 => SmallInt, least: i16 => SmallInt, after: &'a [u8] => Binary, limit: i64 => BigInt, offset: i64 => BigInt
    }
    "WHERE kind = ? AND deleted_at IS NULL AND enabled >= ? AND id > ? ORDER BY id LIMIT ? OFFSET ?"
}
schedules! {
    ListedBack<'a> {
        kind: i16 => SmallInt, least: i16 => SmallInt, after: &'a [u8] => Binary, limit: i64 => BigInt, offset: i64 => BigInt
    }
    "WHERE kind = ? AND deleted_at IS NULL AND enabled >= ? AND id < ? ORDER BY id DESC LIMIT ? OFFSET ?"
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
    /// Returns the triggers that must be called now for an ended execution and that no runner is calling at the
    /// moment.
    DueByEnds<'a> { now: i64 => BigInt, now_again: i64 => BigInt, names: &'a str => Text, limit: i64 => BigInt }
    "WHERE kind = 1 AND deleted_at IS NULL AND enabled = 1 AND coalesce(wake_at, 0) <= ? \
     AND EXISTS (SELECT 1 FROM cloacina_ends AS e WHERE e.schedule_id = cloacina_schedules.id AND e.due_at <= ?) \
     AND identity IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?"
}
query! {
    /// Returns the earliest time after `now` at which a trigger is called again for an ended execution, after a
    /// failed call.
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
    /// Changes one row if the tick gets this outcome, and no row if the tick keeps an earlier outcome. A queued tick
    /// can get any outcome, and a missed, skipped or overlapped tick can still fire.
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
    move |error| {
        Fault::Corrupt(format!(
            "the column {column} of the schedule cannot be read: {error}"
        ))
    }
}

fn add_due(rows: Vec<ScheduleRow>, schedules: &mut DueSchedules) {
    for row in rows {
        let id = ScheduleId::from_bytes(row.id.0);
        schedules.add(id, ScheduleRecord::try_from(row).map_err(Fault::reason));
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

/// Applies a schedule write with its ticks. Adds to `dropped` the executions that must not be submitted. Returns
/// `false` if the schedule has changed meanwhile.
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
    let start = query.start();
    let after = start.as_bytes().as_slice();
    let (kind, least) = (query.kind.code(), query.enabled_only.into());
    let (limit, offset) = (saturating_i64(query.limit), saturating_i64(query.offset));
    records(if query.descending {
        let statement = ListedBack {
            kind,
            least,
            after,
            limit,
            offset,
        };
        statement.load(connection)?
    } else {
        let statement = Listed {
            kind,
            least,
            after,
            limit,
            offset,
        };
        statement.load(connection)?
    })
}

pub(super) fn due(
    connection: &mut SqliteConnection,
    query: &DueQuery,
    now: Timestamp,
) -> Result<DueSchedules, Fault> {
    let (now, limit) = (now.0, saturating_i64(query.limit));
    let mut schedules = DueSchedules::default();
    let mut next = Vec::new();
    if query.cron {
        add_due(DueCron { now, limit }.load(connection)?, &mut schedules);
        next.extend(NextCron { now }.load::<i64>(connection)?);
    }
    if !query.triggers.is_empty() {
        let names = &encode(&query.triggers)?;
        let rows = DueTriggers { now, names, limit }.load(connection)?;
        add_due(rows, &mut schedules);
        next.extend(NextTrigger { now, names }.load::<i64>(connection)?);
        if query.ends {
            let rows = DueByEnds {
                now,
                now_again: now,
                names,
                limit,
            }
            .load(connection)?;
            add_due(rows, &mut schedules);
            next.extend(NextEnd { now, names }.load::<i64>(connection)?);
        }
    }
    schedules.next = next.into_iter().min().map(Timestamp);
    Ok(schedules)
}
