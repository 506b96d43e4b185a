//! Claims items of maps. Items that are due for another attempt come before new items. New items are claimed in the
//! order of the list (K5, K9).

use uuid::Uuid;

use super::driver::{Connection, Statement};
use super::error::Fault;
use super::map_row::put;
use super::map_rows::{
    ClaimItems, DueItems, DueMaps, InsertItems, LockFreeMap, NextDueMap, first_row, records,
};
use super::row::count;
use crate::store::{ClaimClass, ClaimedItems, Committed};
use crate::types::{DefinitionId, ItemRecord, MapRow, RunnerId, TaskStatus, Timestamp};

/// Number of due maps above which a claim reports that more items may be claimable (`more_items`).
const MAPS_PER_CLAIM: usize = 64;

/// Claims items of the maps that have claimable items, in claim order, up to the limits of the classes.
pub(super) async fn claim(
    connection: &Connection,
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
    let due = due_maps(connection, classes, now).await?;
    committed.more_items = due.len() > MAPS_PER_CLAIM;
    for (execution, ordinal, class) in due {
        let limit = left.get_mut(class).map_or(0, |left| *left);
        if limit == 0 {
            committed.more_items = true;
            continue;
        }
        let query = LockFreeMap {
            execution_id: execution,
            ordinal,
        };
        let Some(mut row) = first_row(query.load(connection).await?)? else {
            // Another runner is writing the map.
            committed.more_items = true;
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
        let items = admit(connection, &mut row, room, runner, now).await?;
        if items.is_empty() {
            continue;
        }
        if let Some(left) = left.get_mut(class) {
            *left -= items.len();
        }
        if let Some(free) = free.get_mut(class) {
            *free = free.saturating_sub(items.len());
        }
        put(connection, &row).await?;
        committed.items.push(ClaimedItems { row, items });
    }
    let next: Vec<Option<i64>> = NextDueMap { now: now.0 }.load(connection).await?;
    committed.items_due = next.into_iter().flatten().next().map(Timestamp);
    Ok(())
}

/// Returns maps with items to claim, each with the position of its class. Reads `MAPS_PER_CLAIM` maps and one more, which
/// shows that there are more maps. Reads further maps only if the classes exclude all maps read so far.
async fn due_maps(
    connection: &Connection,
    classes: &[ClaimClass],
    now: Timestamp,
) -> Result<Vec<(Uuid, i64, usize)>, Fault> {
    let queues = classes.iter().flat_map(|class| &class.queues);
    let queues: Vec<i64> = queues.map(|queue| queue.0).collect();
    let mut limit = MAPS_PER_CLAIM + 1;
    loop {
        let query = DueMaps {
            now: now.0,
            queues: queues.clone(),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
        };
        let found: Vec<(Uuid, i64, i64, i64)> = query.load(connection).await?;
        let is_all = found.len() < limit;
        let mut due = Vec::new();
        for (execution, ordinal, definition, queue) in found {
            let task = count("ordinal", ordinal)?;
            let of_class = |class: &ClaimClass| {
                class.queues.iter().any(|known| known.0 == queue)
                    && !class.excluded.contains(&(DefinitionId(definition), task))
            };
            if let Some(class) = classes.iter().position(of_class) {
                due.push((execution, ordinal, class));
            }
        }
        if is_all || !due.is_empty() {
            return Ok(due);
        }
        limit = limit.saturating_mul(8);
    }
}

/// Claims up to `room` items of a map. Items that wait for another attempt come before new items. New items of an
/// aligned map already have rows, which are due at time 0.
async fn admit(
    connection: &Connection,
    row: &mut MapRow,
    room: usize,
    runner: RunnerId,
    now: Timestamp,
) -> Result<Vec<ItemRecord>, Fault> {
    let execution_id = row.execution.uuid();
    let ordinal: i64 = row.task.into();
    let mut items = Vec::new();
    if row.waiting() > 0 {
        let due = DueItems {
            execution_id,
            ordinal,
            after: 0,
            now: now.0,
            limit: i64::try_from(room).unwrap_or(i64::MAX),
        };
        items = records(due.load(connection).await?)?;
        if row.source.is_some() && items.len() < room {
            let new = DueItems {
                execution_id,
                ordinal,
                after: -1,
                now: 0,
                limit: i64::try_from(room - items.len()).unwrap_or(i64::MAX),
            };
            items.extend(records(new.load(connection).await?)?);
        }
        for item in &mut items {
            item.status = TaskStatus::Running;
            item.attempt += 1;
            item.runner = Some(runner);
            item.ready_at = None;
            item.started_at = None;
        }
        if !items.is_empty() {
            ClaimItems {
                runner: runner.uuid(),
                execution_id,
                ordinal,
                items: items.iter().map(|item| item.item.into()).collect(),
            }
            .execute(connection)
            .await?;
        }
    }
    let new = (room - items.len()).min(row.claimable() as usize);
    let new = u32::try_from(new).unwrap_or(u32::MAX);
    if new > 0 {
        let (first, last) = (row.admitted, row.admitted + new - 1);
        InsertItems {
            execution_id,
            ordinal,
            first: first.into(),
            last: last.into(),
            runner: runner.uuid(),
        }
        .execute(connection)
        .await?;
        row.admitted += new;
        items.extend((first..=last).map(|item| ItemRecord::claimed(item, runner)));
    }
    row.running += u32::try_from(items.len()).unwrap_or(u32::MAX);
    Ok(items)
}
