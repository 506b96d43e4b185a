//! Reads the rows of executions for lists, without their tasks.

use std::collections::BTreeMap;
use std::sync::Arc;

use diesel::sql_types::{BigInt, Binary, Nullable, SmallInt, Text};
use diesel::{Queryable, RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::load::execution_status;
use super::row::Decoded;
use super::statement::query;
use crate::types::{
    DefinitionId, ErrorSummary, ExecutionId, ExecutionStatus, ExecutionSummary, Failure, Labels,
    ParentLink, Timestamp,
};

query! {
    SelectSummary<'a> { id: &'a [u8] => Binary } -> (
        BigInt, SmallInt, BigInt, SmallInt, Nullable<Text>, BigInt, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>,
        Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>, Nullable<Text>, Nullable<Text>,
    );
    "SELECT definition_id, state, revision, priority, execution_key, created_at, start_at, started_at, ended_at, \
     timeout, deadline, paused_at, error, \
     CASE WHEN links & 2 THEN (SELECT policy FROM cloacina_children WHERE child_id = id) END \
     FROM cloacina_executions WHERE id = ?"
}

#[derive(Queryable)]
struct SummaryRow {
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
    parent: Option<Decoded<Arc<ParentLink>>>,
}

query! {
    SelectLabels<'a> { execution_id: &'a [u8] => Binary } -> (Text, Text);
    "SELECT name, value FROM cloacina_labels INDEXED BY cloacina_labels_execution WHERE execution_id = ?"
}

/// Returns the summaries of the executions that exist, in the order of `ids`.
pub(super) fn summaries(
    connection: &mut SqliteConnection,
    ids: &[ExecutionId],
) -> Result<Vec<ExecutionSummary>, Fault> {
    let mut summaries = Vec::with_capacity(ids.len());
    for id in ids {
        let rows: Vec<SummaryRow> = SelectSummary { id: id.as_bytes() }.load(connection)?;
        let Some(row) = rows.into_iter().next() else {
            continue;
        };
        let labels: Vec<(String, String)> = SelectLabels {
            execution_id: id.as_bytes(),
        }
        .load(connection)?;
        let is_claimed_only =
            row.state == ExecutionStatus::Running.code() && row.started_at.is_none();
        summaries.push(ExecutionSummary {
            id: *id,
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
        });
    }
    Ok(summaries)
}
