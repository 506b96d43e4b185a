//! Locks and writes the row of a map.

use super::driver::{Connection, Statement};
use super::error::Fault;
use super::map_rows::{FirstWaiting, LockMap, PutMap, first_row};
use super::row::encode;
use crate::types::{ExecutionId, MapRow, Ordinal, Timestamp};

/// Locks the row of a map and returns it; `None` if the map has no row yet.
pub(super) async fn lock(
    connection: &Connection,
    execution: ExecutionId,
    task: Ordinal,
) -> Result<Option<MapRow>, Fault> {
    let query = LockMap {
        execution_id: execution.uuid(),
        ordinal: task.into(),
    };
    first_row(query.load(connection).await?)
}

/// Writes a map's row, including the time at which a runner must process the map next (`MapRow::due_at`).
pub(super) async fn put(connection: &Connection, row: &MapRow) -> Result<(), Fault> {
    let execution_id = row.execution.uuid();
    let ordinal = row.task.into();
    let first_waiting = if row.waits_for_items() {
        let query = FirstWaiting {
            execution_id,
            ordinal,
        };
        let first: Vec<Option<i64>> = query.load(connection).await?;
        first.into_iter().flatten().next().map(Timestamp)
    } else {
        None
    };
    PutMap {
        execution_id,
        ordinal,
        definition_id: row.definition.0,
        generation: row.generation.into(),
        state: row.state as i16,
        width: row.width.into(),
        admitted: row.admitted.into(),
        running: row.running.into(),
        done: row.done.into(),
        failed: row.failed.into(),
        parallel: row.parallel.map(i64::from),
        max_failed: row.max_failed.map(i64::from),
        queue: row.queue,
        priority: row.priority,
        due_at: micros(row.due_at(first_waiting)),
        detail: row.first_failure.as_ref().map(encode).transpose()?,
        source: row.source.map(i64::from),
        has_all: row.has_all,
        skipped: row.skipped.into(),
    }
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) fn micros(time: Option<Timestamp>) -> Option<i64> {
    time.map(|time| time.0)
}
