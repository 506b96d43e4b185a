//! Starts each suspect alone: delays it until nothing else runs in this process, and records its start before it is dispatched.

use super::dispatch::Dispatch;
use super::quarantine::Suspect;
use super::step::Step;
use crate::store::StoreError;
use crate::types::ItemRecord;

impl Step {
    /// Holds a claimed suspect back until it can be started alone.
    pub(super) fn isolate(&mut self, suspect: Suspect) {
        tracing::warn!(
            execution_id = %suspect.execution,
            "a task or item of execution {} lost its runner more than once; it is started alone, because it may be crashing the process",
            suspect.execution
        );
        self.quarantine.waits_since.get_or_insert(self.monotonic);
        self.quarantine.waiting.push_back(suspect);
        self.capacity.set_paused(true);
    }

    /// Adds the start of the next suspect to the batch, once nothing else runs here.
    pub(super) fn advance_quarantine(&mut self) -> Result<(), StoreError> {
        let is_held = |step: &Self, suspect: &Suspect| {
            let held = step
                .ledger
                .held(suspect.execution, suspect.task, suspect.claim.item);
            held.is_some_and(|held| held.claim == suspect.claim)
        };
        if let Some(current) = self.quarantine.current {
            if is_held(self, &current) {
                return Ok(());
            }
            self.quarantine.current = None;
            self.quarantine.waits_since = Some(self.monotonic);
        }
        while let Some(next) = self.quarantine.waiting.front().copied() {
            if !is_held(self, &next) {
                self.quarantine.waiting.pop_front();
                continue;
            }
            let others = (self.ledger.in_flight()).saturating_sub(self.quarantine.waiting.len());
            let overdue = self
                .quarantine
                .next_wake()
                .is_some_and(|at| at <= self.monotonic);
            if self.is_stopping || (others > 0 && !overdue) {
                return Ok(());
            }
            if next.claim.item.is_some() {
                if self.probe_item(next) {
                    return Ok(());
                }
                continue;
            }
            if !self.ledger.contains(next.execution) {
                self.load(&[next.execution])?;
            }
            let holds = |step: &Self| {
                let execution = step.ledger.get(next.execution);
                execution.is_some_and(|execution| execution.holds(next.task, next.claim))
            };
            if !holds(self) {
                if self.batch.executions.contains_key(&next.execution) {
                    return Ok(()); // this turn takes the claim away, and withdraws the suspect once that is durable
                }
                // Its claim is gone, or it cannot be read.
                self.quarantine.waiting.pop_front();
                self.drop_claim(next.execution, next.task, next.claim);
                continue;
            }
            self.quarantine.waiting.pop_front();
            let Some(execution) = self.ledger.get_mut(next.execution) else {
                continue;
            };
            let rescues = execution.task(next.task).rescues;
            self.quarantine.current = Some(Suspect {
                rescues: Some(next.rescues.unwrap_or(rescues)),
                ..next
            });
            if next.rescues.is_some_and(|before| rescues > before) {
                // An earlier commit of the start succeeded, although its answer got lost.
                let mut dispatch = Dispatch::default();
                self.assign_now(next.execution, next.task, next.claim, &mut dispatch);
                self.dispatch(dispatch);
            } else {
                let change = self.batch.change(execution);
                change.changes.merge(execution.probe(next.task, next.claim));
                self.quarantine.is_starting = true;
            }
            return Ok(());
        }
        if self.quarantine.waits_since.take().is_some() {
            self.capacity.set_paused(false);
            self.capacity.set_stale();
        }
        Ok(())
    }

    /// Adds the start of the next suspect, an item of a map, to the batch. Returns whether the suspects behind it have to wait.
    fn probe_item(&mut self, next: Suspect) -> bool {
        let key = (next.execution, next.task);
        let is_changed = self.batch.items.get(&key).is_some_and(|pending| {
            (next.claim.item).is_some_and(|item| pending.ended.contains(&item))
        });
        if is_changed {
            return true; // this turn takes the claim away
        }
        self.quarantine.waiting.pop_front();
        let Some(item) = self.maps.held(key, next.claim).cloned() else {
            self.drop_claim(next.execution, next.task, next.claim);
            return false;
        };
        if next.rescues.is_some_and(|before| item.rescues > before) {
            self.dispatch_suspect(next);
            return true;
        }
        self.quarantine.current = Some(Suspect {
            rescues: Some(item.rescues),
            ..next
        });
        let record = ItemRecord {
            rescues: item.rescues + 1,
            ..item
        };
        self.end_item(key, next.claim, record, None);
        self.quarantine.is_starting = true;
        true
    }
}
