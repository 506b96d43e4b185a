//! Deletes one execution, or old executions together with old ticks, ends and definitions.

use diesel::connection::DefaultLoadingMode;
use diesel::sql_types::{BigInt, Binary, Nullable};
use diesel::{RunQueryDsl, SqliteConnection};

use super::connection::Writer;
use super::error::Fault;
use super::row::Id;
use super::statement::{query, statement};
use crate::store::Pruned;
use crate::types::{ExecutionId, Timestamp};

/// An id below all ids of executions.
const FIRST: ExecutionId = ExecutionId::from_bytes([0; 16]);

query! {
    /// Reads the executions after an id, in the order of their ids. Returns no end time for two kinds of executions
    /// that must not be deleted yet: a child whose parent is stored, and an execution with a child that has not ended.
    /// Final tasks are such a child.
    /// Looks for open children only in executions that ended before `before`.
    OldestFirst<'a> { before: i64 => BigInt, after: &'a [u8] => Binary } -> (Binary, BigInt, Nullable<BigInt>);
    "SELECT id, created_at, CASE WHEN coalesce(links, 0) & 2 AND EXISTS (SELECT 1 FROM cloacina_children AS c \
     JOIN cloacina_executions AS p ON p.id = c.parent_id WHERE c.child_id = cloacina_executions.id) \
     OR ended_at < ? AND EXISTS (SELECT 1 FROM cloacina_children AS c JOIN cloacina_executions AS child \
     ON child.id = c.child_id WHERE c.parent_id = cloacina_executions.id AND child.ended_at IS NULL) THEN NULL \
     ELSE ended_at END FROM cloacina_executions WHERE id > ? ORDER BY id"
}

statement! { DeleteEvents<'a> { id: &'a [u8] => Binary } "DELETE FROM cloacina_events WHERE execution_id = ?" }
statement! { DeleteTasks<'a> { id: &'a [u8] => Binary } "DELETE FROM cloacina_tasks WHERE execution_id = ?" }
statement! { DeleteInput<'a> { id: &'a [u8] => Binary } "DELETE FROM cloacina_inputs WHERE execution_id = ?" }
statement! { DeleteProgress<'a> { id: &'a [u8] => Binary } "DELETE FROM cloacina_progress WHERE execution_id = ?" }
statement! { DeleteLogs<'a> { id: &'a [u8] => Binary } "DELETE FROM cloacina_logs WHERE execution_id = ?" }
statement! { DeleteWaits<'a> { id: &'a [u8] => Binary } "DELETE FROM cloacina_waits WHERE execution_id = ?" }
statement! { DeleteSteps<'a> { id: &'a [u8] => Binary } "DELETE FROM cloacina_steps WHERE execution_id = ?" }
statement! { DeleteMap<'a> { id: &'a [u8] => Binary } "DELETE FROM cloacina_maps WHERE execution_id = ?" }
statement! { DeleteItems<'a> { id: &'a [u8] => Binary } "DELETE FROM cloacina_items WHERE execution_id = ?" }
statement! { DeleteChild<'a> { id: &'a [u8] => Binary } "DELETE FROM cloacina_children WHERE child_id = ?" }
statement! { DeleteLabels<'a> { id: &'a [u8] => Binary } "DELETE FROM cloacina_labels WHERE execution_id = ?" }
statement! {
    DeleteExecution<'a> { id: &'a [u8] => Binary, ended_before: i64 => BigInt }
    "DELETE FROM cloacina_executions WHERE id = ? AND ended_at < ? AND NOT EXISTS \
     (SELECT 1 FROM cloacina_children AS c JOIN cloacina_executions AS child ON child.id = c.child_id \
     WHERE c.parent_id = cloacina_executions.id AND child.ended_at IS NULL)"
}

statement! {
    /// Deletes an execution that has ended. As in [`OldestFirst`], keeps a child whose parent is stored, and an
    /// execution with a child that has not ended.
    DeleteEnded<'a> { id: &'a [u8] => Binary }
    "DELETE FROM cloacina_executions WHERE id = ? AND ended_at IS NOT NULL AND NOT (coalesce(links, 0) & 2 AND EXISTS \
     (SELECT 1 FROM cloacina_children AS c JOIN cloacina_executions AS p ON p.id = c.parent_id \
     WHERE c.child_id = cloacina_executions.id)) AND NOT EXISTS \
     (SELECT 1 FROM cloacina_children AS c JOIN cloacina_executions AS child ON child.id = c.child_id \
     WHERE c.parent_id = cloacina_executions.id AND child.ended_at IS NULL)"
}

/// Deletes an execution if [`DeleteEnded`] allows this. Returns whether the execution was deleted.
pub(super) fn delete(writer: &Writer, id: ExecutionId) -> Result<bool, Fault> {
    let connection = &mut *writer.lock()?;
    writer.write(connection, |connection| {
        let id = id.as_bytes().as_slice();
        let is_deleted = DeleteEnded { id }.execute(connection)? == 1;
        if is_deleted {
            delete_rows(connection, id)?;
        }
        Ok(is_deleted)
    })
}

/// Deletes the rows of an execution in the other tables.
fn delete_rows(connection: &mut SqliteConnection, id: &[u8]) -> Result<(), Fault> {
    DeleteEvents { id }.execute(connection)?;
    DeleteTasks { id }.execute(connection)?;
    DeleteInput { id }.execute(connection)?;
    DeleteProgress { id }.execute(connection)?;
    DeleteLogs { id }.execute(connection)?;
    DeleteWaits { id }.execute(connection)?;
    DeleteSteps { id }.execute(connection)?;
    DeleteMap { id }.execute(connection)?;
    DeleteItems { id }.execute(connection)?;
    DeleteChild { id }.execute(connection)?;
    DeleteLabels { id }.execute(connection)?;
    Ok(())
}

pub(super) fn prune(writer: &Writer, before: Timestamp, limit: usize) -> Result<Pruned, Fault> {
    let connection = &mut *writer.lock()?;
    let after = writer.prune_cursor.after(before);
    let ids = writer.peek(connection, |connection| {
        let ids = ended_before(connection, after, before, limit)?;
        if !ids.is_empty() || after == FIRST {
            return Ok(ids);
        }
        // Earlier batches of this pass may have deleted the parents of children that they had to keep.
        ended_before(connection, FIRST, before, limit)
    })?;
    let full = ids.last().filter(|_| ids.len() == limit);
    let last =
        full.and_then(|Id(id)| Some(ExecutionId::from_bytes(id.as_slice().try_into().ok()?)));
    writer.prune_cursor.note(last, before);
    let has_ticks = writer.peek(connection, |connection| {
        super::ticks::has_ticks_before(connection, before)
    })?;
    let has_ends = writer.peek(connection, |connection| {
        super::ends::has_ends_before(connection, before)
    })?;
    let mut pruned = Pruned {
        executions: 0,
        definitions: super::definition::prune(writer, connection, before, limit)?,
    };
    if ids.is_empty() && !has_ticks && !has_ends {
        return Ok(pruned);
    }
    writer.write(connection, |connection| {
        if has_ticks {
            super::ticks::prune(connection, before, limit)?;
        }
        if has_ends {
            super::ends::prune(connection, before)?;
        }
        for Id(id) in &ids {
            // The conditions are checked again inside the write transaction, because a retry may have restarted the
            // execution or a child meanwhile.
            if (DeleteExecution {
                id,
                ended_before: before.0,
            })
            .execute(connection)?
                == 1
            {
                delete_rows(connection, id)?;
                pruned.executions += 1;
            }
        }
        Ok(pruned)
    })
}

/// Returns the number of executions that [`prune`] would delete, counted up to `limit`.
pub(super) fn count(
    connection: &mut SqliteConnection,
    before: Timestamp,
    limit: usize,
) -> Result<usize, Fault> {
    Ok(ended_before(connection, FIRST, before, limit)?.len())
}

/// Returns at most `limit` executions with ids above `after` that ended before `before`. Stops at the first execution
/// that was submitted at or after `before`: ids grow with time, so no later execution can have ended before that time.
/// This search needs no index of end times.
fn ended_before(
    connection: &mut SqliteConnection,
    after: ExecutionId,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<Id>, Fault> {
    let mut ids = Vec::new();
    let statement = OldestFirst {
        before: before.0,
        after: after.as_bytes(),
    };
    let rows = statement.load_iter::<(Id, i64, Option<i64>), DefaultLoadingMode>(connection)?;
    for row in rows {
        let (id, created_at, ended_at) = row?;
        if ids.len() == limit || created_at >= before.0 {
            break;
        }
        if ended_at.is_some_and(|ended_at| ended_at < before.0) {
            ids.push(id);
        }
    }
    Ok(ids)
}
