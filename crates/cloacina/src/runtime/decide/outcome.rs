//! Decisions about attempts that start, end or overrun their timeout, and about executions that overrun their timeout
//! (semantics D).

use super::starts::refuse_derived_starts;
use crate::engine::{Finish, Outcome};
use crate::runtime::Message;
use crate::runtime::assignment::Executor;
use crate::runtime::metrics::is_counted;
use crate::runtime::step::Step;
use crate::store::{AttemptStart, StoreError};
use crate::types::{
    Claim, ExecutionId, ExecutionStatus, Micros, Monotonic, Ordinal, TaskRecord, Timestamp,
};

impl Step {
    /// Decides what happens after an attempt has ended.
    ///
    /// # Errors
    /// Returns an error if the database does not answer. The message goes to the retry queue.
    pub(in crate::runtime) fn finish(
        &mut self,
        id: ExecutionId,
        mut finish: Finish,
        executor: Executor,
        ran: Micros,
    ) -> Result<(), StoreError> {
        let Finish { task, claim, .. } = finish;
        if claim.item.is_some() {
            self.finish_item(id, finish, executor, ran);
            return Ok(());
        }
        refuse_derived_starts(&mut finish.outcome);
        let asked = finish.outcome.clone();
        let starts = match self.found_starts(&mut finish.outcome) {
            Ok(starts) => starts,
            Err(error) => {
                finish.outcome = asked;
                self.retry.push(Message::Finished {
                    execution: id,
                    finish,
                    executor,
                    ran,
                });
                return Err(error);
            }
        };
        if let Some(at) = finish.started_at {
            self.note_running(AttemptStart {
                execution: id,
                task,
                claim,
                at,
            });
        }
        let was_mine = self.drop_claim(id, task, claim);
        if matches!(finish.outcome, Outcome::Snooze { .. } | Outcome::Released) {
            let queue = self.capacity.queues().of(executor);
            queue.forget_start((id, task, claim));
        }
        if was_mine && !matches!(finish.outcome, Outcome::Released) {
            self.capacity.note_run(executor, ran);
        }
        let limits = self.limits();
        let random = self.random();
        let Some(execution) = self.ledger.get_mut(id) else {
            return Ok(());
        };
        // A runner that was declared dead gets a new id, and drops the results of attempts of its old id (E4).
        if claim.runner != self.runner || !execution.holds(task, claim) {
            let name = &execution.workflow().task(task).id;
            self.metrics.count_dropped();
            tracing::info!(execution_id = %id, task_id = %name, attempt = claim.attempt, "the result of a task was dropped: the claim was lost to a timeout, a cancel or a rescue");
            if execution.workflow().finals().is_some() {
                // Final tasks may have been waiting for the end of this attempt (Q2).
                self.signals.raise(crate::runtime::step::Signal::Waits);
            }
            // A change in this batch may have taken the claim. If that change is not written, the result is decided again and
            // may count.
            if claim.runner == self.runner
                && let Some(change) = self.batch.executions.get_mut(&id)
            {
                change.messages.push(Message::Finished {
                    execution: id,
                    finish: Finish {
                        outcome: asked,
                        ..finish
                    },
                    executor,
                    ran,
                });
            }
            return Ok(());
        }
        let change = self.batch.change(execution);
        let retry = Finish {
            outcome: asked,
            ..finish
        };
        let written = match &finish.outcome {
            Outcome::Completed(delta) | Outcome::Starting { delta, .. } => delta.size(),
            _ => 0,
        };
        if let Ok(changes) = execution.finish(finish, limits, self.now, random) {
            change.changes.merge(changes);
            // A result that is decided again has already been counted.
            if was_mine && is_counted(&retry.outcome) {
                self.metrics
                    .count_finished(execution, task, retry.started_at, ran);
            }
            change.messages.push(Message::Finished {
                execution: id,
                finish: retry,
                executor,
                ran,
            });
            self.ledger.grow(id, written);
            self.submit_starts(id, task, starts);
        }
        Ok(())
    }

    /// Sets the deadline of an execution with a timeout when a worker starts its first task.
    pub(in crate::runtime) fn note_start(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        at: Timestamp,
    ) {
        self.note_running(AttemptStart {
            execution: id,
            task,
            claim,
            at,
        });
        let Some(execution) = self.ledger.get_mut(id) else {
            return;
        };
        let is_mine = claim.runner == self.runner && execution.holds(task, claim);
        if execution.record().deadline.is_some() || !is_mine {
            return;
        }
        let change = self.batch.change(execution);
        change.changes.merge(execution.start(task, claim, at));
        change.messages.push(Message::Started {
            execution: id,
            task,
            claim,
            at,
        });
        self.watch_deadline(id);
    }

    /// Decides what happens after an attempt has overrun its timeout. `is_counted`: whether the metrics already count the
    /// timeout.
    pub(in crate::runtime) fn overdue(
        &mut self,
        attempt: AttemptStart,
        timeout: Micros,
        is_counted: bool,
    ) {
        let AttemptStart {
            execution: id,
            task,
            claim,
            at: started_at,
        } = attempt;
        if claim.item.is_some() {
            return self.item_overdue(attempt, timeout, is_counted);
        }
        let (limits, random) = (self.limits(), self.random());
        let Some(execution) = self.ledger.get_mut(id) else {
            return;
        };
        if claim.runner != self.runner {
            return;
        }
        let holds = execution.holds(task, claim);
        let retry = Message::Overdue {
            attempt,
            timeout,
            is_counted: is_counted || holds,
        };
        if !holds {
            // A change in this batch may have taken the claim. If that change is not written, this message is decided again.
            if let Some(change) = self.batch.executions.get_mut(&id) {
                change.messages.push(retry);
            }
            return;
        }
        let change = self.batch.change(execution);
        execution.note_started(task, claim, started_at);
        if let Some(mut changes) =
            execution.time_out_task(task, claim, timeout, limits, self.now, random)
        {
            changes.interrupted.clear(); // the queue has already interrupted the worker
            change.changes.merge(changes);
            change.messages.push(retry);
            if !is_counted {
                self.metrics
                    .count_finished(execution, task, Some(started_at), timeout);
            }
        }
    }

    /// Fails an execution whose deadline has passed. If the deadline is in the future, watches it.
    pub(in crate::runtime) fn deadline(&mut self, id: ExecutionId) {
        let Some(execution) = self.ledger.get(id) else {
            return;
        };
        // The deadline of a paused execution is suspended until the execution is resumed.
        if execution.record().status != ExecutionStatus::Running {
            return;
        }
        let Some(at) = self.deadline_of(execution) else {
            return;
        };
        if at > self.monotonic {
            return self.ledger.watch_deadline(id, at);
        }
        // If this process has not observed the clock since the execution started, it cannot know whether a change of
        // the wall clock has made the deadline wrong. A peer that runs a task of the execution can know, and will time
        // the execution out. If the peer dies, its claim is taken back, and this process decides.
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
            let next_check = self.monotonic + self.lease();
            return self.ledger.watch_deadline(id, next_check);
        }
        self.note_starts_of(id);
        if let Some(execution) = self.ledger.get_mut(id) {
            let change = self.batch.change(execution);
            // The deadline has passed, even if the wall clock was set back and shows an earlier time.
            let ended_at = execution
                .record()
                .deadline
                .map_or(self.now, |at| at.max(self.now));
            change.changes.merge(execution.time_out(ended_at));
            change.messages.push(Message::Deadline { execution: id });
        }
    }

    /// Returns messages for the attempts and executions whose timeout has passed (semantics D4, D5).
    pub(in crate::runtime) fn overdue_messages(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        for executor in Executor::ALL {
            let overdue = self
                .capacity
                .queues()
                .of(executor)
                .take_overdue(self.monotonic);
            for attempt in overdue {
                let start = AttemptStart {
                    execution: attempt.execution,
                    task: attempt.task,
                    claim: attempt.claim,
                    at: attempt.started_at,
                };
                self.note_running(start);
                // The queue has already given the slot to another worker.
                self.drop_claim(start.execution, start.task, start.claim);
                messages.push(Message::Overdue {
                    attempt: start,
                    timeout: attempt
                        .deadline
                        .map_or(0, |deadline| deadline.since(attempt.started)),
                    is_counted: false,
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
