//! Claims from the tables.

use std::cmp::Reverse;

use super::table::Tables;
use crate::store::{ClaimClass, Claimed, Committed, QueueId};
use crate::types::{ExecutionId, ExecutionStatus, Ordinal, RunnerId, TaskStatus, Timestamp};

type Candidate = (Reverse<i16>, ExecutionId, Ordinal);

/// Claims what the classes ask for, adding to the answer.
pub(super) fn claim(
    tables: &mut Tables,
    classes: &[ClaimClass],
    runner: RunnerId,
    now: Timestamp,
    committed: &mut Committed,
) {
    for class in classes {
        let (mut candidates, next_due) = find(tables, class, now);
        candidates.sort_unstable();
        // A queue may be named twice.
        candidates.dedup();
        committed.more.push(candidates.len() > class.limit);
        committed.next_due = committed.next_due.into_iter().chain(next_due).min();
        for (_, execution, ordinal) in candidates.into_iter().take(class.limit) {
            committed
                .claimed
                .extend(take(tables, execution, ordinal, runner, now));
        }
    }
}

/// What could be claimed now, in no order, and the first time after `now`.
fn find(
    tables: &Tables,
    class: &ClaimClass,
    now: Timestamp,
) -> (Vec<Candidate>, Option<Timestamp>) {
    let allowed = |queue: QueueId, ordinal: Ordinal| !class.excluded.contains(&(queue, ordinal));
    let mut candidates = Vec::new();
    let mut next_due = None;
    for queue in &class.queues {
        let end = QueueId(queue.0 + 1);
        let due = tables
            .due
            .range((*queue, Reverse(i16::MAX), first(), 0)..(end, Reverse(i16::MAX), first(), 0));
        candidates.extend(
            due.filter(|(queue, _, _, ordinal)| allowed(*queue, *ordinal))
                .map(|(_, priority, execution, ordinal)| (*priority, *execution, *ordinal)),
        );
        let waiting = tables.waiting.range(
            (*queue, Timestamp(i64::MIN), first(), 0)..(end, Timestamp(i64::MIN), first(), 0),
        );
        // As a database does it: of those whose time has come, as many as could be taken, by their time.
        let mut wanted = class.limit.saturating_add(1);
        for (_, ready_at, execution, ordinal) in
            waiting.filter(|(queue, _, _, ordinal)| allowed(*queue, *ordinal))
        {
            if *ready_at > now {
                next_due = next_due.into_iter().chain([*ready_at]).min();
                break;
            }
            let queues = tables.executions.get(execution).map(|row| &row.queues);
            if let Some((_, priority)) = queues.and_then(|queues| queues.get(ordinal))
                && wanted > 0
            {
                candidates.push((Reverse(*priority), *execution, *ordinal));
                wanted -= 1;
            }
        }
    }
    (candidates, next_due)
}

/// The lowest id.
const fn first() -> ExecutionId {
    ExecutionId::from_bytes([0; 16])
}

fn take(
    tables: &mut Tables,
    execution: ExecutionId,
    ordinal: Ordinal,
    runner: RunnerId,
    now: Timestamp,
) -> Option<Claimed> {
    let row = tables.executions.get_mut(&execution)?;
    let record = &mut row.record;
    if !matches!(
        record.status,
        ExecutionStatus::Pending | ExecutionStatus::Running
    ) {
        return None;
    }
    let queue = row.queues.get(&ordinal).copied();
    let mut task = record.tasks.get(ordinal as usize)?.clone();
    task.status = TaskStatus::Running;
    task.attempt += 1;
    task.runner = Some(runner);
    task.ready_at = None;
    task.started_at = Some(now);
    record.revision += 1;
    record.status = ExecutionStatus::Running;
    record.started_at.get_or_insert(now);
    let claimed = Claimed {
        execution,
        definition: record.definition,
        ordinal,
        attempt: task.attempt,
        revision: record.revision,
    };
    tables.set_task(execution, ordinal, task, queue);
    Some(claimed)
}
