//! The ledger of a runner: cached executions, the claims of this process, and the deadlines of executions.
//!
//! Invariants: an execution with a claim in flight is never evicted; idle executions are bounded by bytes; at most one claim
//! of a task is held; a passed deadline is reported once.

mod cache;

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use cache::Cache;
pub(super) use cache::weight;

use super::assignment::Executor;
use crate::engine::Execution;
use crate::types::{Claim, ExecutionId, Monotonic, Ordinal};

/// Maximum number of unreadable executions that are remembered, so that each is reported once.
const UNREADABLE: usize = 10_000;

/// A claim of this process whose attempt has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldClaim {
    pub(super) task: Ordinal,
    pub(super) claim: Claim,
    pub(super) executor: Executor,
    /// The attempt is deferred: it has released its slot.
    pub(super) is_deferred: bool,
    /// A worker has taken the task, and the coordinator knows it.
    pub(super) is_started: bool,
}

/// The executions, claims and deadlines of a runner.
pub(super) struct Ledger {
    cache: Cache,
    /// The claims by execution. An execution has few claims at a time, and they are needed together.
    held: FxHashMap<ExecutionId, Vec<HeldClaim>>,
    /// The number of all claims.
    count: usize,
    deadlines: BTreeSet<(Monotonic, ExecutionId)>,
    /// The key of each execution in `deadlines`. It cannot be computed again, because the clocks drift.
    deadline_of: FxHashMap<ExecutionId, Monotonic>,
    unreadable: FxHashSet<ExecutionId>,
    /// The executions that this turn has used. None of them may be evicted before the turn ends.
    used: Vec<ExecutionId>,
}

impl Ledger {
    /// Returns an empty ledger. `cache_bytes`: the maximum bytes of idle executions.
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

    /// Returns a ledger with some executions, for a process that changes them without a runner.
    pub(super) fn of(executions: Vec<Execution>) -> Self {
        let mut ledger = Self::new(0);
        for execution in executions {
            ledger.insert(execution);
        }
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

    /// Adds the bytes that a task has written to the size of its execution.
    pub(super) fn grow(&mut self, id: ExecutionId, bytes: usize) {
        self.cache.grow(id, bytes);
    }

    /// Notes that this turn has used an execution.
    pub(super) fn note_use(&mut self, id: ExecutionId) {
        self.used.push(id);
    }

    /// Ends a turn: the executions that it has used become idle if they have no claim in flight, and may be evicted.
    pub(super) fn end_turn(&mut self) {
        for id in std::mem::take(&mut self.used) {
            self.cache.set_idle(id, !self.held.contains_key(&id));
        }
    }

    /// Notes a claim. Returns the former claim of the task, whose attempt may still be running.
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
            is_started: false,
        };
        let claims = self.held.entry(id).or_default();
        let is_same = |held: &&mut HeldClaim| held.task == task && held.claim.item == claim.item;
        if let Some(held) = claims.iter_mut().find(is_same) {
            return Some(std::mem::replace(held, new));
        }
        claims.push(new);
        self.count += 1;
        if claims.len() == 1 {
            self.cache.set_idle(id, false);
        }
        None
    }

    /// The claim that this process holds on a task, or on an item of it.
    pub(super) fn held(
        &self,
        id: ExecutionId,
        task: Ordinal,
        item: Option<u32>,
    ) -> Option<HeldClaim> {
        let mut claims = self.claims_of(id);
        claims.find(|held| held.task == task && held.claim.item == item)
    }

    /// The claims that this process holds on tasks of an execution.
    pub(super) fn claims_of(&self, id: ExecutionId) -> impl Iterator<Item = HeldClaim> {
        self.held.get(&id).into_iter().flatten().copied()
    }

    /// Drops a claim and returns it. `None`: this claim is not held.
    pub(super) fn drop_claim(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
    ) -> Option<HeldClaim> {
        let claims = self.held.get_mut(&id)?;
        let index = claims
            .iter()
            .position(|held| held.task == task && held.claim == claim)?;
        let dropped = claims.swap_remove(index);
        self.count -= 1;
        if claims.is_empty() {
            self.held.remove(&id);
            self.used.push(id);
        }
        Some(dropped)
    }

    /// Notes that an attempt has released its slot, or has reacquired one. Returns the claim if this is a change.
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
        let is_change = held.is_deferred != deferred;
        held.is_deferred = deferred;
        is_change.then_some(*held)
    }

    /// Notes that a worker has taken a claimed task. Returns whether this is new.
    pub(super) fn set_started(&mut self, id: ExecutionId, task: Ordinal, claim: Claim) -> bool {
        let claims = self.held.get_mut(&id).into_iter().flatten();
        let mut of_claim = claims.filter(|held| held.task == task && held.claim == claim);
        of_claim
            .next()
            .is_some_and(|held| !std::mem::replace(&mut held.is_started, true))
    }

    /// An estimate of the bytes of an execution.
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

    /// Sets the timer for an execution's deadline, in place of an earlier one.
    pub(super) fn watch_deadline(&mut self, id: ExecutionId, at: Monotonic) {
        self.drop_deadline(id);
        self.deadlines.insert((at, id));
        self.deadline_of.insert(id, at);
    }

    /// Removes the timer for an execution's deadline.
    pub(super) fn drop_deadline(&mut self, id: ExecutionId) {
        if let Some(at) = self.deadline_of.remove(&id) {
            self.deadlines.remove(&(at, id));
        }
    }

    pub(super) fn first_deadline(&self) -> Option<Monotonic> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Takes the executions whose deadline has passed.
    pub(super) fn take_overdue(&mut self, now: Monotonic) -> Vec<ExecutionId> {
        let mut overdue = Vec::new();
        while let Some(entry) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.drop_deadline(entry.1);
            overdue.push(entry.1);
        }
        overdue
    }

    /// Notes that an execution cannot be read. Returns `true` the first time, when it must be reported.
    pub(super) fn note_unreadable(&mut self, id: ExecutionId) -> bool {
        if self.unreadable.len() >= UNREADABLE {
            self.unreadable.clear();
        }
        self.unreadable.insert(id)
    }

    /// Whether an execution is known to be unreadable.
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
