//! Feeds aligned maps (semantics K). Item i of an aligned map processes the result of item i of its source map, so
//! the aligned item is added when the source item ends.

use super::driver::{Connection, Statement};
use super::error::Fault;
use super::map_row::{lock, put};
use super::map_rows::{FeedAllItems, FeedItems};
use crate::store::ItemEnds;
use crate::store::maps::{EndedItems, saturating_u32, skipped_of};
use crate::types::{MapRow, MapState, Timestamp};

/// For each ended source item, adds an item to an aligned map. If the source map has ended, records that no more items
/// follow. Returns the skipped items.
pub(super) async fn feed_all(
    connection: &Connection,
    row: &mut MapRow,
    now: Timestamp,
) -> Result<Vec<u32>, Fault> {
    let Some(source) = row.source else {
        return Ok(Vec::new());
    };
    let query = FeedAllItems {
        execution_id: row.execution.uuid(),
        source: source.into(),
        follower: row.task.into(),
        ended_at: now.0,
    };
    let fed: Vec<(i64, i16)> = query.load(connection).await?;
    let skipped = skipped_of(&fed);
    row.count_fed(
        saturating_u32(fed.len() - skipped.len()),
        saturating_u32(skipped.len()),
    );
    let of_source = lock(connection, row.execution, source).await?;
    if of_source.is_some_and(|source| source.state == MapState::Ended) {
        row.end_feed();
    }
    Ok(skipped)
}

/// Adds items to the maps that are aligned with maps whose items have ended. The caller must have written all ends of the
/// batch, so that the counters of each map are complete. Returns the aligned maps that must end now.
pub(super) async fn feed_followers(
    connection: &Connection,
    ends: &ItemEnds,
    now: Timestamp,
) -> Result<Vec<MapRow>, Fault> {
    let mut over = Vec::new();
    let mut ended = EndedItems::of(ends);
    for (source, follower) in &ends.feeds {
        let Some(mut row) = lock(connection, ends.execution, *follower).await? else {
            continue;
        };
        if row.state == MapState::Ended || row.source != Some(*source) {
            continue;
        }
        let items = ended.items(*source);
        if ends.is_last && *source == ends.task {
            let skipped = feed_all(connection, &mut row, now).await?;
            ended.note(*follower, skipped);
        } else if !items.is_empty() {
            let query = FeedItems {
                execution_id: row.execution.uuid(),
                source: (*source).into(),
                follower: row.task.into(),
                items: items.into_iter().map(i64::from).collect(),
                ended_at: now.0,
            };
            let added: Vec<(i64, i16)> = query.load(connection).await?;
            let skipped = skipped_of(&added);
            row.count_fed(
                saturating_u32(added.len() - skipped.len()),
                saturating_u32(skipped.len()),
            );
            ended.note(*follower, skipped);
        }
        put(connection, &row).await?;
        if row.is_over() {
            over.push(row);
        }
    }
    Ok(over)
}
