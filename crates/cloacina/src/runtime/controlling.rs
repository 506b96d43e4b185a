//! Ends of attempts, control of executions, and timers.

use super::assignment::Executor;
use super::coordinator::Coordinator;
use super::draft::Draft;
use super::metrics::OutcomeKind;
use super::{Control, Message, Reply};
use crate::engine::{Changes, ControlError, Finish, Outcome};
use crate::types::{
    Claim, Error, ErrorCode, ExecutionId, ExecutionStatus, Micros, Ordinal, Timestamp, nearest,
};

impl Coordinator {
    pub(super) fn finish(
        &mut self,
        id: ExecutionId,
        finish: Finish,
        executor: Executor,
        ran: Micros,
        draft: &mut Draft,
        now: Timestamp,
    ) {
        let Finish { task, claim, .. } = finish;
        let was_mine = self
            .in_flight
            .get(&(id, task))
            .is_some_and(|(held, _)| *held == claim);
        if was_mine {
            self.in_flight.remove(&(id, task));
            self.free_slot(id, task, executor);
            if !matches!(finish.outcome, Outcome::Released) {
                self.backlogs[executor.index()].ran(ran);
            }
            if let Some(cached) = self.cache.get_mut(id) {
                cached.in_flight = cached.in_flight.saturating_sub(1);
            }
        }
        let limits = self.limits();
        let random = self.random.f64();
        let Some(cached) = self.cache.get_mut(id) else {
            return;
        };
        // A runner that was declared dead and goes on under a new id drops what the old one ran (E4).
        if claim.runner != self.runner || !cached.execution.holds(task, claim) {
            let name = &cached.execution.workflow().task(task).id;
            self.metrics.dropped();
            tracing::info!(execution_id = %id, task_id = %name, attempt = claim.attempt, "result dropped: the claim was lost, by a timeout, a cancel or a rescue");
            // What took the claim in this very step may turn out not to be written: then the result counts.
            if claim.runner == self.runner
                && let Some(touched) = draft.touched.get_mut(&id)
            {
                touched.messages.push(Message::Finished {
                    execution: id,
                    finish,
                    executor,
                    ran,
                });
            }
            return;
        }
        let touched = draft.touch(&cached.execution);
        let again = finish.clone();
        if let Ok(changes) = cached.execution.finish(finish, limits, now, random) {
            touched.changes.absorb(changes);
            // A result that is decided anew was counted the first time.
            if was_mine {
                let kind = OutcomeKind::of(&again.outcome);
                let execution = &cached.execution;
                self.metrics
                    .finished(execution, task, &kind, again.started_at, ran);
            }
            touched.messages.push(Message::Finished {
                execution: id,
                finish: again,
                executor,
                ran,
            });
        }
    }

    pub(super) fn note_start(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        at: Timestamp,
        draft: &mut Draft,
    ) {
        let Some(cached) = self.cache.get_mut(id) else {
            return;
        };
        let before = cached.execution.record().deadline;
        let is_mine = claim.runner == self.runner && cached.execution.holds(task, claim);
        if before.is_some() || !is_mine {
            return;
        }
        let touched = draft.touch(&cached.execution);
        touched
            .changes
            .absorb(cached.execution.start(task, claim, at));
        touched.messages.push(Message::Started {
            execution: id,
            task,
            claim,
            at,
        });
        if let Some(deadline) = cached.execution.record().deadline {
            self.deadlines.insert((deadline, id));
        }
    }

    pub(super) fn control(
        &mut self,
        id: ExecutionId,
        action: Control,
        give_up: Timestamp,
        reply: Reply<ExecutionStatus>,
        draft: &mut Draft,
        now: Timestamp,
    ) {
        let Some(cached) = self.cache.get_mut(id) else {
            return reply(Err(unknown_execution(id)));
        };
        let from_task = match &action {
            Control::Retry {
                from_task: Some(task),
            } => match cached.execution.workflow().ordinal(task) {
                Some(ordinal) => Some(ordinal),
                None => return reply(Err(unknown_task(cached.execution.workflow(), task))),
            },
            _ => None,
        };
        let touched = draft.touch(&cached.execution);
        let execution = &mut cached.execution;
        let decided = match &action {
            Control::Cancel => execution.cancel(now),
            Control::Pause => execution.pause(now),
            Control::Resume => execution.resume(now),
            Control::Retry { .. } => {
                self.waiters.forget_recent(Some(id));
                execution.retry(from_task, now)
            }
        };
        match decided {
            Ok(changes) => {
                touched.changes.absorb(changes);
                touched.replies.push((reply, action, give_up));
                if let Some(deadline) = execution.record().deadline {
                    self.deadlines.insert((deadline, id));
                }
            }
            Err(error) => reply(Err(control_error(error))),
        }
        drop_untouched(id, draft);
    }

    /// The timers that are due, as messages (semantics D3–D5).
    pub(super) fn due_messages(&mut self, now: Timestamp) -> Vec<Message> {
        let mut messages = Vec::new();
        let monotonic = self.clock.monotonic();
        for executor in Executor::ALL {
            for running in self.queues.of(executor).take_overdue(monotonic) {
                let (execution, task, claim) = (running.execution, running.task, running.claim);
                // The slot is free from here on: the queue has given it to another worker.
                self.forget_claim(execution, task, claim);
                let timeout = running
                    .deadline
                    .map_or(0, |deadline| deadline.since(running.started));
                messages.push(Message::Overdue {
                    execution,
                    task,
                    claim,
                    timeout,
                });
            }
        }
        while let Some((deadline, execution)) = self
            .deadlines
            .first()
            .copied()
            .filter(|(due, _)| *due <= now)
        {
            self.deadlines.remove(&(deadline, execution));
            messages.push(Message::Deadline { execution });
        }
        if self.next_due.is_some_and(|due| due <= now) {
            self.next_due = None;
            for backlog in &mut self.backlogs {
                backlog.look_again();
            }
        }
        messages
    }

    pub(super) fn overdue(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        timeout: Micros,
        draft: &mut Draft,
        now: Timestamp,
    ) {
        let random = self.random.f64();
        let Some(cached) = self.cache.get_mut(id) else {
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
        if !cached.execution.holds(task, claim) {
            // As for a result: what took the claim in this very step may turn out not to be written.
            if let Some(touched) = draft.touched.get_mut(&id) {
                touched.messages.push(again);
            }
            return;
        }
        let touched = draft.touch(&cached.execution);
        if let Some(mut changes) = cached
            .execution
            .time_out_task(task, claim, timeout, now, random)
        {
            changes.interrupted.clear(); // the queue has told the worker already
            touched.changes.absorb(changes);
            touched.messages.push(again);
        }
    }

    pub(super) fn deadline(&mut self, id: ExecutionId, draft: &mut Draft, now: Timestamp) {
        let Some(cached) = self.cache.get_mut(id) else {
            return;
        };
        let record = cached.execution.record();
        // While paused the deadline is held; resuming sets it anew.
        let Some(deadline) = record
            .deadline
            .filter(|_| record.status == ExecutionStatus::Running)
        else {
            return;
        };
        if deadline > now {
            self.deadlines.insert((deadline, id));
            return;
        }
        let touched = draft.touch(&cached.execution);
        touched.changes.absorb(cached.execution.time_out(now));
        touched.messages.push(Message::Deadline { execution: id });
    }
}

/// A refused request leaves no empty write behind.
fn drop_untouched(id: ExecutionId, draft: &mut Draft) {
    let idle = draft.touched.get(&id).is_some_and(|touched| {
        touched.expected.is_some()
            && touched.changes == Changes::default()
            && touched.messages.is_empty()
            && touched.replies.is_empty()
    });
    if idle {
        draft.touched.shift_remove(&id);
    }
}

pub(super) fn unknown_execution(id: ExecutionId) -> Error {
    Error::new(
        ErrorCode::ExecutionNotFound,
        format!("there is no execution {id}"),
    )
    .with_hint("it may have been pruned, or be in another database")
}

pub(super) fn unknown_task(workflow: &crate::workflow::Workflow, task: &str) -> Error {
    let error = Error::new(
        ErrorCode::WorkflowInvalid,
        format!("workflow '{}' has no task '{task}'", workflow.name()),
    );
    match nearest(
        task,
        workflow
            .definition()
            .tasks
            .iter()
            .map(|known| known.id.as_str()),
    ) {
        Some(near) => error.with_hint(format!("did you mean '{near}'?")),
        None => error,
    }
}

pub(super) fn control_error(error: ControlError) -> Error {
    let refused = Error::new(ErrorCode::ExecutionState, error.message);
    match error.hint {
        Some(hint) => refused.with_hint(hint),
        None => refused,
    }
}
