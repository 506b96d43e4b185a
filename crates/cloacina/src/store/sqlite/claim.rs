//! Claims: which tasks a runner may have, and taking them.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use diesel::connection::DefaultLoadingMode;
use diesel::sql_types::{BigInt, Binary, SmallInt};
use diesel::{RunQueryDsl, SqliteConnection};

use super::error::Fault;
use super::row::{Id, count};
use super::statement::query;
use crate::store::{ClaimClass, ClaimRequest, Claimed, Committed, QueueId};
use crate::types::{DefinitionId, Ordinal, RunnerId, Timestamp};

// Each queue is read by a statement of its own, in the order of its index and only as far as needed: one statement over
// all queues would sort the whole backlog at each claim. These two tell which queues have anything at all, by jumping
// from one to the next in the index, so that a runner with many workflows does not ask each in vain.
query! {
    DueQueues {} -> BigInt;
    "WITH RECURSIVE due (queue) AS (\
     SELECT min(queue) FROM cloacina_tasks WHERE state = 1 AND ready_at IS NULL UNION ALL \
     SELECT (SELECT min(queue) FROM cloacina_tasks WHERE state = 1 AND ready_at IS NULL AND queue > due.queue) \
     FROM due WHERE due.queue IS NOT NULL) SELECT queue FROM due WHERE queue IS NOT NULL"
}

query! {
    WaitingQueues {} -> BigInt;
    "WITH RECURSIVE due (queue) AS (\
     SELECT min(queue) FROM cloacina_tasks WHERE state = 1 AND ready_at IS NOT NULL UNION ALL \
     SELECT (SELECT min(queue) FROM cloacina_tasks WHERE state = 1 AND ready_at IS NOT NULL AND queue > due.queue) \
     FROM due WHERE due.queue IS NOT NULL) SELECT queue FROM due WHERE queue IS NOT NULL"
}

query! {
    DueTasks { queue: i64 => BigInt } -> (SmallInt, Binary, BigInt);
    "SELECT priority, execution_id, ordinal FROM cloacina_tasks INDEXED BY cloacina_tasks_due \
     WHERE queue = ? AND state = 1 AND ready_at IS NULL ORDER BY priority DESC, execution_id, ordinal"
}

query! {
    WaitingTasks { queue: i64 => BigInt, from: i64 => BigInt } -> (BigInt, SmallInt, Binary, BigInt);
    "SELECT ready_at, priority, execution_id, ordinal FROM cloacina_tasks INDEXED BY cloacina_tasks_waiting \
     WHERE queue = ? AND state = 1 AND ready_at >= ? \
     ORDER BY ready_at, execution_id, ordinal"
}

query! {
    ClaimExecution<'a> {
        claims: i64 => BigInt,
        started_at: i64 => BigInt,
        id: &'a [u8] => Binary,
    } -> (BigInt, BigInt);
    "UPDATE cloacina_executions SET revision = revision + ?, state = 1, started_at = COALESCE(started_at, ?) \
     WHERE id = ? AND state IN (0, 1) RETURNING revision, definition_id"
}

query! {
    ClaimTask<'a> {
        runner_id: &'a [u8] => Binary,
        started_at: i64 => BigInt,
        execution_id: &'a [u8] => Binary,
        ordinal: i64 => BigInt,
    } -> BigInt;
    "UPDATE cloacina_tasks SET state = 2, attempt = attempt + 1, runner_id = ?, ready_at = NULL, started_at = ? \
     WHERE execution_id = ? AND ordinal = ? AND state = 1 RETURNING attempt"
}

/// A task that may be claimed, in the order of claims: higher priority, then older execution, then declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Candidate {
    priority: Reverse<i16>,
    execution: Id,
    ordinal: Ordinal,
}

/// What a request finds.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Per class, in the order of claims.
    classes: Vec<Vec<Candidate>>,
    pub(super) more: Vec<bool>,
    pub(super) next_due: Option<Timestamp>,
}

impl Found {
    pub(super) fn is_empty(&self) -> bool {
        self.classes.iter().all(Vec::is_empty)
    }
}

/// Looks up what may be claimed, without changing anything.
pub(super) fn find(
    connection: &mut SqliteConnection,
    request: &ClaimRequest,
    now: Timestamp,
) -> Result<Found, Fault> {
    let due_queues: HashSet<i64> = DueQueues {}.load(connection)?.into_iter().collect();
    let waiting_queues: HashSet<i64> = WaitingQueues {}.load(connection)?.into_iter().collect();
    let mut found = Found::default();
    let mut taken = HashSet::new();
    for class in &request.classes {
        let mut candidates = Vec::new();
        for queue in class
            .queues
            .iter()
            .filter(|queue| due_queues.contains(&queue.0))
        {
            find_due(connection, class, *queue, &taken, &mut candidates)?;
        }
        for queue in class
            .queues
            .iter()
            .filter(|queue| waiting_queues.contains(&queue.0))
        {
            let next = find_waiting(connection, class, *queue, now, &taken, &mut candidates)?;
            found.next_due = found.next_due.into_iter().chain(next).min();
        }
        candidates.sort_unstable();
        // A queue may be named twice.
        candidates.dedup();
        found.more.push(candidates.len() > class.limit);
        candidates.truncate(class.limit);
        // Two classes may share a queue.
        taken.extend(candidates.iter().copied());
        found.classes.push(candidates);
    }
    Ok(found)
}

/// Adds the first due tasks of a queue: one more than can be taken, to know whether there are more.
fn find_due(
    connection: &mut SqliteConnection,
    class: &ClaimClass,
    queue: QueueId,
    taken: &HashSet<Candidate>,
    candidates: &mut Vec<Candidate>,
) -> Result<(), Fault> {
    let mut wanted = class.limit.saturating_add(1);
    let rows =
        DueTasks { queue: queue.0 }.load_iter::<(i16, Id, i64), DefaultLoadingMode>(connection)?;
    for row in rows {
        let (priority, execution, ordinal) = row?;
        let candidate = Candidate {
            priority: Reverse(priority),
            execution,
            ordinal: count("ordinal", ordinal)?,
        };
        if !class.excluded.contains(&(queue, candidate.ordinal)) && !taken.contains(&candidate) {
            candidates.push(candidate);
            wanted -= 1;
            if wanted == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Adds the first tasks of a queue whose time has come, and returns when the time of the next comes.
fn find_waiting(
    connection: &mut SqliteConnection,
    class: &ClaimClass,
    queue: QueueId,
    now: Timestamp,
    taken: &HashSet<Candidate>,
    candidates: &mut Vec<Candidate>,
) -> Result<Option<Timestamp>, Fault> {
    let mut wanted = class.limit.saturating_add(1);
    let mut next = None;
    // Past the tasks that are wanted, only the first one after `now` counts.
    for from in [i64::MIN, now.0.saturating_add(1)] {
        let rows = WaitingTasks {
            queue: queue.0,
            from,
        }
        .load_iter::<(i64, i16, Id, i64), DefaultLoadingMode>(connection)?;
        for row in rows {
            let (ready_at, priority, execution, ordinal) = row?;
            let candidate = Candidate {
                priority: Reverse(priority),
                execution,
                ordinal: count("ordinal", ordinal)?,
            };
            if class.excluded.contains(&(queue, candidate.ordinal)) {
                continue;
            }
            if ready_at > now.0 {
                next = Some(Timestamp(ready_at));
                break;
            }
            if !taken.contains(&candidate) {
                candidates.push(candidate);
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

/// Takes what was found, in the same transaction.
pub(super) fn take(
    connection: &mut SqliteConnection,
    found: Found,
    runner: RunnerId,
    now: Timestamp,
) -> Result<Committed, Fault> {
    // An execution's row is written once, however many of its tasks are taken.
    let mut claims: HashMap<Id, i64> = HashMap::new();
    for candidate in found.classes.iter().flatten() {
        *claims.entry(candidate.execution).or_default() += 1;
    }
    let mut executions: HashMap<Id, (i64, DefinitionId)> = HashMap::with_capacity(claims.len());
    let mut claimed = Vec::new();
    for candidate in found.classes.into_iter().flatten() {
        let Candidate {
            execution, ordinal, ..
        } = candidate;
        if let Some(count) = claims.remove(&execution) {
            let statement = ClaimExecution {
                claims: count,
                started_at: now.0,
                id: &execution.0,
            };
            // No row: the execution is held or over. Nothing of it is ready then; such a row is nobody's to claim.
            if let Some((revision, definition)) = statement.load::<(i64, i64)>(connection)?.first()
            {
                executions.insert(execution, (revision - count, DefinitionId(*definition)));
            }
        }
        let Some((revision, definition)) = executions.get_mut(&execution) else {
            continue;
        };
        let statement = ClaimTask {
            runner_id: runner.as_bytes(),
            started_at: now.0,
            execution_id: &execution.0,
            ordinal: ordinal.into(),
        };
        let attempts: Vec<i64> = statement.load(connection)?;
        let Some(attempt) = attempts.first() else {
            return Err(Fault::Corrupt(format!(
                "task {ordinal} of execution {} is in the index of ready tasks and is not ready",
                crate::types::ExecutionId::from(execution)
            )));
        };
        *revision += 1;
        claimed.push(Claimed {
            execution: execution.into(),
            definition: *definition,
            ordinal,
            attempt: count("attempt", *attempt)?,
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
