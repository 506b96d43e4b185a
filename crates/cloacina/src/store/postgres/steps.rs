//! Reads recorded steps of tasks. A batch writes them (see `write_statement`).

use diesel::Queryable;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::Connection;
use super::error::Fault;
use super::row::{Decoded, count};
use super::session::Session;
use super::statement::query;
use crate::types::{ExecutionId, Json, Ordinal, StepKind, StepRecord, Timestamp};

query! {
    SelectSteps { execution_id: Uuid => SqlUuid, ordinal: Option<i64> => Nullable<BigInt> } -> (
        BigInt, Text, BigInt, Text, BigInt, BigInt, BigInt, Text,
    );
    "SELECT ordinal, key, position, kind, attempt, started_at, ended_at, coalesce(value, 'null') FROM cloacina_steps
     WHERE execution_id = $1 AND item = -1 AND ($2::bigint IS NULL OR ordinal = $2) ORDER BY ordinal, item, position"
}

#[derive(Queryable)]
struct StepRow {
    ordinal: i64,
    key: String,
    position: i64,
    kind: String,
    attempt: i64,
    started_at: i64,
    ended_at: i64,
    value: Decoded<Json>,
}

/// Returns the recorded steps of an execution, or of one of its tasks.
pub(super) async fn load(
    connection: &Connection,
    session: &Session,
    id: ExecutionId,
    task: Option<Ordinal>,
) -> Result<Vec<(Ordinal, StepRecord)>, Fault> {
    let statement = SelectSteps {
        execution_id: id.uuid(),
        ordinal: task.map(i64::from),
    };
    let rows: Vec<StepRow> = session.fetch(connection, statement).await?;
    rows.into_iter()
        .map(|row| {
            let kind = StepKind::from_name(&row.kind).ok_or_else(|| {
                Fault::Corrupt(format!(
                    "step '{}' of execution {id} has the invalid kind '{}'",
                    row.key, row.kind
                ))
            })?;
            let step = StepRecord {
                key: row.key,
                position: count("position", row.position)?,
                kind,
                attempt: count("attempt", row.attempt)?,
                started_at: Timestamp(row.started_at),
                ended_at: Timestamp(row.ended_at),
                value: row.value.0,
            };
            Ok((count("ordinal", row.ordinal)?, step))
        })
        .collect()
}
