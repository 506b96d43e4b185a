//! The number of tasks that one executor of this process claims: one for each slot, and a prefetch window (semantics C5, C6).
//!
//! See docs/explanation/decisions/033-prefetch.md

use std::cmp::Reverse;

use crate::types::{ExecutionId, Micros, Ordinal};

/// The sort key of claims: tasks with a higher priority come first, then tasks of older executions (semantics C6).
pub(super) type ClaimKey = (Reverse<i16>, ExecutionId, Ordinal);

/// Prefetch window for each slot, in microseconds of work: enough to keep the workers busy during one commit.
const WINDOW: f64 = 3_000.0;
/// Maximum prefetch window while peers are live, in tasks. It is limited so that one runner does not starve the others.
const LARGEST_WINDOW: f64 = 384.0;
/// Maximum prefetch window of a sole runner, in tasks. A larger window saves claims: a task that is claimed in the
/// transaction that makes it ready needs no separate claim.
const LARGEST_SOLE_WINDOW: f64 = 4_096.0;
/// Maximum number of urgent tasks claimed beyond the window. A task is urgent if its priority is higher than that of a
/// claimed task that waits for a worker.
const OVERTAKING: usize = 1_000;
/// Maximum total size, in bytes, of the executions in a prefetch window.
const WINDOW_BYTES: f64 = 128.0 * 1024.0 * 1024.0;
/// The weight of a new value in the moving averages.
const WEIGHT: f64 = 0.05;
/// The weight of a run time below the average, while this runner is the sole runner. It is higher than `WEIGHT`,
/// because a runner that has just started overestimates the run times. If a sole runner claims too many tasks, it
/// delays no other runner.
const SHORTER_WEIGHT: f64 = 0.2;
/// Run time below which a task counts as short, in microseconds. Such a task ends before another worker could wake up.
const SHORT: Micros = 50;
/// The share of long tasks below which the next tasks are expected to be short.
const LONG_SHARE: f64 = 0.2;

/// The claims of one executor, and a lower bound for the keys of ready tasks that are left in the database.
#[derive(Debug)]
pub(super) struct Prefetch {
    slots: usize,
    in_flight: usize,
    /// The moving average of the run times, in microseconds.
    average_run: f64,
    /// The run time of the oldest running attempt, in microseconds, while peers are live. It shrinks the window until the
    /// attempt ends.
    longest_run: f64,
    /// The average memory of a claimed task, in bytes. The memory of a task is its share of the memory of its execution.
    average_bytes: f64,
    /// The share of tasks that were not short.
    long_share: f64,
    /// A lower bound of the keys of the ready tasks that are left in the database. `None`: no ready task is left there.
    lower_bound: Option<ClaimKey>,
    /// Whether the lower bound is the key of a task in the database, as far as the runner knows.
    is_exact: bool,
    /// Whether the database may contain ready tasks that this process does not know of.
    is_stale: bool,
    /// Whether this runner is the sole runner, as far as it knows.
    is_sole: bool,
}

impl Prefetch {
    pub(super) const fn new(slots: usize) -> Self {
        Self {
            slots,
            in_flight: 0,
            average_run: 1_000.0,
            longest_run: 0.0,
            average_bytes: 1_024.0,
            long_share: 1.0,
            lower_bound: None,
            is_exact: false,
            is_stale: true,
            is_sole: false,
        }
    }

    /// The number of tasks that can be claimed now.
    pub(super) fn room(&self) -> usize {
        self.wanted().saturating_sub(self.in_flight)
    }

    /// The number of workers without a claimed task.
    pub(super) fn free_workers(&self) -> usize {
        self.slots.saturating_sub(self.in_flight)
    }

    /// The number of items of maps to claim. 0 if there is too little room for the query to be worth it.
    pub(super) fn item_room(&self) -> usize {
        let room = self.room();
        if room >= (self.window() / 4).max(1) {
            room
        } else {
            0
        }
    }

    /// The number of claims to return, because peers could run these tasks sooner. `longest_run`: the run time of the oldest
    /// running attempt, in microseconds.
    #[expect(
        clippy::cast_precision_loss,
        reason = "run times are far below 2^53 microseconds"
    )]
    pub(super) fn surplus(&mut self, longest_run: Micros) -> usize {
        if self.is_sole {
            self.longest_run = 0.0;
            return 0;
        }
        // The value is kept until the next call, so that the returned tasks are not claimed again immediately.
        self.longest_run = longest_run.max(0) as f64;
        self.in_flight.saturating_sub(self.wanted())
    }

    fn wanted(&self) -> usize {
        self.slots + self.window()
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the numbers are small and positive"
    )]
    fn window(&self) -> usize {
        let largest = if self.is_sole {
            LARGEST_SOLE_WINDOW
        } else {
            LARGEST_WINDOW
        };
        let expected_run = self.average_run.max(self.longest_run).max(1.0);
        let by_time = self.slots as f64 * WINDOW / expected_run;
        let by_bytes = WINDOW_BYTES / self.average_bytes;
        by_time.min(by_bytes).min(largest) as usize
    }

    pub(super) const fn set_sole(&mut self, sole: bool) {
        self.is_sole = sole;
    }

    pub(super) const fn is_sole(&self) -> bool {
        self.is_sole
    }

    pub(super) const fn take_slot(&mut self) {
        self.in_flight += 1;
    }

    pub(super) const fn free_slot(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Adds the run time of an attempt to the moving averages.
    #[expect(
        clippy::cast_precision_loss,
        reason = "run times are far below 2^53 microseconds"
    )]
    pub(super) fn note_run(&mut self, micros: Micros) {
        let run = micros.max(0) as f64;
        let weight = if self.is_sole && run < self.average_run {
            SHORTER_WEIGHT
        } else {
            WEIGHT
        };
        self.average_run += weight * (run - self.average_run);
        let long = if micros < SHORT { 0.0 } else { 1.0 };
        self.long_share += WEIGHT * (long - self.long_share);
    }

    /// Adds the memory of a claimed task to the moving average. A size above the average gets more weight, so that the window
    /// shrinks before it is full of large executions.
    #[expect(
        clippy::cast_precision_loss,
        reason = "the average is only an estimate"
    )]
    pub(super) fn note_size(&mut self, bytes: usize) {
        let bytes = (bytes as f64).max(1_024.0);
        let weight = if bytes > self.average_bytes {
            0.5
        } else {
            WEIGHT
        };
        self.average_bytes += weight * (bytes - self.average_bytes);
    }

    /// Whether the next tasks are expected to end before another worker could wake up.
    pub(super) fn expects_short(&self) -> bool {
        self.long_share < LONG_SHARE
    }

    /// Whether a task can be claimed without a query. This requires that there is room for it or that it
    /// [overtakes](Self::overtakes) other tasks, and that no ready task in the database precedes it.
    ///
    /// `lowest`: the lowest priority of the claimed tasks that wait for a worker.
    pub(super) fn allows_direct(&self, key: &ClaimKey, lowest: Option<i16>) -> bool {
        !self.is_stale
            && (self.room() > 0 || self.overtakes(key, lowest))
            && self
                .lower_bound
                .as_ref()
                .is_none_or(|lower_bound| key < lower_bound)
    }

    /// Whether a sole runner can claim a task beyond the window. It can if a claimed task with a lower priority waits
    /// for a worker, because that task would otherwise run first. With peers, the task stays in the database for the
    /// first runner that has a free worker.
    fn overtakes(&self, (Reverse(priority), ..): &ClaimKey, lowest: Option<i16>) -> bool {
        self.is_sole
            && lowest.is_some_and(|lowest| *priority > lowest)
            && self.in_flight < self.wanted().saturating_add(OVERTAKING)
    }

    /// Notes that a ready task is left in the database.
    pub(super) fn note_left(&mut self, key: ClaimKey) {
        if self
            .lower_bound
            .as_ref()
            .is_none_or(|lower_bound| key < *lower_bound)
        {
            self.lower_bound = Some(key);
            self.is_exact = true;
        }
    }

    /// Notes that the database may contain ready tasks that this process does not know of.
    pub(super) const fn set_stale(&mut self) {
        self.is_stale = true;
    }

    /// Whether a claim is worth its query: ready tasks may be left in the database, and there is room for at least one task
    /// and at least a quarter of the prefetch window.
    fn wants_claim(&self) -> bool {
        let worthwhile = (self.window() / 4).max(1);
        (self.is_stale || self.lower_bound.is_some()) && self.room() >= worthwhile
    }

    /// The number of tasks to claim. 0: no claim. `lowest`: the lowest priority of the claimed tasks that wait for a worker.
    pub(super) fn claims(&self, lowest: Option<i16>) -> usize {
        match &self.lower_bound {
            _ if self.wants_claim() => self.room(),
            // Only an exact bound shows that the first task left in the database is urgent. Otherwise the claim might return
            // tasks that are not urgent.
            Some(lower_bound) if self.is_exact && self.overtakes(lower_bound, lowest) => {
                self.room().max(1)
            }
            _ => 0,
        }
    }

    /// Notes the result of a claim. `more`: whether ready tasks remain; `last`: the key of the last claimed task.
    pub(super) fn note_claimed(&mut self, more: bool, last: Option<ClaimKey>) {
        self.is_stale = false;
        self.lower_bound = if more {
            last.or(self.lower_bound)
        } else {
            None
        };
        self.is_exact = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_short_tasks(sole: bool) -> Prefetch {
        let mut prefetch = Prefetch::new(4);
        prefetch.set_sole(sole);
        for _ in 0..1_000 {
            prefetch.note_run(1);
        }
        prefetch
    }

    #[test]
    fn c5_a_sole_runner_prefetches_more() {
        assert_eq!(with_short_tasks(false).room(), 4 + 384);
        assert_eq!(with_short_tasks(true).room(), 4 + 4_096);
    }

    #[test]
    fn c5_long_tasks_are_not_prefetched() {
        let mut prefetch = Prefetch::new(4);
        prefetch.set_sole(true);
        for _ in 0..1_000 {
            prefetch.note_run(1_000_000);
        }
        assert_eq!(prefetch.room(), 4);
    }

    #[test]
    fn c5_claim_waits_until_a_quarter_of_the_window_is_free() {
        let mut prefetch = with_short_tasks(false);
        for _ in 0..4 + 384 - 95 {
            prefetch.take_slot();
        }
        assert!(!prefetch.wants_claim());
        prefetch.free_slot();
        assert!(prefetch.wants_claim());
    }

    #[test]
    fn c5_one_free_slot_is_enough_for_a_claim_of_long_tasks() {
        let mut prefetch = Prefetch::new(40);
        for _ in 0..1_000 {
            prefetch.note_run(1_000_000);
        }
        for _ in 0..39 {
            prefetch.take_slot();
        }
        assert!(prefetch.wants_claim());
    }

    #[test]
    fn c6_sole_runner_keeps_claim_order_in_its_prefetch() {
        let key = |priority| {
            let id = ExecutionId::from_bytes([0; 16]);
            (Reverse(priority), id, 0)
        };
        let mut prefetch = Prefetch::new(1);
        prefetch.note_claimed(false, None);
        while prefetch.room() > 0 {
            prefetch.take_slot();
        }
        for sole in [false, true] {
            prefetch.set_sole(sole);
            while prefetch.room() > 0 {
                prefetch.take_slot();
            }
            assert_eq!(prefetch.allows_direct(&key(5), Some(0)), sole);
            assert!(!prefetch.allows_direct(&key(5), Some(5)));
            assert!(!prefetch.allows_direct(&key(5), None));
        }
        assert_eq!(prefetch.claims(Some(0)), 0, "no task is left");
        prefetch.note_left(key(5));
        assert_eq!(prefetch.claims(Some(0)), 1);
        assert_eq!(prefetch.claims(Some(5)), 0);
        prefetch.note_claimed(true, Some(key(5)));
        assert_eq!(
            prefetch.claims(Some(0)),
            0,
            "the tasks that are left may not be urgent"
        );
    }

    #[test]
    fn c5_surplus_depends_on_the_oldest_running_attempt() {
        let mut prefetch = with_short_tasks(true);
        for _ in 0..1_000 {
            prefetch.take_slot();
        }
        assert_eq!(prefetch.surplus(10_000_000), 0, "no peer is live");
        prefetch.set_sole(false);
        assert_eq!(prefetch.surplus(0), 1_000 - 4 - 384);
        assert_eq!(prefetch.surplus(10_000_000), 1_000 - 4);
        for _ in 0..1_000 - 4 {
            prefetch.free_slot();
        }
        assert_eq!(prefetch.room(), 0, "returned claims are not claimed again");
    }

    #[test]
    fn b18_long_attempt_causes_no_loop_of_returns_and_claims() {
        let mut prefetch = with_short_tasks(false);
        for _ in 0..388 {
            prefetch.take_slot();
        }
        let mut returned = 0;
        for second in 1..=10 {
            let surplus = prefetch.surplus(second * 1_000_000);
            returned += surplus;
            for _ in 0..surplus {
                prefetch.free_slot();
            }
            // During the long task, short tasks run, and new tasks are claimed for their slots.
            for _ in 0..300 {
                prefetch.free_slot();
                prefetch.note_run(1);
                while prefetch.room() > 0 {
                    prefetch.take_slot();
                }
            }
        }
        assert!(returned <= 388, "{returned} claims were returned");
        assert_eq!(prefetch.surplus(0), 0);
        assert!(prefetch.room() > 0, "the window is open again");
    }

    #[test]
    fn a25_large_executions_shrink_the_window() {
        let mut prefetch = with_short_tasks(true);
        for _ in 0..20 {
            prefetch.note_size(10 << 20);
        }
        assert!(prefetch.room() <= 4 + 13, "{}", prefetch.room());
    }
}
