//! Claims items of maps. Items that are due for another attempt come before new items. New items are claimed in the
//! order of the list (K5, K9).

use diesel::connection::DefaultLoadingMode;
use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::map_reads::find;
use super::map_row::put;
use super::map_rows::{ClaimItem, DueItems, DueMaps, InsertItem, ItemColumns, NextDueMap, records};
use super::row::{Id, count};
use crate::store::{ClaimClass, ClaimedItems, Committed};
use crate::types::{DefinitionId, ItemRecord, MapRow, Ordinal, RunnerId, TaskStatus, Timestamp};

/// Maximum number of maps from which one claim takes items.
const MAPS_PER_CLAIM: usize = 64;

/// Claims items of the maps that have claimable items, in claim order, up to the limits of the classes.
pub(super) fn claim(
    connection: &mut SqliteConnection,
    (classes, free): (&[ClaimClass], &[usize]),
    runner: RunnerId,
    now: Timestamp,
    committed: &mut Committed,
) -> Result<(), Fault> {
    if classes.is_empty() {
        return Ok(());
    }
    let mut left: Vec<usize> = classes.iter().map(|class| class.limit).collect();
    let mut free = free.to_vec();
    free.resize(left.len(), usize::MAX);
    let mut found: Vec<(Id, Ordinal, usize)> = Vec::new();
    let due =
        DueMaps { now: now.0 }.load_iter::<(Id, i64, i64, i64), DefaultLoadingMode>(connection)?;
    for row in due {
        let (execution, ordinal, definition, queue) = row?;
        let ordinal = count("ordinal", ordinal)?;
        let of_class = |class: &&ClaimClass| {
            class.queues.iter().any(|known| known.0 == queue)
                && !class
                    .excluded
                    .contains(&(DefinitionId(definition), ordinal))
        };
        let Some(class) = classes.iter().position(|class| of_class(&class)) else {
            continue;
        };
        if found.len() == MAPS_PER_CLAIM {
            committed.more_items = true;
            break;
        }
        found.push((execution, ordinal, class));
    }
    for (execution, ordinal, class) in found {
        let limit = left.get_mut(class).map_or(0, |left| *left);
        let Some(mut row) = find(connection, execution.into(), ordinal)? else {
            continue;
        };
        if row.is_over() {
            // The last items of an aligned map were skipped. The runner must end the map.
            let items = Vec::new();
            committed.items.push(ClaimedItems { row, items });
            continue;
        }
        let workers = free.get(class).copied().filter(|_| row.parallel.is_some());
        let room = (row.room() as usize)
            .min(limit)
            .min(workers.unwrap_or(limit));
        if room < row.room() as usize {
            committed.more_items = true;
        }
        if room == 0 {
            continue;
        }
        let items = admit(connection, &mut row, room, runner, now)?;
        if items.is_empty() {
            continue;
        }
        if let Some(left) = left.get_mut(class) {
            *left -= items.len();
        }
        if let Some(free) = free.get_mut(class) {
            *free = free.saturating_sub(items.len());
        }
        put(connection, &row)?;
        committed.items.push(ClaimedItems { row, items });
    }
    let next: Vec<Option<i64>> = NextDueMap { now: now.0 }.load(connection)?;
    committed.items_due = next.into_iter().flatten().next().map(Timestamp);
    Ok(())
}

/// Claims up to `room` items of a map. Items that wait for another attempt come before new items. New items of an
/// aligned map already have rows, which are due at time 0.
fn admit(
    connection: &mut SqliteConnection,
    row: &mut MapRow,
    room: usize,
    runner: RunnerId,
    now: Timestamp,
) -> Result<Vec<ItemRecord>, Fault> {
    let execution_id = row.execution.as_bytes();
    let ordinal = row.task.into();
    let mut items = Vec::new();
    if row.waiting() > 0 {
        let mut due: Vec<ItemColumns> = DueItems {
            execution_id,
            ordinal,
            after: 0,
            now: now.0,
            limit: i64::try_from(room).unwrap_or(i64::MAX),
        }
        .load(connection)?;
        if row.source.is_some() && due.len() < room {
            let new: Vec<ItemColumns> = DueItems {
                execution_id,
                ordinal,
                after: -1,
                now: 0,
                limit: i64::try_from(room - due.len()).unwrap_or(i64::MAX),
            }
            .load(connection)?;
            due.extend(new);
        }
        for mut item in records(due)? {
            ClaimItem {
                runner_id: runner.as_bytes(),
                execution_id,
                ordinal,
                item: item.item.into(),
            }
            .execute(connection)?;
            item.status = TaskStatus::Running;
            item.attempt += 1;
            item.runner = Some(runner);
            item.ready_at = None;
            item.started_at = None;
            items.push(item);
        }
    }
    while items.len() < room && row.claimable() > 0 {
        let item = row.admitted;
        InsertItem {
            execution_id,
            ordinal,
            item: item.into(),
            runner_id: runner.as_bytes(),
        }
        .execute(connection)?;
        row.admitted += 1;
        items.push(ItemRecord::claimed(item, runner));
    }
    row.running += u32::try_from(items.len()).unwrap_or(u32::MAX);
    Ok(items)
}
