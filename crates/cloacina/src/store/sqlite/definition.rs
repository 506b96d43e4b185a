//! Stores, reads and deletes the definitions of workflows.

use diesel::sql_types::{BigInt, Text};
use diesel::{Queryable, RunQueryDsl, SqliteConnection};

use super::connection::Writer;
use super::error::Fault;
use super::statement::{query, statement};
use crate::store::{StoredDefinition, StoredVersion};
use crate::types::{DefinitionId, Timestamp};
use crate::workflow::Workflow;

query! {
    SelectVersion<'a> { workflow: &'a str => Text, version: &'a str => Text } -> (BigInt, Text);
    "SELECT id, body FROM cloacina_definitions WHERE workflow = ? AND version = ?"
}

query! {
    InsertDefinition<'a> {
        workflow: &'a str => Text,
        version: &'a str => Text,
        body: &'a str => Text,
        task_count: i64 => BigInt,
        created_at: i64 => BigInt,
    } -> BigInt;
    "INSERT INTO cloacina_definitions (workflow, version, body, task_count, created_at) VALUES (?, ?, ?, ?, ?) \
     RETURNING id"
}

statement! {
    UpdateBody<'a> { body: &'a str => Text, id: i64 => BigInt }
    "UPDATE cloacina_definitions SET body = ? WHERE id = ?"
}

query! {
    SelectDefinition { id: i64 => BigInt } -> (BigInt, Text, Text, Text);
    "SELECT id, workflow, version, body FROM cloacina_definitions WHERE id = ?"
}

query! {
    SelectAfter { after: i64 => BigInt } -> (BigInt, Text, Text, Text);
    "SELECT id, workflow, version, body FROM cloacina_definitions WHERE id > ? ORDER BY id"
}

query! {
    SelectVersionsAfter { after: i64 => BigInt } -> (BigInt, Text);
    "SELECT id, workflow FROM cloacina_definitions WHERE id > ? ORDER BY id"
}

query! {
    /// Returns the newest version of each workflow, and the versions of executions that have not ended (found in the
    /// index of states). Also returns the 64 newest versions, which can belong to running programs that have not
    /// submitted anything yet.
    SelectVersionsInUse {} -> (BigInt, Text);
    "SELECT id, workflow FROM cloacina_definitions WHERE id IN (\
         SELECT max(id) FROM cloacina_definitions GROUP BY workflow \
         UNION SELECT id FROM cloacina_definitions WHERE id > (SELECT max(id) - 64 FROM cloacina_definitions) \
         UNION SELECT definition_id FROM cloacina_executions WHERE state = 0 OR state = 1 OR state = 2) ORDER BY id"
}

query! {
    /// Returns unneeded versions: they are old, not the newest of their workflow, and not used by any execution.
    Unneeded { before: i64 => BigInt, limit: i64 => BigInt } -> BigInt;
    "SELECT d.id FROM cloacina_definitions AS d WHERE d.created_at < ? \
         AND EXISTS (SELECT 1 FROM cloacina_definitions AS n WHERE n.workflow = d.workflow AND n.id > d.id) \
         AND NOT EXISTS (SELECT 1 FROM cloacina_executions AS e WHERE e.definition_id = d.id) LIMIT ?"
}

statement! {
    /// Deletes a version if it is still unused. The statement checks this again under the lock, because a new execution
    /// may use the version by now.
    DeleteUnneeded { id: i64 => BigInt, definition_id: i64 => BigInt }
    "DELETE FROM cloacina_definitions WHERE id = ? \
     AND NOT EXISTS (SELECT 1 FROM cloacina_executions AS e WHERE e.definition_id = ?)"
}

query! {
    SelectIds<'a> { workflow: &'a str => Text } -> BigInt;
    "SELECT id FROM cloacina_definitions WHERE workflow = ?"
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

pub(super) fn put(
    writer: &Writer,
    workflow: &Workflow,
    now: Timestamp,
) -> Result<DefinitionId, Fault> {
    let body = workflow.stored().as_str();
    let task_count = i64::try_from(workflow.len()).map_err(|_| {
        Fault::Refused(format!("workflow '{}' has too many tasks", workflow.name()))
    })?;
    let connection = &mut *writer.lock()?;
    // Usually the version is already stored, because every runner stores all its workflows when it starts. Therefore
    // this function reads before it takes the write lock.
    let select = || SelectVersion {
        workflow: workflow.name(),
        version: workflow.version(),
    };
    let known = writer.peek(connection, |connection| {
        Ok(select().load::<(i64, String)>(connection)?)
    })?;
    if let [(id, stored)] = known.as_slice()
        && stored == body
    {
        return Ok(DefinitionId(*id));
    }
    writer.write(connection, |connection| {
        let known = select()
            .load::<(i64, String)>(connection)?
            .into_iter()
            .next();
        if let Some((id, stored)) = known {
            if stored != body {
                UpdateBody { body, id }.execute(connection)?;
            }
            return Ok(DefinitionId(id));
        }
        let insert = InsertDefinition {
            workflow: workflow.name(),
            version: workflow.version(),
            body,
            task_count,
            created_at: now.0,
        };
        let ids: Vec<i64> = insert.load(connection)?;
        ids.first().map(|id| DefinitionId(*id)).ok_or_else(|| {
            Fault::Corrupt("the database returned no id for a definition".to_owned())
        })
    })
}

pub(super) fn get(
    connection: &mut SqliteConnection,
    id: DefinitionId,
) -> Result<Option<StoredDefinition>, Fault> {
    let rows: Vec<DefinitionRow> = SelectDefinition { id: id.0 }.load(connection)?;
    Ok(rows.into_iter().next().map(Into::into))
}

pub(super) fn after(
    connection: &mut SqliteConnection,
    after: DefinitionId,
) -> Result<Vec<StoredDefinition>, Fault> {
    let rows: Vec<DefinitionRow> = SelectAfter { after: after.0 }.load(connection)?;
    Ok(rows.into_iter().map(Into::into).collect())
}

/// See [`Store::versions`](crate::store::Store::versions).
pub(super) fn versions(
    connection: &mut SqliteConnection,
    after: DefinitionId,
) -> Result<Vec<StoredVersion>, Fault> {
    let rows: Vec<(i64, String)> = if after == DefinitionId(0) {
        SelectVersionsInUse {}.load(connection)?
    } else {
        SelectVersionsAfter { after: after.0 }.load(connection)?
    };
    Ok(rows.into_iter().map(version).collect())
}

fn version((id, workflow): (i64, String)) -> StoredVersion {
    StoredVersion {
        id: DefinitionId(id),
        workflow,
    }
}

/// Deletes unneeded versions, and returns their number. A submission that refers to a deleted version violates a
/// foreign key and fails.
pub(super) fn prune(
    writer: &Writer,
    connection: &mut SqliteConnection,
    before: Timestamp,
    limit: usize,
) -> Result<usize, Fault> {
    let unneeded = writer.peek(connection, |connection| {
        let (before, limit) = (before.0, i64::try_from(limit).unwrap_or(i64::MAX));
        Ok(Unneeded { before, limit }.load::<i64>(connection)?)
    })?;
    if unneeded.is_empty() {
        return Ok(0);
    }
    writer.write(connection, |connection| {
        let mut deleted = 0;
        for id in unneeded {
            let definition_id = id;
            deleted += DeleteUnneeded { id, definition_id }.execute(connection)?;
        }
        Ok(deleted)
    })
}

/// Returns the ids of all versions of a workflow.
pub(super) fn ids_of(connection: &mut SqliteConnection, workflow: &str) -> Result<Vec<i64>, Fault> {
    Ok(SelectIds { workflow }.load(connection)?)
}

pub(super) fn count(connection: &mut SqliteConnection) -> Result<u64, Fault> {
    let counted: Vec<i64> = CountDefinitions {}.load(connection)?;
    Ok(counted.into_iter().map(i64::unsigned_abs).sum())
}
