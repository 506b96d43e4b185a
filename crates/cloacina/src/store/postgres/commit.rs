//! The one transaction of a batch, in one round trip.

use std::collections::HashSet;

use diesel_async::{AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};
use uuid::Uuid;

use super::claim::{self, Claim, Taken};
use super::connection::Session;
use super::error::Fault;
use super::schedule;
use super::statement::statement;
use super::write::{self, ADVANCED, Change, ExecutionOfKey, SUBMITTED, Write, Written};
use crate::store::{Batch, Committed, Submit, SubmitVerdict, TaskWrite};
use crate::types::{ExecutionId, ExecutionRecord, HistoryKind, RunnerId, TaskStatus};

// A statement like the others, not `batch_execute`: that one skips the wait for a statement still being prepared, and in a
// pipeline would overtake the statements that it is to commit.
statement! { Commit {} "COMMIT" }

/// `try_join_all` polls so many futures in their order; a longer pipeline goes step by step.
const PIPELINE: usize = 24;

/// What a step of the pipeline answers.
enum Answer {
    Nothing,
    Written(Vec<Written>),
    Claimed(usize, Vec<claim::Row>),
}

type Step<'a> = BoxFuture<'a, Result<Answer, Fault>>;

pub(super) async fn commit(
    connection: &AsyncPgConnection,
    session: &Session,
    batch: &Batch<'_>,
) -> Result<Committed, Fault> {
    let mut dropped = HashSet::new();
    let schedules = begin_with_schedules(connection, session, batch, &mut dropped).await?;
    let is_begun = !schedules.is_empty();
    let rounds = remaining_rounds(batch, &dropped);
    let needs_runner = needs_a_live_runner(batch);
    let mut steps: Vec<Step> = Vec::new();
    for changes in &rounds {
        let mut write = Write::new(batch.runner.uuid(), needs_runner);
        for change in changes {
            match change {
                Change::Submit(index) => write.submit(&batch.submits[*index])?,
                Change::Advance(index) => write.advance(&batch.advances[*index])?,
            }
        }
        steps.push(
            async move {
                let mut connection = connection;
                Ok(Answer::Written(
                    write.load::<Written>(&mut connection).await?,
                ))
            }
            .boxed(),
        );
    }
    for (index, class) in batch
        .claim
        .classes
        .iter()
        .enumerate()
        .filter(|(_, class)| !class.queues.is_empty())
    {
        let claim = Claim::new(class, batch.runner, batch.now);
        steps.push(
            async move {
                let mut connection = connection;
                Ok(Answer::Claimed(
                    index,
                    claim.load::<claim::Row>(&mut connection).await?,
                ))
            }
            .boxed(),
        );
    }
    let answers = in_transaction(connection, session, steps, is_begun).await?;
    let mut applied = Vec::new();
    let mut taken: Vec<Taken> = batch
        .claim
        .classes
        .iter()
        .map(|_| Taken::default())
        .collect();
    for answer in answers {
        match answer {
            Answer::Nothing => {}
            Answer::Written(rows) => applied.push(rows.into_iter().collect::<HashSet<Written>>()),
            Answer::Claimed(index, rows) => {
                taken[index] = claim::assemble(rows, batch.claim.classes[index].limit)?;
            }
        }
    }
    let submits = batch.submits.iter().map(|submit| match submit.record.id {
        id if dropped.contains(&id) => SubmitVerdict::Duplicate(id),
        _ => SubmitVerdict::Accepted,
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
    for index in duplicates {
        let id = duplicate_of(connection, session, &batch.submits[index]).await?;
        committed.submits[index] = SubmitVerdict::Duplicate(id);
    }
    for taken in taken {
        committed.claimed.extend(taken.claimed);
        committed.more.push(taken.more);
        committed.next_due = committed.next_due.into_iter().chain(taken.next_due).min();
    }
    Ok(committed)
}

/// Opens the transaction and applies the changes of schedules, if there are any: which submissions follow depends on the answer.
async fn begin_with_schedules(
    connection: &AsyncPgConnection,
    session: &Session,
    batch: &Batch<'_>,
    dropped: &mut HashSet<ExecutionId>,
) -> Result<Vec<bool>, Fault> {
    if batch.schedules.is_empty() {
        return Ok(Vec::new());
    }
    let mut shared = connection;
    shared.batch_execute(session.begin()).await?;
    schedule::apply(connection, batch, dropped).await
}

/// The writes of the batch, without the submissions of ticks that somebody else dealt with.
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

/// Sends all steps before it reads the first answer. A step that fails makes the rest fail, the commit included.
async fn in_transaction(
    connection: &AsyncPgConnection,
    session: &Session,
    mut steps: Vec<Step<'_>>,
    is_begun: bool,
) -> Result<Vec<Answer>, Fault> {
    if steps.is_empty() && !is_begun {
        return Ok(Vec::new());
    }
    // A statement is a transaction of its own.
    if steps.len() == 1 && !session.pooled && !is_begun {
        return Ok(vec![steps.remove(0).await?]);
    }
    let begin = async move {
        let mut connection = connection;
        connection.batch_execute(session.begin()).await?;
        Ok(Answer::Nothing)
    }
    .boxed();
    let commit = async move {
        let mut connection = connection;
        if session.pooled {
            connection.batch_execute("COMMIT").await?;
        } else {
            Commit {}.execute(&mut connection).await?;
        }
        Ok(Answer::Nothing)
    }
    .boxed();
    if !is_begun {
        steps.insert(0, begin);
    }
    steps.push(commit);
    if steps.len() <= PIPELINE && !session.pooled {
        return try_join_all(steps).await;
    }
    let mut answers = Vec::with_capacity(steps.len());
    for step in steps {
        answers.push(step.await?);
    }
    Ok(answers)
}

/// The execution that is in the way: the one with the key, or this very one, sent again by a caller that did not learn
/// whether its first commit was applied.
async fn duplicate_of(
    connection: &AsyncPgConnection,
    session: &Session,
    submit: &Submit<'_>,
) -> Result<ExecutionId, Fault> {
    let Some(key) = submit.record.key.as_deref() else {
        return Ok(submit.record.id);
    };
    let statement = ExecutionOfKey {
        workflow: submit.workflow.to_owned(),
        execution_key: key.to_owned(),
    };
    let holders: Vec<Uuid> = session.read(connection, statement).await?;
    Ok(holders
        .into_iter()
        .next()
        .map_or(submit.record.id, ExecutionId::from))
}

/// Whether the batch says something that only the owner of a claim may say. Control of an execution and a submission that
/// nobody has claimed need no runner.
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

/// Whether an execution that had ended goes on.
pub(super) fn revives(batch: &Batch) -> bool {
    let mut events = batch.advances.iter().flat_map(|advance| advance.history);
    events.any(|event| event.kind == HistoryKind::Retried.name())
}

/// Whether another runner could want to know of what was committed.
pub(super) fn concerns_others(batch: &Batch, committed: &Committed) -> bool {
    if revives(batch) {
        return true;
    }
    let submits = batch.submits.iter().zip(&committed.submits);
    let advances = batch.advances.iter().zip(&committed.advances);
    submits
        .filter(|(_, verdict)| **verdict == SubmitVerdict::Accepted)
        .any(|(submit, _)| write::concerns_others(submit.record, &submit.tasks))
        || advances
            .filter(|(_, applied)| **applied)
            .any(|(advance, _)| write::concerns_others(advance.record, &advance.tasks))
}
