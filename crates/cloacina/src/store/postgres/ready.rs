//! Finds, for each queue, some executions with ready tasks. Also finds some executions with due maps.

use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use uuid::Uuid;

use super::driver::Connection;
use super::error::Fault;
use super::session::Session;
use super::statement::query;
use crate::types::{ExecutionId, Timestamp};
use crate::workflow::queue;

// `due` lists the queues with ready tasks that have no due time, and `late` lists the queues with ready tasks that have
// one. Each recursive step looks up the next queue in an index.
query! {
    Ready { now: i64 => BigInt, per_queue: i64 => BigInt, limit: i64 => BigInt, waiting: i64 => BigInt } -> SqlUuid;
    "WITH RECURSIVE due (queue) AS (
         SELECT (SELECT min(queue) FROM cloacina_tasks WHERE state = 1 AND ready_at IS NULL)
         UNION ALL
         SELECT (SELECT min(t.queue) FROM cloacina_tasks AS t WHERE t.state = 1 AND t.ready_at IS NULL AND t.queue > due.queue)
         FROM due WHERE due.queue IS NOT NULL
     ), late (queue) AS (
         SELECT (SELECT min(queue) FROM cloacina_tasks WHERE state = 1 AND ready_at IS NOT NULL)
         UNION ALL
         SELECT (SELECT min(t.queue) FROM cloacina_tasks AS t
             WHERE t.state = 1 AND t.ready_at IS NOT NULL AND t.queue > late.queue)
         FROM late WHERE late.queue IS NOT NULL
     )
     (SELECT m.execution_id FROM cloacina_maps AS m WHERE m.due_at IS NOT NULL AND m.due_at <= $1
     ORDER BY m.priority DESC, m.execution_id, m.ordinal LIMIT $2)
     UNION ALL
     (SELECT f.execution_id FROM due CROSS JOIN LATERAL (
         SELECT t.execution_id FROM cloacina_tasks AS t WHERE t.queue = due.queue AND t.state = 1 AND t.ready_at IS NULL
         ORDER BY t.priority DESC, t.execution_id, t.ordinal LIMIT $2) AS f LIMIT $3)
     UNION ALL
     (SELECT f.execution_id FROM late CROSS JOIN LATERAL (
         SELECT t.execution_id FROM cloacina_tasks AS t WHERE t.queue = late.queue AND t.state = 1
         AND t.ready_at IS NOT NULL AND t.ready_at <= $1 ORDER BY t.ready_at LIMIT $2) AS f WHERE late.queue <> $4 LIMIT $3)"
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
