//! Stores, reads and deletes the definitions of workflows.

use diesel::Queryable;
use diesel::sql_types::{Array, BigInt, Text};

use super::driver::{Connection, Statement};
use super::error::Fault;
use super::session::Session;
use super::statement::query;
use crate::store::{StoredDefinition, StoredVersion};
use crate::types::{DefinitionId, Timestamp};
use crate::workflow::Workflow;

query! {
    SelectVersion { workflow: String => Text, version: String => Text } -> (BigInt, Text);
    "SELECT id, body FROM cloacina_definitions WHERE workflow = $1 AND version = $2"
}

query! {
    PutDefinition<'a> {
        workflow: &'a str => Text,
        version: &'a str => Text,
        body: &'a str => Text,
        task_count: i64 => BigInt,
        created_at: i64 => BigInt,
    } -> BigInt;
    "INSERT INTO cloacina_definitions (workflow, version, body, task_count, created_at) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (workflow, version) DO UPDATE SET body = excluded.body RETURNING id"
}

query! {
    SelectDefinition { id: i64 => BigInt } -> (BigInt, Text, Text, Text);
    "SELECT id, workflow, version, body FROM cloacina_definitions WHERE id = $1"
}

query! {
    SelectAfter { after: i64 => BigInt } -> (BigInt, Text, Text, Text);
    "SELECT id, workflow, version, body FROM cloacina_definitions WHERE id > $1 ORDER BY id"
}

query! {
    SelectVersionsAfter { after: i64 => BigInt } -> (BigInt, Text);
    "SELECT id, workflow FROM cloacina_definitions WHERE id > $1 ORDER BY id"
}

query! {
    /// Returns the newest version of each workflow, and the versions of executions that have not ended (found in the
    /// index of states). Also returns the 64 newest versions, which can belong to running programs that have not
    /// submitted anything yet.
    SelectVersionsInUse {} -> (BigInt, Text);
    "SELECT id, workflow FROM cloacina_definitions WHERE id IN (
         SELECT max(id) FROM cloacina_definitions GROUP BY workflow
         UNION SELECT id FROM cloacina_definitions WHERE id > (SELECT max(id) - 64 FROM cloacina_definitions)
         UNION SELECT definition_id FROM cloacina_executions WHERE state <> 3 AND state IN (0, 1, 2)) ORDER BY id"
}

query! {
    /// Returns unneeded versions: they are old, not the newest of their workflow, and not used by any execution.
    Unneeded { before: i64 => BigInt, limit: i64 => BigInt } -> BigInt;
    "SELECT d.id FROM cloacina_definitions AS d WHERE d.created_at < $1
     AND EXISTS (SELECT 1 FROM cloacina_definitions AS n WHERE n.workflow = d.workflow AND n.id > d.id)
     AND NOT EXISTS (SELECT 1 FROM cloacina_executions AS e WHERE e.definition_id = d.id) LIMIT $2"
}

query! {
    DeleteUnneeded { ids: Vec<i64> => Array<BigInt> } -> BigInt;
    "DELETE FROM cloacina_definitions AS d USING unnest($1::bigint[]) AS n (id) WHERE d.id = n.id
     AND NOT EXISTS (SELECT 1 FROM cloacina_executions AS e WHERE e.definition_id = d.id) RETURNING d.id"
}

/// Blocks all writes of executions while definitions are deleted. Without this lock, a submission could use a definition
/// that is deleted at the same moment, because no foreign key prevents that. Writers wait only briefly: the lock has a
/// short timeout, and only one statement follows it.
const LOCK_OUT_SUBMISSIONS: &str =
    "SET LOCAL lock_timeout = '20ms'; LOCK TABLE cloacina_executions IN SHARE MODE";

query! {
    SelectIds { workflow: String => Text } -> BigInt;
    "SELECT id FROM cloacina_definitions WHERE workflow = $1"
}

query! { CountDefinitions {} -> BigInt; "SELECT count(*) FROM cloacina_definitions" }

#[derive(Queryable)]
struct DefinitionRow {
    id: i64,
    workflow: String,
    version: String,
    body: String,
}

impl From<DefinitionRow> for StoredDefinition {
    fn from(row: DefinitionRow) -> Self {
        Self {
            id: DefinitionId(row.id),
            workflow: row.workflow,
            version: row.version,
            body: row.body,
        }
    }
}

/// Stores a definition. Returns its id, and whether anything was written.
pub(super) async fn put(
    connection: &Connection,
    session: &Session,
    workflow: &Workflow,
    now: Timestamp,
) -> Result<(DefinitionId, bool), Fault> {
    let body = workflow.stored().as_str();
    let task_count = i64::try_from(workflow.len()).map_err(|_| {
        Fault::Refused(format!("workflow '{}' has too many tasks", workflow.name()))
    })?;
    // Usually the version is already stored, because every runner stores all its workflows when it starts. Therefore this
    // function reads before it takes the lock.
    let select = SelectVersion {
        workflow: workflow.name().to_owned(),
        version: workflow.version().to_owned(),
    };
    let known: Vec<(i64, String)> = session.fetch(connection, select).await?;
    if let [(id, stored)] = known.as_slice()
        && stored == body
    {
        return Ok((DefinitionId(*id), false));
    }
    connection.batch_execute(session.begin()).await?;
    // Only one writer at a time may insert, so that ids become visible in order. This order is needed because
    // `definitions` reads only ids above the last known one.
    connection
        .batch_execute("LOCK TABLE cloacina_definitions IN SHARE ROW EXCLUSIVE MODE")
        .await?;
    let insert = PutDefinition {
        workflow: workflow.name(),
        version: workflow.version(),
        body,
        task_count,
        created_at: now.0,
    };
    let ids: Vec<i64> = insert.load(connection).await?;
    connection.batch_execute("COMMIT").await?;
    let id = ids
        .into_iter()
        .next()
        .ok_or_else(|| Fault::Corrupt("the database returned no id for a definition".to_owned()))?;
    Ok((DefinitionId(id), true))
}

pub(super) async fn get(
    connection: &Connection,
    session: &Session,
    id: DefinitionId,
) -> Result<Option<StoredDefinition>, Fault> {
    let rows: Vec<DefinitionRow> = session
        .fetch(connection, SelectDefinition { id: id.0 })
        .await?;
    Ok(rows.into_iter().next().map(Into::into))
}

pub(super) async fn after(
    connection: &Connection,
    session: &Session,
    after: DefinitionId,
) -> Result<Vec<StoredDefinition>, Fault> {
    let rows: Vec<DefinitionRow> = session
        .fetch(connection, SelectAfter { after: after.0 })
        .await?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// See [`Store::versions`](crate::store::Store::versions).
pub(super) async fn versions(
    connection: &Connection,
    session: &Session,
    after: DefinitionId,
) -> Result<Vec<StoredVersion>, Fault> {
    let rows: Vec<(i64, String)> = if after == DefinitionId(0) {
        session.fetch(connection, SelectVersionsInUse {}).await?
    } else {
        let statement = SelectVersionsAfter { after: after.0 };
        session.fetch(connection, statement).await?
    };
    let version = |(id, workflow)| StoredVersion {
        id: DefinitionId(id),
        workflow,
    };
    Ok(rows.into_iter().map(version).collect())
}

/// Deletes unneeded versions, and returns their number. Deletes nothing if the table of executions cannot be locked
/// in time.
pub(super) async fn prune(
    connection: &Connection,
    session: &Session,
    before: Timestamp,
    limit: usize,
) -> Result<usize, Fault> {
    let statement = Unneeded {
        before: before.0,
        limit: i64::try_from(limit).unwrap_or(i64::MAX),
    };
    let ids: Vec<i64> = session.fetch(connection, statement).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    connection.batch_execute(session.begin()).await?;
    if connection
        .batch_execute(LOCK_OUT_SUBMISSIONS)
        .await
        .is_err()
    {
        connection.batch_execute("ROLLBACK").await?;
        return Ok(0);
    }
    let deleted: Vec<i64> = DeleteUnneeded { ids }.load(connection).await?;
    connection.batch_execute("COMMIT").await?;
    Ok(deleted.len())
}

/// Returns the ids of all versions of a workflow.
pub(super) async fn ids_of(
    connection: &Connection,
    session: &Session,
    workflow: &str,
) -> Result<Vec<i64>, Fault> {
    session
        .fetch(
            connection,
            SelectIds {
                workflow: workflow.to_owned(),
            },
        )
        .await
}

pub(super) async fn count(connection: &Connection, session: &Session) -> Result<u64, Fault> {
    let counted: Vec<i64> = session.fetch(connection, CountDefinitions {}).await?;
    Ok(counted.into_iter().map(i64::unsigned_abs).sum())
}
