//! Feeds aligned maps (semantics K). Item i of an aligned map processes the result of item i of its source map, so
//! the aligned item is added when the source item ends.

use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::map_reads::find;
use super::map_row::put;
use super::map_rows::FeedItems;
use crate::store::ItemEnds;
use crate::store::maps::{EndedItems, saturating_u32, skipped_of};
use crate::types::{MapRow, MapState, Ordinal, Timestamp};

/// For each ended source item in a range, adds an item to an aligned map. Returns the skipped items.
fn feed(
    connection: &mut SqliteConnection,
    row: &mut MapRow,
    source: Ordinal,
    (first, end): (u32, u32),
    now: Timestamp,
) -> Result<Vec<u32>, Fault> {
    let fed: Vec<(i64, i16)> = FeedItems {
        follower: row.task.into(),
        ended_at: now.0,
        execution_id: row.execution.as_bytes(),
        source: source.into(),
        first: first.into(),
        last: i64::from(end) - 1,
    }
    .load(connection)?;
    let skipped = skipped_of(&fed);
    row.count_fed(
        saturating_u32(fed.len() - skipped.len()),
        saturating_u32(skipped.len()),
    );
    Ok(skipped)
}

/// For each ended source item, adds an item to an aligned map. If the source map has ended, records that no more items
/// follow. Returns the skipped items.
pub(super) fn feed_all(
    connection: &mut SqliteConnection,
    row: &mut MapRow,
    now: Timestamp,
) -> Result<Vec<u32>, Fault> {
    let Some(source) = row.source else {
        return Ok(Vec::new());
    };
    let all = (0, row.width);
    let skipped = feed(connection, row, source, all, now)?;
    let of_source = find(connection, row.execution, source)?;
    if of_source.is_some_and(|source| source.state == MapState::Ended) {
        row.end_feed();
    }
    Ok(skipped)
}

/// Adds items to the maps that are aligned with maps whose items have ended. The caller must have written all ends of the
/// batch, so that the counters of each map are complete. Returns the aligned maps that must end now.
pub(super) fn feed_followers(
    connection: &mut SqliteConnection,
    ends: &ItemEnds,
    now: Timestamp,
) -> Result<Vec<MapRow>, Fault> {
    let mut over = Vec::new();
    let mut ended = EndedItems::of(ends);
    for (source, follower) in &ends.feeds {
        let Some(mut row) = find(connection, ends.execution, *follower)? else {
            continue;
        };
        if row.state == MapState::Ended || row.source != Some(*source) {
            continue;
        }
        if ends.is_last && *source == ends.task {
            let skipped = feed_all(connection, &mut row, now)?;
            ended.note(*follower, skipped);
        } else {
            for range in ended.ranges(*source) {
                let skipped = feed(connection, &mut row, *source, range, now)?;
                ended.note(*follower, skipped);
            }
        }
        put(connection, &row)?;
        if row.is_over() {
            over.push(row);
        }
    }
    Ok(over)
}
