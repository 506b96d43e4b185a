//! Finds and claims ready tasks.

use std::cmp::Reverse;

use diesel::connection::DefaultLoadingMode;
use diesel::sql_types::{BigInt, Binary, SmallInt};
use diesel::{RunQueryDsl, SqliteConnection};
use rustc_hash::{FxHashMap, FxHashSet};

use super::error::Fault;
use super::row::{Id, count};
use super::statement::{query, statement};
use crate::store::{ClaimRequest, Claimed, Committed, QueueId};
use crate::types::{DefinitionId, ExecutionStatus, Ordinal, RunnerId, Timestamp};

// A ready task is undelayed if its `ready_at` is null. Otherwise it is delayed: it is due at `ready_at`, because of a
// retry, a snooze or the delay of its submission.
//
// Each queue is read by a separate statement, in index order and only as far as needed. One statement for all queues
// would sort the whole backlog for each claim. The next two queries return the queues that have undelayed tasks and the
// queues that have delayed tasks, so that a runner with many workflows does not query empty queues. Each recursive step
// looks up the next queue in an index.
query! {
    UndelayedQueues {} -> BigInt;
    "WITH RECURSIVE due (queue) AS (\
     SELECT min(queue) FROM cloacina_tasks WHERE state = 1 AND ready_at IS NULL UNION ALL \
     SELECT (SELECT min(queue) FROM cloacina_tasks WHERE state = 1 AND ready_at IS NULL AND queue > due.queue) \
     FROM due WHERE due.queue IS NOT NULL) SELECT queue FROM due WHERE queue IS NOT NULL"
}

query! {
    DelayedQueues {} -> BigInt;
    "WITH RECURSIVE due (queue) AS (\
     SELECT min(queue) FROM cloacina_tasks WHERE state = 1 AND ready_at IS NOT NULL UNION ALL \
     SELECT (SELECT min(queue) FROM cloacina_tasks WHERE state = 1 AND ready_at IS NOT NULL AND queue > due.queue) \
     FROM due WHERE due.queue IS NOT NULL) SELECT queue FROM due WHERE queue IS NOT NULL"
}

/// Declares the queries for the undelayed and the delayed tasks of a queue. A task's definition is looked up only if
/// the class excludes tasks.
macro_rules! ready_tasks {
    ($undelayed:ident, $delayed:ident, $definition:literal) => {
        query! {
            $undelayed { queue: i64 => BigInt } -> (BigInt, SmallInt, Binary, BigInt, BigInt, BigInt);
            concat!(
                "SELECT 0, priority, execution_id, ordinal, attempt, ",
                $definition,
                " FROM cloacina_tasks AS t INDEXED BY cloacina_tasks_due \
                 WHERE queue = ? AND state = 1 AND ready_at IS NULL ORDER BY priority DESC, execution_id, ordinal"
            )
        }

        query! {
            $delayed { queue: i64 => BigInt, from: i64 => BigInt } -> (BigInt, SmallInt, Binary, BigInt, BigInt, BigInt);
            concat!(
                "SELECT ready_at, priority, execution_id, ordinal, attempt, ",
                $definition,
                " FROM cloacina_tasks AS t INDEXED BY cloacina_tasks_waiting \
                 WHERE queue = ? AND state = 1 AND ready_at >= ? ORDER BY ready_at, execution_id, ordinal"
            )
        }
    };
}

ready_tasks! { UndelayedTasks, DelayedTasks, "0" }
ready_tasks! {
    UndelayedTasksOfDefinitions, DelayedTasksOfDefinitions,
    "(SELECT e.definition_id FROM cloacina_executions AS e WHERE e.id = t.execution_id)"
}

/// A ready task: its due time (0 if undelayed), its priority, its execution, its ordinal, its attempts so far, and its
/// definition (0 if it was not looked up).
type ReadyRow = (i64, i16, Id, i64, i64, i64);

// The updates below have no `RETURNING` clause, because SQLite would create a temporary table for each of them. The transaction
// has read the values before.
query! {
    ClaimableExecution<'a> {
        id: &'a [u8] => Binary,
    } -> (BigInt, BigInt, SmallInt);
    "SELECT revision, definition_id, state FROM cloacina_executions WHERE id = ? AND state IN (0, 1)"
}

statement! {
    /// Claims tasks of an execution that is running already. No index has the revision, so only one page is written.
    ClaimRunningExecution<'a> {
        revision: i64 => BigInt,
        id: &'a [u8] => Binary,
    }
    "UPDATE cloacina_executions SET revision = ? WHERE id = ?"
}

statement! {
    ClaimExecution<'a> {
        revision: i64 => BigInt,
        id: &'a [u8] => Binary,
    }
    "UPDATE cloacina_executions SET revision = ?, state = 1 WHERE id = ?"
}

statement! {
    ClaimTask<'a> {
        attempt: i64 => BigInt,
        runner_id: &'a [u8] => Binary,
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
    }
    "UPDATE cloacina_tasks SET state = 2, attempt = ?, runner_id = ?, ready_at = NULL, started_at = NULL \
     WHERE execution_id = ? AND ordinal = ? AND state = 1"
}

/// A task that can be claimed. The order is the claim order: higher priority, then older execution, then order of
/// declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct ClaimCandidate {
    priority: Reverse<i16>,
    execution: Id,
    ordinal: Ordinal,
    /// The number of attempts so far.
    attempts: u32,
}

/// The tasks that a request can claim.
#[derive(Debug, Default)]
pub(super) struct ClaimCandidates {
    /// The candidates of each class, in claim order.
    classes: Vec<Vec<ClaimCandidate>>,
    /// For each class: whether more tasks than its limit were found.
    pub(super) more: Vec<bool>,
    /// The due time of the next delayed task.
    pub(super) next_due: Option<Timestamp>,
}

impl ClaimCandidates {
    pub(super) fn is_empty(&self) -> bool {
        self.classes.iter().all(Vec::is_empty)
    }
}

/// Finds the tasks that can be claimed. Changes nothing.
pub(super) fn find(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
    now: Timestamp,
) -> Result<ClaimCandidates, Fault> {
    let undelayed_queues: FxHashSet<i64> =
        UndelayedQueues {}.load(connection)?.into_iter().collect();
    let delayed_queues: FxHashSet<i64> = DelayedQueues {}.load(connection)?.into_iter().collect();
    let mut found = ClaimCandidates::default();
    let mut taken = FxHashSet::default();
    for class in &request.classes {
        let excluded = class.excluded.iter().copied().collect();
        let mut search = Search {
            limit: class.limit,
            excluded,
            taken: &taken,
            candidates: Vec::new(),
        };
        for queue in class
            .queues
            .iter()
            .filter(|queue| undelayed_queues.contains(&queue.0))
        {
            search.find_undelayed(connection, *queue)?;
        }
        for queue in class
            .queues
            .iter()
            .filter(|queue| delayed_queues.contains(&queue.0))
        {
            let next = search.find_delayed(connection, *queue, now)?;
            found.next_due = found.next_due.into_iter().chain(next).min();
        }
        let mut candidates = search.candidates;
        candidates.sort_unstable();
        // The class may name a queue twice.
        candidates.dedup();
        found.more.push(candidates.len() > class.limit);
        candidates.truncate(class.limit);
        // Several classes may share a queue.
        taken.extend(candidates.iter().copied());
        found.classes.push(candidates);
    }
    Ok(found)
}

/// The search for tasks of one class.
struct Search<'a> {
    limit: usize,
    excluded: FxHashSet<(DefinitionId, Ordinal)>,
    taken: &'a FxHashSet<ClaimCandidate>,
    candidates: Vec<ClaimCandidate>,
}

impl Search<'_> {
    /// Adds the first undelayed tasks of a queue. Adds one task more than the limit, to learn whether there are more.
    fn find_undelayed(
        &mut self,
        connection: &mut SqliteConnection,
        queue: QueueId,
    ) -> Result<(), Fault> {
        let mut wanted = self.limit.saturating_add(1);
        let queue = queue.0;
        let rows = if self.excluded.is_empty() {
            UndelayedTasks { queue }.load_iter::<ReadyRow, DefaultLoadingMode>(connection)?
        } else {
            UndelayedTasksOfDefinitions { queue }
                .load_iter::<ReadyRow, DefaultLoadingMode>(connection)?
        };
        for row in rows {
            let Some((_, candidate)) = self.allowed(row?)? else {
                continue;
            };
            if !self.taken.contains(&candidate) {
                self.candidates.push(candidate);
                wanted -= 1;
                if wanted == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Adds the first due tasks among the delayed tasks of a queue. Returns the due time of the next delayed task.
    fn find_delayed(
        &mut self,
        connection: &mut SqliteConnection,
        queue: QueueId,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Fault> {
        let mut wanted = self.limit.saturating_add(1);
        let queue = queue.0;
        let mut next = None;
        // If the first pass finds enough tasks, a second pass reads only the first task that is due after `now`.
        for from in [i64::MIN, now.0.saturating_add(1)] {
            let rows = if self.excluded.is_empty() {
                DelayedTasks { queue, from }
                    .load_iter::<ReadyRow, DefaultLoadingMode>(connection)?
            } else {
                DelayedTasksOfDefinitions { queue, from }
                    .load_iter::<ReadyRow, DefaultLoadingMode>(connection)?
            };
            for row in rows {
                let Some((ready_at, candidate)) = self.allowed(row?)? else {
                    continue;
                };
                if ready_at > now {
                    next = Some(ready_at);
                    break;
                }
                if !self.taken.contains(&candidate) {
                    self.candidates.push(candidate);
                    wanted -= 1;
                    if wanted == 0 {
                        break;
                    }
                }
            }
            if wanted > 0 {
                break;
            }
        }
        Ok(next)
    }

    /// Returns the task of a row and its due time. `None` if the class excludes the task.
    fn allowed(&self, row: ReadyRow) -> Result<Option<(Timestamp, ClaimCandidate)>, Fault> {
        let (ready_at, priority, execution, ordinal, attempts, definition) = row;
        let ordinal = count("ordinal", ordinal)?;
        if !self.excluded.is_empty() && self.excluded.contains(&(DefinitionId(definition), ordinal))
        {
            return Ok(None);
        }
        let candidate = ClaimCandidate {
            priority: Reverse(priority),
            execution,
            ordinal,
            attempts: count("attempt", attempts)?,
        };
        Ok(Some((Timestamp(ready_at), candidate)))
    }
}

/// Claims the tasks that `find` returned, in the same transaction.
pub(super) fn take(
    connection: &mut SqliteConnection,
    found: ClaimCandidates,
    runner: RunnerId,
) -> Result<Committed, Fault> {
    // The row of an execution is written only once, for all its claimed tasks.
    let mut claims: FxHashMap<Id, i64> = FxHashMap::default();
    for candidate in found.classes.iter().flatten() {
        *claims.entry(candidate.execution).or_default() += 1;
    }
    let mut executions: FxHashMap<Id, (i64, DefinitionId)> = FxHashMap::default();
    let mut claimed = Vec::new();
    for candidate in found.classes.into_iter().flatten() {
        let ClaimCandidate {
            execution,
            ordinal,
            attempts,
            ..
        } = candidate;
        if let Some(count) = claims.remove(&execution) {
            let id = &execution.0;
            let statement = ClaimableExecution { id };
            // If the query returns no row, the execution is paused or has ended, and its tasks must not be claimed.
            let found = statement.load::<(i64, i64, i16)>(connection)?;
            if let Some((revision, definition, state)) = found.first() {
                executions.insert(execution, (*revision, DefinitionId(*definition)));
                let revision = revision + count;
                if *state == ExecutionStatus::Running.code() {
                    ClaimRunningExecution { revision, id }.execute(connection)?;
                } else {
                    ClaimExecution { revision, id }.execute(connection)?;
                }
            }
        }
        let Some((revision, definition)) = executions.get_mut(&execution) else {
            continue;
        };
        let attempt = attempts + 1;
        let changed = ClaimTask {
            attempt: attempt.into(),
            runner_id: runner.as_bytes(),
            execution_id: &execution.0,
            ordinal: ordinal.into(),
        }
        .execute(connection)?;
        if changed != 1 {
            return Err(Fault::Corrupt(format!(
                "task {ordinal} of execution {} is in the index of ready tasks but is not ready",
                crate::types::ExecutionId::from(execution)
            )));
        }
        *revision += 1;
        claimed.push(Claimed {
            execution: execution.into(),
            definition: *definition,
            ordinal,
            attempt,
            revision: *revision,
        });
    }
    Ok(Committed {
        claimed,
        more: found.more,
        next_due: found.next_due,
        ..Committed::default()
    })
}
