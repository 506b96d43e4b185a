//! Claimed tasks on their way to the queues, and what is called after them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::assignment::{Assignment, Callback, Executor};
use super::coordinator::Coordinator;
use super::submitting::micros;
use crate::types::{Claim, ExecutionId, Ordinal, TaskStatus};

/// Work on its way to the queues, by executor.
#[derive(Default)]
pub(super) struct Handover {
    pub(super) assignments: [Vec<Assignment>; 3],
    pub(super) callbacks: Vec<Callback>,
}

impl Coordinator {
    /// Hands a claimed task to its executor's queue.
    pub(super) fn assign(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        claim: Claim,
        work: &mut Handover,
    ) {
        let Some(cached) = self.cache.get_mut(id) else {
            return;
        };
        let execution = &mut cached.execution;
        let Some(handler) = self
            .registry
            .handler(execution.record().definition, ordinal)
        else {
            return;
        };
        let context = execution.view(ordinal);
        let record = execution.record();
        let definition = execution.workflow().task(ordinal);
        work.assignments[handler.executor.index()].push(Assignment {
            execution: id,
            workflow: Arc::clone(execution.workflow()),
            task: ordinal,
            claim,
            context,
            handler: handler.token,
            timeout: definition
                .timeout
                .or_else(|| self.config.task_timeout.map(micros)),
            reports_start: record.timeout.is_some() && record.deadline.is_none(),
            priority: execution.priority(ordinal),
            insight: Arc::clone(&self.insight),
            cancelled: Arc::new(AtomicBool::new(false)),
            pulse: Arc::default(),
        });
    }

    /// Puts adopted or reclaimed work into the queues.
    pub(super) fn hand_over(&self, mut work: Handover) {
        for executor in Executor::ALL {
            let assignments = std::mem::take(&mut work.assignments[executor.index()]);
            self.queues
                .of(executor)
                .push(assignments, Vec::new(), false);
        }
    }

    /// Takes work back into this process's books that the database says is ours, but what has `ended` here already.
    pub(super) fn adopt(&mut self, id: ExecutionId, ended: &[(ExecutionId, Ordinal, Claim)]) {
        let runner = self.runner;
        let Some(cached) = self.cache.get(id) else {
            return;
        };
        let tasks = (0..).zip(&cached.execution.record().tasks);
        let claims: Vec<(Ordinal, Claim)> = tasks
            .filter_map(|(ordinal, task)| task.claim().map(|claim| (ordinal, claim)))
            .filter(|(ordinal, claim)| {
                claim.runner == runner
                    && (self.in_flight.get(&(id, *ordinal))).is_none_or(|(held, _)| held != claim)
                    && !ended.contains(&(id, *ordinal, *claim))
            })
            .collect();
        let mut work = Handover::default();
        for (ordinal, claim) in claims {
            let Some(cached) = self.cache.get(id) else {
                continue;
            };
            let Some(handler) = self
                .registry
                .handler(cached.execution.record().definition, ordinal)
            else {
                self.release(id, ordinal, claim, Executor::Threads);
                continue;
            };
            self.note_claim(id, ordinal, claim, handler.executor);
            self.assign(id, ordinal, claim, &mut work);
        }
        self.hand_over(work);
    }
}

/// What is called once the task's end is durable.
pub(super) fn callback(
    registry: &super::registry::Registry,
    cached: &mut super::cache::Cached,
    ordinal: Ordinal,
) -> Option<Callback> {
    let execution = &mut cached.execution;
    let handler = registry.handler(execution.record().definition, ordinal)?;
    let failed = match execution.task(ordinal).status {
        TaskStatus::Failed if handler.on_failure => true,
        TaskStatus::Completed if handler.on_success => false,
        // Nobody asked, or a retry in the same step has overtaken the end.
        _ => return None,
    };
    let mut context = execution.view(ordinal);
    if let Some(delta) = execution
        .task(ordinal)
        .delta
        .as_deref()
        .filter(|delta| !failed && !delta.is_empty())
    {
        let mut after = (*context).clone();
        after.apply(delta);
        context = Arc::new(after);
    }
    let error = execution.task(ordinal).error.as_ref().filter(|_| failed);
    Some(Callback {
        handler: handler.token,
        task: execution.workflow().task(ordinal).id.clone(),
        workflow: Arc::clone(execution.workflow()),
        execution: execution.record().id,
        error: error.map(|failure| format!("{}: {}", failure.short_type(), failure.message)),
        context,
    })
}
