//! Writes the row of a map.

use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::map_rows::{FirstWaiting, PutMap};
use super::row::{encode, micros};
use crate::types::{MapRow, Timestamp};

/// Writes a map's row, including the time at which a runner must process the map next (`MapRow::due_at`).
pub(super) fn put(connection: &mut SqliteConnection, row: &MapRow) -> Result<(), Fault> {
    let execution_id = row.execution.as_bytes();
    let ordinal = row.task.into();
    let first_waiting = if row.waits_for_items() {
        let first: Vec<Option<i64>> = FirstWaiting {
            execution_id,
            ordinal,
        }
        .load(connection)?;
        first.into_iter().flatten().next().map(Timestamp)
    } else {
        None
    };
    let detail = row.first_failure.as_ref().map(encode).transpose()?;
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
        detail: detail.as_deref(),
        source: row.source.map(i64::from),
        has_all: row.has_all,
        skipped: row.skipped.into(),
    }
    .execute(connection)?;
    Ok(())
}
