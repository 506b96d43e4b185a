//! Finds some executions with ready tasks for each queue, and some with a due map.

use diesel::sql_types::{BigInt, Binary};
use diesel::{RunQueryDsl, SqliteConnection};

use super::claim::{DelayedQueues, UndelayedQueues};
use super::error::Fault;
use super::row::Id;
use super::statement::query;
use crate::types::{ExecutionId, Timestamp};
use crate::workflow::queue;

query! {
    ReadyUndelayed { queue: i64 => BigInt, limit: i64 => BigInt } -> Binary;
    "SELECT execution_id FROM cloacina_tasks INDEXED BY cloacina_tasks_due \
     WHERE queue = ? AND state = 1 AND ready_at IS NULL ORDER BY priority DESC, execution_id, ordinal LIMIT ?"
}

query! {
    ReadyDelayed { queue: i64 => BigInt, now: i64 => BigInt, limit: i64 => BigInt } -> Binary;
    "SELECT execution_id FROM cloacina_tasks INDEXED BY cloacina_tasks_waiting \
     WHERE queue = ? AND state = 1 AND ready_at IS NOT NULL AND ready_at <= ? ORDER BY ready_at LIMIT ?"
}

query! {
    DueMaps { now: i64 => BigInt, limit: i64 => BigInt } -> Binary;
    "SELECT execution_id FROM cloacina_maps INDEXED BY cloacina_maps_due \
     WHERE due_at IS NOT NULL AND due_at <= ? ORDER BY priority DESC, execution_id, ordinal LIMIT ?"
}

/// See [`Store::ready_executions`](crate::store::Store::ready_executions).
pub(super) fn executions(
    connection: &mut SqliteConnection,
    now: Timestamp,
    per_queue: usize,
    limit: usize,
) -> Result<Vec<ExecutionId>, Fault> {
    let most = i64::try_from(per_queue).unwrap_or(i64::MAX);
    let mut ids = Vec::new();
    let mut add = |found: Vec<Id>| {
        for id in found.into_iter().map(ExecutionId::from) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        ids.len() < limit
    };
    let maps = DueMaps {
        now: now.0,
        limit: most,
    };
    let mut has_room = add(maps.load(connection)?);
    let undelayed: Vec<i64> = UndelayedQueues {}.load(connection)?;
    for queue in undelayed {
        if !has_room {
            break;
        }
        has_room = add(ReadyUndelayed { queue, limit: most }.load(connection)?);
    }
    let delayed: Vec<i64> = DelayedQueues {}.load(connection)?;
    // No worker claims from `queue::WAITING`: its tasks wait, and their `ready_at` is the time at which the engine next
    // checks the wait.
    for queue in delayed.into_iter().filter(|queue| *queue != queue::WAITING) {
        if !has_room {
            break;
        }
        let statement = ReadyDelayed {
            queue,
            now: now.0,
            limit: most,
        };
        has_room = add(statement.load(connection)?);
    }
    ids.truncate(limit);
    Ok(ids)
}
