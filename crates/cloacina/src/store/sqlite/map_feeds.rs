//! Feeds aligned maps: an item of theirs is added when the item of their source has ended (semantics K).

use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::map_reads::find;
use super::map_row::put;
use super::map_rows::FeedItems;
use crate::store::ItemEnds;
use crate::store::maps::{Fed, skipped_of, small};
use crate::types::{MapRow, MapState, Ordinal, Timestamp};

/// Adds items of an aligned map for those of its source in a range that have ended. Returns the skipped ones.
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
    row.count_fed(small(fed.len() - skipped.len()), small(skipped.len()));
    Ok(skipped)
}

/// Adds all items of an aligned map whose elements are there. Returns the skipped ones.
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

/// Feeds the maps that are aligned with one whose items have ended. It is called after all ends of the batch, so that each map's
/// own counters are complete. Returns the maps that end now.
pub(super) fn feed_followers(
    connection: &mut SqliteConnection,
    ends: &ItemEnds,
    now: Timestamp,
) -> Result<Vec<MapRow>, Fault> {
    let mut over = Vec::new();
    let mut fed = Fed::of(ends);
    for (source, follower) in &ends.feeds {
        let Some(mut row) = find(connection, ends.execution, *follower)? else {
            continue;
        };
        if row.state == MapState::Ended || row.source != Some(*source) {
            continue;
        }
        if ends.is_last && *source == ends.task {
            let skipped = feed_all(connection, &mut row, now)?;
            fed.note(*follower, skipped);
        } else {
            for range in fed.ranges(*source) {
                let skipped = feed(connection, &mut row, *source, range, now)?;
                fed.note(*follower, skipped);
            }
        }
        put(connection, &row)?;
        if row.is_over() {
            over.push(row);
        }
    }
    Ok(over)
}
