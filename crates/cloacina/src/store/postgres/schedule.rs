//! Reads and writes the rows of schedules, and writes their ticks.

use std::collections::HashSet;

use diesel::Queryable;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Uuid as SqlUuid};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::driver::{Connection, Statement};
use super::error::Fault;
use super::row::{Tolerated, encode, micros};
use super::session::Session;
use super::statement::query;
use crate::store::schedule::{followed, saturating_i64};
use crate::store::{Batch, DueQuery, DueSchedules, PutOutcome, ScheduleQuery};
use crate::types::{
    ExecutionId, ScheduleId, ScheduleKind, ScheduleRecord, ScheduleSpec, ScheduleState, Timestamp,
};

type Columns = (
    SqlUuid,
    SmallInt,
    Text,
    Text,
    Bool,
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
    ($(#[$attribute:meta])* $name:ident { $($field:ident: $rust:ty => $sql:ty),* } $condition:literal) => {
        query! {
            $(#[$attribute])*
            $name { $($field: $rust => $sql),* } -> Columns;
            concat!(
                "SELECT id, kind, identity, workflow, enabled, revision, spec, state, next_due, wake_at, last_due,
                 created_at, updated_at, deleted_at FROM cloacina_schedules ",
                $condition
            )
        }
    };
}

schedules! { ById { id: Uuid => SqlUuid } "WHERE id = $1" }
schedules! {
    ByIdentity { kind: i16 => SmallInt, identity: String => Text }
    "WHERE kind = $1 AND identity = $2 AND deleted_at IS NULL"
}
schedules! {
    Listed { kind: i16 => SmallInt, all: bool => Bool, after: Uuid => SqlUuid, limit: i64 => BigInt, offset: i64 => BigInt }
    "WHERE kind = $1 AND deleted_at IS NULL AND (enabled OR $2) AND id > $3 ORDER BY id LIMIT $4 OFFSET $5"
}
schedules! {
    ListedBack { kind: i16 => SmallInt, all: bool => Bool, after: Uuid => SqlUuid, limit: i64 => BigInt, offset: i64 => BigInt }
    "WHERE kind = $1 AND deleted_at IS NULL AND (enabled OR $2) AND id < $3 ORDER BY id DESC LIMIT $4 OFFSET $5"
}
schedules! {
    DueCron { now: i64 => BigInt, limit: i64 => BigInt }
    "WHERE kind = 0 AND wake_at <= $1 ORDER BY wake_at LIMIT $2"
}
schedules! {
    DueTriggers { now: i64 => BigInt, names: Vec<String> => Array<Text>, limit: i64 => BigInt }
    "WHERE kind = 1 AND wake_at <= $1 AND identity = ANY ($2) ORDER BY wake_at LIMIT $3"
}
schedules! {
    /// Returns the triggers that must be called now for an ended execution and that no runner is calling at the
    /// moment.
    DueByEnds { now: i64 => BigInt, names: Vec<String> => Array<Text>, limit: i64 => BigInt }
    "WHERE kind = 1 AND deleted_at IS NULL AND enabled AND coalesce(wake_at, 0) <= $1 AND identity = ANY ($2)
     AND EXISTS (SELECT 1 FROM cloacina_ends AS e WHERE e.schedule_id = cloacina_schedules.id AND e.due_at <= $1)
     ORDER BY id LIMIT $3"
}
query! {
    /// Returns the earliest time after `now` at which a trigger is called again for an ended execution, after a failed
    /// call.
    NextEnd { now: i64 => BigInt, names: Vec<String> => Array<Text> } -> BigInt;
    "SELECT e.due_at FROM cloacina_ends AS e JOIN cloacina_schedules AS s ON s.id = e.schedule_id
     WHERE e.due_at > $1 AND s.enabled AND s.identity = ANY ($2) ORDER BY e.due_at LIMIT 1"
}
query! {
    NextCron { now: i64 => BigInt } -> BigInt;
    "SELECT wake_at FROM cloacina_schedules WHERE kind = 0 AND wake_at > $1 ORDER BY wake_at LIMIT 1"
}
query! {
    NextTrigger { now: i64 => BigInt, names: Vec<String> => Array<Text> } -> BigInt;
    "SELECT wake_at FROM cloacina_schedules WHERE kind = 1 AND wake_at > $1 AND identity = ANY ($2)
     ORDER BY wake_at LIMIT 1"
}

query! {
    Insert {
        id: Uuid => SqlUuid,
        kind: i16 => SmallInt,
        identity: String => Text,
        workflow: String => Text,
        enabled: bool => Bool,
        revision: i64 => BigInt,
        spec: String => Text,
        state: String => Text,
        next_due: Option<i64> => Nullable<BigInt>,
        wake_at: Option<i64> => Nullable<BigInt>,
        last_due: Option<i64> => Nullable<BigInt>,
        created_at: i64 => BigInt,
        updated_at: i64 => BigInt,
        deleted_at: Option<i64> => Nullable<BigInt>,
        after: String => Text,
        states: Vec<i16> => Array<SmallInt>,
    } -> SqlUuid;
    "WITH written AS (INSERT INTO cloacina_schedules (id, kind, identity, workflow, enabled, revision, spec, state, next_due,
     wake_at, last_due, created_at, updated_at, deleted_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) ON CONFLICT DO NOTHING RETURNING id),
     followed AS (INSERT INTO cloacina_follows (workflow, state, schedule_id)
     SELECT $15, n.state, w.id FROM written AS w CROSS JOIN unnest($16::smallint[]) AS n (state))
     SELECT id FROM written"
}

query! {
    Update {
        identity: String => Text,
        workflow: String => Text,
        enabled: bool => Bool,
        revision: i64 => BigInt,
        spec: String => Text,
        state: String => Text,
        next_due: Option<i64> => Nullable<BigInt>,
        wake_at: Option<i64> => Nullable<BigInt>,
        last_due: Option<i64> => Nullable<BigInt>,
        updated_at: i64 => BigInt,
        deleted_at: Option<i64> => Nullable<BigInt>,
        id: Uuid => SqlUuid,
        expected: i64 => BigInt,
        after: String => Text,
        states: Vec<i16> => Array<SmallInt>,
    } -> SqlUuid;
    "WITH written AS (UPDATE cloacina_schedules AS s SET identity = $1, workflow = $2, enabled = $3, revision = $4, spec = $5,
     state = $6, next_due = $7, wake_at = $8, last_due = $9, updated_at = $10, deleted_at = $11
     WHERE s.id = $12 AND s.revision = $13 AND s.deleted_at IS NULL RETURNING s.id),
     unfollowed AS (DELETE FROM cloacina_follows AS f USING written AS w
     WHERE f.schedule_id = w.id AND NOT (f.workflow = $14 AND f.state = ANY ($15::smallint[]))),
     followed AS (INSERT INTO cloacina_follows (workflow, state, schedule_id)
     SELECT $14, n.state, w.id FROM written AS w CROSS JOIN unnest($15::smallint[]) AS n (state) ON CONFLICT DO NOTHING)
     SELECT id FROM written"
}

query! {
    /// Applies changes of schedules and their ticks. Returns the schedules that were changed (marked 0), and the ticks
    /// whose outcome was written (marked 1).
    #[derive(Default)]
    Apply {
        ids: Vec<Uuid> => Array<SqlUuid>,
        expected: Vec<i64> => Array<BigInt>,
        enabled: Vec<bool> => Array<Bool>,
        revisions: Vec<i64> => Array<BigInt>,
        specs: Vec<String> => Array<Text>,
        states: Vec<String> => Array<Text>,
        next_due: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        wake_at: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        last_due: Vec<Option<i64>> => Array<Nullable<BigInt>>,
        updated_at: Vec<i64> => Array<BigInt>,

        now: i64 => BigInt,
        now_again: i64 => BigInt,
        tick_ids: Vec<Uuid> => Array<SqlUuid>,
        tick_due: Vec<i64> => Array<BigInt>,
        tick_outcomes: Vec<i16> => Array<SmallInt>,
        tick_executions: Vec<Option<Uuid>> => Array<Nullable<SqlUuid>>,
        tick_details: Vec<Option<String>> => Array<Nullable<Text>>,
    } -> (SmallInt, SqlUuid, BigInt);
    "WITH changed AS MATERIALIZED (
         UPDATE cloacina_schedules AS s SET enabled = n.enabled, revision = n.revision, spec = n.spec, state = n.state,
         next_due = n.next_due, wake_at = n.wake_at, last_due = n.last_due, updated_at = n.updated_at
         FROM unnest($1::uuid[], $2::bigint[], $3::boolean[], $4::bigint[], $5::text[], $6::text[], $7::bigint[], $8::bigint[],
         $9::bigint[], $10::bigint[])
         AS n (id, expected, enabled, revision, spec, state, next_due, wake_at, last_due, updated_at)
         WHERE s.id = n.id AND s.revision = n.expected AND s.deleted_at IS NULL RETURNING s.id
     ), put AS (
         INSERT INTO cloacina_ticks AS t (created_at, updated_at, schedule_id, due_at, outcome, execution_id, detail)
         SELECT $11::bigint, $12::bigint, n.*
         FROM unnest($13::uuid[], $14::bigint[], $15::smallint[], $16::uuid[], $17::text[]) AS n (id)
         WHERE (n.id IN (SELECT id FROM changed)) IS TRUE
         ON CONFLICT (schedule_id, due_at) DO UPDATE SET outcome = excluded.outcome,
         execution_id = excluded.execution_id, updated_at = excluded.updated_at, detail = excluded.detail
         WHERE t.outcome = 4 OR (t.outcome IN (1, 2, 3) AND excluded.outcome = 0) RETURNING t.schedule_id, t.due_at
     ) SELECT 0::smallint, id, 0::bigint FROM changed
     UNION ALL SELECT 1::smallint, schedule_id, due_at FROM put"
}

#[derive(Queryable)]
struct ScheduleRow {
    id: Uuid,
    kind: i16,
    identity: String,
    workflow: String,
    enabled: bool,
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
            id: row.id.into(),
            kind,
            identity: row.identity,
            workflow: row.workflow,
            enabled: row.enabled,
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
        let id = ScheduleId::from(row.id);
        schedules.add(id, ScheduleRecord::try_from(row).map_err(Fault::reason));
    }
}

fn records(rows: Vec<ScheduleRow>) -> Result<Vec<ScheduleRecord>, Fault> {
    rows.into_iter().map(TryInto::try_into).collect()
}

pub(super) async fn put(
    connection: &Connection,
    session: &Session,
    record: &ScheduleRecord,
    expected: Option<i64>,
) -> Result<PutOutcome, Fault> {
    let holder = by_identity(connection, session, record.kind, record.identity.clone()).await?;
    if let Some(holder) = holder.filter(|holder| holder.id != record.id) {
        return Ok(PutOutcome::Exists(holder.id));
    }
    let (spec, state) = (encode(&record.spec)?, encode(&record.state)?);
    let (after, states) = followed(record);
    let after = after.to_owned();
    let written: Result<Vec<Uuid>, Fault> = match expected {
        None => {
            let statement = Insert {
                id: record.id.uuid(),
                kind: record.kind.code(),
                identity: record.identity.clone(),
                workflow: record.workflow.clone(),
                enabled: record.enabled,
                revision: record.revision,
                spec,
                state,
                next_due: micros(record.next_due),
                wake_at: micros(record.wake_at),
                last_due: micros(record.last_due),
                created_at: record.created_at.0,
                updated_at: record.updated_at.0,
                deleted_at: micros(record.deleted_at),
                after,
                states,
            };
            session.fetch(connection, statement).await
        }
        Some(expected) => {
            let statement = Update {
                identity: record.identity.clone(),
                workflow: record.workflow.clone(),
                enabled: record.enabled,
                revision: record.revision,
                spec,
                state,
                next_due: micros(record.next_due),
                wake_at: micros(record.wake_at),
                last_due: micros(record.last_due),
                updated_at: record.updated_at.0,
                deleted_at: micros(record.deleted_at),
                id: record.id.uuid(),
                expected,
                after,
                states,
            };
            session.fetch(connection, statement).await
        }
    };
    match written {
        Ok(written) if !written.is_empty() => return Ok(PutOutcome::Written),
        Err(fault) if !fault.is(&SqlState::UNIQUE_VIOLATION) => return Err(fault),
        _ => {}
    }
    // The stored revision is not `expected`, the schedule was deleted, or another schedule with this identity was
    // inserted meanwhile.
    let holder = by_identity(connection, session, record.kind, record.identity.clone()).await?;
    Ok(match holder {
        Some(holder) if holder.id != record.id => PutOutcome::Exists(holder.id),
        _ => PutOutcome::Changed,
    })
}

/// Applies the schedule writes of a batch in the open transaction. Adds to `dropped` the executions that must not be
/// submitted. Returns, for each write, whether it was applied.
pub(super) async fn apply(
    connection: &Connection,
    batch: &Batch<'_>,
    dropped: &mut HashSet<ExecutionId>,
) -> Result<Vec<bool>, Fault> {
    let mut statement = Apply {
        now: batch.now.0,
        now_again: batch.now.0,
        ..Apply::default()
    };
    // All writers lock rows in the same order, so that they cannot deadlock.
    let mut writes: Vec<_> = batch.schedules.iter().collect();
    writes.sort_by_key(|write| write.record.id);
    for write in writes {
        let record = write.record;
        statement.ids.push(record.id.uuid());
        statement.expected.push(write.expected);
        statement.enabled.push(record.enabled);
        statement.revisions.push(record.revision);
        statement.specs.push(encode(&record.spec)?);
        statement.states.push(encode(&record.state)?);
        statement.next_due.push(micros(record.next_due));
        statement.wake_at.push(micros(record.wake_at));
        statement.last_due.push(micros(record.last_due));
        statement.updated_at.push(record.updated_at.0);
        for tick in write.ticks {
            statement.tick_ids.push(record.id.uuid());
            statement.tick_due.push(tick.due_at.0);
            statement.tick_outcomes.push(tick.outcome.code());
            statement
                .tick_executions
                .push(tick.execution.map(|id| id.uuid()));
            statement.tick_details.push(tick.detail.clone());
        }
    }
    let rows: Vec<(i16, Uuid, i64)> = statement.load(connection).await?;
    let applied: HashSet<(i16, Uuid, i64)> = rows.into_iter().collect();
    let mut outcomes = Vec::with_capacity(batch.schedules.len());
    for write in &batch.schedules {
        let id = write.record.id.uuid();
        outcomes.push(applied.contains(&(0, id, 0)));
        let lost = write
            .ticks
            .iter()
            .filter(|tick| !applied.contains(&(1, id, tick.due_at.0)));
        dropped.extend(lost.filter_map(|tick| tick.execution));
    }
    super::ends::settle(connection, &batch.schedules, &outcomes).await?;
    Ok(outcomes)
}

pub(super) async fn by_id(
    connection: &Connection,
    session: &Session,
    id: ScheduleId,
) -> Result<Option<ScheduleRecord>, Fault> {
    let rows: Vec<ScheduleRow> = session.fetch(connection, ById { id: id.uuid() }).await?;
    rows.into_iter().next().map(TryInto::try_into).transpose()
}

pub(super) async fn by_identity(
    connection: &Connection,
    session: &Session,
    kind: ScheduleKind,
    identity: String,
) -> Result<Option<ScheduleRecord>, Fault> {
    let statement = ByIdentity {
        kind: kind.code(),
        identity,
    };
    let rows: Vec<ScheduleRow> = session.fetch(connection, statement).await?;
    rows.into_iter().next().map(TryInto::try_into).transpose()
}

pub(super) async fn list(
    connection: &Connection,
    session: &Session,
    query: &ScheduleQuery,
) -> Result<Vec<ScheduleRecord>, Fault> {
    let (kind, all) = (query.kind.code(), !query.enabled_only);
    let after = query.start().uuid();
    let (limit, offset) = (saturating_i64(query.limit), saturating_i64(query.offset));
    records(if query.descending {
        let statement = ListedBack {
            kind,
            all,
            after,
            limit,
            offset,
        };
        session.fetch(connection, statement).await?
    } else {
        let statement = Listed {
            kind,
            all,
            after,
            limit,
            offset,
        };
        session.fetch(connection, statement).await?
    })
}

pub(super) async fn due(
    connection: &Connection,
    session: &Session,
    query: &DueQuery,
    now: Timestamp,
) -> Result<DueSchedules, Fault> {
    let (now, limit) = (now.0, saturating_i64(query.limit));
    let mut schedules = DueSchedules::default();
    let mut next: Vec<i64> = Vec::new();
    if query.cron {
        let rows = session.fetch(connection, DueCron { now, limit }).await?;
        add_due(rows, &mut schedules);
        next.extend(
            session
                .fetch::<_, i64>(connection, NextCron { now })
                .await?,
        );
    }
    if !query.triggers.is_empty() {
        let names = || query.triggers.clone();
        let due = DueTriggers {
            now,
            names: names(),
            limit,
        };
        add_due(session.fetch(connection, due).await?, &mut schedules);
        let after = NextTrigger {
            now,
            names: names(),
        };
        next.extend(session.fetch::<_, i64>(connection, after).await?);
        if query.ends {
            let due = DueByEnds {
                now,
                names: names(),
                limit,
            };
            add_due(session.fetch(connection, due).await?, &mut schedules);
            let after = NextEnd {
                now,
                names: names(),
            };
            next.extend(session.fetch::<_, i64>(connection, after).await?);
        }
    }
    schedules.next = next.into_iter().min().map(Timestamp);
    Ok(schedules)
}
