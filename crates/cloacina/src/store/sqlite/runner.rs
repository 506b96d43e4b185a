//! The rows of runners: their leases, deaths and claims.

use diesel::sql_types::{BigInt, Binary, Text};
use diesel::{Queryable, RunQueryDsl, SqliteConnection};

use super::connection::Writer;
use super::error::Fault;
use super::map_reads;
use super::row::{Decoded, Id, encode};
use super::statement::{query, statement};
use crate::store::RunnerRow;
use crate::types::{ExecutionId, RunnerId, Timestamp};

statement! {
    /// Inserts a runner. Changes nothing if the row exists, because a runner sends the statement
    /// again if it did not learn the outcome.
    InsertRunner<'a> {
        id: &'a [u8] => Binary,
        host: &'a str => Text,
        pid: i64 => BigInt,
        pid_started: i64 => BigInt,
        started_at: i64 => BigInt,
        heartbeat_at: i64 => BigInt,
        lease_until: i64 => BigInt,
        workflows: &'a str => Text,
    }
    "INSERT INTO cloacina_runners (id, host, pid, pid_started, started_at, heartbeat_at, lease_until, workflows) \
     VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
}

statement! {
    ExtendLease<'a> { heartbeat_at: i64 => BigInt, lease_until: i64 => BigInt, id: &'a [u8] => Binary }
    "UPDATE cloacina_runners SET heartbeat_at = ?, lease_until = ? WHERE id = ? AND dead_at IS NULL"
}

query! {
    LivingRunners {} -> (Binary, Text, BigInt, BigInt, BigInt, BigInt, BigInt, Text);
    "SELECT id, host, pid, pid_started, started_at, heartbeat_at, lease_until, workflows FROM cloacina_runners \
     WHERE dead_at IS NULL ORDER BY id"
}

query! {
    DeadRunners {} -> Binary;
    "SELECT id FROM cloacina_runners WHERE dead_at IS NOT NULL ORDER BY id"
}

statement! {
    DeclareDead<'a> { dead_at: i64 => BigInt, id: &'a [u8] => Binary, lease_until: i64 => BigInt }
    "UPDATE cloacina_runners SET dead_at = ? WHERE id = ? AND lease_until = ? AND dead_at IS NULL"
}

query! {
    /// Returns the executions in which a runner has claims. Searches the open executions, whose index is small. An
    /// index of running tasks would cost two writes for each task.
    ClaimsOf<'a> { running: &'a [u8] => Binary, paused: &'a [u8] => Binary } -> Binary;
    "SELECT execution.id FROM cloacina_executions AS execution INDEXED BY cloacina_executions_state \
     WHERE execution.state = 1 AND EXISTS (SELECT 1 FROM cloacina_tasks AS task \
     WHERE task.execution_id = execution.id AND task.state = 2 AND task.runner_id = ?) \
     UNION ALL \
     SELECT execution.id FROM cloacina_executions AS execution INDEXED BY cloacina_executions_state \
     WHERE execution.state = 2 AND EXISTS (SELECT 1 FROM cloacina_tasks AS task \
     WHERE task.execution_id = execution.id AND task.state = 2 AND task.runner_id = ?)"
}

statement! {
    DeleteRunner<'a> { id: &'a [u8] => Binary }
    "DELETE FROM cloacina_runners WHERE id = ?"
}

#[derive(Queryable)]
struct LivingRunnerRow {
    id: Id,
    host: String,
    pid: i64,
    pid_started: i64,
    started_at: i64,
    heartbeat_at: i64,
    lease_until: i64,
    workflows: Decoded<Vec<String>>,
}

pub(super) fn register(writer: &Writer, row: &RunnerRow) -> Result<(), Fault> {
    let workflows = encode(&row.workflows)?;
    writer.write(&mut *writer.lock()?, |connection| {
        InsertRunner {
            id: row.id.as_bytes(),
            host: &row.host,
            pid: row.pid,
            pid_started: row.pid_started,
            started_at: row.started_at.0,
            heartbeat_at: row.heartbeat_at.0,
            lease_until: row.lease_until.0,
            workflows: &workflows,
        }
        .execute(connection)?;
        Ok(())
    })
}

pub(super) fn heartbeat(
    writer: &Writer,
    runner: RunnerId,
    now: Timestamp,
    lease_until: Timestamp,
) -> Result<bool, Fault> {
    writer.write(&mut *writer.lock()?, |connection| {
        let statement = ExtendLease {
            heartbeat_at: now.0,
            lease_until: lease_until.0,
            id: runner.as_bytes(),
        };
        Ok(statement.execute(connection)? == 1)
    })
}

pub(super) fn living(connection: &mut SqliteConnection) -> Result<Vec<RunnerRow>, Fault> {
    let rows: Vec<LivingRunnerRow> = LivingRunners {}.load(connection)?;
    Ok(rows
        .into_iter()
        .map(|row| RunnerRow {
            id: row.id.into(),
            host: row.host,
            pid: row.pid,
            pid_started: row.pid_started,
            started_at: Timestamp(row.started_at),
            heartbeat_at: Timestamp(row.heartbeat_at),
            lease_until: Timestamp(row.lease_until),
            workflows: row.workflows.0,
        })
        .collect())
}

pub(super) fn dead(connection: &mut SqliteConnection) -> Result<Vec<RunnerId>, Fault> {
    let rows: Vec<Id> = DeadRunners {}.load(connection)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

pub(super) fn declare_dead(
    writer: &Writer,
    runner: RunnerId,
    seen_lease: Timestamp,
    now: Timestamp,
) -> Result<bool, Fault> {
    writer.write(&mut *writer.lock()?, |connection| {
        let statement = DeclareDead {
            dead_at: now.0,
            id: runner.as_bytes(),
            lease_until: seen_lease.0,
        };
        Ok(statement.execute(connection)? == 1)
    })
}

pub(super) fn claims_of(
    connection: &mut SqliteConnection,
    runner: RunnerId,
) -> Result<Vec<ExecutionId>, Fault> {
    let rows: Vec<Id> = ClaimsOf {
        running: runner.as_bytes(),
        paused: runner.as_bytes(),
    }
    .load(connection)?;
    let mut ids: Vec<ExecutionId> = rows.into_iter().map(Into::into).collect();
    ids.sort_unstable();
    Ok(ids)
}

pub(super) fn retire(writer: &Writer, runner: RunnerId) -> Result<(), Fault> {
    writer.write(&mut *writer.lock()?, |connection| {
        // If the row of a runner with claims were deleted, no other runner would rescue the claims.
        let claims = claims_of(connection, runner)?.len();
        if claims > 0 {
            return Err(Fault::Refused(format!(
                "cannot retire runner {runner}: it still has claims in {claims} executions"
            )));
        }
        if !map_reads::items_of(connection, runner, 1)?.is_empty() {
            return Err(Fault::Refused(format!(
                "cannot retire runner {runner}: it still has claims of items"
            )));
        }
        DeleteRunner {
            id: runner.as_bytes(),
        }
        .execute(connection)?;
        Ok(())
    })
}
