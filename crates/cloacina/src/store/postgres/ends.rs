//! Reads, postpones and deletes the recorded ends of executions for which triggers must be called (semantics G4). The
//! statement that writes a batch records the ends (`write_statement`).

use diesel::sql_types::{Array, BigInt, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::{Connection, Statement};
use super::error::Fault;
use super::row::count;
use super::session::Session;
use super::statement::{query, statement};
use crate::store::ScheduleWrite;
use crate::store::schedule::saturating_i64;
use crate::types::{PendingEnd, ScheduleId, Timestamp};

query! {
    Pending { schedule_id: Uuid => SqlUuid, now: i64 => BigInt, limit: i64 => BigInt } -> (SqlUuid, BigInt, BigInt);
    "SELECT execution_id, ended_at, attempts FROM cloacina_ends WHERE schedule_id = $1 AND due_at <= $2
     ORDER BY ended_at, execution_id LIMIT $3"
}

statement! {
    #[derive(Default)]
    DeleteEnds {
        schedules: Vec<Uuid> => Array<SqlUuid>,
        times: Vec<i64> => Array<BigInt>,
        executions: Vec<Uuid> => Array<SqlUuid>,
    }
    "DELETE FROM cloacina_ends AS e USING unnest($1::uuid[], $2::bigint[], $3::uuid[]) AS n (schedule_id, ended_at, execution_id)
     WHERE e.schedule_id = n.schedule_id AND e.ended_at = n.ended_at AND e.execution_id = n.execution_id"
}

statement! {
    #[derive(Default)]
    PostponeEnds {
        schedules: Vec<Uuid> => Array<SqlUuid>,
        times: Vec<i64> => Array<BigInt>,
        executions: Vec<Uuid> => Array<SqlUuid>,
        due: Vec<i64> => Array<BigInt>,
        attempts: Vec<i64> => Array<BigInt>,
    }
    "UPDATE cloacina_ends AS e SET due_at = n.due_at, attempts = n.attempts
     FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::bigint[], $5::bigint[])
     AS n (schedule_id, ended_at, execution_id, due_at, attempts)
     WHERE e.schedule_id = n.schedule_id AND e.ended_at = n.ended_at AND e.execution_id = n.execution_id"
}

query! {
    PruneEnds { before: i64 => BigInt } -> BigInt;
    "WITH gone AS (DELETE FROM cloacina_ends WHERE ended_at < $1 RETURNING ended_at) SELECT count(*) FROM gone"
}

/// Returns ends of executions for which a trigger must be called.
pub(super) async fn pending(
    connection: &Connection,
    session: &Session,
    schedule: ScheduleId,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<PendingEnd>, Fault> {
    let statement = Pending {
        schedule_id: schedule.uuid(),
        now: now.0,
        limit: saturating_i64(limit),
    };
    let rows: Vec<(Uuid, i64, i64)> = session.fetch(connection, statement).await?;
    let read = |(execution, ended_at, attempts): (Uuid, i64, i64)| {
        Ok(PendingEnd {
            execution: execution.into(),
            ended_at: Timestamp(ended_at),
            attempts: count("attempts", attempts)?,
        })
    };
    rows.into_iter().map(read).collect()
}

/// Deletes or postpones the ends for which triggers were called, in the open transaction. `applied` tells which of the
/// schedule writes were applied.
pub(super) async fn settle(
    connection: &Connection,
    writes: &[ScheduleWrite<'_>],
    applied: &[bool],
) -> Result<(), Fault> {
    let (mut gone, mut later) = (DeleteEnds::default(), PostponeEnds::default());
    let written = writes.iter().zip(applied).filter(|(_, applied)| **applied);
    for (write, end) in
        written.flat_map(|(write, _)| write.ends.iter().map(move |end| (write, end)))
    {
        let (schedule, execution) = (write.record.id.uuid(), end.execution.uuid());
        match end.again {
            None => {
                gone.schedules.push(schedule);
                gone.times.push(end.ended_at.0);
                gone.executions.push(execution);
            }
            Some((due_at, attempts)) => {
                later.schedules.push(schedule);
                later.times.push(end.ended_at.0);
                later.executions.push(execution);
                later.due.push(due_at.0);
                later.attempts.push(attempts.into());
            }
        }
    }
    if !gone.schedules.is_empty() {
        gone.execute(connection).await?;
    }
    if !later.schedules.is_empty() {
        later.execute(connection).await?;
    }
    Ok(())
}

/// Deletes old ends that triggers have not handled.
pub(super) async fn prune(
    connection: &Connection,
    session: &Session,
    before: Timestamp,
) -> Result<(), Fault> {
    let statement = PruneEnds { before: before.0 };
    session.fetch::<_, i64>(connection, statement).await?;
    Ok(())
}
