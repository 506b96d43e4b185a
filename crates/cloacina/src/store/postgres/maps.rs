//! Writes maps and their items (semantics K). To change a map, this module locks its row, changes the counters with the
//! methods of `MapRow`, and writes the row.
//!
//! Maps are locked after executions. A claim skips locked maps, so that it never waits for another runner.

use std::collections::HashSet;

use uuid::Uuid;

use super::driver::{Connection, Statement};
use super::error::Fault;
use super::inbox;
use super::map_feeds::{feed_all, feed_followers};
use super::map_row::{lock, micros, put};
use super::map_rows::{
    CancelItems, DeleteItemSteps, DeleteItems, DeleteSkipped, EndItems, ForgetChildren, HoldItems,
    InsertItemSteps, IsAlive, OpenChildren, ReopenItems,
};
use super::row::encode;
use super::session::Session;
use crate::store::maps::message_to_child;
use crate::store::{Batch, ItemEnds, MapOutcome, StoreError};
use crate::types::{
    ExecutionId, ItemRecord, MapChange, MapRow, MapState, Note, Ordinal, Timestamp,
};

/// Applies the writes of a batch that concern maps, in the open transaction. `applied` contains the executions whose
/// changes were written.
pub(super) async fn apply(
    connection: &Connection,
    batch: &Batch<'_>,
    applied: &HashSet<ExecutionId>,
) -> Result<Vec<MapOutcome>, Fault> {
    let maps = &batch.flow.maps;
    if maps.is_empty() {
        return Ok(Vec::new());
    }
    if maps.needs_live_runner() {
        let query = IsAlive {
            id: batch.runner.uuid(),
        };
        let alive: Vec<i64> = query.load(connection).await?;
        if alive.is_empty() {
            return Err(Fault::RunnerLost);
        }
    }
    lock_all(connection, batch, applied).await?;
    change(connection, batch, applied).await?;
    let mut order: Vec<usize> = (0..maps.ends.len()).collect();
    order.sort_unstable_by_key(|index| (maps.ends[*index].execution, maps.ends[*index].task));
    let mut outcomes = vec![MapOutcome::default(); maps.ends.len()];
    for index in order {
        let ends = &maps.ends[index];
        outcomes[index] = end_of_map(
            connection,
            ends,
            applied.contains(&ends.execution),
            batch.now,
        )
        .await?;
    }
    for (ends, outcome) in maps.ends.iter().zip(&mut outcomes) {
        if outcome.applied {
            outcome.over = feed_followers(connection, ends, batch.now).await?;
        }
    }
    Ok(outcomes)
}

/// Locks the maps that the batch changes. All runners use the same order, so that no deadlock occurs. A statement that
/// runs after a map is locked sees what earlier holders of the lock have written, e.g. the children that they started.
async fn lock_all(
    connection: &Connection,
    batch: &Batch<'_>,
    applied: &HashSet<ExecutionId>,
) -> Result<(), Fault> {
    let maps = &batch.flow.maps;
    let changes = maps.changes.iter().filter(|(id, _)| applied.contains(id));
    let mut keys: Vec<(ExecutionId, Ordinal)> = changes
        .flat_map(|(id, change)| locked_by(change).into_iter().map(|task| (*id, task)))
        .collect();
    if keys.is_empty() && maps.ends.iter().all(|ends| ends.feeds.is_empty()) {
        // Nothing to lock in advance: `end_of_map` locks each map before it applies the map's ends, in the same order.
        return Ok(());
    }
    for ends in &maps.ends {
        keys.push((ends.execution, ends.task));
        let followers = ends.feeds.iter().map(|(_, follower)| *follower);
        keys.extend(followers.map(|follower| (ends.execution, follower)));
    }
    keys.sort_unstable();
    keys.dedup();
    for (execution, task) in keys {
        lock(connection, execution, task).await?;
    }
    Ok(())
}

/// Returns the tasks whose maps must be locked for a change. A map that expands for the first time has no row to lock
/// yet. The source of an aligned map is locked too, so that no end of a source item is missed.
fn locked_by(change: &MapChange) -> Vec<Ordinal> {
    match change {
        MapChange::Expand(row) => {
            let own = (row.generation > 1).then_some(row.task);
            own.into_iter().chain(row.source).collect()
        }
        MapChange::Close(task)
        | MapChange::Pause(task)
        | MapChange::Resume(task, _)
        | MapChange::Reopen(task)
        | MapChange::Tell(task, _) => vec![*task],
    }
}

/// Applies the changes of maps that belong to written changes of executions.
pub(super) async fn change(
    connection: &Connection,
    batch: &Batch<'_>,
    applied: &HashSet<ExecutionId>,
) -> Result<(), Fault> {
    let changes = batch.flow.maps.changes.iter();
    let changes = changes.enumerate();
    for (position, (execution, change)) in changes.filter(|(_, (id, _))| applied.contains(id)) {
        apply_change(connection, *execution, change, (batch.now, position)).await?;
    }
    Ok(())
}

/// Cancels a map's ready and running items.
async fn cancel_items(connection: &Connection, row: &MapRow, now: Timestamp) -> Result<(), Fault> {
    CancelItems {
        ended_at: now.0,
        execution_id: row.execution.uuid(),
        ordinal: row.task.into(),
    }
    .execute(connection)
    .await?;
    Ok(())
}

/// Adds a message to the inbox for each open child of a map's items. If the message is a cancellation, the ends of these
/// children are no longer expected.
async fn tell(
    connection: &Connection,
    execution: ExecutionId,
    task: Ordinal,
    note: &Note,
    at: (Timestamp, usize),
) -> Result<(), Fault> {
    let execution_id = execution.uuid();
    let ordinal = task.into();
    let open = OpenChildren {
        execution_id,
        ordinal,
    };
    let children: Vec<Option<Uuid>> = open.load(connection).await?;
    let children = children.into_iter().flatten();
    let messages: Vec<_> = children
        .filter_map(|child| message_to_child(execution, task, child.into(), note, at))
        .collect();
    inbox::insert(connection, &messages).await?;
    if matches!(note, Note::Cancel) {
        ForgetChildren {
            execution_id,
            ordinal,
        }
        .execute(connection)
        .await?;
    }
    Ok(())
}

async fn apply_change(
    connection: &Connection,
    execution: ExecutionId,
    change: &MapChange,
    (now, position): (Timestamp, usize),
) -> Result<(), Fault> {
    let execution_id = execution.uuid();
    let task = match change {
        MapChange::Expand(row) => {
            let ordinal = row.task.into();
            if row.generation > 1 {
                DeleteItems {
                    execution_id,
                    ordinal,
                }
                .execute(connection)
                .await?;
                DeleteItemSteps {
                    execution_id,
                    ordinal,
                }
                .execute(connection)
                .await?;
            }
            let mut row = (**row).clone();
            feed_all(connection, &mut row, now).await?;
            return put(connection, &row).await;
        }
        MapChange::Tell(task, note) => {
            return tell(connection, execution, *task, note, (now, position)).await;
        }
        MapChange::Close(task)
        | MapChange::Pause(task)
        | MapChange::Resume(task, _)
        | MapChange::Reopen(task) => *task,
    };
    let Some(mut row) = lock(connection, execution, task).await? else {
        return Ok(());
    };
    let ordinal = task.into();
    match change {
        MapChange::Close(_) if row.state != MapState::Ended => {
            cancel_items(connection, &row, now).await?;
            row.running = 0;
            row.state = MapState::Ended;
        }
        MapChange::Pause(_) if row.state == MapState::Open => row.state = MapState::Paused,
        MapChange::Resume(_, pause) if row.state == MapState::Paused => {
            HoldItems {
                held: pause.held,
                execution_id,
                ordinal,
                since: pause.since.0,
            }
            .execute(connection)
            .await?;
            row.state = MapState::Open;
        }
        MapChange::Reopen(_) => {
            DeleteSkipped {
                execution_id,
                ordinal,
            }
            .execute(connection)
            .await?;
            ReopenItems {
                ready_at: now.0,
                execution_id,
                ordinal,
            }
            .execute(connection)
            .await?;
            row.reopen();
            feed_all(connection, &mut row, now).await?;
        }
        _ => {}
    }
    put(connection, &row).await
}

async fn end_of_map(
    connection: &Connection,
    ends: &ItemEnds,
    is_written: bool,
    now: Timestamp,
) -> Result<MapOutcome, Fault> {
    let row = lock(connection, ends.execution, ends.task).await?;
    let is_open = |row: &MapRow| row.generation == ends.generation && row.state != MapState::Ended;
    if ends.is_last && !is_written {
        return Ok(MapOutcome {
            row,
            ..MapOutcome::default()
        });
    }
    // If the batch was decided for another generation of the map, the messages stay in the inbox and are decided again.
    let mut already_applied = HashSet::new();
    if (row.as_ref()).is_none_or(|row| row.generation == ends.generation) {
        let settled = || ends.settled.iter().map(|(message, _)| *message);
        let found = inbox::lock(connection, settled()).await?;
        let gone = (ends.settled.iter()).filter(|(message, _)| !found.contains(message));
        already_applied.extend(gone.map(|(_, item)| *item));
        inbox::delete(connection, settled()).await?;
    }
    let Some(mut row) = row.clone().filter(is_open) else {
        return Ok(MapOutcome::not_written(row, ends.is_last)?);
    };
    let mut lost = insert_steps(connection, ends).await?;
    let records: Vec<&ItemRecord> = (ends.items.iter())
        .map(|write| write.record_for(&row))
        .collect();
    let may_start = row.may_start();
    let ended = end_items(connection, ends, &records, &already_applied).await?;
    for (write, record) in ends.items.iter().zip(records) {
        let is_written = ended.contains(&i64::from(record.item));
        if is_written {
            row.count_end(record);
        }
        if !is_written || (write.otherwise.is_some() && !may_start) {
            lost.push(record.item);
        }
    }
    if row.is_over() != ends.is_last {
        let of_map = |item| (ends.execution, ends.task, item);
        return Err(StoreError::MapMoved(lost.into_iter().map(of_map).collect()).into());
    }
    if ends.is_last {
        if row.waiting() > 0 {
            cancel_items(connection, &row, now).await?;
        }
        row.state = MapState::Ended;
    }
    put(connection, &row).await?;
    let is_started = |child: ExecutionId| {
        let mut items = ends.items.iter();
        let item = items.find(|write| write.record.child == Some(child));
        item.is_some_and(|write| !lost.contains(&write.record.item))
    };
    let posts = ends.posts.iter().filter(|(child, _)| is_started(*child));
    inbox::insert(connection, posts.map(|(_, message)| message)).await?;
    Ok(MapOutcome {
        applied: true,
        row: Some(row),
        lost,
        over: Vec::new(),
    })
}

async fn end_items(
    connection: &Connection,
    ends: &ItemEnds,
    records: &[&ItemRecord],
    already_applied: &HashSet<u32>,
) -> Result<HashSet<i64>, Fault> {
    if ends.items.is_empty() {
        return Ok(HashSet::new());
    }
    let mut update = EndItems {
        execution_id: ends.execution.uuid(),
        ordinal: ends.task.into(),
        ..EndItems::default()
    };
    let items = ends.items.iter().zip(records);
    for (write, record) in items.filter(|(_, record)| !already_applied.contains(&record.item)) {
        update.items.push(record.item.into());
        update.states.push(record.status.code());
        update.attempts.push(record.attempt.into());
        update.uncounted.push(record.uncounted.into());
        update.rescues.push(record.rescues.into());
        update
            .runners
            .push(record.runner.map(|runner| runner.uuid()));
        update.children.push(record.child.map(|child| child.uuid()));
        update.ready_at.push(micros(record.ready_at));
        update.started_at.push(micros(record.started_at));
        update.ended_at.push(micros(record.ended_at));
        let result = record.result.as_ref();
        update
            .results
            .push(result.map(|result| result.as_str().to_owned()));
        update
            .errors
            .push(record.error.as_ref().map(encode).transpose()?);
        update.holders.push(write.fence.holder());
        update.fence_attempts.push(write.fence.attempt());
    }
    let ended: Vec<i64> = update.load(connection).await?;
    Ok(ended.into_iter().collect())
}

/// Records steps of running items. Returns the items whose claim was lost.
async fn insert_steps(connection: &Connection, ends: &ItemEnds) -> Result<Vec<u32>, Fault> {
    if ends.steps.is_empty() {
        return Ok(Vec::new());
    }
    let mut insert = InsertItemSteps {
        execution_id: ends.execution.uuid(),
        ordinal: ends.task.into(),
        ..InsertItemSteps::default()
    };
    for (claim, step) in &ends.steps {
        insert.items.push(claim.item.unwrap_or_default().into());
        insert.keys.push(step.key.clone());
        insert.positions.push(step.position.into());
        insert.kinds.push(step.kind.name().to_owned());
        insert.attempts.push(step.attempt.into());
        insert.started_at.push(step.started_at.0);
        insert.ended_at.push(step.ended_at.0);
        insert.values.push(step.value.as_str().to_owned());
        insert.runners.push(claim.runner.uuid());
        insert.fences.push(claim.attempt.into());
    }
    let held: Vec<i64> = insert.load(connection).await?;
    let held: HashSet<i64> = held.into_iter().collect();
    let items = ends.steps.iter().filter_map(|(claim, _)| claim.item);
    Ok(items
        .filter(|item| !held.contains(&i64::from(*item)))
        .collect())
}

/// Sets the limit on concurrent items of a map. `None` means no limit. Returns `false` if the map has not expanded yet or
/// has ended.
pub(super) async fn set_parallel(
    connection: &Connection,
    session: &Session,
    id: ExecutionId,
    task: Ordinal,
    parallel: Option<u32>,
) -> Result<bool, Fault> {
    connection.batch_execute(session.begin()).await?;
    let row = lock(connection, id, task).await?;
    let Some(mut row) = row.filter(|row| row.state != MapState::Ended) else {
        connection.batch_execute("ROLLBACK").await?;
        return Ok(false);
    };
    row.parallel = parallel;
    put(connection, &row).await?;
    connection.batch_execute("COMMIT").await?;
    Ok(true)
}
