//! What this runner holds: cached executions, the claims of this process, and the deadlines of executions.
//!
//! Invariants: an execution with a claim in flight is never dropped to save memory; idle executions are bounded by bytes;
//! at most one claim of a task is held; a deadline is told once.

mod cache;

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use cache::Cache;
pub(super) use cache::weight;

use super::assignment::Executor;
use crate::engine::Execution;
use crate::types::{Claim, ExecutionId, Monotonic, Ordinal};

/// The number of unreadable executions that are remembered, so that each is reported once.
const UNREADABLE: usize = 10_000;

/// A claim of this process whose attempt has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldClaim {
    pub(super) task: Ordinal,
    pub(super) claim: Claim,
    pub(super) executor: Executor,
    /// The attempt is deferred: it has released its slot.
    pub(super) is_deferred: bool,
}

/// See the module.
pub(super) struct Ledger {
    cache: Cache,
    /// By execution: few tasks of one run at a time, and all of them are asked for together.
    held: FxHashMap<ExecutionId, Vec<HeldClaim>>,
    count: usize,
    deadlines: BTreeSet<(Monotonic, ExecutionId)>,
    /// The deadline of each execution among them. The same one is computed a little differently as the clocks drift.
    deadline_of: FxHashMap<ExecutionId, Monotonic>,
    unreadable: FxHashSet<ExecutionId>,
    /// The executions that this turn has used: only after it may one of them be dropped.
    used: Vec<ExecutionId>,
}

impl Ledger {
    /// An empty ledger. `cache_bytes`: the number of bytes up to which idle executions are kept.
    pub(super) fn new(cache_bytes: usize) -> Self {
        Self {
            cache: Cache::new(cache_bytes),
            held: FxHashMap::default(),
            count: 0,
            deadlines: BTreeSet::new(),
            deadline_of: FxHashMap::default(),
            unreadable: FxHashSet::default(),
            used: Vec::new(),
        }
    }

    /// A ledger that holds one execution, to write about it alone.
    pub(super) fn of(execution: Execution) -> Self {
        let mut ledger = Self::new(0);
        ledger.insert(execution);
        ledger
    }

    pub(super) fn contains(&self, id: ExecutionId) -> bool {
        self.cache.contains(id)
    }

    pub(super) fn get(&self, id: ExecutionId) -> Option<&Execution> {
        self.cache.get(id)
    }

    pub(super) fn get_mut(&mut self, id: ExecutionId) -> Option<&mut Execution> {
        self.cache.get_mut(id)
    }

    pub(super) fn insert(&mut self, execution: Execution) {
        let id = execution.record().id;
        self.cache.insert(execution);
        self.used.push(id);
    }

    pub(super) fn remove(&mut self, id: ExecutionId) -> Option<Execution> {
        self.cache.remove(id)
    }

    /// Notes that an execution holds more bytes: a task has written them.
    pub(super) fn grow(&mut self, id: ExecutionId, bytes: usize) {
        self.cache.grow(id, bytes);
    }

    /// Notes that this turn has used an execution.
    pub(super) fn note_use(&mut self, id: ExecutionId) {
        self.used.push(id);
    }

    /// Ends a turn: what it has used and has no claim in flight is idle, and may be dropped to save memory.
    pub(super) fn end_turn(&mut self) {
        for id in std::mem::take(&mut self.used) {
            self.cache.set_idle(id, !self.held.contains_key(&id));
        }
    }

    /// Notes a claim. Returns the former claim of the task, whose attempt may still run but does not count any more.
    pub(super) fn hold(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        executor: Executor,
    ) -> Option<HeldClaim> {
        let new = HeldClaim {
            task,
            claim,
            executor,
            is_deferred: false,
        };
        let claims = self.held.entry(id).or_default();
        if let Some(held) = claims.iter_mut().find(|held| held.task == task) {
            return Some(std::mem::replace(held, new));
        }
        claims.push(new);
        self.count += 1;
        if claims.len() == 1 {
            self.cache.set_idle(id, false);
        }
        None
    }

    /// The claim that this process holds on a task.
    pub(super) fn held(&self, id: ExecutionId, task: Ordinal) -> Option<HeldClaim> {
        self.claims_of(id).find(|held| held.task == task)
    }

    /// The claims that this process holds on tasks of an execution.
    pub(super) fn claims_of(&self, id: ExecutionId) -> impl Iterator<Item = HeldClaim> {
        self.held.get(&id).into_iter().flatten().copied()
    }

    /// Forgets a claim if it is the one that is held.
    pub(super) fn drop_claim(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
    ) -> Option<HeldClaim> {
        let claims = self.held.get_mut(&id)?;
        let place = claims
            .iter()
            .position(|held| held.task == task && held.claim == claim)?;
        let dropped = claims.swap_remove(place);
        self.count -= 1;
        if claims.is_empty() {
            self.held.remove(&id);
            self.used.push(id);
        }
        Some(dropped)
    }

    /// Notes that an attempt has released its slot, or has it again. Returns the claim if that is news.
    pub(super) fn set_deferred(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        deferred: bool,
    ) -> Option<HeldClaim> {
        let held = self
            .held
            .get_mut(&id)?
            .iter_mut()
            .find(|held| held.task == task && held.claim == claim)?;
        let news = held.is_deferred != deferred;
        held.is_deferred = deferred;
        news.then_some(*held)
    }

    /// An estimate of the bytes that an execution takes.
    pub(super) fn bytes_of(&self, id: ExecutionId) -> usize {
        self.cache.bytes_of(id)
    }

    /// The bytes of the idle executions.
    pub(super) const fn idle_bytes(&self) -> usize {
        self.cache.idle_bytes()
    }

    /// The number of claims in flight.
    pub(super) const fn in_flight(&self) -> usize {
        self.count
    }

    /// The executions with a claim in flight.
    pub(super) fn busy(&self) -> impl Iterator<Item = ExecutionId> {
        self.held.keys().copied()
    }

    /// Watches over an execution's deadline, instead of the one that was known.
    pub(super) fn watch_deadline(&mut self, id: ExecutionId, at: Monotonic) {
        self.drop_deadline(id);
        self.deadlines.insert((at, id));
        self.deadline_of.insert(id, at);
    }

    /// Stops watching over it.
    pub(super) fn drop_deadline(&mut self, id: ExecutionId) {
        if let Some(at) = self.deadline_of.remove(&id) {
            self.deadlines.remove(&(at, id));
        }
    }

    pub(super) fn first_deadline(&self) -> Option<Monotonic> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// The executions whose deadline has passed, each told once.
    pub(super) fn take_overdue(&mut self, now: Monotonic) -> Vec<ExecutionId> {
        let mut overdue = Vec::new();
        while let Some(entry) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.drop_deadline(entry.1);
            overdue.push(entry.1);
        }
        overdue
    }

    /// Notes that an execution cannot be read. `true` the first time: it is to be reported.
    pub(super) fn note_unreadable(&mut self, id: ExecutionId) -> bool {
        if self.unreadable.len() >= UNREADABLE {
            self.unreadable.clear();
        }
        self.unreadable.insert(id)
    }

    /// Whether an execution could not be read when it was tried last.
    pub(super) fn is_unreadable(&self, id: ExecutionId) -> bool {
        self.unreadable.contains(&id)
    }

    /// Drops everything. Returns the claims that were in flight.
    pub(super) fn clear(&mut self) -> Vec<(ExecutionId, HeldClaim)> {
        self.cache.clear();
        self.deadlines.clear();
        self.deadline_of.clear();
        self.unreadable.clear();
        self.used.clear();
        self.count = 0;
        let held = std::mem::take(&mut self.held);
        held.into_iter()
            .flat_map(|(id, claims)| claims.into_iter().map(move |held| (id, held)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
