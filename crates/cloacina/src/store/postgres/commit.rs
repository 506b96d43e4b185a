//! Commits a batch in one transaction and one round trip.

use std::collections::HashSet;

use uuid::Uuid;

use super::claim::{self, Claim, ClassClaims};
use super::driver::{self, Connection, Step};
use super::error::Fault;
use super::schedule;
use super::session::Session;
use super::write::{self, ADVANCED, Change, ExecutionsOfKeys, SUBMITTED, WriteColumns, WrittenRow};
use crate::store::{Batch, Committed, Submit, SubmitOutcome, TaskWrite};
use crate::types::{ExecutionId, ExecutionRecord, HistoryKind, RunnerId, TaskStatus};

/// The answer of a step of the pipeline.
enum CommitAnswer {
    Nothing,
    Written(Vec<WrittenRow>),
    Claimed(usize, Vec<claim::AnswerRow>),
}

pub(super) async fn commit(
    connection: &Connection,
    session: &Session,
    batch: &Batch<'_>,
) -> Result<Committed, Fault> {
    let mut dropped = HashSet::new();
    let schedules = begin_with_schedules(connection, session, batch, &mut dropped).await?;
    let is_begun = !schedules.is_empty();
    let rounds = remaining_rounds(batch, &dropped);
    let needs_runner = needs_a_live_runner(batch);
    let mut steps: Vec<Step<CommitAnswer>> = Vec::new();
    for changes in &rounds {
        let mut write = WriteColumns::new(batch.runner.uuid(), needs_runner);
        for change in changes {
            match change {
                Change::Submit(index) => write.submit(&batch.submits[*index])?,
                Change::Advance(index) => write.advance(&batch.advances[*index])?,
            }
        }
        let request = connection.prepare(&write).await?;
        steps.push(Box::pin(async {
            Ok(CommitAnswer::Written(request.load().await?))
        }));
    }
    for (index, class) in batch
        .claim
        .classes
        .iter()
        .enumerate()
        .filter(|(_, class)| !class.queues.is_empty())
    {
        let claim = Claim::new(class, batch.runner, batch.now);
        let request = connection.prepare(&claim).await?;
        steps.push(Box::pin(async move {
            Ok(CommitAnswer::Claimed(index, request.load().await?))
        }));
    }
    let answers = in_transaction(connection, session, steps, is_begun).await?;
    let mut applied = Vec::new();
    let mut by_class: Vec<ClassClaims> = batch
        .claim
        .classes
        .iter()
        .map(|_| ClassClaims::default())
        .collect();
    for answer in answers {
        match answer {
            CommitAnswer::Nothing => {}
            CommitAnswer::Written(rows) => {
                applied.push(rows.into_iter().collect::<HashSet<WrittenRow>>());
            }
            CommitAnswer::Claimed(index, rows) => {
                by_class[index] = claim::assemble(rows, batch.claim.classes[index].limit)?;
            }
        }
    }
    let submits = batch.submits.iter().map(|submit| match submit.record.id {
        id if dropped.contains(&id) => SubmitOutcome::Duplicate(id),
        _ => SubmitOutcome::Accepted,
    });
    let mut committed = Committed {
        schedules,
        submits: submits.collect(),
        advances: vec![false; batch.advances.len()],
        ..Committed::default()
    };
    let mut duplicates = Vec::new();
    for (changes, applied) in rounds.iter().zip(&applied) {
        for change in changes {
            match change {
                Change::Submit(index) => {
                    let id = batch.submits[*index].record.id.uuid();
                    if !applied.contains(&(SUBMITTED, Some(id))) {
                        duplicates.push(*index);
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

/// Opens the transaction and applies the schedule writes, if there are any. Which submissions follow depends on the
/// answer.
async fn begin_with_schedules(
    connection: &Connection,
    session: &Session,
    batch: &Batch<'_>,
    dropped: &mut HashSet<ExecutionId>,
) -> Result<Vec<bool>, Fault> {
    if batch.schedules.is_empty() {
        return Ok(Vec::new());
    }
    connection.batch_execute(session.begin()).await?;
    schedule::apply(connection, batch, dropped).await
}

/// Returns the writes of the batch, without the submissions of ticks that another runner has handled.
fn remaining_rounds(batch: &Batch, dropped: &HashSet<ExecutionId>) -> Vec<Vec<Change>> {
    let mut rounds = write::rounds(&batch.submits, &batch.advances);
    for changes in &mut rounds {
        changes.retain(|change| match change {
            Change::Submit(index) => !dropped.contains(&batch.submits[*index].record.id),
            Change::Advance(_) => true,
        });
    }
    rounds.retain(|changes| !changes.is_empty());
    rounds
}

/// Sends all steps before it reads the first answer. If a step fails, the rest fail too, including the commit.
async fn in_transaction<'a>(
    connection: &'a Connection,
    session: &'a Session,
    mut steps: Vec<Step<'a, CommitAnswer>>,
    is_begun: bool,
) -> Result<Vec<CommitAnswer>, Fault> {
    if steps.is_empty() && !is_begun {
        return Ok(Vec::new());
    }
    // A single statement is its own transaction.
    if steps.len() > 1 || session.pooled || is_begun {
        if !is_begun {
            steps.insert(0, control(connection, session.begin()));
        }
        steps.push(control(connection, "COMMIT"));
    }
    driver::pipeline(steps).await
}

fn control<'a>(connection: &'a Connection, text: &'a str) -> Step<'a, CommitAnswer> {
    Box::pin(async move {
        connection.batch_execute(text).await?;
        Ok(CommitAnswer::Nothing)
    })
}

/// Returns the executions that conflict with submissions, in the order of `duplicates`: those with the same key, or the
/// same executions, submitted again by a caller that did not learn the outcome of its first commit.
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
    for (place, index) in (0_i64..).zip(duplicates) {
        let submit = &submits[*index];
        if let Some(key) = &submit.record.key {
            statement.places.push(place);
            statement.workflows.push(submit.workflow.to_owned());
            statement.keys.push(key.clone());
        }
    }
    if statement.keys.is_empty() {
        return Ok(holders);
    }
    let found: Vec<(i64, Uuid)> = session.fetch(connection, statement).await?;
    for (place, id) in found {
        if let Some(holder) = usize::try_from(place)
            .ok()
            .and_then(|place| holders.get_mut(place))
        {
            *holder = id.into();
        }
    }
    Ok(holders)
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

/// Returns whether the batch resumes an execution that had ended.
pub(super) fn revives(batch: &Batch) -> bool {
    let mut events = batch.advances.iter().flat_map(|advance| advance.history);
    events.any(|event| event.kind == HistoryKind::Retried.name())
}

/// Returns whether the commit matters to other runners.
pub(super) fn concerns_others(batch: &Batch, committed: &Committed) -> bool {
    if revives(batch) {
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
}
