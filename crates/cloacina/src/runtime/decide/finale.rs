//! Starts the final tasks of an execution in the transaction that ends the execution, and delays them while attempts may still
//! be running (semantics Q).

use std::sync::Arc;

use crate::engine::{Execution, FinalDue, FinalState};
use crate::runtime::assignment::Executor;
use crate::runtime::batch::PendingChange;
use crate::runtime::step::Step;
use crate::store::{InboxMessage, Store, StoreError};
use crate::types::{
    Claim, DefinitionId, Error, ErrorCode, ExecutionId, ExecutionRecord, HeldAttempt, InboxId,
    Labels, MapChange, Micros, Ordinal, ParentLink, Timestamp,
};
use crate::workflow::Workflow;

/// Time, in microseconds, between two checks of whether an attempt that delays final tasks has ended. The first value
/// is for attempts of this runner, the second for attempts of other runners. This runner notices most ends of its own
/// attempts immediately. It needs the check only for attempts that were taken away from their workers.
const CHECK_INTERVALS: (Micros, Micros) = (100_000, 1_000_000);

/// How long, in microseconds, the message about a running attempt keeps its place in the inbox before it is moved to the end.
const STAY: Micros = 5_000_000;

impl Step {
    /// Q1: if execution `first` ends in this turn and requests its final tasks, adds the execution of the final tasks to the
    /// batch.
    ///
    /// # Errors
    /// Returns an error if the database does not answer. The request for the final tasks stays, and the batch must not be
    /// written.
    pub(super) fn start_finale(&mut self, first: ExecutionId) -> Result<(), StoreError> {
        let change = self.batch.executions.get(&first);
        let Some(mut due) = change.and_then(|change| change.changes.flow.finale.clone()) else {
            return Ok(());
        };
        let finals = (self.ledger.get(first))
            .and_then(|execution| execution.workflow().finals())
            .map(Arc::clone);
        let definition = match &finals {
            Some(finals) => Some(self.stored_finals(finals)?),
            None => None,
        };
        if let Some(change) = self.batch.executions.get(&first) {
            hold_items(&*self.store, first, &change.changes.flow.maps, &mut due)?;
        }
        if let Some(change) = self.batch.executions.get_mut(&first) {
            change.changes.flow.finale = None;
        }
        let (Some(finals), Some(definition)) = (finals, definition) else {
            return Ok(());
        };
        let (id, now) = (self.fresh_execution(), self.now);
        let (Some(execution), Some(change)) = (
            self.ledger.get_mut(first),
            self.batch.executions.get_mut(&first),
        ) else {
            return Ok(());
        };
        let start = execution.start_finale(due, id, definition, now, &mut change.changes);
        if let Some(start) = start {
            let (finale, changes) = Execution::submit_finale(finals, start, now);
            self.ledger.insert(finale);
            let change = PendingChange::new(changes, Labels::default());
            self.batch.executions.insert(id, change);
        }
        Ok(())
    }

    /// Whether an execution ends in this turn and its final tasks could not be started.
    pub(in crate::runtime) fn lacks_finale(&self) -> bool {
        let mut changes = self.batch.executions.values();
        changes.any(|change| change.changes.flow.finale.is_some())
    }

    /// Returns the id under which the derived workflow of final tasks is stored. Stores the workflow if necessary.
    fn stored_finals(&mut self, finals: &Arc<Workflow>) -> Result<DefinitionId, StoreError> {
        let name = finals.name();
        if let Some(id) = self.registry.latest(name)
            && (self.registry.definition(id))
                .is_some_and(|known| known.version() == finals.version())
        {
            return Ok(id);
        }
        self.store.put_definition(finals, self.now)
    }

    /// Q2: whether an attempt that delays final tasks may still be running.
    pub(super) fn may_still_run(&mut self, held: &HeldAttempt) -> Result<bool, StoreError> {
        let claim = Claim::of_task(held.runner, held.attempt);
        let key = (held.execution, held.task, claim);
        let (runs, interval) = if held.runner == self.runner {
            let has_claims = held.items && self.stop_items(held.execution, held.task);
            let queues = self.capacity.queues();
            let mut executors = Executor::ALL.iter();
            let occupies = |executor: &Executor| {
                let queue = queues.of(*executor);
                if held.items {
                    queue.occupies_items(held.execution, held.task)
                } else {
                    queue.occupies(key)
                }
            };
            (executors.any(occupies) || has_claims, CHECK_INTERVALS.0)
        } else {
            let runners = self.store.runners()?;
            (
                runners.iter().any(|row| row.id == held.runner),
                CHECK_INTERVALS.1,
            )
        };
        if runs {
            self.note_wait_due(self.now + interval);
        }
        Ok(runs)
    }

    /// Stops those items of a closed map that this runner has claimed. Returns whether there are any.
    fn stop_items(&mut self, id: ExecutionId, task: Ordinal) -> bool {
        let claims = self.ledger.claims_of(id);
        let items: Vec<_> = claims
            .filter(|held| held.task == task && held.claim.item.is_some())
            .collect();
        for held in &items {
            self.interrupt(id, task, held.claim, 0);
        }
        !items.is_empty()
    }

    /// Moves the message about a running attempt of this runner to the end of the inbox, if the message is at least
    /// [`STAY`] old. Otherwise messages about long attempts would keep the runner from reading the messages after
    /// them.
    pub(super) fn move_to_the_end(
        &self,
        message: &InboxMessage,
        held: &HeldAttempt,
    ) -> Result<(), StoreError> {
        if held.runner != self.runner || self.now.since(message.created_at) < STAY {
            return Ok(());
        }
        // After a crash between these two calls both messages exist. The second message then has no effect.
        self.store.post(&InboxMessage {
            id: moved(message.id, self.now),
            created_at: self.now,
            ..message.clone()
        })?;
        self.store.note_inbox(message.id, None)
    }
}

/// Q2: if the end of an execution closes maps, makes the final tasks wait for the items of these maps. Every runner may
/// be running items, and can claim items until the end is durable. So `due.held` gets an entry for each runner and each
/// map.
///
/// # Errors
/// Returns an error if the database does not answer.
pub(in crate::runtime) fn hold_items(
    store: &dyn Store,
    first: ExecutionId,
    changes: &[MapChange],
    due: &mut FinalDue,
) -> Result<(), StoreError> {
    let closed = changes.iter().filter_map(|change| match change {
        MapChange::Close(task) => Some(*task),
        _ => None,
    });
    let closed: Vec<Ordinal> = closed.collect();
    if closed.is_empty() {
        return Ok(());
    }
    for row in store.runners()? {
        due.held.extend(closed.iter().map(|task| HeldAttempt {
            execution: first,
            task: *task,
            runner: row.id,
            attempt: 0,
            items: true,
        }));
    }
    Ok(())
}

/// Returns a new id for a message that is moved to the end of the inbox.
fn moved(id: InboxId, now: Timestamp) -> InboxId {
    let mut bits = [0; 10];
    bits.copy_from_slice(&id.as_bytes()[6..]);
    InboxId::from_parts(now, bits)
}

/// Returns whether final tasks belong to the latest end of `first`, and not to an end before a retry. Timestamps cannot
/// show this, because the clock may have been set back between two ends.
fn belong_to_last_end(finale: &ParentLink, first: &ExecutionRecord) -> bool {
    finale.generation > first.finals_before()
}

/// Q5: refuses to retry outdated final tasks. Final tasks are outdated if the execution to which they belong has been
/// retried since they started, even if that execution has ended again.
///
/// # Errors
/// Returns an error if the final tasks are outdated or the database does not answer.
pub(super) fn refuse_stale_finale(store: &dyn Store, finale: &Execution) -> Result<(), Error> {
    let link = finale.record().parent.as_deref();
    let Some(link) = link.filter(|link| link.finale.is_some()) else {
        return Ok(());
    };
    // If the first execution was deleted, it cannot be retried, so the final tasks cannot be outdated.
    let first = store.load(&[link.execution])?.pop();
    if first.is_none_or(|first| belong_to_last_end(link, &first)) {
        return Ok(());
    }
    let text = format!(
        "execution {} ran the final tasks for an earlier end of execution {}, which has been retried since then",
        finale.record().id,
        link.execution
    );
    Err(Error::new(ErrorCode::ExecutionState, text)
        .with_hint("retry the final tasks that started at the latest end of that execution"))
}

/// Reads the state of an execution's final tasks and sets it in `execution`, before a retry of the execution (Q5).
///
/// # Errors
/// Returns an error if the database does not answer.
pub(super) fn learn_final_state(
    store: &dyn Store,
    execution: &mut Execution,
) -> Result<(), StoreError> {
    let link = execution.record().finale.as_deref();
    let Some((link, id)) = link.and_then(|link| Some((link, link.finale.as_ref()?.id))) else {
        return Ok(());
    };
    let Some(finals) = execution.workflow().finals().map(Arc::clone) else {
        return Ok(());
    };
    if !belong_to_last_end(link, execution.record()) {
        // The last end has not started final tasks.
        execution.learn_final_state(FinalState::default());
        return Ok(());
    }
    let state = match store.load(&[id])?.pop() {
        // The final tasks are not stored, because this turn started them or because they were deleted. No task is known
        // to be undone.
        None => FinalState::default(),
        Some(record) => match Execution::restore(finals, record) {
            Ok(finale) => FinalState::of(&finale, execution.workflow()),
            // Another version of the derived workflow was stored, so the final tasks cannot be read. It is not known what they
            // undid.
            Err(_) => return Ok(()),
        },
    };
    execution.learn_final_state(state);
    Ok(())
}
