//! Reads maps, their items, and the recorded steps of items.

use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::map_rows::{
    ClaimedItemsOf, ItemPage, ItemPageBefore, JoinedResults, MapColumns, MapsOf, MapsWithClaims,
    OneMap, SelectItemSteps, records,
};
use super::row::{Decoded, Id, count};
use crate::store::{ClaimedItems, ItemQuery};
use crate::types::{
    ExecutionId, ItemRecord, Json, MapRow, Ordinal, RunnerId, StepKind, StepRecord, TaskStatus,
    Timestamp,
};

/// Returns the row of a map.
pub(super) fn find(
    connection: &mut SqliteConnection,
    execution: ExecutionId,
    task: Ordinal,
) -> Result<Option<MapRow>, Fault> {
    let query = OneMap {
        execution_id: execution.as_bytes(),
        ordinal: task.into(),
    };
    let rows: Vec<MapColumns> = query.load(connection)?;
    rows.into_iter().next().map(MapColumns::row).transpose()
}

/// Returns the expanded maps of these executions.
pub(super) fn maps(
    connection: &mut SqliteConnection,
    ids: &[ExecutionId],
) -> Result<Vec<MapRow>, Fault> {
    let mut maps = Vec::new();
    for id in ids {
        let query = MapsOf {
            execution_id: id.as_bytes(),
        };
        let rows: Vec<MapColumns> = query.load(connection)?;
        for row in rows {
            maps.push(row.row()?);
        }
    }
    Ok(maps)
}

/// Returns a page of a map's items.
pub(super) fn items(
    connection: &mut SqliteConnection,
    query: &ItemQuery,
) -> Result<Vec<ItemRecord>, Fault> {
    let state = query.status.map(TaskStatus::code);
    let page = ItemPage {
        execution_id: query.execution.as_bytes(),
        ordinal: query.task.into(),
        from: query.from.into(),
        every: state,
        state,
        limit: i64::try_from(query.limit).unwrap_or(i64::MAX),
    };
    records(page.load(connection)?)
}

/// Returns the last items of a map before an index, in the order of the list.
pub(super) fn items_before(
    connection: &mut SqliteConnection,
    query: &ItemQuery,
) -> Result<Vec<ItemRecord>, Fault> {
    let state = query.status.map(TaskStatus::code);
    let page = ItemPageBefore {
        execution_id: query.execution.as_bytes(),
        ordinal: query.task.into(),
        before: query.from.into(),
        every: state,
        state,
        limit: i64::try_from(query.limit).unwrap_or(i64::MAX),
    };
    let mut items = records(page.load(connection)?)?;
    items.reverse();
    Ok(items)
}

/// Returns the number of the items on a page, and their results as one text.
pub(super) fn item_results(
    connection: &mut SqliteConnection,
    query: &ItemQuery,
) -> Result<(u32, String), Fault> {
    let from = i64::from(query.from);
    let page = JoinedResults {
        execution_id: query.execution.as_bytes(),
        ordinal: query.task.into(),
        from,
        until: from.saturating_add(i64::try_from(query.limit).unwrap_or(i64::MAX)),
    };
    let rows: Vec<(i64, String)> = page.load(connection)?;
    let (items, text) = rows.into_iter().next().unwrap_or_default();
    Ok((count("items", items)?, text))
}

/// Returns items that a runner has claimed, grouped by map.
pub(super) fn items_of(
    connection: &mut SqliteConnection,
    runner: RunnerId,
    limit: usize,
) -> Result<Vec<ClaimedItems>, Fault> {
    let maps: Vec<(Id, i64)> = MapsWithClaims {
        runner: runner.as_bytes(),
    }
    .load(connection)?;
    let mut left = limit;
    let mut found = Vec::new();
    for (execution, ordinal) in maps {
        let task = count("ordinal", ordinal)?;
        let Some(row) = find(connection, execution.into(), task)? else {
            continue;
        };
        let items = ClaimedItemsOf {
            execution_id: &execution.0,
            ordinal,
            runner: runner.as_bytes(),
            limit: i64::try_from(left).unwrap_or(i64::MAX),
        };
        let items = records(items.load(connection)?)?;
        left = left.saturating_sub(items.len());
        found.push(ClaimedItems { row, items });
        if left == 0 {
            break;
        }
    }
    Ok(found)
}

/// Returns the recorded steps of an item.
pub(super) fn steps(
    connection: &mut SqliteConnection,
    id: ExecutionId,
    task: Ordinal,
    item: u32,
) -> Result<Vec<StepRecord>, Fault> {
    type StepColumns = (String, i64, String, i64, i64, i64, Decoded<Json>);
    let rows: Vec<StepColumns> = SelectItemSteps {
        execution_id: id.as_bytes(),
        ordinal: task.into(),
        item: item.into(),
    }
    .load(connection)?;
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
