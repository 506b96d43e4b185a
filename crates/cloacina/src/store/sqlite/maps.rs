//! Writes maps and their items (semantics K). To change a map, this module reads its row, changes the counters with the
//! methods of `MapRow`, and writes the row. The transaction holds the write lock.

use std::collections::HashSet;

use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::map_feeds::{feed_all, feed_followers};
use super::map_reads::find;
use super::map_row::put;
use super::map_rows::{
    CancelItems, DeleteItemSteps, DeleteItems, DeleteSkipped, EndItem, ForgetChildren, HasClaim,
    HoldItems, InsertItemStep, OpenChildren, ReopenItems,
};
use super::row::{Id, encode, micros};
use super::signals;
use crate::store::maps::message_to_child;
use crate::store::{ItemEnds, ItemWrite, MapOutcome, StoreError};
use crate::types::{
    ExecutionId, ItemRecord, Json, MapChange, MapRow, MapState, Note, Ordinal, StepRecord,
    Timestamp,
};

/// Applies the changes of maps that belong to written changes of executions.
pub(super) fn change(
    connection: &mut SqliteConnection,
    changes: &[(ExecutionId, MapChange)],
    applied: &HashSet<ExecutionId>,
    now: Timestamp,
) -> Result<(), Fault> {
    let changes = changes.iter().enumerate();
    for (position, (execution, change)) in changes.filter(|(_, (id, _))| applied.contains(id)) {
        let execution_id = execution.as_bytes();
        let task = match change {
            MapChange::Expand(row) => {
                let ordinal = row.task.into();
                if row.generation > 1 {
                    DeleteItems {
                        execution_id,
                        ordinal,
                    }
                    .execute(connection)?;
                    DeleteItemSteps {
                        execution_id,
                        ordinal,
                    }
                    .execute(connection)?;
                }
                let mut row = (**row).clone();
                feed_all(connection, &mut row, now)?;
                put(connection, &row)?;
                continue;
            }
            MapChange::Tell(task, note) => {
                tell(connection, *execution, *task, note, (now, position))?;
                continue;
            }
            MapChange::Close(task)
            | MapChange::Pause(task)
            | MapChange::Resume(task, _)
            | MapChange::Reopen(task) => *task,
        };
        let Some(mut row) = find(connection, *execution, task)? else {
            continue;
        };
        let ordinal = task.into();
        match change {
            MapChange::Close(_) if row.state != MapState::Ended => {
                cancel_items(connection, &row, now)?;
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
                .execute(connection)?;
                row.state = MapState::Open;
            }
            MapChange::Reopen(_) => {
                DeleteSkipped {
                    execution_id,
                    ordinal,
                }
                .execute(connection)?;
                ReopenItems {
                    ready_at: now.0,
                    execution_id,
                    ordinal,
                }
                .execute(connection)?;
                row.reopen();
                feed_all(connection, &mut row, now)?;
            }
            _ => {}
        }
        put(connection, &row)?;
    }
    Ok(())
}

/// Cancels a map's ready and running items.
fn cancel_items(
    connection: &mut SqliteConnection,
    row: &MapRow,
    now: Timestamp,
) -> Result<(), Fault> {
    CancelItems {
        ended_at: now.0,
        execution_id: row.execution.as_bytes(),
        ordinal: row.task.into(),
    }
    .execute(connection)?;
    Ok(())
}

/// Adds a message to the inbox for each open child of a map's items. If the message is a cancellation, the ends of these
/// children are no longer expected.
fn tell(
    connection: &mut SqliteConnection,
    execution: ExecutionId,
    task: Ordinal,
    note: &Note,
    at: (Timestamp, usize),
) -> Result<(), Fault> {
    let execution_id = execution.as_bytes();
    let ordinal = task.into();
    let children: Vec<Option<Id>> = OpenChildren {
        execution_id,
        ordinal,
    }
    .load(connection)?;
    for child in children.into_iter().flatten() {
        if let Some(message) = message_to_child(execution, task, child.into(), note, at) {
            signals::insert_message(connection, &message)?;
        }
    }
    if matches!(note, Note::Cancel) {
        ForgetChildren {
            execution_id,
            ordinal,
        }
        .execute(connection)?;
    }
    Ok(())
}

/// Applies the ends of items of each map, and feeds the map's aligned maps. `applied` contains the executions
/// whose changes were written.
pub(super) fn end(
    connection: &mut SqliteConnection,
    ends: &[ItemEnds],
    applied: &HashSet<ExecutionId>,
    now: Timestamp,
) -> Result<Vec<MapOutcome>, Fault> {
    let mut outcomes = Vec::with_capacity(ends.len());
    for ends in ends {
        let is_written = applied.contains(&ends.execution);
        outcomes.push(end_of_map(connection, ends, is_written, now)?);
    }
    for (ends, outcome) in ends.iter().zip(&mut outcomes) {
        if outcome.applied {
            outcome.over = feed_followers(connection, ends, now)?;
        }
    }
    Ok(outcomes)
}

fn end_of_map(
    connection: &mut SqliteConnection,
    ends: &ItemEnds,
    is_written: bool,
    now: Timestamp,
) -> Result<MapOutcome, Fault> {
    let row = find(connection, ends.execution, ends.task)?;
    let is_open = |row: &MapRow| row.generation == ends.generation && row.state != MapState::Ended;
    if ends.is_last && !is_written {
        return Ok(MapOutcome {
            row,
            ..MapOutcome::default()
        });
    }
    // If the batch was decided for another generation of the map, the messages about ended children stay in the
    // inbox and are decided again.
    let mut already_applied = HashSet::new();
    if (row.as_ref()).is_none_or(|row| row.generation == ends.generation) {
        for (message, item) in &ends.settled {
            if signals::delete(connection, *message)? == 0 {
                already_applied.insert(*item);
            }
        }
    }
    let Some(mut row) = row.clone().filter(is_open) else {
        return Ok(MapOutcome::not_written(row, ends.is_last)?);
    };
    let mut lost = Vec::new();
    for (claim, step) in &ends.steps {
        if !insert_step(connection, ends, *claim, step)? {
            lost.extend(claim.item);
        }
    }
    let before = row.clone();
    for write in &ends.items {
        let record = write.record_for(&before);
        let is_held_back = write.otherwise.is_some() && !before.may_start();
        let is_written = !already_applied.contains(&write.record.item)
            && end_item(connection, ends, write, record)?;
        if is_written {
            row.count_end(record);
        }
        if !is_written || is_held_back {
            lost.push(write.record.item);
        }
    }
    if row.is_over() != ends.is_last {
        let of_map = |item| (ends.execution, ends.task, item);
        return Err(StoreError::MapMoved(lost.into_iter().map(of_map).collect()).into());
    }
    if ends.is_last {
        if row.waiting() > 0 {
            cancel_items(connection, &row, now)?;
        }
        row.state = MapState::Ended;
    }
    put(connection, &row)?;
    for (child, message) in &ends.posts {
        let of_child = |write: &&ItemWrite| write.record.child == Some(*child);
        let item = ends.items.iter().find(of_child);
        if item.is_some_and(|write| !lost.contains(&write.record.item)) {
            signals::insert_message(connection, message)?;
        }
    }
    Ok(MapOutcome {
        applied: true,
        row: Some(row),
        lost,
        over: Vec::new(),
    })
}

/// Writes an item. Returns `false`, and writes nothing, if the item has another holder.
fn end_item(
    connection: &mut SqliteConnection,
    ends: &ItemEnds,
    write: &ItemWrite,
    record: &ItemRecord,
) -> Result<bool, Fault> {
    let error = record.error.as_ref().map(encode).transpose()?;
    let changed = EndItem {
        state: record.status.code(),
        attempt: record.attempt.into(),
        uncounted: record.uncounted.into(),
        rescues: record.rescues.into(),
        runner_id: (record.runner.as_ref()).map(|runner| runner.as_bytes().as_slice()),
        child_id: (record.child.as_ref()).map(|child| child.as_bytes().as_slice()),
        ready_at: micros(record.ready_at),
        started_at: micros(record.started_at),
        ended_at: micros(record.ended_at),
        result: record.result.as_ref().map(Json::as_str),
        error: error.as_deref(),
        execution_id: ends.execution.as_bytes(),
        ordinal: ends.task.into(),
        item: record.item.into(),
        holder: write.fence.holder().as_bytes(),
        fence_attempt: write.fence.attempt(),
    }
    .execute(connection)?;
    Ok(changed == 1)
}

/// Records a step of a running item. Returns whether the item still has the claim.
fn insert_step(
    connection: &mut SqliteConnection,
    ends: &ItemEnds,
    claim: crate::types::Claim,
    step: &StepRecord,
) -> Result<bool, Fault> {
    let execution_id = ends.execution.as_bytes();
    let ordinal = ends.task.into();
    let item = claim.item.unwrap_or_default().into();
    InsertItemStep {
        key: &step.key,
        position: step.position.into(),
        kind: step.kind.name(),
        attempt: step.attempt.into(),
        started_at: step.started_at.0,
        ended_at: step.ended_at.0,
        value: step.value.as_str(),
        execution_id,
        ordinal,
        item,
        fence_runner: claim.runner.as_bytes(),
        fence_attempt: claim.attempt.into(),
    }
    .execute(connection)?;
    let held: Vec<i64> = HasClaim {
        execution_id,
        ordinal,
        item,
        runner: claim.runner.as_bytes(),
        attempt: claim.attempt.into(),
    }
    .load(connection)?;
    Ok(!held.is_empty())
}

/// Sets the limit on concurrent items of a map. `None` means no limit. Returns `false` if the map has not expanded yet or
/// has ended.
pub(super) fn set_parallel(
    connection: &mut SqliteConnection,
    id: ExecutionId,
    task: Ordinal,
    parallel: Option<u32>,
) -> Result<bool, Fault> {
    let row = find(connection, id, task)?;
    let Some(mut row) = row.filter(|row| row.state != MapState::Ended) else {
        return Ok(false);
    };
    row.parallel = parallel;
    put(connection, &row)?;
    Ok(true)
}
