//! Finds, for each queue, some executions with ready tasks. Also finds some executions with due maps.

use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::Connection;
use super::error::Fault;
use super::session::Session;
use super::statement::query;
use crate::types::{ExecutionId, Timestamp};
use crate::workflow::queue;

// `immediate` lists the queues with tasks that are ready at once (`ready_at` is null). `timed` lists the queues with
// tasks that become ready at a time (`ready_at`). Each recursive step looks up the next queue in an index. The queue
// `queue::WAITING` is excluded, because no worker claims from it: its tasks wait, and their `ready_at` is the time at
// which the engine next checks the wait.
query! {
    Ready { now: i64 => BigInt, per_queue: i64 => BigInt, limit: i64 => BigInt, waiting: i64 => BigInt } -> SqlUuid;
    "WITH RECURSIVE immediate (queue) AS (
         SELECT (SELECT min(queue) FROM cloacina_tasks WHERE state = 1 AND ready_at IS NULL)
         UNION ALL
         SELECT (SELECT min(t.queue) FROM cloacina_tasks AS t
             WHERE t.state = 1 AND t.ready_at IS NULL AND t.queue > immediate.queue)
         FROM immediate WHERE immediate.queue IS NOT NULL
     ), timed (queue) AS (
         SELECT (SELECT min(queue) FROM cloacina_tasks WHERE state = 1 AND ready_at IS NOT NULL)
         UNION ALL
         SELECT (SELECT min(t.queue) FROM cloacina_tasks AS t
             WHERE t.state = 1 AND t.ready_at IS NOT NULL AND t.queue > timed.queue)
         FROM timed WHERE timed.queue IS NOT NULL
     )
     (SELECT m.execution_id FROM cloacina_maps AS m WHERE m.due_at IS NOT NULL AND m.due_at <= $1
     ORDER BY m.priority DESC, m.execution_id, m.ordinal LIMIT $2)
     UNION ALL
     (SELECT f.execution_id FROM immediate CROSS JOIN LATERAL (
         SELECT t.execution_id FROM cloacina_tasks AS t WHERE t.queue = immediate.queue AND t.state = 1
         AND t.ready_at IS NULL ORDER BY t.priority DESC, t.execution_id, t.ordinal LIMIT $2) AS f LIMIT $3)
     UNION ALL
     (SELECT f.execution_id FROM timed CROSS JOIN LATERAL (
         SELECT t.execution_id FROM cloacina_tasks AS t WHERE t.queue = timed.queue AND t.state = 1
         AND t.ready_at IS NOT NULL AND t.ready_at <= $1 ORDER BY t.ready_at LIMIT $2) AS f WHERE timed.queue <> $4 LIMIT $3)"
}

/// See [`Store::ready_executions`](crate::store::Store::ready_executions).
pub(super) async fn executions(
    connection: &Connection,
    session: &Session,
    now: Timestamp,
    per_queue: usize,
    limit: usize,
) -> Result<Vec<ExecutionId>, Fault> {
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let statement = Ready {
        now: now.0,
        per_queue: number(per_queue),
        limit: number(limit),
        waiting: queue::WAITING,
    };
    let found: Vec<Uuid> = session.fetch(connection, statement).await?;
    let mut ids = Vec::new();
    for id in found.into_iter().map(ExecutionId::from) {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids.truncate(limit);
    Ok(ids)
}
