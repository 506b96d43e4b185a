//! Steps that running attempts record and ask for (semantics T).

use crate::runtime::Reply;
use crate::runtime::batch::PendingStep;
use crate::runtime::message::Message;
use crate::runtime::step::Step;
use crate::store::StoreError;
use crate::types::{Claim, Error, ExecutionId, Ordinal, StepRecord};

impl Step {
    /// Decides a message of a running attempt about its steps.
    ///
    /// # Errors
    /// When the database does not answer. The message goes to the retry queue.
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

    /// Decides a step that an attempt records.
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
        // After a runner was declared dead, its attempts cannot record (E4, T8).
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
        tracing::info!(execution_id = %id, step = record.key, attempt = claim.attempt, "step not recorded: the claim was lost, by a timeout, a cancel or a rescue");
        // If the change that took the claim in this turn is not written, the step is decided again and may count.
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

    /// Answers an attempt with the steps of its task that are recorded. Its claim is durable, so no other attempt adds any.
    ///
    /// # Errors
    /// When the database does not answer. The message goes to the retry queue.
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
