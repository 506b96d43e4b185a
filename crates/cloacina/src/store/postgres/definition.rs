//! Stored definitions of workflows.

use diesel::Queryable;
use diesel::sql_types::{BigInt, Text};

use super::driver::{Connection, Statement};
use super::error::Fault;
use super::session::Session;
use super::statement::query;
use crate::store::StoredDefinition;
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
    SelectIds { workflow: String => Text } -> BigInt;
    "SELECT id FROM cloacina_definitions WHERE workflow = $1"
}

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

/// The definition's id, and whether anything was written.
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
    // Usually it is known already: every start of a runner puts all its workflows.
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
    let shared = connection;
    shared.batch_execute(session.begin()).await?;
    // One writer at a time, so that ids become visible in their order: `definitions` reads those after the last it knows.
    shared
        .batch_execute("LOCK TABLE cloacina_definitions IN SHARE ROW EXCLUSIVE MODE")
        .await?;
    let insert = PutDefinition {
        workflow: workflow.name(),
        version: workflow.version(),
        body,
        task_count,
        created_at: now.0,
    };
    let ids: Vec<i64> = insert.load(shared).await?;
    shared.batch_execute("COMMIT").await?;
    let id = ids
        .into_iter()
        .next()
        .ok_or_else(|| Fault::Corrupt("a definition got no id".to_owned()))?;
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

/// Ids of all versions of a workflow.
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
