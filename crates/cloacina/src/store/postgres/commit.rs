//! Commits a batch in one transaction. Usually this takes one round trip.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use diesel::sql_types::{Array, BigInt, Uuid as SqlUuid};
use uuid::Uuid;

use super::claim::{self, Claim, ClassClaims};
use super::driver::{self, Connection, Statement, Step};
use super::error::Fault;
use super::session::Session;
use super::statement::query;
use super::write::{self, ADVANCED, Change, ExecutionsOfKeys, SUBMITTED, WriteColumns, WrittenRow};
use super::{children, map_claims, maps, schedule};
use super::{signals, waits};
use crate::store::maps::started;
use crate::store::{Batch, Committed, ItemWrite, Submit, SubmitOutcome};
use crate::types::{ExecutionId, HistoryKind, TaskStatus};

query! {
    LockExecutions { ids: Vec<Uuid> => Array<SqlUuid> } -> BigInt;
    "SELECT e.revision FROM cloacina_executions AS e WHERE e.id = ANY ($1) ORDER BY e.id FOR NO KEY UPDATE"
}

/// The answer to a step of the pipeline.
#[derive(Default)]
enum CommitAnswer {
    #[default]
    Nothing,
    Written(Vec<WrittenRow>),
    Claimed(usize, Vec<claim::ClaimRow>),
}

/// Commits a batch. If triggers that fire at the end of executions exist and this session does not know of them, the
/// database refuses a batch that changes an execution. This function then notes that such triggers exist, and commits
/// the batch again.
pub(super) async fn commit(
    connection: &Connection,
    session: &Session,
    batch: &Batch<'_>,
) -> Result<Committed, Fault> {
    let committed = commit_once(connection, session, batch).await;
    if !matches!(committed, Err(Fault::Followed)) {
        return committed;
    }
    session.has_followers.store(true, Ordering::Relaxed);
    connection.batch_execute("ROLLBACK").await?;
    commit_once(connection, session, batch).await
}

async fn commit_once(
    connection: &Connection,
    session: &Session,
    batch: &Batch<'_>,
) -> Result<Committed, Fault> {
    let mut dropped = HashSet::new();
    let has_flow = !batch.flow.is_empty();
    if has_flow {
        // The locks of topics must be taken before all other locks.
        signals::begin(connection, session, waits::topics(&batch.flow)).await?;
    }
    let stale = waits::applied_elsewhere(connection, &batch.flow).await?;
    let schedules = begin_with_schedules(connection, session, batch, &mut dropped).await?;
    lock_related_executions(connection, batch).await?;
    let is_begun = has_flow || !schedules.is_empty();
    let mut rounds = remaining_rounds(batch, &dropped, &stale);
    let needs_runner = batch.needs_live_runner();
    let mut steps: Vec<Step<CommitAnswer>> = Vec::new();
    let mut answers = Vec::new();
    let mut flow = Committed::default();
    for changes in &rounds {
        let write = columns_of(session, batch, changes, needs_runner)?;
        let request = connection.prepare(&write).await?;
        steps.push(Box::pin(async {
            Ok(CommitAnswer::Written(request.load().await?))
        }));
    }
    if has_flow {
        // The answers are read first, because they tell which changes were applied. Only the waits of these changes are
        // written.
        answers = driver::pipeline(std::mem::take(&mut steps)).await?;
        flow = write_flow(
            connection,
            session,
            batch,
            &stale,
            &mut rounds,
            &mut answers,
        )
        .await?;
    }
    let classes = batch.claim.classes.iter().enumerate();
    for (index, class) in classes.filter(|(_, class)| !class.queues.is_empty()) {
        let claim = Claim::new(class, batch.runner, batch.now);
        let request = connection.prepare(&claim).await?;
        steps.push(Box::pin(async move {
            Ok(CommitAnswer::Claimed(index, request.load().await?))
        }));
    }
    answers.extend(in_transaction(connection, session, steps, is_begun).await?);
    let mut applied = Vec::new();
    let mut by_class = Vec::new();
    by_class.resize_with(batch.claim.classes.len(), ClassClaims::default);
    for answer in answers {
        match answer {
            CommitAnswer::Nothing => {}
            CommitAnswer::Written(rows) => {
                applied.push(rows.into_iter().collect::<HashSet<WrittenRow>>());
            }
            CommitAnswer::Claimed(index, rows) => {
                by_class[index] =
                    claim::assemble(rows, batch.claim.classes[index].limit, batch.now)?;
            }
        }
    }
    let submits = batch.submits.iter().map(|submit| match submit.record.id {
        id if dropped.contains(&id) => SubmitOutcome::Duplicate(id),
        // Set to `Accepted` below if the execution was stored.
        id if batch.source_of(submit).is_some() => SubmitOutcome::Duplicate(id),
        _ => SubmitOutcome::Accepted,
    });
    let mut committed = Committed {
        schedules,
        submits: submits.collect(),
        advances: vec![false; batch.advances.len()],
        ..flow
    };
    let mut duplicates = Vec::new();
    for (changes, applied) in rounds.iter().zip(&applied) {
        for change in changes {
            match change {
                Change::Submit(index) => {
                    let record = batch.submits[*index].record;
                    if !applied.contains(&(SUBMITTED, Some(record.id.uuid()))) {
                        duplicates.push(*index);
                    } else if batch.source_of(&batch.submits[*index]).is_some() {
                        committed.submits[*index] = SubmitOutcome::Accepted;
                    }
                }
                Change::Advance(index) => {
                    let id = batch.advances[*index].record.id.uuid();
                    committed.advances[*index] = applied.contains(&(ADVANCED, Some(id)));
                }
            }
        }
    }
    let holders = duplicates_of(connection, session, &batch.submits, &duplicates).await?;
    for (index, id) in duplicates.into_iter().zip(holders) {
        committed.submits[index] = SubmitOutcome::Duplicate(id);
    }
    for class in by_class {
        committed.claimed.extend(class.claimed);
        committed.more.push(class.more);
        committed.next_due = committed.next_due.into_iter().chain(class.next_due).min();
    }
    Ok(committed)
}

/// Writes the rest of a batch after its first changes were written: changes of parents whose children ended, new
/// children, waits, maps and items. Then claims items. Returns the executions with a wait that is due, the outcomes
/// for the maps, and the claimed items.
async fn write_flow(
    connection: &Connection,
    session: &Session,
    batch: &Batch<'_>,
    stale: &HashSet<ExecutionId>,
    rounds: &mut Vec<Vec<Change>>,
    answers: &mut Vec<CommitAnswer>,
) -> Result<Committed, Fault> {
    let mut flow = Committed::default();
    let mut written = applied_by(answers);
    let mut done = write_parents(connection, session, batch, stale, &mut written).await?;
    done.extend(write_children(connection, session, batch, &mut written).await?);
    for (round, rows) in done {
        answers.push(CommitAnswer::Written(rows));
        rounds.push(round);
    }
    flow.due = waits::apply(connection, &batch.flow, &written, batch.now).await?;
    flow.maps = maps::apply(connection, batch, &written).await?;
    let mut started = started(&batch.flow.maps.ends, &flow.maps);
    if !started.is_empty() {
        // Writes the children of items, and the children of those children.
        let new = write_children(connection, session, batch, &mut started).await?;
        for (round, rows) in new {
            answers.push(CommitAnswer::Written(rows));
            rounds.push(round);
        }
        // Children that are started again are excluded, because they are not submitted in this batch.
        let submits = batch.submits.iter();
        let submitted: HashSet<_> = submits.map(|submit| submit.record.id).collect();
        started.retain(|id| submitted.contains(id));
        let due = waits::apply(connection, &batch.flow, &started, batch.now).await?;
        flow.due.extend(due);
        maps::change(connection, batch, &started).await?;
    }
    let claim = (&*batch.flow.maps.claim, &*batch.flow.maps.free);
    map_claims::claim(connection, claim, batch.runner, batch.now, &mut flow).await?;
    Ok(flow)
}

/// Returns the columns of the statement that writes these changes.
fn columns_of<'a>(
    session: &Session,
    batch: &'a Batch<'_>,
    changes: &[Change],
    needs_runner: bool,
) -> Result<WriteColumns<'a>, Fault> {
    let mut write = WriteColumns::new(batch.runner.uuid(), needs_runner);
    let has_followers = session.has_followers.load(Ordering::Relaxed);
    // The check whether triggers fire at the end of executions is also made by a batch that changes executions but
    // ends none. Without the check, such a batch would need another form of the statement, which the server would
    // have to plan as well.
    let changes_executions = !batch.flow.ends.is_empty() || !batch.advances.is_empty();
    write.refuses_followers = changes_executions && !has_followers;
    for change in changes {
        let (record, workflow) = match change {
            Change::Submit(index) => {
                let submit = &batch.submits[*index];
                write.submit(submit)?;
                (submit.record, Some(submit.workflow))
            }
            Change::Advance(index) => {
                let advance = &batch.advances[*index];
                write.advance(advance)?;
                (advance.record, None)
            }
        };
        if has_followers && batch.flow.ends.contains(&record.id) {
            write.end(record, workflow);
        }
    }
    Ok(write)
}

/// The changes that one statement writes, and the answer of the statement.
type Round = (Vec<Change>, Vec<WrittenRow>);

/// Writes changes in one statement, and adds the written executions to `written`.
async fn write_round(
    connection: &Connection,
    session: &Session,
    batch: &Batch<'_>,
    round: Vec<Change>,
    written: &mut HashSet<ExecutionId>,
) -> Result<Option<Round>, Fault> {
    if round.is_empty() {
        return Ok(None);
    }
    let write = columns_of(session, batch, &round, batch.needs_live_runner())?;
    let rows: Vec<WrittenRow> = write.load(connection).await?;
    written.extend(rows.iter().filter_map(|(_, id)| *id).map(ExecutionId::from));
    Ok(Some((round, rows)))
}

/// Writes the changes of parents that were caused by the ends of their children. Leaves out a change if one of these
/// ends was not written. Adds the parents to `written`. Returns the changes of each statement with its answer.
async fn write_parents(
    connection: &Connection,
    session: &Session,
    batch: &Batch<'_>,
    stale: &HashSet<ExecutionId>,
    written: &mut HashSet<ExecutionId>,
) -> Result<Vec<Round>, Fault> {
    let mut done = Vec::new();
    let dependents = batch.dependents();
    for of_depth in dependents.chunk_by(|one, next| batch.depth_of(*one) == batch.depth_of(*next)) {
        let is_due = |index: &&usize| {
            let advance = &batch.advances[**index];
            let is_told = advance.requires.iter().all(|id| written.contains(id));
            is_told && !stale.contains(&advance.record.id)
        };
        let due = of_depth.iter().filter(is_due);
        let round: Vec<Change> = due.map(|index| Change::Advance(*index)).collect();
        done.extend(write_round(connection, session, batch, round, written).await?);
    }
    Ok(done)
}

/// Submits the executions that depend on written changes, and adds them to `written`. Returns the changes of each
/// statement with its answer.
async fn write_children(
    connection: &Connection,
    session: &Session,
    batch: &Batch<'_>,
    written: &mut HashSet<ExecutionId>,
) -> Result<Vec<Round>, Fault> {
    let mut done = Vec::new();
    for round in children::rounds(batch) {
        // A child is stored only if the change of its parent is stored.
        let round: Vec<Change> = (round.into_iter())
            .filter(|index| children::is_due(batch, *index, written))
            .map(Change::Submit)
            .collect();
        done.extend(write_round(connection, session, batch, round, written).await?);
    }
    Ok(done)
}

/// Returns the executions that were written.
fn applied_by(answers: &[CommitAnswer]) -> HashSet<ExecutionId> {
    let written = answers.iter().filter_map(|answer| match answer {
        CommitAnswer::Written(rows) => Some(rows),
        _ => None,
    });
    let of_executions = written.flatten().filter_map(|(_, id)| *id);
    of_executions.map(ExecutionId::from).collect()
}

/// Locks all executions that the batch changes, in the order that all writers use. Does nothing if no change depends on
/// the change of a child, because the first statement that writes changes then locks all these executions in this
/// order.
async fn lock_related_executions(connection: &Connection, batch: &Batch<'_>) -> Result<(), Fault> {
    let mut advances = batch.advances.iter();
    if advances.all(|advance| advance.requires.is_empty()) {
        return Ok(());
    }
    let ids = batch.advances.iter();
    let lock = LockExecutions {
        ids: ids.map(|advance| advance.record.id.uuid()).collect(),
    };
    let _: Vec<i64> = lock.load(connection).await?;
    Ok(())
}

/// Applies the schedule writes of the batch, if it has any. Opens the transaction for them, unless it is already open.
/// Adds to `dropped` the executions that must not be submitted.
async fn begin_with_schedules(
    connection: &Connection,
    session: &Session,
    batch: &Batch<'_>,
    dropped: &mut HashSet<ExecutionId>,
) -> Result<Vec<bool>, Fault> {
    if batch.schedules.is_empty() {
        return Ok(Vec::new());
    }
    if batch.flow.is_empty() {
        connection.batch_execute(session.begin()).await?;
    }
    schedule::apply(connection, batch, dropped).await
}

/// Returns the changes of the batch that depend on no other change, as one group per statement. Leaves out submissions
/// of ticks that another runner has handled, and changes of executions in `stale`.
fn remaining_rounds(
    batch: &Batch,
    dropped: &HashSet<ExecutionId>,
    stale: &HashSet<ExecutionId>,
) -> Vec<Vec<Change>> {
    let mut rounds = write::rounds(&batch.submits, &batch.advances);
    for changes in &mut rounds {
        changes.retain(|change| match change {
            Change::Submit(index) => {
                let submit = &batch.submits[*index];
                !dropped.contains(&submit.record.id) && batch.source_of(submit).is_none()
            }
            Change::Advance(index) => {
                let advance = &batch.advances[*index];
                advance.requires.is_empty() && !stale.contains(&advance.record.id)
            }
        });
    }
    rounds.retain(|changes| !changes.is_empty());
    rounds
}

/// Sends all steps before it reads the first answer. If a step fails, all later steps fail too, including the commit.
async fn in_transaction<'a>(
    connection: &'a Connection,
    session: &'a Session,
    mut steps: Vec<Step<'a, CommitAnswer>>,
    is_begun: bool,
) -> Result<Vec<CommitAnswer>, Fault> {
    if steps.is_empty() && !is_begun {
        return Ok(Vec::new());
    }
    // A single statement needs no explicit transaction.
    if steps.len() > 1 || session.pooled || is_begun {
        if !is_begun {
            steps.insert(0, driver::control(connection, session.begin()));
        }
        steps.push(driver::control(connection, "COMMIT"));
    }
    driver::pipeline(steps).await
}

/// Returns the stored executions that conflict with submissions, in the order of `duplicates`. The stored execution has
/// the same key, or it is the submitted execution itself: the caller did not learn the outcome of the first commit, and
/// submitted the execution again.
async fn duplicates_of(
    connection: &Connection,
    session: &Session,
    submits: &[Submit<'_>],
    duplicates: &[usize],
) -> Result<Vec<ExecutionId>, Fault> {
    let mut holders: Vec<ExecutionId> = duplicates
        .iter()
        .map(|index| submits[*index].record.id)
        .collect();
    let mut statement = ExecutionsOfKeys::default();
    for (position, index) in (0_i64..).zip(duplicates) {
        let submit = &submits[*index];
        if let Some(key) = &submit.record.key {
            statement.places.push(position);
            statement.workflows.push(submit.workflow.to_owned());
            statement.keys.push(key.clone());
        }
    }
    if statement.keys.is_empty() {
        return Ok(holders);
    }
    let stored: Vec<(i64, Uuid)> = session.fetch(connection, statement).await?;
    for (position, id) in stored {
        if let Some(holder) = usize::try_from(position)
            .ok()
            .and_then(|position| holders.get_mut(position))
        {
            *holder = id.into();
        }
    }
    Ok(holders)
}

/// Returns whether the batch retries an execution that had ended.
pub(super) fn revives(batch: &Batch) -> bool {
    let mut events = batch.advances.iter().flat_map(|advance| advance.history);
    events.any(|event| event.kind == HistoryKind::Retried.name())
}

/// Returns whether other runners must be notified of the commit.
pub(super) fn concerns_others(batch: &Batch, committed: &Committed) -> bool {
    if revives(batch) || !batch.flow.maps.changes.is_empty() {
        return true;
    }
    let submits = batch.submits.iter().zip(&committed.submits);
    let advances = batch.advances.iter().zip(&committed.advances);
    submits
        .filter(|(_, verdict)| **verdict == SubmitOutcome::Accepted)
        .any(|(submit, _)| write::concerns_others(submit.record, &submit.tasks))
        || advances
            .filter(|(_, applied)| **applied)
            .any(|(advance, _)| write::concerns_others(advance.record, &advance.tasks))
        || leaves_items(batch, committed)
}

/// Returns whether the commit leaves items that another runner can claim. Such items were returned or wait for a retry,
/// belong to a map whose limit now allows more items, or were added to an aligned map.
fn leaves_items(batch: &Batch, committed: &Committed) -> bool {
    let mut ends = batch.flow.maps.ends.iter().zip(&committed.maps);
    ends.any(|(ends, outcome)| {
        let Some(row) = outcome.row.as_ref().filter(|_| outcome.applied) else {
            return false;
        };
        let is_ready = |write: &ItemWrite| write.record_for(row).status == TaskStatus::Ready;
        let claimed = committed.items.iter().find(|claimed| {
            (claimed.row.execution, claimed.row.task) == (ends.execution, ends.task)
        });
        let row = claimed.map_or(row, |claimed| &claimed.row);
        ends.items.iter().any(is_ready)
            || (row.parallel.is_some() && row.room() > 0 && row.claimable() + row.waiting() > 0)
            || !ends.feeds.is_empty()
    })
}
