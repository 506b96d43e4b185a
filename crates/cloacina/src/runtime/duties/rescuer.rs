//! Finds dead runners and takes their work back. Every runner does it; the fences make doing it twice harmless (semantics
//! E2, E3).

use super::duty::Duty;
use crate::runtime::commit::Refused;
use crate::runtime::step::{Signal, Step};
use crate::store::StoreError;
use crate::types::{ExecutionId, Micros, Monotonic, RunnerId};

/// The time between two looks for dead runners, in microseconds.
const INTERVAL: Micros = 1_000_000;
/// The number of executions that are taken from a dead runner in one turn.
const BATCH: usize = 200;

pub(in crate::runtime) struct Rescuer {
    next: Monotonic,
    /// Runners declared dead whose claims are not all taken back.
    dead: Vec<RunnerId>,
    /// Executions in which the first of them had claims and that were not looked at yet. Finding them reads all running
    /// executions, so they are not found again for each turn.
    claims: Vec<ExecutionId>,
    /// The number of executions to take back in one turn: less while the database refuses a batch.
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
    /// The database refused a batch: fewer executions are tried at once, and one that is refused alone is left.
    pub(in crate::runtime) fn note_refused(&mut self, step: &mut Step, refused: &Refused) {
        if let ([id], true) = (refused.rescued.as_slice(), refused.is_single()) {
            step.set_unreadable(*id, "the database refuses that its tasks are taken back");
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

    /// Takes back some of what the first dead runner had.
    fn take_back(&mut self, step: &mut Step) -> Result<(), StoreError> {
        let Some(dead) = self.dead.first().copied() else {
            return Ok(());
        };
        let is_fresh = self.claims.is_empty();
        if is_fresh {
            self.claims = step.store.claims_of(dead)?;
            if self.claims.is_empty() {
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
        }
        if rescued == 0 {
            self.claims.clear();
            if is_fresh {
                // None of them can be read now: they are tried again at the next look.
                self.dead.remove(0);
            }
        } else {
            self.batch = (self.batch * 2).min(BATCH);
            step.metrics.rescued(rescued);
            tracing::info!(dead_runner_id = %dead, tasks = rescued, "took tasks back from a dead runner");
        }
        Ok(())
    }
}

impl Duty for Rescuer {
    const ACTION: &'static str = "take back the work of dead runners";

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
        self.take_back(step)
    }
}
