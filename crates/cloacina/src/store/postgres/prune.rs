//! Deletes one execution, or old executions together with old ticks, ends and definitions.

use diesel::sql_types::{Array, BigInt, Nullable, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::Connection;
use super::error::Fault;
use super::session::Session;
use super::statement::query;
use crate::store::Pruned;
use crate::store::prune_cursor::PruneCursor;
use crate::types::{ExecutionId, Timestamp};

/// Number of rows that each query for old executions reads.
const PAGE: i64 = 1000;

query! {
    /// Reads executions after a given id, in the order of their ids. Returns no end time for two kinds of executions that
    /// must not be deleted yet: a child whose parent is stored, and an execution with a child that has not ended. Final
    /// tasks are such a child.
    /// Looks for open children only in executions that ended before `before`. `OFFSET 0` keeps the planner from
    /// reading all children.
    OldestFirst { after: Uuid => SqlUuid, limit: i64 => BigInt, before: i64 => BigInt } -> (SqlUuid, BigInt, Nullable<BigInt>);
    "SELECT e.id, e.created_at, CASE WHEN coalesce(e.links, 0) & 2 <> 0 AND EXISTS (
         SELECT 1 FROM cloacina_children AS c JOIN cloacina_executions AS p ON p.id = c.parent_id WHERE c.child_id = e.id OFFSET 0
     ) OR e.ended_at < $3 AND EXISTS (
         SELECT 1 FROM cloacina_children AS c JOIN cloacina_executions AS child ON child.id = c.child_id
         WHERE c.parent_id = e.id AND child.ended_at IS NULL OFFSET 0
     ) THEN NULL ELSE e.ended_at END
     FROM cloacina_executions AS e WHERE e.id > $1 ORDER BY e.id LIMIT $2"
}

/// Returns the text of a statement that deletes the executions whose ids are in `$1` and that satisfy a condition. The
/// statement also deletes all other rows of these executions.
macro_rules! delete {
    ($condition:literal) => {
        concat!(
            "WITH gone AS (
         DELETE FROM cloacina_executions AS e USING unnest($1) AS n (id) WHERE e.id = n.id AND ",
            $condition,
            " RETURNING e.id
     ), inputs AS (DELETE FROM cloacina_inputs AS x USING gone WHERE x.execution_id = gone.id),
     tasks AS (DELETE FROM cloacina_tasks AS x USING gone WHERE x.execution_id = gone.id),
     events AS (DELETE FROM cloacina_events AS x USING gone WHERE x.execution_id = gone.id),
     progress AS (DELETE FROM cloacina_progress AS x USING gone WHERE x.execution_id = gone.id),
     logs AS (DELETE FROM cloacina_logs AS x USING gone WHERE x.execution_id = gone.id),
     waits AS (DELETE FROM cloacina_waits AS x USING gone WHERE x.execution_id = gone.id),
     steps AS (DELETE FROM cloacina_steps AS x USING gone WHERE x.execution_id = gone.id),
     maps AS (DELETE FROM cloacina_maps AS x USING gone WHERE x.execution_id = gone.id),
     items AS (DELETE FROM cloacina_items AS x USING gone WHERE x.execution_id = gone.id),
     children AS (DELETE FROM cloacina_children AS x USING gone WHERE x.child_id = gone.id),
     labels AS (DELETE FROM cloacina_labels AS x USING gone WHERE x.execution_id = gone.id)
     SELECT count(*) FROM gone"
        )
    };
}

query! {
    /// Deletes executions that ended before `before`. The conditions are checked again, because a retry may have
    /// restarted an execution or a child meanwhile. Locks the rows in the order of the ids, as all writers do.
    Delete { ids: Vec<Uuid> => Array<SqlUuid>, before: i64 => BigInt } -> BigInt;
    delete!(
        "coalesce(e.ended_at < $2, false) AND NOT EXISTS (
         SELECT 1 FROM cloacina_children AS c JOIN cloacina_executions AS child ON child.id = c.child_id
         WHERE c.parent_id = e.id AND child.ended_at IS NULL OFFSET 0)"
    )
}

query! {
    /// Deletes executions that have ended. As in [`OldestFirst`], keeps children whose parent is stored, and executions
    /// with a child that has not ended.
    DeleteEnded { ids: Vec<Uuid> => Array<SqlUuid> } -> BigInt;
    delete!(
        "e.ended_at IS NOT NULL AND NOT (coalesce(e.links, 0) & 2 <> 0 AND EXISTS (
         SELECT 1 FROM cloacina_children AS c JOIN cloacina_executions AS p ON p.id = c.parent_id WHERE c.child_id = e.id OFFSET 0))
         AND NOT EXISTS (
         SELECT 1 FROM cloacina_children AS c JOIN cloacina_executions AS child ON child.id = c.child_id
         WHERE c.parent_id = e.id AND child.ended_at IS NULL OFFSET 0)"
    )
}

/// Deletes an execution if [`DeleteEnded`] allows this. Returns whether the execution was deleted.
pub(super) async fn delete(
    connection: &Connection,
    session: &Session,
    id: ExecutionId,
) -> Result<bool, Fault> {
    let ids = vec![id.uuid()];
    let deleted: Vec<i64> = session.fetch(connection, DeleteEnded { ids }).await?;
    Ok(deleted.first() == Some(&1))
}

pub(super) async fn prune(
    connection: &Connection,
    session: &Session,
    cursor: &PruneCursor,
    before: Timestamp,
    limit: usize,
) -> Result<Pruned, Fault> {
    super::ticks::prune(connection, session, before, limit).await?;
    super::ends::prune(connection, session, before).await?;
    let after = Uuid::from_bytes(*cursor.after(before).as_bytes());
    let mut ids = ended_before(connection, session, after, before, limit).await?;
    if ids.is_empty() && !after.is_nil() {
        // Earlier batches of this pass may have deleted the parents of children that they had to keep.
        ids = ended_before(connection, session, Uuid::nil(), before, limit).await?;
    }
    let full = ids.last().filter(|_| ids.len() == limit);
    let last = full.map(|id| ExecutionId::from_bytes(id.into_bytes()));
    cursor.note(last, before);
    let definitions = super::definition::prune(connection, session, before, limit).await?;
    if ids.is_empty() {
        return Ok(Pruned {
            executions: 0,
            definitions,
        });
    }
    let deleted: Vec<i64> = session
        .fetch(
            connection,
            Delete {
                ids,
                before: before.0,
            },
        )
        .await?;
    let executions = deleted
        .first()
        .and_then(|count| usize::try_from(*count).ok());
    Ok(Pruned {
        executions: executions.unwrap_or_default(),
        definitions,
    })
}

/// Returns the number of executions that [`prune`] would delete, counted up to `limit`.
pub(super) async fn count(
    connection: &Connection,
    session: &Session,
    before: Timestamp,
    limit: usize,
) -> Result<usize, Fault> {
    let found = ended_before(connection, session, Uuid::nil(), before, limit).await?;
    Ok(found.len())
}

/// Returns at most `limit` executions with ids above `after` that ended before `before`. Stops at the first execution
/// that was submitted at or after `before`: ids grow with time, so no later execution can have ended before that time.
/// This search needs no index of end times.
async fn ended_before(
    connection: &Connection,
    session: &Session,
    mut after: Uuid,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<Uuid>, Fault> {
    let mut ids = Vec::new();
    while ids.len() < limit {
        let statement = OldestFirst {
            after,
            limit: PAGE,
            before: before.0,
        };
        let rows: Vec<(Uuid, i64, Option<i64>)> = session.fetch(connection, statement).await?;
        let Some((last, _, _)) = rows.last() else {
            break;
        };
        after = *last;
        for (id, created_at, ended_at) in rows {
            if ids.len() == limit || created_at >= before.0 {
                return Ok(ids);
            }
            if ended_at.is_some_and(|ended_at| ended_at < before.0) {
                ids.push(id);
            }
        }
    }
    Ok(ids)
}
