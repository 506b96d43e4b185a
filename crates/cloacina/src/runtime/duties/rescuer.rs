//! Finds dead runners and rescues their tasks (semantics E2, E3). Several runners can do this at the same time, because fences
//! allow only one of them to take a claim back.

use super::duty::Duty;
use crate::runtime::refused_batch::RefusedBatch;
use crate::runtime::step::{Signal, Step};
use crate::store::StoreError;
use crate::types::{ExecutionId, Micros, Monotonic, RunnerId};

/// Time between two searches for dead runners, in microseconds.
const INTERVAL: Micros = 1_000_000;
/// Maximum number of executions of a dead runner that are processed in one turn.
const BATCH: usize = 200;
/// Maximum number of map items claimed by a dead runner that are processed in one turn.
const ITEMS: usize = 1_000;

/// The duty that rescues tasks of dead runners.
pub(in crate::runtime) struct Rescuer {
    next: Monotonic,
    /// Runners that were declared dead and may still have claims.
    dead: Vec<RunnerId>,
    /// Executions that still have to be processed, because the first runner in `dead` has claims on them. The query that finds
    /// them reads all running executions, so it is not repeated in every turn.
    claims: Vec<ExecutionId>,
    /// Maximum number of executions to process in one turn. It is reduced after the database has refused a batch.
    batch: usize,
}

impl Default for Rescuer {
    fn default() -> Self {
        Self {
            next: Monotonic::default(),
            dead: Vec::new(),
            claims: Vec::new(),
            batch: BATCH,
        }
    }
}

impl Rescuer {
    /// After a refused batch, processes fewer executions in one turn. If the batch contained only one, skips this execution.
    pub(in crate::runtime) fn note_refused(&mut self, step: &mut Step, refused: &RefusedBatch) {
        if let ([id], true) = (refused.rescued.as_slice(), refused.is_single()) {
            step.set_unreadable(*id, "the database refuses the rescue of its tasks");
        }
        if !refused.rescued.is_empty() {
            self.batch = (refused.rescued.len() / 2).max(1);
            self.claims.clear();
        }
    }

    fn find_dead(&mut self, step: &mut Step) -> Result<(), StoreError> {
        let rows = step.store.runners()?;
        step.peers.observe(&rows, step.monotonic);
        let mut peers = 0;
        for row in rows.iter().filter(|row| row.id != step.runner) {
            peers += 1;
            let Some(death) = step.peers.death(row, step.now, step.monotonic) else {
                continue;
            };
            if step.store.declare_dead(row.id, row.lease_until, step.now)? {
                peers -= 1;
                tracing::info!(dead_runner_id = %row.id, pid = row.pid, "declared a runner dead: {death}");
            }
        }
        step.peers.clear_suspects();
        let returned = step.capacity.rebalance(peers == 0, step.monotonic);
        step.retry.extend(returned);
        self.dead = step.store.dead_runners()?;
        self.claims.clear();
        Ok(())
    }

    /// Rescues the tasks of the first runner in `dead`, in up to `batch` executions.
    fn rescue(&mut self, step: &mut Step) -> Result<(), StoreError> {
        let Some(dead) = self.dead.first().copied() else {
            return Ok(());
        };
        let is_fresh = self.claims.is_empty();
        if is_fresh {
            self.claims = step.store.claims_of(dead)?;
            if self.claims.is_empty() {
                let (items, has_skipped) = step.rescue_items(dead, ITEMS)?;
                if items > 0 {
                    step.metrics.count_rescued(items);
                    tracing::info!(dead_runner_id = %dead, items, "rescued items of a dead runner");
                }
                if items > 0 || has_skipped {
                    return Ok(());
                }
                if !step.store.items_of(dead, 1)?.is_empty() {
                    // The remaining items belong to executions that this release cannot read. The row of the dead runner stays,
                    // because otherwise no runner would ever rescue them.
                    self.dead.remove(0);
                    return Ok(());
                }
                step.store.withdraw(dead, None)?;
                step.store.retire_runner(dead)?;
                self.dead.remove(0);
                return Ok(());
            }
        }
        let mut ids = std::mem::take(&mut self.claims);
        ids.retain(|id| !step.ledger.is_unreadable(*id));
        self.claims = ids.split_off(ids.len().min(self.batch));
        let untouched = |id: &&ExecutionId| !step.batch.executions.contains_key(*id);
        let missing: Vec<ExecutionId> = ids.iter().filter(untouched).copied().collect();
        for id in &missing {
            step.ledger.remove(*id);
        }
        step.load(&missing)?;
        let limits = step.limits();
        let mut rescued = 0;
        for id in ids {
            let Some(execution) = step.ledger.get_mut(id) else {
                continue;
            };
            let change = step.batch.change(execution);
            let recovery = execution.rescue(dead, limits, step.now);
            rescued += recovery.rescued;
            change.changes.merge(recovery.changes);
            change.is_rescue = true;
            if execution.record().deadline.is_some() {
                // D5: if the execution's time is over, none of its tasks may start again.
                step.deadline(id);
            }
        }
        if rescued == 0 {
            self.claims.clear();
            if is_fresh {
                // None of the executions can be read now. They are tried again after the next search for dead runners.
                self.dead.remove(0);
            }
        } else {
            self.batch = (self.batch * 2).min(BATCH);
            step.metrics.count_rescued(rescued);
            tracing::info!(dead_runner_id = %dead, tasks = rescued, "rescued tasks of a dead runner");
        }
        Ok(())
    }
}

impl Duty for Rescuer {
    const ACTION: &'static str = "rescue the tasks of dead runners";

    fn next_wake(&self, step: &Step) -> Monotonic {
        if !step.config.enable_recovery || step.is_stopping {
            return Monotonic::NEVER;
        }
        if !self.dead.is_empty() || step.signals.is_raised(Signal::Rescue) {
            return step.monotonic;
        }
        self.next
    }

    fn run(&mut self, step: &mut Step) -> Result<(), StoreError> {
        if step.signals.take(Signal::Rescue) || step.monotonic >= self.next {
            self.find_dead(step)?;
            self.next = step.monotonic + INTERVAL;
        }
        self.rescue(step)
    }
}
