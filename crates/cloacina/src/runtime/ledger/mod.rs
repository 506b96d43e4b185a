//! The ledger of a runner: cached executions, the claims of this process, and the deadlines of executions.
//!
//! Invariants: an execution with a claim in flight is never evicted. The total size of idle executions is limited. At most one
//! claim is held on a task, or on each item of a map. A passed deadline is reported once.

mod cache;

use std::collections::{BTreeSet, VecDeque};

use rustc_hash::{FxHashMap, FxHashSet};

use cache::Cache;
pub(super) use cache::weight;

use super::assignment::Executor;
use crate::engine::Execution;
use crate::types::{Claim, ExecutionId, Monotonic, Ordinal};

/// Maximum number of unreadable executions that are remembered, so that each of them is reported only once.
const UNREADABLE: usize = 10_000;

/// A claim of this process whose attempt has not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeldClaim {
    pub(super) task: Ordinal,
    pub(super) claim: Claim,
    pub(super) executor: Executor,
    /// Whether the attempt is deferred and has released its slot.
    pub(super) is_deferred: bool,
    /// Whether the coordinator knows that a worker has taken the task.
    pub(super) is_started: bool,
}

/// The executions, claims and deadlines of a runner.
pub(super) struct Ledger {
    cache: Cache,
    /// The claims of each execution, in the order of tasks and items. They are mostly added at the end and dropped near the
    /// start.
    held: FxHashMap<ExecutionId, VecDeque<HeldClaim>>,
    /// The total number of claims.
    count: usize,
    deadlines: BTreeSet<(Monotonic, ExecutionId)>,
    /// For each execution, its key in `deadlines`. The key is stored, because it cannot be computed again: clocks drift.
    deadline_of: FxHashMap<ExecutionId, Monotonic>,
    unreadable: FxHashSet<ExecutionId>,
    /// The executions that this turn has used. They are not evicted before the turn ends.
    used: Vec<ExecutionId>,
}

impl Ledger {
    /// Returns an empty ledger. `cache_bytes`: the maximum total size of idle executions.
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

    /// Returns a ledger with the given executions, for a process that changes them without a runner.
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

    /// Adds `bytes`, which a task has written, to the size of its execution.
    pub(super) fn grow(&mut self, id: ExecutionId, bytes: usize) {
        self.cache.grow(id, bytes);
    }

    /// Notes that this turn has used an execution.
    pub(super) fn note_use(&mut self, id: ExecutionId) {
        self.used.push(id);
    }

    /// Ends a turn. The executions that the turn has used become idle if they have no claim in flight, and can then be evicted.
    pub(super) fn end_turn(&mut self) {
        for id in std::mem::take(&mut self.used) {
            self.cache.set_idle(id, !self.held.contains_key(&id));
        }
    }

    /// Notes a claim. Returns the task's previous claim, whose attempt may still be running.
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
        match index_of(claims, task, claim.item) {
            Ok(index) => return Some(std::mem::replace(&mut claims[index], new)),
            Err(index) => claims.insert(index, new),
        }
        self.count += 1;
        if claims.len() == 1 {
            self.cache.set_idle(id, false);
        }
        None
    }

    /// The claim that this process holds on a task, or on an item of the task.
    pub(super) fn held(
        &self,
        id: ExecutionId,
        task: Ordinal,
        item: Option<u32>,
    ) -> Option<HeldClaim> {
        let claims = self.held.get(&id)?;
        claims.get(index_of(claims, task, item).ok()?).copied()
    }

    /// The claims that this process holds on the tasks of an execution.
    pub(super) fn claims_of(&self, id: ExecutionId) -> impl Iterator<Item = HeldClaim> {
        self.held.get(&id).into_iter().flatten().copied()
    }

    /// The memory of an execution, in bytes, divided by the number of the claims that this process holds on its tasks.
    pub(super) fn bytes_per_claim(&self, id: ExecutionId) -> usize {
        let claims = self.held.get(&id).map_or(1, VecDeque::len);
        self.cache.bytes_of(id) / claims.max(1)
    }

    /// Drops a claim and returns it. Returns `None` if this claim is not held.
    pub(super) fn drop_claim(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
    ) -> Option<HeldClaim> {
        let claims = self.held.get_mut(&id)?;
        let index = index_of(claims, task, claim.item).ok()?;
        let dropped = (claims.get(index).copied()).filter(|held| held.claim == claim)?;
        claims.remove(index);
        self.count -= 1;
        if claims.is_empty() {
            self.held.remove(&id);
            self.used.push(id);
        }
        Some(dropped)
    }

    /// Notes that an attempt has released or reacquired its slot. Returns the claim, or `None` if nothing changes.
    pub(super) fn set_deferred(
        &mut self,
        id: ExecutionId,
        task: Ordinal,
        claim: Claim,
        deferred: bool,
    ) -> Option<HeldClaim> {
        let held = self.held_mut(id, task, claim)?;
        let is_change = held.is_deferred != deferred;
        held.is_deferred = deferred;
        is_change.then_some(*held)
    }

    /// Notes that a worker has taken a claimed task. Returns `true` only for the first call for a claim.
    pub(super) fn set_started(&mut self, id: ExecutionId, task: Ordinal, claim: Claim) -> bool {
        self.held_mut(id, task, claim)
            .is_some_and(|held| !std::mem::replace(&mut held.is_started, true))
    }

    fn held_mut(&mut self, id: ExecutionId, task: Ordinal, claim: Claim) -> Option<&mut HeldClaim> {
        let claims = self.held.get_mut(&id)?;
        let index = index_of(claims, task, claim.item).ok()?;
        claims.get_mut(index).filter(|held| held.claim == claim)
    }

    /// The total size of the idle executions, in bytes.
    pub(super) const fn idle_bytes(&self) -> usize {
        self.cache.idle_bytes()
    }

    /// The number of claims in flight.
    pub(super) const fn in_flight(&self) -> usize {
        self.count
    }

    /// The executions that have a claim in flight.
    pub(super) fn busy(&self) -> impl Iterator<Item = ExecutionId> {
        self.held.keys().copied()
    }

    /// Sets the timer for an execution's deadline. Replaces an earlier timer.
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

    /// Takes the executions whose deadlines have passed.
    pub(super) fn take_overdue(&mut self, now: Monotonic) -> Vec<ExecutionId> {
        let mut overdue = Vec::new();
        while let Some(entry) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.drop_deadline(entry.1);
            overdue.push(entry.1);
        }
        overdue
    }

    /// Notes that an execution cannot be read. Returns `true` the first time, so that the caller reports it.
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

    /// Drops all executions, claims and deadlines. Returns the claims that were in flight.
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

/// Searches for the claim on a task, or on an item of the task. `Err` has the index at which to insert such a claim.
fn index_of(
    claims: &VecDeque<HeldClaim>,
    task: Ordinal,
    item: Option<u32>,
) -> Result<usize, usize> {
    claims.binary_search_by_key(&(task, item), |held| (held.task, held.claim.item))
}

#[cfg(test)]
mod tests;
