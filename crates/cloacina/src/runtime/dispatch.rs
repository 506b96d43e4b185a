//! Puts claimed tasks, and the callbacks of tasks that have ended, into the work queues.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustc_hash::FxHashSet;

use super::assignment::{Assignment, Callback, Executor};
use super::quarantine::Suspect;
use super::step::Step;
use crate::engine::Execution;
use crate::store::Claimed;
use crate::types::{Claim, Context, ExecutionId, NO_TIMEOUT, Ordinal, TaskStatus, micros};

/// The work that a turn dispatches. The tasks are grouped by executor.
#[derive(Default)]
pub(super) struct Dispatch {
    pub(super) assignments: [Vec<Assignment>; 3],
    pub(super) callbacks: Vec<Callback>,
}

impl Step {
    /// Prepares a claimed task for its executor's queue. Puts a task that may have crashed its process (a suspect) into
    /// quarantine instead.
    pub(super) fn assign(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        claim: Claim,
        dispatch: &mut Dispatch,
    ) {
        let limits = self.limits();
        let Some(execution) = self.ledger.get(id) else {
            return;
        };
        let Some(handler) = self
            .registry
            .handler(execution.record().definition, ordinal)
        else {
            return;
        };
        if execution.is_suspect(ordinal, limits) {
            return self.isolate(Suspect {
                execution: id,
                task: ordinal,
                claim,
                executor: handler.executor,
                rescues: None,
            });
        }
        self.assign_now(id, ordinal, claim, dispatch);
    }

    /// Prepares a claimed task for its executor's queue. This is also used for a suspect once it may start.
    pub(super) fn assign_now(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        claim: Claim,
        dispatch: &mut Dispatch,
    ) {
        let Some(execution) = self.ledger.get_mut(id) else {
            return;
        };
        let context = execution.view_with_signals(ordinal);
        let context = match self.with_map_results(id, ordinal, context) {
            Ok(context) => context,
            Err(error) => {
                tracing::warn!(%error, execution_id = %id, "cannot read the results of a map; the task that needs them is tried again");
                return self.release(id, ordinal, claim, Executor::Threads);
            }
        };
        self.assign_with(id, ordinal, claim, context, dispatch);
    }

    /// Prepares a claimed task, or a claimed item of a map, with the given context.
    pub(super) fn assign_with(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        claim: Claim,
        context: Arc<Context>,
        dispatch: &mut Dispatch,
    ) {
        let Some(execution) = self.ledger.get(id) else {
            return;
        };
        let Some(handler) = self
            .registry
            .handler(execution.record().definition, ordinal)
        else {
            return;
        };
        let record = execution.record();
        let definition = execution.workflow().task(ordinal);
        dispatch.assignments[handler.executor.index()].push(Assignment {
            execution: id,
            workflow: Arc::clone(execution.workflow()),
            task: ordinal,
            claim,
            context,
            handler: handler.token,
            timeout: definition
                .timeout
                .or_else(|| self.config.task_timeout.map(micros))
                .filter(|timeout| *timeout < NO_TIMEOUT),
            reports_start: record.timeout.is_some() && record.deadline.is_none(),
            priority: execution.priority(ordinal),
            max_context_bytes: (definition.max_context_bytes)
                .unwrap_or(self.config.max_context_bytes),
            forward_key: execution.forward_key(ordinal, claim.item),
            insight: Arc::clone(&self.progress),
            cancelled: Arc::new(AtomicBool::new(false)),
            pulse: Arc::default(),
        });
    }

    /// Updates the executions in the ledger with the claims that the store made. Returns the executions that must be read.
    pub(super) fn follow_claims(&mut self, claims: &[Claimed]) -> Vec<ExecutionId> {
        let mut missing: FxHashSet<ExecutionId> = FxHashSet::default();
        for claimed in claims {
            let id = claimed.execution;
            let is_next = |execution: &crate::engine::Execution| {
                execution.record().revision + 1 == claimed.revision
            };
            match self
                .ledger
                .get_mut(id)
                .filter(|execution| is_next(execution))
            {
                Some(execution) if !missing.contains(&id) => {
                    execution.note_claim(claimed.ordinal, self.runner);
                    execution.set_revision(claimed.revision);
                    execution.note_written([claimed.ordinal]);
                }
                _ => {
                    self.ledger.remove(id);
                    missing.insert(id);
                }
            }
        }
        let mut missing: Vec<ExecutionId> = missing.into_iter().collect();
        missing.sort_unstable();
        missing
    }

    /// Puts prepared tasks and callbacks into the queues.
    pub(super) fn dispatch(&self, mut dispatch: Dispatch) {
        for executor in Executor::ALL {
            // Only worker threads call callbacks.
            let callbacks = if executor == Executor::Threads {
                std::mem::take(&mut dispatch.callbacks)
            } else {
                Vec::new()
            };
            self.capacity.queues().of(executor).push(
                std::mem::take(&mut dispatch.assignments[executor.index()]),
                callbacks,
                self.capacity.expects_short(executor),
            );
        }
    }

    /// Takes over the claims of an execution that belong to this runner according to the database, but that this process does
    /// not hold. Skips a claim if a message that ends its attempt has not been decided yet. Returns the
    /// claims instead if the runner is stopping or has no handler for the task.
    pub(super) fn adopt(&mut self, id: ExecutionId) {
        let Some(execution) = self.ledger.get(id) else {
            return;
        };
        let definition = execution.record().definition;
        let tasks = (0..).zip(&execution.record().tasks);
        let claims: Vec<(Ordinal, Claim)> = tasks
            .filter_map(|(ordinal, task)| task.claim().map(|claim| (ordinal, claim)))
            .filter(|(ordinal, claim)| {
                let held = self.ledger.held(id, *ordinal, None);
                claim.runner == self.runner
                    && held.is_none_or(|held| held.claim != *claim)
                    && !self.ended.contains(&(id, *ordinal, *claim))
            })
            .collect();
        let mut dispatch = Dispatch::default();
        for (ordinal, claim) in claims {
            let handler = self.registry.handler(definition, ordinal);
            match handler.filter(|_| !self.is_stopping) {
                Some(handler) => {
                    self.note_claim(id, ordinal, claim, handler.executor);
                    self.assign(id, ordinal, claim, &mut dispatch);
                }
                None => self.release(id, ordinal, claim, Executor::Threads),
            }
        }
        self.dispatch(dispatch);
    }

    /// Stops an attempt of this process after its claim was taken away.
    pub(super) fn interrupt(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        claim: Claim,
        priority: i16,
    ) {
        let Some(held) = self.ledger.held(id, ordinal, claim.item) else {
            return;
        };
        let queue = Arc::clone(self.capacity.queues().of(held.executor));
        // A retry in the same step may have claimed the task again. In this case only the running attempt is stopped.
        let is_waiting = held.claim == claim
            && (self.quarantine.withdraw(id, ordinal, claim.item)
                || queue.withdraw(id, (ordinal, claim.item), priority));
        let timed_out = || (self.ledger.get(id)).is_some_and(Execution::has_timed_out);
        // D5: a function on a thread may never return. After a timeout of the execution, another worker gets its
        // slot.
        let is_free = is_waiting
            || (held.executor == Executor::Threads
                && timed_out()
                && queue.take_away((id, ordinal, claim)));
        if is_free {
            self.drop_claim(id, ordinal, claim);
        } else {
            queue.interrupt(id, ordinal, claim);
        }
    }

    /// Returns the callback of a task whose end is durable, if this program registered one for the task.
    pub(super) fn callback(&mut self, id: ExecutionId, ordinal: Ordinal) -> Option<Callback> {
        let execution = self.ledger.get_mut(id)?;
        let handler = self
            .registry
            .handler(execution.record().definition, ordinal)?;
        let failed = match execution.task(ordinal).status {
            TaskStatus::Failed if handler.on_failure => true,
            TaskStatus::Completed if handler.on_success => false,
            // The task has no callback, or a retry in the same step has reset it.
            _ => return None,
        };
        let mut context = execution.view_with_signals(ordinal);
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
            execution: id,
            error: error.map(|failure| format!("{}: {}", failure.short_type(), failure.message)),
            context,
            open: self.subscriptions.open_callback(id),
        })
    }
}
