//! Attempts: when one starts, ends or overruns its timeout, and when an execution overruns its own (semantics D).

use crate::engine::{Finish, Outcome};
use crate::runtime::Message;
use crate::runtime::assignment::Executor;
use crate::runtime::metrics::OutcomeKind;
use crate::runtime::step::Step;
use crate::types::{
    Claim, ExecutionId, ExecutionStatus, Micros, Monotonic, Ordinal, TaskRecord, Timestamp,
};

impl Step {
    pub(in crate::runtime) fn finish(
        &mut self,
        id: ExecutionId,
        finish: Finish,
        executor: Executor,
        ran: Micros,
    ) {
        let Finish { task, claim, .. } = finish;
        let was_mine = self.drop_claim(id, task, claim);
        if was_mine && !matches!(finish.outcome, Outcome::Released) {
            self.capacity.ran(executor, ran);
        }
        let limits = self.limits();
        let random = self.random();
        let Some(execution) = self.ledger.get_mut(id) else {
            return;
        };
        // A runner that was declared dead and goes on under a new id drops what the old one ran (E4).
        if claim.runner != self.runner || !execution.holds(task, claim) {
            let name = &execution.workflow().task(task).id;
            self.metrics.dropped();
            tracing::info!(execution_id = %id, task_id = %name, attempt = claim.attempt, "result dropped: the claim was lost, by a timeout, a cancel or a rescue");
            // What took the claim in this very turn may turn out not to be written: then the result counts.
            if claim.runner == self.runner
                && let Some(change) = self.batch.executions.get_mut(&id)
            {
                change.messages.push(Message::Finished {
                    execution: id,
                    finish,
                    executor,
                    ran,
                });
            }
            return;
        }
        let change = self.batch.change(execution);
        let again = finish.clone();
        let written = match &finish.outcome {
            Outcome::Completed(delta) => delta.size(),
            _ => 0,
        };
        if let Ok(changes) = execution.finish(finish, limits, self.now, random) {
            change.changes.absorb(changes);
            // A result that is decided anew was counted the first time.
            if was_mine {
                let kind = OutcomeKind::of(&again.outcome);
                self.metrics
                    .finished(execution, task, &kind, again.started_at, ran);
            }
            change.messages.push(Message::Finished {
                execution: id,
                finish: again,
                executor,
                ran,
            });
            self.ledger.grow(id, written);
        }
    }

    /// A worker entered a task whose execution has a timeout and no deadline yet.
    pub(in crate::runtime) fn note_start(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        at: Timestamp,
    ) {
        let Some(execution) = self.ledger.get_mut(id) else {
            return;
        };
        let is_mine = claim.runner == self.runner && execution.holds(task, claim);
        if execution.record().deadline.is_some() || !is_mine {
            return;
        }
        let change = self.batch.change(execution);
        change.changes.absorb(execution.start(task, claim, at));
        change.messages.push(Message::Started {
            execution: id,
            task,
            claim,
            at,
        });
        self.watch_deadline(id);
    }

    pub(in crate::runtime) fn overdue(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        timeout: Micros,
    ) {
        let (limits, random) = (self.limits(), self.random());
        let Some(execution) = self.ledger.get_mut(id) else {
            return;
        };
        if claim.runner != self.runner {
            return;
        }
        let again = Message::Overdue {
            execution: id,
            task,
            claim,
            timeout,
        };
        if !execution.holds(task, claim) {
            // As for a result: what took the claim in this very turn may turn out not to be written.
            if let Some(change) = self.batch.executions.get_mut(&id) {
                change.messages.push(again);
            }
            return;
        }
        let change = self.batch.change(execution);
        if let Some(mut changes) =
            execution.time_out_task(task, claim, timeout, limits, self.now, random)
        {
            changes.interrupted.clear(); // the queue has told the worker already
            change.changes.absorb(changes);
            change.messages.push(again);
        }
    }

    /// The deadline of an execution may have passed.
    pub(in crate::runtime) fn deadline(&mut self, id: ExecutionId) {
        let Some(execution) = self.ledger.get(id) else {
            return;
        };
        // While paused the deadline is held; resuming sets it anew.
        if execution.record().status != ExecutionStatus::Running {
            return;
        }
        let Some(at) = self.deadline_of(execution) else {
            return;
        };
        if at > self.monotonic {
            return self.ledger.watch_deadline(id, at);
        }
        // A peer that runs a task of it has watched the clock for longer, and ends it in time. If the peer dies, its claim goes.
        let record = execution.record();
        let is_of_peer = |claim: Claim| claim.runner != self.runner;
        let began = Monotonic(at.0.saturating_sub(record.timeout.unwrap_or(0)));
        if !self.timeline.covers(began)
            && record
                .tasks
                .iter()
                .filter_map(TaskRecord::claim)
                .any(is_of_peer)
        {
            let again = self.monotonic + self.lease();
            return self.ledger.watch_deadline(id, again);
        }
        if let Some(execution) = self.ledger.get_mut(id) {
            let change = self.batch.change(execution);
            // The wall clock may have been set back: the deadline has passed all the same.
            let ended_at = execution
                .record()
                .deadline
                .map_or(self.now, |at| at.max(self.now));
            change.changes.absorb(execution.time_out(ended_at));
            change.messages.push(Message::Deadline { execution: id });
        }
    }

    /// The attempts and executions whose timeout has passed, as messages (semantics D4, D5).
    pub(in crate::runtime) fn overdue_messages(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        for executor in Executor::ALL {
            let overdue = self
                .capacity
                .queues()
                .of(executor)
                .take_overdue(self.monotonic);
            for attempt in overdue {
                let (execution, task, claim) = (attempt.execution, attempt.task, attempt.claim);
                // The slot is free from here on: the queue has given it to another worker.
                self.drop_claim(execution, task, claim);
                messages.push(Message::Overdue {
                    execution,
                    task,
                    claim,
                    timeout: attempt
                        .deadline
                        .map_or(0, |deadline| deadline.since(attempt.started)),
                });
            }
        }
        let overdue = self.ledger.take_overdue(self.monotonic);
        messages.extend(
            overdue
                .into_iter()
                .map(|execution| Message::Deadline { execution }),
        );
        messages
    }
}
