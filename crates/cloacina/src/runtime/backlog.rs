//! How many more tasks an executor takes, and what is known of the ready tasks left in the database.

use std::cmp::Reverse;

use crate::types::{ExecutionId, Micros, Ordinal};

/// A claim's place: higher priority first, then the older execution (semantics C6).
pub(super) type Place = (Reverse<i16>, ExecutionId, Ordinal);

/// So much work, in time, is claimed beyond what the workers do at once: enough to bridge one commit, too little to hoard.
const AHEAD: f64 = 3_000.0;
/// Never more tasks than this ahead, however short they are.
const MAX_AHEAD: f64 = 384.0;
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
    /// Whether more is claimed than the workers do at once. Not where everything that was claimed begins at once: nothing
    /// waits for a worker there, and the limit would not hold.
    claims_ahead: bool,
    in_flight: usize,
    average_run: f64,
    /// The share of tasks that were not short.
    long_share: f64,
    /// No ready task left in the database goes before this place; `None`: none is left there at all.
    floor: Option<Place>,
    /// The database may hold ready tasks that this process has not seen.
    unseen: bool,
}

impl Backlog {
    /// The backlog of workers that take one task after the other.
    pub(super) const fn of_workers(limit: usize) -> Self {
        Self::new(limit, true)
    }

    /// The backlog of an event loop, on which everything begins that was claimed.
    pub(super) const fn of_loop(limit: usize) -> Self {
        Self::new(limit, false)
    }

    const fn new(limit: usize, claims_ahead: bool) -> Self {
        Self {
            limit,
            claims_ahead,
            in_flight: 0,
            average_run: 1_000.0,
            long_share: 1.0,
            floor: None,
            unseen: true,
        }
    }

    /// How many more tasks may be claimed now.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "small positive numbers"
    )]
    pub(super) fn room(&self) -> usize {
        let ahead = if self.claims_ahead {
            (self.limit as f64 * AHEAD / self.average_run.max(1.0)).min(MAX_AHEAD) as usize
        } else {
            0
        };
        (self.limit + ahead).saturating_sub(self.in_flight)
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

    /// Whether a task goes before one that is claimed and waits for a worker: claimed later, it would run after it.
    fn overtakes(&self, (Reverse(priority), ..): &Place, lowest: Option<i16>) -> bool {
        self.claims_ahead
            && lowest.is_some_and(|lowest| *priority > lowest)
            && self.in_flight < self.limit.saturating_add(MAX_OVERTAKING)
    }

    /// A ready task stays in the database.
    pub(super) fn left(&mut self, place: Place) {
        if self.floor.as_ref().is_none_or(|floor| place < *floor) {
            self.floor = Some(place);
        }
    }

    /// Another process may have written, or a timer is due.
    pub(super) const fn look_again(&mut self) {
        self.unseen = true;
    }

    /// How many tasks a claim from the database should take; 0: it is not worth its query.
    pub(super) fn wanted(&self, lowest: Option<i16>) -> usize {
        let room = self.room();
        match &self.floor {
            Some(floor) if room == 0 => usize::from(self.overtakes(floor, lowest)),
            None if !self.unseen => 0,
            _ => room,
        }
    }

    /// What a claim told: the last place that it took, if more is there.
    pub(super) fn claimed(&mut self, more: bool, last: Option<Place>) {
        self.unseen = false;
        self.floor = if more { last.or(self.floor) } else { None };
    }
}
