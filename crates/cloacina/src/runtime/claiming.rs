//! The transaction of a step, and what follows it: claims, hand-over, answers.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use super::Message;
use super::assigning::{Handover, callback};
use super::assignment::Executor;
use super::backlog::Place;
use super::coordinator::Coordinator;
use super::draft::{Draft, Touched};
use super::scheduling::Scheduled;
use super::submitting::{micros, trace_of};
use crate::store::{Batch, ClaimRequest, Claimed, Committed, StoreError, SubmitVerdict};
use crate::types::{Claim, Error, ExecutionId, Ordinal, TaskStatus, Timestamp};

impl Coordinator {
    /// Finish-and-continue: claims what became ready in this step, where nothing older waits and a worker has room.
    pub(super) fn claim_direct(&mut self, draft: &mut Draft, now: Timestamp) {
        let mut candidates: Vec<(Place, Executor)> = Vec::new();
        for (id, touched) in &draft.touched {
            let Some(cached) = self.cache.get(*id) else {
                continue;
            };
            for ordinal in &touched.changes.ready {
                let task = cached.execution.task(*ordinal);
                if task.status != TaskStatus::Ready {
                    continue;
                }
                let Some(handler) = self
                    .registry
                    .handler(cached.execution.record().definition, *ordinal)
                else {
                    continue;
                };
                if let Some(ready_at) = task.ready_at {
                    self.next_due = Some(self.next_due.map_or(ready_at, |due| due.min(ready_at)));
                    continue;
                }
                let place = (Reverse(cached.execution.priority(*ordinal)), *id, *ordinal);
                candidates.push((place, handler.executor));
            }
        }
        candidates.sort_unstable_by_key(|(place, _)| *place);
        candidates.dedup_by_key(|(place, _)| *place);
        if candidates.is_empty() {
            return;
        }
        let lowest = self.lowest_waiting();
        for (place, executor) in candidates {
            let backlog = &mut self.backlogs[executor.index()];
            let lowest = lowest[executor.index()];
            if self.stopping.is_some() || !backlog.allows_direct(&place, lowest) {
                backlog.left(place);
                continue;
            }
            let (_, id, ordinal) = place;
            let runner = self.runner;
            let (Some(touched), Some(cached)) =
                (draft.touched.get_mut(&id), self.cache.get_mut(id))
            else {
                continue;
            };
            if let Some(claim) = cached
                .execution
                .claim(ordinal, runner, now, &mut touched.changes)
            {
                self.note_claim(id, ordinal, claim, executor);
                draft.claimed.push((id, ordinal, claim));
            }
        }
    }

    /// By executor, the lowest priority of what is claimed and not yet taken by a worker.
    fn lowest_waiting(&self) -> [Option<i16>; 3] {
        Executor::ALL.map(|executor| self.queues.of(executor).lowest_priority())
    }

    pub(super) fn note_claim(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        claim: Claim,
        executor: Executor,
    ) {
        let former = self.in_flight.insert((id, ordinal), (claim, executor));
        // An attempt that lost its claim may still be running here: its end will find another claim, and free nothing.
        if let Some((_, executor)) = former {
            self.free_slot(id, ordinal, executor);
        }
        self.backlogs[executor.index()].taken();
        if let Some(cached) = self.cache.get_mut(id) {
            cached.in_flight += u32::from(former.is_none());
            self.metrics.started(&cached.execution, ordinal);
        }
    }

    pub(super) fn forget_claim(&mut self, id: ExecutionId, ordinal: Ordinal, claim: Claim) {
        if let Some((held, executor)) = self.in_flight.get(&(id, ordinal)).copied()
            && held == claim
        {
            self.in_flight.remove(&(id, ordinal));
            self.free_slot(id, ordinal, executor);
            if let Some(cached) = self.cache.get_mut(id) {
                cached.in_flight = cached.in_flight.saturating_sub(1);
            }
        }
    }

    /// Writes the draft in one transaction, claims in it what workers have room for, then tells everybody.
    pub(super) fn commit(
        &mut self,
        draft: Draft,
        now: Timestamp,
    ) -> Result<(), (StoreError, Vec<Message>)> {
        for (id, touched) in &draft.touched {
            if let (Some(cached), Some(expected)) = (self.cache.get_mut(*id), touched.expected) {
                cached.execution.set_revision(expected + 1);
            }
        }
        let (executors, claim) = self.claim_request();
        let (submits, advances) = draft.rows(&self.cache);
        let schedules = draft.schedule_rows();
        if submits.is_empty()
            && advances.is_empty()
            && schedules.is_empty()
            && claim.classes.is_empty()
        {
            answer(draft.submissions, &[]);
            return Ok(());
        }
        let batch = Batch {
            runner: self.runner,
            now,
            schedules,
            submits,
            advances,
            claim,
        };
        let begin = Instant::now();
        match self.store.commit(&batch) {
            Ok(committed) => {
                self.metrics.committed(
                    batch.submits.len() + batch.advances.len(),
                    micros(begin.elapsed()),
                );
                self.recovered();
                self.after_commit(draft, &committed, &executors, now);
                Ok(())
            }
            Err(error) => Err((error, self.undo(draft))),
        }
    }

    fn claim_request(&mut self) -> (Vec<Executor>, ClaimRequest) {
        let mut executors = Vec::new();
        let mut request = ClaimRequest::default();
        if self.stopping.is_some() {
            return (executors, request);
        }
        let lowest = self.lowest_waiting();
        let classes = self.registry.classes();
        for executor in Executor::ALL {
            let backlog = &self.backlogs[executor.index()];
            let class = &classes[executor.index()];
            let wanted = backlog.claims(lowest[executor.index()]);
            if wanted > 0 && !class.queues.is_empty() {
                let mut class = class.clone();
                class.limit = wanted;
                request.classes.push(class);
                executors.push(executor);
            }
        }
        (executors, request)
    }

    /// Nothing is known to be written: forgets the decisions and gives back the messages that led to them.
    fn undo(&mut self, draft: Draft) -> Vec<Message> {
        let mut messages = Vec::new();
        if !draft.schedules.is_empty() {
            self.scheduling.look_now();
        }
        messages.extend(draft.schedules.into_iter().filter_map(Scheduled::again));
        for submission in draft.submissions {
            let requests = submission
                .ids
                .iter()
                .filter_map(|id| self.request_again(*id, draft.touched.get(id)))
                .collect();
            messages.push(Message::Submit {
                requests,
                give_up: submission.give_up,
                reply: submission.reply,
            });
        }
        for (id, ordinal, claim) in draft.claimed {
            self.forget_claim(id, ordinal, claim);
        }
        for (id, touched) in draft.touched {
            self.cache.remove(id);
            self.redo(id, touched, &mut messages);
        }
        messages
    }

    /// The messages that decide an execution's changes anew.
    fn redo(&mut self, id: ExecutionId, touched: Touched, messages: &mut Vec<Message>) {
        messages.extend(touched.messages);
        for (reply, action, give_up) in touched.replies {
            messages.push(Message::Control {
                execution: id,
                action,
                give_up,
                reply,
            });
        }
        if touched.rescued {
            self.liveness.rescue_now();
        }
    }

    fn request_again(
        &self,
        id: ExecutionId,
        touched: Option<&Touched>,
    ) -> Option<super::SubmitRequest> {
        let cached = self.cache.get(id)?;
        let record = cached.execution.record();
        Some(super::SubmitRequest {
            id,
            workflow: cached.execution.workflow().name().to_owned(),
            input: Arc::clone(&record.input),
            key: record.key.clone(),
            priority: record.priority,
            start_at: record.start_at,
            timeout: record.timeout,
            trace: touched.and_then(|touched| trace_of(&touched.changes.history)),
        })
    }

    fn after_commit(
        &mut self,
        mut draft: Draft,
        committed: &Committed,
        executors: &[Executor],
        now: Timestamp,
    ) {
        let mut duplicates = Vec::new();
        let (mut submits, mut advances) = (committed.submits.iter(), committed.advances.iter());
        let touched = std::mem::take(&mut draft.touched);
        let mut applied = Vec::with_capacity(touched.len());
        let mut accepted = Vec::new();
        for (id, touched) in touched {
            if touched.expected.is_none() {
                let verdict = submits.next();
                if verdict == Some(&SubmitVerdict::Accepted)
                    && let Some(cached) = self.cache.get(id)
                {
                    self.metrics.submitted(&cached.execution);
                    accepted.push(id);
                }
                if let Some(SubmitVerdict::Duplicate(existing)) = verdict {
                    duplicates.push((id, *existing));
                    self.drop_claims(&mut draft, id);
                    self.cache.remove(id);
                    continue;
                }
            } else if advances.next() == Some(&false) {
                self.drop_claims(&mut draft, id);
                self.cache.remove(id);
                let mut messages = Vec::new();
                self.redo(id, touched, &mut messages);
                self.again.extend(messages);
                continue;
            }
            applied.push((id, touched));
        }
        let mut work = Handover::default();
        for (id, ordinal, claim) in std::mem::take(&mut draft.claimed) {
            self.assign(id, ordinal, claim, &mut work);
        }
        for (id, touched) in applied {
            self.settle_applied(id, touched, &mut work);
        }
        self.take_claimed(committed, executors, &mut work, now);
        for executor in Executor::ALL {
            let index = executor.index();
            let callbacks = if index == 0 {
                std::mem::take(&mut work.callbacks)
            } else {
                Vec::new()
            };
            let is_short = self.backlogs[index].expects_short();
            self.queues.of(executor).push(
                std::mem::take(&mut work.assignments[index]),
                callbacks,
                is_short,
            );
        }
        self.settle_schedules(draft.schedules, &committed.schedules, now);
        if !self.is_alone() {
            self.waiters.expect(&accepted);
        }
        answer(draft.submissions, &duplicates);
    }

    fn drop_claims(&mut self, draft: &mut Draft, id: ExecutionId) {
        let (dropped, kept) = std::mem::take(&mut draft.claimed)
            .into_iter()
            .partition(|(claimed, _, _)| *claimed == id);
        draft.claimed = kept;
        let dropped: Vec<(ExecutionId, Ordinal, Claim)> = dropped;
        for (id, ordinal, claim) in dropped {
            self.forget_claim(id, ordinal, claim);
        }
    }

    /// What follows a durable change: answers, interrupts, callbacks, waiting callers.
    fn settle_applied(&mut self, id: ExecutionId, touched: Touched, work: &mut Handover) {
        let Some(cached) = self.cache.get_mut(id) else {
            return;
        };
        cached
            .execution
            .written(touched.changes.tasks.iter().copied());
        let status = cached.execution.record().status;
        let mut callbacks = Vec::new();
        for ordinal in &touched.changes.ended_tasks {
            callbacks.extend(callback(&self.registry, cached, *ordinal));
        }
        work.callbacks.extend(callbacks);
        if !touched.changes.interrupted.is_empty() {
            let priorities: Vec<i16> = touched
                .changes
                .interrupted
                .iter()
                .map(|(ordinal, _)| cached.execution.priority(*ordinal))
                .collect();
            for ((ordinal, claim), priority) in touched.changes.interrupted.iter().zip(priorities) {
                self.interrupt(id, *ordinal, *claim, priority);
            }
        }
        if touched.changes.ended {
            if let Some(cached) = self.cache.remove(id) {
                if let Some(deadline) = cached.execution.record().deadline {
                    self.deadlines.remove(&(deadline, id));
                }
                self.metrics.ended(&cached.execution);
                self.waiters.notify(&Arc::new(cached.execution));
            }
        } else {
            self.cache.trim(id);
        }
        for (reply, _, _) in touched.replies {
            reply(Ok(status));
        }
    }

    /// Stops an attempt of this process whose claim is gone.
    pub(super) fn interrupt(
        &mut self,
        id: ExecutionId,
        ordinal: Ordinal,
        claim: Claim,
        priority: i16,
    ) {
        let Some((held, executor)) = self.in_flight.get(&(id, ordinal)).copied() else {
            return;
        };
        let queue = Arc::clone(self.queues.of(executor));
        // A retry in the same step may have claimed the task anew: then only the attempt that runs is stopped.
        if held == claim && queue.withdraw(id, ordinal, priority) {
            self.forget_claim(id, ordinal, claim);
        } else {
            queue.interrupt(id, ordinal, claim);
        }
    }

    /// Follows the claims that the store made.
    fn take_claimed(
        &mut self,
        committed: &Committed,
        executors: &[Executor],
        work: &mut Handover,
        now: Timestamp,
    ) {
        if let Some(due) = committed.next_due {
            self.next_due = Some(self.next_due.map_or(due, |known| known.min(due)));
        }
        let missing = self.follow_claims(&committed.claimed, now);
        if let Err(error) = self.load(&missing) {
            // The claims are ours and durable: they are adopted once the database answers.
            self.liveness.reconcile_now();
            self.trouble = Some(error);
            return;
        }
        let mut last: [Option<Place>; 3] = [None; 3];
        for claimed in &committed.claimed {
            let (id, ordinal) = (claimed.execution, claimed.ordinal);
            let Some(cached) = self.cache.get(id) else {
                continue;
            };
            let claim = Claim {
                runner: self.runner,
                attempt: claimed.attempt,
            };
            let Some(handler) = self
                .registry
                .handler(cached.execution.record().definition, ordinal)
            else {
                self.release(id, ordinal, claim, Executor::Threads);
                continue;
            };
            let place = (Reverse(cached.execution.priority(ordinal)), id, ordinal);
            let slot = &mut last[handler.executor.index()];
            *slot = Some(slot.map_or(place, |known| known.max(place)));
            if cached.execution.holds(ordinal, claim) {
                self.note_claim(id, ordinal, claim, handler.executor);
                self.assign(id, ordinal, claim, work);
            }
        }
        for (executor, more) in executors.iter().zip(&committed.more) {
            self.backlogs[executor.index()].claimed(*more, last[executor.index()]);
        }
    }

    /// Applies the store's claims to cached executions; returns those that must be read.
    fn follow_claims(&mut self, claims: &[Claimed], now: Timestamp) -> Vec<ExecutionId> {
        let mut missing: Vec<ExecutionId> = Vec::new();
        for claimed in claims {
            let id = claimed.execution;
            let runner = self.runner;
            match self.cache.get_mut(id) {
                Some(cached)
                    if cached.execution.record().revision + 1 == claimed.revision
                        && !missing.contains(&id) =>
                {
                    cached.execution.note_claim(claimed.ordinal, runner, now);
                    cached.execution.set_revision(claimed.revision);
                    cached.execution.written([claimed.ordinal]);
                }
                _ => {
                    self.cache.remove(id);
                    missing.push(id);
                }
            }
        }
        missing.sort_unstable();
        missing.dedup();
        missing
    }
}

fn answer(submissions: Vec<super::draft::Submission>, duplicates: &[(ExecutionId, ExecutionId)]) {
    for submission in submissions {
        let replace = |id: ExecutionId| {
            duplicates
                .iter()
                .find(|(duplicate, _)| *duplicate == id)
                .map_or(id, |(_, existing)| *existing)
        };
        let ids = if duplicates.is_empty() {
            submission.ids
        } else {
            submission.ids.into_iter().map(replace).collect()
        };
        (submission.reply)(Ok::<_, Error>(ids));
    }
}
