//! Reads the rows of executions for lists, without their tasks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use diesel::Queryable;
use diesel::sql_types::{Array, BigInt, Nullable, SmallInt, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::Connection;
use super::error::Fault;
use super::load::execution_status;
use super::row::Decoded;
use super::session::Session;
use super::statement::query;
use crate::types::{
    DefinitionId, ErrorSummary, ExecutionId, ExecutionStatus, ExecutionSummary, Failure, Labels,
    ParentLink, Timestamp,
};

query! {
    SelectSummaries { ids: Vec<Uuid> => Array<SqlUuid> } -> (
        SqlUuid, BigInt, SmallInt, BigInt, SmallInt, Nullable<Text>, BigInt, Nullable<BigInt>, Nullable<BigInt>,
        Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>, Nullable<Text>, Nullable<Text>, Nullable<Text>,
    );
    "SELECT e.id, e.definition_id, e.state, e.revision, e.priority, e.execution_key, e.created_at, e.start_at, e.started_at,
     e.ended_at, e.timeout, e.deadline, e.paused_at, e.error,
     (SELECT json_agg(json_build_array(l.name, l.value))::text FROM cloacina_labels AS l WHERE l.execution_id = e.id),
     CASE WHEN e.links & 2 = 2 THEN (SELECT c.policy FROM cloacina_children AS c WHERE c.child_id = e.id) END
     FROM unnest($1::uuid[]) AS n (id)
     CROSS JOIN LATERAL (SELECT * FROM cloacina_executions AS x WHERE x.id = n.id OFFSET 0) AS e"
}

#[derive(Queryable)]
struct SummaryRow {
    id: Uuid,
    definition: i64,
    state: i16,
    revision: i64,
    priority: i16,
    key: Option<String>,
    created_at: i64,
    start_at: Option<i64>,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    timeout: Option<i64>,
    deadline: Option<i64>,
    paused_at: Option<i64>,
    error: Option<Decoded<(Option<u32>, Failure)>>,
    labels: Option<Decoded<Vec<(String, String)>>>,
    parent: Option<Decoded<Arc<ParentLink>>>,
}

/// Returns the summaries of the executions that exist, in the order of `ids`.
pub(super) async fn summaries(
    connection: &Connection,
    session: &Session,
    ids: &[ExecutionId],
) -> Result<Vec<ExecutionSummary>, Fault> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let statement = SelectSummaries {
        ids: ids.iter().map(ExecutionId::uuid).collect(),
    };
    let rows: Vec<SummaryRow> = session.fetch(connection, statement).await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        found.insert(row.id, summary(row)?);
    }
    let summaries = ids.iter().filter_map(|id| found.get(&id.uuid()).cloned());
    Ok(summaries.collect())
}

fn summary(row: SummaryRow) -> Result<ExecutionSummary, Fault> {
    let is_claimed_only = row.state == ExecutionStatus::Running.code() && row.started_at.is_none();
    let labels = row.labels.map_or_else(Vec::new, |labels| labels.0);
    Ok(ExecutionSummary {
        id: row.id.into(),
        definition: DefinitionId(row.definition),
        revision: row.revision,
        status: if is_claimed_only {
            ExecutionStatus::Pending
        } else {
            execution_status(row.state)?
        },
        priority: row.priority,
        key: row.key,
        created_at: Timestamp(row.created_at),
        start_at: row.start_at.map(Timestamp),
        started_at: row.started_at.map(Timestamp),
        ended_at: row.ended_at.map(Timestamp),
        timeout: row.timeout,
        deadline: row.deadline.map(Timestamp),
        paused_at: row.paused_at.map(Timestamp),
        error: (row.error).map(|Decoded((task, failure))| ErrorSummary::new(task, failure)),
        labels: Labels::stored(labels.into_iter().collect::<BTreeMap<_, _>>()),
        parent: row.parent.map(|parent| parent.0),
    })
}
