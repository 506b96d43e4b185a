//! Reads maps, their items, and the recorded steps of items.

use uuid::Uuid;

use super::driver::Connection;
use super::error::Fault;
use super::map_rows::{
    ClaimedItemsOf, ItemPage, ItemPageBefore, JoinedResults, MapColumns, MapsOf, MapsWithClaims,
    OneMap, SelectItemSteps, first_row, records,
};
use super::row::{Decoded, count};
use super::session::Session;
use crate::store::{ClaimedItems, ItemQuery};
use crate::types::{
    ExecutionId, ItemRecord, Json, MapRow, Ordinal, RunnerId, StepKind, StepRecord, TaskStatus,
    Timestamp,
};

/// Returns the expanded maps of these executions.
pub(super) async fn maps(
    connection: &Connection,
    session: &Session,
    ids: &[ExecutionId],
) -> Result<Vec<MapRow>, Fault> {
    let query = MapsOf {
        ids: ids.iter().map(ExecutionId::uuid).collect(),
    };
    let rows: Vec<MapColumns> = session.fetch(connection, query).await?;
    rows.into_iter().map(MapColumns::row).collect()
}

/// Returns a page of a map's items.
pub(super) async fn items(
    connection: &Connection,
    session: &Session,
    query: &ItemQuery,
) -> Result<Vec<ItemRecord>, Fault> {
    let page = ItemPage {
        execution_id: query.execution.uuid(),
        ordinal: query.task.into(),
        from: query.from.into(),
        state: query.status.map(TaskStatus::code),
        limit: i64::try_from(query.limit).unwrap_or(i64::MAX),
    };
    records(session.fetch(connection, page).await?)
}

/// Returns the last items of a map before an index, in the order of the list.
pub(super) async fn items_before(
    connection: &Connection,
    session: &Session,
    query: &ItemQuery,
) -> Result<Vec<ItemRecord>, Fault> {
    let page = ItemPageBefore {
        execution_id: query.execution.uuid(),
        ordinal: query.task.into(),
        before: query.from.into(),
        state: query.status.map(TaskStatus::code),
        limit: i64::try_from(query.limit).unwrap_or(i64::MAX),
    };
    let mut items = records(session.fetch(connection, page).await?)?;
    items.reverse();
    Ok(items)
}

/// Returns the number of the items on a page, and their results as one text.
pub(super) async fn item_results(
    connection: &Connection,
    session: &Session,
    query: &ItemQuery,
) -> Result<(u32, String), Fault> {
    let from = i64::from(query.from);
    let page = JoinedResults {
        execution_id: query.execution.uuid(),
        ordinal: query.task.into(),
        from,
        until: from.saturating_add(i64::try_from(query.limit).unwrap_or(i64::MAX)),
    };
    let rows: Vec<(i64, String)> = session.fetch(connection, page).await?;
    let (items, text) = rows.into_iter().next().unwrap_or_default();
    Ok((count("items", items)?, text))
}

/// Returns items that a runner has claimed, grouped by map.
pub(super) async fn items_of(
    connection: &Connection,
    session: &Session,
    runner: RunnerId,
    limit: usize,
) -> Result<Vec<ClaimedItems>, Fault> {
    let query = MapsWithClaims {
        runner: runner.uuid(),
    };
    let maps: Vec<(Uuid, i64)> = session.fetch(connection, query).await?;
    let mut left = limit;
    let mut found = Vec::new();
    for (execution_id, ordinal) in maps {
        let query = OneMap {
            execution_id,
            ordinal,
        };
        let Some(row) = first_row(session.fetch(connection, query).await?)? else {
            continue;
        };
        let items = ClaimedItemsOf {
            execution_id,
            ordinal,
            runner: runner.uuid(),
            limit: i64::try_from(left).unwrap_or(i64::MAX),
        };
        let items = records(session.fetch(connection, items).await?)?;
        left = left.saturating_sub(items.len());
        found.push(ClaimedItems { row, items });
        if left == 0 {
            break;
        }
    }
    Ok(found)
}

/// Returns the recorded steps of an item.
pub(super) async fn steps(
    connection: &Connection,
    session: &Session,
    id: ExecutionId,
    task: Ordinal,
    item: u32,
) -> Result<Vec<StepRecord>, Fault> {
    type StepColumns = (String, i64, String, i64, i64, i64, Decoded<Json>);
    let query = SelectItemSteps {
        execution_id: id.uuid(),
        ordinal: task.into(),
        item: item.into(),
    };
    let rows: Vec<StepColumns> = session.fetch(connection, query).await?;
    let records = rows.into_iter().map(
        |(key, position, kind, attempt, started_at, ended_at, value)| {
            let Some(kind) = StepKind::from_name(&kind) else {
                return Err(Fault::Corrupt(format!(
                    "step '{key}' of execution {id} has the invalid kind '{kind}'"
                )));
            };
            Ok(StepRecord {
                key,
                position: count("position", position)?,
                kind,
                attempt: count("attempt", attempt)?,
                started_at: Timestamp(started_at),
                ended_at: Timestamp(ended_at),
                value: value.0,
            })
        },
    );
    records.collect()
}
