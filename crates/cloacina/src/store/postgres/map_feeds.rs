//! Feeds aligned maps: an item of theirs is added when the item of their source has ended (semantics K).

use super::driver::{Connection, Statement};
use super::error::Fault;
use super::map_row::{lock, put};
use super::map_rows::{FeedAllItems, FeedItems};
use crate::store::ItemEnds;
use crate::store::maps::{Fed, skipped_of, small};
use crate::types::{MapRow, MapState, Timestamp};

/// Adds all items of an aligned map whose elements are there. Returns the skipped ones.
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
    row.count_fed(small(fed.len() - skipped.len()), small(skipped.len()));
    let of_source = lock(connection, row.execution, source).await?;
    if of_source.is_some_and(|source| source.state == MapState::Ended) {
        row.end_feed();
    }
    Ok(skipped)
}

/// Feeds the maps that are aligned with one whose items have ended. It is called after all ends of the batch, so that each map's
/// own counters are complete. Returns the maps that end now.
pub(super) async fn feed_followers(
    connection: &Connection,
    ends: &ItemEnds,
    now: Timestamp,
) -> Result<Vec<MapRow>, Fault> {
    let mut over = Vec::new();
    let mut fed = Fed::of(ends);
    for (source, follower) in &ends.feeds {
        let Some(mut row) = lock(connection, ends.execution, *follower).await? else {
            continue;
        };
        if row.state == MapState::Ended || row.source != Some(*source) {
            continue;
        }
        let items = fed.items(*source);
        if ends.is_last && *source == ends.task {
            let skipped = feed_all(connection, &mut row, now).await?;
            fed.note(*follower, skipped);
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
            row.count_fed(small(added.len() - skipped.len()), small(skipped.len()));
            fed.note(*follower, skipped);
        }
        put(connection, &row).await?;
        if row.is_over() {
            over.push(row);
        }
    }
    Ok(over)
}
