//! Starts each suspect alone. A suspect is a task that has lost its runner twice (once if `max_rescues` is 1), so it may be
//! crashing the process. The runner first waits, for a limited time, until the other attempts of this process have ended.
//! Before the runner dispatches the suspect, it commits the start as a further lost runner, because a process that has crashed
//! cannot count its own loss. When the attempt ends without a crash, the engine reverts this count.

use super::dispatch::Dispatch;
use super::quarantine::Suspect;
use super::step::Step;
use crate::store::StoreError;
use crate::types::ItemRecord;

impl Step {
    /// Keeps a claimed suspect waiting until it can be started alone.
    pub(super) fn isolate(&mut self, suspect: Suspect) {
        let name = self.ledger.get(suspect.execution).map_or_else(
            || "a task".to_owned(),
            |execution| {
                let workflow = execution.workflow();
                let item = suspect.claim.item.map_or("", |_| "an item of ");
                let id = &workflow.task(suspect.task).id;
                format!("{item}task '{id}' of workflow '{}'", workflow.name())
            },
        );
        tracing::warn!(
            execution_id = %suspect.execution,
            "{name} has lost its runner before; it is started alone, because it may be crashing the process",
        );
        self.quarantine.waits_since.get_or_insert(self.monotonic);
        self.quarantine.waiting.push_back(suspect);
        self.capacity.set_paused(true);
    }

    /// If nothing else runs in this process, or the suspects have waited long enough, adds the start of the next suspect to the
    /// batch.
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
            if !self.ledger.contains(next.execution) {
                self.load(&[next.execution])?;
            }
            if next.claim.item.is_some() {
                if self.probe_item(next) {
                    return Ok(());
                }
                continue;
            }
            let holds = |step: &Self| {
                let execution = step.ledger.get(next.execution);
                execution.is_some_and(|execution| execution.holds(next.task, next.claim))
            };
            if !holds(self) {
                if self.batch.executions.contains_key(&next.execution) {
                    return Ok(()); // this turn takes the claim away, and will then withdraw the suspect
                }
                // The suspect's claim is gone, or its execution cannot be read.
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
                // An earlier commit of the start succeeded, but its reply was lost.
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

    /// Adds the start of the next suspect to the batch if it is an item of a map. Returns whether the following suspects must
    /// wait.
    fn probe_item(&mut self, next: Suspect) -> bool {
        let key = (next.execution, next.task);
        let is_changed = self.batch.items.get(&key).is_some_and(|pending| {
            (next.claim.item).is_some_and(|item| pending.written.contains(&item))
        });
        if is_changed {
            return true; // this turn takes the claim away
        }
        self.quarantine.waiting.pop_front();
        // Without its execution, which cannot be read, the item could not be dispatched.
        let is_readable = self.ledger.contains(next.execution);
        let held = self.maps.held(key, next.claim).filter(|_| is_readable);
        let Some(item) = held.cloned() else {
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
