//! Starts the final tasks of executions in the transaction that ends them, once no attempt can interfere (semantics Q).

use std::sync::Arc;

use crate::engine::{Execution, FinalDue, FinalState};
use crate::runtime::assignment::Executor;
use crate::runtime::batch::PendingChange;
use crate::runtime::step::Step;
use crate::store::{InboxMessage, Store, StoreError};
use crate::types::{
    Claim, DefinitionId, Error, ErrorCode, ExecutionId, ExecutionRecord, HeldAttempt, InboxId,
    Labels, MapChange, Micros, Ordinal, Timestamp,
};
use crate::workflow::Workflow;

/// The time between two checks whether an attempt that delays final tasks has ended, in microseconds: for an attempt of this
/// runner, and for one of another runner. The end of an attempt of this runner is noticed at once. The check finds attempts that
/// were taken away from their workers.
const CHECK_INTERVALS: (Micros, Micros) = (100_000, 1_000_000);

/// The time after which the message of an attempt that still runs is moved to the end of the inbox, in microseconds.
const STAY: Micros = 5_000_000;

impl Step {
    /// Q1: adds the execution of the final tasks of one that ends in this turn, if the end asks for any.
    ///
    /// # Errors
    /// When the database does not answer. The request for the final tasks stays, and the batch must not be written.
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

    /// Whether an execution ends in this turn whose final tasks could not be started.
    pub(in crate::runtime) fn lacks_finale(&self) -> bool {
        let mut changes = self.batch.executions.values();
        changes.any(|change| change.changes.flow.finale.is_some())
    }

    /// The id under which a derived workflow is stored.
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

    /// Q2: whether an attempt that holds final tasks may still run.
    pub(super) fn may_still_run(&mut self, held: &HeldAttempt) -> Result<bool, StoreError> {
        let claim = Claim::of_task(held.runner, held.attempt);
        let key = (held.execution, held.task, claim);
        let (runs, look) = if held.runner == self.runner {
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
            self.note_wait_due(self.now + look);
        }
        Ok(runs)
    }

    /// Stops the items of a closed map that this runner has claimed. Returns whether it has any.
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

    /// Moves the message of an attempt of this runner to the end of the inbox, so that attempts that run for long do not keep
    /// a runner from the messages after theirs.
    pub(super) fn move_to_the_end(
        &self,
        message: &InboxMessage,
        held: &HeldAttempt,
    ) -> Result<(), StoreError> {
        if held.runner != self.runner || self.now.since(message.created_at) < STAY {
            return Ok(());
        }
        // A crash between the two leaves both; the second one finds nothing to release.
        self.store.post(&InboxMessage {
            id: moved(message.id, self.now),
            created_at: self.now,
            ..message.clone()
        })?;
        self.store.note_inbox(message.id, None)
    }
}

/// Q2: adds the items of maps that the end of an execution closes. Each runner may run some, also items that it claims before
/// the end is durable.
///
/// # Errors
/// When the database does not answer.
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

/// Returns the id of a message that is moved to the end of the inbox.
fn moved(id: InboxId, now: Timestamp) -> InboxId {
    let mut bits = [0; 10];
    bits.copy_from_slice(&id.as_bytes()[6..]);
    InboxId::from_parts(now, bits)
}

/// Whether an execution of final tasks was started by the last end of the first execution. Both have the time of that end.
fn follows(finale: &ExecutionRecord, first: &ExecutionRecord) -> bool {
    first.ended_at.is_some_and(|end| finale.created_at >= end)
}

/// Q5: refuses the retry of final tasks that belong to an earlier end of the first execution, or that has not ended again.
///
/// # Errors
/// When it refuses, or the database does not answer.
pub(super) fn refuse_stale_finale(store: &dyn Store, finale: &Execution) -> Result<(), Error> {
    let link = finale.record().parent.as_deref();
    let Some(link) = link.filter(|link| link.finale.is_some()) else {
        return Ok(());
    };
    // A first execution that was deleted cannot be retried.
    let first = store.load(&[link.execution])?.pop();
    if first.is_none_or(|first| follows(finale.record(), &first)) {
        return Ok(());
    }
    let text = format!(
        "execution {} runs the final tasks of an earlier end of execution {}, which was retried since",
        finale.record().id,
        link.execution
    );
    Err(Error::new(ErrorCode::ExecutionState, text)
        .with_hint("retry the execution of the final tasks of its last end"))
}

/// Tells an execution that may be retried what its final tasks have done (Q5).
///
/// # Errors
/// When the database does not answer.
pub(super) fn learn_final_state(
    store: &dyn Store,
    execution: &mut Execution,
) -> Result<(), StoreError> {
    let link = execution.record().finale.as_deref();
    let Some(id) = link.and_then(|link| Some(link.finale.as_ref()?.id)) else {
        return Ok(());
    };
    let Some(finals) = execution.workflow().finals().map(Arc::clone) else {
        return Ok(());
    };
    let state = match store.load(&[id])?.pop() {
        // It was started in this turn, or pruned by hand; the first is open, and the second has nothing to undo.
        None => FinalState::default(),
        // It belongs to an earlier end, and the last end has started none.
        Some(record) if !follows(&record, execution.record()) => FinalState::default(),
        Some(record) => match Execution::restore(finals, record) {
            Ok(finale) => FinalState::of(&finale, execution.workflow()),
            // Another version of the final tasks cannot be read with this one: what it undid is not known.
            Err(_) => return Ok(()),
        },
    };
    execution.learn_final_state(state);
    Ok(())
}
