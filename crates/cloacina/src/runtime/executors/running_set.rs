//! The attempts that the workers of one executor are running, by token.
//!
//! An attempt is *evicted* when the engine ends it although its function still runs.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use rustc_hash::FxHashMap;

use crate::runtime::assignment::{Completion, Running, WorkToken};
use crate::store::{AttemptKey, AttemptStart};
use crate::types::{ExecutionId, Micros, Monotonic, Ordinal};

/// Maximum number of ended attempts whose start is remembered. A reader may request the start before the end of the
/// attempt is committed.
const REMEMBERED: usize = 1_024;

/// The running attempts, with their deadlines.
#[derive(Default)]
pub(super) struct RunningSet {
    attempts: FxHashMap<WorkToken, Running>,
    /// The number of deferred attempts, which have released their slot.
    deferred: usize,
    /// The evicted attempts. The worker of an evicted attempt has lost its slot, and must end when the function
    /// returns.
    evicted: FxHashMap<WorkToken, Evicted>,
    /// A time that is not later than any deadline. It is the earliest deadline, unless the attempt with that deadline has
    /// ended.
    first_deadline: Option<Monotonic>,
    /// The number of running attempts whose start is not stored.
    unstored: usize,
    /// The attempts that ended last, oldest first.
    ended: VecDeque<AttemptStart>,
}

/// An evicted attempt. Its function is still running.
struct Evicted {
    key: AttemptKey,
    /// Whether its workflow has final tasks, which must wait for the function (Q2).
    delays_finals: bool,
}

fn start_of(running: &Running) -> AttemptStart {
    AttemptStart {
        execution: running.execution,
        task: running.task,
        claim: running.claim,
        at: running.started_at,
    }
}

impl RunningSet {
    /// Adds an attempt. Returns whether its deadline becomes `first_deadline`.
    pub(super) fn start(&mut self, token: WorkToken, running: Running) -> bool {
        let is_first = running
            .deadline
            .is_some_and(|deadline| self.first_deadline.is_none_or(|first| deadline < first));
        if is_first {
            self.first_deadline = running.deadline;
        }
        self.unstored += usize::from(!running.is_start_stored);
        self.attempts.insert(token, running);
        is_first
    }

    /// Ends an attempt whose function returned.
    pub(super) fn complete(&mut self, token: WorkToken) -> Completion {
        match self.remove(token) {
            Some(running) => Completion::Accepted(running),
            None if self.evicted.remove(&token).is_some() => Completion::Replaced,
            None => Completion::Dropped,
        }
    }

    /// Evicts overdue attempts.
    pub(super) fn evict_overdue(&mut self, now: Monotonic) -> Vec<(WorkToken, Running)> {
        if self.first_deadline.is_none_or(|first| first > now) {
            return Vec::new();
        }
        let is_overdue = |running: &Running| running.deadline.is_some_and(|due| due <= now);
        let overdue = self
            .attempts
            .iter()
            .filter(|(_, running)| is_overdue(running));
        let overdue: Vec<WorkToken> = overdue.map(|(token, _)| *token).collect();
        let evicted = self.evict(&overdue);
        let deadlines = self
            .attempts
            .values()
            .filter_map(|running| running.deadline);
        self.first_deadline = deadlines.min();
        evicted
    }

    /// Evicts all attempts.
    pub(super) fn evict_all(&mut self) -> Vec<(WorkToken, Running)> {
        self.first_deadline = None;
        let tokens: Vec<WorkToken> = self.attempts.keys().copied().collect();
        self.evict(&tokens)
    }

    /// Evicts these attempts.
    pub(super) fn evict(&mut self, tokens: &[WorkToken]) -> Vec<(WorkToken, Running)> {
        for token in tokens {
            if let Some(running) = self.attempts.get(token) {
                let evicted = Evicted {
                    key: start_of(running).key(),
                    delays_finals: running.workflow.finals().is_some(),
                };
                self.evicted.insert(*token, evicted);
            }
        }
        let removed = tokens.iter().map(|token| (*token, self.remove(*token)));
        removed
            .filter_map(|(token, running)| running.map(|running| (token, running)))
            .collect()
    }

    fn remove(&mut self, token: WorkToken) -> Option<Running> {
        let running = self.attempts.remove(&token)?;
        self.deferred -= usize::from(running.deferred);
        self.unstored -= usize::from(!running.is_start_stored);
        if self.ended.len() >= REMEMBERED {
            self.ended.pop_front();
        }
        self.ended.push_back(start_of(&running));
        Some(running)
    }

    /// Forgets the start of an attempt that has ended.
    pub(super) fn forget_ended(&mut self, key: AttemptKey) {
        // The attempt ended a moment ago, so it is near the end of `ended`.
        if let Some(index) = self.ended.iter().rposition(|ended| ended.key() == key) {
            self.ended.remove(index);
        }
    }

    /// The starts of attempts that ended a short time ago (oldest first), followed by the starts of running attempts.
    pub(super) fn starts(&self) -> impl Iterator<Item = AttemptStart> {
        let running = self.attempts.values().map(start_of);
        self.ended.iter().copied().chain(running)
    }

    /// The attempts that have run for at least `span` and whose start is not stored.
    pub(super) fn unstored(
        &self,
        now: Monotonic,
        span: Micros,
    ) -> impl Iterator<Item = (WorkToken, AttemptStart)> {
        let is_wanted =
            move |running: &Running| !running.is_start_stored && now.since(running.started) >= span;
        let wanted = self.attempts.iter().filter(move |entry| is_wanted(entry.1));
        wanted.map(|(token, running)| (*token, start_of(running)))
    }

    /// Notes that the start of an attempt is stored.
    pub(super) fn set_start_stored(&mut self, token: WorkToken) {
        if let Some(running) = self.attempts.get_mut(&token)
            && !std::mem::replace(&mut running.is_start_stored, true)
        {
            self.unstored -= 1;
        }
    }

    /// Whether the starts of all running attempts are stored.
    pub(super) const fn are_starts_stored(&self) -> bool {
        self.unstored == 0
    }

    /// Marks a running attempt as cancelled. Returns its token and its state, or `None` if it is not running.
    pub(super) fn cancel(
        &self,
        (execution, task, claim): AttemptKey,
    ) -> Option<(WorkToken, &Running)> {
        let (token, running) = self.attempts.iter().find(|(_, running)| {
            running.execution == execution && running.task == task && running.claim == claim
        })?;
        running.cancelled.store(true, Ordering::Release);
        Some((*token, running))
    }

    /// Notes that an attempt has released or reacquired its slot. Returns `None` if the attempt is not running, or if nothing
    /// changes.
    pub(super) fn set_deferred(&mut self, token: WorkToken, deferred: bool) -> Option<AttemptKey> {
        let running = self.attempts.get_mut(&token)?;
        if std::mem::replace(&mut running.deferred, deferred) == deferred {
            return None;
        }
        if deferred {
            self.deferred += 1;
        } else {
            self.deferred -= 1;
        }
        Some((running.execution, running.task, running.claim))
    }

    /// Whether the function of an attempt is still running, even if the attempt was evicted.
    pub(super) fn occupies(&self, key: AttemptKey) -> bool {
        let mut running = self
            .attempts
            .values()
            .map(|running| start_of(running).key());
        running.any(|known| known == key) || self.evicted.values().any(|known| known.key == key)
    }

    /// Whether final tasks wait for the function of an evicted attempt.
    pub(super) fn delays_finals(&self) -> bool {
        self.evicted.values().any(|known| known.delays_finals)
    }

    /// Whether the function of any item of a map is still running, as in [`occupies`](Self::occupies).
    pub(super) fn occupies_items(&self, execution: ExecutionId, task: Ordinal) -> bool {
        let is_item = |(known, of, claim): AttemptKey| {
            (known, of) == (execution, task) && claim.item.is_some()
        };
        let mut running = self
            .attempts
            .values()
            .map(|running| start_of(running).key());
        running.any(is_item) || self.evicted.values().any(|known| is_item(known.key))
    }

    pub(super) fn contains(&self, token: WorkToken) -> bool {
        self.attempts.contains_key(&token)
    }

    pub(super) fn all(&self) -> Vec<Running> {
        self.attempts.values().cloned().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.attempts.len()
    }

    pub(super) const fn deferred(&self) -> usize {
        self.deferred
    }

    /// The number of attempts that occupy a slot.
    pub(super) fn busy(&self) -> usize {
        self.attempts.len() - self.deferred
    }

    pub(super) const fn first_deadline(&self) -> Option<Monotonic> {
        self.first_deadline
    }

    /// How long the oldest running attempt has been running, in microseconds.
    pub(super) fn longest_run(&self, now: Monotonic) -> Micros {
        let starts = self.attempts.values().map(|running| running.started);
        starts.min().map_or(0, |first| now.since(first))
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::running;
    use super::*;
    use crate::types::Claim;

    #[test]
    fn d3_worker_of_an_overdue_attempt_loses_its_slot() {
        let mut set = RunningSet::default();
        assert!(set.start(1, running(Some(Monotonic(30)))));
        assert!(set.start(2, running(Some(Monotonic(20)))));
        assert!(!set.start(3, running(None)));
        assert_eq!(set.first_deadline(), Some(Monotonic(20)));
        assert!(set.evict_overdue(Monotonic(19)).is_empty());
        let overdue = set.evict_overdue(Monotonic(20));
        assert_eq!(
            overdue.iter().map(|(token, _)| *token).collect::<Vec<_>>(),
            [2]
        );
        assert_eq!(set.first_deadline(), Some(Monotonic(30)));
        assert!(matches!(set.complete(2), Completion::Replaced));
        assert!(matches!(set.complete(2), Completion::Dropped));
        assert!(matches!(set.complete(1), Completion::Accepted(_)));
    }

    #[test]
    fn g2_deferred_attempt_occupies_no_slot() {
        let mut set = RunningSet::default();
        set.start(1, running(None));
        set.start(2, running(None));
        assert!(set.set_deferred(1, true).is_some());
        assert!(
            set.set_deferred(1, true).is_none(),
            "the attempt is already deferred"
        );
        assert_eq!((set.busy(), set.deferred()), (1, 1));
        assert!(set.set_deferred(1, false).is_some());
        assert!(set.set_deferred(2, true).is_some());
        assert_eq!(set.evict_all().len(), 2);
        assert_eq!((set.busy(), set.deferred()), (0, 0));
        assert!(
            set.set_deferred(2, false).is_none(),
            "the attempt was evicted"
        );
    }

    #[test]
    fn start_of_an_uncounted_attempt_is_forgotten() {
        let mut set = RunningSet::default();
        let (counted, snoozed) = (running(None), running(None));
        let keys = [start_of(&counted).key(), start_of(&snoozed).key()];
        set.start(1, counted);
        set.start(2, snoozed);
        assert!(matches!(set.complete(2), Completion::Accepted(_)));
        assert!(matches!(set.complete(1), Completion::Accepted(_)));
        set.forget_ended(keys[1]);
        let left = set.starts().map(|start| start.key());
        assert_eq!(left.collect::<Vec<_>>(), [keys[0]]);
    }

    #[test]
    fn d6_cancelled_attempt_is_found_by_its_claim() {
        let mut set = RunningSet::default();
        let attempt = running(None);
        let (execution, task, claim) = (attempt.execution, attempt.task, attempt.claim);
        set.start(7, attempt);
        let older = Claim {
            attempt: claim.attempt - 1,
            ..claim
        };
        assert!(set.cancel((execution, task, older)).is_none());
        let (token, cancelled) = set.cancel((execution, task, claim)).unwrap();
        assert_eq!(token, 7);
        assert!(cancelled.cancelled.load(Ordering::Acquire));
    }
}
