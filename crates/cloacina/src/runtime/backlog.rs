//! How many more tasks an executor takes, and what is known of the ready tasks left in the database.

use std::cmp::Reverse;

use crate::types::{ExecutionId, Micros, Ordinal};

/// A claim's place: higher priority first, then the older execution (semantics C6).
pub(super) type Place = (Reverse<i16>, ExecutionId, Ordinal);

/// So much work, in time, is claimed beyond what the workers do at once: enough to bridge one commit, too little to hoard.
const AHEAD: f64 = 3_000.0;
/// Never more tasks than this ahead, however short they are, where other runners live: what one hoards another one lacks.
const MAX_AHEAD: f64 = 384.0;
/// The same for a runner that is alone with its database: what it claims as it writes it costs no claim of its own later.
const MAX_AHEAD_ALONE: f64 = 4_096.0;
/// So many tasks are claimed beyond the room at most, because they go before others that are claimed already.
const MAX_OVERTAKING: usize = 1_000;
/// Weight of the last task in the averages.
const WEIGHT: f64 = 0.05;
/// A task shorter than this is over before another worker has woken up, in microseconds.
const SHORT: Micros = 50;
/// Tasks count as short while no more than this share of them was longer.
const LONG_SHARE: f64 = 0.2;

/// One executor's capacity and backlog.
#[derive(Debug)]
pub(super) struct Backlog {
    limit: usize,
    in_flight: usize,
    average_run: f64,
    /// The share of tasks that were not short.
    long_share: f64,
    /// No ready task left in the database goes before this place; `None`: none is left there at all.
    floor: Option<Place>,
    /// A task is left at that very place, as far as is known.
    is_exact: bool,
    /// The database may hold ready tasks that this process has not seen.
    unseen: bool,
    /// No other runner lives, as far as is known.
    alone: bool,
}

impl Backlog {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            limit,
            in_flight: 0,
            average_run: 1_000.0,
            long_share: 1.0,
            floor: None,
            is_exact: false,
            unseen: true,
            alone: false,
        }
    }

    /// How many more tasks may be claimed now.
    pub(super) fn room(&self) -> usize {
        self.wanted(self.average_run).saturating_sub(self.in_flight)
    }

    /// How many of the claimed tasks others should have instead, when one runs for so long already. From then on tasks count
    /// as that long, so that they are not claimed again at once.
    #[expect(
        clippy::cast_precision_loss,
        reason = "run times are far below 2^53 microseconds"
    )]
    pub(super) fn surplus(&mut self, longest_run: Micros) -> usize {
        if self.alone {
            return 0;
        }
        let expected = self.average_run.max(longest_run.max(0) as f64);
        let surplus = self.in_flight.saturating_sub(self.wanted(expected));
        if surplus > 0 {
            self.average_run = expected;
        }
        surplus
    }

    fn wanted(&self, expected_run: f64) -> usize {
        self.limit + self.ahead(expected_run)
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small positive numbers"
    )]
    fn ahead(&self, expected_run: f64) -> usize {
        let most = if self.alone {
            MAX_AHEAD_ALONE
        } else {
            MAX_AHEAD
        };
        let ahead = self.limit as f64 * AHEAD / expected_run.max(1.0);
        ahead.min(most) as usize
    }

    /// Whether another runner lives.
    pub(super) const fn note_company(&mut self, alone: bool) {
        self.alone = alone;
    }

    /// Whether no other runner lives, as far as is known.
    pub(super) const fn is_alone(&self) -> bool {
        self.alone
    }

    pub(super) const fn taken(&mut self) {
        self.in_flight += 1;
    }

    pub(super) const fn freed(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "run times are far below 2^53 microseconds"
    )]
    pub(super) fn ran(&mut self, micros: Micros) {
        self.average_run += WEIGHT * (micros.max(0) as f64 - self.average_run);
        let long = if micros < SHORT { 0.0 } else { 1.0 };
        self.long_share += WEIGHT * (long - self.long_share);
    }

    /// Whether the next tasks are expected to be over before another worker would have woken up.
    pub(super) fn expects_short(&self) -> bool {
        self.long_share < LONG_SHARE
    }

    /// Whether a task may be claimed past the database: nothing that waits there goes before it.
    ///
    /// `lowest`: the lowest priority of what is claimed and not yet taken by a worker.
    pub(super) fn allows_direct(&self, place: &Place, lowest: Option<i16>) -> bool {
        !self.unseen
            && (self.room() > 0 || self.overtakes(place, lowest))
            && self.floor.as_ref().is_none_or(|floor| place < floor)
    }

    /// Whether a task goes before one that is claimed and waits for a worker: claimed later, it would run after it. Not in
    /// company: what is urgent had better wait in the database, for whoever has a worker first.
    fn overtakes(&self, (Reverse(priority), ..): &Place, lowest: Option<i16>) -> bool {
        self.alone
            && lowest.is_some_and(|lowest| *priority > lowest)
            && self.in_flight < self.wanted(self.average_run).saturating_add(MAX_OVERTAKING)
    }

    /// A ready task stays in the database.
    pub(super) fn left(&mut self, place: Place) {
        if self.floor.as_ref().is_none_or(|floor| place < *floor) {
            self.floor = Some(place);
            self.is_exact = true;
        }
    }

    /// Another process may have written, or a timer is due.
    pub(super) const fn look_again(&mut self) {
        self.unseen = true;
    }

    /// Whether a claim from the database is worth its query: all workers have something to do while less than a quarter of
    /// what is claimed ahead is missing.
    fn wants_claim(&self) -> bool {
        let worthwhile = (self.ahead(self.average_run) / 4).max(1);
        (self.unseen || self.floor.is_some()) && self.room() >= worthwhile
    }

    /// How many tasks a claim from the database should take; 0: none is to be made. `lowest` as above.
    pub(super) fn claims(&self, lowest: Option<i16>) -> usize {
        match &self.floor {
            _ if self.wants_claim() => self.room(),
            // Where nobody knows what comes first there, a claim could bring what is not urgent at all.
            Some(floor) if self.is_exact && self.overtakes(floor, lowest) => self.room().max(1),
            _ => 0,
        }
    }

    /// What a claim told: the last place that it took, if more is there.
    pub(super) fn claimed(&mut self, more: bool, last: Option<Place>) {
        self.unseen = false;
        self.floor = if more { last.or(self.floor) } else { None };
        self.is_exact = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_short_tasks(alone: bool) -> Backlog {
        let mut backlog = Backlog::new(4);
        backlog.note_company(alone);
        for _ in 0..1_000 {
            backlog.ran(1);
        }
        backlog
    }

    #[test]
    fn short_tasks_are_claimed_further_ahead_by_a_runner_that_is_alone() {
        assert_eq!(with_short_tasks(false).room(), 4 + 384);
        assert_eq!(with_short_tasks(true).room(), 4 + 4_096);
    }

    #[test]
    fn long_tasks_are_not_hoarded_even_alone() {
        let mut backlog = Backlog::new(4);
        backlog.note_company(true);
        for _ in 0..1_000 {
            backlog.ran(1_000_000);
        }
        assert_eq!(backlog.room(), 4);
    }

    #[test]
    fn a_claim_is_asked_for_once_a_quarter_of_what_is_ahead_is_missing() {
        let mut backlog = with_short_tasks(false);
        for _ in 0..4 + 384 - 95 {
            backlog.taken();
        }
        assert!(!backlog.wants_claim());
        backlog.freed();
        assert!(backlog.wants_claim());
    }

    #[test]
    fn a_free_worker_is_reason_enough_to_claim_where_tasks_are_long() {
        let mut backlog = Backlog::new(40);
        for _ in 0..1_000 {
            backlog.ran(1_000_000);
        }
        for _ in 0..39 {
            backlog.taken();
        }
        assert!(backlog.wants_claim());
    }

    #[test]
    fn c6_what_goes_before_something_that_is_claimed_is_claimed_too_by_a_runner_that_is_alone() {
        let place = |priority| {
            let id = ExecutionId::from_bytes([0; 16]);
            (Reverse(priority), id, 0)
        };
        let mut backlog = Backlog::new(1);
        backlog.claimed(false, None);
        while backlog.room() > 0 {
            backlog.taken();
        }
        for alone in [false, true] {
            backlog.note_company(alone);
            while backlog.room() > 0 {
                backlog.taken();
            }
            assert_eq!(backlog.allows_direct(&place(5), Some(0)), alone);
            assert!(!backlog.allows_direct(&place(5), Some(5)));
            assert!(!backlog.allows_direct(&place(5), None));
        }
        assert_eq!(backlog.claims(Some(0)), 0, "nothing is left there");
        backlog.left(place(5));
        assert_eq!(backlog.claims(Some(0)), 1);
        assert_eq!(backlog.claims(Some(5)), 0);
        backlog.claimed(true, Some(place(5)));
        assert_eq!(
            backlog.claims(Some(0)),
            0,
            "what is left may be no more urgent"
        );
    }

    #[test]
    fn what_is_surplus_depends_on_how_long_the_present_tasks_take() {
        let mut backlog = with_short_tasks(true);
        for _ in 0..1_000 {
            backlog.taken();
        }
        assert_eq!(backlog.surplus(10_000_000), 0, "nobody else is there");
        backlog.note_company(false);
        assert_eq!(backlog.surplus(0), 1_000 - 4 - 384);
        assert_eq!(backlog.surplus(10_000_000), 1_000 - 4);
        for _ in 0..1_000 - 4 {
            backlog.freed();
        }
        assert_eq!(
            backlog.room(),
            0,
            "what was given back is not claimed again"
        );
    }
}
