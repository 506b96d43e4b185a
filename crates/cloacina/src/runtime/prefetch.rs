//! How many tasks one executor of this process claims: as many as it has slots, and a prefetch window beyond (semantics C5, C6).

use std::cmp::Reverse;

use crate::types::{ExecutionId, Micros, Ordinal};

/// The order in which tasks are claimed: higher priority first, then the older execution (semantics C6).
pub(super) type Place = (Reverse<i16>, ExecutionId, Ordinal);

/// The prefetch window in microseconds of work per slot: enough to bridge one commit.
const WINDOW: f64 = 3_000.0;
/// The largest prefetch window in tasks while peers live, so that one runner does not starve the others.
const LARGEST_WINDOW: f64 = 384.0;
/// The largest prefetch window in tasks of a sole runner: a task that is claimed as it is written needs no claim later.
const LARGEST_SOLE_WINDOW: f64 = 4_096.0;
/// The number of tasks that may be claimed beyond the window because they precede tasks that are claimed already.
const OVERTAKING: usize = 1_000;
/// The bytes of executions that a prefetch window may hold.
const WINDOW_BYTES: f64 = 128.0 * 1024.0 * 1024.0;
/// The weight of the last task in the averages.
const WEIGHT: f64 = 0.05;
/// The longest run of a task in microseconds that ends before another worker has woken up.
const SHORT: Micros = 50;
/// Tasks are expected to be short while no larger share of them than this was longer.
const LONG_SHARE: f64 = 0.2;

/// The claims of one executor, and what is known of the tasks that are left in the database.
#[derive(Debug)]
pub(super) struct Prefetch {
    slots: usize,
    in_flight: usize,
    average_run: f64,
    /// The run time of the longest attempt that runs now, while peers live. It bounds the window until the attempt has ended.
    longest_run: f64,
    /// The average number of bytes of an execution.
    average_bytes: f64,
    /// The share of tasks that were not short.
    long_share: f64,
    /// No ready task that is left in the database precedes this place; `None`: no ready task is left there.
    floor: Option<Place>,
    /// A task is left at the floor itself, as far as is known.
    is_exact: bool,
    /// The database may hold ready tasks that this process does not know of.
    is_stale: bool,
    /// No other runner lives, as far as is known.
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
            floor: None,
            is_exact: false,
            is_stale: true,
            is_sole: false,
        }
    }

    /// The number of tasks that may be claimed now.
    pub(super) fn room(&self) -> usize {
        self.wanted().saturating_sub(self.in_flight)
    }

    /// The number of claims to return because peers could run them sooner: an attempt has been running for `longest_run`.
    #[expect(
        clippy::cast_precision_loss,
        reason = "run times are far below 2^53 microseconds"
    )]
    pub(super) fn surplus(&mut self, longest_run: Micros) -> usize {
        if self.is_sole {
            self.longest_run = 0.0;
            return 0;
        }
        // It holds until the next look, so that what is returned is not claimed again at once.
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
        reason = "small positive numbers"
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

    pub(super) const fn taken(&mut self) {
        self.in_flight += 1;
    }

    pub(super) const fn freed(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Learns from an attempt that ended.
    #[expect(
        clippy::cast_precision_loss,
        reason = "run times are far below 2^53 microseconds"
    )]
    pub(super) fn ran(&mut self, micros: Micros) {
        self.average_run += WEIGHT * (micros.max(0) as f64 - self.average_run);
        let long = if micros < SHORT { 0.0 } else { 1.0 };
        self.long_share += WEIGHT * (long - self.long_share);
    }

    /// Learns from an execution that was read or submitted. Growth counts at once: a window of large ones must not be claimed first.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    pub(super) fn weighed(&mut self, bytes: usize) {
        let bytes = (bytes as f64).max(1_024.0);
        let weight = if bytes > self.average_bytes {
            0.5
        } else {
            WEIGHT
        };
        self.average_bytes += weight * (bytes - self.average_bytes);
    }

    /// Whether the next tasks are expected to end before another worker would have woken up.
    pub(super) fn expects_short(&self) -> bool {
        self.long_share < LONG_SHARE
    }

    /// Whether a task may be claimed without asking the database: no task that is left there precedes it.
    ///
    /// `lowest`: the lowest priority of the claimed tasks that wait for a worker.
    pub(super) fn allows_direct(&self, place: &Place, lowest: Option<i16>) -> bool {
        !self.is_stale
            && (self.room() > 0 || self.overtakes(place, lowest))
            && self.floor.as_ref().is_none_or(|floor| place < floor)
    }

    /// Whether a task precedes a claimed one that waits for a worker: claimed later, it would run after it. Only for a sole
    /// runner. With peers, an urgent task waits in the database for whichever runner has a free worker first.
    fn overtakes(&self, (Reverse(priority), ..): &Place, lowest: Option<i16>) -> bool {
        self.is_sole
            && lowest.is_some_and(|lowest| *priority > lowest)
            && self.in_flight < self.wanted().saturating_add(OVERTAKING)
    }

    /// Notes that a ready task stays in the database.
    pub(super) fn left(&mut self, place: Place) {
        if self.floor.as_ref().is_none_or(|floor| place < *floor) {
            self.floor = Some(place);
            self.is_exact = true;
        }
    }

    /// Notes that the database may hold ready tasks that this process does not know of.
    pub(super) const fn set_stale(&mut self) {
        self.is_stale = true;
    }

    /// Whether a claim is worth its query. It is not while less than a quarter of the prefetch window is free.
    fn wants_claim(&self) -> bool {
        let worthwhile = (self.window() / 4).max(1);
        (self.is_stale || self.floor.is_some()) && self.room() >= worthwhile
    }

    /// The number of tasks that a claim should take; 0: no claim is to be made. `lowest` as above.
    pub(super) fn claims(&self, lowest: Option<i16>) -> usize {
        match &self.floor {
            _ if self.wants_claim() => self.room(),
            // Where the first task in the database is not known, a claim might bring one that is not urgent.
            Some(floor) if self.is_exact && self.overtakes(floor, lowest) => self.room().max(1),
            _ => 0,
        }
    }

    /// Notes the result of a claim. `more`: tasks are left; `last`: the last place that it took.
    pub(super) fn claimed(&mut self, more: bool, last: Option<Place>) {
        self.is_stale = false;
        self.floor = if more { last.or(self.floor) } else { None };
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
            prefetch.ran(1);
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
            prefetch.ran(1_000_000);
        }
        assert_eq!(prefetch.room(), 4);
    }

    #[test]
    fn a_claim_is_made_once_a_quarter_of_the_window_is_free() {
        let mut prefetch = with_short_tasks(false);
        for _ in 0..4 + 384 - 95 {
            prefetch.taken();
        }
        assert!(!prefetch.wants_claim());
        prefetch.freed();
        assert!(prefetch.wants_claim());
    }

    #[test]
    fn a_free_slot_is_claimed_for_where_tasks_are_long() {
        let mut prefetch = Prefetch::new(40);
        for _ in 0..1_000 {
            prefetch.ran(1_000_000);
        }
        for _ in 0..39 {
            prefetch.taken();
        }
        assert!(prefetch.wants_claim());
    }

    #[test]
    fn c6_sole_runner_keeps_claim_order_in_its_prefetch() {
        let place = |priority| {
            let id = ExecutionId::from_bytes([0; 16]);
            (Reverse(priority), id, 0)
        };
        let mut prefetch = Prefetch::new(1);
        prefetch.claimed(false, None);
        while prefetch.room() > 0 {
            prefetch.taken();
        }
        for sole in [false, true] {
            prefetch.set_sole(sole);
            while prefetch.room() > 0 {
                prefetch.taken();
            }
            assert_eq!(prefetch.allows_direct(&place(5), Some(0)), sole);
            assert!(!prefetch.allows_direct(&place(5), Some(5)));
            assert!(!prefetch.allows_direct(&place(5), None));
        }
        assert_eq!(prefetch.claims(Some(0)), 0, "nothing is left there");
        prefetch.left(place(5));
        assert_eq!(prefetch.claims(Some(0)), 1);
        assert_eq!(prefetch.claims(Some(5)), 0);
        prefetch.claimed(true, Some(place(5)));
        assert_eq!(
            prefetch.claims(Some(0)),
            0,
            "what is left may be no more urgent"
        );
    }

    #[test]
    fn the_surplus_depends_on_the_longest_attempt_that_runs() {
        let mut prefetch = with_short_tasks(true);
        for _ in 0..1_000 {
            prefetch.taken();
        }
        assert_eq!(prefetch.surplus(10_000_000), 0, "no peer lives");
        prefetch.set_sole(false);
        assert_eq!(prefetch.surplus(0), 1_000 - 4 - 384);
        assert_eq!(prefetch.surplus(10_000_000), 1_000 - 4);
        for _ in 0..1_000 - 4 {
            prefetch.freed();
        }
        assert_eq!(prefetch.room(), 0, "returned claims are not claimed again");
    }

    #[test]
    fn b18_one_long_attempt_starts_no_loop_of_returns_and_claims() {
        let mut prefetch = with_short_tasks(false);
        for _ in 0..388 {
            prefetch.taken();
        }
        let mut returned = 0;
        for look in 1..=10 {
            let surplus = prefetch.surplus(look * 1_000_000);
            returned += surplus;
            for _ in 0..surplus {
                prefetch.freed();
            }
            // Short tasks go on beside the long one, and their slots are claimed for again.
            for _ in 0..300 {
                prefetch.freed();
                prefetch.ran(1);
                while prefetch.room() > 0 {
                    prefetch.taken();
                }
            }
        }
        assert!(returned <= 388, "{returned} claims were returned");
        assert_eq!(prefetch.surplus(0), 0);
        assert!(prefetch.room() > 0, "the window is open again");
    }

    #[test]
    fn a25_large_executions_make_the_window_small() {
        let mut prefetch = with_short_tasks(true);
        for _ in 0..20 {
            prefetch.weighed(10 << 20);
        }
        assert!(prefetch.room() <= 4 + 13, "{}", prefetch.room());
    }
}
