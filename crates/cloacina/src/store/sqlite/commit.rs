//! Commits a batch in one transaction: checks that the runner is alive, then applies schedules, submissions, advances
//! and claims.

use std::collections::HashSet;

use diesel::sql_types::{BigInt, Binary};
use diesel::{RunQueryDsl, SqliteConnection};

use super::claim::{self, ClaimCandidates};
use super::connection::Writer;
use super::error::Fault;
use super::statement::query;
use super::{schedule, write};
use crate::store::{Batch, Committed, SubmitOutcome, TaskWrite};
use crate::types::{ExecutionRecord, RunnerId, TaskStatus};

query! {
    IsAlive<'a> { id: &'a [u8] => Binary } -> BigInt;
    "SELECT 1 FROM cloacina_runners WHERE id = ? AND dead_at IS NULL"
}

pub(super) fn commit(writer: &Writer, batch: &Batch) -> Result<Committed, Fault> {
    let claims = !batch.claim.classes.is_empty();
    let writes =
        !batch.submits.is_empty() || !batch.advances.is_empty() || !batch.schedules.is_empty();
    if !claims && !writes {
        return Ok(Committed::default());
    }
    let connection = &mut *writer.lock()?;
    if !writes {
        // A search for work takes no write lock, which other processes may need. If it finds any, it is repeated under
        // the lock.
        let found = writer.peek(connection, |connection| {
            check_alive(connection, batch.runner)?;
            claim::find(connection, &batch.claim, batch.now)
        })?;
        if found.is_empty() {
            return Ok(claimed_nothing(found));
        }
    }
    writer.write(connection, |connection| {
        if claims || needs_a_live_runner(batch) {
            check_alive(connection, batch.runner)?;
        }
        let mut dropped = HashSet::new();
        let schedules = batch
            .schedules
            .iter()
            .map(|write| schedule::apply(connection, write, batch.now, &mut dropped))
            .collect::<Result<_, _>>()?;
        let submits = batch
            .submits
            .iter()
            .map(|submit| match submit.record.id {
                id if dropped.contains(&id) => Ok(SubmitOutcome::Duplicate(id)),
                _ => write::submit(connection, submit),
            })
            .collect::<Result<_, _>>()?;
        let advances = batch
            .advances
            .iter()
            .map(|advance| write::advance(connection, advance))
            .collect::<Result<_, _>>()?;
        let claimed = if claims {
            let found = claim::find(connection, &batch.claim, batch.now)?;
            claim::take(connection, found, batch.runner)?
        } else {
            Committed::default()
        };
        Ok(Committed {
            schedules,
            submits,
            advances,
            ..claimed
        })
    })
}

fn claimed_nothing(found: ClaimCandidates) -> Committed {
    Committed {
        more: found.more,
        next_due: found.next_due,
        ..Committed::default()
    }
}

fn check_alive(connection: &mut SqliteConnection, runner: RunnerId) -> Result<(), Fault> {
    let alive = IsAlive {
        id: runner.as_bytes(),
    }
    .load::<i64>(connection)?;
    if alive.is_empty() {
        Err(Fault::RunnerLost)
    } else {
        Ok(())
    }
}

/// Returns whether the batch contains a write that only the owner of a claim may make. Control of an execution, and a
/// submission without a claim, need no live runner.
fn needs_a_live_runner(batch: &Batch) -> bool {
    let in_submits = batch
        .submits
        .iter()
        .map(|submit| (submit.record, &submit.tasks));
    let in_advances = batch
        .advances
        .iter()
        .map(|advance| (advance.record, &advance.tasks));
    in_submits.chain(in_advances).any(|(record, tasks)| {
        tasks
            .iter()
            .any(|write| write.fence.is_some() || claims(record, write, batch.runner))
    })
}

fn claims(record: &ExecutionRecord, write: &TaskWrite, runner: RunnerId) -> bool {
    record
        .tasks
        .get(write.ordinal as usize)
        .is_some_and(|task| task.status == TaskStatus::Running && task.runner == Some(runner))
}
