//! Stores the ends of executions for which triggers must be called (semantics G4).

use std::collections::HashSet;

use diesel::sql_types::{BigInt, Binary, SmallInt, Text};
use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::row::{Id, count};
use super::statement::{query, statement};
use crate::store::EndWrite;
use crate::store::schedule::{followed, saturating_i64};
use crate::types::{ExecutionId, PendingEnd, ScheduleId, ScheduleRecord, Timestamp};

query! {
    HasFollowers {} -> BigInt;
    "SELECT EXISTS (SELECT 1 FROM cloacina_follows)"
}

statement! {
    Unfollow<'a> { schedule_id: &'a [u8] => Binary }
    "DELETE FROM cloacina_follows WHERE schedule_id = ?"
}

statement! {
    Follow<'a> { workflow: &'a str => Text, state: i16 => SmallInt, schedule_id: &'a [u8] => Binary }
    "INSERT INTO cloacina_follows (workflow, state, schedule_id) VALUES (?, ?, ?)"
}

statement! {
    /// Stores the end of an execution once for each trigger that must be called for this end. Reads the execution's
    /// row, which the batch has already written.
    NoteEnd<'a> { id: &'a [u8] => Binary }
    "INSERT OR IGNORE INTO cloacina_ends (schedule_id, execution_id, ended_at, due_at, attempts) \
     SELECT f.schedule_id, e.id, e.ended_at, e.ended_at, 0 FROM cloacina_executions AS e \
     JOIN cloacina_follows AS f ON f.workflow = e.workflow AND f.state = e.state WHERE e.id = ?"
}

query! {
    Pending<'a> { schedule_id: &'a [u8] => Binary, now: i64 => BigInt, limit: i64 => BigInt } -> (Binary, BigInt, BigInt);
    "SELECT execution_id, ended_at, attempts FROM cloacina_ends WHERE schedule_id = ? AND due_at <= ? \
     ORDER BY ended_at, execution_id LIMIT ?"
}

statement! {
    DeleteEnd<'a> { schedule_id: &'a [u8] => Binary, ended_at: i64 => BigInt, execution_id: &'a [u8] => Binary }
    "DELETE FROM cloacina_ends WHERE schedule_id = ? AND ended_at = ? AND execution_id = ?"
}

statement! {
    PostponeEnd<'a> {
        due_at: i64 => BigInt,
        attempts: i64 => BigInt,
        schedule_id: &'a [u8] => Binary,
        ended_at: i64 => BigInt,
        execution_id: &'a [u8] => Binary,
    }
    "UPDATE cloacina_ends SET due_at = ?, attempts = ? WHERE schedule_id = ? AND ended_at = ? AND execution_id = ?"
}

query! {
    EndBefore { before: i64 => BigInt } -> BigInt;
    "SELECT ended_at FROM cloacina_ends WHERE ended_at < ? LIMIT 1"
}

statement! {
    PruneEnds { before: i64 => BigInt }
    "DELETE FROM cloacina_ends WHERE ended_at < ?"
}

/// Stores the workflow and the final states that fire a trigger, in the open transaction.
pub(super) fn follow(
    connection: &mut SqliteConnection,
    record: &ScheduleRecord,
    is_new: bool,
) -> Result<(), Fault> {
    let schedule_id = record.id.as_bytes().as_slice();
    if !is_new {
        Unfollow { schedule_id }.execute(connection)?;
    }
    let (workflow, states) = followed(record);
    for state in states {
        Follow {
            workflow,
            state,
            schedule_id,
        }
        .execute(connection)?;
    }
    Ok(())
}

/// Stores, in the open transaction, the ends of the batch's executions for which triggers must be called.
/// `has_followers` tells whether any trigger fires at the end of executions; `None` if this is unknown.
pub(super) fn note(
    connection: &mut SqliteConnection,
    ends: &[ExecutionId],
    applied: &HashSet<ExecutionId>,
    has_followers: Option<bool>,
) -> Result<(), Fault> {
    if ends.is_empty() || has_followers == Some(false) {
        return Ok(());
    }
    if has_followers.is_none() {
        let found: Vec<i64> = HasFollowers {}.load(connection)?;
        if found == [0] {
            return Ok(());
        }
    }
    for id in ends.iter().filter(|id| applied.contains(id)) {
        NoteEnd { id: id.as_bytes() }.execute(connection)?;
    }
    Ok(())
}

/// Returns ends of executions for which a trigger must be called.
pub(super) fn pending(
    connection: &mut SqliteConnection,
    schedule: ScheduleId,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<PendingEnd>, Fault> {
    let statement = Pending {
        schedule_id: schedule.as_bytes(),
        now: now.0,
        limit: saturating_i64(limit),
    };
    let rows: Vec<(Id, i64, i64)> = statement.load(connection)?;
    let read = |(execution, ended_at, attempts): (Id, i64, i64)| {
        Ok(PendingEnd {
            execution: execution.into(),
            ended_at: Timestamp(ended_at),
            attempts: count("attempts", attempts)?,
        })
    };
    rows.into_iter().map(read).collect()
}

/// Deletes or postpones the ends for which a trigger was called, in the open transaction.
pub(super) fn settle(
    connection: &mut SqliteConnection,
    schedule: ScheduleId,
    ends: &[EndWrite],
) -> Result<(), Fault> {
    let schedule_id = schedule.as_bytes().as_slice();
    for end in ends {
        let (ended_at, execution_id) = (end.ended_at.0, end.execution.as_bytes().as_slice());
        match end.again {
            None => DeleteEnd {
                schedule_id,
                ended_at,
                execution_id,
            }
            .execute(connection)?,
            Some((due_at, attempts)) => PostponeEnd {
                due_at: due_at.0,
                attempts: attempts.into(),
                schedule_id,
                ended_at,
                execution_id,
            }
            .execute(connection)?,
        };
    }
    Ok(())
}

/// Returns whether any ends are old enough to be pruned.
pub(super) fn has_ends_before(
    connection: &mut SqliteConnection,
    before: Timestamp,
) -> Result<bool, Fault> {
    let found: Vec<i64> = EndBefore { before: before.0 }.load(connection)?;
    Ok(!found.is_empty())
}

/// Deletes old ends that triggers have not handled, in the open transaction.
pub(super) fn prune(connection: &mut SqliteConnection, before: Timestamp) -> Result<(), Fault> {
    PruneEnds { before: before.0 }.execute(connection)?;
    Ok(())
}
