//! Starts children in the transaction of their parents, and applies the notes that executions send each other (semantics M).

use std::sync::Arc;

use super::finale::learn_final_state;
use crate::engine::{ChildFound, Execution};
use crate::runtime::batch::PendingChange;
use crate::runtime::notes::{Sender, message_of, note_of};
use crate::runtime::step::{Signal, Step};
use crate::store::{InboxKind, InboxMessage, ItemQuery, Store, StoreError};
use crate::types::{
    ChildEnd, ExecutionId, ExecutionStatus, Failure, FailureKind, Labels, Micros, Note, Ordinal,
    Post, TaskStatus, Timestamp, micros,
};

/// The shortest and the longest time, in microseconds, between two checks of whether a child's final tasks have ended.
/// A child is retried only after their end. The time between checks grows with the age of the parent's message.
const FINALE_PAUSE: (Micros, Micros) = (200_000, 30_000_000);

impl Step {
    /// M1: starts the children that became due in this turn, then the children of these children, and so on. Also starts the
    /// final tasks of executions that end in this turn.
    ///
    /// # Errors
    /// Returns an error if the database does not answer. Nodes whose children were not started stay due. The batch must not be
    /// written if it then [lacks](Self::lacks_finale) the final tasks of an execution.
    pub(in crate::runtime) fn start_children(&mut self) -> Result<(), StoreError> {
        let mut position = 0;
        while position < self.batch.executions.len() {
            let starts = self
                .batch
                .executions
                .get_index_mut(position)
                .map(|(id, change)| {
                    let flow = change.changes.flow.get_mut();
                    (*id, flow.map(|flow| std::mem::take(&mut flow.starts)))
                });
            if let Some((id, _)) = &starts {
                self.start_finale(*id)?;
            }
            position += 1;
            for (parent, ordinal) in starts.into_iter().flat_map(|(id, starts)| {
                let starts = starts.into_iter().flatten();
                starts.map(move |ordinal| (id, ordinal))
            }) {
                self.start_child(parent, ordinal)?;
            }
        }
        Ok(())
    }

    fn start_child(&mut self, parent: ExecutionId, ordinal: Ordinal) -> Result<(), StoreError> {
        let Some(name) = self
            .ledger
            .get(parent)
            .and_then(|execution| execution.wanted_workflow(ordinal))
            .map(str::to_owned)
        else {
            return Ok(());
        };
        let found = self.newest_of(&name)?;
        let now = self.now;
        let mut random = self.fork_random();
        let (Some(execution), Some(change)) = (
            self.ledger.get_mut(parent),
            self.batch.executions.get_mut(&parent),
        ) else {
            return Ok(());
        };
        let Some(found) = found else {
            execution.await_workflow(ordinal, now, &mut change.changes);
            return Ok(());
        };
        let changes = &mut change.changes;
        let starts = if execution.workflow().task(ordinal).child.is_some() {
            let id = fresh_id(&mut random, now);
            let start = execution.start_child(ordinal, &found, id, now, changes);
            start.into_iter().collect()
        } else {
            execution.start_runs(ordinal, &found, fresh_ids(&mut random, now), now, changes)
        };
        for start in starts {
            let (id, workflow) = (start.new.id, Arc::clone(&found.workflow));
            let (child, changes) =
                Execution::submit_child(workflow, start.new, Some(start.parent), now);
            self.ledger.insert(child);
            let change = PendingChange::new(changes, Labels::default());
            self.batch.executions.insert(id, change);
        }
        Ok(())
    }

    /// Returns the version of a workflow that a new child runs, or `None` if no program has stored a definition.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub(super) fn newest_of(&mut self, name: &str) -> Result<Option<ChildFound>, StoreError> {
        let mut latest = self.latest_definition(name)?;
        if latest.is_none() {
            self.read_definitions()?;
            latest = self.latest_definition(name)?;
        }
        let default_timeout = self.config.workflow_timeout.map(micros);
        Ok(latest.and_then(|definition| {
            let workflow = Arc::clone(self.registry.definition(definition)?);
            Some(ChildFound {
                definition,
                workflow,
                default_timeout,
            })
        }))
    }

    /// Applies the note of an inbox message to the execution that it is sent to. Returns `false` if the message must be
    /// applied later.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub(in crate::runtime) fn apply_note(
        &mut self,
        kind: InboxKind,
        message: &InboxMessage,
    ) -> Result<bool, StoreError> {
        let target = message.target.as_deref().unwrap_or_default();
        let body = message.body.as_deref().unwrap_or_default();
        let (Ok(id), Some(note)) = (target.parse::<ExecutionId>(), note_of(kind, body)) else {
            let text = "its target or its body cannot be read";
            self.store.note_inbox(message.id, Some(text))?;
            return Ok(true);
        };
        if let Note::ChildEnded(end) = &note
            && let Some(item) = end.item
        {
            return self.apply_item_end(message, id, item, end);
        }
        if let Note::AttemptEnded(held) = &note
            && self.may_still_run(held)?
        {
            self.move_to_the_end(message, held)?;
            return Ok(false);
        }
        // A parent may receive the ends of many children in one turn. The parent's current state is read only for the first of
        // them.
        let is_fresh = (self.batch.executions.get(&id)).is_some_and(|change| change.is_wake);
        if !is_fresh && self.batch.executions.contains_key(&id) {
            // The execution has already been changed in this turn. The next turn applies the message.
            self.signals.raise(Signal::Waits);
            return Ok(false);
        }
        if !is_fresh {
            self.ledger.remove(id);
            self.load(&[id])?;
            self.note_starts_of(id);
        }
        if self.ledger.is_unreadable(id) {
            return Ok(false);
        }
        let (now, random) = (self.now, self.random());
        let Some(execution) = self.ledger.get_mut(id) else {
            self.answer_for_unknown(id, &note, body)?;
            self.store.note_inbox(message.id, None)?;
            return Ok(true);
        };
        if matches!(note, Note::Retry) {
            self.subscriptions.forget_recent(Some(id));
            learn_final_state(&*self.store, execution)?;
            if execution.record().finale.is_some() {
                // The child's final tasks may have delayed the message, so a later message of the parent may have replaced
                // it.
                let timing = retry_timing(&*self.store, id, body)?;
                if timing == Some(RetryTiming::Later)
                    || (timing.is_some() && execution.has_open_finale())
                {
                    let pause = now.since(message.created_at) / 4;
                    self.note_wait_due(now + pause.clamp(FINALE_PAUSE.0, FINALE_PAUSE.1));
                    return Ok(false);
                }
                if timing.is_none() {
                    self.store.note_inbox(message.id, None)?;
                    return Ok(true);
                }
            }
        }
        let change = self.batch.change(execution);
        let changes = match note {
            Note::ChildEnded(end) => execution.child_ended(*end, now, random),
            Note::AttemptEnded(held) => execution.attempt_ended(held, now),
            note => execution.hear_parent(&note, now),
        };
        if changes == crate::engine::Changes::default() {
            self.batch.drop_if_empty(id);
            if self.batch.executions.contains_key(&id) {
                // An earlier message of this turn makes this message obsolete. This message is deleted together with the
                // write of the earlier message's change.
                self.batch.settled.push((message.id, id));
            } else {
                self.store.note_inbox(message.id, None)?;
            }
            return Ok(true);
        }
        change.changes.merge(changes);
        change.is_wake = true;
        self.batch.settled.push((message.id, id));
        self.watch_deadline(id);
        Ok(true)
    }

    /// If a parent wants to retry a child that has been deleted, sends the parent a note that the child has failed. Without
    /// this note, the parent would wait forever.
    fn answer_for_unknown(
        &mut self,
        child: ExecutionId,
        note: &Note,
        body: &str,
    ) -> Result<(), StoreError> {
        let sender: Option<Sender> = serde_json::from_str(body).ok();
        let (Note::Retry, Some(sender)) = (note, sender) else {
            return Ok(());
        };
        let text = "it is not stored any more";
        let end = ChildEnd {
            child,
            task: sender.task,
            item: sender.item,
            number: None,
            status: ExecutionStatus::Failed,
            output: None,
            error: Some(Failure::engine(FailureKind::ChildFailed, text)),
        };
        let post = Post {
            target: sender.parent,
            note: Note::ChildEnded(Box::new(end)),
        };
        self.store
            .post(&message_of(child, 0, (0, 0), &post, None, self.now))?;
        self.signals.raise(Signal::Waits);
        Ok(())
    }
}

/// The time at which a child runs again, after its parent has requested a retry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RetryTiming {
    /// The child runs again now.
    Now,
    /// The parent is paused. The child runs again when the parent is resumed.
    Later,
}

/// Returns when a child runs again, according to the current state of the parent that requested the retry. `None` if the parent
/// no longer waits for the child.
///
/// # Errors
/// Returns an error if the database does not answer.
fn retry_timing(
    store: &dyn Store,
    child: ExecutionId,
    body: &str,
) -> Result<Option<RetryTiming>, StoreError> {
    let Ok(sender) = serde_json::from_str::<Sender>(body) else {
        return Ok(Some(RetryTiming::Now));
    };
    let parent = store.load(&[sender.parent])?.pop();
    let Some(parent) = parent.filter(|parent| !parent.status.is_terminal()) else {
        return Ok(None);
    };
    let is_awaited = match sender.item {
        Some(item) => {
            let query = ItemQuery {
                execution: sender.parent,
                task: sender.task,
                status: Some(TaskStatus::Running),
                from: item,
                limit: 1,
            };
            let found = store.items(&query)?.pop();
            found.is_some_and(|found| found.item == item && found.child == Some(child))
        }
        None => (parent.tasks.get(sender.task as usize))
            .and_then(|task| task.wait.as_ref())
            .is_some_and(|wait| wait.awaits_child(child)),
    };
    Ok(
        is_awaited.then_some(if parent.status == ExecutionStatus::Paused {
            RetryTiming::Later
        } else {
            RetryTiming::Now
        }),
    )
}

/// Returns a generator of consecutive fresh ids. A task that waits for these executions can store the ids as a range.
fn fresh_ids(random: &mut fastrand::Rng, now: Timestamp) -> impl FnMut() -> ExecutionId + use<> {
    let mut bits = [0; 10];
    random.fill(&mut bits);
    let mut next: u32 = 0;
    move || {
        let [_, high, middle, low] = next.to_be_bytes();
        bits[7..].copy_from_slice(&[high, middle, low]);
        next += 1;
        ExecutionId::from_parts(now, bits)
    }
}

/// Returns a fresh execution id from injected randomness.
pub(super) fn fresh_id(random: &mut fastrand::Rng, now: Timestamp) -> ExecutionId {
    let mut bits = [0; 10];
    random.fill(&mut bits);
    ExecutionId::from_parts(now, bits)
}
