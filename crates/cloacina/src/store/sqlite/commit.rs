//! Commits a batch in one transaction: checks that the runner is alive, then applies schedules, submissions, advances,
//! the writes of children, maps and waits, and claims.

use std::collections::HashSet;

use diesel::sql_types::{BigInt, Binary};
use diesel::{RunQueryDsl, SqliteConnection};

use super::claim::{self, ClaimCandidates};
use super::connection::Writer;
use super::error::Fault;
use super::statement::query;
use super::{children, ends, map_claims, maps, schedule, waits, write};
use crate::store::maps::started;
use crate::store::{Batch, Committed, SubmitOutcome};
use crate::types::{ExecutionId, RunnerId};

query! {
    /// Returns one row if the runner was not declared dead. The row also tells whether any trigger fires at the end
    /// of executions, which saves a second statement.
    IsAlive<'a> { id: &'a [u8] => Binary } -> BigInt;
    "SELECT EXISTS (SELECT 1 FROM cloacina_follows) FROM cloacina_runners WHERE id = ? AND dead_at IS NULL"
}

pub(super) fn commit(writer: &Writer, batch: &Batch) -> Result<Committed, Fault> {
    let claims = !batch.claim.classes.is_empty();
    let writes = !batch.submits.is_empty()
        || !batch.advances.is_empty()
        || !batch.schedules.is_empty()
        || !batch.flow.maps.is_empty();
    if !claims && !writes {
        return Ok(Committed::default());
    }
    let connection = &mut *writer.lock()?;
    if !writes {
        // A search for work takes no write lock, because other processes may need the lock. If the search finds work,
        // it is repeated with the lock.
        let candidates = writer.peek(connection, |connection| {
            check_alive(connection, batch.runner)?;
            claim::find(connection, &batch.claim, batch.now)
        })?;
        if candidates.is_empty() {
            return Ok(claimed_nothing(candidates));
        }
    }
    writer.write(connection, |connection| {
        let mut has_followers = None;
        if claims || batch.needs_live_runner() {
            has_followers = Some(check_alive(connection, batch.runner)?);
        }
        let mut dropped = HashSet::new();
        let schedules = batch
            .schedules
            .iter()
            .map(|write| schedule::apply(connection, write, batch.now, &mut dropped))
            .collect::<Result<_, _>>()?;
        let mut submits = batch
            .submits
            .iter()
            .map(|submit| match submit.record.id {
                id if dropped.contains(&id) || batch.source_of(submit).is_some() => {
                    Ok(SubmitOutcome::Duplicate(id))
                }
                _ => write::submit(connection, submit),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let stale = waits::applied_elsewhere(connection, &batch.flow)?;
        let mut advances = batch
            .advances
            .iter()
            .map(|advance| match advance.requires {
                [] if !stale.contains(&advance.record.id) => write::advance(connection, advance),
                _ => Ok(false),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut of_maps = Committed::default();
        // Most batches do not need the set of written executions.
        let tells_triggers = !batch.flow.ends.is_empty() && has_followers != Some(false);
        let mut applied = if batch.flow.is_empty() && !tells_triggers {
            HashSet::new()
        } else {
            applied(batch, &submits, &advances)
        };
        advance_parents(connection, batch, &stale, &mut advances, &mut applied)?;
        let due = if batch.flow.is_empty() {
            Vec::new()
        } else {
            let none = HashSet::new();
            children::submit(connection, batch, &mut submits, &mut applied, &none)?;
            let maps = &batch.flow.maps;
            maps::change(connection, &maps.changes, &applied, batch.now)?;
            of_maps.maps = maps::end(connection, &maps.ends, &applied, batch.now)?;
            let started = started(&maps.ends, &of_maps.maps);
            if !started.is_empty() {
                let before = applied.clone();
                children::submit(connection, batch, &mut submits, &mut applied, &started)?;
                let new = applied.difference(&before).copied().collect();
                maps::change(connection, &maps.changes, &new, batch.now)?;
            }
            map_claims::claim(
                connection,
                (&maps.claim, &maps.free),
                batch.runner,
                batch.now,
                &mut of_maps,
            )?;
            waits::apply(connection, &batch.flow, &applied, batch.now)?
        };
        ends::note(connection, &batch.flow.ends, &applied, has_followers)?;
        let claimed = if claims {
            let candidates = claim::find(connection, &batch.claim, batch.now)?;
            claim::take(connection, candidates, batch.runner)?
        } else {
            Committed::default()
        };
        Ok(Committed {
            schedules,
            submits,
            advances,
            due,
            claimed: claimed.claimed,
            more: claimed.more,
            next_due: claimed.next_due,
            ..of_maps
        })
    })
}

/// Writes the changes of parents that are caused by the ends of their children (`requires`). Writes such a change only
/// if the changes of all these children were written and the parent is not in `stale`.
fn advance_parents(
    connection: &mut SqliteConnection,
    batch: &Batch,
    stale: &HashSet<ExecutionId>,
    advances: &mut [bool],
    applied: &mut HashSet<ExecutionId>,
) -> Result<(), Fault> {
    for index in batch.dependents() {
        let advance = &batch.advances[index];
        let is_due = advance.requires.iter().all(|id| applied.contains(id));
        if is_due && !stale.contains(&advance.record.id) {
            advances[index] = write::advance(connection, advance)?;
            applied.extend(advances[index].then_some(advance.record.id));
        }
    }
    Ok(())
}

/// Returns the executions that were written.
fn applied(batch: &Batch, submits: &[SubmitOutcome], advances: &[bool]) -> HashSet<ExecutionId> {
    let submitted = (batch.submits.iter().zip(submits))
        .filter(|(_, outcome)| **outcome == SubmitOutcome::Accepted)
        .map(|(submit, _)| submit.record.id);
    let advanced = (batch.advances.iter().zip(advances))
        .filter(|(_, applied)| **applied)
        .map(|(advance, _)| advance.record.id);
    submitted.chain(advanced).collect()
}

fn claimed_nothing(candidates: ClaimCandidates) -> Committed {
    Committed {
        more: candidates.more,
        next_due: candidates.next_due,
        ..Committed::default()
    }
}

/// Refuses a runner that was declared dead. Returns whether any trigger fires at the end of executions.
fn check_alive(connection: &mut SqliteConnection, runner: RunnerId) -> Result<bool, Fault> {
    let alive = IsAlive {
        id: runner.as_bytes(),
    }
    .load::<i64>(connection)?;
    alive
        .first()
        .map(|followers| *followers != 0)
        .ok_or(Fault::RunnerLost)
}
