//! Claims tasks. One statement finds and claims the tasks of a claim class.

use std::collections::HashMap;

use diesel::sql_types::{Array, BigInt, Nullable, SmallInt, Uuid as SqlUuid};
use uuid::Uuid;

use super::error::Fault;
use super::row::count;
use super::statement::query;
use crate::store::{ClaimClass, Claimed};
use crate::types::{DefinitionId, Micros, Ordinal, RunnerId, Timestamp};

// `found` reads each queue's index in order, without locks. It reads more tasks than the limit, because another runner
// may be claiming the first ones. `chosen` locks tasks in claim order and skips locked tasks, so it never waits. The
// planner cannot flatten the lateral subquery, because the subquery has its own `FOR UPDATE`. `MATERIALIZED` prevents
// the planner from reordering the expressions or applying a limit twice. Usually no task is excluded, and then the
// check for excluded tasks costs nothing. The runner's row is locked only if `chosen` contains a task, so that a
// statement that claims no task writes nothing.
query! {
    Claim {
        queues: Vec<i64> => Array<BigInt>,
        excluded_definitions: Vec<i64> => Array<BigInt>,
        excluded_ordinals: Vec<i64> => Array<BigInt>,
        window: i64 => BigInt,
        now: i64 => BigInt,
        limit: i64 => BigInt,
        runner: Uuid => SqlUuid,
    } -> (SmallInt, Nullable<SqlUuid>, Nullable<BigInt>, Nullable<BigInt>, Nullable<BigInt>);
    "WITH found AS MATERIALIZED (
         SELECT c.* FROM unnest($1::bigint[]) AS q (queue) CROSS JOIN LATERAL (
             (SELECT t.priority, t.execution_id, t.ordinal FROM cloacina_tasks AS t
             WHERE t.queue = q.queue AND t.state = 1 AND t.ready_at IS NULL
             AND (cardinality($2::bigint[]) = 0 OR NOT EXISTS (
                 SELECT 1 FROM cloacina_executions AS e, unnest($2::bigint[], $3::bigint[]) AS x (definition, ordinal)
                 WHERE e.id = t.execution_id AND x.definition = e.definition_id AND x.ordinal = t.ordinal))
             ORDER BY t.priority DESC, t.execution_id, t.ordinal LIMIT $4::bigint)
             UNION ALL
             (SELECT t.priority, t.execution_id, t.ordinal FROM cloacina_tasks AS t
             WHERE t.queue = q.queue AND t.state = 1 AND t.ready_at IS NOT NULL AND t.ready_at <= $5::bigint
             AND (cardinality($2::bigint[]) = 0 OR NOT EXISTS (
                 SELECT 1 FROM cloacina_executions AS e, unnest($2::bigint[], $3::bigint[]) AS x (definition, ordinal)
                 WHERE e.id = t.execution_id AND x.definition = e.definition_id AND x.ordinal = t.ordinal))
             ORDER BY t.ready_at LIMIT $4::bigint)
         ) AS c ORDER BY c.priority DESC, c.execution_id, c.ordinal LIMIT $4::bigint
     ), chosen AS MATERIALIZED (
         SELECT f.execution_id, f.ordinal FROM found AS f CROSS JOIN LATERAL (
             SELECT 1 FROM cloacina_executions AS e, cloacina_tasks AS t
             WHERE e.id = f.execution_id AND e.state IN (0, 1)
             AND t.execution_id = f.execution_id AND t.ordinal = f.ordinal AND t.state = 1
             AND t.queue = ANY ($1::bigint[]) AND (t.ready_at IS NULL OR t.ready_at <= $5::bigint)
             FOR UPDATE OF e, t SKIP LOCKED
         ) AS l LIMIT $6::bigint
     ), alive AS MATERIALIZED (
         SELECT r.id FROM cloacina_runners AS r WHERE r.id = $7::uuid AND r.dead_at IS NULL
         AND EXISTS (SELECT 1 FROM chosen) FOR SHARE
     ), counted AS MATERIALIZED (
         SELECT execution_id, count(*) AS tasks FROM chosen GROUP BY execution_id
     ), executions AS (
         UPDATE cloacina_executions AS e SET revision = e.revision + c.tasks, state = 1
         FROM counted AS c WHERE e.id = c.execution_id
         RETURNING e.id, e.revision - c.tasks AS revision, e.definition_id
     ), tasks AS (
         UPDATE cloacina_tasks AS t SET state = 2, attempt = t.attempt + 1, runner_id = $7::uuid, ready_at = NULL,
         started_at = NULL FROM chosen AS c
         WHERE t.execution_id = c.execution_id AND t.ordinal = c.ordinal
         RETURNING t.execution_id, t.ordinal, t.attempt, t.priority
     ), waiting AS (
         SELECT min(w.ready_at) AS ready_at FROM unnest($1::bigint[]) AS q (queue) CROSS JOIN LATERAL (
             SELECT t.ready_at FROM cloacina_tasks AS t
             WHERE t.queue = q.queue AND t.state = 1 AND t.ready_at IS NOT NULL AND t.ready_at > $5::bigint
             AND (cardinality($2::bigint[]) = 0 OR NOT EXISTS (
                 SELECT 1 FROM cloacina_executions AS e, unnest($2::bigint[], $3::bigint[]) AS x (definition, ordinal)
                 WHERE e.id = t.execution_id AND x.definition = e.definition_id AND x.ordinal = t.ordinal))
             ORDER BY t.ready_at LIMIT 1
         ) AS w
     ), dead AS MATERIALIZED (
         SELECT cloacina_refuse('ZC001', $7::text) AS refused WHERE NOT EXISTS (SELECT 1 FROM alive)
         AND (EXISTS (SELECT 1 FROM chosen) OR NOT EXISTS (
             SELECT 1 FROM cloacina_runners AS r WHERE r.id = $7::uuid AND r.dead_at IS NULL))
     )
     SELECT 1::smallint, id, revision, definition_id, NULL::bigint FROM executions
     UNION ALL SELECT 2::smallint, execution_id, ordinal, attempt, priority FROM tasks
     UNION ALL SELECT 3::smallint, NULL::uuid, (SELECT count(*) FROM found), (SELECT ready_at FROM waiting),
         (SELECT 0::bigint FROM dead WHERE refused)"
}

/// A row of the answer: the part of the statement that returned the row, an execution, and three numbers.
pub(super) type ClaimRow = (i16, Option<Uuid>, Option<i64>, Option<i64>, Option<i64>);

/// How long a runner waits before it tries skipped tasks again, in microseconds. A task is skipped while another runner
/// writes its execution.
const LOCKED_PAUSE: Micros = 5_000;

const EXECUTION: i16 = 1;
const TASK: i16 = 2;

impl Claim {
    pub(super) fn new(class: &ClaimClass, runner: RunnerId, now: Timestamp) -> Self {
        let limit = i64::try_from(class.limit).unwrap_or(i64::MAX / 8);
        // Reads more tasks than the limit, because other runners may be claiming the first ones.
        let window = if limit == 0 {
            1
        } else {
            limit.saturating_mul(3).saturating_add(16)
        };
        let mut queues: Vec<i64> = class.queues.iter().map(|queue| queue.0).collect();
        queues.sort_unstable();
        queues.dedup();
        let excluded_definitions: Vec<i64> = class
            .excluded
            .iter()
            .map(|(definition, _)| definition.0)
            .collect();
        let excluded_ordinals: Vec<i64> = class
            .excluded
            .iter()
            .map(|(_, ordinal)| (*ordinal).into())
            .collect();
        Self {
            queues,
            excluded_definitions,
            excluded_ordinals,
            window,
            now: now.0,
            limit,
            runner: runner.uuid(),
        }
    }
}

/// The tasks that were claimed for a class.
#[derive(Debug, Default)]
pub(super) struct ClassClaims {
    pub(super) claimed: Vec<Claimed>,
    /// Whether more tasks than the limit were found.
    pub(super) more: bool,
    /// The time at which the next task becomes due, or at which skipped tasks are tried again.
    pub(super) next_due: Option<Timestamp>,
}

/// Builds the claims of a class from the rows of the answer.
pub(super) fn assemble(
    rows: Vec<ClaimRow>,
    limit: usize,
    now: Timestamp,
) -> Result<ClassClaims, Fault> {
    let mut found_count = 0;
    let mut executions: HashMap<Uuid, (i64, i64)> = HashMap::new();
    let mut tasks: Vec<(i64, Uuid, Ordinal, u32)> = Vec::new();
    let mut class = ClassClaims::default();
    for row in rows {
        match row {
            (EXECUTION, Some(id), Some(revision), Some(definition), _) => {
                executions.insert(id, (revision, definition));
            }
            (TASK, Some(id), Some(ordinal), Some(attempt), Some(priority)) => {
                tasks.push((
                    -priority,
                    id,
                    count("ordinal", ordinal)?,
                    count("attempt", attempt)?,
                ));
            }
            (_, _, found, next_due, _) => {
                found_count = usize::try_from(found.unwrap_or_default()).unwrap_or(usize::MAX);
                class.more = found_count > limit;
                class.next_due = next_due.map(Timestamp);
            }
        }
    }
    if tasks.len() < found_count.min(limit) {
        // Some tasks were skipped because another runner is writing their executions. That runner may leave the tasks
        // unclaimed without sending a notification.
        let soon = now + LOCKED_PAUSE;
        class.next_due = Some(class.next_due.map_or(soon, |due| due.min(soon)));
    }
    tasks.sort_unstable();
    for (_, id, ordinal, attempt) in tasks {
        let Some((revision, definition)) = executions.get_mut(&id) else {
            return Err(Fault::Corrupt(format!(
                "task {ordinal} of execution {id} was claimed, but its execution was not updated"
            )));
        };
        *revision += 1;
        class.claimed.push(Claimed {
            execution: id.into(),
            definition: DefinitionId(*definition),
            ordinal,
            attempt,
            revision: *revision,
        });
    }
    Ok(class)
}
