//! Messages of running attempts about their recorded steps (semantics T).

use crate::runtime::Reply;
use crate::runtime::batch::PendingStep;
use crate::runtime::message::Message;
use crate::runtime::step::Step;
use crate::store::StoreError;
use crate::types::{
    Claim, Cursor, Error, ExecutionId, Leaf, Ordinal, Park, SignalRecord, StepRecord,
};

/// The stored state of a wait whose end may already be recorded.
enum WaitProgress {
    /// The wait has ended, and its end is recorded as this step.
    Ended(StepRecord),
    /// The end of the wait is not recorded. These are the first signals that the wait can take.
    Signals(Vec<SignalRecord>),
}

impl Step {
    /// Decides a message that a running attempt sent about its steps.
    ///
    /// # Errors
    /// Returns an error if the database does not answer. The message goes to the retry queue.
    pub(in crate::runtime) fn answer_attempt(
        &mut self,
        message: Message,
    ) -> Result<(), StoreError> {
        match message {
            Message::RecordStep {
                execution,
                task,
                claim,
                step,
                reply,
            } => self.record_step(execution, task, claim, step, reply),
            Message::EndWait { .. } => return self.end_wait(message),
            Message::LoadSteps {
                execution,
                task,
                item,
                reply,
            } => return self.load_steps(execution, task, item, reply),
            _ => {}
        }
        Ok(())
    }

    /// Decides whether a step that an attempt recorded is stored.
    fn record_step(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        record: StepRecord,
        reply: Reply<()>,
    ) {
        if claim.item.is_some() {
            return self.record_item_step(id, task, claim, record, reply);
        }
        let Some(execution) = self.ledger.get_mut(id) else {
            return reply(Err(Error::claim_lost()));
        };
        // After a runner was declared dead, attempts under its old id cannot record steps (E4, T8).
        let changes = (claim.runner == self.runner)
            .then(|| execution.record_step(task, claim, record.clone()));
        if let Some(Ok(changes)) = changes {
            let change = self.batch.change(execution);
            change.changes.merge(changes);
            change.steps.push(PendingStep {
                task,
                claim,
                record,
                reply,
                is_held: true,
            });
            return;
        }
        tracing::info!(execution_id = %id, step = record.key, attempt = claim.attempt, "a step was not recorded: the claim was lost to a timeout, a cancel or a rescue");
        // A change in this batch may have taken the claim. If that change is not written, the step is decided again and may be
        // recorded.
        match self.batch.executions.get_mut(&id) {
            Some(change) if claim.runner == self.runner => change.steps.push(PendingStep {
                task,
                claim,
                record,
                reply,
                is_held: false,
            }),
            _ => reply(Err(Error::claim_lost())),
        }
    }

    /// T5: if the condition of a wait inside a running function already holds, records the end of the wait. The function then
    /// continues and need not exit.
    ///
    /// # Errors
    /// Returns an error if the database does not answer. The message goes to the retry queue.
    fn end_wait(&mut self, message: Message) -> Result<(), StoreError> {
        let Message::EndWait {
            execution: id,
            task,
            claim,
            park,
            is_recorded,
            reply,
        } = message
        else {
            return Ok(());
        };
        let again = |park, reply| Message::EndWait {
            execution: id,
            task,
            claim,
            park,
            is_recorded,
            reply,
        };
        let known = (self.ledger.get(id)).filter(|_| claim.runner == self.runner);
        if !known.is_some_and(|known| known.holds(task, claim)) {
            // A change in this batch may have taken the claim. If that change is not written, this message is decided again.
            match self.batch.executions.get_mut(&id) {
                Some(change) if claim.runner == self.runner => {
                    change.messages.push(again(park, reply));
                }
                _ => reply(Err(Error::claim_lost())),
            }
            return Ok(());
        }
        let leaves = known.and_then(|known| known.leaves_now(task, &park, self.now));
        let Some(leaves) = leaves else {
            // The condition is not valid. The function exits to wait, and then the task fails with the reason.
            reply(Ok(None));
            return Ok(());
        };
        let found = match self.read_for(id, task, &park, is_recorded, &leaves) {
            Ok(found) => found,
            Err(error @ StoreError::Unavailable(_)) => {
                self.retry.push(again(park, reply));
                return Err(error);
            }
            Err(error) => {
                reply(Err(error.into()));
                return Ok(());
            }
        };
        let (found, Some(execution)) = (found, self.ledger.get_mut(id)) else {
            reply(Err(Error::claim_lost()));
            return Ok(());
        };
        let found = match found {
            WaitProgress::Signals(found) => found,
            WaitProgress::Ended(step) => {
                reply(Ok(Some(step)));
                return Ok(());
            }
        };
        let change = self.batch.change(execution);
        if let Some(changes) = execution.end_wait_now(task, &park, leaves, &found, self.now) {
            change.changes.merge(changes);
            change.messages.push(again(park, reply));
        } else {
            self.batch.drop_if_empty(id);
            reply(Ok(None));
        }
        Ok(())
    }

    /// Returns the recorded end of a wait, if the end may already be recorded (`is_recorded`) and is found. Otherwise
    /// reads the signals for the wait.
    fn read_for(
        &self,
        id: ExecutionId,
        task: Ordinal,
        park: &Park,
        is_recorded: bool,
        leaves: &[Leaf],
    ) -> Result<WaitProgress, StoreError> {
        if is_recorded {
            let steps = self.store.steps(id, Some(task))?;
            if let Some((_, step)) = steps.into_iter().find(|(_, step)| step.key == park.key) {
                return Ok(WaitProgress::Ended(step));
            }
        }
        let cursors: Vec<Cursor> = leaves.iter().flat_map(Leaf::cursors).cloned().collect();
        let found = if cursors.is_empty() {
            Vec::new()
        } else {
            self.store.signals(&cursors)?
        };
        Ok(WaitProgress::Signals(found))
    }

    /// Answers an attempt with the recorded steps of its task. The attempt's claim is durable, so no other attempt can add
    /// steps.
    ///
    /// # Errors
    /// Returns an error if the database does not answer. The message goes to the retry queue.
    fn load_steps(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        item: Option<u32>,
        reply: Reply<Vec<StepRecord>>,
    ) -> Result<(), StoreError> {
        let steps = match item {
            Some(item) => self.store.item_steps(id, task, item),
            None => (self.store.steps(id, Some(task)))
                .map(|steps| steps.into_iter().map(|(_, step)| step).collect()),
        };
        match steps {
            Ok(steps) => {
                reply(Ok(steps));
                Ok(())
            }
            Err(error @ StoreError::Unavailable(_)) => {
                self.retry.push(Message::LoadSteps {
                    execution: id,
                    task,
                    item,
                    reply,
                });
                Err(error)
            }
            Err(error) => {
                reply(Err(error.into()));
                Ok(())
            }
        }
    }
}
