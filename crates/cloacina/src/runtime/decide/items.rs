//! Decisions about maps: how maps expand, and how items and maps end (semantics K).

use rustc_hash::FxHashSet;

use crate::engine::{Finish, Outcome};
use crate::runtime::assignment::Executor;
use crate::runtime::maps::{MapKey, PendingItems, PendingMaps};
use crate::runtime::message::{Message, Reply};
use crate::runtime::run_log::log_item;
use crate::runtime::step::{Signal, Step};
use crate::store::{AttemptStart, Committed, ItemFence, ItemWrite, MapOutcome, StoreError};
use crate::types::{
    Claim, Error, ExecutionId, ItemRecord, MapChange, MapRow, MapState, Micros, Ordinal, StepRecord,
};

/// How long, in microseconds, a runner that could not read a map's list waits before it tries again.
const LIST_RETRY: Micros = 1_000_000;

/// Returns the message that ends an aligned map whose last items were skipped.
pub(super) const fn end_of(row: &MapRow) -> Message {
    Message::EndMap {
        execution: row.execution,
        task: row.task,
        generation: row.generation,
    }
}

/// Returns the item whose attempt completed, failed or timed out according to a message.
fn ended_item(message: &Message) -> Option<u32> {
    match message {
        Message::Finished { finish, .. } => match finish.outcome {
            Outcome::Snooze { .. } | Outcome::Released => None,
            _ => finish.claim.item,
        },
        Message::Overdue { attempt, .. } => attempt.claim.item,
        _ => None,
    }
}

impl Step {
    /// K1: expands the maps that became ready in this turn. An empty map ends immediately, and further maps may then
    /// become ready.
    pub(in crate::runtime) fn expand_maps(&mut self) {
        let max_items = self.config.max_map_items;
        let mut position = 0;
        while let Some((id, change)) = self.batch.executions.get_index_mut(position) {
            let id = *id;
            let flow = change.changes.flow.get_mut();
            let Some(ordinal) = flow.and_then(|flow| flow.expands.pop_first()) else {
                position += 1;
                continue;
            };
            let results = self.results_for_expansion(id, ordinal);
            let is_known = self.knows_children(id, ordinal);
            let (Some(execution), Some((_, change))) = (
                self.ledger.get_mut(id),
                self.batch.executions.get_index_mut(position),
            ) else {
                continue;
            };
            let changes = &mut change.changes;
            match results {
                Ok(_) if !is_known => execution.await_workflow(ordinal, self.now, changes),
                Ok(results) => {
                    execution.expand_map(ordinal, &results, max_items, self.now, changes);
                }
                Err(error) => {
                    tracing::warn!(%error, execution_id = %id, "cannot read the list of a map; the runner will try again");
                    execution.postpone_map(ordinal, self.now + LIST_RETRY, changes);
                }
            }
        }
    }

    /// Whether a map still has to be expanded in this turn.
    pub(in crate::runtime) fn has_unexpanded(&self) -> bool {
        let mut changes = self.batch.executions.values();
        changes.any(|change| !change.changes.flow.expands.is_empty())
    }

    /// K3: decides the end of an item's attempt.
    pub(in crate::runtime) fn finish_item(
        &mut self,
        id: ExecutionId,
        finish: Finish,
        executor: Executor,
        ran: Micros,
    ) {
        let (task, claim) = (finish.task, finish.claim);
        if finish.started_at.is_some()
            && self.ledger.set_started(id, task, claim)
            && let Some(execution) = self.ledger.get(id)
        {
            self.metrics.count_started(execution, task);
            self.run_log.note_start(execution, task);
        }
        let was_mine = self.drop_claim(id, task, claim);
        if matches!(finish.outcome, Outcome::Snooze { .. } | Outcome::Released) {
            let queue = self.capacity.queues().of(executor);
            queue.forget_start((id, task, claim));
        }
        if was_mine && !matches!(finish.outcome, Outcome::Released) {
            self.capacity.note_run(executor, ran);
        }
        let (limits, random) = (self.limits(), self.random());
        let Some(item) = self.open_item(id, task, claim) else {
            if was_mine {
                self.metrics.count_dropped();
                self.signals.raise(Signal::Reconcile);
                tracing::info!(execution_id = %id, item = claim.item, attempt = claim.attempt, "the result of an item was dropped: the claim was lost to a timeout, a cancel or a rescue");
            }
            return;
        };
        let Some(execution) = self.ledger.get(id) else {
            return;
        };
        let record = execution.finish_item(&item, &finish, limits, self.now, random);
        // An item cannot wait, so an attempt that exits for a wait has failed.
        if was_mine && !matches!(finish.outcome, Outcome::Snooze { .. } | Outcome::Released) {
            self.metrics
                .count_attempt(execution, task, record.status, None, ran);
        }
        let message = Message::Finished {
            execution: id,
            finish,
            executor,
            ran,
        };
        self.end_item((id, task), claim, record, Some(message));
    }

    /// D4: decides what happens after an item's attempt has overrun its timeout. `is_counted`: whether the metrics already
    /// count the timeout.
    pub(in crate::runtime) fn item_overdue(
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
        let (limits, random) = (self.limits(), self.random());
        let Some(item) = self.open_item(id, task, claim) else {
            return;
        };
        let Some(execution) = self.ledger.get(id) else {
            return;
        };
        let failure = execution.item_timeout(task, claim, timeout);
        let outcome = Outcome::Failed(failure);
        let finish = Finish {
            task,
            claim,
            started_at: Some(started_at),
            outcome,
        };
        let record = execution.finish_item(&item, &finish, limits, self.now, random);
        if !is_counted {
            self.metrics
                .count_attempt(execution, task, record.status, None, timeout);
        }
        self.note_overrun(id, task, claim);
        let message = Message::Overdue {
            attempt,
            timeout,
            is_counted: true,
        };
        self.end_item((id, task), claim, record, Some(message));
    }

    /// Q2: remembers that the function of an item may still be running when final tasks could start.
    fn note_overrun(&mut self, id: ExecutionId, task: Ordinal, claim: Claim) {
        let Some(execution) = self.ledger.get_mut(id) else {
            return;
        };
        if let Some(changes) = execution.note_item_overrun(task, claim) {
            self.batch.change(execution).changes.merge(changes);
        }
    }

    /// T8: decides whether the step that an item recorded is stored.
    pub(in crate::runtime) fn record_item_step(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        step: StepRecord,
        reply: Reply<()>,
    ) {
        if self.open_item(id, task, claim).is_none() {
            return reply(Err(Error::claim_lost()));
        }
        let generation = self.maps.row((id, task)).map_or(0, |row| row.generation);
        let pending = self.batch.items.entry((id, task)).or_default();
        pending.generation = generation;
        pending.steps.push((claim, step.clone()));
        pending.messages.push(Message::RecordStep {
            execution: id,
            task,
            claim,
            step,
            reply,
        });
    }

    /// Returns the item that runs under a claim of this runner. Returns `None` if this process does not hold the claim, if the
    /// map is closed, or if the item's end is already in the batch.
    fn open_item(&self, id: ExecutionId, task: Ordinal, claim: Claim) -> Option<ItemRecord> {
        let key = (id, task);
        let is_ended = self.batch.items.get(&key).is_some_and(|pending| {
            claim
                .item
                .is_some_and(|item| pending.written.contains(&item))
        });
        let is_open = claim.runner == self.runner
            && !is_ended
            && self.maps.row(key).is_some()
            && self.ledger.get(id)?.has_open_map(task);
        let item = self.maps.held(key, claim).filter(|_| is_open)?;
        Some(item.clone())
    }

    /// Adds the end of an item's attempt to the batch.
    pub(in crate::runtime) fn end_item(
        &mut self,
        key: MapKey,
        fence: Claim,
        record: ItemRecord,
        message: Option<Message>,
    ) {
        let write = ItemWrite {
            fence: ItemFence::Claim(fence),
            record,
            otherwise: None,
        };
        self.write_item(key, write, message);
    }

    /// Adds the write of an item to the batch.
    pub(super) fn write_item(
        &mut self,
        key: MapKey,
        write: ItemWrite,
        message: Option<Message>,
    ) -> &mut PendingItems {
        let generation = self.maps.row(key).map_or(0, |row| row.generation);
        let pending = self.batch.items.entry(key).or_default();
        pending.generation = generation;
        pending.written.insert(write.record.item);
        pending.ends.push(write);
        pending.messages.extend(message);
        pending
    }

    /// Ends an aligned map whose last items were skipped. Does nothing if the map has changed since the message was sent.
    pub(in crate::runtime) fn end_skipped_map(&mut self, key: MapKey, generation: u32) {
        let row = self.maps.row(key);
        let is_known = row.is_some_and(|row| row.generation == generation);
        if is_known && self.ledger.contains(key.0) {
            let pending = self.batch.items.entry(key).or_default();
            pending.generation = generation;
            pending.messages.push(Message::EndMap {
                execution: key.0,
                task: key.1,
                generation,
            });
        }
    }

    /// K6: ends the maps whose last items end in this turn, according to the counters that this runner knows. The store refuses
    /// the batch if another runner has ended items since these counters were read.
    pub(in crate::runtime) fn settle_maps(&mut self) {
        for index in 0..self.batch.items.len() {
            let Some((key, pending)) = self.batch.items.get_index(index) else {
                break;
            };
            let ((id, task), Some(row)) = (*key, self.maps.row(*key)) else {
                continue;
            };
            let mut after = row.clone();
            for write in &pending.ends {
                after.count_end(write.record_for(row));
            }
            let mut is_last = false;
            let execution = self.ledger.get_mut(id);
            let has_ends = (pending.ends.iter()).any(|write| write.record.status.is_terminal());
            let mut feeds = Vec::new();
            if let Some(execution) = execution.as_ref().filter(|_| has_ends || after.is_over()) {
                feeds = execution.workflow().aligned_with(task);
            }
            if after.is_over()
                && let Some(execution) = execution
                && execution.has_open_map(task)
            {
                let change = self.batch.change(execution);
                is_last = execution.end_map(task, &after, self.now, &mut change.changes);
            }
            if let Some((_, pending)) = self.batch.items.get_index_mut(index) {
                pending.is_last = is_last;
                pending.feeds = feeds;
            }
        }
    }

    /// Reads the counters of maps again after other runners ended some of their items. Also forgets items whose claims are
    /// lost.
    pub(in crate::runtime) fn refresh_maps(
        &mut self,
        messages: &[Message],
        lost: &[(ExecutionId, Ordinal, u32)],
    ) -> Result<(), StoreError> {
        for key in lost {
            self.maps.drop_item(*key);
        }
        let mut ids: Vec<ExecutionId> = messages.iter().filter_map(Message::execution).collect();
        ids.extend(lost.iter().map(|(id, ..)| *id));
        ids.sort_unstable();
        ids.dedup();
        for row in self.store.maps(&ids)? {
            self.maps.note_row(row);
        }
        for id in ids {
            self.ledger.remove(id);
        }
        Ok(())
    }

    /// Applies the effects of the durable ends and steps of items.
    pub(in crate::runtime) fn apply_items(&mut self, items: PendingMaps, committed: &Committed) {
        for ((key, pending), outcome) in items.into_iter().zip(&committed.maps) {
            let (id, task) = key;
            let is_conflict = !outcome.applied
                && outcome.row.as_ref().is_some_and(|row| {
                    row.state != MapState::Ended && row.generation == pending.generation
                });
            match &outcome.row {
                Some(row) => {
                    if !outcome.applied && !pending.settled.is_empty() {
                        self.signals.raise(Signal::Waits);
                    }
                    self.maps.note_row(row.clone());
                    self.withdraw_items(row);
                }
                None => self.maps.forget(key),
            }
            for row in &outcome.over {
                self.maps.note_row(row.clone());
                self.retry.push(end_of(row));
            }
            if is_conflict {
                // Another writer changed the map, so all messages about its items are decided again.
                self.ledger.remove(id);
                self.retry.extend(pending.messages);
                self.signals.raise(Signal::Waits);
                continue;
            }
            if !pending.posts.is_empty() {
                self.signals.raise(Signal::Waits);
            }
            for write in &pending.ends {
                let (item, record) = (write.record.item, &write.record);
                if record.runner.is_some() && !outcome.lost.contains(&item) {
                    self.maps.hold(key, pending.generation, record.clone());
                } else {
                    self.maps.drop_item((id, task, item));
                }
            }
            if outcome.applied {
                self.log_items(key, &pending, outcome);
            }
            self.start_suspect(key, &pending, outcome);
            for message in pending.messages {
                let Message::RecordStep { claim, reply, .. } = message else {
                    continue;
                };
                let is_lost = claim.item.is_some_and(|item| outcome.lost.contains(&item));
                reply(if outcome.applied && !is_lost {
                    Ok(())
                } else {
                    Err(Error::claim_lost())
                });
            }
        }
    }

    /// Logs the durable ends of items' attempts, except attempts that were snoozed or whose claims were returned.
    fn log_items(&self, (id, task): MapKey, pending: &PendingItems, outcome: &MapOutcome) {
        let Some(execution) = self.ledger.get(id) else {
            return;
        };
        let ended: FxHashSet<u32> = pending.messages.iter().filter_map(ended_item).collect();
        for write in &pending.ends {
            let item = &write.record;
            if ended.contains(&item.item) && !outcome.lost.contains(&item.item) {
                log_item(execution, task, item, self.now);
            }
        }
    }

    /// K8: if too many items of a map have failed, returns the claims of the map's items that no worker has taken.
    fn withdraw_items(&mut self, row: &MapRow) {
        if row.state == MapState::Ended || !row.is_exceeded() {
            return;
        }
        let (id, task) = (row.execution, row.task);
        let of_map = self.ledger.claims_of(id).filter(|held| held.task == task);
        let held: Vec<_> = of_map.filter(|held| held.claim.item.is_some()).collect();
        for held in held {
            let item = held.claim.item;
            let queue = self.capacity.queues().of(held.executor);
            if self.quarantine.withdraw(id, task, item)
                || queue.withdraw(id, (task, item), row.priority)
            {
                self.release(id, task, held.claim, held.executor);
            }
        }
    }

    /// Applies the effects of an execution's durable change on its maps. Stops the running items of closed maps.
    pub(in crate::runtime) fn follow_maps(&mut self, id: ExecutionId, changes: &[MapChange]) {
        for change in changes {
            match change {
                MapChange::Expand(row) => self.maps.note_row((**row).clone()),
                MapChange::Close(task) => {
                    let priority = self.maps.row((id, *task)).map_or(0, |row| row.priority);
                    let held: Vec<_> = self.ledger.claims_of(id).collect();
                    for held in held.into_iter().filter(|held| held.task == *task) {
                        self.interrupt(id, held.task, held.claim, priority);
                    }
                    self.maps.forget((id, *task));
                }
                MapChange::Tell(..) => self.signals.raise(Signal::Waits),
                MapChange::Pause(_) | MapChange::Resume(..) | MapChange::Reopen(_) => {}
            }
        }
    }
}
