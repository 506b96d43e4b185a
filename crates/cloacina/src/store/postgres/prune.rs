//! Deletes old executions.

use diesel::sql_types::{Array, BigInt, Nullable, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::Connection;
use super::error::Fault;
use super::session::Session;
use super::statement::query;
use crate::store::prune_cursor::PruneCursor;
use crate::types::{ExecutionId, Timestamp};

/// Number of rows that the search for old executions reads at a time.
const PAGE: i64 = 1000;

query! {
    OldestFirst { after: Uuid => SqlUuid, limit: i64 => BigInt } -> (SqlUuid, BigInt, Nullable<BigInt>);
    "SELECT id, created_at, ended_at FROM cloacina_executions WHERE id > $1 ORDER BY id LIMIT $2"
}

query! {
    /// Compares the end time again, because a retry may have resumed an execution meanwhile. Follows the order of ids,
    /// like every writer.
    Delete { ids: Vec<Uuid> => Array<SqlUuid>, before: i64 => BigInt } -> BigInt;
    "WITH gone AS (
         DELETE FROM cloacina_executions AS e USING unnest($1) AS n (id)
         WHERE e.id = n.id AND coalesce(e.ended_at < $2, false) RETURNING e.id
     ), inputs AS (DELETE FROM cloacina_inputs AS x USING gone WHERE x.execution_id = gone.id),
     tasks AS (DELETE FROM cloacina_tasks AS x USING gone WHERE x.execution_id = gone.id),
     events AS (DELETE FROM cloacina_events AS x USING gone WHERE x.execution_id = gone.id),
     progress AS (DELETE FROM cloacina_progress AS x USING gone WHERE x.execution_id = gone.id),
     logs AS (DELETE FROM cloacina_logs AS x USING gone WHERE x.execution_id = gone.id)
     SELECT count(*) FROM gone"
}

pub(super) async fn prune(
    connection: &Connection,
    session: &Session,
    cursor: &PruneCursor,
    before: Timestamp,
    limit: usize,
) -> Result<usize, Fault> {
    super::schedule::prune(connection, session, before, limit).await?;
    let after = Uuid::from_bytes(*cursor.after(before).as_bytes());
    let ids = ended_before(connection, session, after, before, limit).await?;
    let full = ids.last().filter(|_| ids.len() == limit);
    let last = full.map(|id| ExecutionId::from_bytes(id.into_bytes()));
    cursor.note(last, before);
    let definitions = super::definition::prune(connection, session, before, limit).await?;
    if ids.is_empty() {
        return Ok(definitions);
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
    Ok(deleted
        .first()
        .and_then(|count| usize::try_from(*count).ok())
        .unwrap_or_default()
        .max(definitions))
}

/// Returns executions that ended before `before`, reading from the oldest id that this pass has not read. No index of
/// end times is needed, because ids grow with time: an execution submitted after `before` cannot have ended before it,
/// nor can any later one.
async fn ended_before(
    connection: &Connection,
    session: &Session,
    mut after: Uuid,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<Uuid>, Fault> {
    let mut ids = Vec::new();
    while ids.len() < limit {
        let statement = OldestFirst { after, limit: PAGE };
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
