//! The transaction of a turn, and what follows once it is durable: dispatch, callbacks and replies.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};

use super::assignment::Executor;
use super::batch::{PendingChange, ScheduleChange, Submission, WriteBatch};
use super::decide::trace_of;
use super::dispatch::Dispatch;
use super::message::{Message, SubmitRequest};
use super::open_callback::OpenCallback;
use super::prefetch::ClaimKey;
use super::refused_batch::RefusedBatch;
use super::registry::Handler;
use super::step::{Signal, Step};
use crate::store::{Batch, Committed, StoreError, SubmitOutcome};
use crate::types::{Claim, Error, ExecutionId, StepRecord, TaskStatus, micros};

/// The schedule changes of a written batch, each with a flag that says whether the change was applied.
pub(super) type ScheduleResults = Vec<(ScheduleChange, bool)>;

impl Step {
    /// Claims tasks that become ready in this turn, without a query. A task is claimed only if its executor has room for it,
    /// and if no unclaimed task in the database comes before it in claim order.
    pub(super) fn claim_direct(&mut self) {
        let mut candidates: Vec<(ClaimKey, Executor)> = Vec::new();
        for (id, change) in &self.batch.executions {
            let Some(execution) = self.ledger.get(*id) else {
                continue;
            };
            for ordinal in &change.changes.ready {
                let task = execution.task(*ordinal);
                if task.status != TaskStatus::Ready {
                    continue;
                }
                let Some(handler) = self
                    .registry
                    .handler(execution.record().definition, *ordinal)
                else {
                    continue;
                };
                if let Some(ready_at) = task.ready_at {
                    self.capacity.note_due(ready_at);
                    continue;
                }
                let key = (Reverse(execution.priority(*ordinal)), *id, *ordinal);
                candidates.push((key, handler.executor));
            }
        }
        if candidates.is_empty() {
            return;
        }
        candidates.sort_unstable_by_key(|(key, _)| *key);
        candidates.dedup_by_key(|(key, _)| *key);
        let lowest = self.capacity.lowest_waiting();
        for (key, executor) in candidates {
            if self.is_stopping || !self.capacity.allows_direct(executor, key, &lowest) {
                continue;
            }
            let (_, id, ordinal) = key;
            let (Some(change), Some(execution)) =
                (self.batch.executions.get_mut(&id), self.ledger.get_mut(id))
            else {
                continue;
            };
            if let Some(claim) =
                execution.claim(ordinal, self.runner, self.now, &mut change.changes)
            {
                self.note_claim(id, ordinal, claim, executor);
                self.batch.claimed.push((id, ordinal, claim));
            }
        }
    }

    /// Writes the batch in one transaction, which also claims tasks for free slots. Then answers callers and dispatches tasks.
    pub(super) fn commit(&mut self) -> Result<ScheduleResults, Box<RefusedBatch>> {
        let is_held = (self.claims_resume_at).is_some_and(|at| self.monotonic < at);
        let item_claim = if self.is_stopping || is_held {
            Default::default()
        } else {
            self.item_claim()
        };
        let pending = std::mem::take(&mut self.batch);
        let _held = self.hold_ends(&pending);
        for (id, change) in &pending.executions {
            if let (Some(execution), Some(expected)) = (self.ledger.get_mut(*id), change.expected) {
                execution.set_revision(expected + 1);
            }
        }
        let (executors, claim) = if self.is_stopping || is_held {
            Default::default()
        } else {
            self.capacity.claim_request(self.registry.classes())
        };
        let (submits, advances) = pending.rows(&self.ledger);
        let schedules = pending.schedule_rows();
        let mut flow = pending.flow(&self.ledger, self.now);
        (flow.maps.claim, flow.maps.free) = item_claim;
        let claims_items = !flow.maps.claim.is_empty();
        if flow.maps.is_empty()
            && submits.is_empty()
            && advances.is_empty()
            && schedules.is_empty()
            && claim.classes.is_empty()
        {
            answer(pending.submissions, &FxHashMap::default());
            return Ok(Vec::new());
        }
        let batch = Batch {
            runner: self.runner,
            now: self.now,
            schedules,
            submits,
            advances,
            flow,
            claim,
        };
        let has_claim = claims_items || !batch.claim.classes.is_empty();
        let begin = Instant::now();
        match self.store.commit(&batch) {
            Ok(committed) => {
                let changed = batch.submits.len() + batch.advances.len();
                self.metrics
                    .count_committed(changed, micros(begin.elapsed()));
                if has_claim {
                    self.claims_resume_at = None;
                }
                let results = self.apply_commit(pending, &committed, &executors);
                if claims_items {
                    let mut dispatch = Dispatch::default();
                    self.take_items(&committed, &mut dispatch);
                    self.dispatch(dispatch);
                }
                Ok(results)
            }
            Err(error) => Err(Box::new(RefusedBatch {
                has_claim,
                ..self.undo(pending, error)
            })),
        }
    }

    /// For each execution in which a task with a callback ends, returns a guard that delays the replies to callers that wait for
    /// the execution. Without this delay, a caller could see a durable end before the callbacks are queued.
    fn hold_ends(&self, batch: &WriteBatch) -> Vec<Arc<OpenCallback>> {
        if !self.registry.has_callbacks() {
            return Vec::new();
        }
        let has_callback = |id: &ExecutionId, change: &PendingChange| {
            let definition = self.ledger.get(*id)?.record().definition;
            let ended = change.changes.ended_tasks.iter();
            let mut handlers = ended.filter_map(|task| self.registry.handler(definition, *task));
            handlers.find(Handler::has_callback)
        };
        let held = batch.executions.iter();
        held.filter(|(id, change)| has_callback(id, change).is_some())
            .map(|(id, _)| self.subscriptions.open_callback(*id))
            .collect()
    }

    /// Reverts the decisions of a batch that was not written, or whose outcome is not known.
    pub(super) fn undo(&mut self, batch: WriteBatch, error: StoreError) -> RefusedBatch {
        let mut refused = RefusedBatch {
            error,
            messages: Vec::new(),
            rescued: Vec::new(),
            woken: Vec::new(),
            parents: 0,
            schedules: Vec::new(),
            has_claim: false,
        };
        self.quarantine.put_back();
        for change in batch.schedules {
            let id = change.record.id;
            match change.into_message() {
                Some(message) => refused.messages.push(message),
                None => refused.schedules.push(id),
            }
            self.signals.raise_schedules();
        }
        for submission in batch.submissions {
            let requests = submission
                .ids
                .iter()
                .filter_map(|id| self.request_again(*id, batch.executions.get(id)))
                .collect();
            refused.messages.push(Message::Submit {
                requests,
                give_up: submission.give_up,
                reply: submission.reply,
            });
        }
        for (id, ordinal, claim) in batch.claimed {
            self.drop_claim(id, ordinal, claim);
        }
        for (key, pending) in batch.items {
            refused.messages.extend(pending.messages);
            if !pending.settled.is_empty() {
                // The messages about ended children are read from the inbox again, and decided with the current counters.
                self.maps.forget_row(key);
                refused.woken.push(key.0);
                self.signals.raise(Signal::Waits);
            }
        }
        for (id, change) in batch.executions {
            self.ledger.remove(id);
            if change.is_rescue {
                refused.rescued.push(id);
            }
            if !change.requires.is_empty() {
                // This parent may be the reason why the database refused the batch. The next batch writes the ends of its
                // children without the parent.
                self.skips_parents = true;
                refused.parents += 1;
            } else if change.is_wake {
                refused.woken.push(id);
            }
            let is_unknown = matches!(refused.error, StoreError::Unavailable(_));
            self.decide_again(id, change, is_unknown, &mut refused.messages);
        }
        refused
    }

    /// Adds the messages from which the change of an execution is decided again. `is_unknown`: whether the change may have been
    /// written.
    fn decide_again(
        &mut self,
        id: ExecutionId,
        change: PendingChange,
        is_unknown: bool,
        messages: &mut Vec<Message>,
    ) {
        messages.extend(change.messages.into_iter().map(|mut message| {
            if let Message::EndWait { is_recorded, .. } = &mut message {
                *is_recorded |= is_unknown;
            }
            message
        }));
        messages.extend(change.controls.into_iter().map(|control| Message::Control {
            execution: id,
            action: if is_unknown && control.refusal.is_none() {
                control.action.again()
            } else {
                control.action
            },
            give_up: control.give_up,
            reply: control.reply,
        }));
        messages.extend(change.steps.into_iter().map(|step| Message::RecordStep {
            execution: id,
            task: step.task,
            claim: step.claim,
            step: step.record,
            reply: step.reply,
        }));
        if change.is_rescue {
            self.signals.raise(Signal::Rescue);
        }
        if change.is_wake {
            self.signals.raise(Signal::Waits);
        }
    }

    fn request_again(
        &self,
        id: ExecutionId,
        change: Option<&PendingChange>,
    ) -> Option<SubmitRequest> {
        let execution = self.ledger.get(id)?;
        let record = execution.record();
        Some(SubmitRequest {
            id,
            workflow: execution.workflow().name().to_owned(),
            input: std::sync::Arc::clone(&record.input),
            key: record.key.clone(),
            priority: record.priority,
            start_at: record.start_at,
            timeout: record.timeout,
            labels: change
                .map(|change| change.labels.clone())
                .unwrap_or_default(),
            trace: change.and_then(|change| trace_of(&change.changes.history)),
        })
    }

    /// Applies the effects of a durable batch.
    fn apply_commit(
        &mut self,
        mut batch: WriteBatch,
        committed: &Committed,
        executors: &[Executor],
    ) -> ScheduleResults {
        let (mut submits, mut advances) = (committed.submits.iter(), committed.advances.iter());
        let mut duplicates = FxHashMap::default();
        let mut not_applied = FxHashSet::default();
        let mut accepted = Vec::new();
        let mut applied = Vec::with_capacity(batch.executions.len());
        for (id, change) in std::mem::take(&mut batch.executions) {
            if change.expected.is_none() {
                match submits.next() {
                    Some(SubmitOutcome::Duplicate(existing)) => {
                        if let Some(execution) = self.ledger.get(id).filter(|_| *existing != id) {
                            tracing::debug!(
                                workflow = execution.workflow().name(),
                                key = execution.record().key.as_deref().unwrap_or_default(),
                                execution = %existing,
                                "an execution with the key of a submission already exists, so the submission starts no new one"
                            );
                        }
                        duplicates.insert(id, *existing);
                        not_applied.insert(id);
                        continue;
                    }
                    Some(SubmitOutcome::Accepted) => {
                        if let Some(execution) = self.ledger.get(id) {
                            self.metrics.count_submitted(execution);
                            accepted.push(id);
                        }
                    }
                    None => {}
                }
            } else if advances.next() == Some(&false) {
                not_applied.insert(id);
                let mut messages = Vec::new();
                self.decide_again(id, change, false, &mut messages);
                self.retry.append(&mut messages);
                continue;
            }
            applied.push((id, change));
        }
        self.apply_items(std::mem::take(&mut batch.items), committed);
        let mut dispatch = Dispatch::default();
        for (id, ordinal, claim) in std::mem::take(&mut batch.claimed) {
            if not_applied.contains(&id) {
                self.drop_claim(id, ordinal, claim);
            } else {
                self.assign(id, ordinal, claim, &mut dispatch);
            }
        }
        for id in not_applied {
            self.ledger.remove(id);
        }
        for (id, change) in applied {
            if let Some(suspect) = self.quarantine.take_started(id) {
                self.assign_now(id, suspect.task, suspect.claim, &mut dispatch);
            }
            self.apply_change(id, change, &mut dispatch);
        }
        self.quarantine.put_back();
        self.take_claimed(committed, executors, &mut dispatch);
        self.dispatch(dispatch);
        if !self.capacity.is_sole() {
            self.subscriptions.note_submitted(&accepted);
        }
        answer(batch.submissions, &duplicates);
        if !committed.due.is_empty() {
            for id in &committed.due {
                self.ledger.remove(*id);
            }
            self.signals.raise(Signal::Waits);
        }
        let applied = committed.schedules.iter().copied();
        batch.schedules.into_iter().zip(applied).collect()
    }

    /// Applies the effects of a durable change of an execution: interrupts, callbacks and replies.
    fn apply_change(&mut self, id: ExecutionId, change: PendingChange, dispatch: &mut Dispatch) {
        self.follow_maps(id, &change.changes.flow.maps);
        let Some(execution) = self.ledger.get_mut(id) else {
            return;
        };
        execution.note_written(change.changes.tasks.iter().copied());
        self.run_log.note_change(execution, &change.changes);
        let (status, definition) = (execution.record().status, execution.record().definition);
        for ordinal in &change.changes.ended_tasks {
            let callback = self.callback(id, *ordinal);
            dispatch.callbacks.extend(callback);
        }
        for (ordinal, claim) in &change.changes.interrupted {
            let execution = self.ledger.get(id);
            let priority = execution.map_or(0, |execution| execution.priority(*ordinal));
            self.interrupt(id, *ordinal, *claim, priority);
        }
        if change.changes.ended {
            self.ledger.drop_deadline(id);
            if let Some(execution) = self.ledger.remove(id) {
                self.metrics.count_ended(&execution);
                self.note_followed(&execution);
                let ended = std::sync::Arc::new(execution);
                self.subscriptions.notify(&ended, self.monotonic);
            }
        } else {
            let only_waits = self.note_waits(id, &change.changes.flow.waits);
            let runs_here = change.expected.is_some() || self.registry.serves(definition);
            if runs_here && !only_waits {
                self.ledger.note_use(id);
            } else {
                self.ledger.remove(id);
            }
        }
        if change.changes.revived {
            // A caller may have read the earlier end while the retry was being written.
            self.subscriptions.forget_recent(Some(id));
            self.subscriptions.release(id);
        }
        self.note_posts(&change);
        for control in change.controls {
            (control.reply)(control.refusal.map_or(Ok(status), Err));
        }
        let recorded = &change.changes.flow.steps.recorded;
        for message in change.messages {
            if let Message::EndWait {
                task, park, reply, ..
            } = message
            {
                let mut steps = recorded.iter();
                let is_end = |(of, step): &&(_, StepRecord)| *of == task && step.key == park.key;
                let end = steps.find(is_end).map(|(_, step)| Some(step.clone()));
                reply(end.ok_or_else(Error::claim_lost));
            }
        }
        for step in change.steps {
            (step.reply)(if step.is_held {
                Ok(())
            } else {
                Err(Error::claim_lost())
            });
        }
    }

    /// Dispatches the tasks that the store claimed in the commit.
    fn take_claimed(
        &mut self,
        committed: &Committed,
        executors: &[Executor],
        dispatch: &mut Dispatch,
    ) {
        if let Some(due) = committed.next_due {
            self.capacity.note_due(due);
        }
        let missing = self.follow_claims(&committed.claimed);
        if let Err(error) = self.load(&missing) {
            // The claims are durable. The reconciler takes these tasks over once the database answers.
            tracing::warn!(%error, "cannot read executions whose tasks were claimed; they are read when the database answers again");
            self.signals.raise(Signal::Reconcile);
            return;
        }
        let mut last: [Option<ClaimKey>; 3] = [None; 3];
        let mut sized = Vec::with_capacity(committed.claimed.len());
        for claimed in &committed.claimed {
            let (id, ordinal) = (claimed.execution, claimed.ordinal);
            let Some(execution) = self.ledger.get(id) else {
                continue;
            };
            let claim = Claim {
                runner: self.runner,
                attempt: claimed.attempt,
                item: None,
            };
            let definition = execution.record().definition;
            let Some(handler) = self.registry.handler(definition, ordinal) else {
                self.registry
                    .exclude(execution.workflow(), definition, ordinal);
                self.release(id, ordinal, claim, Executor::Threads);
                continue;
            };
            let key = (Reverse(execution.priority(ordinal)), id, ordinal);
            let slot = &mut last[handler.executor.index()];
            *slot = Some(slot.map_or(key, |known| known.max(key)));
            if execution.holds(ordinal, claim) {
                self.note_claim(id, ordinal, claim, handler.executor);
                self.assign(id, ordinal, claim, dispatch);
                sized.push((handler.executor, id));
            }
        }
        for (executor, id) in sized {
            let bytes = self.ledger.bytes_per_claim(id);
            self.capacity.note_size(executor, bytes);
        }
        for (executor, more) in executors.iter().zip(&committed.more) {
            self.capacity
                .note_claimed(*executor, *more, last[executor.index()]);
        }
    }
}

/// Answers the callers of `submit`. `duplicates` maps the ids of duplicates to the ids of the existing executions.
fn answer(submissions: Vec<Submission>, duplicates: &FxHashMap<ExecutionId, ExecutionId>) {
    for mut submission in submissions {
        if !duplicates.is_empty() {
            for id in &mut submission.ids {
                *id = duplicates.get(id).copied().unwrap_or(*id);
            }
        }
        (submission.reply)(Ok::<_, Error>(submission.ids));
    }
}
